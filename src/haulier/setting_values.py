"""How single values of settings are read, beyond what pydantic does by itself.

Rule 1: what cannot be used raises ValueError; who knows the setting says what is expected.
"""

import re
from ipaddress import ip_network
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from haulier.core.quantity import read_rate

_OWN_PATHS: Final = frozenset({"api", "errors", "healthz", "metrics", "openapi.json", "readyz"})
_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+", re.ASCII)
_NAME: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)


def _no_boolean(value: object) -> object:
    # Python's True is an int; a TOML file that says `port = true` does not mean port 1.
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")  # noqa: TRY004 - pydantic reports ValueError only
    return value


def _split(value: object) -> object:
    # The environment has no lists: there, commas or blanks separate the items.
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _rate(value: object) -> object:
    return read_rate(value) if isinstance(value, str) else value or None


Whole = Annotated[int, BeforeValidator(_no_boolean)]
Seconds = Annotated[float, BeforeValidator(_no_boolean), Field(allow_inf_nan=False)]
Rate = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_rate), BeforeValidator(_no_boolean)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


def canonical_origin(text: str) -> str:
    """Return an origin as browsers write it: lower case, without the scheme's own port.

    Raises:
        ValueError: not an http or https origin; `*` and `null` are none.
    """
    parts = urlsplit(text)
    port = parts.port
    extra = parts.path.rstrip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in {"http", "https"} or not parts.hostname or extra:
        raise ValueError("not an origin")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in {None, usual} else "")


def canonical_address(text: str) -> str:
    """Return an address that links begin with: an origin, maybe with a path, without a slash at its end.

    Raises:
        ValueError: it is none, or its path is one of the service's own.
    """
    parts = urlsplit(text)
    path = parts.path.rstrip("/")
    if parts.query or parts.fragment or (path and _PATH.fullmatch(path) is None):
        raise ValueError("not an address")
    if path and path.split("/")[1] in _OWN_PATHS:
        raise ValueError("the service has paths of its own there")
    return canonical_origin(f"{parts.scheme}://{parts.netloc}") + path


def canonical_name(text: str) -> str:
    """Return a name as it may stand in `Host`, maybe with a port.

    Raises:
        ValueError: it is none.
    """
    if _NAME.fullmatch(text) is None:
        raise ValueError("not a name")
    return text.lower()


def canonical_network(text: str) -> str:
    """Return an address or a network as a network.

    Raises:
        ValueError: it is none; a network's address has no bits beyond its mask.
    """
    return str(ip_network(text))


def without_secrets(url: str) -> str:
    """Return a value that may be printed: what stands before the host of a URL may be a password."""
    if "=" in url and "://" not in url:
        # Words of libpq, where it takes a URL as well: `host=db password=...`.
        return "***"
    if not set(url) & set("@?#"):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"
    host = parts.netloc.rpartition("@")[2]
    netloc = f"***@{host}" if "@" in parts.netloc else host
    query = "&".join(_without_secret(pair) for pair in parts.query.split("&"))
    return urlunsplit(SplitResult(parts.scheme, netloc, parts.path, query, parts.fragment and "***"))


def _without_secret(pair: str) -> str:
    """Return an option of a URL: a password may stand among them, too, under whatever name."""
    name, equals, _ = pair.partition("=")
    return pair if name in _NO_SECRETS else f"{name}=***" if equals else "***" * bool(pair)


_NO_SECRETS: Final = frozenset(
    {
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "sslmode",
        "sslrootcert",
        "connect_timeout",
        "application_name",
    }
)
"""Options of libpq that people look for."""
