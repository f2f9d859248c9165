"""Drives of Microsoft Graph: whose is asked, with which token, and what lies in it.

Rule 1: a refused token is fetched anew once; then somebody has to sign in.
Rule 2: whoever is signed in has a drive of their own: which one it is, is asked with each new token.

Source: Microsoft Graph documentation, "driveItem resource type", "Get drive".
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from urllib.parse import quote

from haulier.body.answers import Answer
from haulier.core.errors import PeerBlocked, PeerRefused
from haulier.core.outgoing import Stored
from haulier.core.transfer import Obstacle
from haulier.remotes.answers import read_json
from haulier.remotes.calls import Calls
from haulier.remotes.onedrive_wire import Item, at, bearer, drive_of, numbered

T = TypeVar("T")

HASH_ASKS: Final = 4
"""Times that an item is asked for a hash that it does not have yet; then its size has to do."""
IN_ORDER: Final = 8
"""Numbers that are asked for one by one."""
MAX_NAMES: Final = 100_000
"""Files of one name, counted up, beside which no other one is put."""

Tokens = Callable[[bool], Awaitable[str]]
"""Returns an access token; with True, another one than the last, which was refused."""


class Drives:
    """See the head of this file.

    Args:
        calls: the connections.
        base: where Graph is.
        tokens: where access tokens come from.
        drive_id: whose drive; that of whoever is signed in when not given.
        hash_wait_s: between two questions for a hash.
    """

    def __init__(
        self, calls: Calls, base: str, tokens: Tokens, *, drive_id: str | None, hash_wait_s: float
    ) -> None:
        self._calls = calls
        self._base = base
        self._tokens = tokens
        self._set = None if drive_id is None else self._address(drive_id)
        self._own = ("", "")
        """A token, and the drive of who has it."""
        self._hash_wait_s = hash_wait_s

    async def current(self) -> str:
        """Return the address of the drive that is sent to now."""
        if self._set is not None:
            return self._set
        return await self.signed_in(self._own_of)

    async def probe(self) -> None:
        """Ask for the drive, whatever is known of it."""
        if self._set is None:
            self._own = ("", "")
            await self.current()
        else:
            await self.ask("GET", self._set, accept=(200,))

    async def _own_of(self, token: str) -> str:
        if self._own[0] != token:
            answer = await self._calls.ask(
                "GET", f"{self._base}/me/drive", credentials=bearer(token), accept=(200,)
            )
            self._own = token, self._address(read_json(answer, lambda document: str(document["id"])))
        return self._own[1]

    def _address(self, drive_id: str) -> str:
        return f"{self._base}/drives/{quote(drive_id, safe='')}"

    async def ask(self, method: str, url: str, *, renew: bool = False, **parts: Any) -> Answer:
        """Send a short request, signed; raises as `Calls.ask`."""

        async def ask(token: str) -> Answer:
            return await self._calls.ask(method, url, credentials=bearer(token), **parts)

        return await self.signed_in(ask, renew=renew)

    async def signed_in(self, request: Callable[[str], Awaitable[T]], *, renew: bool = False) -> T:
        """Make a request with a token (rule 1); with `renew`, with another one than before."""
        if not renew:
            try:
                return await request(await self._tokens(False))
            except PeerBlocked as error:
                if error.obstacle is not Obstacle.AUTH:
                    raise
        return await request(await self._tokens(True))

    async def find(self, drive: str, name: str) -> Item | None:
        """Return what lies under a name, which may be spelt in other case; None when nothing does."""
        return await self._look(at(drive, name), drive, name)

    async def find_again(self, stored: Stored) -> Item | None:
        """Return the item in the drive that it was put into, whatever it is called by now; None when it is gone.

        One that was not told is the one of that name, and so is one that was told at another place than this one.

        Raises:
            PeerBlocked: it is in the drive of somebody else, who alone can tell.
        """
        current, address = await self.current(), stored.id or ""
        if not address.startswith(f"{self._base}/"):
            return await self.find(current, stored.name)
        drive = drive_of(address)
        found = await self._look(address, drive, stored.name)
        if found is None and drive != current:
            # Graph hides what one may not see behind a 404, too.
            reason = f"{stored.name} is in the drive of whoever was signed in when it was sent"
            raise PeerBlocked(Obstacle.AUTH, reason)
        return found

    async def hashed(self, found: Item | None) -> Item | None:
        """Return an item with its hash; wait for that a few seconds. None when it goes meanwhile."""
        for _ in range(HASH_ASKS - 1):
            if found is None or found.stored.checksum is not None:
                break
            await asyncio.sleep(self._hash_wait_s)
            found = await self.find_again(found.stored)
        return found

    async def _look(self, url: str, drive: str, name: str) -> Item | None:
        try:
            answer = await self.ask("GET", url, accept=(200,))
        except PeerRefused as error:
            if error.status != 404:
                raise
            return None
        return read_json(answer, lambda document: Item.read(document, drive, name))

    async def free_name(self, drive: str, wanted: str) -> str:
        """Return a name that is free beside one that is taken, as Graph counts them up: the first of the first few numbers.

        Where those are taken, few others are asked for: in doubled steps, then in halves. It is a free number behind one
        that is taken, and not the first one where there are gaps.

        Raises:
            PeerRefused: too many are taken.
        """
        for number in range(1, IN_ORDER + 1):
            if await self.find(drive, numbered(wanted, number)) is None:
                return numbered(wanted, number)
        taken, free = IN_ORDER, 2 * IN_ORDER
        while await self.find(drive, numbered(wanted, free)) is not None:
            taken, free = free, 2 * free
            if free > MAX_NAMES:
                raise PeerRefused(409, "target-exists", f"{taken} names like {wanted} are taken")
        while free - taken > 1:
            middle = (taken + free) // 2
            if await self.find(drive, numbered(wanted, middle)) is None:
                free = middle
            else:
                taken = middle
        return numbered(wanted, free)
