"""OneDrive: the promises of `Remote` on a stand-in that rclone takes for Microsoft Graph, and each deviation seen there."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from haulier.core.errors import (
    PeerBlocked,
    PeerBusy,
    PeerCorrupted,
    PeerRefused,
    PeerUnreadable,
    RemoteSessionLost,
)
from haulier.core.outgoing import Basis, Held, Stored, VerifyPolicy
from haulier.core.transfer import Obstacle
from haulier.remotes.onedrive import OneDriveRemote
from haulier.remotes.onedrive_wire import Item, time_text
from haulier.sending_ports import Remote
from haulier.testing import RemoteContract
from haulier.testing.remote_contract import Sources, delivery_of
from tests.interop.remotes.faults import NetworkFaults, deliver
from tests.interop.remotes.servers import program
from tests.support.fault_plan import Drop, Flow, Plan
from tests.support.fault_proxy import FaultProxy
from tests.support.files import make_file, sha256
from tests.support.onedrive import DRIVE, TOKEN, Drive, Fault, corrupt, enrich, standing_in

MIB = 1024 * 1024
CHUNK = 10 * MIB
SEVERAL = 2 * CHUNK + 5
PERSONAL = pytest.mark.parametrize("personal", [False, True], ids=["business", "personal"])


class Tokens:
    """A source of tokens that counts."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = list(tokens) or [TOKEN]
        self.renewals = 0

    async def __call__(self, renew: bool) -> str:
        self.renewals += renew
        return self._tokens[min(self.renewals, len(self._tokens) - 1)]


@pytest.fixture
def place() -> Iterator[tuple[Drive, str]]:
    with standing_in() as made:
        yield made


@pytest.fixture
def drive(place: tuple[Drive, str]) -> Drive:
    return place[0]


def remote_at(url: str, *tokens: str) -> OneDriveRemote:
    return OneDriveRemote(Tokens(*tokens), drive_id=DRIVE, base_url=f"{url}/v1.0", hash_wait_s=0)


@pytest.fixture
async def remote(place: tuple[Drive, str]) -> AsyncIterator[OneDriveRemote]:
    made = remote_at(place[1])
    yield made
    await made.close()


class TestOneDrive(RemoteContract):
    SEVERAL_CHUNKS = SEVERAL
    NAMES = ("plain.bin", "a folder/with spaces.bin", "tief/ünïcode ☃.bin", "100%+&=#;'.bin")
    FORBIDDEN = (
        *("a\0b", "a//b", "../a", "a:b", "a?b", 'a"b', "a*b", "a<b", "a|b", "a\\b", " a", "a ", "a."),
        *("CON", "aux", "com1", ".lock", "~$a.docx", "desktop.ini", "_vti_x", "x" * 401),
    )

    @pytest.fixture
    def remote(self, remote: OneDriveRemote, drive: Drive) -> OneDriveRemote:
        self.drive = drive
        return remote

    async def read_back(self, remote: Remote, stored: Stored) -> bytes:
        return self.drive.read(stored.name)


class TestFaults(NetworkFaults):
    SEVERAL_CHUNKS = SEVERAL
    CUT_AT = MIB

    @pytest.fixture
    async def proxy(self, place: tuple[Drive, str]) -> AsyncIterator[FaultProxy]:
        self.drive = place[0]
        async with FaultProxy(int(place[1].rsplit(":", 1)[1])) as made:
            yield made

    @pytest.fixture
    async def remote(self, proxy: FaultProxy) -> AsyncIterator[OneDriveRemote]:
        made = remote_at(proxy.url)
        yield made
        await made.close()

    async def read_back(self, remote: Remote, stored: Stored) -> bytes:
        return self.drive.read(stored.name)

    async def test_lost_answers_to_every_request_are_outlived(
        self, remote: Remote, proxy: FaultProxy, sources: Sources
    ) -> None:
        """An answer to the one that begins, lost, leaves a session that holds the name until it expires."""
        data = Random(22).randbytes(SEVERAL)
        delivery = delivery_of(remote, sources, data)
        self.drive.faults.append(Fault("POST", "createUploadSession", 504, after=True))
        with pytest.raises(AssertionError, match="do not end"):
            await deliver(delivery)
        self.drive.now += 3601
        proxy.plan(*[Plan(down=Flow(drop=Drop.RST, after=0))] * 4)
        assert await self.read_back(remote, await deliver(delivery)) == data

    async def count(self, remote: Remote, stored: Stored) -> int | None:
        item = self.drive.path(stored.name)
        return None if item is None else item.versions


