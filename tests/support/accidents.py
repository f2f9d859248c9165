"""Accidents on demand for `tests.support.unlucky_service`: a file named like a point says what happens there."""

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Final

from haulier.core.values import dataclass

ROOT: Final = Path(__file__).parents[2]
"""Where `tests` can be imported from."""
KILL: Final = "KILL"
"""The process dies there, as by kill -9. Everything else is the name of an errno."""


@dataclass(frozen=True, slots=True)
class Accidents:
    """The dangerous points of one service; told by the test, reached by the service."""

    directory: Path

    @property
    def command(self) -> tuple[str, ...]:
        """What to run instead of `haulier`, with the working directory `ROOT`."""
        return (sys.executable, "-m", "tests.support.unlucky_service", str(self.directory))

    def arm(self, point: str, what: str = KILL) -> None:
        """From now on `what` happens at that point, each time."""
        self.directory.mkdir(exist_ok=True)
        whole = self.directory / f".{point}"
        whole.write_text(what)
        whole.rename(self.directory / point)

    def disarm(self, point: str) -> None:
        """From now on nothing happens there; to be called by who armed it."""
        (self.directory / point).unlink()

    def reach(self, point: str) -> None:
        """Be at a point. Raises what waits there, an OSError."""
        try:
            what = (self.directory / point).read_text()
        except FileNotFoundError:
            return
        if what == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        code: int = getattr(errno, what)
        raise OSError(code, os.strerror(code))
