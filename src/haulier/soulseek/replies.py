"""How the offers of peers are answered.

Rule 1: every offer is answered, however often it is made and whatever goes on: whoever gets no answer holds a slot
        for us until it gives up, and then begins anew.
Rule 2: an offer that comes again before the file does takes the place of the older one, whose answer was lost, perhaps.
        It does not prolong the wait.
"""

from contextlib import suppress
from typing import Final

from haulier.core.errors import PeerError
from haulier.core.transfer import Phase, Step
from haulier.soulseek.connection import ConnectionLost
from haulier.soulseek.download import Download
from haulier.soulseek.inbox import Offered
from haulier.soulseek.offer import CANCELLED, COMPLETE, QUEUED
from haulier.soulseek.peer_links import PeerLink
from haulier.soulseek.peer_messages import TransferRequest, TransferResponse
from haulier.soulseek.surroundings import Surroundings

RESTING: Final = frozenset({Phase.PAUSED, Phase.ENDED})


class Replies:
    """Answers offers.

    Args:
        around: The node.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def take_offer(self, download: Download, offer: Offered) -> None:
        """A peer offers the file: have it taken by whoever waits for it, or answer at once."""
        if download.transfer.phase in RESTING:
            await self.refuse(offer, CANCELLED)
        elif download.transfer.phase is Phase.IN_PROGRESS:
            complete = download.transfer.step is Step.COMMITTING
            await self.refuse(offer, COMPLETE if complete else QUEUED)
        elif download.expected is not None:
            await self._take_instead(download, offer)
        elif download.waits_for_slot:
            await self.refuse(offer, QUEUED)
        else:
            older = download.inbox.put_offer(offer)
            download.came_back.set()
            if older is not None:
                await self.refuse(older, QUEUED)

    async def _take_instead(self, download: Download, offer: Offered) -> None:
        expected, token = download.expected, offer.request.token
        assert expected is not None
        same = (offer.request.size or 0) in {0, download.transfer.size}
        if same and (expected.token == token or expected.expect_instead(token)):
            await self.accept(download.user, offer)
        else:
            await self.refuse(offer, QUEUED)

    async def accept(self, user: str, offer: Offered) -> None:
        """Accept an offer; raises as `Peers.reach` does."""
        await self._reply(user, offer, TransferResponse(offer.request.token, allowed=True))

    async def put_off(self, user: str, offer: Offered) -> None:
        """Take an offer later; raises as `Peers.reach` does."""
        await self._reply(user, offer, TransferResponse(offer.request.token, allowed=False, reason=QUEUED))

    async def _reply(self, user: str, offer: Offered, response: TransferResponse) -> None:
        """Answer an offer where it came from, or over another connection if that is gone."""
        if not offer.link.connection.closing:
            with suppress(ConnectionLost):
                await offer.link.connection.send(response)
                return
        await self._around.peers.ask(user, response)

    async def refuse(self, offer: Offered, reason: str) -> None:
        """Refuse an offer, if its peer is still there."""
        await refuse(offer.link, offer.request, reason)

    def refuse_unread(self, download: Download, reason: str) -> None:
        """Refuse the offer that nobody will take any more; nobody waits for that."""
        offer = download.inbox.take_offer()
        if offer is not None:
            self._around.spawn(self.refuse(offer, reason))


async def refuse(link: PeerLink, request: TransferRequest, reason: str) -> None:
    """Refuse an offer over the connection that it came over, if that is still there."""
    with suppress(PeerError, TimeoutError):
        await link.connection.send(TransferResponse(request.token, allowed=False, reason=reason))
