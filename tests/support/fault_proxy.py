"""A TCP proxy on this machine that does to connections what networks do.

    async with FaultProxy(port_of_server) as proxy:                   # for coroutines
        proxy.plan(Plan(up=Flow(drop=Drop.RST, after=5000)), Plan(), Plan(down=Flow(segment=1)))
        ...
        await proxy.drop(Drop.STALL)

    with fault_proxy(port_of_server) as proxy:                        # for threads and foreign processes
        client = subprocess.Popen([..., proxy.url])
        proxy.wait(up=100_000)
        proxy.drop(Drop.HALF_OPEN)

Rule 1: what happens is planned in bytes, connection after connection, or commanded by the test. Only a delay and a
        pause take time, and nothing depends on how long.
Rule 2: a byte that was let through before a drop has reached the kernel on the other side: a reset does not take
        back what was sent before it. (A receiver that reads nothing for `SETTLE_S` loses what does not fit.)
Rule 3: nothing is known of HTTP; so it serves in front of any server and behind any client.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from typing import Any, Final, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.support.fault_plan import PLAIN, READ, Drop, Flow, Plan, Twin
from tests.support.sockets import connect, forget, reset_at_close, settle

DEADLINE_S: Final = 60.0
"""How long a test waits for bytes; a bound against hanging, no measure of speed."""


class Link:
    """One connection through the proxy."""

    def __init__(
        self, plan: Plan, client: socket.socket, server: socket.socket, *, moved: Callable[[], None]
    ) -> None:
        self.plan = plan
        self.up = 0
        """Bytes let through to the server."""
        self.down = 0
        """Bytes let through to the client."""
        self.dropped: Drop | None = None
        """The last drop."""
        self.twin: Repeater | None = None
        self._client = client
        self._server = server
        self._moved = moved
        self._open = asyncio.Event()
        self._open.set()
        self._end: asyncio.Future[Drop | None] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether nothing is carried any more and never will be."""
        return self._over.is_set()

    @property
    def ends(self) -> bool:
        """Whether it is over, or about to be."""
        return self._end.done()

    async def drop(self, how: Drop) -> None:
        """Let it happen now; return when it has. A link that is over stays as it is."""
        if how is Drop.STALL:
            self._open.clear()
            self.dropped = how if not self.over else self.dropped
            return
        if not self._end.done():
            self._end.set_result(how)
        await self._over.wait()

    def resume(self) -> None:
        """Carry on after a stall, with what was held back first."""
        self._open.set()

    async def run(self) -> None:
        """Carry bytes until both sides have ended, or to the drop; then close both sockets."""
        carrying = asyncio.get_running_loop().create_task(self._carry())
        carrying.add_done_callback(self._both_ended)
        try:
            how = await self._end
            carrying.cancel()
            await asyncio.wait({carrying})
            if how is not None:
                await self._end_by(how)
        finally:
            try:
                carrying.cancel()
                await asyncio.wait({carrying})
            finally:  # this wait may be what is cancelled
                self._close()

    def _both_ended(self, _: "asyncio.Task[None]") -> None:
        if not self._end.done():
            self._end.set_result(None)

    def _close(self) -> None:
        self._client.close()
        self._server.close()
        self._over.set()
        self._moved()

    async def _carry(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(self._client, self._server, self.plan.up, self._count_up))
                group.create_task(self._pump(self._server, self._client, self.plan.down, self._count_down))
        except* ConnectionError:  # one side is gone without a word; so is the other now
            reset_at_close(self._client)
            reset_at_close(self._server)

    async def _pump(
        self, source: socket.socket, target: socket.socket, flow: Flow, count: Callable[[bytes], int]
    ) -> None:
        loop, passed, drop = asyncio.get_running_loop(), 0, flow.drop
        while piece := await loop.sock_recv(source, READ):
            await asyncio.sleep(flow.delay_s)
            while piece:
                await self._open.wait()
                if drop is not None and passed == flow.after:
                    await self.drop(drop)
                    drop = None  # after a stall, bytes are carried on
                    continue
                allowed = min(flow.segment, len(piece) if drop is None else flow.after - passed)
                segment, piece = piece[:allowed], piece[allowed:]
                await loop.sock_sendall(target, segment)
                passed = count(segment)
                await asyncio.sleep(flow.pause_s)
        with suppress(OSError):  # the other side may be gone already
            target.shutdown(socket.SHUT_WR)

    def _count_up(self, segment: bytes) -> int:
        self.up += len(segment)
        if self.twin is not None:
            self.twin.sent(segment)
        self._moved()
        return self.up

    def _count_down(self, segment: bytes) -> int:
        self.down += len(segment)
        if self.twin is not None:
            self.twin.answered()
        self._moved()
        return self.down

    async def _end_by(self, how: Drop) -> None:
        self.dropped = how
        if how is Drop.FIN:
            await self._say_goodbye()
            return
        await settle(self._server)
        if how is Drop.RST:
            await settle(self._client)
            reset_at_close(self._server)
        reset_at_close(self._client)
        self._client.close()
        if how is Drop.HALF_OPEN:
            self._over.set()
            self._moved()
            await asyncio.Event().wait()  # until the proxy ends

    async def _say_goodbye(self) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):  # it may have left first
                end.shutdown(socket.SHUT_WR)
        self._over.set()
        self._moved()
        # A socket closed with unread bytes is reset; so what still comes is read.
        await asyncio.gather(forget(self._client), forget(self._server))


