"""What we tell others about what we share and who we are.

Rule 1: the list of all that we share is one frame for all who ask, so whoever reads it slowly holds up nobody; folders are
        made into frames for one peer at a time.
Rule 2: searches come by the hundred: some are answered at a time, some wait, and those that come then are left
        unanswered, since their askers would have gone before.
"""

import asyncio
from typing import Final

from haulier.soulseek.messages import SearchRequest
from haulier.soulseek.peer_links import PeerLink
from haulier.soulseek.peer_messages import (
    FolderAnswer,
    FolderContents,
    Found,
    GetFolder,
    SearchAnswer,
    UserInfo,
)
from haulier.soulseek.shares import Shares
from haulier.soulseek.surroundings import Surroundings
from haulier.soulseek.uploads import Uploads

MOST_WAITING: Final = 10
"""Searches that wait for an answer, for each that is answered; those that come then have gone before it is their turn."""


class Answers:
    """Answers peers.

    Args:
        around: The node.
        shares: What is shared.
        uploads: How long one would wait.
        slots: How many uploads run at a time.
        description: What we say about ourselves.
    """

    def __init__(
        self, around: Surroundings, *, shares: Shares, uploads: Uploads, slots: int, description: str
    ) -> None:
        self._around = around
        self._user = around.link.identity.user
        self._shares = shares
        self._uploads = uploads
        self._slots = slots
        self._description = description
        self._telling = asyncio.Semaphore(1)
        self._answering = asyncio.Semaphore(around.bounds.search_connections)
        self._waiting = 0

    async def tell_list(self, link: PeerLink) -> None:
        """Tell all that we share."""
        await link.connection.send_raw(await self._shares.list())

    async def tell_folder(self, link: PeerLink, message: GetFolder) -> None:
        """Tell what is in a folder."""
        async with self._telling:
            folders = await self._shares.folder(message.folder)
            contents = FolderContents(message.token, message.folder, folders)
            await link.connection.send(await asyncio.to_thread(FolderAnswer.pack, contents))

    async def tell_info(self, link: PeerLink) -> None:
        """Tell who we are and how busy."""
        free, waiting = self._uploads.has_free_slot, self._uploads.waiting
        await link.connection.send(UserInfo(self._description, None, self._slots, waiting, free))

    async def answer_search(self, request: SearchRequest) -> None:
        """Tell a user what we have of what it searches."""
        if (
            request.user == self._user
            or self._waiting >= MOST_WAITING * self._around.bounds.search_connections
        ):
            return
        self._waiting += 1
        try:
            async with self._answering:
                await self._answer_search(request)
        finally:
            self._waiting -= 1

    async def _answer_search(self, request: SearchRequest) -> None:
        files = await self._shares.search(request.query, self._around.link.excluded_phrases)
        if not files:
            return
        found = Found(
            user=self._user,
            token=request.token,
            files=files,
            slot_free=self._uploads.has_free_slot,
            speed=0,
            queue_length=self._uploads.waiting,
        )
        answer = await asyncio.to_thread(SearchAnswer.pack, found)
        await self._around.peers.ask_once(request.user, answer)
        self._around.log("search.answered", user=request.user, files=len(files))
