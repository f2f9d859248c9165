"""Status 104, "Upload Resumption Supported": where an upload goes on, and how far it has come, before its answer.

Source: draft-ietf-httpbis-resumable-upload, sections "Status Code 104" and "Draft Version Identification".
"""

from collections.abc import Mapping
from typing import Final

from starlette.types import Scope

from haulier.server.addresses import fields_of
from haulier.server.http.asgi import INTERIM_EXTENSION, Interim

STATUS: Final = 104
VERSION: Final = "Upload-Draft-Interop-Version"
_FIELD: Final = VERSION.lower().encode("ascii")
SPOKEN: Final = {str(number): number for number in (3, 4, 5, 6, 7, 8)}
"""The interop versions of the draft whose clients are answered in their own words; how is in `resumable.versions`."""


def spoken_version(scope: Scope) -> int | None:
    """Return the interop version that a request names, if we speak it."""
    fields = fields_of(scope)
    return SPOKEN.get(", ".join(fields[_FIELD])) if _FIELD in fields else None


def send_resumption(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Send a 104, if the server can and the client reads it; return whether it was sent.

    Source: servers MUST NOT send it when the request's version is missing or mismatching, and MUST name theirs in it.
    """
    version = spoken_version(scope)
    interim: Interim | None = scope.get("extensions", {}).get(INTERIM_EXTENSION)
    if interim is None or version is None:
        return False
    fields = {**headers, VERSION: str(version)}
    interim(STATUS, [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in fields.items()])
    return True
