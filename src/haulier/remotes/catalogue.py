"""Which kinds of remotes there are, what can be set for each, and how one is made from its settings.

Rule 1: a setting that nobody reads is an error, not a wish: it is told with the names that are known.
Rule 2: an error never tells the value of an option or a secret that is not known: it may be a secret that was
        put in the wrong place.
Rule 3: what a remote needs beyond the base package is imported when such a remote is made, and named when missing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from haulier.core.errors import ConfigError, DigestMalformed, InvalidRequest
from haulier.core.secret import Secret
from haulier.core.text import is_field_name, is_field_value
from haulier.core.values import dataclass
from haulier.remotes.calls import check_address, check_base_url
from haulier.sending_ports import Remote

if TYPE_CHECKING:
    import ssl

    from haulier.core.digest import DigestName
    from haulier.remotes.microsoft import MicrosoftTokens
    from haulier.remotes.onedrive_drive import Tokens

T = TypeVar("T")

_BUCKET: Final = re.compile(r"[a-zA-Z0-9._-]{1,255}|arn:[\x21-\x7e]+")
_REGION: Final = re.compile(r"(?![0-9]+$)[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")
"""What botocore signs for; services that are not Amazon's have older rules for names than Amazon."""
MAX_PARALLEL: Final = 16
"""Parts of one file at once; more only wait for each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSettings:
    """One remote as it was set up."""

    name: str
    type: str
    url: str
    options: Mapping[str, str] = field(default_factory=dict)
    """As given with `--option key=value`."""
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    """Kept apart from the rest: `token` for haulier and tus, `access_key` and `secret_key` for s3, `client_secret`
    for onedrive."""
    tokens: Path | None = field(default=None, compare=False)
    """Where tokens of a sign-in are kept; in memory only when not given."""


def _haulier(settings: RemoteSettings) -> Remote:
    from haulier.remotes.haulier import HaulierRemote  # noqa: PLC0415 - rule 3

    return HaulierRemote(
        settings.url,
        token=settings.secrets.get("token"),
        capsule=settings.options.get("capsule", "default"),
        digest=_digest(settings),
        tls=trusted_by(settings),
    )


def _s3(settings: RemoteSettings) -> Remote:
    try:
        from haulier.remotes.s3 import S3Remote  # noqa: PLC0415 - rule 3
    except ImportError as error:
        raise _missing("s3", error) from error

    options, keys = settings.options, settings.secrets
    given = ("access_key" in keys, "secret_key" in keys)
    if any(given) and not all(given):
        raise ConfigError("secrets", "***", "s3 takes access_key and secret_key together, or neither")
    return S3Remote(
        settings.url,
        bucket=options["bucket"],
        region=options.get("region", "us-east-1"),
        prefix=options.get("prefix", ""),
        path_style=_yes_or_no(options, "path_style"),
        checksums=_checksums(settings),
        keys=(keys["access_key"], keys["secret_key"]) if all(given) else None,
        tls=trusted_by(settings),
    )


def _judge_s3(settings: RemoteSettings) -> None:
    check_base_url(settings.url)
    bucket, region = settings.options.get("bucket"), settings.options.get("region", "us-east-1")
    if not bucket:
        raise ConfigError("option bucket", "", "s3 needs the name of a bucket")
    if not _BUCKET.fullmatch(bucket):
        raise ConfigError(
            "option bucket", bucket, "it must be 1 to 255 letters, digits, . - and _, or an ARN"
        )
    if not _REGION.fullmatch(region):
        raise ConfigError("option region", region, "it must be letters, digits and -, such as eu-central-1")
    _yes_or_no(settings.options, "path_style")
    _checksums(settings)


def _checksums(settings: RemoteSettings) -> bool | None:
    return _choice(settings.options, "checksums", {"when_supported": True, "when_required": False})


def trusted_by(settings: RemoteSettings) -> "ssl.SSLContext | None":
    """Return what trusts the authority that was named with `ca`, and no other; None: those of the machine.

    Raises:
        ConfigError: there are no certificates.
    """
    place = settings.options.get("ca")
    if place is None:
        return None
    import ssl  # noqa: PLC0415 - rule 3

    path = Path(place)
    if not path.is_absolute():
        raise ConfigError("option ca", place, "it must be a whole path: what sends may run elsewhere")
    try:
        if path.is_dir():
            return ssl.create_default_context(capath=place)
        return ssl.create_default_context(cafile=place)
    except OSError as error:
        raise ConfigError(
            "option ca", place, f"it must be certificates in PEM, or a folder of them ({error})"
        ) from None


def _missing(extra: str, error: ImportError) -> ConfigError:
    return ConfigError("type", extra, f"{error.name} is not installed: pip install 'haulier[{extra}]'")


def _yes_or_no(options: Mapping[str, str], name: str) -> bool | None:
    return _choice(options, name, {"true": True, "yes": True, "false": False, "no": False})


def _number(options: Mapping[str, str], name: str, default: int, *, most: int) -> int:
    text = options.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= most):
        raise ConfigError(f"option {name}", text, f"it must be a number, 1 to {most}")
    return int(text)


def _choice(options: Mapping[str, str], name: str, values: Mapping[str, T]) -> T | None:
    text = options.get(name)
    if text is None:
        return None
    if text not in values:
        raise ConfigError(f"option {name}", text, f"it must be one of {', '.join(values)}")
    return values[text]


def _tus(settings: RemoteSettings) -> Remote:
    from haulier.remotes.tus import TusRemote  # noqa: PLC0415 - rule 3

    prefix = "header."
    return TusRemote(
        settings.url,
        headers={
            name.removeprefix(prefix): Secret(value)
            for name, value in settings.options.items()
            if name.startswith(prefix)
        },
        token=settings.secrets.get("token"),
        parallel=_parallel(settings),
        one_request=bool(_yes_or_no(settings.options, "one_request")),
        tls=trusted_by(settings),
    )


def _judge_tus(settings: RemoteSettings) -> None:
    check_address(settings.url)
    for option, value in settings.options.items():
        kind, _, header = option.partition(".")
        if kind != "header":
            continue
        if not is_field_name(header) or header.lower() in OUR_HEADERS:
            raise ConfigError(
                f"option {option}",
                "***",
                "it must be header.NAME, with the name of a header that is not ours",
            )
        if not is_field_value(value):
            raise ConfigError(f"option {option}", "***", CARRIED)
    _parallel(settings)
    _yes_or_no(settings.options, "one_request")


def _parallel(settings: RemoteSettings) -> int:
    return _number(settings.options, "parallel", 1, most=MAX_PARALLEL)


def _onedrive(settings: RemoteSettings) -> Remote:
    from haulier.remotes.onedrive import GRAPH, OneDriveRemote  # noqa: PLC0415 - rule 3

    options = settings.options
    return OneDriveRemote(
        _tokens(settings),
        drive_id=options.get("drive_id"),
        base_url=options.get("base_url") or settings.url or GRAPH,
        rewritten=_rewritten(options),
        tls=trusted_by(settings),
    )


def _rewritten(options: Mapping[str, str]) -> frozenset[str]:
    """Return the endings of files that may differ from what was sent."""
    from haulier.core.outgoing import VerifyMode, VerifyPolicy  # noqa: PLC0415 - rule 3

    text = options.get("verify", VerifyMode.STRICT)
    try:
        return VerifyPolicy.parse(text).extensions
    except InvalidRequest as error:
        raise ConfigError("verify", text, str(error)) from error


def _judge_onedrive(settings: RemoteSettings) -> None:
    options = settings.options
    check_base_url(settings.url)
    for name in ("base_url", "authority"):
        if name in options:
            check_base_url(options[name], field=f"option {name}")
    _choice(options, "drive_type", dict.fromkeys(DRIVE_TYPES, True))
    if ("token_command" in options) == ("login" in options):
        raise ConfigError(
            "option token_command",
            "",
            "onedrive needs token_command, a program that prints a token, or login, which is device or client",
        )
    if "login" in options:
        _judge_sign_in(options)


def _tokens(settings: RemoteSettings) -> "Tokens":
    from haulier.remotes.tokens import CommandTokens  # noqa: PLC0415 - rule 3

    command = settings.options.get("token_command")
    return _sign_in(settings) if command is None else CommandTokens(command)


def _sign_in(settings: RemoteSettings) -> "MicrosoftTokens":
    try:
        from haulier.remotes.microsoft import (  # noqa: PLC0415 - rule 3
            CLOUD,
            Application,
            MicrosoftTokens,
            authority_of,
        )
    except ImportError as error:
        raise _missing("onedrive", error) from error
    from haulier.remotes.onedrive import GRAPH  # noqa: PLC0415 - rule 3

    options = settings.options
    by_program = _by_program(options)
    if by_program and "client_secret" not in settings.secrets:
        raise ConfigError("secret client_secret", "", f"haulier remote login {settings.name} asks for it")
    graph = urlsplit(options.get("base_url") or settings.url or GRAPH)
    anybody = "consumers" if options.get("drive_type") == "personal" else "organizations"
    tenant = options.get("tenant", anybody)
    return MicrosoftTokens(
        Application(
            remote=settings.name,
            client_id=options["client_id"],
            authority=authority_of(options.get("authority", CLOUD), tenant),
            resource=f"{graph.scheme}://{graph.netloc}",
            secret=settings.secrets["client_secret"] if by_program else None,
            cache=settings.tokens,
            tls=trusted_by(settings),
        )
    )


def _by_program(options: Mapping[str, str]) -> bool:
    return bool(_choice(options, "login", {"device": False, "client": True}))


def _judge_sign_in(options: Mapping[str, str]) -> None:
    """Refuse what Microsoft would refuse later, in words that tell less."""
    by_program = _by_program(options)
    for name in ["client_id", *(["tenant", "drive_id"] if by_program else [])]:
        if not options.get(name):
            raise ConfigError(f"option {name}", "", f"login={options['login']} needs it")
    if by_program and options["tenant"] in {"common", "consumers", "organizations"}:
        raise ConfigError("option tenant", options["tenant"], "a program signs in at one tenant: name it")
    if by_program and options.get("drive_type") == "personal":
        raise ConfigError("option drive_type", "personal", "a program cannot sign in there: login=device")


def _judge_haulier(settings: RemoteSettings) -> None:
    check_base_url(settings.url)
    _digest(settings)


def _digest(settings: RemoteSettings) -> "DigestName":
    from haulier.core.digest import parse_digest_name  # noqa: PLC0415 - rule 3

    text = settings.options.get("digest", "sha-256")
    try:
        return parse_digest_name(text, field="digest")
    except DigestMalformed as error:
        raise ConfigError("digest", text, error.reason) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of remote."""

    make: Callable[[RemoteSettings], Remote]
    """Of settings that were judged."""
    judge: Callable[[RemoteSettings], None]
    """Refuses values that cannot work, as far as that needs neither secrets nor extras; reads them for that alone."""
    options: frozenset[str]
    secrets: frozenset[str]


