"""An asyncio loop without a machine under it: virtual time, seeded order, processes that can be killed.

Rule 1: what runs next is drawn from the seed among everything that is ready; so one seed is one schedule.
Rule 2: time moves only when nothing is ready, and then to the next timer.
Rule 3: a call belongs to the process in whose context it was scheduled; the calls of a killed process never run.
"""

import asyncio
import random
from asyncio.events import _set_running_loop
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
A = TypeVarTuple("A")

MAX_STEPS: Final = 2_000_000
"""Far above what a scenario takes: one that runs longer turns in circles."""


class Process:
    """What can be killed as a whole: its tasks stop where they are, without any clean-up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.context = copy_context()
        self.context.run(_process.set, self)


_process: ContextVar[Process | None] = ContextVar("_process", default=None)


class Stalled(AssertionError):
    """Nothing is ready and no timer is left, but the scenario has not ended."""


class _Call(asyncio.TimerHandle):
    """A callback with its time and its process."""

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        self.context = context or copy_context()
        super().__init__(when, callback, args, loop, self.context)

    @property
    def process(self) -> Process | None:
        return self.context.get(_process)

    def run(self) -> None:
        self._run()


class SimLoop(asyncio.AbstractEventLoop):
    """Runs one scenario under one schedule."""

    def __init__(self, seed: int) -> None:
        self.steps = 0
        self.after_step: Callable[[], None] = lambda: None
        """Called after every callback that ran."""
        self._random = random.Random(f"{seed}/schedule")
        self._now = 0.0
        self._ready: list[_Call] = []
        self._timers: list[tuple[float, int, _Call]] = []
        self._count = 0
        self._names = 0
        self._tasks: list[tuple[asyncio.Task[Any], Process | None]] = []
        self._many = 100
        self._unwinding = False
        self._limbo: list[_Call] = []
        self._running = False
        self._closed = False
        self._errors: list[BaseException] = []

    # --- running -------------------------------------------------------------------------------------

    def run_until_complete(self, future: Any) -> Any:
        """Run a coroutine to its end, or until a step fails.

        Raises:
            Stalled: it waits for something that will never come.
        """
        self._running = True
        _set_running_loop(self)
        try:
            task = future if asyncio.isfuture(future) else self.create_task(future)
            while not task.done():
                self._step()
            return task.result()
        finally:
            _set_running_loop(None)
            self._running = False

    def _step(self) -> None:
        if not self._ready:
            self._move_time()
        chosen = self._random.randrange(len(self._ready))
        self._ready[chosen], self._ready[-1] = self._ready[-1], self._ready[chosen]
        call = self._ready.pop()
        if call.cancelled():
            return
        if (process := call.process) is not None and process.dead and not self._unwinding:
            self._limbo.append(call)  # kept, so that nothing of it is finalised either
            return
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise Stalled(f"still running after {MAX_STEPS} steps")
        call.run()
        if self._errors and not self._unwinding:
            raise self._errors[0]
        self.after_step()

    def _move_time(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heappop(self._timers)
        if not self._timers:
            raise Stalled("nothing is left to run")
        self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            self._ready.append(heappop(self._timers)[2])

    def kill(self, process: Process) -> None:
        """Let none of its calls run again."""
        process.dead = True

    def running(self, process: Process | None) -> list[asyncio.Task[Any]]:
        """Return the tasks of a process that have not ended."""
        return [task for task, owner in self._tasks if owner is process and not task.done()]

    def unwind(self) -> None:
        """After the scenario, end whatever has not ended, in killed processes too, and close the loop.

        Coroutines that end as garbage would run their clean-up anywhere and complain.
        """
        self.after_step = lambda: None
        self._unwinding = True
        self._ready += self._limbo
        while tasks := [task for task, _ in self._tasks if not task.done()]:
            for task in tasks:
                task.cancel()
            self.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        self.close()

    # --- what asyncio asks of a loop -----------------------------------------------------------------

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._now

    def call_soon(
        self, callback: Callable[[Unpack[A]], object], *args: *A, context: Context | None = None
    ) -> _Call:
        """Run `callback` at this time."""
        call = _Call(self._now, callback, args, self, context)
        self._ready.append(call)
        return call

    call_soon_threadsafe = call_soon

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[A]], object],
        *args: *A,
        context: Context | None = None,
    ) -> _Call:
        """Run `callback` at a virtual time."""
        call = _Call(when, callback, args, self, context)
        self._count += 1
        heappush(self._timers, (when, self._count, call))
        return call

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[A]], object],
        *args: *A,
        context: Context | None = None,
    ) -> _Call:
        """Run `callback` after `delay` virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave it in the queue; it is passed over."""

    def create_future(self) -> "asyncio.Future[Any]":
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **options: Any
    ) -> "asyncio.Task[Any]":
        """Start a task; it belongs to the process of its context."""
        self._names += 1
        task: asyncio.Task[Any] = asyncio.Task(
            coro, loop=self, name=name or f"task {self._names}", context=context, **options
        )
        self._tasks.append((task, _process.get() if context is None else context.get(_process)))
        if len(self._tasks) > self._many:
            self._tasks = [pair for pair in self._tasks if not pair[0].done()]
            self._many = 2 * len(self._tasks) + 100
        return task

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[A]], T], *args: *A
    ) -> "asyncio.Future[T]":
        """Run `func` in one step of its own, some time: a thread that nobody can watch."""
        done: asyncio.Future[T] = self.create_future()

        def run() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - as an executor hands on whatever a thread raised
                done.set_exception(error)

        self.call_soon(run)
        return done

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Let what a callback raised, or a task never told, end the scenario."""
        error = context.get("exception") or AssertionError(context.get("message"))
        self._errors.append(error)

    def is_running(self) -> bool:
        """Whether it is in `run_until_complete`."""
        return self._running

    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self._ready.clear()
        self._timers.clear()
        self._limbo.clear()

    def get_debug(self) -> bool:
        """Debug mode looks at real time, which there is none of."""
        return False


def new_loop(seed: int) -> SimLoop:
    """Return the loop of one schedule; sockets, signals and subprocesses are what it has not."""
    return SimLoop(seed)  # type: ignore[abstract]
