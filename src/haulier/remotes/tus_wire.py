"""Requests of tus 1.0.0, one method each: what is asked, and what the answers say.

Rule 1: the server may say where an upload is, relative or whole, on its own host. Elsewhere nothing goes that is
        secret, and nothing at all that would leave encryption.
Rule 2: what a server does not announce is not used.

Source: https://tus.io/protocols/resumable-upload, version 1.0.0.
"""

import base64
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

from haulier.body.answers import Answer
from haulier.core.errors import PeerRefused, PeerUnreadable
from haulier.core.secret import Secret
from haulier.core.values import dataclass
from haulier.engine.tasks import in_thread
from haulier.remotes.answers import PASSING, RetryTable
from haulier.remotes.calls import Calls, check_address
from haulier.sending_ports import Cargo

if TYPE_CHECKING:
    import ssl

VERSION: Final = "1.0.0"
ALGORITHMS: Final = ("sha1",)
"""Checksums that are sent; every server that knows the extension knows SHA-1."""
PIECE: Final = 1024 * 1024
BYTES: Final = {"Content-Type": "application/offset+octet-stream"}

TABLE: Final = RetryTable(passing=PASSING | {460}, lost=frozenset({404, 410}))
"""460 is tus's own: the checksum of a chunk did not match, and nothing of it was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """What a server can."""

    extensions: frozenset[str] = frozenset()
    max_size: int | None = None
    algorithm: str | None = None

    @classmethod
    def read(cls, answer: Answer) -> "Offers":
        """Read the answer to OPTIONS; one that says nothing is believed to do the least."""
        limit = answer.headers.get("Tus-Max-Size", "")
        offered = _words(answer, "Tus-Checksum-Algorithm")
        return cls(
            extensions=frozenset(_words(answer, "Tus-Extension")),
            max_size=int(limit) if limit.isascii() and limit.isdigit() and int(limit) else None,
            algorithm=next((name for name in ALGORITHMS if name in offered), None),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an upload stands; None is what the server does not say."""

    offset: int | None
    length: int | None
    deferred: bool = False
    """The length is still to be told."""

    @classmethod
    def read(cls, answer: Answer) -> "Place":
        """Read it from the headers. Raises PeerUnreadable."""
        return cls(
            offset=_number(answer, "Upload-Offset"),
            length=_number(answer, "Upload-Length"),
            deferred=answer.headers.get("Upload-Defer-Length") == "1",
        )