OUR_HEADERS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
"""What says where a request goes and where it ends."""
CARRIED: Final = "it must be printable ASCII characters, without spaces around them"
DRIVE_TYPES: Final = ("personal", "business", "documentLibrary")
"""As Graph calls them. A personal one is signed in for among consumers, others in an organisation."""
COMMON: Final = frozenset({"verify", "slots", "ca"})
"""Options of every kind: how to compare and transfers at once, which are the manager's; whose certificates are trusted."""
KINDS: Final[Mapping[str, Kind]] = {
    "haulier": Kind(
        make=_haulier,
        judge=_judge_haulier,
        options=frozenset({"capsule", "digest"}),
        secrets=frozenset({"token"}),
    ),
    "tus": Kind(
        make=_tus,
        judge=_judge_tus,
        options=frozenset({"header", "parallel", "one_request"}),
        secrets=frozenset({"token"}),
    ),
    "s3": Kind(
        make=_s3,
        judge=_judge_s3,
        options=frozenset({"bucket", "region", "prefix", "path_style", "checksums"}),
        secrets=frozenset({"access_key", "secret_key"}),
    ),
    "onedrive": Kind(
        make=_onedrive,
        judge=_judge_onedrive,
        options=frozenset(
            {
                "drive_id",
                "drive_type",
                "base_url",
                "token_command",
                "login",
                "client_id",
                "tenant",
                "authority",
            }
        ),
        secrets=frozenset({"client_secret"}),
    ),
}


