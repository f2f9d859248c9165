"""Who calls: what every guard leaves in a request, and what is open to everybody.

Rule 1: a guard judges every request before its body is read, and puts the `Caller` into its scope.
Rule 2: what is open to everybody is listed here, route by route; what is not listed is closed.
"""

from typing import Final

from starlette.requests import Request
from starlette.types import Scope

from haulier.core.caller import Caller
from haulier.core.caller import Scope as TokenScope
from haulier.core.visitor import VISITOR
from haulier.server.addresses import headers_named, route_path

CALLER: Final = "haulier.caller"
"""In the scope of a request that was let in: its `Caller`."""
NOBODY: Final = Caller(owner=VISITOR, scope=TokenScope.READ)
"""Who calls without being anybody, where that may be: owns nothing, because no visitor's id is empty."""
PROBES: Final = frozenset({"/healthz", "/readyz"})
"""For machines that watch the service: no rule of any guard holds here, and nothing is told but whether it works."""
DOCUMENTS: Final = frozenset({"/openapi.json"})
LINKS: Final = "/links/"
"""What stands before the text of a link."""
DOCUMENT_FOLDERS: Final = frozenset({"/errors/", "/page/"})
"""With tokens, documents need none: whoever is refused may read what that means. They are the same everywhere."""
TUS: Final = "/tus"
RESUMABLE: Final = "/resumable"
"""What is spoken at and below these addresses is told to everybody who asks by OPTIONS."""


def caller_of(request: Request) -> Caller:
    """Return who makes a request, as the guard in front of the routes judged."""
    caller: Caller = request.scope[CALLER]
    return caller


def is_probe(scope: Scope) -> bool:
    """Whether a request asks if the service works."""
    return route_path(scope) in PROBES


def is_document(scope: Scope) -> bool:
    """Whether a request reads what is the same for everybody."""
    path = route_path(scope)
    if scope["method"] == "OPTIONS":
        # Another method that a header means instead is judged as itself.
        plain = not headers_named(scope, b"x-http-method-override")
        return plain and any(path == root or path.startswith(f"{root}/") for root in (TUS, RESUMABLE))
    folder, slash, name = path.rpartition("/")
    public = path in DOCUMENTS or (f"{folder}{slash}" in DOCUMENT_FOLDERS and bool(name))
    return public and scope["method"] in {"GET", "HEAD"}


def is_link(scope: Scope) -> bool:
    """Whether a request follows a link, which itself says that it may."""
    return route_path(scope).startswith(LINKS) and scope["method"] in {"GET", "HEAD"}


def is_preflight(scope: Scope) -> bool:
    """Whether a browser asks what it may ask; it sends no credentials with that.

    Source: the WHATWG Fetch standard, section "CORS-preflight fetch".
    """
    return scope["method"] == "OPTIONS" and bool(headers_named(scope, b"access-control-request-method"))
