"""The remotes that were set up on this machine: a file under `HAULIER_HOME`, and the remotes made of it.

Rule 1: the file holds secrets, so it is its owner's alone (0600), and is replaced as a whole: no crash leaves half of it.
Rule 2: a process that runs for long sees what was set up after its start; a remote that is in use stays as it is.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from haulier.core.errors import ConfigError, HaulierError
from haulier.core.outgoing import VerifyPolicy
from haulier.core.secret import Secret
from haulier.core.values import replace
from haulier.core.verdict import GIVE_UP_S
from haulier.engine.send_runner import SendLimits
from haulier.logs import get_logger
from haulier.private_files import replace_private
from haulier.remotes.catalogue import RemoteSettings, check_settings, make_remote, takes_secret, trusted_by
from haulier.sending_ports import Remote

log = get_logger()
T = TypeVar("T")

FILE: Final = "remotes.json"
JOURNAL: Final = "journal.db"
TOKENS: Final = ".tokens"
"""What the names of files end with that keep a remote's tokens."""
MAX_NAME: Final = 64
"""Characters of a remote's name: it is typed, and shown in tables."""
MAX_FILE: Final = 16 * 1024 * 1024
"""Bytes of the file; some thousand remotes have a few hundred kilobytes."""


def home_directory(home: Path | None) -> Path:
    """Return where remotes and the default journal are: as it was set, or the platform's place for a user's data."""
    if home is not None:
        return home.expanduser().absolute()
    from platformdirs import user_data_path  # noqa: PLC0415 - only where nothing is said

    return user_data_path("haulier", appauthor=False)


