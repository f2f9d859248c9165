"""One upload from the offer to its end: a file is offered to a peer, and its bytes are sent.

Rule 1: the size that is offered is that of the file as it is then; what is sent is what was offered.
Rule 2: every wait is bounded. Whoever answers late, wrongly or not at all ends the attempt.
Rule 3: a number from a peer is checked before it is used: an offset behind the end is refused.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import field
from typing import Any, Final

from haulier.core.errors import HaulierError, PeerError
from haulier.core.transfer import Outcome, Transfer
from haulier.core.values import dataclass
from haulier.machine import Clock
from haulier.ports import SharedFile
from haulier.sending_ports import Throttle
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.connection import Connection, ConnectionLost
from haulier.soulseek.openings import Tokens
from haulier.soulseek.peer_links import PeerLink
from haulier.soulseek.peer_messages import TransferRequest, TransferResponse
from haulier.soulseek.peers import Peers
from haulier.soulseek.shares import NotShared, Shares
from haulier.soulseek.streaming import FileStream

CANCELLED: Final = "Cancelled"
COMPLETE: Final = "Complete"
NOT_SHARED: Final = "File not shared."
READ_ERROR: Final = "File read error."
QUEUED: Final = "Queued"
REASON_CHARACTERS: Final = 200
"""Of a peer's own words that are kept; those that clients use have 30."""
TRIES: Final = 3
"""How often a file is offered at most, while connections are lost before the answer."""
SETTLE_S: Final = 1.0
"""For the answer to come over another connection than the offer, before it is made again."""
_OFFSET_BYTES: Final = 8


class Settled(PeerError):
    """The peer does not want the file, or has it already; it needs no notice."""

    outcome: Outcome
    reason: str | None

    def __str__(self) -> str:
        return self.reason or self.outcome.value


class Denied(HaulierError):
    """We do not give the file."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class NotNow(PeerError):
    """The peer has put the offer into its own queue."""

    def __str__(self) -> str:
        return "the peer takes it later"


class Unreached(PeerError):
    """No connection to the peer came about."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class BadOffset(PeerError):
    """The peer asks for bytes that are not there."""

    offset: int
    size: int

    def __str__(self) -> str:
        return f"offset {self.offset} of a file of {self.size} bytes"


@dataclass(kw_only=True)
class Offer:
    """A file, offered to a peer."""

    user: str
    asked: str
    file: SharedFile
    transfer: Transfer
    changed: Callable[[Transfer], None]
    """Told each value of the transfer."""
    throttles: tuple[Throttle, ...] = ()

    def become(self, transfer: Transfer) -> None:
        """Take the next value."""
        self.transfer = transfer
        self.changed(transfer)


