"""botocore's short calls, sent as all of ours are: one way to certificates, proxies, redirects and bounds.

botocore signs requests and reads answers; what stands between is not its own client's, which follows redirects.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Self

from aiobotocore.awsrequest import AioAWSResponse

from haulier.body.answers import Answer
from haulier.core.quantity import MIB
from haulier.remotes.s3_clock import ServerClock

MAX_LISTING: Final = 4 * MIB
"""Bytes of an answer that are read: a listing has 1000 keys of 1024 bytes at most, which may be percent-encoded."""
NOT_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "expect"})
"""Fields of botocore's that say what the body writer says."""

Send = Callable[[str, str, Mapping[str, str], bytes], Awaitable[Answer]]
"""Sends method, address, fields and body; raises PeerError."""


class OwnSession:
    """What botocore takes for an HTTP client.

    Args:
        send: of the remote; its connections are its own.
        clock: what requests are signed by.
        settings: what botocore would have its client do about certificates, proxies and times; `send` knows better.
    """

    def __init__(self, send: Send, clock: ServerClock, **settings: Any) -> None:
        self._send = send
        self._clock = clock
        del settings

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def close(self) -> None:
        """Do nothing: nothing here is to be closed."""

    async def send(self, request: Any) -> AioAWSResponse:
        """Send a request and read its whole answer. Raises PeerError; of these ClockFollowed may be tried again at once."""
        fields = {
            name: _text(value) for name, value in request.headers.items() if name.lower() not in NOT_OURS
        }
        answer = await self._send(request.method, request.url, fields, _bytes(request.body))
        self._clock.check(answer, fields.get("X-Amz-Date"))
        return AioAWSResponse(request.url, answer.status_code, dict(answer.headers), _Whole(answer.content))


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode("utf-8")
    return bytes(body) if isinstance(body, bytes | bytearray) else bytes(body.read())


class _Whole:
    """A body that has been read."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        """Return it."""
        return self._body
