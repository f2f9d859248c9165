"""Under which address a client reaches us, and what links are built from.

Rule 1: where the operator says our public address, links name that one, whatever a request says.
Rule 2: else they name the host that the client itself used. The guard has checked that name; where nobody has, an
        absurd one is not repeated.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from starlette.types import Scope

PUBLIC_URL: Final = "haulier.public_url"
"""In the scope where the operator gave it: our public address, without a slash at its end."""
PREFIX: Final = "haulier.prefix"
"""In the scope where a trusted proxy gave it: what it takes away from the beginning of every path."""
_FIELDS: Final = "haulier.fields"
"""In the scope: its list of headers, and what `fields_of` made of that."""

Fields = Mapping[bytes, Sequence[str]]
"""Headers by their names in lower case, each with all of its values."""

_HOST: Final = re.compile(
    r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?", re.ASCII
)


def fields_of(scope: Scope) -> Fields:
    """Return a request's headers; they are read once.

    A request is asked for some twenty, of which it has few: who looks for several takes all of them from here.

    White space around a value is no part of it (RFC 9110 section 5.5); not every parser takes it off.
    """
    read: tuple[object, Fields] | None = scope.get(_FIELDS)
    headers = scope["headers"]
    if read is not None and read[0] is headers:  # whoever changes headers makes a list of its own
        return read[1]
    fields: dict[bytes, list[str]] = {}
    for name, value in headers:
        text = value.decode("latin-1").strip(" \t")
        if name in fields:
            fields[name].append(text)
        else:
            fields[name] = [text]
    scope[_FIELDS] = (headers, fields)
    return fields


def headers_named(scope: Scope, name: bytes) -> Sequence[str]:
    """Return all values of a header; `name` in lower case."""
    return fields_of(scope).get(name, ())


def joined(fields: Fields, name: bytes) -> str | None:
    """Return a header's value, its repetitions joined by commas as RFC 9110 section 5.3 reads them."""
    values = fields.get(name)
    return None if values is None else ", ".join(values)


def header(scope: Scope, name: bytes) -> str | None:
    """Return the value of one header of a request, as `joined` does."""
    return joined(fields_of(scope), name)


def route_path(scope: Scope) -> str:
    """Return the path as our routes are written: without what stands before it where we are mounted.

    Source: Starlette matches its routes by the same rule.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def base_url(scope: Scope) -> str:
    """Return what stands before our paths, without a slash at its end."""
    public: str | None = scope.get(PUBLIC_URL)
    if public is not None:
        return public
    hosts = fields_of(scope).get(b"host", ())
    if len(hosts) != 1 or _HOST.fullmatch(hosts[0]) is None:
        return socket_url(scope)
    return f"{scope.get('scheme', 'http')}://{hosts[0]}{_prefix(scope)}"


def socket_url(scope: Scope) -> str:
    """Return what stands before our paths by the socket's own address, whatever the client says."""
    return f"{scope.get('scheme', 'http')}://{server_address(scope)}{_prefix(scope)}"


def server_address(scope: Scope) -> str:
    """Return the socket's own address and port, as they are written in URLs."""
    server = scope.get("server") or ("localhost", None)
    name = server_name(scope)
    return name if server[1] is None else f"{name}:{server[1]}"


def server_name(scope: Scope) -> str:
    """Return the socket's own address, as it is written in URLs."""
    name: str = (scope.get("server") or ("localhost", None))[0]
    return f"[{name}]" if ":" in name else name


def _prefix(scope: Scope) -> str:
    prefix: str = scope.get(PREFIX, "") + scope.get("root_path", "")
    return quote(prefix) if prefix else prefix
