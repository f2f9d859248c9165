"""Message connections that there are, by user and address.

Rule 1: one a user and address. One that a newer one replaces is read a little longer, since what was on its way
        still counts.
Rule 2: a compressed answer may be long only from whom it was asked for.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Final

from haulier.core.values import dataclass
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.connection import Connection
from haulier.soulseek.messages import PeerAddress
from haulier.soulseek.peer_messages import FOLDER_ANSWER, SEARCH_ANSWER, SHARE_LIST, TO_PEER

COMPRESSED: Final = (SHARE_LIST, SEARCH_ANSWER, FOLDER_ANSWER)
ANYBODY: Final = ""
RESTS_AFTER_S: Final = 1.0
"""Of silence; then a connection makes room for another one from its address. What was asked has been read long ago."""
UNASKED: Final = 64 * 1024
"""Bytes of a compressed answer that nobody has asked for; it is not looked at."""


@dataclass(eq=False)
class PeerLink:
    """A message connection of a user."""

    user: str
    connection: Connection
    solicited: bool
    """We opened it towards the server's address, or asked the server for it."""
    heard_at: float
    """When something last came over it, on the event loop's clock."""
    trusted: bool | None = None
    """Once it was asked for."""
    lasting: bool = False
    """Whether it is kept for more: the user has opened it or said something over it, or we have asked over it."""
    older: "PeerLink | None" = None
    """The one that it has replaced."""
    closing: asyncio.TimerHandle | None = None
    """Closes it, when it was replaced."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    users: int = 0
    """How many are about to send something over it, or to answer."""

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let it be closed for nothing less than its own end."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1

    def trusted_by(self, address: PeerAddress) -> bool:
        """Whether it is the user's, given the address that the server tells."""
        return self.solicited or self.connection.address == address.ip


class PeerLinks:
    """All message connections.

    Args:
        bounds: Limits.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._links: dict[str, dict[str, PeerLink]] = {}
        """By user and address."""
        self._came: dict[tuple[str, bool], set[PeerLink]] = {}
        """Those that peers have opened or had us open, by address and which of both."""
        self._expected: dict[tuple[str, int], int] = {}
        """How many wait for a compressed answer of that user and code."""

    def __iter__(self) -> Iterator[PeerLink]:
        """Return those that no newer one has replaced; they may go meanwhile."""
        return iter([link for links in self._links.values() for link in links.values()])

    def take_in(self, user: str, connection: Connection, *, solicited: bool) -> PeerLink:
        """Let a connection carry messages of a user; it takes the place of an older one from its address."""
        connection.switch(TO_PEER, TO_PEER)
        link = PeerLink(user, connection, solicited, heard_at=asyncio.get_running_loop().time())
        links = self._links.setdefault(user, {})
        older = links.get(connection.address)
        if older is not None:
            loop = asyncio.get_running_loop()
            older.closing = loop.call_later(self._bounds.replaced_s, older.connection.close)
            link.older = older
        links[connection.address] = link
        self._limit(link)
        return link

    def drop(self, link: PeerLink) -> None:
        """Forget a connection that is gone; the one that it has replaced is as good as before, if it is there."""
        links = self._links.get(link.user, {})
        older, link.older = link.older, None
        if links.get(link.connection.address) is link:
            del links[link.connection.address]
            if older is not None and older.closing is not None and not older.connection.closing:
                older.closing.cancel()
                links[link.connection.address] = older
        if not links:
            self._links.pop(link.user, None)

    def of(self, user: str, address: PeerAddress) -> PeerLink | None:
        """Return the newest of a user that is surely its own, given the address that the server tells."""
        links = [
            link
            for link in self._links.get(user, {}).values()
            if link.trusted_by(address) and not link.connection.closing
        ]
        return links[-1] if links else None

    @contextmanager
    def replaceable(self, link: PeerLink) -> Iterator[None]:
        """Let a connection that came, or that somebody had us open, make room, when it rests, for another one like it."""
        key = (link.connection.address, link.solicited)
        here = self._came.setdefault(key, set())
        here.add(link)
        try:
            yield
        finally:
            here.discard(link)
            if not here:
                self._came.pop(key, None)

    def make_room(self, address: str, *, solicited: bool) -> bool:
        """Close the message connection from an address, or asked for from there, that has been silent the longest; returns whether there is one.

        Many peers may share an address, and one that waits in the queue needs no connection meanwhile.
        """
        before = asyncio.get_running_loop().time() - RESTS_AFTER_S
        resting = [
            link
            for link in self._came.get((address, solicited), ())
            if link.heard_at <= before and not link.users
        ]
        if resting:
            min(resting, key=lambda link: link.heard_at).connection.close()
        return bool(resting)

    @contextmanager
    def expecting(self, user: str, code: int) -> Iterator[None]:
        """Let compressed answers of that code be long, from that user; `ANYBODY` for all."""
        key = (user, code)
        self._expected[key] = self._expected.get(key, 0) + 1
        self._expect_all()
        try:
            yield
        finally:
            self._expected[key] -= 1
            if not self._expected[key]:
                del self._expected[key]
            self._expect_all()

    def _expect_all(self) -> None:
        for link in self:
            self._limit(link)

    def _limit(self, link: PeerLink) -> None:
        for code in COMPRESSED:
            asked = (link.user, code) in self._expected or (ANYBODY, code) in self._expected
            link.connection.frames.limit(code, None if asked else UNASKED)
