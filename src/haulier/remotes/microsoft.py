"""Signing in at Microsoft: tokens by device code for a person, by a secret for a program. Needs the extra `onedrive`.

Rule 1: tokens are kept in one file, its owner's alone (0600), replaced as a whole; nothing in it is ever told.
Rule 2: only `sign_in` waits for a person. Whoever needs a token and finds none is blocked, with the cure.

Source: Microsoft identity platform, "OAuth 2.0 device authorization grant" and "client credentials flow".
"""

import asyncio
import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msal
import requests

from haulier.core.errors import ConfigError, HaulierError, PeerBlocked, PeerBusy, PeerUnreachable
from haulier.core.secret import Secret
from haulier.core.transfer import Obstacle
from haulier.core.values import dataclass
from haulier.engine.tasks import in_thread

CLOUD: Final = "https://login.microsoftonline.com"
TIMEOUT_S: Final = 30.0
"""How long one answer of the authority may take."""
PASSING: Final = frozenset({"temporarily_unavailable", "server_error"})


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
    ca: str | None = None
    """Certificates of whom alone is trusted; the machine's, when not given."""


class MicrosoftTokens:
    """See the head of this file."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._host = f"{urlsplit(application.authority).scheme}://{urlsplit(application.authority).netloc}"
        self._running = asyncio.Lock()
        self._cache = msal.SerializableTokenCache()
        self._made: Any = None

    async def __call__(self, renew: bool, /) -> str:  # noqa: FBT001 - as `Tokens` has it
        """Return a token; with `renew`, another than the last one.

        Raises:
            PeerBlocked: somebody has to sign in.
            PeerUnreachable, PeerBusy: the authority does not answer.
        """
        async with self._running:
            return await in_thread(self._token, renew)

    async def sign_in(self, tell: Callable[[str], None]) -> None:
        """Get the first token; of a person, wait until they have entered the code that `tell` shows.

        Raises:
            PeerBlocked: the authority refuses, or nobody has entered the code in time.
            PeerUnreachable, PeerBusy: it does not answer.
        """
        if self._application.secret is not None:
            await self(True)
            return
        flow = await in_thread(self._asked, lambda client: client.initiate_device_flow(self._scopes))
        tell(str(flow["message"]))
        async with self._running:
            await in_thread(
                self._taken,
                lambda client: client.acquire_token_by_device_flow(flow),
                # The library looks at this between its questions.
                interrupt=lambda: flow.__setitem__("expires_at", 0),
            )

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
        self._read()
        try:
            return str(self._asked(ask)["access_token"])
        finally:
            self._write()

    def _asked(self, ask: Callable[[Any], Any]) -> dict[str, Any]:
        """Ask the authority; translate errors, in this one place; blocks."""
        try:
            answer: dict[str, Any] = ask(self._client())
        except HaulierError:
            raise
        except requests.RequestException as error:
            slow = isinstance(error, requests.Timeout)
            raise PeerUnreachable(self._host, type(error).__name__, too_slow=slow) from error
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            # What its library says to pages of proxies, failures and unknown tenants alike.
            raise PeerUnreachable(self._host, "its answers are not those of an authority") from error
        code = str(answer.get("error", ""))
        if code in PASSING:
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
                "token_cache": self._cache,
                "timeout": TIMEOUT_S,
                "verify": known.ca or _trusted_here(),
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

    def _read(self) -> None:
        """Take what is kept: another process may have signed in."""
        if self._application.cache is not None:
            with suppress(FileNotFoundError, ValueError):  # an unreadable one is as good as none
                self._cache.deserialize(self._application.cache.read_text(encoding="utf-8"))

    def _write(self) -> None:
        if self._application.cache is None or not self._cache.has_state_changed:
            return
        whole = self._application.cache.with_suffix(f".{os.getpid()}.new")
        whole.unlink(missing_ok=True)
        descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self._cache.serialize())
            file.flush()
            os.fsync(file.fileno())
        whole.replace(self._application.cache)


def _trusted_here() -> str | bool:
    """Return what SSL_CERT_FILE or SSL_CERT_DIR name; else what the library trusts, and REQUESTS_CA_BUNDLE may change."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile not in {None, paths.openssl_cafile}:
        return str(paths.cafile)
    return str(paths.capath) if paths.capath not in {None, paths.openssl_capath} else True


def authority_of(authority: str, tenant: str) -> str:
    """Return an authority's whole address.

    Raises:
        ConfigError: it is not an https address.
    """
    address = urlsplit(authority)
    if address.scheme != "https" or not address.hostname:
        raise ConfigError("option authority", authority, f"it must look like {CLOUD}")
    return f"{authority.rstrip('/')}/{tenant}"
