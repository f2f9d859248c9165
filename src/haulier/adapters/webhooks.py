"""Events as signed HTTP requests to an address that the operator has set.

Rule 1: where a request goes is decided once, by the setting: redirects are failures, and never followed.
Rule 2: the address is resolved here, judged, and connected to as it was judged, so that a name that changes in between
        leads nowhere else. Addresses that are not public are refused unless the endpoint says `private`; link-local
        ones, where clouds keep their secrets, always are.
Rule 3: of the answer only the status counts; its body is not read.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import httpx2

from haulier.core.event import EventKind, Told
from haulier.core.retry import parse_retry_after
from haulier.core.webhook import sign_webhook
from haulier.engine.courier import ReceiverFailed
from haulier.ports import Clock

TIMEOUT_S: Final = 15.0
"""From the look-up of the name to the status. Source: Standard Webhooks, 15 to 30 seconds."""

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where events go."""

    name: str
    url: str = field(repr=False)
    """May hold a secret."""
    keys: tuple[bytes, ...] = field(repr=False)
    """Each of them signs, so that one can be replaced while receivers still know the other."""
    kinds: frozenset[EventKind]
    private: bool = False


async def resolve(host: str, port: int) -> Sequence[Address]:
    """Return the addresses of a name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(str(place[0]).partition("%")[0]) for *_, place in found]


def require_allowed(address: Address, *, private: bool) -> None:
    """Check that a request may go there.

    Raises:
        ReceiverFailed: it may not.
    """
    plain = getattr(address, "ipv4_mapped", None) or address
    if plain.is_link_local or plain.is_multicast or plain.is_unspecified:
        raise ReceiverFailed("its address is link-local, multicast or unspecified")
    if not (plain.is_global or private):
        raise ReceiverFailed("its address is not public; set private = true if that is meant")


class HttpReceiver:
    """`haulier.engine.courier.Receiver` behind a URL."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        client: httpx2.AsyncClient,
        clock: Clock,
        find: Resolve = resolve,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`client` is shared by all receivers and closed by its owner."""
        self._endpoint = endpoint
        self._client = client
        self._clock = clock
        self._resolve = find
        self._timeout_s = timeout_s

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return f"webhook {self._endpoint.name}"

    @property
    def kinds(self) -> Collection[EventKind]:
        """What the endpoint wants."""
        return self._endpoint.kinds

    async def receive(self, told: Told) -> None:
        """Send one event. Raises ReceiverFailed."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send(told)
        except TimeoutError:
            raise ReceiverFailed(f"no answer within {self._timeout_s:g} s") from None
        except (OSError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            # Its words may hold the address, which may hold a secret.
            raise ReceiverFailed(f"it cannot be reached: {type(error).__name__}") from error

    async def _send(self, told: Told) -> None:
        url = httpx2.URL(self._endpoint.url)
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await self._resolve(url.host, port)
        for address in addresses:
            require_allowed(address, private=self._endpoint.private)
        body = body_of(told)
        request = self._client.build_request(
            "POST",
            url.copy_with(host=str(addresses[0])),
            content=body,
            headers={"Host": url.netloc.decode("ascii"), **self._headers(told, body)},
            extensions={"sni_hostname": url.host},
        )
        answer = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            self._judge(answer)
        finally:
            await answer.aclose()

    def _headers(self, told: Told, body: bytes) -> dict[str, str]:
        message_id, timestamp = f"evt_{told.position}", int(self._clock.now())
        signatures = (sign_webhook(key, message_id, timestamp, body) for key in self._endpoint.keys)
        return {
            "Content-Type": "application/json",
            "User-Agent": "haulier",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signatures),
        }

    def _judge(self, answer: httpx2.Response) -> None:
        if answer.is_success:
            return
        wait_s = parse_retry_after(answer.headers.get("Retry-After"), date=answer.headers.get("Date"))
        what = "a redirect, which is not followed" if answer.is_redirect else "a failure"
        raise ReceiverFailed(f"it answered {answer.status_code}, {what}", retry_after_s=wait_s)


def body_of(told: Told) -> bytes:
    """Return what is sent of an event; the same at each try."""
    event = told.event
    document = {
        "type": event.kind.value,
        "timestamp": event.created_at,
        "data": {"record": event.record, "capsule": event.capsule, "owner": event.owner, **event.facts},
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