class Repeater:
    """Sends everything again on a second connection; see `Twin`."""

    def __init__(self, when: Twin, port: int, *, moved: Callable[[], None]) -> None:
        self.answers = bytearray()
        """What the server said to it."""
        self._when = when
        self._port = port
        self._moved = moved
        self._held = bytearray()
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()

    def sent(self, segment: bytes) -> None:
        """Take note of what the first connection carried."""
        if self._when is Twin.AT_ONCE:
            self._queue.put_nowait(segment)
        else:
            self._held += segment

    def answered(self) -> None:
        """Take note of an answer on the first connection."""
        held, self._held = bytes(self._held), bytearray()
        if held:
            self._queue.put_nowait(held)

    async def run(self) -> None:
        """Repeat until the server leaves, or the proxy ends. What the server does to it is its own affair."""
        with suppress(OSError), await connect(self._port) as server:
            sending = asyncio.get_running_loop().create_task(self._send(server))
            try:
                await self._listen(server)
            finally:
                sending.cancel()
                await asyncio.wait({sending})

    async def _send(self, server: socket.socket) -> None:
        with suppress(ConnectionError):
            while True:
                await asyncio.get_running_loop().sock_sendall(server, await self._queue.get())

    async def _listen(self, server: socket.socket) -> None:
        while piece := await asyncio.get_running_loop().sock_recv(server, READ):
            self.answers += piece
            self._moved()


class FaultProxy:
    """The proxy, as an asynchronous context manager; see the head of this file.

    Args:
        ports: of the servers on this machine; with several, connections go to them in turn.
        plan: of every connection that has none of its own.
    """

    def __init__(self, *ports: int, plan: Plan = PLAIN) -> None:
        self.default = plan
        self.links: list[Link] = []
        """All that ever were, the oldest first."""
        self._planned: deque[Plan] = deque()
        self._ports = cycle(ports)
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    @property
    def port(self) -> int:
        """Where clients connect, on 127.0.0.1."""
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listener.setblocking(False)
        self._beside(self._accept())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End everything; what is still open is closed."""
        for task in self._tasks:
            task.cancel()
        found = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()
        for error in found:
            if isinstance(error, Exception):
                raise error

    def plan(self, *plans: Plan) -> None:
        """Give the next connections these plans, one each; those after them get the default."""
        self._planned.extend(plans)

    async def drop(self, how: Drop) -> None:
        """Drop all connections that there are; return when it has happened."""
        await asyncio.gather(*(link.drop(how) for link in self.links if not link.over))

    def resume(self) -> None:
        """End all stalls."""
        for link in self.links:
            link.resume()

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is looked at whenever bytes move and connections come and go."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def wait_passed(self, *, up: int = 0, down: int = 0) -> None:
        """Wait until so many bytes have passed, in all connections together."""
        await self.wait(lambda: self.passed_up >= up and self.passed_down >= down)

    @property
    def passed_up(self) -> int:
        """Bytes let through to the server, by all connections."""
        return sum(link.up for link in self.links)

    @property
    def passed_down(self) -> int:
        """Bytes let through to clients, by all connections."""
        return sum(link.down for link in self.links)

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(work))

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listener)
            self._beside(self._serve(client, self._planned.popleft() if self._planned else self.default))

    async def _serve(self, client: socket.socket, plan: Plan) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = next(self._ports)
        try:
            link = Link(plan, client, await connect(port), moved=self._changed.set)
        except OSError:  # a server that is down refuses, and so do we
            reset_at_close(client)
            client.close()
            return
        if plan.twin is not None:
            link.twin = Repeater(plan.twin, port, moved=self._changed.set)
            self._beside(link.twin.run())
        self.links.append(link)
        self._changed.set()
        await link.run()


class ThreadedFaultProxy:
    """A `FaultProxy` in a thread of its own; all calls may come from any other."""

    def __init__(self, portal: BlockingPortal, proxy: FaultProxy) -> None:
        self._portal = portal
        self._proxy = proxy
        self.port = proxy.port
        self.url = proxy.url

    @property
    def links(self) -> list[Link]:
        """All connections that ever were; only to be looked at."""
        return list(self._proxy.links)

    def plan(self, *plans: Plan) -> None:
        """Give the next connections these plans."""
        self._portal.call(self._proxy.plan, *plans)

    def always(self, plan: Plan) -> None:
        """Give all later connections this plan, unless they have their own."""
        self._proxy.default = plan

    def drop(self, how: Drop) -> None:
        """Drop all connections that there are; return when it has happened."""
        self._portal.call(self._proxy.drop, how)

    def drop_after(self, up: int, how: Drop) -> None:
        """Drop all connections when so many bytes have passed, and there are some: a fast peer may be between two."""

        async def drop() -> None:
            await self._proxy.wait_passed(up=up)
            await self._proxy.wait(lambda: any(not link.ends for link in self._proxy.links))
            await self._proxy.drop(how)

        self._portal.call(drop)

    def resume(self) -> None:
        """End all stalls."""
        self._portal.call(self._proxy.resume)

    def wait(self, *, up: int = 0, down: int = 0) -> None:
        """Wait until so many bytes have passed, in all connections together."""

        async def passed() -> None:
            await self._proxy.wait_passed(up=up, down=down)

        self._portal.call(passed)


@contextmanager
def fault_proxy(*ports: int, plan: Plan = PLAIN) -> Iterator[ThreadedFaultProxy]:
    """Run a proxy beside the test; see `FaultProxy`."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(FaultProxy(*ports, plan=plan)) as proxy,
    ):
        yield ThreadedFaultProxy(portal, proxy)
