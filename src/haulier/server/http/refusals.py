"""What is answered to bytes that never became a request: problems too, like those of the application.

Rule 1: nothing that could not be read is repeated, and nobody's name is taken for ours: the answer is built from our own
        words and our own address.
"""

from typing import Final

from starlette.types import Scope

from haulier.core.errors import InvalidRequest, RequestError
from haulier.core.upload import MAX_FILENAME
from haulier.server.errors import TargetTooLong
from haulier.server.http.asgi import Headers
from haulier.server.http.transport import final_response
from haulier.server.problems import problem_response

FILES: Final = b"/api/files/"
"""What stands before a file's name in a request target."""


def refuse_target(target: bytes, limit: int) -> RequestError:
    """Return the refusal of a request target of which more than `limit` bytes have come.

    A file's name is a field of a request, whatever its length: too long by a byte or by 64 KiB, it is refused in the
    same way. Any other target is answered as RFC 9112 section 3 demands.
    """
    if not target.startswith(FILES):
        return TargetTooLong(limit)
    reason = (
        f"must be at most {MAX_FILENAME} bytes of UTF-8, and the request target with it at most {limit} bytes"
    )
    return InvalidRequest.of("filename", reason)


def refusal(
    error: RequestError, server: tuple[str, int | None] | None, headers: Headers, *, instance: str
) -> bytes:
    """Return the whole answer that tells `error`.

    Args:
        error: why there is no request to be answered.
        server: our end of the connection, under which the problem's page is served.
        headers: those that the server gives every answer.
        instance: the name of this refusal, by which it is found in the log.
    """
    scope: Scope = {"headers": [], "scheme": "http", "server": server}
    response = problem_response(scope, error, instance=instance)
    return final_response(response.status_code, [*headers, *response.raw_headers], bytes(response.body))
