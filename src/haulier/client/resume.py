"""What lets a later run go on where this one was killed: one small file for each upload under way.

Rule 1: the idempotency key is on disk, synced, before the service sees it; it is removed only after the
        record is verified. In between, whoever sends the same unchanged file uses the same key.
Rule 2: one process at a time uses an entry (`flock`, which the kernel frees when its holder dies).
Rule 3: nothing else is stored: what has arrived is known by the service alone.
"""

import hashlib
import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final, Self

from haulier.core.values import dataclass
from haulier.parts import open_locked

MAX_AGE_S: Final = 30 * 24 * 3600.0
"""Entries not used for so long are removed: the service's default retention of ended uploads."""
_NONCE_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which upload an entry belongs to; a changed file has another one."""

    url: str
    capsule: str
    path: str
    """Absolute."""
    size: int
    mtime_ns: int
    inode: int
    asset: str | None = None
    """What it becomes of a record of several uploads; those of one file have entries of their own."""

    @property
    def name(self) -> str:
        """A hash of all fields: 32 hexadecimal digits."""
        members = {name: value for name, value in asdict(self).items() if value is not None}
        text = json.dumps(members, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Entry:
    """A locked entry. `close` keeps it for a later run, `remove` ends it."""

    def __init__(self, path: Path, descriptor: int, identity: Identity) -> None:
        self._path = path
        self._descriptor = descriptor
        self._identity = identity
        self.key = self._stored_key() or self.renew()

    @classmethod
    def open(cls, directory: Path, identity: Identity) -> Self | None:
        """Lock the entry of that upload, made when there is none; None when another process holds it.

        Raises:
            OSError: the directory cannot be used.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / f"{identity.name}.json"
        descriptor = open_locked(path, mode=0o600)
        if descriptor is None:
            return None
        os.utime(descriptor)
        _remove_old(directory, os.fstat(descriptor).st_mtime)
        return cls(path, descriptor, identity)

    def renew(self) -> str:
        """Write a new key down, and return it: the upload of the old one is lost or another's."""
        self.key = f"{self._identity.name}-{secrets.token_hex(_NONCE_BYTES)}"
        text = json.dumps({**asdict(self._identity), "key": self.key}, indent=2)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode("utf-8", "backslashreplace"), 0)
        os.fsync(self._descriptor)
        _sync_directory(self._path.parent)
        return self.key

    def remove(self) -> None:
        """The upload has come to its end; removed before it is unlocked, so nobody else ever uses it."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Unlock it; to be called once."""
        os.close(self._descriptor)

    def _stored_key(self) -> str | None:
        # A file cut short by a crash is a new entry: its key was not synced, so the service never saw it.
        with suppress(ValueError, AttributeError):
            stored = json.loads(os.pread(self._descriptor, 65536, 0)).get("key")
            if isinstance(stored, str) and stored.startswith(f"{self._identity.name}-"):
                return stored
        return None


def _remove_old(directory: Path, now: float) -> None:
    for path in directory.glob("*.json"):
        with suppress(FileNotFoundError):
            if now - path.stat().st_mtime > MAX_AGE_S:
                path.unlink()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
