"""Calls to a remote over HTTP: short ones by the library, long bodies by the body writer; one way to tell failures.

Rule 1: a redirect is not followed: credentials go to the address that was configured, and nowhere else.
Rule 2: an error names the remote's host and never a whole address.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from haulier.body import BodyWriter
from haulier.core.errors import ConfigError, PeerUnreachable
from haulier.core.hosts import is_loopback
from haulier.ports import Cargo
from haulier.remotes.answers import RetryTable

CONNECT_TIMEOUT_S: Final = 10.0
SILENCE_TIMEOUT_S: Final = 90.0
"""How long one read or write of a control call may take; as for bodies."""
CONTROL_CONNECTIONS: Final = 8
"""Control calls at once: they are short, and never wait behind bodies, which have connections of their own."""
BODIES: Final = 32
"""Bodies at once to one remote: the manager's slots bound them far below; this bounds a mistake."""


class Calls:
    """The connections to one remote; `close` them after use."""

    def __init__(self, base_url: str, table: RetryTable, *, silence_s: float = SILENCE_TIMEOUT_S) -> None:
        address = urlsplit(base_url)
        self.host = f"{address.scheme}://{address.hostname}" + (f":{address.port}" if address.port else "")
        self._table = table
        self._http = httpx2.AsyncClient(
            headers={"User-Agent": "haulier"},
            timeout=httpx2.Timeout(silence_s, connect=CONNECT_TIMEOUT_S, pool=None),
            limits=httpx2.Limits(
                max_connections=CONTROL_CONNECTIONS, max_keepalive_connections=CONTROL_CONNECTIONS
            ),
            trust_env=not is_loopback(address.hostname or ""),
        )
        self._bodies = BodyWriter(connections=BODIES, silence_s=silence_s)

    async def ask(
        self,
        method: str,
        url: str,
        *,
        accept: Collection[int] = (200, 201, 202, 204),
        of_session: bool = False,
        **parts: Any,
    ) -> httpx2.Response:
        """Send a short request and return its answer.

        Args:
            method: of the request.
            url: whole.
            accept: statuses that are answers; all others are failures.
            of_session: whether it is about a session that may be gone.
            parts: `headers`, `params`, `json`, `content`, as the library takes them.

        Raises:
            PeerUnreachable: no answer.
            PeerBusy, PeerBlocked, PeerRefused, RemoteSessionLost: as the table says.
        """
        try:
            answer = await self._http.request(method, url, **parts)
        except httpx2.TimeoutException as error:
            raise PeerUnreachable(self.host, "it was silent for too long", too_slow=True) from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise PeerUnreachable(self.host, str(error) or type(error).__name__) from error
        return self.judge(answer, accept=accept, of_session=of_session)

    async def bring(
        self,
        method: str,
        url: str,
        cargo: Cargo,
        *,
        headers: Mapping[str, str],
        accept: Collection[int] = (200, 201, 202, 204),
        of_session: bool = True,
    ) -> httpx2.Response:
        """Send a body and return the answer; raises as `ask`, and what the source raises."""
        answer = await self._bodies.send(
            method, url, headers={"User-Agent": "haulier", **headers}, cargo=cargo
        )
        return self.judge(answer, accept=accept, of_session=of_session)

    def judge(
        self, answer: httpx2.Response, *, accept: Collection[int], of_session: bool = False
    ) -> httpx2.Response:
        """Return the answer if it is a hoped-for one; raises as the table says."""
        if answer.status_code not in accept:
            raise self._table.failure(answer, of_session=of_session)
        return answer

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
        address = urlsplit(url)
        address.port  # noqa: B018 - reading it is the check
    except ValueError as error:
        raise ConfigError("url", url, f"it is no address: {error}") from None
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise ConfigError("url", url, "it must look like https://files.example")
    if address.fragment:
        raise ConfigError("url", url, "it must not have a fragment")
    return url.rstrip("/")
