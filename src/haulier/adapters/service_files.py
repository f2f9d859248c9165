"""Files that make processes one service: the lock of the data directory, the secret of the storage directory.

Rule 1: the data directory belongs to one service, however many processes that has.
Rule 2: the secret lies where the bytes are. Services that share rows share those too, so each takes the tokens that
        the others gave, and there is nothing to be copied or configured.
Rule 3: a storage directory has an id of its own, by which rows know it again.
"""

import contextlib
import os
import secrets
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from haulier.adapters.disk.system_calls import SystemCalls
from haulier.adapters.lock_files import holder_of, try_lock
from haulier.core.errors import ConfigError
from haulier.core.secret import SECRET_BYTES

STORAGE_ID: Final = "storage.id"
"""The file with the id of a storage directory. No secret: whoever moves files reads and writes it."""
KEY: Final = "secret.key"
"""The file with the secret."""
LOCK: Final = Path("run", "service.lock")
"""Below the data directory."""


def make_storage_id(storage: Path, *, setting: str) -> str:
    """Return the id of a storage directory; one that has none gets one, for good. Raises as `read_storage_id`."""
    path = storage / STORAGE_ID
    with _told(path, setting):
        with contextlib.suppress(FileExistsError):
            _write_whole(path, f"{uuid.uuid4()}\n".encode("ascii"), mode=0o644)
        SystemCalls().sync_directory(storage)
        return _read_id(path)


def read_storage_id(storage: Path, *, setting: str) -> str | None:
    """Return the id of a storage directory, None where it has none. `setting` is the one that names `storage`.

    Raises:
        ConfigError: it cannot be read or made.
    """
    path = storage / STORAGE_ID
    with _told(path, setting):
        return _read_id(path) if path.exists() else None


def _read_id(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip()


@contextmanager
def _told(path: Path, setting: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        expected = f"{path} must be readable: {error.strerror}"
        raise ConfigError(setting, str(path.parent), expected) from error


def load_secret(storage: Path, *, setting: str) -> bytes:
    """Return the secret of all services that share a storage directory, made by the first start of any of them.

    Readable by its owner only. `setting` is the one that names `storage`, for the error.

    Raises:
        ConfigError: it cannot be read, or others can read it.
    """
    path = storage / KEY
    with _told(path, setting):
        with contextlib.suppress(FileExistsError):
            _write_whole(path, secrets.token_bytes(SECRET_BYTES), mode=0o600)
        # Also of one that is there: whoever made it may have died before its name was on the device, and a
        # secret that a power loss takes back takes every upload's token with it.
        SystemCalls().sync_directory(storage)
    return _read_secret(storage, setting)


def find_secret(storage: Path, *, setting: str) -> bytes | None:
    """Return the secret of a storage directory, None where it has none. Raises as `load_secret`."""
    try:
        (storage / KEY).lstat()
    except FileNotFoundError:
        return None
    except OSError:
        pass  # whoever reads it tells why
    return _read_secret(storage, setting)


def _read_secret(storage: Path, setting: str) -> bytes:
    path = storage / KEY
    with _told(path, setting):
        secret = path.read_bytes()
        mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ConfigError(setting, str(storage), f"{path} must have mode 0600, not {mode:04o}; use chmod 600")
    if len(secret) != SECRET_BYTES:
        raise ConfigError(
            setting, str(storage), f"{path} must have {SECRET_BYTES} bytes; remove it to have a new one made"
        )
    return secret


def _write_whole(path: Path, content: bytes, *, mode: int) -> None:
    # Whole or not at all: a crash between creating and writing must not leave an empty file behind. Process ids
    # would not do for a name: two containers that share the directory may have the same.
    whole = path.with_suffix(f".{secrets.token_hex(8)}")
    descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
        os.link(whole, path)
    finally:
        os.close(descriptor)
        whole.unlink()


@contextmanager
def only_service(root: Path) -> Iterator[None]:
    """Hold the data directory for this process; the kernel lets it go when the process ends.

    Raises:
        ConfigError: another process serves it, or its lock cannot be made.
    """
    path = root / LOCK
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        descriptor, holder = try_lock(path)
    except OSError as error:
        expected = f"{path} must be a file that can be made, written and locked: {error.strerror}"
        raise ConfigError("data_dir", str(root), expected) from error
    if descriptor is None:
        raise _served(root, holder)
    try:
        yield
    finally:
        os.close(descriptor)


def require_unserved(root: Path) -> None:
    """Raise ConfigError when another process serves the data directory."""
    holder = holder_of(root / LOCK)
    if holder is not None:
        raise _served(root, holder)


def _served(root: Path, holder: str) -> ConfigError:
    return ConfigError(
        "data_dir",
        str(root),
        f"process {holder} serves it already; stop that one, or choose another with --data-dir",
    )
