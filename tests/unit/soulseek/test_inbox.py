"""What a peer has said and nobody has looked at."""

import asyncio
from typing import Any

from haulier.soulseek.inbox import MOST, Inbox, Lost, Offered
from haulier.soulseek.peer_messages import PlaceInQueue, TransferRequest, UploadFailed

LINK: Any = object()
PLACE = PlaceInQueue("file", 3)


def offer(token: int) -> Offered:
    return Offered(TransferRequest(TransferRequest.OFFERED, token, "file", 10), LINK)


async def test_an_offer_comes_after_what_was_said_about_earlier_ones() -> None:
    inbox = Inbox()
    inbox.put_offer(offer(1))
    inbox.put(PLACE)
    inbox.put(Lost())
    assert [await inbox.wait() for _ in range(3)] == [PLACE, Lost(), offer(1)]
    assert not inbox.has_offer


async def test_the_newest_offer_is_the_one_that_counts() -> None:
    inbox = Inbox()
    assert inbox.put_offer(offer(1)) is None
    assert inbox.put_offer(offer(2)) == offer(1)
    assert inbox.has_offer
    assert inbox.take_offer() == offer(2)
    assert inbox.take_offer() is None


async def test_who_waits_is_woken_by_either() -> None:
    inbox = Inbox()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(inbox.wait())
        await asyncio.sleep(0)
        inbox.put(PLACE)
    assert waiting.result() == PLACE
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(inbox.wait())
        await asyncio.sleep(0)
        inbox.put_offer(offer(1))
    assert waiting.result() == offer(1)


async def test_a_peer_that_says_too_much_says_nothing_new_but_offers() -> None:
    inbox = Inbox()
    for _ in range(MOST + 5):
        inbox.put(UploadFailed("file"))
    inbox.put_offer(offer(1))
    assert inbox.take_answers() == [UploadFailed("file")] * MOST
    assert inbox.take_answers() == []
    assert inbox.take_offer() == offer(1)