def check_settings(settings: RemoteSettings) -> None:
    """Refuse settings that no remote can be made of.

    Raises:
        ConfigError: an unknown type, option or secret, where it names those that are known; or a value that cannot work.
            Secrets may still be missing: they are given later.
    """
    kind = KINDS.get(settings.type)
    if kind is None:
        raise ConfigError("type", settings.type, f"it must be one of {', '.join(KINDS)}")
    for name in settings.options:
        # tus has a family of them: header.NAME.
        if name.split(".", 1)[0] not in kind.options | COMMON:
            known = ", ".join(sorted(kind.options | COMMON))
            raise ConfigError(f"option {name}", "***", f"{settings.type} knows {known}")
    for name in settings.secrets:
        if name not in kind.secrets:
            known = ", ".join(sorted(kind.secrets)) or "none"
            raise ConfigError(f"secret {name}", "***", f"{settings.type} takes {known}")
        if not is_field_value(settings.secrets[name].reveal()):
            raise ConfigError(f"secret {name}", "***", CARRIED)
    kind.judge(settings)


def takes_secret(kind: str, name: str) -> bool:
    """Whether a kind of remote has a use for a secret of that name."""
    return kind in KINDS and name in KINDS[kind].secrets


def secrets_of(settings: RemoteSettings) -> list[str]:
    """Return the names of the secrets that a remote, as it is set up, has a use for."""
    if settings.type == "onedrive" and settings.options.get("login") != "client":
        return []
    return sorted(KINDS[settings.type].secrets)


def sign_in_of(settings: RemoteSettings) -> "MicrosoftTokens | None":
    """Return what signs in for a remote; None where nothing has to.

    Raises:
        ConfigError: as `make_remote`.
    """
    check_settings(settings)
    return _sign_in(settings) if "login" in settings.options else None


def make_remote(settings: RemoteSettings) -> Remote:
    """Return the remote; nothing is asked of it yet. It is to be made inside the event loop, and closed.

    Raises:
        ConfigError: as `check_settings`; or a value cannot be used; or an extra is not installed.
    """
    check_settings(settings)
    return KINDS[settings.type].make(settings)
