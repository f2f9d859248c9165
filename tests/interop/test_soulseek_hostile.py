"""Peers that do what no peer should: each time the slot is free within its bound, and the node serves the next."""

import asyncio
import os
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from haulier.core.transfer import Outcome
from haulier.core.values import replace
from haulier.ports import SharedFile
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.codec import Message, text_of
from haulier.soulseek.connection import Connection, ConnectionLost, connect
from haulier.soulseek.inquiries import FILES_WAITING
from haulier.soulseek.messages import (
    PeerInit,
)
from haulier.soulseek.node import Node
from haulier.soulseek.peer_messages import (
    TO_PEER,
    FileEntry,
    Found,
    GetShareList,
    PlaceInQueue,
    QueueUpload,
    SearchAnswer,
    ShareList,
    TransferRequest,
    TransferResponse,
    UploadDenied,
    UploadFailed,
)
from haulier.soulseek.upload import UploadRules
from tests.support.soulseek import (
    DEADLINE_S,
    PATIENT,
    SHORT,
    Network,
    eventually,
    make_file,
    network,
    sha256_of,
)
from tests.support.stranger import VIRTUAL, Stranger, hold

SIZE = 30_000_000
"""More than the buffers of two kernels hold."""


class Scene:
    """A node with one slot, a stranger who is about to misuse it, and somebody honest behind."""

    def __init__(self, net: Network, node: Node, stranger: Stranger, folder: Path) -> None:
        self.net = net
        self.node = node
        self.stranger = stranger
        self.folder = folder

    async def ended(self, outcome: Outcome) -> None:
        """The stranger's upload has ended so, its slot is free, and the node serves the next."""
        await eventually(lambda: self.node.uploads.totals.ended.get(outcome) == 1, f"it ended as {outcome}")
        await eventually(lambda: self.node.uploads.slots.held == 0, "the slot is free")
        await self.healthy()

    async def healthy(self) -> None:
        """Somebody honest gets a file."""
        bob = await self.net.node("bob")
        download = await bob.downloads.fetch(
            self.node.settings.identity.user, "Music\\small.bin", self.folder / "got"
        )
        async with asyncio.timeout(DEADLINE_S):
            await download.ended.wait()
        assert download.transfer.outcome is Outcome.SUCCEEDED, download.transfer
        assert sha256_of(self.folder / "got") == sha256_of(self.folder / "Music" / "small.bin")


@asynccontextmanager
async def played(folder: Path, bounds: Bounds) -> AsyncIterator[Scene]:
    make_file(folder / "Music" / "song.bin", SIZE)
    make_file(folder / "Music" / "small.bin", 1000)
    async with network(folder) as net, AsyncExitStack() as stack:
        node = await net.node("alice", folder / "Music", rules=UploadRules(slots=1), bounds=bounds)
        yield Scene(net, node, await Stranger.enter(net, node, stack), folder)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with played(tmp_path, PATIENT) as scene:
        yield scene


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[Scene]:
    """The same with a node that soon gives up."""
    async with played(tmp_path, SHORT) as scene:
        yield scene


FLOODS = pytest.mark.parametrize("flood", [2_000, pytest.param(100_000, marks=pytest.mark.long)])


@asynccontextmanager
async def flooded(folder: Path) -> AsyncIterator[Scene]:
    """Give a node that reads its peers as fast as they write, lets a user have a hundred files waiting, and has patience."""
    for name, size in (("small.bin", 1_000), ("song.bin", 1_000_000)):
        make_file(folder / "Music" / name, size)
    bounds = replace(PATIENT, messages_per_s=1e9, queued_files_per_user=100, response_s=60 * DEADLINE_S)
    async with network(folder) as net, AsyncExitStack() as stack:
        node = await net.node("alice", folder / "Music", rules=UploadRules(slots=1), bounds=bounds)
        yield Scene(net, node, await Stranger.enter(net, node, stack), folder)


