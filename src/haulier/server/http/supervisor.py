"""The process above several workers: it accepts for them, replaces them, ends with them.

Rule 1: a worker is a fresh program that gets nothing of this process but what it is given: no lock is copied while
        somebody holds it, no thread is lost.
Rule 2: a worker that dies is replaced at once. One that dies before it was ready is followed by another that waits
        longer each time. When the service has never been ready and one place saw `MAX_FAILED_STARTS` of them in a row,
        that is a mistake which all would repeat: it ends. When it has, what is wrong may pass, like a database that is
        away: it goes on trying, and whoever is ready goes on serving.
Rule 3: a stop is passed on, and waited for; whoever does not end is killed in the end.
Rule 4: who dies with this process does not depend on it: workers see to that themselves.
"""

import asyncio
import contextlib
import signal
import socket
import time
import uuid
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from haulier.core.values import dataclass
from haulier.logs import get_logger
from haulier.server.http.handover import AcceptorEnd
from haulier.server.http.serving import REPEAT_S, STOPPING_S

MAX_FAILED_STARTS: Final = 5
"""In a row in one place, before the service was ready; systemd gives up after as many (StartLimitBurst)."""
FIRST_DELAY_S: Final = 0.25
"""After the first failed start; doubled each time."""
MAX_DELAY_S: Final = 10.0
"""A start costs a second of a processor, and whoever repairs what is wrong soon wants to see it."""
KILL_AFTER_S: Final = 2 * STOPPING_S
"""For a worker to stop: twice what it allows itself, for a machine that has much else to do."""
_TURN: Final = 64
"""Connections that are handed out before anything else has its turn."""
_RETRY_S: Final = 0.05
"""After which a connection that no worker could take is offered again."""
_EXHAUSTED_S: Final = 1.0
"""Pause when the kernel gives no more descriptors; asyncio's own servers wait as long."""

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlace:
    """Where a new worker is to stand."""

    worker: str
    """Its id; no other worker ever had it."""
    slot: int
    """Which of the service's workers it is, from 0; the next one in its place has the same."""
    channel: int
    """Its end of the channel, to be inherited."""


Spawn = Callable[[WorkerPlace], Awaitable[Process]]
"""Starts a worker's process."""


