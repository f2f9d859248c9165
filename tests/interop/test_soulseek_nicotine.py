"""Nicotine+ as a peer of ours, through our rendezvous: it fetches from us, and we from it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from haulier.core.transfer import Outcome
from haulier.parts import part_of
from tests.support.soulseek import Network, eventually, make_file, network, nicotine, sha256_of, slow_lane

pytestmark = [pytest.mark.slow, pytest.mark.needs("nicotine")]

SIZE = 20_000_003
VIRTUAL = "Music\\Some Band\\a song.bin"


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Network]:
    async with network(tmp_path, wishlist_s=2) as running:
        yield running


@pytest.fixture
def music(tmp_path: Path) -> Path:
    make_file(tmp_path / "Music" / "Some Band" / "a song.bin", SIZE)
    return tmp_path / "Music"


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


class TestWeDownloadFromIt:
    async def test_a_whole_file(self, net: Network, music: Path, tmp_path: Path) -> None:
        node = await net.node("us")
        with nicotine(tmp_path / "them", net.port, "them", music) as foreign:
            foreign.start()
            await eventually(lambda: "them" in net.server.users, "it is there")
            got = tmp_path / "got.bin"
            download = await node.downloads.fetch("them", VIRTUAL, got)
            async with asyncio.timeout(60):
                await download.ended.wait()
            assert download.transfer.outcome is Outcome.SUCCEEDED, download.transfer
            assert sha256_of(got) == sha256_of(music / "Some Band" / "a song.bin")

    async def test_the_rest_of_a_file(self, net: Network, music: Path, tmp_path: Path) -> None:
        node = await net.node("us")
        with nicotine(tmp_path / "them", net.port, "them", music) as foreign:
            foreign.start()
            await eventually(lambda: "them" in net.server.users, "it is there")
            got = tmp_path / "got.bin"
            download = await node.downloads.fetch("them", VIRTUAL, got, SIZE)
            part = part_of(got, f"them/{SIZE}/{VIRTUAL}")
            part.write_bytes((music / "Some Band" / "a song.bin").read_bytes()[:15_000_000])
            async with asyncio.timeout(60):
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
            await eventually(lambda: "them" in net.server.users, "it is there")
            download = await node.downloads.fetch("them", "Music\\nothing.bin", tmp_path / "got.bin")
            async with asyncio.timeout(60):
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
            folders = {folder.path: folder.files async for folder, _ in await node.browse("them")}
            assert [(it.name, it.size) for it in folders["Music\\Some Band"]] == [("a song.bin", SIZE)]
            await eventually(lambda: net.server._clients["them"].ready, "it can be searched")
            found = await anext(node.search("song band", wait_s=60))
            assert (found.user, found.files[0].name, found.files[0].size) == ("them", VIRTUAL, SIZE)


class TestItFindsOurs:
    async def test_by_its_wishes(self, net: Network, music: Path, tmp_path: Path) -> None:
        await net.node("us", music)
        wishes: dict[str, dict[str, object]] = {"server": {"autosearch": ["song band"]}}
        with nicotine(tmp_path / "them", net.port, "them", settings=wishes) as foreign:
            foreign.start()
            await eventually(lambda: ("search.answered", "them") in net.told("user"), "it got our answer")
