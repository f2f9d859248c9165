"""Signing in at Microsoft: tokens by device code for a person, by a secret for a program. Needs the extra `onedrive`.

Rule 1: tokens are kept in one file, its owner's alone; nothing in it is ever told. One that cannot be kept is good all the
        same, for this process; what was kept before does not take its place.
Rule 2: only `sign_in` waits for a person. Whoever needs a token and finds none is blocked, with the cure.
Rule 3: msal blocks, and is in a thread. What it asks is sent by the body writer, as all of ours is, so that a cancel ends it.

Source: Microsoft identity platform, "OAuth 2.0 device authorization grant" and "client credentials flow".
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msal
from msal.exceptions import MsalServiceError

from haulier.body import BodyWriter
from haulier.body.answers import Answer
from haulier.core.errors import ConfigError, HaulierError, PeerBlocked, PeerBusy, PeerUnreachable
from haulier.core.secret import Secret
from haulier.core.transfer import Obstacle
from haulier.core.values import dataclass
from haulier.engine.tasks import in_thread
from haulier.logs import get_logger
from haulier.private_files import replace_private
from haulier.remotes.answers import RetryTable
from haulier.remotes.sessions import cargo_of

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")

CLOUD: Final = "https://login.microsoftonline.com"
TIMEOUT_S: Final = 30.0
"""How long one answer of the authority may take."""
POLL_S: Final = 5.0
"""Between two questions whether a code was entered, where the authority does not say. Source: RFC 8628 section 3.5."""
PASSING_ERRORS: Final = frozenset({"temporarily_unavailable", "server_error"})
"""Errors of OAuth that pass. Source: RFC 6749 section 4.1.2.1."""
NO_AUTHORITY: Final = (
    *(ValueError, KeyError, TypeError, AttributeError, AssertionError, RuntimeError),
    MsalServiceError,
)
"""What msal says to pages of proxies, failures and unknown tenants alike."""
TABLE: Final = RetryTable()

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What signs in."""

    remote: str
    """The remote's name, for what is to be done."""
    client_id: str
    authority: str
    """`https://HOST/TENANT`."""
    resource: str
    """Scheme and host of Graph: what tokens are for."""
    secret: Secret | None = None
    """With it the program signs in, without it a person."""
    cache: Path | None = None
    """Where tokens are kept; in memory only when not given."""
    tls: "ssl.SSLContext | None" = None
    """What certificates are trusted; the machine's, when not given."""


