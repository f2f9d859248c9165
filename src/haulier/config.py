"""Settings of the service: flags > environment `HAULIER_*` > TOML file > defaults.

Rule 1: this module is the only reader of the environment.
Rule 2: a value that cannot work is refused before anything starts, by a `ConfigError` that names the key as
        the operator wrote it, the value, and what is expected.
Rule 3: an unknown key is an error: a misspelt limit must not be a limit that silently does not hold.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast
from urllib.parse import unquote, urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from haulier.core.defaults import (
    DAY_S,
    DEFAULT_CHUNK,
    EVENTS_FOR_S,
    JANITOR_INTERVAL_S,
    MAX_LIVE_OF_ADDRESS,
    MAX_UPLOAD_BYTES,
    MIN_FREE_BYTES,
    RETENTION_S,
    SESSION_TTL_S,
    TRASH_FOR_S,
    VISITOR_TTL_S,
)
from haulier.core.digest import DigestName
from haulier.core.errors import ConfigError
from haulier.core.hosts import is_loopback
from haulier.core.ingestion import EXTENSIONS, MAX_BYTES
from haulier.core.quantity import MIB, RATE
from haulier.core.session import MAX_CLIENT_CHUNK, MIN_CHUNK
from haulier.core.upload import MAX_SIZE
from haulier.setting_values import (
    Rate,
    Seconds,
    Whole,
    Words,
    canonical_address,
    canonical_name,
    canonical_network,
    canonical_origin,
    without_secrets,
)
from haulier.webhook_settings import HookSettings, Webhook, Webhooks

PREFIX: Final = "HAULIER_"
MAX_WORKERS: Final = 256
"""More processes than cores only wait for each other, and no machine has many more cores."""

_REQUESTS: Final = "requests a second, 0 (no limit) to 1000000"
_BODIES: Final = "a number, 0 (no limit) to 1000000"

CLI_VARIABLES: Final = frozenset(
    PREFIX + name
    for name in (
        # Options of the other commands, which share the environment with the service.
        "ADVERTISE_PORT", "BAN", "BUDDY", "CAPSULE", "CONFIG", "CONTROL", "CONTROL_TOKEN", "DERIVATIVES", "EXPIRES", "EXPIRES_IN",
        "FIRST_COME", "FORCE", "HOME", "ID", "IF_EXISTS", "INLINE", "JSON", "KIND", "LISTEN", "MINE", "NAME", "NOW",
        "NO_WAIT", "OF", "OPTION", "OUTPUT", "OWNER", "PARALLEL", "PRINCIPAL", "PRIORITY", "RATE", "RECURSIVE",
        "REPORT_PORT", "SCOPE", "SERVER", "SINCE", "SLOTS", "SOULSEEK_PASSWORD", "STATUS", "TIMEOUT", "TO", "TOKEN",
        "TYPE", "URL", "USER", "USER_RATE", "WAIT",
    )
)  # fmt: skip
"""`HAULIER_` variables that the service leaves to the rest of the command line."""


SECRET: Final = frozenset({"webhooks", "hooks"})
"""Settings whose value is never shown."""
_SECRET_WORD: Final = re.compile("key|pass|secret|token", re.IGNORECASE)
"""What the name of a secret has in it, rightly spelt or not."""


class Settings(BaseSettings):
    """Everything that can be set on the service; frozen. Each description says what is expected.

    Made by `load_settings`; tests and embedding programs may construct it, and then get pydantic's own
    ValidationError for bad values.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, validate_default=False
    )

    host: Annotated[str, Field(min_length=1, description="an address or name to listen on")] = "127.0.0.1"
    port: Annotated[Whole, Field(ge=0, le=65535, description="a port, 0 (any free one) to 65535")] = 8000
    data_dir: Annotated[Path, Field(description="a directory, made when it is missing")] = Path(".storage")
    workers: Annotated[
        Whole, Field(ge=1, le=MAX_WORKERS, description=f"a number of processes, 1 to {MAX_WORKERS}")
    ] = 1
    cors_origin: Annotated[
        Words, Field(description="origins like https://app.example or http://127.0.0.1:3000")
    ] = ()
    local_users: Annotated[bool, Field(description="true or false")] = False
    open: Annotated[bool, Field(description="true or false")] = False
    require_tokens: Annotated[bool, Field(description="true or false")] = False
    allowed_host: Annotated[Words, Field(description="names like files.example or files.example:8000")] = ()
    no_transfers: Annotated[bool, Field(description="true or false")] = False
    database_url: Annotated[
        str | None, Field(description="sqlite:///PATH or postgresql://USER@HOST/NAME")
    ] = None
    storage_url: Annotated[str | None, Field(description="file:///PATH")] = None
    public_url: Annotated[
        str | None,
        Field(description="a URL like https://files.example, maybe with a path that is none of ours"),
    ] = None
    trusted_proxies: Annotated[
        Words, Field(description="addresses or networks of proxies, like 127.0.0.1 or 10.0.0.0/8")
    ] = ()
    webhooks: Annotated[
        Webhooks,
        Field(
            description="a list of {name, url, secrets, kinds, private}: names that differ, https URLs (http with "
            "private = true), secrets like whsec_ and base64 of 24 to 64 bytes"
        ),
    ] = ()
    hooks: Annotated[
        HookSettings,
        Field(
            description="a list of up to 8 {on, url, secrets, fail, timeout_s, private, tells_path}: on begin or finish, fail open "
            "or closed, url and secrets as in webhooks"
        ),
    ] = ()
    jobs: Annotated[
        Literal["in-process"], Field(description="in-process; procrastinate comes in a later version")
    ] = "in-process"
    image_processes: Annotated[
        Whole,
        Field(
            ge=0, le=MAX_WORKERS, description="processes that make small pictures, 0 (none are made) to 256"
        ),
    ] = 2
    durability: Annotated[Literal["process", "power"], Field(description="process or power")] = "process"
    digest: Annotated[DigestName, Field(description=f"one of {', '.join(DigestName)}")] = DigestName.SHA_256
    log: Annotated[Literal["console", "json"], Field(description="console or json")] = "console"
    home: Annotated[Path | None, Field(description="a directory for remotes and the journal")] = None
    journal: Annotated[Path | None, Field(description="a file for the journal of transfers")] = None
    transfer_give_up_s: Annotated[
        Seconds, Field(ge=1, le=365 * DAY_S, description="seconds, 1 to 31536000 (a year)")
    ] = DAY_S
    bandwidth: Annotated[Rate, Field(description=RATE)] = None
    session_ttl_s: Annotated[
        Seconds, Field(ge=1, le=365 * DAY_S, description="seconds, 1 to 31536000 (a year)")
    ] = SESSION_TTL_S
    visitor_ttl_s: Annotated[
        Seconds, Field(ge=1, le=3650 * DAY_S, description="seconds, 1 to 315360000 (ten years)")
    ] = VISITOR_TTL_S
    max_active_sessions: Annotated[
        Whole | None, Field(ge=1, le=10**6, description="a number, 1 to 1000000")
    ] = None
    max_active_sessions_per_address: Annotated[Whole, Field(ge=0, le=10**6, description=_BODIES)] = (
        MAX_LIVE_OF_ADDRESS
    )
    rate_per_owner: Annotated[Seconds, Field(ge=0, le=10**6, description=_REQUESTS)] = 1000.0
    rate_per_address: Annotated[Seconds, Field(ge=0, le=10**6, description=_REQUESTS)] = 1000.0
    rate_of_failures: Annotated[
        Seconds, Field(ge=0, le=10**6, description="wrong tokens a minute, 0 (no limit) to 1000000")
    ] = 60.0
    max_bodies_per_owner: Annotated[Whole, Field(ge=0, le=10**6, description=_BODIES)] = 2048
    max_bodies_per_address: Annotated[Whole, Field(ge=0, le=10**6, description=_BODIES)] = 2048
    max_waits_per_owner: Annotated[Whole, Field(ge=0, le=10**6, description=_BODIES)] = 200
    max_waits_per_address: Annotated[Whole, Field(ge=0, le=10**6, description=_BODIES)] = 500
    min_body_speed: Annotated[
        Whole, Field(ge=0, le=MIB, description=f"bytes a second, 0 (no limit) to {MIB}")
    ] = 100
    max_upload_bytes: Annotated[Whole, Field(ge=1, le=MAX_SIZE, description=f"bytes, 1 to {MAX_SIZE}")] = (
        MAX_UPLOAD_BYTES
    )
    ingestion_max_bytes: Annotated[Whole, Field(ge=1, le=MAX_SIZE, description=f"bytes, 1 to {MAX_SIZE}")] = (
        MAX_BYTES
    )
    ingestion_dir: Annotated[
        Path,
        Field(description="a directory of its own inside the data directory, relative to it or absolute"),
    ] = Path("ingestion")
    ingestion_extensions: Annotated[Words, Field(description="extensions like .json, .csv, .png")] = (
        EXTENSIONS
    )
    min_free_bytes: Annotated[Whole, Field(ge=0, le=MAX_SIZE, description=f"bytes, 0 to {MAX_SIZE}")] = (
        MIN_FREE_BYTES
    )
    janitor_interval_s: Annotated[
        Seconds, Field(ge=0.1, le=DAY_S, description="seconds, 0.1 to 86400 (a day)")
    ] = JANITOR_INTERVAL_S
    retention_s: Annotated[
        Seconds, Field(ge=1, le=36500 * DAY_S, description="seconds, 1 to 3153600000 (a century)")
    ] = RETENTION_S
    events_for_s: Annotated[
        Seconds, Field(ge=1, le=36500 * DAY_S, description="seconds, 1 to 3153600000 (a century)")
    ] = EVENTS_FOR_S
    trash_for_s: Annotated[
        Seconds, Field(ge=0, le=36500 * DAY_S, description="seconds, 0 to 3153600000 (a century)")
    ] = TRASH_FOR_S
    chunk_size: Annotated[
        Whole,
        Field(ge=MIN_CHUNK, le=MAX_CLIENT_CHUNK, description=f"bytes, {MIN_CHUNK} to {MAX_CLIENT_CHUNK}"),
    ] = DEFAULT_CHUNK
    interim_responses: Annotated[bool, Field(description="true or false")] = True
    silent_body_s: Annotated[Seconds, Field(ge=0.1, le=3600, description="seconds, 0.1 to 3600")] = 60.0

    @property
    def root(self) -> Path:
        """The data directory, absolute and without symlinks."""
        return self.data_dir.expanduser().resolve()

    @property
    def database(self) -> str | Path:
        """Where the rows are, to be opened: the URL of a PostgreSQL database, or a file of SQLite."""
        url = self.database_url
        return url if url is not None and self.on_postgres else self.database_file

    @property
    def database_place(self) -> str:
        """Where the rows are, in words that may be printed."""
        return without_secrets(str(self.database)) if self.on_postgres else str(self.database_file)

    @property
    def on_postgres(self) -> bool:
        """Whether the rows are in PostgreSQL."""
        return self.database_url is not None and self.database_url.startswith("postgresql:")

    @property
    def database_file(self) -> Path:
        """Where SQLite keeps its rows, if it does."""
        if self.database_url is None:
            return self.root / "haulier.db"
        # Three slashes before a relative path, four before an absolute one: as SQLAlchemy has it.
        return Path(unquote(self.database_url.removeprefix("sqlite:///"))).resolve()

    @property
    def storage_dir(self) -> Path:
        """Where the disk sink keeps parts and blobs."""
        if self.storage_url is None:
            return self.root
        return Path(unquote(urlsplit(self.storage_url).path)).resolve()

    @property
    def tokens_required(self) -> bool:
        """Whether nobody is served without a token, whether or not there are any."""
        return self.require_tokens or self.public_url is not None or bool(self.trusted_proxies)

    @property
    def storage_setting(self) -> str:
        """The setting that says where the disk sink keeps parts and blobs."""
        return "data_dir" if self.storage_url is None else "storage_url"

    @property
    def ingestion_path(self) -> Path:
        """Where files that come by forms are kept, as configured; whoever makes it judges whether it is inside."""
        return self.storage_dir / self.ingestion_dir.expanduser()

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return is_loopback(self.host)

    @field_validator("ingestion_extensions")
    @classmethod
    def _extensions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(re.fullmatch(r"\.[a-z0-9]{1,16}", text.lower()) for text in value):
            raise ValueError("not extensions")
        return tuple(text.lower() for text in value)

    @field_validator("data_dir", "home", "journal", "ingestion_dir", mode="before")
    @classmethod
    def _usable_path(cls, value: object) -> object:
        if value == "":  # Python's word for the directory that we are in, and nobody else's
            raise ValueError("a path is not empty")
        if "\0" in str(value):
            raise ValueError("a path has no NUL")
        return value

    @field_validator("cors_origin")
    @classmethod
    def _canonical_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(canonical_origin(origin) for origin in value)

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str | None) -> str | None:
        if value is None or value.startswith("postgresql://"):
            return value
        path = unquote(value.removeprefix("sqlite:///"))
        if not value.startswith("sqlite:///") or not path.strip("/") or path == ":memory:" or "\0" in path:
            raise ValueError("neither a SQLite file nor a PostgreSQL database")
        if "?" in value or "#" in value:
            raise ConfigError(
                "database_url",
                value,
                "sqlite:///PATH with %3F for ? and %23 for #, and nothing behind the path",
            )
        return value

    @field_validator("webhooks")
    @classmethod
    def _distinct_names(cls, value: tuple[Webhook, ...]) -> tuple[Webhook, ...]:
        if len({webhook.name for webhook in value}) < len(value):
            raise ValueError("two webhooks have one name")
        return value

    @field_validator("storage_url")
    @classmethod
    def _only_files(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if value.startswith("s3:"):
            raise ConfigError(
                "storage_url", without_secrets(value), "file:///PATH; S3 comes in a later version"
            )
        parts = urlsplit(value)
        if parts.scheme != "file" or parts.netloc or not parts.path.strip("/") or "\0" in unquote(parts.path):
            raise ValueError("not a local directory")
        if "?" in value or "#" in value:
            raise ConfigError(
                "storage_url", value, "file:///PATH with %3F for ? and %23 for #, and nothing behind the path"
            )
        return value

    @field_validator("allowed_host")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(canonical_name(name) for name in value)

    @field_validator("public_url")
    @classmethod
    def _canonical_address(cls, value: str | None) -> str | None:
        return None if value is None else canonical_address(value)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(canonical_network(text) for text in value)

    @model_validator(mode="after")
    def _open_mode_is_local(self) -> "Settings":
        # Whether there are tokens is known to the database only; whoever starts the service asks it.
        if self.open and self.tokens_required:
            raise ConfigError(
                "open",
                "true",
                "false: public_url, trusted_proxies and require_tokens mean that nobody is served without a token",
            )
        return self


def require_closed(settings: Settings, *, tokens: bool) -> Settings:
    """Return the settings of a service whose database has tokens, or none.

    Raises:
        ConfigError: everybody who reaches the address could do everything, and nobody said so.
    """
    if tokens:
        # Where there are tokens, they are required; `open` was said when there were none.
        return settings.model_copy(update={"require_tokens": True, "open": False})
    if settings.loopback or settings.open or settings.require_tokens:
        return settings
    raise ConfigError(
        "host",
        settings.host,
        "127.0.0.1, ::1 or localhost while there are no tokens; make one with haulier token create. To let everybody "
        "who reaches this address read and write everything, say --open",
    )


def load_settings(flags: Mapping[str, object] | None = None, *, config: Path | None = None) -> Settings:
    """Return the settings of this process.

    Args:
        flags: what the command line says, by setting name; None means that the flag was not given.
        config: a TOML file whose keys are setting names.

    Raises:
        ConfigError: an unknown key, a value that cannot work, or a file that cannot be read.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    config = config or _config_from_environment()
    file = {} if config is None else _read_file(config)
    _refuse_unknown_variables(os.environ)  # noqa: TID251 - rule 1
    try:
        return _build(given, file)
    except ConfigError as error:
        raise ConfigError(_place(error.setting, given, config), error.value, error.expected) from None
    except ValidationError as error:
        raise _as_config_error(error, given, config) from None


def settings_from_text(text: str) -> Settings:
    """Return the settings that `model_dump_json` wrote, whatever the environment says by now."""
    return Settings(**json.loads(text))


def _build(flags: Mapping[str, object], file: dict[str, Any]) -> Settings:
    class Layered(Settings):
        @classmethod
        def settings_customise_sources(  # noqa: PLR0917 - pydantic's interface
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's interface
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's interface
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, file)

    return cast("type[Any]", Layered)(**flags)  # type: ignore[no-any-return]  # keyword names are checked by pydantic


def _config_from_environment() -> Path | None:
    name = os.environ.get(PREFIX + "CONFIG")  # noqa: TID251 - rule 1
    return Path(name) if name else None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("config", str(path), f"a file that can be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config", str(path), f"a TOML file ({error})") from error


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for variable in sorted(environment):
        if variable.startswith(PREFIX) and variable not in known | CLI_VARIABLES:
            name = variable.removeprefix(PREFIX).lower()
            raise ConfigError(
                variable, _shown_unknown(name, environment[variable]), _no_such(variable, known)
            )


def _no_such(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return "there is no such setting" + (f"; did you mean {close[0]}?" if close else "")


def _as_config_error(error: ValidationError, flags: Mapping[str, object], config: Path | None) -> ConfigError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    place = _place(name, flags, config)
    if first["type"] == "extra_forbidden":
        return ConfigError(place, _shown_unknown(name, first["input"]), _no_such(name, Settings.model_fields))
    description = Settings.model_fields[name].description
    return ConfigError(place, "***" if name in SECRET else _shown(first["input"]), f"expected {description}")


def _place(name: str, flags: Mapping[str, object], config: Path | None) -> str:
    """Return the setting as the operator wrote it."""
    variable = PREFIX + name.upper()
    if name in flags:
        return "--" + name.replace("_", "-")
    if os.environ.get(variable):  # noqa: TID251 - rule 1
        return variable
    return name if config is None else f"{name} in {config}"


def _shown_unknown(name: str, value: object) -> str:
    """Return the value of what is no setting, unless it may be a secret under a misspelt name."""
    secret = difflib.get_close_matches(name, SECRET) or _SECRET_WORD.search(name)
    return "***" if secret else _shown(value)


def _shown(value: object) -> str:
    return without_secrets(value) if isinstance(value, str) else str(value)
