"""Calls to a remote over HTTP: short ones by the library, long bodies by the body writer; one way to tell failures.

Rule 1: a redirect is not followed: credentials go to the host that was configured, and nowhere else, even when the
        remote itself names another one.
Rule 2: an error names the remote's host and never a whole address.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from haulier.body import CONNECT_S, SILENCE_S, BodyWriter
from haulier.body.answers import read_answer
from haulier.body.connections import Origin
from haulier.body.exchange import MAX_ANSWER, TOO_LONG
from haulier.core.errors import ConfigError, InvalidRequest, PeerRefused, PeerUnreachable
from haulier.core.hosts import is_loopback, split_base
from haulier.ports import Cargo
from haulier.remotes.answers import RetryTable

CONTROL_CONNECTIONS: Final = 8
"""Control calls at once: they are short, and never wait behind bodies, which have connections of their own."""
BODIES: Final = 32
"""Bodies at once to one remote: the manager's slots bound them far below; this bounds a mistake."""


class Calls:
    """The connections to one remote; `close` them after use."""

    def __init__(self, base_url: str, table: RetryTable) -> None:
        address = urlsplit(base_url)
        self._origin = Origin.of(address, proxied=False)
        self.host = f"{address.scheme}://{address.hostname}" + (f":{address.port}" if address.port else "")
        self._table = table
        self._http = httpx2.AsyncClient(
            headers={"User-Agent": "haulier"},
            timeout=httpx2.Timeout(SILENCE_S, connect=CONNECT_S, pool=None),
            limits=httpx2.Limits(
                max_connections=CONTROL_CONNECTIONS, max_keepalive_connections=CONTROL_CONNECTIONS
            ),
            trust_env=not is_loopback(address.hostname or ""),
        )
        self._bodies = BodyWriter(connections=BODIES)

    async def ask(
        self,
        method: str,
        url: str,
        *,
        accept: Collection[int] = (200, 201, 202, 204),
        of_session: bool = False,
        credentials: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **parts: Any,
    ) -> httpx2.Response:
        """Send a short request and return its answer.

        Args:
            method: of the request.
            url: whole.
            accept: statuses that are answers; all others are failures.
            of_session: whether it is about a session that may be gone.
            credentials: headers for the configured host only.
            headers: for whoever is at the address.
            parts: `params`, `json`, `content`, as the library takes them.

        Raises:
            PeerUnreachable: no answer, or an endless one.
            PeerBusy, PeerBlocked, PeerRefused, RemoteSessionLost: as the table says; refused are also credentials
                for another host than the configured one.
        """
        fields = {**(headers or {}), **self._own(url, credentials)}
        try:
            async with self._http.stream(method, url, headers=fields, **parts) as incoming:
                answer, whole = await read_answer(incoming, at_most=MAX_ANSWER)
        except httpx2.TimeoutException as error:
            raise PeerUnreachable(self.host, "it was silent for too long", too_slow=True) from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise PeerUnreachable(self.host, str(error) or type(error).__name__) from error
        judged = self.judge(answer, accept=accept, of_session=of_session)
        if not whole:
            raise PeerUnreachable(self.host, TOO_LONG)
        return judged

    async def bring(
        self,
        method: str,
        url: str,
        cargo: Cargo,
        *,
        headers: Mapping[str, str],
        credentials: Mapping[str, str] | None = None,
        accept: Collection[int] = (200, 201, 202, 204),
        of_session: bool = True,
    ) -> httpx2.Response:
        """Send a body and return the answer; raises as `ask`, and what the source raises."""
        fields = {"User-Agent": "haulier", **headers, **self._own(url, credentials)}
        answer = await self._bodies.send(method, url, headers=fields, cargo=cargo)
        return self.judge(answer, accept=accept, of_session=of_session)

    def judge(
        self, answer: httpx2.Response, *, accept: Collection[int], of_session: bool = False
    ) -> httpx2.Response:
        """Return the answer if it is a hoped-for one; raises as the table says."""
        if answer.status_code not in accept:
            raise self._table.failure(answer, of_session=of_session)
        return answer

    def is_own(self, url: str) -> bool:
        """Whether an address is of the configured scheme, host and port."""
        try:
            return Origin.of(urlsplit(url), proxied=False) == self._origin
        except (ValueError, InvalidRequest):
            return False

    def _own(self, url: str, credentials: Mapping[str, str] | None) -> Mapping[str, str]:
        """Return the credentials if they may go to that address (rule 1)."""
        if credentials and not self.is_own(url):
            raise PeerRefused(
                403, "other-host", f"{self.host} names another host, which our credentials are not for"
            )
        return credentials or {}

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()
        await self._bodies.close()


def check_base_url(url: str) -> str:
    """Return a remote's address without a trailing slash.

    Raises:
        ConfigError: it is not an http or https address.
    """
    try:
        split_base(url, example="https://files.example")
    except ValueError as error:
        raise ConfigError("url", url, f"it {error}") from None
    return url.rstrip("/")
