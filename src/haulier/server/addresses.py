"""Under which address a client reaches us, and what links are built from.

Rule 1: links name the host that the client itself used. In open mode the guard has checked that name;
        where nobody has, an absurd one is not repeated.
"""

import re
from typing import Final
from urllib.parse import quote

from starlette.types import Scope

_HOST: Final = re.compile(
    r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?", re.ASCII
)


def headers_named(scope: Scope, name: bytes) -> list[str]:
    """Return all values of a header; `name` in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def header(scope: Scope, name: bytes) -> str | None:
    """Return a header's value, its repetitions joined by commas as RFC 9110 section 5.3 reads them."""
    values = headers_named(scope, name)
    return ", ".join(values) if values else None


def base_url(scope: Scope) -> str:
    """Return what stands before our paths, without a slash at its end."""
    hosts = headers_named(scope, b"host")
    if len(hosts) != 1 or _HOST.fullmatch(hosts[0]) is None:
        return socket_url(scope)
    return f"{scope.get('scheme', 'http')}://{hosts[0]}{quote(scope.get('root_path', ''))}"


def socket_url(scope: Scope) -> str:
    """Return what stands before our paths by the socket's own address, whatever the client says."""
    return f"{scope.get('scheme', 'http')}://{server_address(scope)}{quote(scope.get('root_path', ''))}"


def server_address(scope: Scope) -> str:
    """Return the socket's own address, as it is written in URLs."""
    server = scope.get("server") or ("localhost", None)
    host = f"[{server[0]}]" if ":" in server[0] else server[0]
    return host if server[1] is None else f"{host}:{server[1]}"