class TestSessions:
    async def test_the_session_is_shown_no_token_and_keeps_the_time(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources
    ) -> None:
        await delivery_of(remote, sources, Random(61).randbytes(SEVERAL)).run()
        item = drive.path("plain.bin")
        assert item is not None
        assert (item.modified, item.versions) == ("2023-11-14T22:13:20Z", 1)
        assert {shown for method, path, shown in drive.requests if path.startswith("/upload/")} == {False}

    @pytest.mark.parametrize("ranges", ["open", "closed", "pascal"])
    async def test_expected_ranges_are_read_in_every_form(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources, ranges: str
    ) -> None:
        drive.ranges = ranges
        delivery = delivery_of(remote, sources, Random(62).randbytes(SEVERAL))
        session = await remote.create(delivery.outgoing)
        await delivery.send(session, 0, CHUNK)
        assert (await remote.offset(delivery.outgoing, session)).ranges.pairs == ((0, CHUNK),)
        await deliver(delivery, session)
        assert drive.read("plain.bin") == delivery.source.read(0, SEVERAL)

    async def test_a_session_that_tells_no_ranges_is_begun_anew_after_a_fault(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources
    ) -> None:
        drive.ranges = "missing"
        delivery = delivery_of(remote, sources, Random(63).randbytes(SEVERAL))
        session = await remote.create(delivery.outgoing)
        await delivery.send_missing(session, Held())
        assert drive.read("plain.bin") == delivery.source.read(0, SEVERAL)

    async def test_a_session_that_tells_no_ranges_any_more_is_given_up_so_that_it_holds_no_name(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources
    ) -> None:
        delivery = delivery_of(remote, sources, Random(63).randbytes(SEVERAL))
        session = await remote.create(delivery.outgoing)
        drive.ranges = "missing"
        with pytest.raises(RemoteSessionLost):
            await remote.offset(delivery.outgoing, session)
        assert [it.state for it in drive.sessions.values()] == ["cancelled"]
        drive.ranges = "open"
        await delivery.run()
        assert drive.read("plain.bin") == delivery.source.read(0, SEVERAL)

    async def test_a_session_that_tells_no_ranges_any_more_because_it_made_the_file_is_not_begun_anew(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources
    ) -> None:
        data = Random(63).randbytes(SEVERAL)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        drive.ranges = "missing"
        drive.write("plain.bin", data)
        assert (await remote.offset(delivery.outgoing, session)).ranges.covers(0, SEVERAL)

    @pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "//x", "http://[", "file:///etc/passwd", "", "x"])
    async def test_what_is_no_address_of_a_session_can_pass(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources, url: str
    ) -> None:
        drive.session_url = url
        with pytest.raises(PeerUnreadable):
            await remote.create(delivery_of(remote, sources, bytes(SEVERAL)).outgoing)

    @pytest.mark.parametrize(
        ("seconds", "told"),
        [
            (-1e18, "1601-01-01T00:00:00Z"),
            (-1.5, "1969-12-31T23:59:58Z"),
            (1.9, "1970-01-01T00:00:01Z"),
            (1e18, "9999-12-31T23:59:59Z"),
        ],
    )
    def test_times_that_no_drive_knows_are_told_as_the_nearest_ones(self, seconds: float, told: str) -> None:
        assert time_text(seconds) == told
        item = Item.read(
            {"id": "1", "fileSystemInfo": {"lastModifiedDateTime": told}}, "http://g/drives/d", "x"
        )
        assert item.has_time(seconds)

    async def test_a_part_of_a_fragment_that_was_kept_is_not_sent_again(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources
    ) -> None:
        drive.strict = False
        drive.faults.append(Fault("PUT", "/upload/", 503, nth=2, kept=12_345))
        delivery = delivery_of(remote, sources, Random(64).randbytes(SEVERAL))
        session = await remote.create(delivery.outgoing)
        await delivery.send(session, 0, CHUNK)
        with pytest.raises(PeerBusy):
            await delivery.send(session, CHUNK, 2 * CHUNK)
        assert (await remote.offset(delivery.outgoing, session)).ranges.prefix == CHUNK + 12_345
        with pytest.raises(PeerBusy) as told:
            await delivery.send(session, CHUNK, 2 * CHUNK)
        assert told.value.status == 416
        await deliver(delivery, session)
        assert drive.read("plain.bin") == delivery.source.read(0, SEVERAL)

    @pytest.mark.parametrize("nth", [1, 2, 3], ids=["the first", "the middle", "the last"])
    async def test_a_504_after_a_fragment_was_taken_sends_nothing_twice(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources, nth: int
    ) -> None:
        drive.faults.append(Fault("PUT", "/upload/", 504, nth=nth, after=True))
        delivery = delivery_of(remote, sources, Random(65).randbytes(SEVERAL))
        await deliver(delivery)
        item = drive.path("plain.bin")
        assert item is not None
        assert (item.data, item.versions) == (delivery.source.read(0, SEVERAL), 1)
        assert sum(method == "PUT" for method, path, _ in drive.requests if "/upload/" in path) == 3

    @pytest.mark.parametrize("status", [200, 201, 204])
    @pytest.mark.parametrize("size", [0, 1000, SEVERAL], ids=["empty", "small", "large"])
    async def test_an_empty_answer_to_what_made_the_file_is_looked_up(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources, size: int, status: int
    ) -> None:
        drive.empty_answer = status
        stored = await delivery_of(remote, sources, Random(66).randbytes(size)).run()
        item = drive.path("plain.bin")
        assert item is not None
        assert stored.id is not None
        assert stored.id.endswith(f"/items/{item.id}")
        assert item.versions == 1

    @PERSONAL
    async def test_a_session_that_expired_is_begun_anew_under_another_address(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources, personal: bool
    ) -> None:
        drive.personal = personal
        delivery = delivery_of(remote, sources, Random(67).randbytes(SEVERAL))
        session = await remote.create(delivery.outgoing)
        await delivery.send(session, 0, CHUNK)
        drive.now += 3601
        with pytest.raises(RemoteSessionLost):
            await remote.offset(delivery.outgoing, session)
        with pytest.raises(RemoteSessionLost):
            await delivery.send(session, CHUNK, 2 * CHUNK)
        again = await remote.create(delivery.outgoing)
        assert again.state != session.state
        await deliver(delivery, again)
        assert drive.read("plain.bin") == delivery.source.read(0, SEVERAL)

    @PERSONAL
    async def test_a_session_that_is_gone_because_it_made_the_file_is_not_begun_anew(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources, personal: bool
    ) -> None:
        drive.personal = personal
        delivery = delivery_of(remote, sources, Random(79).randbytes(SEVERAL))
        session = await remote.create(delivery.outgoing)
        await delivery.send(session, 0, CHUNK)
        await delivery.send(session, CHUNK, 2 * CHUNK)
        drive.faults.append(Fault("PUT", "/upload/", 504, after=True))
        with pytest.raises(PeerBusy):
            await delivery.send(session, 2 * CHUNK, SEVERAL)
        assert await delivery.send(session, 2 * CHUNK, SEVERAL) is None
        await delivery.finish(session)
        item = drive.path("plain.bin")
        assert item is not None
        assert item.versions == 1

    @PERSONAL
    async def test_to_give_up_what_is_gone_is_fine(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources, personal: bool
    ) -> None:
        drive.personal = personal
        delivery = delivery_of(remote, sources, Random(80).randbytes(SEVERAL))
        session = await remote.create(delivery.outgoing)
        drive.now += 3601
        await remote.cancel(delivery.outgoing, session)
        with pytest.raises(RemoteSessionLost):
            await remote.offset(delivery.outgoing, session)
        assert drive.path("plain.bin") is None

    async def test_a_fragment_that_an_open_session_calls_wrong_is_final(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources
    ) -> None:
        delivery = delivery_of(remote, sources, Random(81).randbytes(SEVERAL))
        session = await remote.create(delivery.outgoing)
        drive.faults.append(Fault("PUT", "/upload/", 400))
        with pytest.raises(PeerRefused, match="fault400"):
            await delivery.send(session, 0, CHUNK)

    async def test_another_open_session_of_the_name_passes(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources
    ) -> None:
        delivery = delivery_of(remote, sources, Random(68).randbytes(SEVERAL))
        await remote.create(delivery.outgoing)
        with pytest.raises(PeerBusy) as told:
            await remote.create(delivery.outgoing)
        assert told.value.status == 409
        drive.now += 3601
        await remote.create(delivery.outgoing)

    async def test_a_small_file_whose_answer_was_lost_makes_no_second_version(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources
    ) -> None:
        drive.faults.append(Fault("PUT", "/content", 504, after=True))
        await deliver(delivery_of(remote, sources, b"small"))
        item = drive.path("plain.bin")
        assert item is not None
        assert (item.data, item.versions) == (b"small", 1)


