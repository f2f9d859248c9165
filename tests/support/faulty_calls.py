"""A real disk whose single system calls fail, stall, or are counted, on demand."""

import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from haulier.adapters.disk.system_calls import SystemCalls

OPERATIONS = frozenset(name for name in vars(SystemCalls) if not name.startswith("_"))


class Crash(Exception):
    """The process ends here: nothing catches it on purpose, nothing after it happens."""


class FaultyCalls(SystemCalls):
    """The operating system with faults. All calls go through to it unless a fault waits for them."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []
        """Each call's name and the name of its thread."""
        self.crash_at: int | None = None
        """The number of the call, counted from 0, that the process does not survive."""
        self._faults: dict[str, deque[Callable[[], None]]] = defaultdict(deque)

    def fail(self, operation: str, code: int, *, times: int = 1) -> None:
        """Let the next calls of `operation` fail with that errno."""

        def strike() -> None:
            raise OSError(code, os.strerror(code))

        self._faults[operation].extend([strike] * times)

    def stall(self, operation: str, code: int = 0) -> threading.Event:
        """Let the next call of `operation` wait until the event that is returned is set, then perhaps fail."""
        gate = threading.Event()

        def wait() -> None:
            assert gate.wait(30), f"nobody let {operation} go on"
            if code:
                raise OSError(code, os.strerror(code))

        self._faults[operation].append(wait)
        return gate

    def names(self) -> list[str]:
        """Return the names of the calls so far, in order."""
        return [name for name, _ in self.made]

    def threads(self, operation: str) -> list[bool]:
        """Return, for each call of `operation`, whether it ran in a worker thread."""
        return [thread.startswith("haulier-disk") for name, thread in self.made if name == operation]

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in OPERATIONS:
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            number = len(self.made)
            self.made.append((name, threading.current_thread().name))
            if number == self.crash_at:
                raise Crash
            if self._faults[name]:
                self._faults[name].popleft()()
            return found(*arguments, **named)

        return call
