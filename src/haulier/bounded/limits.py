"""What a child process may use, and how it gives the rest up.

Rule 1: a limit is set before the first library that reads files is loaded, and cannot be raised again.
Rule 2: a child never outlives its parent: the kernel kills it, and a parent that is already gone is noticed.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from dataclasses import asdict
from typing import Final

from haulier.core.values import dataclass

GIB: Final = 1024**3

_PR_SET_PDEATHSIG: Final = 1  # Source: Linux, include/uapi/linux/prctl.h
_PR_SET_NO_NEW_PRIVS: Final = 38


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one child, and one job of it, may use."""

    address_space: int = 2 * GIB
    """Bytes. Decoding a 24-megapixel JPEG takes over 400 MiB of it, mapped libraries and stacks included."""
    job_s: float = 60.0
    """Seconds from handing a job over to its answer."""
    jobs_per_child: int = 100
    """After that many a child is replaced, so that what leaks in foreign code does not add up."""
    pixels: int = 268_435_456
    """Width times height of an original: 16384 squared, the largest square that WebP can hold."""
    source_bytes: int = GIB
    """An original of an image beyond that is not opened."""
    output_bytes: int = 256 * 1024 * 1024
    """The largest file that a child can write."""
    open_files: int = 64
    """Its socket, three files of a job, and what the decoders duplicate of them."""

    def to_json(self) -> str:
        """Return the text that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Limits":
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


def environment() -> dict[str, str]:
    """Return all that a child may know of its surroundings."""
    return {
        "LANG": "C.UTF-8",
        # Each thread's allocator would map 64 MiB of its own, out of an address space that is limited.
        "MALLOC_ARENA_MAX": "2",
        "TMPDIR": "/nonexistent",
        # Loaders that libvips itself does not trust with strangers' files stay off, whatever we ask for.
        "VIPS_BLOCK_UNTRUSTED": "1",
        "VIPS_CONCURRENCY": "1",
        # Larger than any picture: intermediate ones stay in memory, where the limit counts them.
        "VIPS_DISC_THRESHOLD": "1024g",
        "VIPS_WARNING": "0",
    }


def confine(limits: Limits, *, parent: int) -> None:
    """Give up what this process does not need, for good. Call it first of all.

    Raises:
        SystemExit: the parent is gone.
    """
    if sys.platform == "linux":
        _control(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _control(_PR_SET_NO_NEW_PRIVS, 1)
    if os.getppid() != parent:
        # It ended before it was bound to us, so no signal will come.
        raise SystemExit
    _lower(resource.RLIMIT_AS, limits.address_space)
    _lower(resource.RLIMIT_FSIZE, limits.output_bytes)
    _lower(resource.RLIMIT_NOFILE, limits.open_files)
    # One byte, not none: Linux hands a dump to a handler program under any limit but exactly 1.
    # Source: Linux, fs/coredump.c, do_coredump.
    _lower(resource.RLIMIT_CORE, 1)


def allow_cpu(seconds: float) -> None:
    """Let this process use `seconds` of CPU from now on; the kernel ends it after that.

    A second guard behind the parent's clock: that one may be stopped, or busy.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(
        resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)
    )


def _lower(what: int, limit: int) -> None:
    _, hard = resource.getrlimit(what)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(what, (limit, limit))


def _control(option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
