"""Signed HTTP requests to an address that the operator has set.

Rule 1: where a request goes is decided once, by the setting: redirects are failures, and never followed.
Rule 2: the address is resolved here, judged, and connected to as it was judged, so that a name that changes in between
        leads nowhere else. Addresses that are not public are refused unless the target says `private`; link-local
        ones, where clouds keep their secrets, always are.
Rule 3: a connection carries one request. Connections are told apart by the address that they lead to, not by the name
        that their certificate was verified for, so one that is used again could belong to another name.
Rule 4: of an answer no more is read than its reader asks for.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import httpx2

from haulier.core.retry import parse_retry_after
from haulier.core.values import dataclass
from haulier.core.webhook import sign_webhook
from haulier.machine import Clock

TIMEOUT_S: Final = 15.0
"""From the look-up of the name to the answer. Source: Standard Webhooks, 15 to 30 seconds."""

MAX_ADDRESSES: Final = 4
"""Of one name, tried in turn: two families, two machines each. Each gets its share of the time."""

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


class PostFailed(Exception):
    """There was no good answer; a signal inside the adapters, never shown. Its words hold no address."""

    def __init__(self, reason: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where requests go."""

    url: str = field(repr=False)
    """May hold a secret."""
    keys: tuple[bytes, ...] = field(repr=False)
    """Each of them signs, so that one can be replaced while receivers still know the other."""
    private: bool = False
    timeout_s: float = TIMEOUT_S


async def resolve(host: str, port: int) -> Sequence[Address]:
    """Return the addresses of a name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(str(place[0]).partition("%")[0]) for *_, place in found]


def require_allowed(address: Address, *, private: bool) -> None:
    """Check that a request may go there.

    Raises:
        PostFailed: it may not.
    """
    plain = getattr(address, "ipv4_mapped", None) or address
    if plain.is_link_local or plain.is_multicast or plain.is_unspecified:
        raise PostFailed("its address is link-local, multicast or unspecified")
    if not (plain.is_global or private):
        raise PostFailed("its address is not public; set private = true if that is meant")


class SignedPost:
    """Posts to one target."""

    def __init__(
        self, target: Target, *, client: httpx2.AsyncClient, clock: Clock, find: Resolve = resolve
    ) -> None:
        """`client` is shared by all and closed by its owner."""
        self._target = target
        self._client = client
        self._clock = clock
        self._resolve = find

    async def send(self, message_id: str, body: bytes, *, read: int = 0) -> bytes:
        """Send one message; return up to `read` bytes of a good answer.

        Raises:
            PostFailed: it was not answered well, or not in time, or with more than that (0: nobody looks).
        """
        try:
            async with asyncio.timeout(self._target.timeout_s):
                return await self._send(message_id, body, read)
        except TimeoutError:
            raise PostFailed(f"no answer within {self._target.timeout_s:g} s") from None
        except (OSError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            # Its words may hold the address, which may hold a secret.
            raise PostFailed(f"it cannot be reached: {type(error).__name__}") from error

    async def _send(self, message_id: str, body: bytes, read: int) -> bytes:
        url = httpx2.URL(self._target.url)
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await self._resolve(url.host, port)
        for address in addresses:
            require_allowed(address, private=self._target.private)
        answer = await self._answer(url, addresses[:MAX_ADDRESSES], message_id, body)
        try:
            _judge(answer)
            return await _content(answer, read) if read else b""
        finally:
            await answer.aclose()

    async def _answer(
        self, url: httpx2.URL, addresses: Sequence[Address], message_id: str, body: bytes
    ) -> httpx2.Response:
        """Return the answer of the first address that takes the connection; another one gets no second request."""
        *first, last = addresses
        connect_s = self._target.timeout_s / len(addresses)
        for address in first:
            with suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                return await self._ask(url, address, message_id, body, connect_s=connect_s)
        return await self._ask(url, last, message_id, body)

    async def _ask(
        self,
        url: httpx2.URL,
        address: Address,
        message_id: str,
        body: bytes,
        *,
        connect_s: float | None = None,
    ) -> httpx2.Response:
        request = self._client.build_request(
            "POST",
            url.copy_with(host=str(address)),
            content=body,
            headers={"Host": url.netloc.decode("ascii"), **self._headers(message_id, body)},
            extensions={"sni_hostname": url.host},
            timeout=httpx2.Timeout(None, connect=connect_s),
        )
        return await self._client.send(request, stream=True, follow_redirects=False)

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        timestamp = int(self._clock.now())
        signatures = (sign_webhook(key, message_id, timestamp, body) for key in self._target.keys)
        return {
            "Connection": "close",
            "Content-Type": "application/json",
            "User-Agent": "haulier",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signatures),
        }


def _judge(answer: httpx2.Response) -> None:
    if answer.is_success:
        return
    wait_s = parse_retry_after(answer.headers.get("Retry-After"), date=answer.headers.get("Date"))
    what = "a redirect, which is not followed" if answer.is_redirect else "a failure"
    raise PostFailed(f"it answered {answer.status_code}, {what}", retry_after_s=wait_s)


async def _content(answer: httpx2.Response, most: int) -> bytes:
    content = bytearray()
    async for piece in answer.aiter_bytes():
        content += piece
        if len(content) > most:
            raise PostFailed(f"its answer is longer than {most} bytes")
    return bytes(content)