class TestRefusals:
    @pytest.mark.parametrize("status", [423, 429, 500, 503, 509])
    async def test_what_passes_is_told_with_how_long(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources, status: int
    ) -> None:
        drive.faults.append(Fault("POST", "createUploadSession", status, retry_after="7"))
        delivery = delivery_of(remote, sources, Random(71).randbytes(SEVERAL))
        with pytest.raises(PeerBusy) as told:
            await remote.create(delivery.outgoing)
        assert (told.value.status, told.value.retry_after_s) == (status, 7.0)

    @pytest.mark.parametrize("size", [10, SEVERAL])
    async def test_a_full_drive_blocks_until_somebody_makes_room(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources, size: int
    ) -> None:
        drive.quota = 5
        with pytest.raises(PeerBlocked) as told:
            await delivery_of(remote, sources, Random(72).randbytes(size)).run()
        assert told.value.obstacle is Obstacle.QUOTA

    async def test_a_token_that_expires_in_the_middle_is_fetched_anew_once(
        self, place: tuple[Drive, str], sources: Sources
    ) -> None:
        drive, url = place
        tokens = Tokens(TOKEN, "new")
        remote = OneDriveRemote(tokens, drive_id=DRIVE, base_url=f"{url}/v1.0", hash_wait_s=0)
        delivery = delivery_of(remote, sources, Random(75).randbytes(SEVERAL))
        session = await remote.create(delivery.outgoing)
        await delivery.send(session, 0, CHUNK)
        drive.tokens = {"new"}
        stored = await delivery.finish(session)
        assert (stored.size, tokens.renewals) == (SEVERAL, 1)
        await delivery_of(remote, sources, b"small", name="small.bin", transfer="t-2").run()
        assert (drive.read("small.bin"), tokens.renewals) == (b"small", 1)
        await remote.close()

    async def test_a_token_that_stays_bad_blocks_until_somebody_signs_in(
        self, place: tuple[Drive, str], sources: Sources
    ) -> None:
        remote = remote_at(place[1], "bad")
        with pytest.raises(PeerBlocked) as told:
            await remote.probe()
        assert told.value.obstacle is Obstacle.AUTH
        await remote.close()


