"""Who may log in at a rendezvous: the first login of a name registers it."""

import asyncio
import hmac
import json
import os
from hashlib import scrypt
from pathlib import Path
from typing import Final

from haulier.core.errors import ConfigError
from haulier.soulseek.messages import Login

NAME_CHARACTERS: Final = 30
ACCOUNTS: Final = 100_000
"""Names that are registered at most: each login of a new one registers it, and all are in memory, some 20 MB."""
_SALT: Final = 16


def refusal_of(login: Login) -> str | None:
    """Return the reason why such a login is never accepted."""
    name = login.user
    if (
        not 0 < len(name) <= NAME_CHARACTERS
        or not name.isascii()
        or not name.isprintable()
        or name != name.strip()
    ):
        return "INVALIDUSERNAME"
    if not login.password:
        return "EMPTYPASSWORD"
    return None if login.minor else "INVALIDVERSION"


class Accounts:
    """Names and the hashes of their passwords, in memory and, with a file, on disk.

    Args:
        file: Where they are kept, one JSON line each; None keeps them only while the process lives.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._hashes: dict[str, str] = {}
        self._hashing = asyncio.Lock()
        """A hash takes time and memory on purpose: one at a time, so that logins cannot exhaust either."""

    async def load(self) -> None:
        """Read the file, if there is one. Raises ConfigError."""
        if self._file is not None and self._file.exists():
            self._hashes = await asyncio.to_thread(_read, self._file)

    def knows(self, name: str) -> bool:
        """Whether the name has ever logged in."""
        return name in self._hashes

    def has_room_for(self, name: str) -> bool:
        """Whether the name is known, or can be."""
        return self.knows(name) or len(self._hashes) < ACCOUNTS

    async def admit(self, name: str, password: str) -> bool:
        """Whether the password is that of the name; a new name gets it."""
        async with self._hashing:
            known = self._hashes.get(name)
            if known is not None:
                salt = bytes.fromhex(known.partition(":")[0])
                return hmac.compare_digest(known, await asyncio.to_thread(_hash, password, salt))
            made = await asyncio.to_thread(_hash, password, os.urandom(_SALT))
            await asyncio.to_thread(self._append, name, made)
            self._hashes[name] = made
            return True

    def _append(self, name: str, made: str) -> None:
        if self._file is None:
            return
        line = json.dumps({"name": name, "hash": made})
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())


def _read(file: Path) -> dict[str, str]:
    """Return the hashes by name; half a line at the end, of which nobody was told, is cut off."""
    raw = file.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if whole != raw:
        os.truncate(file, len(whole))
    try:
        return {row["name"]: row["hash"] for row in map(json.loads, whole.splitlines())}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError("data_dir", str(file.parent), f"{file} is no list of accounts: {error}") from error


def _hash(password: str, salt: bytes) -> str:
    raw = password.encode("utf-8", "surrogateescape")
    return f"{salt.hex()}:{scrypt(raw, salt=salt, n=2**14, r=8, p=1).hex()}"