class TusWire:
    """The connections to one tus server.

    Args:
        url: where uploads are created.
        headers: sent with every request to that host; their values are secrets.
        token: likewise, as a bearer token.
        tls: what certificates are trusted; the machine's, when not given.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, Secret],
        token: Secret | None,
        tls: "ssl.SSLContext | None" = None,
    ) -> None:
        check_address(url)
        self.url = url
        self._credentials = {name: value.reveal() for name, value in headers.items()}
        if token is not None:
            self._credentials["Authorization"] = f"Bearer {token.reveal()}"
        self._headers = {"Tus-Resumable": VERSION}
        self._calls = Calls(self.url, TABLE, tls=tls)
        self.offers = Offers()

    async def learn(self, *, strictly: bool = False) -> None:
        """Ask what the server can; `strictly`, one that does not say that it speaks tus is refused.

        Raises:
            PeerRefused: it speaks another version, or none.
            PeerBusy: it asks to be let be.
        """
        answer = await self._ask("OPTIONS", self.url, accept=range(200, 500))
        # Else who is too busy to say what it can would be believed to do the least, for good.
        if answer.status_code in {401, 403} or TABLE.passes(answer.status_code):
            self._calls.judge(answer, accept=())
        versions = _words(answer, "Tus-Version")
        if versions and VERSION not in versions:
            raise PeerRefused(
                412, "tus-version", f"the server speaks tus {', '.join(versions)}, not {VERSION}"
            )
        if strictly and not versions and "Tus-Resumable" not in answer.headers:
            raise PeerRefused(
                answer.status_code,
                "no-tus",
                "what answers there does not speak tus; the address has to be the one where uploads are created",
            )
        self.offers = Offers.read(answer)

    async def create(self, fields: Mapping[str, str], *, of_session: bool = False) -> str:
        """Create an upload without bytes and return its address."""
        answer = await self._ask("POST", self.url, headers=fields, accept=(201,), of_session=of_session)
        return self._place_told(answer)

    async def create_with(self, fields: Mapping[str, str], cargo: Cargo) -> tuple[str, int | None]:
        """Create an upload with its first bytes; return its address and its offset, if that is told."""
        headers = {**self._headers, **BYTES, **fields, **await self._checksum(cargo)}
        answer = await self._calls.bring(
            "POST",
            self.url,
            cargo,
            headers=headers,
            credentials=self._credentials,
            accept=(201,),
            of_session=False,
        )
        return self._place_told(answer), Place.read(answer).offset

    async def head(self, url: str) -> Place:
        """Ask where an upload is. Raises RemoteSessionLost."""
        return Place.read(await self._ask("HEAD", url, accept=(200, 204), of_session=True))

    async def append(self, url: str, offset: int, cargo: Cargo) -> int:
        """Append bytes and return where the upload is then."""
        headers = {
            **self._headers,
            **BYTES,
            "Upload-Offset": str(offset),
            **await self._checksum(cargo),
        }
        answer = await self._calls.bring(
            "PATCH", url, cargo, headers=headers, credentials=self._credentials, accept=(204, 200)
        )
        return require_number(Place.read(answer).offset, "Upload-Offset")

    async def end_empty(self, url: str) -> None:
        """Say that an upload whose length was still to be told has no bytes. Raises RemoteSessionLost."""
        headers = {**BYTES, "Upload-Offset": "0", "Upload-Length": "0"}
        answer = await self._ask("PATCH", url, headers=headers, accept=(204, 200), of_session=True)
        require_number(Place.read(answer).offset, "Upload-Offset")

    async def remove(self, url: str) -> None:
        """Terminate an upload, where the server can; else it expires."""
        await self._ask("DELETE", url, accept=(200, 204, 400, 403, 404, 405, 410, 501))

    async def close(self) -> None:
        """Close all connections."""
        await self._calls.close()

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        accept: range | tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        of_session: bool = False,
    ) -> Answer:
        return await self._calls.ask(
            method,
            url,
            headers={**self._headers, **(headers or {})},
            credentials=self._credentials,
            accept=accept,
            of_session=of_session,
        )

    def _place_told(self, answer: Answer) -> str:
        try:
            place = urljoin(self.url, answer.headers["Location"])
            scheme = urlsplit(place).scheme
        except (KeyError, ValueError):
            raise PeerUnreadable(answer.status_code, "the server tells no Location") from None
        ours = urlsplit(self.url).scheme
        if scheme not in {"http", "https"} or (scheme == "http" and ours == "https"):
            raise PeerRefused(
                answer.status_code,
                "other-scheme",
                f"the server puts the upload at an address of {scheme}, and was set up at one of {ours}; behind a proxy "
                "that ends TLS, let it obey X-Forwarded-Proto, or tell it its public address",
            )
        if self._credentials and not self._calls.is_own(place):
            raise PeerRefused(
                answer.status_code,
                "other-host",
                "the server puts the upload on another host, which our credentials are not for; "
                "set the remote up with that host's address",
            )
        return place

    async def _checksum(self, cargo: Cargo) -> dict[str, str]:
        if self.offers.algorithm is None:
            return {}
        return {"Upload-Checksum": f"sha1 {await in_thread(_sha1, cargo)}"}


def require_number(value: int | None, field: str) -> int:
    """Return what a server must say. Raises PeerUnreadable."""
    if value is None:
        raise PeerUnreadable(200, f"the server tells no {field}")
    return value


def _words(answer: Answer, field: str) -> list[str]:
    return [word.strip() for word in answer.headers.get(field, "").split(",") if word.strip()]


def _number(answer: Answer, field: str) -> int | None:
    text = answer.headers.get(field)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise PeerUnreadable(answer.status_code, f"{field} is {text[:40]!r}, not a number")
    return int(text)


def _sha1(cargo: Cargo) -> str:
    """Return SHA-1 of the cargo in base64; blocks."""
    hasher = hashlib.sha1(usedforsecurity=False)
    for low in range(cargo.start, cargo.stop, PIECE):
        hasher.update(cargo.source.read(low, min(low + PIECE, cargo.stop)))
    return base64.b64encode(hasher.digest()).decode("ascii")
