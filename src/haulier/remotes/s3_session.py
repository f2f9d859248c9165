"""botocore's short calls, with a bound on what is read of an answer: whoever is in the service's place may be endless."""

from typing import Any, Final

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp import ClientError
from botocore.exceptions import ConnectionClosedError, HTTPClientError, ReadTimeoutError

MIB: Final = 1024 * 1024
MAX_LISTING: Final = 4 * MIB
"""Bytes of an answer that are read: a listing has 1000 keys of 1024 bytes at most, which may be percent-encoded."""
PIECE: Final = 64 * 1024


class AnswerTooLong(HTTPClientError):  # type: ignore[misc]  # the library has no types
    """The answer has no end that we would wait for."""

    fmt = "The answer of {endpoint_url} is too long"


class BoundedSession(AIOHTTPSession):  # type: ignore[misc]  # as above
    """Reads `MAX_LISTING` bytes of an answer at most."""

    async def send(self, request: Any) -> AioAWSResponse:
        """Send a request and read its whole answer. Raises HTTPClientError."""
        request.stream_output = True  # so that the library does not read it, for it reads without a bound
        answer = await super().send(request)
        try:
            body = await _read(answer.raw, request.url)
        except ClientError as error:
            raise ConnectionClosedError(error=error, request=request, endpoint_url=request.url) from error
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
        return AioAWSResponse(answer.url, answer.status_code, answer.headers, _Whole(body))


async def _read(incoming: Any, url: str) -> bytes:
    body = bytearray()
    # Left early, for whatever reason, its connection is closed.
    async with incoming:
        async for piece in incoming.content.iter_chunked(PIECE):
            body += piece
            if len(body) > MAX_LISTING:
                incoming.close()
                raise AnswerTooLong(endpoint_url=url, error="")
    return bytes(body)


class _Whole:
    """A body that has been read."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        """Return it."""
        return self._body