class TestVerification:
    async def test_a_changed_byte_there_is_found(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources
    ) -> None:
        delivery = delivery_of(remote, sources, Random(73).randbytes(SEVERAL))
        session = await remote.create(delivery.outgoing)
        stored = await delivery.finish(session)
        corrupt(drive, "plain.bin")
        found = await remote.verify(delivery.outgoing, session, stored)
        with pytest.raises(PeerCorrupted):
            VerifyPolicy().compare(delivery.outgoing, delivery.checksum(session), found)

    async def test_a_file_that_was_sent_elsewhere_waits_for_that_place(
        self, remote: OneDriveRemote, place: tuple[Drive, str], sources: Sources
    ) -> None:
        delivery = delivery_of(remote, sources, b"sent before the remote was set up anew")
        session = await remote.create(delivery.outgoing)
        stored = await delivery.make(session)
        after = remote_at(place[1].replace("127.0.0.1", "localhost"))
        with pytest.raises(PeerBlocked, match="set up") as told:
            await after.verify(delivery.outgoing, session, stored)
        assert told.value.obstacle is Obstacle.CONFLICT
        await after.close()

    async def test_a_file_that_is_rewritten_there_is_tolerated_where_that_was_said(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources
    ) -> None:
        delivery = delivery_of(remote, sources, b"as we wrote it", name="report.docx")
        session = await remote.create(delivery.outgoing)
        ours = delivery.checksum(session)
        stored = await delivery.finish(session)
        assert stored.checksum == ours
        enrich(drive, "report.docx")
        found = await remote.verify(delivery.outgoing, session, stored)
        assert found.checksum != ours
        tolerant = VerifyPolicy.parse("tolerate:docx")
        assert tolerant.compare(delivery.outgoing, ours, found) is Basis.TOLERATED
        with pytest.raises(PeerCorrupted):
            VerifyPolicy().compare(delivery.outgoing, ours, found)

    @pytest.mark.parametrize(("hashes", "basis"), [(3, Basis.CHECKSUM), (-1, Basis.SIZE)])
    async def test_a_hash_that_comes_later_is_waited_for_and_one_that_never_comes_is_done_without(
        self, remote: OneDriveRemote, drive: Drive, sources: Sources, hashes: int, basis: Basis
    ) -> None:
        drive.hashes = hashes
        delivery = delivery_of(remote, sources, b"some bytes")
        session = await remote.create(delivery.outgoing)
        stored = await delivery.finish(session)
        assert VerifyPolicy().compare(delivery.outgoing, delivery.checksum(session), stored) is basis