class _Worker:
    """A worker's process, and our end of its channel."""

    def __init__(self, place: WorkerPlace, process: Process, end: AcceptorEnd) -> None:
        self.place = place
        self.process = process
        self.end = end
        self.was_ready = False

    def signal(self, sign: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.process.returncode is None:
            self.process.send_signal(sign)


class Supervisor:
    """Keeps `workers` workers running and gives them what `sockets` accept, until it is told to stop.

    Args:
        sockets: listening; closed when the stop begins.
        workers: how many.
        spawn: starts one.
        on_ready: told the port when all are ready for the first time.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        *,
        workers: int,
        spawn: Spawn,
        on_ready: Callable[[int], None],
    ) -> None:
        self._sockets = sockets
        self._count = workers
        self._spawn = spawn
        self._on_ready = on_ready
        self._workers: dict[int, _Worker] = {}
        self._untaken: deque[socket.socket] = deque()
        """Accepted, but no worker could take them yet."""
        self._offering: asyncio.TimerHandle | None = None
        self._accepting = False
        self._announced = False
        self._failed_starts = [0] * workers
        """In a row, by place: many workers that fail once, together, say nothing that one would not."""
        self._stopping = asyncio.Event()
        self._told_at = 0.0
        self._clean = True

    async def run(self) -> int:
        """Run until a signal; return the exit code: 0 when every worker has stopped gracefully."""
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            listener.setblocking(False)
        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sign, self._told)
        try:
            async with asyncio.TaskGroup() as group:
                for slot in range(self._count):
                    group.create_task(self._keep(slot))
        finally:
            self._leave()
        return 0 if self._clean else 1

    # --- workers -------------------------------------------------------------------------------------

    async def _keep(self, slot: int) -> None:
        while not self._stopping.is_set():
            try:
                worker = await self._start(slot)
            except OSError as error:
                await self._start_failed(slot, f"no process could be made ({error.strerror})")
                continue
            code = await worker.process.wait()
            del self._workers[slot]
            worker.end.close()
            await self._ended(worker, code)

    async def _ended(self, worker: _Worker, code: int) -> None:
        if self._stopping.is_set():
            self._clean = self._clean and (code == 0 or not worker.was_ready)
            return
        place, pid = worker.place, worker.process.pid
        log.warning("worker.died", worker=place.worker, slot=place.slot, pid=pid, code=code)
        if not worker.was_ready:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            await self._start_failed(place.slot, f"the last one ended with {how}; the log says why")

    async def _start(self, slot: int) -> _Worker:
        ours, theirs = socket.socketpair()
        place = WorkerPlace(worker=uuid.uuid4().hex, slot=slot, channel=theirs.fileno())
        try:
            process = await self._spawn(place)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = _Worker(place, process, AcceptorEnd(ours))
        self._workers[slot] = worker
        worker.end.watch(on_ready=lambda: self._ready(worker), on_left=lambda: self._left(worker))
        log.info("worker.started", worker=place.worker, slot=slot, pid=process.pid)
        if self._stopping.is_set():  # since this start was begun
            worker.signal(signal.SIGTERM)
        return worker

    def _ready(self, worker: _Worker) -> None:
        worker.was_ready = True
        self._failed_starts[worker.place.slot] = 0
        log.info("worker.ready", worker=worker.place.worker, slot=worker.place.slot, pid=worker.process.pid)
        if not self._announced and sum(each.end.ready for each in self._workers.values()) == self._count:
            self._announced = True
            self._on_ready(self._sockets[0].getsockname()[1])
        self._offer()

    def _left(self, worker: _Worker) -> None:
        self._untaken.extend(worker.end.take_back())
        self._offer()

    async def _start_failed(self, slot: int, reason: str) -> None:
        self._failed_starts[slot] += 1
        failed = self._failed_starts[slot]
        if failed >= MAX_FAILED_STARTS and not self._announced:
            if not self._stopping.is_set():
                self._clean = False
                log.error("workers.given_up", slot=slot, failed_starts=failed, reason=reason)
                self._stop()
            return
        try:
            async with asyncio.timeout(_delay_s(failed)):
                await self._stopping.wait()
        except TimeoutError:
            return

    # --- connections ---------------------------------------------------------------------------------

    def _watch_listeners(self) -> None:
        """Accept while somebody can serve; otherwise connections wait in the kernel."""
        ready = any(worker.end.ready for worker in self._workers.values())
        wanted = self._announced and ready and not self._untaken and not self._stopping.is_set()
        if wanted == self._accepting:
            return
        self._accepting = wanted
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            if wanted:
                loop.add_reader(listener.fileno(), self._accept, listener)
            else:
                loop.remove_reader(listener.fileno())

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_TURN):
            if not self._accepting:
                return
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("accept.failed", error=str(error))
                self._pause(listener)
                return
            self._untaken.append(connection)
            self._offer()

    def _pause(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener.fileno())
        loop.call_later(_EXHAUSTED_S, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if self._accepting:
            asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    def _offer(self) -> None:
        """Give what was accepted to whoever has least; those with equal loads take turns."""
        if self._offering is not None:
            self._offering.cancel()
            self._offering = None
        ready = [worker.end for worker in self._workers.values() if worker.end.ready]
        while self._untaken:
            ready.sort(key=lambda end: (end.load, end.given))
            if not any(end.give(self._untaken[0]) for end in ready):
                break
            self._untaken.popleft()
        if self._untaken and not self._stopping.is_set():
            self._offering = asyncio.get_running_loop().call_later(_RETRY_S, self._offer)
        self._watch_listeners()

    # --- the end -------------------------------------------------------------------------------------

    def _told(self) -> None:
        """Stop; the second time at once. A second one within `REPEAT_S` is the first again."""
        now = time.monotonic()
        if not self._stopping.is_set():
            self._told_at = now
            self._stop()
        elif now - self._told_at > REPEAT_S:
            self._pass_on(signal.SIGTERM)

    def _stop(self) -> None:
        self._stopping.set()
        self._watch_listeners()
        for listener in self._sockets:
            listener.close()
        self._pass_on(signal.SIGTERM)
        asyncio.get_running_loop().call_later(KILL_AFTER_S, self._pass_on, signal.SIGKILL)

    def _pass_on(self, sign: signal.Signals) -> None:
        for worker in self._workers.values():
            worker.signal(sign)

    def _leave(self) -> None:
        # Nothing is left to be done after a stop; after a mistake of ours no worker may outlive us.
        self._pass_on(signal.SIGKILL)
        for sign in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(sign)
        while self._untaken:
            self._untaken.popleft().close()


def _delay_s(failed: int) -> float:
    with contextlib.suppress(OverflowError):  # after a thousand
        return min(FIRST_DELAY_S * 2.0 ** (failed - 1), MAX_DELAY_S)
    return MAX_DELAY_S
