"""What peers say again, and what they say late: about an attempt that we have broken off meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from haulier.core.retry import RetryPolicy
from haulier.core.transfer import Outcome, Phase
from haulier.soulseek.connection import Connection
from haulier.soulseek.download import Download
from haulier.soulseek.inbox import Offered
from haulier.soulseek.messages import PeerInit
from haulier.soulseek.peer_messages import (
    PlaceInQueue,
    TransferRequest,
    TransferResponse,
    UploadDenied,
    UploadFailed,
)
from tests.support.scene import CONTENT, FILE, SIZE, Scene
from tests.support.soulseek import DEADLINE_S, eventually, network
from tests.support.stranger import Stranger

AGES = RetryPolicy(retries=100, base_s=10 * DEADLINE_S, cap_s=10 * DEADLINE_S)
"""A rest that no test waits out."""
LATE = [UploadFailed(FILE), UploadDenied(FILE, "Cancelled"), UploadDenied(FILE, "File not shared.")]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A node that rests for longer than any test."""
    async with network(tmp_path) as net, AsyncExitStack() as stack:
        node = await net.node("alice", download_slots=1, download_retry=AGES)
        yield Scene(node, await Stranger.enter(net, node, stack), tmp_path)


async def begun(scene: Scene, download: Download, content: bytes = CONTENT[:40_000]) -> Connection:
    """Offer the file and send the first of it."""
    connection, offset = await scene.bring((await scene.offer()).token)
    assert offset == 0
    await connection.send_raw(content)
    await eventually(lambda: download.transfer.done == len(content), "it has come")
    return connection


async def refused(scene: Scene, token: int, reason: str) -> None:
    """The next answer to an offer is that one."""
    answer = await scene.stranger.hear(TransferResponse)
    assert answer == TransferResponse(token, allowed=False, reason=reason)


