"""Numbers that are counted up, where a process alone or several together find them.

Rule 1: who counts holds the numbers and adds to them; nothing is called, looked up or locked for it. One thread counts: the
        event loop's.
Rule 2: the numbers of several processes lie in a file of each, mapped into its memory. Any of them reads all; the kernel keeps
        what a process counted that was killed, and the next one in its place goes on there.
Rule 3: a file has all its room from the start: one that finds the disk full when it grows would kill its process. What does not
        fit is counted for this process only.

A file begins with how many of its bytes are used. Entries follow: the length of a name, how many numbers it has, the name in JSON
with spaces up to a multiple of 8, the numbers. An entry is there as soon as those bytes are used, and never changes its place.
"""

import json
import mmap
import os
import shutil
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

from haulier.core.errors import ConfigError

Name = tuple[str, ...]
"""What is counted, and the values of its labels."""

ROOM: Final = 2 * 1024 * 1024
"""Bytes of a file; several times what every route with every status needs."""
_USED: Final = struct.Struct("=q")
_ENTRY: Final = struct.Struct("=ii")
_NUMBER: Final = 8
"""Bytes of a number, to which all in a file is aligned: it is written in one piece."""


class Numbers(Protocol):
    """The numbers of one name, in memory or in a file."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[float]: ...
    def __getitem__(self, index: int, /) -> float: ...
    def __setitem__(self, index: int, value: float, /) -> None: ...


class Counts:
    """What one process counts, in its memory."""

    def __init__(self) -> None:
        self._numbers: dict[Name, Numbers] = {}
        self.began: dict[Name, float] = {}
        """When the first was counted, in seconds since the epoch; nobody knows it of what several processes count."""

    def of(self, name: Name, width: int = 1) -> Numbers:
        """Return the numbers of a name, from 0 where it is a new one."""
        found = self._numbers.get(name)
        if found is None:
            found = self._numbers[name] = self._make(name, width)
        return found

    def sums(self) -> Mapping[Name, Numbers]:
        """Return what all processes have counted."""
        return self._numbers

    def _make(self, name: Name, width: int) -> Numbers:
        self.began[name] = time.time()  # noqa: TID251 - Prometheus compares it with its own clock
        return [0.0] * width


class SharedCounts(Counts):
    """What one of several processes counts, in the file of its place.

    Args:
        directory: the files of all; see `prepare_counts`.
        slot: which place is this one's, from 0.
    """

    def __init__(self, directory: Path, slot: int) -> None:
        super().__init__()
        self._directory = directory
        self._file = _file(directory, slot)
        descriptor = os.open(self._file, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._bytes = memoryview(mmap.mmap(descriptor, 0))
        finally:
            os.close(descriptor)
        for name, at, width in _entries(self._bytes):
            self._numbers[name] = self._at(at, width)

    def sums(self) -> Mapping[Name, Numbers]:
        """Return what all processes have counted, also those that have died."""
        sums = {name: list(numbers) for name, numbers in self._numbers.items()}
        for file in sorted(self._directory.iterdir()):
            if file != self._file:
                content = file.read_bytes()
                for name, at, width in _entries(content):
                    others = struct.unpack_from(f"={width}d", content, at)
                    known = sums.get(name, (0.0,) * width)
                    sums[name] = [one + more for one, more in zip(known, others, strict=True)]
        return sums

    def _make(self, name: Name, width: int) -> Numbers:
        key = json.dumps(name).encode()
        key += b" " * (-len(key) % _NUMBER)
        entry = _ENTRY.pack(len(key), width) + key + bytes(_NUMBER * width)
        (used,) = _USED.unpack_from(self._bytes)
        begin = _USED.size + used
        end = begin + len(entry)
        if end > len(self._bytes):
            return [0.0] * width
        self._bytes[begin:end] = entry
        # Only now: others read at any time.
        _USED.pack_into(self._bytes, 0, used + len(entry))
        return self._at(end - _NUMBER * width, width)

    def _at(self, place: int, width: int) -> Numbers:
        return self._bytes[place : place + _NUMBER * width].cast("d")


def prepare_counts(directory: Path, workers: int) -> None:
    """Make the files into which workers count, empty and with all the room that they may need.

    Raises:
        ConfigError: there is no room for them.
    """
    try:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o755)
        for slot in range(workers):
            _reserve(_file(directory, slot))
    except OSError as error:
        needed = f"{workers * ROOM} bytes for what workers count"
        raise ConfigError(
            "workers", str(workers), f"{directory} needs {needed} ({error.strerror})"
        ) from error


def _file(directory: Path, slot: int) -> Path:
    return directory / str(slot)


def _reserve(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, ROOM)
        else:
            os.write(descriptor, bytes(ROOM))
    finally:
        os.close(descriptor)


def _entries(content: bytes | memoryview) -> Iterator[tuple[Name, int, int]]:
    """Yield the names in a file, where their numbers begin, and how many there are."""
    (used,) = _USED.unpack_from(content)
    at = _USED.size
    while at < _USED.size + used:
        length, width = _ENTRY.unpack_from(content, at)
        begin = at + _ENTRY.size + length
        yield tuple(json.loads(bytes(content[at + _ENTRY.size : begin]))), begin, width
        at = begin + _NUMBER * width
