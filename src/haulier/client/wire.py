"""Calls to the service: one attempt, or as many as it takes; answers become values, problems errors.

Rule 1: a call is repeated only when its caller knows that repeating it is harmless.
Rule 2: a token goes to this service only, in no address, and into no error and no log: redirects are not followed.
Rule 3: until the service has answered once, patience is short: a wrong address should be told soon. After that
        a silent service is taken for one that restarts; by an upload from the start, for as long as a restart takes.
"""

import asyncio
import copy
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import httpx2

from haulier.body import CONNECT_S, SILENCE_S, BodyWriter
from haulier.client.answers import read_answer
from haulier.client.values import unreadable
from haulier.core.errors import HaulierError, InvalidRequest, PeerRefused, PeerUnreachable
from haulier.core.hosts import is_loopback, shown_address, split_base
from haulier.core.retry import Chance, Patience, RetryPolicy, parse_retry_after
from haulier.core.text import is_field_value
from haulier.engine.tasks import in_thread
from haulier.sending_ports import Cargo

T = TypeVar("T")

FIRST_CONTACT: Final = RetryPolicy(retries=3, base_s=0.5, cap_s=2.0)
"""Patience with an address that has never answered."""
RESTART: Final = RetryPolicy(retries=10, base_s=0.5, cap_s=3.0)
"""Patience of an upload with such an address: 12 s on average, 24 at most. A service on a busy machine takes five to ten
to be back after a kill; a wrong address should not look like a slow one for long."""
TRANSIENT: Final = frozenset({408, 423, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed later."""
BUSY_SLUGS: Final = frozenset({"upload-busy", "offset-mismatch"})
"""Problems that pass, whatever their status; whoever appends asks for the offset before the next try."""
FINAL_SLUGS: Final = frozenset({"storage-not-writable", "directory-not-creatable"})
"""Problems that wait for an operator, whatever their status."""

MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes of an answer that is no file: a page of 200 records with all the metadata that they may have is shorter."""
PIECE: Final = 1024 * 1024
"""Bytes read, and handed on, at once: large enough that the hop to a thread costs little."""

Body = bytes | AsyncIterator[bytes]


class Wire:
    """The connections to one service. Enter it before use; leaving closes them."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None,
        connections: int,
        policy: RetryPolicy,
        restart: RetryPolicy = RESTART,
        chance: Chance | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = check_url(url)
        self._policy = policy
        self._restart = restart
        self._chance = random.Random().random if chance is None else chance
        self._sleep = sleep
        self._contact = False
        self._credentials = _bearer(token)
        here = is_loopback(urlsplit(self.url).hostname or "")
        self._http = httpx2.AsyncClient(
            base_url=self.url,
            headers={"Accept": "application/json", "User-Agent": "haulier"},
            timeout=httpx2.Timeout(SILENCE_S, connect=CONNECT_S, pool=None),
            # Control calls have connections of their own: asking for the state never waits behind bodies.
            limits=httpx2.Limits(max_connections=connections + 2, max_keepalive_connections=connections + 2),
            # A proxy between this machine and itself is never meant, and the service refuses it.
            trust_env=not here,
            # The certificates that the environment names are: bodies go by them, too.
            verify=ssl.create_default_context() if here and self.url.startswith("https:") else True,
            transport=transport,
        )
        # Who brings a way of its own brings it for bodies, too.
        self._bodies = BodyWriter(connections=connections) if transport is None else None

    def bearing(self, token: str | None) -> Self:
        """Return the same connections with another token; with this one's own where `token` is None.

        It is not to be entered or left.
        """
        if token is None:
            return self
        other = copy.copy(self)
        other._credentials = _bearer(token)  # noqa: SLF001 - our own
        return other

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._http.aclose()
        if self._bodies is not None:
            await self._bodies.close()

    async def once(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        content: Body | None = None,
    ) -> httpx2.Response:
        """Send one request and read its whole answer.

        Raises:
            PeerUnreachable: no answer, half of one, or an endless one.
            PeerRefused: the answer is a problem, or a redirect.
        """
        with self._told_as_errors():
            async with self._http.stream(
                method,
                path,
                params=params,
                headers={**self._credentials, **(headers or {})},
                json=json,
                content=content,
            ) as incoming:
                answer, whole = await read_answer(incoming, at_most=MAX_ANSWER)
        self._contact = True
        if answer.status_code >= 300:
            raise refusal(answer)
        if not whole:
            raise PeerUnreachable(self.url, f"its answer is longer than {MAX_ANSWER} bytes")
        return answer

    async def bring(
        self, method: str, path: str, cargo: Cargo, *, headers: Mapping[str, str]
    ) -> httpx2.Response:
        """Send one request with a long body and read its whole answer.

        Raises:
            PeerUnreachable, PeerRefused: as `once`.
            SourceChanged: the source is shorter than the cargo.
        """
        if self._bodies is None:
            length = {"Content-Length": str(cargo.size)}
            return await self.once(method, path, headers={**headers, **length}, content=_pieces(cargo))
        fields = {"Accept": "application/json", "User-Agent": "haulier", **self._credentials, **headers}
        told = await self._bodies.send(method, f"{self.url}{path}", headers=fields, cargo=cargo)
        answer = httpx2.Response(told.status_code, headers=dict(told.headers), content=told.content)
        self._contact = True
        if answer.status_code >= 300:
            raise refusal(answer)
        return answer

    async def call(self, method: str, path: str, **parts: Any) -> httpx2.Response:
        """Send a request that may be repeated, as often as it takes.

        Raises:
            PeerUnreachable: no answer, after all retries.
            PeerRefused: the answer is final, or the same after all retries.
        """
        return await self.persevere(lambda: self.once(method, path, **parts))

    async def persevere(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        mark: Callable[[], object] = lambda: None,
        waiting: Callable[[HaulierError], None] = lambda _: None,
        outlast_restart: bool = False,
    ) -> T:
        """Repeat `attempt` until it succeeds or fails for good.

        Args:
            attempt: asks for the true state itself, where that matters, before it repeats anything.
            mark: tells progress; whenever it has changed, the budget starts anew.
            waiting: told why, before each pause.
            outlast_restart: take an address that has never answered for a service that restarts.
        """
        first = self._restart if outlast_restart else FIRST_CONTACT
        patience, met = self._patience(first), self._contact
        while True:
            try:
                return await attempt()
            except (PeerRefused, PeerUnreachable) as error:
                at_least = retry_delay(error)
                if at_least is None:
                    raise
                if met is not self._contact:
                    patience, met = self._patience(first), self._contact
                patience.progress(mark())
                delay = patience.next_delay(at_least=at_least)
                if delay is None:
                    raise
                waiting(error)
            await self._sleep(delay)

    @asynccontextmanager
    async def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx2.Response]:
        """GET with an answer that the caller reads piece by piece.

        Raises:
            PeerUnreachable: no answer, or the connection was lost while reading it.
            PeerRefused: the answer is a problem.
        """
        with self._told_as_errors():
            sent = {**self._credentials, **(headers or {})}
            async with self._http.stream("GET", path, headers=sent) as answer:
                self._contact = True
                if answer.status_code >= 300:
                    raise refusal((await read_answer(answer, at_most=MAX_ANSWER))[0])
                yield answer

    @asynccontextmanager
    async def events(self, path: str) -> AsyncIterator[httpx2.EventSource]:
        """GET with server-sent events; raises as `stream` does."""
        with self._told_as_errors():
            async with self._http.sse(path, headers=self._credentials) as source:
                self._contact = True
                if source.response.status_code >= 300:
                    raise refusal((await read_answer(source.response, at_most=MAX_ANSWER))[0])
                yield source

    def _patience(self, first: RetryPolicy) -> Patience:
        return Patience(self._policy if self._contact else first, self._chance)

    def _told_as_errors(self) -> "_Translation":
        return _Translation(self.url)


class _Translation:
    """Turns the library's errors into ours, in this one place."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, httpx2.DecodingError | httpx2.SSEError):
            raise unreadable(str(error)) from error
        if isinstance(error, httpx2.TransportError):
            reason = str(error) or type(error).__name__
            raise PeerUnreachable(self._url, reason) from error


async def _pieces(cargo: Cargo) -> AsyncIterator[bytes]:
    for low in range(cargo.start, cargo.stop, PIECE):
        piece = await in_thread(cargo.source.read, low, min(low + PIECE, cargo.stop))
        yield piece
        cargo.moved(low + len(piece) - cargo.start)


def _bearer(token: str | None) -> dict[str, str]:
    """Return the header that shows a token.

    Raises:
        InvalidRequest: it holds what no header can carry; the token itself is not told.
    """
    if token is None:
        return {}
    if not is_field_value(token) or " " in token:
        raise InvalidRequest.of("token", "must be one word of printable ASCII characters, as it was printed")
    return {"Authorization": f"Bearer {token}"}


def check_url(url: str) -> str:
    """Return the base address without a trailing slash.

    Raises:
        InvalidRequest: it is not an http or https address.
    """
    try:
        parts = split_base(url, example="http://127.0.0.1:8000")
    except ValueError as error:
        raise InvalidRequest.of("url", f"{shown_address(url)!r} {error}") from None
    if parts.query:
        raise InvalidRequest.of("url", f"{shown_address(url)!r} must not have a query")
    return url.rstrip("/")


def refusal(answer: httpx2.Response) -> PeerRefused:
    """Build the error that an answer tells, from its problem details where it has them.

    Source: RFC 9457.
    """
    problem = _json_object(answer)
    kind = problem.pop("type", None)
    slug = kind.rsplit("/", 1)[-1] if isinstance(kind, str) and "/" in kind else f"http-{answer.status_code}"
    detail = problem.pop("detail", None) or problem.pop("title", None) or _phrase(answer)
    problem.pop("status", None)
    delay = parse_retry_after(answer.headers.get("Retry-After"), date=answer.headers.get("Date"))
    if delay:
        problem["retry_after_s"] = delay
    for name in ("Location", "Upload-Offset"):
        if name in answer.headers:
            problem[name.lower().replace("-", "_")] = answer.headers[name]
    return PeerRefused(answer.status_code, slug, str(detail), problem)


def retry_delay(error: HaulierError) -> float | None:
    """Return the least delay after which the same request may succeed; None when it never will."""
    if isinstance(error, PeerUnreachable):
        return 0.0
    if not isinstance(error, PeerRefused) or error.slug in FINAL_SLUGS:
        return None
    if error.status not in TRANSIENT and error.slug not in BUSY_SLUGS:
        return None
    asked = error.fields.get("retry_after_s", 0.0)
    return asked if isinstance(asked, float) else 0.0


def _json_object(answer: httpx2.Response) -> dict[str, object]:
    try:
        document = answer.json()
    except (ValueError, RecursionError):  # a proxy's page, or nothing at all; the status says enough
        return {}
    return document if isinstance(document, dict) else {}


def _phrase(answer: httpx2.Response) -> str:
    if answer.has_redirect_location:
        return f"the address has moved to {answer.headers['Location']}"
    try:
        return HTTPStatus(answer.status_code).phrase
    except ValueError:
        return f"status {answer.status_code}"