class TestRclone:
    """rclone's own onedrive backend takes the stand-in for the real thing, and reads what we wrote."""

    @pytest.fixture
    def run(self, place: tuple[Drive, str], tmp_path: Path) -> Any:
        token = {
            "access_token": TOKEN,
            "token_type": "Bearer",
            "refresh_token": "r",
            "expiry": "2099-01-01T00:00:00Z",
        }
        config = tmp_path / "rclone.conf"
        config.write_text(
            f"[od]\ntype = onedrive\ntenant_url = {place[1]}\ntoken_url = {place[1]}/token\n"
            f"drive_id = {DRIVE}\ndrive_type = business\ntoken = {json.dumps(token)}\n"
        )

        def run(*arguments: str) -> str:
            command = [
                program("rclone"),
                "--config",
                str(config),
                "--retries",
                "1",
                "--low-level-retries",
                "2",
            ]
            done = subprocess.run(
                [*command, *arguments], capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, done.stderr[-2000:]
            return done.stdout

        return run

    def test_it_copies_checks_and_reads_back(self, run: Any, drive: Drive, tmp_path: Path) -> None:
        folder = tmp_path / "files"
        folder.mkdir()
        for number, size in enumerate([0, 1, 327_680, 4 * MIB, 11 * MIB + 1, 30 * MIB]):
            make_file(folder / f"{number}.bin", size, seed=number)
        run("copy", str(folder), "od:in")
        run("check", str(folder), "od:in")
        assert drive.read("in/4.bin") == (folder / "4.bin").read_bytes()
        run("copy", "od:in", str(tmp_path / "back"))
        assert sha256(tmp_path / "back" / "5.bin") == sha256(folder / "5.bin")

    async def test_it_reads_what_we_wrote(
        self, run: Any, remote: OneDriveRemote, sources: Sources, tmp_path: Path
    ) -> None:
        data = Random(74).randbytes(SEVERAL)
        await delivery_of(remote, sources, data, name="out/large.bin").run()
        await delivery_of(remote, sources, b"", name="out/empty.bin", transfer="t-2").run()
        await asyncio.to_thread(run, "copy", "od:out", str(tmp_path / "copy"))
        assert (tmp_path / "copy" / "large.bin").read_bytes() == data
        assert (tmp_path / "copy" / "empty.bin").read_bytes() == b""
        await asyncio.to_thread(run, "check", str(tmp_path / "copy"), "od:out")