class MicrosoftTokens:
    """See the head of this file."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._host = f"{urlsplit(application.authority).scheme}://{urlsplit(application.authority).netloc}"
        self._running = asyncio.Lock()
        self._kept = _Kept(application)
        self._line = _Line(self._host, application.tls)
        self._made: Any = None

    async def __call__(self, renew: bool, /) -> str:  # noqa: FBT001 - as `Tokens` has it
        """Return a token; with `renew`, another than the last one.

        Raises:
            PeerBlocked: somebody has to sign in.
            PeerUnreachable, PeerBusy: the authority does not answer.
        """
        async with self._running:
            return await self._line.run(self._token, renew)

    async def sign_in(self, tell: Callable[[str], None]) -> None:
        """Get the first token; of a person, wait until they have entered the code that `tell` shows.

        Raises:
            PeerBlocked: the authority refuses, or nobody has entered the code in time.
            PeerUnreachable, PeerBusy: it does not answer.
            ConfigError: the token cannot be kept, so that nobody else would have it.
        """
        if self._application.secret is not None:
            await self(True)
            return
        async with self._running:
            flow = await self._line.run(self._asked, lambda client: client.initiate_device_flow(self._scopes))
            tell(str(flow["message"]))
            await self._wait_entered(flow)
        self._kept.require_kept()

    async def _wait_entered(self, flow: dict[str, Any]) -> None:
        """Ask whether the code was entered, for as long as it is good; an authority that fails meanwhile is asked again."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + float(flow["expires_in"])
        while True:
            try:
                await self._line.run(
                    self._taken,
                    lambda client: client.acquire_token_by_device_flow(flow),
                    # The library looks at this between its questions.
                    interrupt=lambda: flow.__setitem__("expires_at", 0),
                )
            except (PeerUnreachable, PeerBusy) as error:
                pause_s = max(float(flow.get("interval", POLL_S)), error.retry_after_s)
                if loop.time() + pause_s >= ends_at:
                    raise
                log.warning("sign_in.asked_again", remote=self._application.remote, error=str(error))
                await asyncio.sleep(pause_s)
            else:
                return

    @property
    def _scopes(self) -> list[str]:
        if self._application.secret is not None:
            return [f"{self._application.resource}/.default"]
        return [f"{self._application.resource}/Files.ReadWrite.All"]

    def _token(self, renew: bool) -> str:  # noqa: FBT001
        if self._application.secret is not None:
            return self._taken(lambda client: self._by_secret(client, renew=renew))
        return self._taken(lambda client: self._of_person(client, renew=renew))

    def _by_secret(self, client: Any, *, renew: bool) -> Any:
        if renew:
            client.remove_tokens_for_client()
        return client.acquire_token_for_client(self._scopes)

    def _of_person(self, client: Any, *, renew: bool) -> Any:
        for account in client.get_accounts():
            found = client.acquire_token_silent_with_error(self._scopes, account, force_refresh=renew)
            if found:
                return found
        raise PeerBlocked(
            Obstacle.AUTH, f"nobody has signed in: haulier remote login {self._application.remote}"
        )

    def _taken(self, ask: Callable[[Any], Any]) -> str:
        """Return the token of an answer, and keep what came with it; blocks."""
        self._kept.read()
        try:
            return str(self._asked(ask)["access_token"])
        finally:
            self._kept.write()

    def _asked(self, ask: Callable[[Any], Any]) -> dict[str, Any]:
        """Ask the authority; translate errors, in this one place; blocks."""
        try:
            answer: dict[str, Any] = ask(self._client())
        except HaulierError:
            raise
        except NO_AUTHORITY as error:
            raise PeerUnreachable(self._host, "its answers are not those of an authority") from error
        code = str(answer.get("error", ""))
        if code in PASSING_ERRORS:
            raise PeerBusy(503, f"{self._host} says {code}")
        if code:
            words = " ".join(str(answer.get("error_description") or "").split())[:300]
            raise PeerBlocked(Obstacle.AUTH, f"{words or 'it refuses'} ({code}); {self._cure}")
        return answer

    @property
    def _cure(self) -> str:
        return f"sign in with haulier remote login {self._application.remote}"

    def _client(self) -> Any:
        if self._made is None:
            known = self._application
            settings: dict[str, Any] = {
                "authority": known.authority,
                "token_cache": self._kept.cache,
                "http_client": self._line,
                # The authority is what the operator has set; Microsoft's public list knows no other.
                "instance_discovery": False,
            }
            if known.secret is None:
                self._made = msal.PublicClientApplication(known.client_id, **settings)
            else:
                self._made = msal.ConfidentialClientApplication(
                    known.client_id, client_credential=known.secret.reveal(), **settings
                )
        return self._made


