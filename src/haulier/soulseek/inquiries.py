"""What we ask of others: searches, and lists of all that somebody shares.

Rule 1: answers are unpacked in threads, a part at a time: a list may have millions of files.
Rule 2: who is not waited for is not listened to: what nobody has asked for, or has no room for, is dropped as it comes.
Rule 3: answers to searches are unpacked one at a time, of however many peers they are: one can take a second.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Final

from haulier.soulseek.codec import MalformedMessage
from haulier.soulseek.connection import ConnectionLost
from haulier.soulseek.messages import FileSearch, UserSearch
from haulier.soulseek.names import check_text, check_user
from haulier.soulseek.openings import Tokens
from haulier.soulseek.peer_links import ANYBODY, PeerLink
from haulier.soulseek.peer_messages import (
    SEARCH_ANSWER,
    SHARE_LIST,
    Folder,
    Found,
    GetShareList,
    SearchAnswer,
    ShareList,
)
from haulier.soulseek.peers import Peers
from haulier.soulseek.server_link import LinkDown, ServerLink

BROWSE_S: Final = 120.0
"""For a list of all that a peer shares, which may be 64 MiB from a slow line."""
_SEARCH_ANSWERS: Final = 100
"""Answers to one search of ours that wait to be read."""
FILES_WAITING: Final = 50_000
"""Files of these answers, after which no other is unpacked: 32 KB from a peer can become 50 MB of them."""
_AT_A_TIME: Final = 2_000
"""Files of a list that are unpacked at a time: a list may have millions."""


class _Answers:
    """What has been found for a search and waits to be read."""

    def __init__(self) -> None:
        self._found: asyncio.Queue[Found] = asyncio.Queue()
        self._files = 0

    @property
    def full(self) -> bool:
        return self._found.qsize() >= _SEARCH_ANSWERS or self._files >= FILES_WAITING

    def put(self, found: Found) -> None:
        self._files += len(found.files) + len(found.private)
        self._found.put_nowait(found)

    async def get(self) -> Found:
        found = await self._found.get()
        self._files -= len(found.files) + len(found.private)
        return found


class Inquiries:
    """Asks, and hands the answers to who has asked.

    Args:
        peers: Who is asked for lists, and who answers.
        link: Whom searches go to.
        tokens: Where tokens of searches come from.
    """

    def __init__(self, peers: Peers, link: ServerLink, tokens: Tokens) -> None:
        self._peers = peers
        self._link = link
        self._tokens = tokens
        self._searches: dict[int, _Answers] = {}
        self._unpacking = asyncio.Lock()
        self._browses: dict[str, list[asyncio.Future[ShareList]]] = {}

    @property
    def searches(self) -> set[int]:
        """The tokens of those that run."""
        return set(self._searches)

    def search(self, query: str, *, wait_s: float, user: str | None = None) -> AsyncIterator[Found]:
        """Return what others find, as it comes, for a time.

        Args:
            query: Words, and words with a minus that may not be there.
            wait_s: How long answers are waited for.
            user: Ask only this one.

        Raises:
            InvalidRequest: it cannot be asked for.
            LinkDown: nobody can be asked.
        """
        check_text("words", query)
        if user is not None:
            check_user(user, own=self._link.identity.user)
        if not self._link.up.is_set():
            raise LinkDown("the link to the server is down")
        return self._search(query, wait_s=wait_s, user=user)

    async def _search(self, query: str, *, wait_s: float, user: str | None) -> AsyncIterator[Found]:
        token = self._tokens.take()
        answers = self._searches[token] = _Answers()
        try:
            with self._peers.expecting(ANYBODY if user is None else user, SEARCH_ANSWER):
                self._link.tell(FileSearch(token, query) if user is None else UserSearch(user, token, query))
                async for found in _until(asyncio.get_running_loop().time() + wait_s, answers):
                    yield found
        finally:
            del self._searches[token]
            self._tokens.drop(token)

    async def browse(self, user: str) -> AsyncIterator[tuple[Folder, bool]]:
        """Return all folders of a user as they are unpacked, and which are private.

        Raises:
            InvalidRequest: no other user has that name.
            PeerError: the user is not reached, or does not answer; while they come: it answers nonsense.
        """
        check_user(user, own=self._link.identity.user)
        return _unpacked(await self._ask_list(user))

    async def _ask_list(self, user: str) -> ShareList:
        answer: asyncio.Future[ShareList] = asyncio.get_running_loop().create_future()
        waiting = self._browses.setdefault(user, [])
        waiting.append(answer)
        try:
            with self._peers.expecting(user, SHARE_LIST):
                await self._peers.ask(user, GetShareList())
                async with asyncio.timeout(BROWSE_S):
                    return await answer
        except TimeoutError as error:
            raise ConnectionLost("the user does not tell what it shares") from error
        finally:
            with suppress(ValueError):
                waiting.remove(answer)
            if not waiting and self._browses.get(user) is waiting:
                del self._browses[user]

    async def take_found(self, answer: SearchAnswer) -> None:
        """A peer has found something."""
        if not self._searches:
            return
        with suppress(MalformedMessage):
            async with self._unpacking:
                waiting = self._searches.get(await asyncio.to_thread(answer.token))
                if waiting is not None and not waiting.full:
                    waiting.put(await asyncio.to_thread(answer.unpack))

    def take_list(self, link: PeerLink, answer: ShareList) -> None:
        """A peer tells all that it shares."""
        for waiting in self._browses.pop(link.user, ()):
            if not waiting.done():
                waiting.set_result(answer)


async def _until(deadline: float, answers: _Answers) -> AsyncIterator[Found]:
    """Yield what comes until then; who reads them may take longer for one."""
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout_at(deadline):
                found = await answers.get()
            yield found


async def _unpacked(packed: ShareList) -> AsyncIterator[tuple[Folder, bool]]:
    """Yield the folders of a list, some of them in memory at a time."""
    folders = packed.folders()
    while some := await asyncio.to_thread(_some, folders):
        for each in some:
            yield each


def _some(folders: Iterator[tuple[Folder, bool]]) -> list[tuple[Folder, bool]]:
    """Take the next folders, of not many more than so many files."""
    taken: list[tuple[Folder, bool]] = []
    room = _AT_A_TIME
    for folder, private in folders:
        taken.append((folder, private))
        room -= 1 + len(folder.files)
        if room <= 0:
            break
    return taken