class TestWhoeverIsOffered:
    async def test_never_answers(self, hasty: Scene) -> None:
        await hasty.stranger.offered()
        await hasty.ended(Outcome.TIMED_OUT)

    async def test_answers_cancelled(self, scene: Scene) -> None:
        offer = await scene.stranger.offered()
        await scene.stranger.link.send(TransferResponse(offer.token, allowed=False, reason="Cancelled"))
        await scene.ended(Outcome.CANCELLED)

    async def test_answers_complete(self, scene: Scene) -> None:
        offer = await scene.stranger.offered()
        await scene.stranger.link.send(TransferResponse(offer.token, allowed=False, reason="Complete"))
        await scene.ended(Outcome.SUCCEEDED)

    async def test_answers_with_a_reason_of_its_own(self, scene: Scene) -> None:
        offer = await scene.stranger.offered()
        await scene.stranger.link.send(TransferResponse(offer.token, allowed=False, reason="no"))
        await scene.ended(Outcome.REJECTED)

    async def test_answers_with_more_words_than_anybody_reads(self, scene: Scene) -> None:
        offer = await scene.stranger.offered()
        await scene.stranger.link.send(TransferResponse(offer.token, allowed=False, reason="no" * 500_000))
        await scene.ended(Outcome.REJECTED)
        *_, kept = await scene.node.ledger.latest(9)
        assert kept.transfer.reason == "no" * 100

    async def test_answers_queued_and_is_offered_it_again(self, scene: Scene) -> None:
        offer = await scene.stranger.offered()
        await scene.stranger.link.send(TransferResponse(offer.token, allowed=False, reason="Queued"))
        again = await scene.stranger.hear(TransferRequest)
        assert isinstance(again, TransferRequest)
        assert again.token != offer.token
        await scene.stranger.link.send(TransferResponse(again.token, allowed=False, reason="Cancelled"))
        await scene.ended(Outcome.CANCELLED)

    async def test_answers_another_token(self, hasty: Scene) -> None:
        offer = await hasty.stranger.offered()
        await hasty.stranger.link.send(TransferResponse(offer.token ^ 1, allowed=True))
        await hasty.ended(Outcome.TIMED_OUT)

    async def test_loses_the_connection_and_is_offered_it_over_another(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("haulier.soulseek.offer.SETTLE_S", 0.05)
        offer = await scene.stranger.offered()
        lost = scene.stranger.link
        scene.stranger.link = await scene.stranger.opened(scene.node, PeerInit("mallory", "P"))
        lost.abort()
        assert await scene.stranger.hear(TransferRequest) == offer
        await scene.stranger.link.send(TransferResponse(offer.token, allowed=False, reason="Cancelled"))
        await scene.ended(Outcome.CANCELLED)


class TestWhoeverIsConnected:
    async def test_sends_no_offset(self, hasty: Scene) -> None:
        await hasty.stranger.connected()
        await hasty.ended(Outcome.TIMED_OUT)
        assert await hasty.stranger.hear(UploadFailed) == UploadFailed(VIRTUAL)

    async def test_closes_without_an_offset_because_it_has_the_file(self, scene: Scene) -> None:
        (await scene.stranger.connected()).close()
        await scene.ended(Outcome.SUCCEEDED)

    async def test_closes_in_the_middle_of_its_offset(self, scene: Scene) -> None:
        connection = await scene.stranger.connected()
        await connection.send_raw(b"\0\0\0")
        connection.close()
        await scene.ended(Outcome.ERRORED)

    @pytest.mark.parametrize("offset", [SIZE + 1, 2**63, 2**64 - 1])
    async def test_wants_bytes_that_are_not_there(self, scene: Scene, offset: int) -> None:
        await scene.stranger.begun(offset)
        await scene.ended(Outcome.ERRORED)
        assert await scene.stranger.hear(UploadFailed) == UploadFailed(VIRTUAL)

    async def test_wants_what_is_behind_the_last_byte(self, scene: Scene) -> None:
        connection = await scene.stranger.begun(SIZE)
        assert await connection.read_some() == b""
        await scene.ended(Outcome.SUCCEEDED)


class TestWhoeverReceives:
    async def test_takes_all_and_never_closes(self, hasty: Scene) -> None:
        connection = await hasty.stranger.begun()
        assert len(await connection.read_exactly(SIZE)) == SIZE
        await hasty.ended(Outcome.SUCCEEDED)

    async def test_stops_reading(self, hasty: Scene) -> None:
        connection = await hasty.stranger.begun()
        await connection.read_exactly(1000)
        hold(connection)
        await hasty.ended(Outcome.TIMED_OUT)

    async def test_reads_a_byte_now_and_then(self, hasty: Scene) -> None:
        connection = await hasty.stranger.begun()
        hold(connection)
        sock = connection.writer.get_extra_info("socket")

        async def trickle() -> None:
            while True:
                with suppress(BlockingIOError):
                    sock._sock.recv(1)
                await asyncio.sleep(0.1)

        reading = asyncio.get_running_loop().create_task(trickle())
        try:
            await hasty.ended(Outcome.TIMED_OUT)
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    async def test_closes_in_the_middle(self, scene: Scene) -> None:
        connection = await scene.stranger.begun()
        await connection.read_exactly(1000)
        connection.abort()
        await scene.ended(Outcome.ERRORED)
        assert await scene.stranger.hear(UploadFailed) == UploadFailed(VIRTUAL)

    async def test_ends_its_side_with_bytes_still_queued(self, scene: Scene) -> None:
        connection = await scene.stranger.begun()
        await connection.read_exactly(1000)
        hold(connection)
        connection.writer.write_eof()
        await scene.ended(Outcome.ERRORED)

    async def test_sends_instead(self, scene: Scene) -> None:
        connection = await scene.stranger.begun()
        with suppress(ConnectionLost):
            while True:
                await connection.send_raw(bytes(16 * 1024))
        await scene.ended(Outcome.ERRORED)


class TestFiles:
    async def test_one_that_shrinks_meanwhile_is_never_passed_off_as_whole(self, scene: Scene) -> None:
        connection = await scene.stranger.begun()
        await connection.read_exactly(1000)
        with (scene.folder / "Music" / "song.bin").open("r+b") as file:
            file.truncate(SIZE // 2)
        with pytest.raises(ConnectionLost):
            await connection.read_exactly(SIZE - 1000)
        await scene.ended(Outcome.ERRORED)

    async def test_one_that_is_replaced_meanwhile_is_not_either(self, scene: Scene) -> None:
        connection = await scene.stranger.begun()
        await connection.read_exactly(1000)
        make_file(scene.folder / "new", SIZE, seed=9).replace(scene.folder / "Music" / "song.bin")
        with pytest.raises(ConnectionLost):
            await connection.read_exactly(SIZE - 1000)
        await scene.ended(Outcome.ERRORED)

    async def test_that_counts_against_nobody(self, scene: Scene) -> None:
        song = scene.folder / "Music" / "song.bin"
        for time in range(PATIENT.failures_per_day + 1):
            connection = await scene.stranger.begun()
            await connection.read_exactly(1)
            os.utime(song, ns=(time, time))
            with suppress(ConnectionLost):
                while await connection.read_some():
                    pass
            await scene.stranger.hear(UploadFailed)
        await scene.healthy()

    async def test_of_one_that_grows_the_announced_bytes_are_sent(self, scene: Scene) -> None:
        connection = await scene.stranger.begun()
        await connection.read_exactly(1000)
        with (scene.folder / "Music" / "song.bin").open("ab") as file:
            file.write(b"more")
        await connection.read_exactly(SIZE - 1000)
        assert await connection.read_some() == b""
        await scene.ended(Outcome.SUCCEEDED)


class TestFloods:
    @FLOODS
    async def test_many_requests_for_one_file_are_one_upload(self, tmp_path: Path, flood: int) -> None:
        async with flooded(tmp_path) as scene:
            stranger, node = scene.stranger, scene.node
            offer = await stranger.offered("Music\\small.bin")

            async def ask() -> None:
                for _ in range(flood):
                    await stranger.link.send(QueueUpload("Music\\song.bin"))

            async with asyncio.TaskGroup() as group:
                group.create_task(ask())
                for _ in range(flood - 1):
                    assert await stranger.hear(PlaceInQueue) == PlaceInQueue("Music\\song.bin", 1)
                    assert len(node.uploads.live) <= 2
            await stranger.link.send(TransferResponse(offer.token, allowed=False, reason="Cancelled"))
            again = await stranger.hear(TransferRequest)
            assert isinstance(again, TransferRequest)
            assert (again.file, len(node.uploads.live)) == ("Music\\song.bin", 1)
            await stranger.link.send(TransferResponse(again.token, allowed=False, reason="Cancelled"))
            await eventually(lambda: node.uploads.slots.held == 0, "the slot is free")
            await scene.healthy()

    async def test_requests_for_what_is_not_there_are_denied_one_by_one(self, scene: Scene) -> None:
        link = scene.stranger.link
        for number in range(500):
            await link.send(QueueUpload(f"Music\\{number}"))
        for number in range(500):
            assert await link.receive() == UploadDenied(f"Music\\{number}", "File not shared.")
        assert scene.node.uploads.live == []
        await scene.healthy()

    async def test_a_user_has_so_many_files_waiting_and_no_more(self, tmp_path: Path) -> None:
        for number in range(130):
            make_file(tmp_path / "Music" / f"{number:03}.bin", 10)
        make_file(tmp_path / "Music" / "small.bin", 10)
        async with network(tmp_path) as net, AsyncExitStack() as stack:
            bounds = Bounds(connections_per_address=1_000)
            node = await net.node("alice", tmp_path / "Music", rules=UploadRules(slots=1), bounds=bounds)
            stranger = await Stranger.enter(net, node, stack)
            for number in range(130):
                await stranger.link.send(QueueUpload(f"Music\\{number:03}.bin"))
            for number in range(100, 130):
                denied = await stranger.hear(UploadDenied)
                assert denied == UploadDenied(f"Music\\{number:03}.bin", "Too many files")
            assert len(node.uploads.live) == 100

    @FLOODS
    async def test_of_many_different_files_a_hundred_wait_and_each_other_is_denied(
        self, tmp_path: Path, flood: int
    ) -> None:
        async with flooded(tmp_path) as scene:
            stranger, node = scene.stranger, scene.node
            shared = [await node.shares.find(f"Music\\{name}.bin") for name in ("small", "song")]
            shared += [
                SharedFile(share="Music", path=f"Music\\{number}", local=f"{number}", size=10)
                for number in range(flood)
            ]
            await node.shares._index.replace([file for file in shared if file is not None])
            offer = await stranger.offered("Music\\small.bin")  # which holds the slot
            tasks = len(node._tasks)

            async def ask() -> None:
                for number in range(flood):
                    await stranger.link.send(QueueUpload(f"Music\\{number}"))

            async with asyncio.TaskGroup() as group:
                group.create_task(ask())
                for number in range(99, flood):
                    denied = await stranger.hear(UploadDenied)
                    assert denied == UploadDenied(f"Music\\{number}", "Too many files")
                    assert len(node.ledger._unwritten) <= 100
                    assert len(node._tasks) <= tasks + 2
            assert len(node.uploads.live) == 100
            assert node.uploads.waiting == 99
            await stranger.link.send(TransferResponse(offer.token, allowed=False, reason="Cancelled"))
            await eventually(lambda: not node.uploads.live, "those that are not there are denied, too")
            assert node.uploads.slots.held == 0
            await scene.healthy()

    async def test_who_asks_and_asks_and_reads_no_answer_is_cut_off(self, tmp_path: Path) -> None:
        async with flooded(tmp_path) as scene:
            link = scene.stranger.link
            hold(link)

            async def ask() -> None:
                for number in count():
                    await link.send(QueueUpload(f"Music\\{number} {1_000 * 'x'}"))

            with pytest.raises(ConnectionLost):
                await asyncio.wait_for(ask(), DEADLINE_S)
            await eventually(lambda: scene.node.peers.count == 0, "the connection is gone")
            assert scene.node.uploads.live == []
            await scene.healthy()

    async def test_a_thousand_connections_are_no_more_than_their_bound(self, tmp_path: Path) -> None:
        make_file(tmp_path / "Music" / "small.bin", 10)
        async with network(tmp_path) as net, AsyncExitStack() as stack:
            bounds = Bounds(connections_per_address=20)
            node = await net.node("alice", tmp_path / "Music", bounds=bounds)
            crowd = [await connect(*node.address, PATIENT) for _ in range(1_000)]
            await eventually(lambda: node.peers.count == 20, "twenty are let in")
            for connection in crowd:
                connection.abort()
            await eventually(lambda: node.peers.count == 0, "all are gone")
            await Scene(net, node, Stranger("nobody", stack), tmp_path).healthy()


class TestFrames:
    @pytest.mark.parametrize(
        ("code", "length"), [(43, 0xFFFFFFFF), (9, 0xFFFFFFFF), (5, 64 * 1024 + 5), (43, 1024 * 1024 + 1)]
    )
    async def test_one_that_is_too_long_ends_the_connection_before_it_comes(
        self, scene: Scene, code: int, length: int
    ) -> None:
        link = scene.stranger.link
        await link.send_raw(length.to_bytes(4, "little") + code.to_bytes(4, "little"))
        with pytest.raises(ConnectionLost):
            async with asyncio.timeout(DEADLINE_S):
                await link.receive()
        await scene.healthy()

    async def test_who_reads_a_long_list_slowly_holds_up_nobody(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        long = TO_PEER.encode(ShareList(os.urandom(SIZE)))

        async def list_() -> bytes:
            return long

        async with played(tmp_path, replace(PATIENT, message_write_s=10 * DEADLINE_S)) as scene:
            monkeypatch.setattr(scene.node.shares, "list", list_)
            hold(scene.stranger.link)
            await scene.stranger.link.send(GetShareList())
            await eventually(lambda: any(it.users for it in scene.node.peers._links), "it is being told")
            other = await scene.stranger.opened(scene.node, PeerInit("bob", "P"))
            await other.send(GetShareList())
            async with asyncio.timeout(DEADLINE_S):
                assert await other.receive() == ShareList(long[8:])
            scene.stranger.link.abort()

    async def test_half_a_first_one_and_silence_end_the_connection(self, hasty: Scene) -> None:
        connection = await hasty.stranger.connect(*hasty.node.address)
        await connection.send_raw(b"\x13\0\0\0\1")
        async with asyncio.timeout(DEADLINE_S):
            assert await connection.read_some() == b""
        await hasty.healthy()

    async def test_a_bomb_among_the_answers_to_a_search_is_passed_over(self, scene: Scene) -> None:
        head = bytes.fromhex("03000000 626f62")
        async with asyncio.timeout(DEADLINE_S):
            answers = scene.node.inquiries.search("words", wait_s=1.0)
            first = asyncio.get_running_loop().create_task(_next_or_none(answers))
            await eventually(lambda: bool(scene.node.inquiries.searches), "the search runs")
            [token] = scene.node.inquiries.searches
            bomb = zlib.compress(
                head + token.to_bytes(4, "little") + (2**24).to_bytes(4, "little") + bytes(2**27), 9
            )
            await scene.stranger.link.send(SearchAnswer(bomb))
            assert await first is None
        await scene.healthy()

    async def test_answers_to_a_search_that_nobody_reads_are_kept_up_to_a_bound(self, scene: Scene) -> None:
        answers = scene.node.inquiries.search("words", wait_s=DEADLINE_S)
        assert isinstance(answers, AsyncGenerator)
        async with asyncio.timeout(DEADLINE_S), aclosing(answers):
            first = asyncio.get_running_loop().create_task(_next_or_none(answers))
            await eventually(lambda: bool(scene.node.inquiries.searches), "the search runs")
            [token] = scene.node.inquiries.searches
            files = 10_000 * (FileEntry.of("song", 1),)
            found = Found(
                user="bob", token=token, files=files, slot_free=True, speed=1, queue_length=0, private=files
            )
            for _ in range(2 + FILES_WAITING // 20_000):
                await scene.stranger.link.send(SearchAnswer.pack(found))
            await scene.stranger.link.send(QueueUpload("Music\\nothing"))
            await scene.stranger.hear(UploadDenied)  # so all that came before has been looked at
            assert await first == found
            waiting = scene.node.inquiries._searches[token]
            assert waiting._found.qsize() <= 1 + FILES_WAITING // 20_000
        await scene.healthy()


async def _next_or_none(answers: AsyncIterator[object]) -> object | None:
    return await anext(answers, None)


class TestBorrowedNames:
    @pytest.mark.parametrize("name", ["alice", "", "mallory\n", "\0"])
    async def test_our_own_and_what_is_no_name_are_refused(self, scene: Scene, name: str) -> None:
        link = await scene.stranger.opened(scene.node, PeerInit(name, "P"))
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(ConnectionLost):
                await link.receive()
        await scene.healthy()

    async def test_the_file_goes_to_whose_name_it_is(self, scene: Scene) -> None:
        """Somebody asks as mallory, who is somewhere else; the offer reaches mallory, who did not ask."""
        spoofed = await scene.stranger.opened(scene.node, PeerInit("mallory", "P"))
        await spoofed.send(QueueUpload(VIRTUAL))
        offer = await _hear_on_either(scene.stranger.link, spoofed)
        assert isinstance(offer, TransferRequest)

    async def test_an_offer_that_nobody_asked_for_is_refused(self, scene: Scene) -> None:
        link = scene.stranger.link
        await link.send(TransferRequest(TransferRequest.OFFERED, 5, "virus.exe", 10))
        assert await link.receive() == TransferResponse(5, allowed=False, reason="Cancelled")

    async def test_a_file_that_nobody_waits_for_is_not_taken(self, scene: Scene) -> None:
        connection = await scene.stranger.connect(*scene.node.address)
        await connection.send(PeerInit("mallory", "F"))
        await connection.send_raw(b"\1\2\3\4")
        async with asyncio.timeout(DEADLINE_S):
            assert await connection.read_some() == b""
        await scene.healthy()


async def _hear_on_either(*links: Connection) -> Message:
    tasks = [asyncio.get_running_loop().create_task(_heard(link)) for link in links]
    try:
        async with asyncio.timeout(DEADLINE_S):
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(done)).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _heard(link: Connection) -> Message:
    message = await link.receive()
    assert isinstance(message, Message)
    return message


class TestOtherAddresses:
    """The server says that mallory is at 127.0.0.1; somebody at 127.0.0.2 says to be mallory."""

    async def test_an_offer_goes_to_whose_name_it_is_and_only_there(self, hasty: Scene) -> None:
        spoofed = await hasty.stranger.opened(hasty.node, PeerInit("mallory", "P"), local="127.0.0.2")
        await spoofed.send(QueueUpload(VIRTUAL))
        offer = await hasty.stranger.hear(TransferRequest)
        assert isinstance(offer, TransferRequest)
        assert offer.file == VIRTUAL
        [upload] = hasty.node.uploads.live
        assert not upload.trusted
        await spoofed.send(TransferResponse(offer.token ^ 1, allowed=True))
        await hasty.ended(Outcome.TIMED_OUT)

    async def test_an_answer_to_its_own_message_is_all_that_it_gets(self, scene: Scene) -> None:
        spoofed = await scene.stranger.opened(scene.node, PeerInit("mallory", "P"), local="127.0.0.2")
        await spoofed.send(QueueUpload("Music\\nothing"))
        assert await spoofed.receive() == UploadDenied("Music\\nothing", "File not shared.")

    async def test_a_file_from_there_is_not_taken(self, scene: Scene) -> None:
        download = await scene.node.downloads.fetch("mallory", "a", scene.folder / "taken")
        await scene.stranger.hear(QueueUpload)
        await scene.stranger.link.send(TransferRequest(TransferRequest.OFFERED, 5, "a", 4))
        assert await scene.stranger.hear(TransferResponse) == TransferResponse(5, allowed=True)
        spoofed = await scene.stranger.connect(*scene.node.address, local="127.0.0.2")
        await spoofed.send(PeerInit("mallory", "F"))
        await spoofed.send_raw(b"\5\0\0\0evil")
        async with asyncio.timeout(DEADLINE_S):
            with suppress(ConnectionLost):
                assert await spoofed.read_some() == b""
        assert download.transfer.done == 0

    async def test_it_does_not_spell_the_file_for_its_owner(self, scene: Scene) -> None:
        make_file(scene.folder / "Music" / "ärger.bin", 1_000)
        await scene.node.rescan()
        file = "Music\\ärger.bin"
        await scene.stranger.offered()
        await scene.stranger.link.send(QueueUpload(file), QueueUpload(file))
        assert await scene.stranger.hear(PlaceInQueue) == PlaceInQueue(file, 1)
        spoofed = await scene.stranger.opened(scene.node, PeerInit("mallory", "P"), local="127.0.0.2")
        latin = text_of(file.encode("latin-1"))
        await spoofed.send(QueueUpload(latin))
        assert await spoofed.receive() == PlaceInQueue(latin, 1)
        assert [upload.asked for upload in scene.node.uploads.live if upload.path == file] == [file]

    async def test_its_request_gives_way_to_the_owners(self, scene: Scene) -> None:
        await scene.stranger.offered()
        spoofed = await scene.stranger.opened(scene.node, PeerInit("mallory", "P"), local="127.0.0.2")
        await spoofed.send(QueueUpload("Music\\small.bin"), QueueUpload("Music\\small.bin"))
        assert await spoofed.receive() == PlaceInQueue("Music\\small.bin", 1)
        await scene.stranger.link.send(QueueUpload("Music\\small.bin"), QueueUpload("Music\\small.bin"))
        assert await scene.stranger.hear(PlaceInQueue) == PlaceInQueue("Music\\small.bin", 1)
        assert all(upload.trusted for upload in scene.node.uploads.live)
        assert len(scene.node.uploads.live) == 2


class TestOldClients:
    async def test_who_asks_for_a_transfer_waits_like_all(self, scene: Scene) -> None:
        link = scene.stranger.link
        await link.send(TransferRequest(TransferRequest.ASKED, 77, VIRTUAL))
        assert await scene.stranger.hear(TransferResponse) == TransferResponse(
            77, allowed=False, reason="Queued"
        )
        offer = await scene.stranger.hear(TransferRequest)
        assert isinstance(offer, TransferRequest)
        assert (offer.file, offer.size) == (VIRTUAL, SIZE)
        await link.send(TransferRequest(TransferRequest.ASKED, 78, "Music\\nothing"))
        denied = await scene.stranger.hear(TransferResponse)
        assert denied == TransferResponse(78, allowed=False, reason="File not shared.")

    async def test_who_asks_again_is_told_the_place(self, scene: Scene) -> None:
        link = scene.stranger.link
        await scene.stranger.offered()
        await link.send(QueueUpload("Music\\small.bin"), QueueUpload("Music\\small.bin"))
        assert await scene.stranger.hear(PlaceInQueue) == PlaceInQueue("Music\\small.bin", 1)