class RemotePlaces:
    """What is set up under a home directory; also the `Remotes` of an upload manager."""

    def __init__(self, home: Path, *, make: Callable[[RemoteSettings], Remote] = make_remote) -> None:
        """Take the place; nothing is read yet."""
        self.path: Final = home / FILE
        self._make = make
        self._read_at: tuple[int, int, int] | None = None
        self._settings: dict[str, RemoteSettings] = {}
        self._remotes: dict[str, tuple[RemoteSettings, Remote]] = {}
        self._retired: list[Remote] = []

    def get(self, name: str, /) -> Remote | None:
        """Return the remote of that name; the same object until it is set up anew. None also when it cannot be made."""
        try:
            settings = self.settings().get(name)
            return None if settings is None else self._made(settings)
        except ConfigError as error:
            log.error("remote.unusable", remote=name, error=str(error))
            return None

    def require(self, name: str) -> Remote:
        """Return the remote of that name.

        Raises:
            ConfigError: there is none, or it cannot be made.
        """
        return self._made(self.require_settings(name))

    def require_settings(self, name: str) -> RemoteSettings:
        """Return how a remote is set up. Raises ConfigError: there is none of that name."""
        settings = self.settings().get(name)
        if settings is None:
            raise ConfigError(
                "remote", name, "there is no remote of that name; haulier remote list shows those there are"
            )
        return settings

    def limits(self, *, give_up_s: float = GIVE_UP_S, bandwidth: float | None = None) -> SendLimits:
        """Return the limits of a manager that sends to these remotes; what is set for one of them is followed."""
        return SendLimits(
            slots=replace(SendLimits().slots, lines=_Option(self, "slots", int)),
            policies=_Option(self, "verify", VerifyPolicy.parse),
            give_up_s=give_up_s,
            bandwidth=bandwidth,
        )

    def settings(self) -> Mapping[str, RemoteSettings]:
        """Return all that is set up, as it is now.

        Raises:
            ConfigError: the file cannot be read.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._read_at, self._settings = None, {}
            return self._settings
        except OSError as error:
            raise ConfigError(
                "home", str(self.path), f"expected a file that can be read ({error.strerror})"
            ) from error
        now = (status.st_ino, status.st_mtime_ns, status.st_size)
        if now != self._read_at:
            self._settings = self._read()
            self._read_at = now
        return self._settings

    def put(self, settings: RemoteSettings) -> bool:
        """Set a remote up; return whether there was none of that name.

        Raises:
            ConfigError: something in it cannot be used; nothing is changed.
        """
        check_name(settings.name)
        _check(settings)
        with self._locked():
            known = dict(self.settings())
            new = settings.name not in known
            self._write({**known, settings.name: settings})
        return new

    def remove(self, name: str) -> None:
        """Forget a remote. Raises ConfigError: there is none of that name."""
        self.require_settings(name)  # before anything is made
        with self._locked():
            self.require_settings(name)
            self._write({key: each for key, each in self.settings().items() if key != name})
            self._tokens(name).unlink(missing_ok=True)

    async def close(self) -> None:
        """Close all remotes that were made; nothing may run any more."""
        remotes = [*self._retired, *(remote for _, remote in self._remotes.values())]
        self._remotes, self._retired = {}, []
        for remote in remotes:
            await remote.close()

    def keeps(self, path: Path) -> bool:
        """Return whether a file, by its path without links in it, is one of these: most have secrets in them."""
        ours = path.name in {FILE, self._lock.name} or path.suffix == TOKENS
        return ours and path.parent == Path(os.path.realpath(self.path.parent))

    @property
    def _lock(self) -> Path:
        return self.path.with_suffix(".lock")

    def _tokens(self, name: str) -> Path:
        return self.path.with_name(f"{name}{TOKENS}")

    def _made(self, settings: RemoteSettings) -> Remote:
        made = self._remotes.get(settings.name)
        if made is not None and made[0] == settings:
            return made[1]
        if made is not None:
            self._retired.append(made[1])  # transfers that run there still use it
        remote = self._make(settings)
        self._remotes[settings.name] = (settings, remote)
        return remote

    def _read(self) -> dict[str, RemoteSettings]:
        try:
            if self.path.stat().st_size > MAX_FILE:
                raise ConfigError("home", str(self.path), f"expected at most {MAX_FILE} bytes")
            documents = json.loads(self.path.read_text(encoding="utf-8"))
            return {
                name: replace(_settings(name, document), tokens=self._tokens(name))
                for name, document in documents["remotes"].items()
            }
        except OSError as error:
            raise ConfigError(
                "home", str(self.path), f"expected a file that can be read ({error.strerror})"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                "home",
                str(self.path),
                "expected what haulier remote add writes; move it away and add them anew",
            ) from error

    def _write(self, remotes: Mapping[str, RemoteSettings]) -> None:
        text = json.dumps({"remotes": {name: _document(each) for name, each in remotes.items()}}, indent=2)
        replace_private(self.path, text)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only process that changes the file."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                "home", str(self.path.parent), f"expected a directory that can be written ({error.strerror})"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class _Option(Mapping[str, T]):
    """An option of each remote that has it, as it is set up whenever somebody asks."""

    def __init__(self, places: RemotePlaces, name: str, parse: Callable[[str], T]) -> None:
        self._places = places
        self._name = name
        self._parse = parse

    def __getitem__(self, remote: str) -> T:
        try:
            return self._parse(self._places.settings()[remote].options[self._name])
        except (
            HaulierError,
            ValueError,
        ) as error:  # whoever asks has work to do, which goes on as if nothing were set
            log.error("remote.unusable", remote=remote, option=self._name, error=str(error))
            raise KeyError(remote) from error

    def __iter__(self) -> Iterator[str]:
        return (name for name, each in self._places.settings().items() if self._name in each.options)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def check_name(name: str) -> None:
    """Refuse what cannot be told from a path, or cannot be typed. Raises ConfigError."""
    if (
        not 0 < len(name) <= MAX_NAME
        or not name.isascii()
        or not name.replace("-", "").replace("_", "").isalnum()
    ):
        raise ConfigError("name", name, f"expected 1 to {MAX_NAME} letters, digits, - and _")


def _check(settings: RemoteSettings) -> None:
    check_settings(settings)
    trusted_by(settings)
    if "verify" in settings.options:
        try:
            VerifyPolicy.parse(settings.options["verify"])
        except Exception as error:
            raise ConfigError("verify", settings.options["verify"], str(error)) from error
    slots = settings.options.get("slots", "0")
    if not (slots.isascii() and slots.isdigit() and len(slots) <= 6):
        raise ConfigError("slots", slots, "expected a number of transfers at once, 0 (no limit) to 999999")


def _settings(name: str, document: dict[str, Any]) -> RemoteSettings:
    return RemoteSettings(
        name=name,
        type=str(document["type"]),
        url=str(document["url"]),
        options={key: str(value) for key, value in document["options"].items()},
        # Others were kept once by mistake, and end with the next change of the file.
        secrets={
            key: Secret(str(value))
            for key, value in document["secrets"].items()
            if takes_secret(str(document["type"]), key)
        },
    )


def _document(settings: RemoteSettings) -> dict[str, Any]:
    return {
        "type": settings.type,
        "url": settings.url,
        "options": dict(settings.options),
        "secrets": {name: secret.reveal() for name, secret in settings.secrets.items()},
    }


def with_secret(settings: RemoteSettings, name: str, secret: Secret) -> RemoteSettings:
    """Return the settings with one more secret."""
    return replace(settings, secrets={**settings.secrets, name: secret})
