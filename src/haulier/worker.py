"""One worker of `haulier serve --workers N`: the program that its supervisor starts, never a person.

Rule 1: a worker dies with its supervisor, whatever kills that: the kernel is told to see to it where it can, and the
        channel's end tells it everywhere.
Rule 2: settings come from the supervisor as it read them, so that a worker which is started later has the same.
"""

import ctypes
import signal
import socket
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
"""Source: prctl(2)."""


def main() -> None:
    """Serve until the supervisor says otherwise; end with the exit code."""
    # Ctrl-C reaches the whole group of processes; the supervisor passes it on, once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    channel, slot, worker = sys.argv[1:]
    # Imported under these protections: it takes most of a second.
    from haulier.bootstrap import Identity, run_worker  # noqa: PLC0415 - see above
    from haulier.config import settings_from_text  # noqa: PLC0415 - see above

    settings = settings_from_text(sys.stdin.read())
    identity = Identity(worker=worker, slot=int(slot), workers=settings.workers)
    sys.exit(run_worker(settings, identity, socket.socket(fileno=int(channel))))


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; a no-op where it cannot."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