class TestAnAttemptThatWasBrokenOff:
    @pytest.mark.parametrize("late", LATE)
    async def test_its_late_end_is_not_the_end_of_the_next(
        self, scene: Scene, late: UploadFailed | UploadDenied
    ) -> None:
        download = await scene.fetch()
        await scene.asked()
        connection = await begun(scene, download)
        await scene.node.downloads.pause(download)
        assert await connection.read_some() == b"", "we have closed it"
        scene.node.downloads.resume(download)
        await scene.asked()
        await scene.stranger.link.send(late)
        await scene.asked()
        connection, offset = await scene.bring((await scene.offer()).token)
        assert offset == 40_000
        await connection.send_raw(CONTENT[offset:])
        await scene.ended(download, Outcome.SUCCEEDED)

    async def test_each_of_them_may_end_late(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        for _ in range(3):
            await scene.node.downloads.pause(download)
            scene.node.downloads.resume(download)
            await scene.asked()
        for late in LATE:
            await scene.stranger.link.send(late)
            await scene.asked()
        await scene.send()
        await scene.ended(download, Outcome.SUCCEEDED)

    async def test_what_is_said_during_the_pause_is_about_it(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        await scene.node.downloads.pause(download)
        await scene.stranger.link.send(PlaceInQueue(FILE, 1), UploadDenied(FILE, "Cancelled"))
        await eventually(lambda: not download.broken_off, "it was heard")
        assert download.transfer.phase is Phase.PAUSED
        scene.node.downloads.resume(download)
        await scene.asked()
        await scene.stranger.link.send(UploadDenied(FILE, "Banned"))
        await scene.ended(download, Outcome.REJECTED, "Banned")

    async def test_what_nobody_had_looked_at_before_the_pause_is_about_it(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        await eventually(lambda: download.transfer.phase is Phase.QUEUED_REMOTELY, "it waits")
        download.hear(UploadDenied(FILE, "Cancelled"))
        await scene.node.downloads.pause(download)
        assert download.transfer.phase is Phase.PAUSED
        scene.node.downloads.resume(download)
        await scene.asked()
        await scene.send()
        await scene.ended(download, Outcome.SUCCEEDED)

    async def test_what_comes_before_the_next_question_is_about_it(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        await scene.node.downloads.pause(download)
        scene.node.downloads.resume(download)
        download.hear(UploadDenied(FILE, "Cancelled"))
        await scene.asked()
        await scene.send()
        await scene.ended(download, Outcome.SUCCEEDED)

    async def test_what_is_said_after_the_first_byte_is_about_the_new_one(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        await scene.node.downloads.pause(download)
        scene.node.downloads.resume(download)
        await scene.asked()
        connection = await begun(scene, download)
        await scene.stranger.link.send(UploadDenied(FILE, "Cancelled"))
        assert not (await scene.offer()).allowed, "so the denial was read"
        connection.close()
        await eventually(lambda: download.transfer.phase is Phase.WAITING_RETRY, "it rests")
        scene.node.downloads.resume(download)
        async with asyncio.timeout(DEADLINE_S):
            await download.ended.wait()
        assert download.transfer.outcome is Outcome.CANCELLED

    async def test_a_peer_that_has_not_noticed_is_soon_asked_again(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("haulier.soulseek.fetching.ASK_AGAIN_S", 0.05)
        download = await scene.fetch()
        await scene.asked()
        await scene.node.downloads.pause(download)
        scene.node.downloads.resume(download)
        await scene.asked()
        await scene.asked()
        await scene.send()
        await scene.ended(download, Outcome.SUCCEEDED)

    async def test_one_that_the_node_has_stopped_is_no_other(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        await begun(scene, download)
        await scene.node.downloads.stop()
        await scene.node.ledger.flush()
        kept = await scene.node.ledger.find(download.id)
        assert kept is not None
        scene.node.downloads.start([kept])
        restored = scene.node.downloads.find(download.id)
        assert restored is not None
        await scene.asked()
        await scene.stranger.link.send(UploadDenied(FILE, "Cancelled"))
        await scene.asked()
        await scene.send()
        await scene.ended(restored, Outcome.SUCCEEDED)


class TestARepeatedOffer:
    async def test_a_newer_one_takes_the_place_of_one_that_has_brought_nothing(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        first, second = await scene.offer(), await scene.offer()
        assert (first.allowed, second.allowed) == (True, True)
        connection, _ = await scene.bring(second.token)
        await connection.send_raw(CONTENT)
        await scene.ended(download, Outcome.SUCCEEDED)

    async def test_the_older_one_brings_nothing_any_more(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        first, second = await scene.offer(), await scene.offer()
        late = await scene.stranger.connect(*scene.node.address)
        await late.send(PeerInit("mallory", "F"))
        await late.send_raw(first.token.to_bytes(4, "little"))
        assert await late.read_some() == b""
        connection, _ = await scene.bring(second.token)
        await connection.send_raw(CONTENT)
        await scene.ended(download, Outcome.SUCCEEDED)

    async def test_the_same_one_is_accepted_again(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        token = (await scene.offer()).token
        await scene.stranger.link.send(TransferRequest(TransferRequest.OFFERED, token, FILE, SIZE))
        assert await scene.stranger.hear(TransferResponse) == TransferResponse(token, allowed=True)
        connection, _ = await scene.bring(token)
        await connection.send_raw(CONTENT)
        await scene.ended(download, Outcome.SUCCEEDED)

    async def test_one_of_another_size_is_put_off(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        token = (await scene.offer()).token
        other = await scene.offer(size=SIZE + 1)
        assert (other.allowed, other.reason) == (False, "Queued")
        connection, _ = await scene.bring(token)
        await connection.send_raw(CONTENT)
        await scene.ended(download, Outcome.SUCCEEDED)

    async def test_one_is_put_off_while_the_file_comes(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        connection = await begun(scene, download)
        again = await scene.offer()
        assert (again.allowed, again.reason) == (False, "Queued")
        await connection.send_raw(CONTENT[40_000:])
        await scene.ended(download, Outcome.SUCCEEDED)

    async def test_one_is_put_off_again_while_no_slot_is_free(self, scene: Scene) -> None:
        first = await scene.fetch()
        await scene.asked()
        connection = await begun(scene, first)
        second = await scene.fetch(file="Music\\other")
        await scene.asked("Music\\other")
        for _ in range(3):
            again = await scene.offer(file="Music\\other")
            assert (again.allowed, again.reason) == (False, "Queued")
        await connection.send_raw(CONTENT[40_000:])
        await scene.ended(first, Outcome.SUCCEEDED)
        await scene.asked("Music\\other")
        await scene.node.downloads.cancel(second)

    async def test_one_is_complete_while_the_file_is_published(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with scene.publishing(monkeypatch) as download:
            again = await scene.offer()
        assert (again.allowed, again.reason) == (False, "Complete")
        await scene.ended(download, Outcome.SUCCEEDED)

    async def test_one_ends_a_rest(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        connection = await begun(scene, download)
        connection.close()
        await eventually(lambda: download.transfer.phase is Phase.WAITING_RETRY, "it rests")
        answer = await scene.offer()
        assert answer.allowed
        connection, offset = await scene.bring(answer.token)
        await connection.send_raw(CONTENT[offset:])
        await scene.ended(download, Outcome.SUCCEEDED)

    async def test_one_that_came_before_a_rest_makes_it_none(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        token = next(scene.tokens)
        offer = TransferRequest(TransferRequest.OFFERED, token, FILE, SIZE)
        await scene.stranger.link.send(UploadFailed(FILE), offer)
        assert await scene.stranger.hear(TransferResponse) == TransferResponse(token, allowed=True)
        connection, _ = await scene.bring(token)
        await connection.send_raw(CONTENT)
        await scene.ended(download, Outcome.SUCCEEDED)

    async def test_one_is_refused_during_a_pause(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        await scene.node.downloads.pause(download)
        answer = await scene.offer()
        assert (answer.allowed, answer.reason) == (False, "Cancelled")
        await scene.node.downloads.cancel(download)

    @pytest.mark.parametrize("what", ["pause", "cancel"])
    async def test_one_that_nobody_has_looked_at_is_refused_by_a_pause_and_a_cancel(
        self, scene: Scene, what: str
    ) -> None:
        download = await scene.fetch()
        await scene.asked()
        await eventually(lambda: download.transfer.phase is Phase.QUEUED_REMOTELY, "it waits")
        assert download.asked_over is not None
        request = TransferRequest(TransferRequest.OFFERED, 7, FILE, SIZE)
        download.inbox.put_offer(Offered(request, download.asked_over))
        await getattr(scene.node.downloads, what)(download)
        await refused(scene, 7, "Cancelled")
        await scene.node.downloads.cancel(download)

    async def test_of_two_that_nobody_has_looked_at_the_older_one_is_put_off(self, scene: Scene) -> None:
        download = await scene.fetch()
        await scene.asked()
        await eventually(lambda: download.transfer.phase is Phase.QUEUED_REMOTELY, "it waits")
        link = download.asked_over
        assert link is not None
        assert await scene.node.peers.is_trusted(link), "from now on nothing has to be asked for that"
        download.inbox.put_offer(Offered(TransferRequest(TransferRequest.OFFERED, 7, FILE, SIZE), link))
        await scene.node.downloads.take_offer(link, TransferRequest(TransferRequest.OFFERED, 8, FILE, SIZE))
        answers = [await scene.stranger.hear(TransferResponse) for _ in range(2)]
        assert TransferResponse(7, allowed=False, reason="Queued") in answers
        assert TransferResponse(8, allowed=True) in answers
        await scene.node.downloads.cancel(download)

    async def test_of_two_that_want_the_same_file_the_one_that_it_was_made_to_is_meant(
        self, scene: Scene
    ) -> None:
        first = await scene.fetch()
        await scene.asked()
        second = await scene.node.downloads.fetch("mallory", FILE, scene.folder / "elsewhere", SIZE)
        await scene.asked()
        token = (await scene.offer()).token
        assert first.expects(token)
        await scene.stranger.link.send(TransferRequest(TransferRequest.OFFERED, token, FILE, SIZE))
        assert await scene.stranger.hear(TransferResponse) == TransferResponse(token, allowed=True)
        other = await scene.offer()
        assert (other.allowed, other.reason) == (False, "Queued"), "there is no slot for the second one"
        await scene.node.downloads.cancel(second)
        connection, _ = await scene.bring(token)
        await connection.send_raw(CONTENT)
        await scene.ended(first, Outcome.SUCCEEDED)


async def test_failures_before_a_byte_came_do_not_count_after_it(scene: Scene) -> None:
    download = await scene.fetch()
    for _ in range(2):
        await scene.asked()
        await scene.stranger.link.send(UploadFailed(FILE))
        await eventually(lambda: download.transfer.phase is Phase.WAITING_RETRY, "it rests")
        scene.node.downloads.resume(download)
        await scene.asked()
        connection, offset = await scene.bring((await scene.offer()).token)
        await connection.send_raw(CONTENT[offset : offset + 100])
        await eventually(lambda done=offset + 100: download.transfer.done == done, "it has come")  # type: ignore[misc]
        connection.close()
        await eventually(lambda: download.transfer.phase is Phase.WAITING_RETRY, "it rests")
        scene.node.downloads.resume(download)
    await scene.asked()
    await scene.send()
    await scene.ended(download, Outcome.SUCCEEDED)


async def test_who_offers_is_asked_for_patience_while_the_server_cannot_tell_who_it_is(
    tmp_path: Path,
) -> None:
    async with network(tmp_path) as net, AsyncExitStack() as stack:
        node = await net.node("alice")
        scene = Scene(node, await Stranger.enter(net, node, stack), tmp_path)
        download = await scene.fetch()
        await scene.asked()
        await net.server.stop()
        await eventually(lambda: not node.link.up.is_set(), "the server is gone")
        answer = await scene.offer()
        assert (answer.allowed, answer.reason) == (False, "Queued")
        await node.downloads.cancel(download)
