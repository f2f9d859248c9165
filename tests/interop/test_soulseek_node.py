"""Nodes of ours against each other, over real sockets, through our rendezvous."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from haulier.core.errors import InvalidRequest, StorageUnavailable
from haulier.core.retry import RetryPolicy
from haulier.core.transfer import Outcome, Phase
from haulier.core.values import replace
from haulier.ports import SharedFile
from haulier.sharing import while_logged_in
from haulier.soulseek.messages import (
    FROM_SERVER,
    TO_SERVER,
    CheckPrivileges,
    FileSearch,
    GetPeerAddress,
    Login,
    LoginAnswer,
    PrivilegesLeft,
)
from haulier.soulseek.node import Node
from haulier.soulseek.rendezvous import Rendezvous
from haulier.soulseek.server_link import (
    LinkDown,
    LoggedInElsewhere,
    LoginRefused,
    PeerOffline,
    ServerUnreachable,
)
from haulier.soulseek.upload import UploadRules
from tests.support.ports import free_port
from tests.support.soulseek import (
    DEADLINE_S,
    HOST,
    PATIENT,
    SHORT,
    Network,
    eventually,
    make_file,
    network,
    sha256_of,
    slow_lane,
)
from tests.support.stranger import Stranger

SIZE = 3_000_001
VIRTUAL = "Music\\Band\\song.bin"


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Network]:
    async with network(tmp_path) as running:
        yield running


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as ends:
        yield ends


@pytest.fixture
def music(tmp_path: Path) -> Path:
    make_file(tmp_path / "Music" / "Band" / "song.bin", SIZE)
    return tmp_path / "Music"


async def fetched(
    node: Node, target: Path, file: str = VIRTUAL, user: str = "alice", size: int | None = None
) -> str:
    """Fetch a file to its end; returns how it ended."""
    download = await node.downloads.fetch(user, file, target, size)
    async with asyncio.timeout(DEADLINE_S):
        await download.ended.wait()
    return download.transfer.label if download.transfer.reason is None else download.transfer.reason


def parts_in(folder: Path) -> list[Path]:
    return list(folder.glob(".haulier*"))


async def test_a_file_arrives_whole_and_both_sides_know(net: Network, music: Path, tmp_path: Path) -> None:
    alice, bob = await net.node("alice", music), await net.node("bob")
    assert await fetched(bob, tmp_path / "got") == "Completed, Succeeded"
    assert sha256_of(tmp_path / "got") == sha256_of(music / "Band" / "song.bin")
    await eventually(lambda: alice.uploads.totals.ended == {Outcome.SUCCEEDED: 1}, "alice knows")
    await eventually(lambda: alice.uploads.slots.held == 0, "the slot is free")
    assert parts_in(tmp_path) == []


async def test_an_empty_file_arrives(net: Network, music: Path, tmp_path: Path) -> None:
    (music / "empty").touch()
    alice, bob = await net.node("alice", music), await net.node("bob")
    assert await fetched(bob, tmp_path / "got", "Music\\empty") == "Completed, Succeeded"
    assert (tmp_path / "got").read_bytes() == b""
    await eventually(lambda: alice.uploads.totals.ended == {Outcome.SUCCEEDED: 1}, "alice knows")


@pytest.mark.parametrize("firewalled", ["alice", "bob"])
async def test_either_side_may_be_behind_a_firewall(music: Path, tmp_path: Path, firewalled: str) -> None:
    async with network(tmp_path, report_ports={firewalled: 1}) as net:
        await net.node("alice", music)
        assert await fetched(await net.node("bob"), tmp_path / "got") == "Completed, Succeeded"
        assert sha256_of(tmp_path / "got") == sha256_of(music / "Band" / "song.bin")


async def test_names_that_are_no_text_can_be_fetched(net: Network, music: Path, tmp_path: Path) -> None:
    make_file(music / os.fsdecode(b"f\xfcr \\ 100%.bin"), 1000)
    alice, bob = await net.node("alice", music), await net.node("bob")
    [folder] = [it async for it, _ in await bob.inquiries.browse("alice") if it.path == "Music"]
    assert [it.name for it in folder.files] == ["f%FCr %5C 100%25.bin"]
    assert await fetched(bob, tmp_path / "got", "Music\\f%FCr %5C 100%25.bin") == "Completed, Succeeded"
    assert alice.shares.files == 2


async def test_a_peer_may_spell_a_name_in_latin_1(net: Network, music: Path, tmp_path: Path) -> None:
    make_file(music / "f\u00fcr.bin", 1000)
    await net.node("alice", music)
    spelled = os.fsdecode("Music\\f\u00fcr.bin".encode("latin-1"))
    assert await fetched(await net.node("bob"), tmp_path / "got", spelled) == "Completed, Succeeded"


async def test_what_is_not_shared_is_denied(net: Network, music: Path, tmp_path: Path) -> None:
    await net.node("alice", music)
    bob = await net.node("bob")
    assert await fetched(bob, tmp_path / "got", "Music\\..\\secret") == "File not shared."
    assert await fetched(bob, tmp_path / "got2", "C:\\secret") == "File not shared."


async def test_a_file_that_vanished_since_the_scan_is_denied(
    net: Network, music: Path, tmp_path: Path
) -> None:
    await net.node("alice", music)
    (music / "Band" / "song.bin").unlink()
    assert await fetched(await net.node("bob"), tmp_path / "got") == "File not shared."


async def test_a_file_that_became_a_link_out_of_the_share_is_denied(
    net: Network, music: Path, tmp_path: Path
) -> None:
    await net.node("alice", music)
    secret = make_file(tmp_path / "secret", 10)
    (music / "Band" / "song.bin").unlink()
    (music / "Band" / "song.bin").symlink_to(secret)
    assert await fetched(await net.node("bob"), tmp_path / "got") == "File not shared."


async def test_what_is_hidden_is_shared_through_no_link_either(
    net: Network, music: Path, tmp_path: Path
) -> None:
    make_file(music / ".storage" / "control.token", 10)
    (music / "store").symlink_to(music / ".storage")
    (music / "token").symlink_to(music / ".storage" / "control.token")
    alice = await net.node("alice", music)
    assert alice.shares.files == 1
    (music / "Band" / "song.bin").unlink()
    (music / "Band" / "song.bin").symlink_to(music / ".storage" / "control.token")
    assert await fetched(await net.node("bob"), tmp_path / "got") == "File not shared."


async def test_the_size_that_counts_is_that_of_the_offer(net: Network, music: Path, tmp_path: Path) -> None:
    await net.node("alice", music)
    make_file(music / "Band" / "song.bin", 10, seed=2)
    assert await fetched(await net.node("bob"), tmp_path / "got") == "Completed, Succeeded"
    assert (tmp_path / "got").stat().st_size == 10


async def test_a_file_of_another_size_than_was_wanted_is_aborted(
    net: Network, music: Path, tmp_path: Path
) -> None:
    await net.node("alice", music)
    bob = await net.node("bob")
    assert await fetched(bob, tmp_path / "got", size=SIZE + 1) == f"the file has {SIZE} bytes, not {SIZE + 1}"
    assert not (tmp_path / "got").exists()


async def test_a_file_that_is_there_is_never_written_over(net: Network, music: Path, tmp_path: Path) -> None:
    (tmp_path / "got").write_text("mine")
    await net.node("alice", music)
    assert "is there already" in await fetched(await net.node("bob"), tmp_path / "got")
    assert (tmp_path / "got").read_text() == "mine"


async def test_a_download_goes_on_after_a_restart(net: Network, music: Path, tmp_path: Path) -> None:
    make_file(music / "Band" / "song.bin", 8_000_000)
    await net.node("alice", music, rules=slow_lane(4_000_000))
    async with net.running("bob") as bob:
        download = await bob.downloads.fetch("alice", VIRTUAL, tmp_path / "got")
        await eventually(lambda: bob.downloads.bytes_received > 1_000_000, "some of it is there")
        had = bob.downloads.bytes_received
    async with net.running("bob") as bob:
        again = bob.downloads.find(download.id)
        assert again is not None
        async with asyncio.timeout(DEADLINE_S):
            await again.ended.wait()
        assert bob.downloads.bytes_received <= 8_000_000 - had
    assert sha256_of(tmp_path / "got") == sha256_of(music / "Band" / "song.bin")


async def test_a_queue_is_still_there_after_a_restart(net: Network, music: Path, tmp_path: Path) -> None:
    for number in range(3):
        make_file(music / f"{number}.bin", 3_000_000, seed=number)
    bob = await net.node("bob")
    async with net.running("alice", music, rules=replace(slow_lane(1_000_000), slots=1)) as alice:
        downloads = [
            await bob.downloads.fetch("alice", f"Music\\{number}.bin", tmp_path / f"got{number}")
            for number in range(3)
        ]
        await eventually(
            lambda: alice.uploads.totals.bytes_sent > 0 and len(alice.uploads.live) == 3, "it runs"
        )
    async with net.running("alice", music) as alice:
        assert len(alice.uploads.live) == 3
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*(download.ended.wait() for download in downloads))
    assert [it.transfer.label for it in downloads] == 3 * ["Completed, Succeeded"]


async def test_a_download_can_be_paused_and_resumed_again_and_again(
    net: Network, music: Path, tmp_path: Path
) -> None:
    await net.node("alice", music, rules=slow_lane(2_000_000))
    bob = await net.node("bob")
    download = await bob.downloads.fetch("alice", VIRTUAL, tmp_path / "got")
    for some in (200_000, 400_000, 600_000):
        await eventually(lambda: bob.downloads.bytes_received > some, "some of it is there")  # noqa: B023 - waited for here
        await bob.downloads.pause(download)
        assert download.transfer.phase is Phase.PAUSED
        bob.downloads.resume(download)
    async with asyncio.timeout(DEADLINE_S):
        await download.ended.wait()
    assert sha256_of(tmp_path / "got") == sha256_of(music / "Band" / "song.bin")


async def test_a_download_that_is_cancelled_leaves_nothing(net: Network, music: Path, tmp_path: Path) -> None:
    alice = await net.node("alice", music, rules=slow_lane(2_000_000))
    bob = await net.node("bob")
    download = await bob.downloads.fetch("alice", VIRTUAL, tmp_path / "got")
    await eventually(lambda: bob.downloads.bytes_received > 200_000, "some of it is there")
    await bob.downloads.cancel(download)
    assert download.transfer.outcome is Outcome.CANCELLED
    assert parts_in(tmp_path) == []
    await eventually(lambda: alice.uploads.slots.held == 0, "alice's slot is free")


async def test_an_upload_that_is_cancelled_is_not_asked_for_again(
    net: Network, music: Path, tmp_path: Path
) -> None:
    alice = await net.node("alice", music, rules=slow_lane(2_000_000))
    bob = await net.node("bob")
    download = await bob.downloads.fetch("alice", VIRTUAL, tmp_path / "got")
    await eventually(lambda: bob.downloads.bytes_received > 200_000, "some of it is there")
    await alice.uploads.cancel(alice.uploads.live[0])
    assert alice.uploads.totals.ended == {Outcome.CANCELLED: 1}
    await eventually(lambda: alice.uploads.slots.held == 0, "the slot is free")
    async with asyncio.timeout(DEADLINE_S):
        await download.ended.wait()
    assert download.transfer.outcome is Outcome.CANCELLED


async def test_starting_and_stopping_may_be_repeated(net: Network, music: Path, tmp_path: Path) -> None:
    alice, bob = await net.node("alice", music), await net.node("bob")
    await alice.uploads.stop()
    await alice.uploads.stop()
    download = await bob.downloads.fetch("alice", VIRTUAL, tmp_path / "got")
    await eventually(lambda: download.transfer.reason == "Pending shutdown.", "bob hears that alice stops")
    alice.uploads.start()
    async with asyncio.timeout(DEADLINE_S):
        await download.ended.wait()
    assert download.transfer.outcome is Outcome.SUCCEEDED


async def test_an_upload_that_is_cancelled_before_its_attempt_begins_is_cancelled(
    net: Network, music: Path, tmp_path: Path
) -> None:
    alice, bob = await net.node("alice", music), await net.node("bob")
    download = await bob.downloads.fetch("alice", VIRTUAL, tmp_path / "got")
    async with asyncio.timeout(DEADLINE_S):
        # Step by step: an attempt begins in the very next one.
        while not any(upload.task for upload in alice.uploads.live):  # noqa: ASYNC110
            await asyncio.sleep(0)
        [upload] = alice.uploads.live
        await alice.uploads.cancel(upload)
        await download.ended.wait()
    assert upload.transfer.outcome is Outcome.CANCELLED
    assert (alice.uploads.live, alice.uploads.slots.held) == ([], 0)
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize("steps", range(8))
async def test_who_connects_while_a_node_stops_is_let_go(net: Network, steps: int) -> None:
    alice = await net.node("alice")
    before = asyncio.all_tasks()
    with socket.create_connection(alice.address, DEADLINE_S) as stranger:
        for _ in range(steps):
            await asyncio.sleep(0)
        await alice.stop()
        await eventually(lambda: asyncio.all_tasks() <= before, "its tasks have ended")
        assert alice.peers.count == 0
        with suppress(ConnectionResetError):
            assert await asyncio.to_thread(stranger.recv, 1) == b""


async def test_a_node_can_be_stopped_and_started_while_transfers_run_and_wait(
    net: Network, music: Path, tmp_path: Path
) -> None:
    for number in range(3):
        make_file(music / f"{number}.bin", 1_000_000, seed=number)
    alice = await net.node("alice", music, rules=replace(slow_lane(1_000_000), slots=1))
    bob = await net.node("bob")
    wanted = [
        await bob.downloads.fetch("alice", f"Music\\{number}.bin", tmp_path / f"got{number}")
        for number in range(3)
    ]
    await eventually(lambda: alice.uploads.totals.bytes_sent > 0 and len(alice.uploads.live) == 3, "it runs")
    for node in (alice, bob):
        await node.stop()
        await node.stop()
        assert (node.uploads.live, node.downloads.live) == ([], [])
        await node.start()
        await node.start()
    again = [bob.downloads.find(download.id) for download in wanted]
    async with asyncio.timeout(DEADLINE_S):
        for download in again:
            assert download is not None
            await download.ended.wait()
            assert download.transfer.outcome is Outcome.SUCCEEDED
    await eventually(lambda: not alice.uploads.live, "alice knows")


async def test_who_comes_back_while_our_link_is_down_is_not_held_for_ever(
    music: Path, tmp_path: Path
) -> None:
    async with network(tmp_path) as net:
        alice = await net.node("alice", music, rules=slow_lane(1_000_000))
        async with net.running("bob") as bob:
            await bob.downloads.fetch("alice", VIRTUAL, tmp_path / "got")
            await eventually(lambda: alice.uploads.totals.bytes_sent > 0, "it runs")
        await eventually(lambda: alice.uploads.slots.held == 0, "bob's going was noticed")
        await net.server.stop()
        await eventually(lambda: not alice.link.up.is_set(), "the link is lost")
        again = Rendezvous()
        await again.start(HOST, net.port)
        try:
            async with net.running("bob") as bob:
                [download] = bob.downloads.live
                async with asyncio.timeout(DEADLINE_S):
                    await download.ended.wait()
                assert download.transfer.outcome is Outcome.SUCCEEDED
        finally:
            await again.stop()


async def test_fifty_downloaders_each_get_their_file(net: Network, music: Path, tmp_path: Path) -> None:
    make_file(music / "Band" / "song.bin", 300_000)
    crowded = replace(PATIENT, connections_per_address=20)
    alice = await net.node("alice", music, bounds=crowded)
    nodes = [await net.node(f"user{number}", bounds=crowded) for number in range(50)]
    ends = await asyncio.gather(
        *(fetched(node, tmp_path / f"got{number}") for number, node in enumerate(nodes))
    )
    assert ends == 50 * ["Completed, Succeeded"]
    assert {sha256_of(tmp_path / f"got{number}") for number in range(50)} == {
        sha256_of(music / "Band" / "song.bin")
    }
    await eventually(lambda: alice.uploads.totals.ended == {Outcome.SUCCEEDED: 50}, "alice knows")
    await eventually(lambda: alice.uploads.slots.held == 0, "the slot is free")
    assert alice.uploads.slots.most_held <= 10


async def test_browsing_searching_and_folders(net: Network, music: Path) -> None:
    make_file(music / "Other" / "deep" / "tune.bin", 10)
    await net.node("alice", music)
    bob = await net.node("bob")
    assert [
        (it.path, [entry.name for entry in it.files]) async for it, _ in await bob.inquiries.browse("alice")
    ] == [
        ("Music\\Band", ["song.bin"]),
        ("Music\\Other\\deep", ["tune.bin"]),
    ]
    found = await anext(bob.inquiries.search("tune -song", wait_s=DEADLINE_S))
    assert (found.user, [entry.name for entry in found.files]) == ("alice", ["Music\\Other\\deep\\tune.bin"])
    assert [it async for it in bob.inquiries.search("tune -deep", wait_s=0.2, user="alice")] == []


async def test_excluded_phrases_hide_files(music: Path, tmp_path: Path) -> None:
    async with network(tmp_path, phrases=("Band\\So",)) as net:
        await net.node("alice", music)
        bob = await net.node("bob")
        assert [it async for it in bob.inquiries.search("song", wait_s=0.3)] == []


async def test_a_list_that_is_made_during_a_scan_is_made_again(
    net: Network, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await net.node("alice", music)
    index, began, go_on = alice.shares._index, asyncio.Event(), asyncio.Event()
    all_files = index.all

    async def slowly() -> Sequence[SharedFile]:
        found = await all_files()
        began.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(index, "all", slowly)
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        older = tasks.create_task(alice.shares.list())
        await began.wait()
        make_file(music / "new.bin", 1)
        tasks.create_task(alice.rescan())
        await eventually(lambda: alice.shares.files == 2, "the scan has found it")
        go_on.set()
    assert await alice.shares.list() != older.result()


async def test_a_link_to_itself_hides_nothing_else(net: Network, music: Path) -> None:
    (music / "Band" / "loop").symlink_to(music / "Band" / "loop")
    (music / "nowhere").symlink_to(music / "gone")
    alice = await net.node("alice", music)
    assert alice.shares.files == 1


async def test_a_rescan_that_fails_is_tried_again(net: Network, music: Path, tmp_path: Path) -> None:
    alice = await net.node("alice", music, rescan_s=0.05)
    replace_index = alice.shares._index.replace

    async def fail(files: object) -> None:
        raise StorageUnavailable("the disk is away")

    alice.shares._index.replace = fail  # type: ignore[method-assign] # a disk cannot be taken away
    make_file(music / "new.bin", 10)
    await eventually(lambda: ("upkeep.failed", "rescan") in net.told("work"), "it failed")
    alice.shares._index.replace = replace_index  # type: ignore[method-assign]
    await eventually(lambda: alice.shares.files == 2, "the new file is found")


async def test_a_wrong_password_is_told(net: Network) -> None:
    await net.node("alice")
    net.password = "another"
    with pytest.raises(LoginRefused, match="INVALIDPASS"):
        await net.node("alice")


async def test_a_newer_login_ends_the_older_for_good(net: Network) -> None:
    alice = await net.node("alice")
    async with net.running("alice"):
        with pytest.raises(LoggedInElsewhere):
            async with asyncio.timeout(DEADLINE_S):
                await alice.wait_ended()


async def test_a_wait_ends_when_somebody_else_logs_in_under_our_name(
    net: Network, music: Path, tmp_path: Path
) -> None:
    await net.node("alice", music, rules=slow_lane(100_000))
    bob = await net.node("bob")
    download = await bob.downloads.fetch("alice", VIRTUAL, tmp_path / "got")
    await eventually(lambda: bob.downloads.bytes_received > 0, "it runs")
    async with asyncio.timeout(DEADLINE_S), net.running("bob"):
        with pytest.raises(LoggedInElsewhere):
            await while_logged_in(bob, download.ended.wait())


async def test_a_server_that_is_not_there_is_tried_as_often_as_is_said(net: Network) -> None:
    net.port = free_port()
    with pytest.raises(ServerUnreachable, match=f"127.0.0.1:{net.port} cannot be reached"):
        await net.node("alice", reconnect=RetryPolicy(retries=2, base_s=0.01))


async def test_a_connection_for_the_answer_to_a_search_is_not_kept(net: Network, music: Path) -> None:
    alice, bob = await net.node("alice", music), await net.node("bob")
    assert (await anext(bob.inquiries.search("song", wait_s=DEADLINE_S))).user == "alice"
    await eventually(lambda: alice.peers.count == bob.peers.count == 0, "it is closed, long before it idles")


async def test_waiting_for_our_own_bound_is_not_the_peers_slowness(
    net: Network, music: Path, tmp_path: Path
) -> None:
    class Slow:
        piece = 64 * 1024

        async def take(self, _count: int) -> None:
            await asyncio.sleep(1.2 * SHORT.stall_s)

    make_file(music / "small.bin", 100_000)
    alice = await net.node("alice", music, rules=UploadRules(throttles=lambda _: (Slow(),)), bounds=SHORT)
    bob = await net.node("bob")
    assert await fetched(bob, tmp_path / "got", "Music\\small.bin") == "Completed, Succeeded"
    await eventually(lambda: alice.uploads.totals.ended == {Outcome.SUCCEEDED: 1}, "alice has not given up")


async def test_a_user_who_is_not_there_is_offline(net: Network) -> None:
    bob = await net.node("bob")
    with pytest.raises(PeerOffline):
        await bob.inquiries.browse("nobody")


@pytest.mark.parametrize("name", ["n" * 257, "\ud800", "bob"])
async def test_what_cannot_be_said_is_not_asked_for(net: Network, tmp_path: Path, name: str) -> None:
    bob = await net.node("bob")
    with pytest.raises(InvalidRequest):
        await bob.downloads.fetch(name, VIRTUAL, tmp_path / "got")
    with pytest.raises(InvalidRequest):
        await bob.inquiries.browse(name)
    with pytest.raises(InvalidRequest):
        bob.inquiries.search("words", wait_s=1.0, user=name)
    with pytest.raises(InvalidRequest):
        bob.inquiries.search("\ud800", wait_s=1.0)
    assert bob.downloads.live == []


async def test_nobody_is_searched_for_while_the_link_is_down(net: Network) -> None:
    bob = await net.node("bob")
    await net.server.stop()
    await eventually(lambda: not bob.link.up.is_set(), "the link is lost")
    with pytest.raises(LinkDown):
        bob.inquiries.search("words", wait_s=1.0)


async def test_a_list_is_unpacked_some_files_at_a_time(net: Network, music: Path) -> None:
    alice, bob = await net.node("alice", music), await net.node("bob")
    files = [
        SharedFile(share="Music", path=f"Music\\{number // 100:02}\\{number}", local="", size=1)
        for number in range(5_000)
    ]
    await alice.shares._index.replace(files)
    folders = [(it.path, len(it.files)) async for it, _ in await bob.inquiries.browse("alice")]
    assert folders == [(f"Music\\{number:02}", 100) for number in range(50)]


async def test_a_query_that_nobody_types_is_not_looked_up(net: Network, music: Path) -> None:
    alice = await net.node("alice", music)
    assert [it.name for it in await alice.shares.search("song " * 50)] == [VIRTUAL]
    assert await alice.shares.search("song " * 500) == ()
    assert await alice.shares.search("song " + " ".join(f"-{number}" for number in range(50))) == ()


async def test_what_others_search_for_holds_up_no_answer_of_the_server(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    async with network(tmp_path, bounds=replace(PATIENT, messages_per_s=1e6)) as net:
        alice = await net.node("alice", bounds=replace(PATIENT, messages_per_s=5.0))
        mallory = await Stranger.enter(net, alice, stack)
        searches = (FileSearch(number, "nothing") for number in range(200))
        await mallory.server.send(*searches, CheckPrivileges())
        while not isinstance(await mallory.server.receive(), PrivilegesLeft):
            pass
        assert (await alice.link.locate("mallory")).ip == HOST


async def test_one_file_can_be_fetched_to_two_places(net: Network, music: Path, tmp_path: Path) -> None:
    await net.node("alice", music)
    bob = await net.node("bob")
    ends = await asyncio.gather(*(fetched(bob, tmp_path / name) for name in ("one", "two")))
    assert ends == 2 * ["Completed, Succeeded"]


async def test_who_asks_while_another_waits_in_vain_for_the_server_is_told_so_and_not_cancelled(
    net: Network, music: Path
) -> None:
    await net.node("alice", music)
    bob = await net.node("bob", bounds=replace(PATIENT, server_answer_s=2.0))
    handlers = net.server._handlers
    net.server._handlers = {it: do for it, do in handlers.items() if it is not GetPeerAddress}
    loop = asyncio.get_running_loop()
    first = loop.create_task(bob.link.locate("alice"))
    await asyncio.sleep(0.2)  # so that the second one has time left when the first has none
    second = loop.create_task(bob.link.locate("alice"))
    errors = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(error) for error in errors] == [LinkDown, LinkDown]
    net.server._handlers = handlers
    assert (await bob.link.locate("alice")).ip == HOST


async def test_who_reads_what_is_found_slowly_is_not_cancelled_when_the_time_is_over(
    net: Network, music: Path
) -> None:
    await net.node("alice", music)
    bob = await net.node("bob")
    found = []
    async for each in bob.inquiries.search("song", wait_s=3.0):
        found.append(each.user)
        await asyncio.sleep(3.5)  # longer than anybody waits for answers
    assert found == ["alice"]


async def test_a_start_that_fails_can_be_repeated(net: Network, music: Path) -> None:
    alice = await net.node("alice", music)
    await alice.stop()
    replace_index = alice.shares._index.replace

    async def fail(files: Sequence[SharedFile]) -> None:
        raise StorageUnavailable(f"no room for {len(files)}")

    alice.shares._index.replace = fail  # type: ignore[method-assign] # a disk cannot be taken away
    with pytest.raises(StorageUnavailable):
        await alice.start()
    alice.shares._index.replace = replace_index  # type: ignore[method-assign]
    await alice.start()
    assert alice.link.up.is_set()


async def test_a_server_registers_so_many_names_and_still_knows_those(
    net: Network, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haulier.soulseek.accounts.ACCOUNTS", 1)
    alice = await net.node("alice")
    answers = []
    for name in ("bob", "alice"):
        stranger = Stranger(name, stack)
        link = await stranger.connect(HOST, net.port)
        link.switch(FROM_SERVER, TO_SERVER)
        await link.send(Login.of(name, net.password))
        answer = await link.receive()
        assert isinstance(answer, LoginAnswer)
        answers.append((answer.accepted, answer.text))
    assert answers == [(False, "SVRFULL"), (True, "")]
    with pytest.raises(LoggedInElsewhere):
        await alice.wait_ended()
