"""Downloads from a peer that does just what a test says."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from haulier.adapters.transfer_queue import SqliteTransferQueueStore
from haulier.core.transfer import Direction, Outcome, Transfer, TransferId
from haulier.core.values import replace
from haulier.parts import part_of
from haulier.ports import PeerTransfer
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.connection import ConnectionLost
from haulier.soulseek.messages import PeerInit
from haulier.soulseek.peer_messages import (
    GetPlaceInQueue,
    PlaceInQueue,
    TransferRequest,
    UploadDenied,
    UploadFailed,
)
from haulier.soulseek.views import kept_document
from tests.support.scene import CONTENT, FILE, SIZE, Scene, parts_in
from tests.support.soulseek import DEADLINE_S, PATIENT, SHORT, eventually, network
from tests.support.stranger import Stranger


@asynccontextmanager
async def played(folder: Path, bounds: Bounds) -> AsyncIterator[Scene]:
    async with network(folder) as net, AsyncExitStack() as stack:
        node = await net.node("alice", download_slots=1, bounds=bounds)
        yield Scene(node, await Stranger.enter(net, node, stack), folder)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with played(tmp_path, PATIENT) as scene:
        yield scene


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[Scene]:
    """The same with a node that soon gives up."""
    async with played(tmp_path, replace(SHORT, place_poll_s=PATIENT.place_poll_s)) as scene:
        yield scene


@pytest.fixture
async def curious(tmp_path: Path) -> AsyncIterator[Scene]:
    """The same with a node that often asks for its place."""
    async with played(tmp_path, replace(PATIENT, place_poll_s=SHORT.place_poll_s)) as scene:
        yield scene


async def test_a_file_is_offered_brought_and_closed_by_us(scene: Scene) -> None:
    download = await scene.fetch()
    await scene.asked()
    await scene.send()
    await scene.ended(download, Outcome.SUCCEEDED)


@pytest.mark.parametrize("reason", ["Queued", "Too many files", "Too many megabytes", "Pending shutdown."])
async def test_a_denial_that_passes_is_waited_for(scene: Scene, reason: str) -> None:
    download = await scene.fetch()
    await scene.asked()
    await scene.stranger.link.send(UploadDenied(FILE, reason))
    await scene.asked()
    await scene.send()
    await scene.ended(download, Outcome.SUCCEEDED)


@pytest.mark.parametrize("reason", ["File not shared.", "Banned", "whatever"])
async def test_any_other_denial_is_final(scene: Scene, reason: str) -> None:
    download = await scene.fetch()
    await scene.asked()
    await scene.stranger.link.send(UploadDenied(FILE, reason))
    await scene.ended(download, Outcome.REJECTED, reason)


async def test_a_failure_is_asked_about_once_more(scene: Scene) -> None:
    download = await scene.fetch()
    await scene.asked()
    await scene.stranger.link.send(UploadFailed(FILE))
    await scene.asked()
    await scene.stranger.link.send(UploadFailed(FILE))
    await scene.ended(download, Outcome.ERRORED, "the peer could not send the file")


async def test_it_goes_on_where_a_cut_left_it(scene: Scene) -> None:
    download = await scene.fetch()
    await scene.asked()
    answer = await scene.offer()
    connection, offset = await scene.bring(answer.token)
    assert offset == 0
    await connection.send_raw(CONTENT[:40_000])
    connection.close()
    await scene.asked()
    answer = await scene.offer()
    connection, offset = await scene.bring(answer.token)
    assert offset == 40_000
    await connection.send_raw(CONTENT[40_000:])
    await scene.ended(download, Outcome.SUCCEEDED)


async def test_what_comes_behind_the_last_byte_is_not_kept(scene: Scene) -> None:
    download = await scene.fetch()
    await scene.asked()
    await scene.send(CONTENT + b"more")
    await scene.ended(download, Outcome.SUCCEEDED)


async def test_a_size_of_nothing_does_not_count_against_a_known_one(scene: Scene) -> None:
    download = await scene.fetch(SIZE)
    await scene.asked()
    answer = await scene.offer(size=0)
    assert answer.allowed
    connection, _ = await scene.bring(answer.token)
    await connection.send_raw(CONTENT)
    await scene.ended(download, Outcome.SUCCEEDED)


async def test_another_size_than_the_wanted_one_is_aborted(scene: Scene) -> None:
    download = await scene.fetch(SIZE + 1)
    await scene.asked()
    token = next(scene.tokens)
    await scene.stranger.link.send(TransferRequest(TransferRequest.OFFERED, token, FILE, SIZE))
    await scene.ended(download, Outcome.ABORTED, f"the file has {SIZE} bytes, not {SIZE + 1}")


async def test_a_peer_that_stalls_loses_its_connection_and_is_asked_again(hasty: Scene) -> None:
    download = await hasty.fetch()
    await hasty.asked()
    answer = await hasty.offer()
    connection, _ = await hasty.bring(answer.token)
    await connection.send_raw(CONTENT[:10])
    await hasty.asked()
    await hasty.send()
    await hasty.ended(download, Outcome.SUCCEEDED)


async def test_who_never_brings_what_was_agreed_is_asked_again(hasty: Scene) -> None:
    download = await hasty.fetch()
    await hasty.asked()
    assert (await hasty.offer()).allowed
    await hasty.asked()
    await hasty.send()
    await hasty.ended(download, Outcome.SUCCEEDED)


async def test_the_place_is_asked_for_and_a_peer_that_forgot_us_is_asked_again(curious: Scene) -> None:
    download = await curious.fetch()
    await curious.asked()
    assert await curious.stranger.hear(GetPlaceInQueue) == GetPlaceInQueue(FILE)
    await curious.stranger.link.send(PlaceInQueue(FILE, 7))
    assert await curious.stranger.hear(GetPlaceInQueue) == GetPlaceInQueue(FILE)
    assert download.place == 7
    await curious.asked()
    await curious.send()
    await curious.ended(download, Outcome.SUCCEEDED)


async def test_without_a_slot_an_offer_is_put_off_and_asked_for_again(scene: Scene) -> None:
    first = await scene.fetch()
    await scene.asked()
    answer = await scene.offer()
    connection, _ = await scene.bring(answer.token)
    second = await scene.fetch(file="Music\\other")
    await scene.asked("Music\\other")
    refused = await scene.offer(file="Music\\other")
    assert (refused.allowed, refused.reason) == (False, "Queued")
    await connection.send_raw(CONTENT)
    await scene.ended(first, Outcome.SUCCEEDED)
    await scene.asked("Music\\other")
    await scene.node.downloads.cancel(second)


async def test_a_file_in_its_place_meanwhile_is_not_written_over(scene: Scene) -> None:
    download = await scene.fetch()
    await scene.asked()
    answer = await scene.offer()
    connection, _ = await scene.bring(answer.token)
    (scene.folder / "song.bin").write_text("mine")
    await connection.send_raw(CONTENT)
    async with asyncio.timeout(DEADLINE_S):
        await download.ended.wait()
    assert download.transfer.outcome is Outcome.ERRORED
    assert (scene.folder / "song.bin").read_text() == "mine"
    (scene.folder / "song.bin").unlink()
    again = await scene.fetch()
    await scene.asked()
    _, offset = await scene.bring((await scene.offer()).token)
    assert offset == SIZE, "all of it was there already"
    await scene.ended(again, Outcome.SUCCEEDED)


async def test_a_new_download_goes_on_where_a_failed_one_ended(scene: Scene) -> None:
    download = await scene.fetch()
    await scene.asked()
    connection, _ = await scene.bring((await scene.offer()).token)
    await connection.send_raw(CONTENT[:40_000])
    connection.close()
    for _ in range(2):
        await scene.asked()
        await scene.stranger.link.send(UploadFailed(FILE))
    async with asyncio.timeout(DEADLINE_S):
        await download.ended.wait()
    assert download.transfer.outcome is Outcome.ERRORED
    again = await scene.fetch()
    await scene.asked()
    connection, offset = await scene.bring((await scene.offer()).token)
    assert offset == 40_000
    await connection.send_raw(CONTENT[40_000:])
    await scene.ended(again, Outcome.SUCCEEDED)


async def test_a_file_of_another_size_never_gets_the_bytes_of_an_older_one(scene: Scene) -> None:
    download = await scene.fetch()
    await scene.asked()
    connection, _ = await scene.bring((await scene.offer(size=SIZE + 5)).token)
    await connection.send_raw(b"x" * 40_000)
    connection.close()
    for _ in range(2):
        await scene.asked()
        await scene.stranger.link.send(UploadFailed(FILE))
    async with asyncio.timeout(DEADLINE_S):
        await download.ended.wait()
    again = await scene.fetch()
    await scene.asked()
    connection, offset = await scene.bring((await scene.offer()).token)
    assert offset == 0
    await connection.send_raw(CONTENT)
    async with asyncio.timeout(DEADLINE_S):
        await again.ended.wait()
    assert (scene.folder / "song.bin").read_bytes() == CONTENT


async def test_a_taken_name_is_noticed_before_the_peer_is_asked(scene: Scene) -> None:
    (scene.folder / "song.bin").write_text("mine")
    download = await scene.fetch()
    async with asyncio.timeout(DEADLINE_S):
        await download.ended.wait()
    assert download.transfer.outcome is Outcome.ERRORED
    other = await scene.fetch(file="Music\\other")
    await scene.asked("Music\\other")
    await scene.node.downloads.cancel(other)


async def test_a_cancel_while_the_file_is_published_is_too_late(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.TaskGroup() as group, scene.publishing(monkeypatch) as download:
        group.create_task(scene.node.downloads.cancel(download))
        await asyncio.sleep(0)
    await scene.ended(download, Outcome.SUCCEEDED)


@pytest.mark.parametrize("crashed", ["before the link", "between link and unlink", "after the unlink"])
async def test_a_crash_while_a_file_is_published_ends_as_a_success(tmp_path: Path, crashed: str) -> None:
    target = tmp_path / "song.bin"
    part = part_of(target, f"mallory/{SIZE}/{FILE}")
    if crashed == "after the unlink":
        target.write_bytes(CONTENT)
    else:
        part.write_bytes(CONTENT)
    if crashed == "between link and unlink":
        target.hardlink_to(part)
    (tmp_path / "node-alice").mkdir()
    store = SqliteTransferQueueStore(tmp_path / "node-alice" / "transfers.db")
    await store.open()
    transfer = Transfer(
        id=TransferId("t"), direction=Direction.DOWNLOAD, line="mallory", size=SIZE, queued_at=1.0
    )
    transfer = transfer.request().initialize().begin(SIZE, now=1.0).advance()
    await store.save(
        [PeerTransfer(transfer=replace(transfer, pace=None), file=FILE, target=os.fspath(target))]
    )
    await store.close()
    async with network(tmp_path) as net:
        node = await net.node("alice")
        await eventually(lambda: not node.downloads.live, "it has ended")
        kept = await node.ledger.find(TransferId("t"))
        assert kept is not None
        assert kept.transfer.outcome is Outcome.SUCCEEDED
    assert target.read_bytes() == CONTENT
    assert parts_in(tmp_path) == []


async def test_a_peer_that_sends_a_trickle_does_not_keep_its_slot(tmp_path: Path) -> None:
    async with network(tmp_path) as net, AsyncExitStack() as stack:
        node = await net.node("alice", bounds=replace(PATIENT, rate_window_s=0.5))
        scene = Scene(node, await Stranger.enter(net, node, stack), tmp_path)
        download = await scene.fetch()
        await scene.asked()
        connection, _ = await scene.bring((await scene.offer()).token)

        async def trickle() -> None:
            with suppress(ConnectionLost):
                while True:
                    await connection.send_raw(b"x")
                    await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            trickling = group.create_task(trickle())
            await scene.asked()
            assert node.downloads.slots.held == 0
            trickling.cancel()
        await node.downloads.cancel(download)


async def test_a_question_that_perhaps_nobody_has_read_is_put_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haulier.soulseek.fetching.ASK_AGAIN_S", 0.05)
    download = await scene.fetch()
    await scene.asked()
    scene.stranger.link.abort()
    await eventually(lambda: scene.node.peers.count == 0, "the connection is gone")
    scene.stranger.link = await scene.stranger.opened(scene.node, PeerInit("mallory", "P"))
    await scene.asked()
    await scene.send()
    await scene.ended(download, Outcome.SUCCEEDED)


async def test_an_offer_is_answered_where_it_came_from(scene: Scene) -> None:
    download = await scene.fetch()
    await scene.asked()
    newer = await scene.stranger.opened(scene.node, PeerInit("mallory", "P"))
    answer = await scene.offer()
    assert answer.allowed
    connection, _ = await scene.bring(answer.token)
    await connection.send_raw(CONTENT)
    await scene.ended(download, Outcome.SUCCEEDED)
    newer.abort()


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
async def test_a_size_that_no_file_has_is_refused_and_nothing_else_suffers(scene: Scene, size: int) -> None:
    download = await scene.fetch()
    await scene.asked()
    refused = await scene.offer(size)
    assert (refused.allowed, refused.reason) == (False, "Cancelled")
    await scene.ended(download, Outcome.ABORTED, f"no file has {size} bytes")
    await scene.node.ledger.flush()
    kept = await scene.node.ledger.find(download.id)
    assert kept is not None
    assert kept.transfer.outcome is Outcome.ABORTED


async def test_a_denial_in_an_old_encoding_is_told_as_text(scene: Scene) -> None:
    download = await scene.fetch()
    await scene.asked()
    await scene.stranger.link.send(UploadDenied(FILE, "gesperrt f\udcfcr dich"))
    await scene.ended(download, Outcome.REJECTED, "gesperrt f\udcfcr dich")
    kept = await scene.node.ledger.find(download.id)
    assert kept is not None
    told = json.dumps(kept_document(kept), ensure_ascii=False).encode()  # as both APIs write it
    assert json.loads(told)["error"] == "gesperrt f\u00fcr dich"


async def test_of_a_denial_no_more_is_kept_than_anybody_reads(scene: Scene) -> None:
    download = await scene.fetch()
    await scene.asked()
    await scene.stranger.link.send(UploadDenied(FILE, "no" * 500_000))
    await scene.ended(download, Outcome.REJECTED, "no" * 100)
