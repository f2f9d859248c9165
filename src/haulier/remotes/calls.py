"""Calls to a remote over HTTP, short ones and long bodies, by the body writer; one way to tell failures.

Rule 1: a redirect is not followed: credentials go to the host that was configured, and nowhere else, even when the
        remote itself names another one.
Rule 2: an error names the remote's host and never a whole address.
"""

import asyncio
import json as json_text
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

from haulier.body import BodyWriter
from haulier.body.answers import Answer
from haulier.body.connections import Origin
from haulier.body.exchange import MAX_ANSWER
from haulier.core.errors import ConfigError, InvalidRequest, PeerRefused, PeerUnreachable
from haulier.core.hosts import shown_address, split_base
from haulier.remotes.answers import RetryTable, redirected, secrets_in
from haulier.remotes.sessions import cargo_of
from haulier.sending_ports import Cargo

if TYPE_CHECKING:
    import ssl

CONTROL_CONNECTIONS: Final = 8
"""Connections that bodies leave to control calls, which are short and never wait behind them."""
BODIES: Final = 32
"""Bodies at once to one remote: the manager's slots bound them far below; this bounds a mistake."""


class Calls:
    """The connections to one remote; `close` them after use.

    Args:
        base_url: where the remote is.
        table: what its answers mean.
        tls: what certificates are trusted; the machine's, when not given.
        most: bytes of an answer that are read.
    """

    def __init__(
        self,
        base_url: str,
        table: RetryTable,
        *,
        tls: "ssl.SSLContext | None" = None,
        most: int = MAX_ANSWER,
    ) -> None:
        address = urlsplit(base_url)
        self._origin = Origin.of(address, proxied=False)
        self.host = str(self._origin)
        self._url = base_url
        self._table = table
        # One for both: a body goes on the connection, and in the thread, of the call that announced it.
        self._writer = BodyWriter(connections=BODIES + CONTROL_CONNECTIONS, tls=tls, most=most)
        self._bodies = asyncio.Semaphore(BODIES)

    async def ask(
        self,
        method: str,
        url: str,
        *,
        accept: Collection[int] = (200, 201, 202, 204),
        of_session: bool = False,
        credentials: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        json: object = None,
    ) -> Answer:
        """Send a short request and return its answer.

        Args:
            method: of the request.
            url: whole.
            accept: statuses that are answers; all others are failures.
            of_session: whether it is about a session that may be gone.
            credentials: headers for the configured host only.
            headers: for whoever is at the address.
            params: put behind the address.
            json: the body.

        Raises:
            PeerUnreachable: no answer, or an endless one.
            PeerBusy, PeerBlocked, PeerRefused, RemoteSessionLost: as the table says; refused are also credentials
                for another host than the configured one.
        """
        fields = {"User-Agent": "haulier", "Accept-Encoding": "identity", **(headers or {})}
        content = b""
        if json is not None:
            fields["Content-Type"] = "application/json"
            content = json_text.dumps(json, separators=(",", ":")).encode("ascii")
        answer = await self._writer.send(
            method,
            f"{url}?{urlencode(params)}" if params else url,
            headers={**fields, **self._own(url, credentials)},
            cargo=cargo_of(content),
        )
        return self.judge(answer, accept=accept, of_session=of_session, url=url, credentials=credentials)

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
    ) -> Answer:
        """Send a body and return the answer; raises as `ask`, and what the source raises."""
        fields = {"User-Agent": "haulier", **headers, **self._own(url, credentials)}
        async with self._bodies:
            answer = await self._writer.send(method, url, headers=fields, cargo=cargo)
        return self.judge(answer, accept=accept, of_session=of_session, url=url, credentials=credentials)

    async def relay(self, method: str, url: str, headers: Mapping[str, str], content: bytes) -> Answer:
        """Send a short request of somebody who reads the answer himself, whatever it says; a redirect is none.

        Raises:
            PeerUnreachable: no answer, or an endless one.
            PeerRefused: it is a redirect.
        """
        answer = await self._writer.send(method, url, headers=headers, cargo=cargo_of(content))
        if answer.is_redirect:
            raise redirected(answer.status_code, self.host, answer.headers["Location"])
        return answer

    def judge(
        self,
        answer: Answer,
        *,
        accept: Collection[int],
        of_session: bool = False,
        url: str = "",
        credentials: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer if it is a hoped-for one; raises as the table says, without what is secret of the request."""
        if answer.is_redirect:
            raise redirected(answer.status_code, self.host, answer.headers["Location"])
        if answer.status_code not in accept:
            shown = (credentials or {}).values()
            hides_path = of_session or not f"{url}/".startswith(f"{self._url.rstrip('/')}/")
            secrets = {*secrets_in(self._url), *secrets_in(url, shown, hides_path=hides_path)}
            raise self._table.failure(answer, of_session=of_session, secrets=secrets)
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
        await self._writer.close()


@contextmanager
def asking_after() -> Iterator[None]:
    """Around questions about what was sent: that there is no connection for them does not say that nothing was."""
    try:
        yield
    except PeerUnreachable as error:
        raise PeerUnreachable(error.url, error.reason, too_slow=error.too_slow, sent=True) from error


def check_base_url(url: str, *, field: str = "url") -> str:
    """Return a remote's address, which others are built on, without a trailing slash.

    Raises:
        ConfigError: as `check_address`; or it has a query, behind which nothing can be put.
    """
    check_address(url, field=field)
    if "?" in url:
        raise ConfigError(
            field,
            shown_address(url),
            "it must not have a query; credentials are what 'haulier remote login' asks for, other settings are "
            "given with --option",
        )
    return url.rstrip("/")


def check_address(url: str, *, field: str = "url") -> None:
    """Refuse what is no address of a remote.

    Raises:
        ConfigError: it is not an http or https address, or it has a user or a password in it.
    """
    try:
        parts = split_base(url, example="https://files.example")
    except ValueError as error:
        raise ConfigError(field, shown_address(url), f"it {error}") from None
    if "@" in parts.netloc:
        # This password nobody would send.
        raise ConfigError(
            field,
            shown_address(url),
            "it must not have a user and a password in it; tus takes --option 'header.Authorization=Basic ...', "
            "the others what 'haulier remote login' asks for",
        )