class _Kept:
    """Tokens in memory, and the file that others find them in; see rule 1."""

    def __init__(self, application: Application) -> None:
        self.cache = msal.SerializableTokenCache()
        self._remote = application.remote
        self._path = application.cache
        self._seen: tuple[int, ...] = ()
        """What tells the file that was read last from others."""
        self._failure: OSError | None = None

    def read(self) -> None:
        """Take what another process has kept since: it may have signed in; blocks. One that cannot be read is as good as none."""
        if self._path is None:
            return
        try:
            with self._path.open(encoding="utf-8") as file:
                status = os.fstat(file.fileno())
                mark = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
                if mark != self._seen:
                    self.cache.deserialize(file.read())
                    self._seen = mark
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            log.warning("tokens.unreadable", remote=self._remote, error=type(error).__name__)

    def write(self) -> None:
        """Keep what is new; blocks. What cannot be kept is tried again with the next token."""
        if self._path is None or not self.cache.has_state_changed:
            return
        try:
            replace_private(self._path, self.cache.serialize())
            self._failure = None
        except OSError as error:
            self.cache.has_state_changed = True
            self._failure = error
            log.warning("tokens.not_kept", remote=self._remote, error=error.strerror)

    def require_kept(self) -> None:
        """Raise ConfigError when what is new could not be kept."""
        if self._failure is not None:
            raise ConfigError(
                "home",
                str(self._path),
                f"the token cannot be kept: expected a directory that can be written ({self._failure.strerror})",
            ) from self._failure


class _Line:
    """What msal takes for an HTTP client: its threads wait here, and the event loop sends.

    Args:
        host: for the texts of errors.
        tls: what certificates are trusted; the machine's, when not given.
    """

    def __init__(self, host: str, tls: "ssl.SSLContext | None") -> None:
        self._host = host
        self._tls = tls
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: BodyWriter | None = None
        """None: nobody waits for an answer."""
        self._sending: asyncio.Task[Any] | None = None

    async def run(
        self, work: Callable[..., T], *arguments: object, interrupt: Callable[[], None] = lambda: None
    ) -> T:
        """Run, in a thread, what asks by this line; one at a time. A cancel ends the question, and refuses those after it."""
        writer = BodyWriter(connections=1, tls=self._tls, silence_s=TIMEOUT_S)
        self._loop, self._writer = asyncio.get_running_loop(), writer

        def cut() -> None:
            self._writer = None
            interrupt()
            if self._sending is not None:
                self._sending.cancel()

        try:
            return await in_thread(work, *arguments, interrupt=cut)
        finally:
            self._writer = None
            await writer.close()

    def get(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> Answer:
        """As msal wants it; blocks."""
        return self._ask("GET", _with(url, params), headers or {}, "")

    def post(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | str | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> Answer:
        """As msal wants it; blocks."""
        fields = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        text = data if isinstance(data, str) else urlencode(data or {})
        return self._ask("POST", _with(url, params), fields, text)

    def _ask(self, method: str, url: str, headers: Mapping[str, str], text: str) -> Answer:
        assert self._loop is not None
        fields = {"User-Agent": "haulier", "Accept-Encoding": "identity", **headers}
        return asyncio.run_coroutine_threadsafe(self._send(method, url, fields, text), self._loop).result()

    async def _send(self, method: str, url: str, headers: Mapping[str, str], text: str) -> Answer:
        if self._writer is None:
            raise PeerUnreachable(self._host, "nobody waits for its answer", sent=False)
        self._sending = asyncio.current_task()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._writer.send(
                    method, url, headers=headers, cargo=cargo_of(text.encode("utf-8"))
                )
        except TimeoutError as error:
            raise PeerUnreachable(self._host, "it takes too long to answer", too_slow=True) from error
        finally:
            self._sending = None
        # The library would make an error of it that does not say how long to wait.
        if TABLE.passes(answer.status_code):
            raise TABLE.failure(answer, of_session=False)
        return answer


def _with(url: str, params: Mapping[str, str] | None) -> str:
    return f"{url}?{urlencode(params)}" if params else url


def authority_of(authority: str, tenant: str) -> str:
    """Return an authority's whole address.

    Raises:
        ConfigError: it is not an https address.
    """
    address = urlsplit(authority)
    if address.scheme != "https" or not address.hostname:
        raise ConfigError("option authority", authority, f"it must look like {CLOUD}")
    return f"{authority.rstrip('/')}/{tenant}"
