"""Nicotine+ as a peer of ours, through our rendezvous: it fetches from us, and we from it."""

import asyncio
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from haulier.core.transfer import Outcome
from haulier.parts import part_of
from tests.support.soulseek import (
    DEADLINE_S,
    Network,
    Nicotine,
    eventually,
    make_file,
    network,
    nicotine,
    sha256_of,
    slow_lane,
)

pytestmark = [pytest.mark.slow, pytest.mark.needs("nicotine")]

SIZE = 20_000_003
VIRTUAL = "Music\\Some Band\\a song.bin"
LARGE = 2**32 + 2**20
TAIL = b"the end of it" * 1000


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Network]:
    async with network(tmp_path, wishlist_s=2) as running:
        yield running


@pytest.fixture
def music(tmp_path: Path) -> Path:
    make_file(tmp_path / "Music" / "Some Band" / "a song.bin", SIZE)
    return tmp_path / "Music"


def hollow(path: Path) -> Path:
    """Make a file that is large and takes no room, but for its end."""
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(LARGE - len(TAIL))
        file.seek(0, os.SEEK_END)
        file.write(TAIL)
    return path


def end_of(path: Path) -> tuple[int, bytes]:
    """Return the size and the last bytes."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - 3 * len(TAIL))
        return size, file.read()


def is_up(foreign: Nicotine, net: Network) -> bool:
    """Whether it has found what it shares, and is logged in."""
    return "Rescan complete" in foreign.log and "them" in net.server.users


class TestItDownloadsFromUs:
    async def test_a_whole_file(self, net: Network, music: Path, tmp_path: Path) -> None:
        node = await net.node("us", music)
        with nicotine(tmp_path / "them", net.port, "them") as foreign:
            foreign.want("us", VIRTUAL, SIZE)
            foreign.start()
            got = foreign.downloads / "a song.bin"
            await eventually(got.exists, "it has the file")
            assert sha256_of(got) == sha256_of(music / "Some Band" / "a song.bin")
            await eventually(
                lambda: node.uploads.totals.ended.get(Outcome.SUCCEEDED) == 1, "we know that it has"
            )

    async def test_the_rest_of_a_file(self, net: Network, music: Path, tmp_path: Path) -> None:
        node = await net.node("us", music)
        whole = (music / "Some Band" / "a song.bin").read_bytes()
        with nicotine(tmp_path / "them", net.port, "them") as foreign:
            foreign.want("us", VIRTUAL, SIZE, have=whole[:15_000_000])
            foreign.start()
            got = foreign.downloads / "a song.bin"
            await eventually(got.exists, "it has the file")
            assert sha256_of(got) == sha256_of(music / "Some Band" / "a song.bin")
            await eventually(
                lambda: node.uploads.totals.ended.get(Outcome.SUCCEEDED) == 1, "we know that it has"
            )
            assert 0 < node.uploads.totals.bytes_sent <= SIZE - 15_000_000

    async def test_while_we_are_firewalled(self, net: Network, music: Path, tmp_path: Path) -> None:
        await net.node("us", music, advertise_port=1)
        with nicotine(tmp_path / "them", net.port, "them") as foreign:
            foreign.want("us", VIRTUAL, SIZE)
            foreign.start()
            got = foreign.downloads / "a song.bin"
            await eventually(got.exists, "it has the file")
            assert sha256_of(got) == sha256_of(music / "Some Band" / "a song.bin")

    async def test_while_it_is_firewalled(self, music: Path, tmp_path: Path) -> None:
        async with network(tmp_path, report_ports={"them": 1}) as net:
            await net.node("us", music)
            with nicotine(tmp_path / "them", net.port, "them") as foreign:
                foreign.want("us", VIRTUAL, SIZE)
                foreign.start()
                got = foreign.downloads / "a song.bin"
                await eventually(got.exists, "it has the file")
                assert sha256_of(got) == sha256_of(music / "Some Band" / "a song.bin")

    async def test_after_we_were_stopped_in_the_middle(
        self, net: Network, music: Path, tmp_path: Path
    ) -> None:
        rules = slow_lane(3_000_000)
        with nicotine(tmp_path / "them", net.port, "them") as foreign:
            foreign.want("us", VIRTUAL, SIZE)
            async with net.running("us", music, rules=rules) as node:
                foreign.start()
                await eventually(lambda: node.uploads.totals.bytes_sent > 2_000_000, "some of it is there")
            async with net.running("us", music):
                got = foreign.downloads / "a song.bin"
                await eventually(got.exists, "it has the file")
                assert sha256_of(got) == sha256_of(music / "Some Band" / "a song.bin")

    @pytest.mark.parametrize(
        ("local", "virtual", "size"),
        [
            ("nothing.bin", "nothing.bin", 0),
            ("\u00dcn\u00ef \u2603 \u97f3\u697d.mp3", "\u00dcn\u00ef \u2603 \u97f3\u697d.mp3", 100_000),
            ("back\\slash 100%.bin", "back%5Cslash 100%25.bin", 100_000),
            ("bytes \udcff\udcfe.bin", "bytes %FF%FE.bin", 100_000),
        ],
    )
    async def test_one_of_an_odd_name_or_of_no_bytes(
        self, net: Network, tmp_path: Path, local: str, virtual: str, size: int
    ) -> None:
        shared = make_file(tmp_path / "Music" / local, size)
        node = await net.node("us", tmp_path / "Music")
        with nicotine(tmp_path / "them", net.port, "them") as foreign:
            foreign.want("us", f"Music\\{virtual}", size)
            foreign.start()
            got = foreign.downloads / virtual
            await eventually(got.exists, "it has the file")
            assert sha256_of(got) == sha256_of(shared)
            await eventually(
                lambda: node.uploads.totals.ended.get(Outcome.SUCCEEDED) == 1, "we know that it has"
            )
            await eventually(lambda: node.uploads.slots.held == 0, "the slot is free")

    async def test_the_end_of_one_that_needs_more_than_32_bits(self, net: Network, tmp_path: Path) -> None:
        shared = hollow(tmp_path / "Music" / "large.bin")
        await net.node("us", tmp_path / "Music")
        with nicotine(tmp_path / "them", net.port, "them") as foreign:
            foreign.want("us", "Music\\large.bin", LARGE, hole=LARGE - 2 * len(TAIL))
            foreign.start()
            got = foreign.downloads / "large.bin"
            await eventually(got.exists, "it has the file")
            assert end_of(got) == end_of(shared)

    async def test_a_folder_of_many_files_of_which_two_users_want_all(
        self, net: Network, tmp_path: Path
    ) -> None:
        files = [make_file(tmp_path / "Music" / f"{number}.bin", 50_000, seed=number) for number in range(30)]
        node = await net.node("us", tmp_path / "Music")
        with (
            nicotine(tmp_path / "one", net.port, "one") as one,
            nicotine(tmp_path / "two", net.port, "two") as two,
        ):
            for foreign in (one, two):
                for file in files:
                    foreign.want("us", f"Music\\{file.name}", 50_000)
                foreign.start()
            for foreign in (one, two):
                for file in files:
                    await eventually((foreign.downloads / file.name).exists, f"{file.name} is there")
                    assert sha256_of(foreign.downloads / file.name) == sha256_of(file)
            await eventually(
                lambda: node.uploads.totals.ended == {Outcome.SUCCEEDED: 60}, "we know that they have all"
            )


class TestWeDownloadFromIt:
    async def test_the_end_of_one_that_needs_more_than_32_bits(self, net: Network, tmp_path: Path) -> None:
        shared = hollow(tmp_path / "Music" / "large.bin")
        node = await net.node("us")
        with nicotine(tmp_path / "them", net.port, "them", tmp_path / "Music") as foreign:
            foreign.start()
            await eventually(partial(is_up, foreign, net), "it is there")
            got = tmp_path / "got.bin"
            part = part_of(got, f"them/{LARGE}/Music\\large.bin")
            part.touch()
            os.truncate(part, LARGE - 2 * len(TAIL))
            download = await node.downloads.fetch("them", "Music\\large.bin", got, LARGE)
            async with asyncio.timeout(DEADLINE_S):
                await download.ended.wait()
            assert download.transfer.outcome is Outcome.SUCCEEDED, download.transfer
            assert end_of(got) == end_of(shared)

    async def test_one_that_is_killed_and_comes_back(self, net: Network, music: Path, tmp_path: Path) -> None:
        node = await net.node("us")
        slow: dict[str, dict[str, object]] = {
            "transfers": {"use_upload_speed_limit": "primary", "uploadlimit": 3_000}
        }
        with nicotine(tmp_path / "them", net.port, "them", music, settings=slow) as foreign:
            foreign.start()
            await eventually(partial(is_up, foreign, net), "it is there")
            download = await node.downloads.fetch("them", VIRTUAL, tmp_path / "got.bin")
            await eventually(lambda: node.downloads.bytes_received > 1_000_000, "some of it is there")
            foreign.kill()
            await eventually(lambda: node.downloads.slots.held == 0, "the slot is free")
            before = node.downloads.bytes_received
            foreign.start()
            async with asyncio.timeout(DEADLINE_S):
                await download.ended.wait()
            assert download.transfer.outcome is Outcome.SUCCEEDED, download.transfer
            assert sha256_of(tmp_path / "got.bin") == sha256_of(music / "Some Band" / "a song.bin")
            assert node.downloads.bytes_received == SIZE
            assert 0 < before < SIZE

    async def test_a_whole_file(self, net: Network, music: Path, tmp_path: Path) -> None:
        node = await net.node("us")
        with nicotine(tmp_path / "them", net.port, "them", music) as foreign:
            foreign.start()
            await eventually(partial(is_up, foreign, net), "it is there")
            got = tmp_path / "got.bin"
            download = await node.downloads.fetch("them", VIRTUAL, got)
            async with asyncio.timeout(DEADLINE_S):
                await download.ended.wait()
            assert download.transfer.outcome is Outcome.SUCCEEDED, download.transfer
            assert sha256_of(got) == sha256_of(music / "Some Band" / "a song.bin")

    async def test_the_rest_of_a_file(self, net: Network, music: Path, tmp_path: Path) -> None:
        node = await net.node("us")
        with nicotine(tmp_path / "them", net.port, "them", music) as foreign:
            foreign.start()
            await eventually(partial(is_up, foreign, net), "it is there")
            got = tmp_path / "got.bin"
            download = await node.downloads.fetch("them", VIRTUAL, got, SIZE)
            part = part_of(got, f"them/{SIZE}/{VIRTUAL}")
            part.write_bytes((music / "Some Band" / "a song.bin").read_bytes()[:15_000_000])
            async with asyncio.timeout(DEADLINE_S):
                await download.ended.wait()
            assert download.transfer.outcome is Outcome.SUCCEEDED, download.transfer
            assert sha256_of(got) == sha256_of(music / "Some Band" / "a song.bin")
            assert node.downloads.bytes_received == SIZE - 15_000_000

    async def test_what_it_does_not_share_is_rejected(
        self, net: Network, music: Path, tmp_path: Path
    ) -> None:
        node = await net.node("us")
        with nicotine(tmp_path / "them", net.port, "them", music) as foreign:
            foreign.start()
            await eventually(partial(is_up, foreign, net), "it is there")
            download = await node.downloads.fetch("them", "Music\\nothing.bin", tmp_path / "got.bin")
            async with asyncio.timeout(DEADLINE_S):
                await download.ended.wait()
            assert download.transfer.label == "Completed, Rejected"
            assert download.transfer.reason == "File not shared."


class TestWeFindItsFiles:
    async def test_by_browsing_and_searching(self, net: Network, music: Path, tmp_path: Path) -> None:
        node = await net.node("us")
        with nicotine(tmp_path / "them", net.port, "them", music) as foreign:
            foreign.start()
            await eventually(lambda: "Rescan complete" in foreign.log, "it has scanned")
            await eventually(lambda: "them" in net.server.users, "it is there")
            folders = {folder.path: folder.files async for folder, _ in await node.inquiries.browse("them")}
            assert [(it.name, it.size) for it in folders["Music\\Some Band"]] == [("a song.bin", SIZE)]
            await eventually(lambda: net.server._clients["them"].ready, "it can be searched")
            found = await anext(node.inquiries.search("song band", wait_s=60))
            assert (found.user, found.files[0].name, found.files[0].size) == ("them", VIRTUAL, SIZE)


class TestItFindsOurs:
    async def test_by_its_wishes(self, net: Network, music: Path, tmp_path: Path) -> None:
        await net.node("us", music)
        wishes: dict[str, dict[str, object]] = {"server": {"autosearch": ["song band"]}}
        with nicotine(tmp_path / "them", net.port, "them", settings=wishes) as foreign:
            foreign.start()
            await eventually(lambda: ("search.answered", "them") in net.told("user"), "it got our answer")