@dataclass(eq=False)
class Offers:
    """Makes offers, and takes the answers to them."""

    peers: Peers
    shares: Shares
    bounds: Bounds
    clock: Clock
    tokens: Tokens
    _answers: "dict[int, tuple[str, asyncio.Future[TransferResponse]]]" = field(default_factory=dict)

    def take_answer(self, link: PeerLink, response: TransferResponse) -> None:
        """A peer answers an offer; only the one that it was made to can."""
        user, answer = self._answers.get(response.token, ("", None))
        if answer is not None and user == link.user and not answer.done():
            answer.set_result(response)

    async def make(self, offer: Offer) -> bool:
        """Offer the file and send it; returns whether the peer confirmed that it has all.

        Raises:
            Settled: nothing is to be sent.
            Denied: the file cannot be given.
            NotNow: the peer will take it later.
            PeerOffline: the peer is not there.
            Unreached: the peer is there, but no connection comes about.
            TimeoutError: the peer was too slow to answer.
            PeerError: the peer broke off.
            SourceChanged: the file did not stay what was offered.
        """
        descriptor = await self._open(offer)
        token = self.tokens.take()
        try:
            offer.become(offer.transfer.request())
            await self._agree(offer, token)
            offer.become(offer.transfer.initialize())
            connection = await self._connect(offer)
            try:
                return await self._send(offer, token, connection, descriptor)
            finally:
                connection.close()
        finally:
            self.tokens.drop(token)
            os.close(descriptor)

    async def _open(self, offer: Offer) -> int:
        try:
            descriptor = await self.shares.open(offer.file)
        except NotShared as error:
            raise Denied(NOT_SHARED) from error
        except OSError as error:
            raise Denied(READ_ERROR) from error
        offer.transfer = offer.transfer.resized(os.fstat(descriptor).st_size)
        return descriptor

    async def _agree(self, offer: Offer, token: int) -> None:
        answer: asyncio.Future[TransferResponse] = asyncio.get_running_loop().create_future()
        self._answers[token] = (offer.user, answer)
        try:
            link = await self._ask(offer, token)
            async with asyncio.timeout(self.bounds.response_s):
                response = await self._answered(offer, token, answer, link)
        finally:
            del self._answers[token]
        if not response.allowed:
            raise _refusal(response.reason or "")

    async def _answered(
        self, offer: Offer, token: int, answer: "asyncio.Future[TransferResponse]", link: PeerLink
    ) -> TransferResponse:
        """Wait for the answer, and offer again what was perhaps not read.

        Of two connections that are made at a time each side may keep another one, and close that of the offer.
        """
        for _ in range(TRIES - 1):
            if await _is_lost_before(answer, link):
                link = await self._ask(offer, token)
        return await answer

    async def _ask(self, offer: Offer, token: int) -> PeerLink:
        request = TransferRequest(TransferRequest.OFFERED, token, offer.asked, offer.transfer.size)
        try:
            return await self.peers.ask(offer.user, request)
        except ConnectionLost as error:
            raise Unreached(error.reason) from error

    async def _connect(self, offer: Offer) -> Connection:
        try:
            return await self.peers.open_file(offer.user)
        except ConnectionLost as error:
            raise Unreached(error.reason) from error

    async def _send(self, offer: Offer, token: int, connection: Connection, descriptor: int) -> bool:
        await connection.send_raw(token.to_bytes(4, "little"))
        size = offer.transfer.size
        offset = await self._offset(connection, size)
        offer.become(offer.transfer.begin(offset, now=self.clock.now()))
        stream = FileStream(
            connection,
            descriptor,
            offset,
            size,
            self.bounds,
            offer.file.path,
            offer.throttles,
            lambda done: offer.become(offer.transfer.confirm(done, now=self.clock.now())),
        )
        try:
            confirmed = await stream.run()
        except BaseException:
            connection.abort()
            raise
        offer.become(offer.transfer.confirm(size, now=self.clock.now()))
        return confirmed

    async def _offset(self, connection: Connection, size: int) -> int:
        """Return where the peer wants to go on; raises Settled when it has everything."""
        async with asyncio.timeout(self.bounds.offset_s):
            raw = b""
            while len(raw) < _OFFSET_BYTES:
                piece = await connection.read_some(_OFFSET_BYTES - len(raw))
                if not piece and not raw:
                    raise Settled(Outcome.SUCCEEDED, "the peer has it already")
                if not piece:
                    raise ConnectionLost("the peer closed in the middle of its offset")
                raw += piece
        offset = int.from_bytes(raw, "little")
        if offset > size:
            raise BadOffset(offset, size)
        return offset


async def _is_lost_before(answer: "asyncio.Future[TransferResponse]", link: PeerLink) -> bool:
    """Wait for the answer, or for the end of the connection without one; returns whether it was that."""
    gone = asyncio.get_running_loop().create_task(link.gone.wait())
    either: set[asyncio.Future[Any]] = {answer, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
    if not answer.done():
        await asyncio.wait({answer}, timeout=SETTLE_S)
    return not answer.done()


def in_short(reason: str) -> str:
    """Return as much of what a peer gives as its reason as is worth keeping: it could be a megabyte, again and again."""
    return reason[:REASON_CHARACTERS]


def _refusal(reason: str) -> Exception:
    match reason:
        case "Queued":
            return NotNow()
        case "Cancelled":
            return Settled(Outcome.CANCELLED, reason)
        case "Complete":
            return Settled(Outcome.SUCCEEDED, reason)
        case _:
            return Settled(Outcome.REJECTED, in_short(reason))
