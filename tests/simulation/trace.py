"""What happened in a scenario, in order: printed when it fails, compared when it is replayed."""

import hashlib
from collections.abc import Callable
from typing import Final

from tests.simulation.loop import SimLoop

SHOWN: Final = 600
"""Last lines that a failure prints."""


class Violation(AssertionError):
    """Something that must never happen did."""


class Trace:
    """Lines with their step and virtual time."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._lines: list[tuple[int, float, str, str]] = []
        self.violation: Violation | None = None

    def note(self, who: str, what: str) -> None:
        """Write a line."""
        self._lines.append((self._loop.steps, self._loop.time(), who, what))

    def violated(self, what: str) -> Violation:
        """Write down and return what to raise; the scenario ends with it, whoever catches it."""
        self.note("VIOLATION", what)
        self.violation = self.violation or Violation(what)
        return self.violation

    def require(self, held: object, what: Callable[[], str] | str) -> None:
        """Raise a Violation unless `held`."""
        if not held:
            raise self.violated(what if isinstance(what, str) else what())

    @property
    def fingerprint(self) -> str:
        """Equal for equal traces."""
        return hashlib.sha256(repr(self._lines).encode()).hexdigest()

    def __str__(self) -> str:
        lines = [f"{step:>7} {now:>11.3f} {who:<12} {what}" for step, now, who, what in self._lines]
        left_out = [f"... {len(lines) - SHOWN} lines before"] if len(lines) > SHOWN else []
        return "\n".join(left_out + lines[-SHOWN:])
