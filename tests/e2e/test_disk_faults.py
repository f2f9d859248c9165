"""Disks that are full, read-only, broken or emptied under a running service: a clear error, then recovery."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from haulier.core.values import dataclass
from tests.support.accidents import ROOT, Accidents
from tests.support.content import Content
from tests.support.data_directory import require_one_file, take_inventory
from tests.support.outsider import Answer, Outsider, Wire
from tests.support.processes import ServeProcess, serving, wait_until
from tests.support.small_disk import SmallDisk, read_only, small_disk

KIB = 1024
MIB = 1024 * KIB
MIN_FREE = 4 * MIB
CONTENT = Content(3 * MIB + 5)
CHUNK = MIB

pytestmark = pytest.mark.slow


def ready(outsider: Outsider) -> Answer:
    return outsider.ask("GET", "/readyz")


def upload_all(outsider: Outsider, content: Content = CONTENT) -> Answer:
    """Send a file in one request."""
    return outsider.ask("PUT", "/api/files/file.bin", content.range(0, content.size))


def require_bytes(outsider: Outsider, record: str, content: Content) -> None:
    assert outsider.original_sha256(record) == (content.size, content.sha256())


class TestFullDisk:
    @pytest.fixture
    def disk(self, tmp_path: Path) -> Iterator[SmallDisk]:
        with small_disk(tmp_path / "disk", 40 * MIB) as disk:
            yield disk

    @pytest.fixture
    def service(self, disk: SmallDisk) -> Iterator[ServeProcess]:
        with serving(disk.path / "data", {"HAULIER_MIN_FREE_BYTES": str(MIN_FREE)}) as running:
            yield running

    @pytest.fixture
    def outsider(self, service: ServeProcess) -> Outsider:
        return Outsider(service.port)

    @pytest.mark.parametrize("mode", ["chunks", "append"])
    def test_an_upload_larger_than_the_room_is_refused_when_it_begins(
        self, service: ServeProcess, outsider: Outsider, mode: str
    ) -> None:
        assert outsider.try_begin(size=64 * MIB, mode=mode).problem == (507, "storage-full")
        found = take_inventory(service.data_dir)
        assert (found.uploads, found.parts, found.reserved_bytes) == ({}, frozenset(), 0)

    def test_a_file_larger_than_the_room_is_refused_before_a_byte_is_sent(
        self, service: ServeProcess, outsider: Outsider
    ) -> None:
        with Wire(service.port) as wire:
            wire.start("PUT", "/api/files/file.bin", 64 * MIB, {"Expect": "100-continue"})
            assert wire.answer().problem == (507, "storage-full")
        assert take_inventory(service.data_dir).uploads == {}
        assert upload_all(outsider).status == 201

    def test_room_that_must_stay_free_counts(self, disk: SmallDisk, outsider: Outsider) -> None:
        answer = outsider.try_begin(size=disk.free - MIN_FREE + 1)
        assert answer.problem == (507, "storage-full")

    def test_a_key_finds_its_upload_on_a_disk_that_its_own_part_has_filled(self, outsider: Outsider) -> None:
        content = Content(24 * MIB)
        upload = outsider.begin(key="once", size=content.size, chunk_size=8 * MIB)["id"]
        assert outsider.put(upload, 0, content.range(0, 8 * MIB)).status == 204
        assert outsider.begin(key="once", size=content.size, chunk_size=8 * MIB)["id"] == upload
        for index in (1, 2):
            part = content.range(index * 8 * MIB, (index + 1) * 8 * MIB)
            assert outsider.put(upload, index, part).status == 204
        require_bytes(outsider, outsider.finish(upload).json["id"], content)

    def test_a_disk_filled_between_two_appends_refuses_the_next_and_keeps_the_upload(
        self, disk: SmallDisk, service: ServeProcess, outsider: Outsider
    ) -> None:
        content = Content(12 * MIB)
        upload = outsider.begin(size=content.size, mode="append")["id"]
        assert outsider.append(upload, 0, content.range(0, 3 * MIB)).status == 204
        with disk.filled(leaving=MIB):
            refused = outsider.append(upload, 3 * MIB, content.range(3 * MIB, content.size))
            assert refused.problem == (507, "storage-full")
            assert outsider.state(upload)["received"] == [[0, 3 * MIB]]
            assert ready(outsider).status == 503
        assert ready(outsider).status == 200
        assert outsider.append(upload, 3 * MIB, content.range(3 * MIB, content.size)).status == 204
        (record,) = outsider.records()
        require_bytes(outsider, record["id"], content)
        require_one_file(service.data_dir, content.size)

    def test_a_disk_filled_in_the_middle_of_a_body_keeps_what_had_room(
        self, disk: SmallDisk, service: ServeProcess, outsider: Outsider
    ) -> None:
        content = Content(20 * MIB)
        upload = outsider.begin(size=content.size, mode="append")["id"]
        part = service.data_dir / "incoming" / upload
        with Wire(service.port) as wire:
            wire.start("PATCH", f"/api/uploads/{upload}", content.size, {"Upload-Offset": "0"})
            wire.send(content.range(0, 9 * MIB))
            wait_until(lambda: part.exists() and part.stat().st_size == 9 * MIB, "it is written")
            with disk.filled():
                wire.send(content.range(9 * MIB, 10 * MIB))
                assert wire.answer().problem == (507, "storage-full")
        # The room that the service had saved before stays saved.
        offset = outsider.offset(upload)
        assert offset <= 9 * MIB
        assert outsider.append(upload, offset, content.range(offset, content.size)).status == 204
        (record,) = outsider.records()
        require_bytes(outsider, record["id"], content)

    def test_chunks_have_their_room_whatever_others_do(self, disk: SmallDisk, outsider: Outsider) -> None:
        content = Content(16 * MIB)
        upload = outsider.begin(size=content.size, chunk_size=4 * MIB)["id"]
        with disk.filled(leaving=MIB):
            for index in range(4):
                part = content.range(index * 4 * MIB, (index + 1) * 4 * MIB)
                assert outsider.put(upload, index, part).status == 204
            finished = outsider.finish(upload)
            assert finished.status == 200
        require_bytes(outsider, finished.json["id"], content)


class TestFullDatabase:
    def test_refuses_what_it_cannot_write_down_and_goes_on_when_there_is_room(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "rows", 4 * MIB) as disk:
            settings = {"HAULIER_DATABASE_URL": f"sqlite:///{disk.path}/haulier.db"}
            with serving(tmp_path / "data", settings) as service:
                self.check(disk, service)

    @staticmethod
    def check(disk: SmallDisk, service: ServeProcess) -> None:
        outsider = Outsider(service.port)
        upload = outsider.begin(size=CONTENT.size, chunk_size=CHUNK)["id"]
        metadata = {"story": "x" * 8000}
        with disk.filled():
            answers = (outsider.try_begin(size=1000, metadata=metadata) for _ in range(1000))
            refused = next(answer for answer in answers if answer.status != 201)
            assert refused.problem == (507, "storage-full")
            assert outsider.state(upload)["status"] == "open"
            assert outsider.ask("GET", "/healthz").status == 200
            assert outsider.finish(upload).problem == (409, "chunks-missing")

        def nothing_is_left() -> bool:
            begun = outsider.ask("GET", "/metrics").body.decode()
            parts = list((service.data_dir / "incoming").iterdir())
            return f"haulier_live_sessions {float(len(parts))}" in begun.splitlines()

        # It goes behind the answer.
        wait_until(nothing_is_left, "what was refused has left neither a row nor a part behind")
        for index in range(4):
            chunk = CONTENT.range(index * CHUNK, (index + 1) * CHUNK)
            assert outsider.put(upload, index, chunk).status == 204
        require_bytes(outsider, outsider.finish(upload).json["id"], CONTENT)


class TestDiskWithoutASparePage:
    def test_still_tells_offsets_and_frees_what_is_deleted(self, tmp_path: Path) -> None:
        """Rows and bytes on one disk, and nothing that must stay free: others took all of it."""
        with (
            small_disk(tmp_path / "disk", 40 * MIB) as disk,
            serving(disk.path / "data", {"HAULIER_MIN_FREE_BYTES": "0"}) as service,
        ):
            outsider = Outsider(service.port)
            record = upload_all(outsider).json["id"]
            upload = outsider.begin(size=20 * MIB, mode="append")["id"]
            assert outsider.append(upload, 0, CONTENT.range(0, 2 * MIB)).status == 204
            with disk.filled():
                assert ready(outsider).status == 503
                assert outsider.try_begin(size=1).problem == (507, "storage-full")
                for _ in range(100):
                    assert outsider.offset(upload) == 2 * MIB
                assert outsider.ask("DELETE", f"/api/uploads/{upload}").status == 204
                assert disk.free >= 2 * MIB
            with disk.filled():
                assert outsider.ask("DELETE", f"/api/records/{record}?now=true").status == 204
                assert disk.free >= CONTENT.size
            assert upload_all(outsider).status == 201


class TestLockedDatabase:
    def test_is_503_with_retry_after_for_who_writes_and_nothing_for_who_reads(self, tmp_path: Path) -> None:
        with serving(tmp_path / "data") as service:
            outsider = Outsider(service.port)
            upload = outsider.begin(size=CONTENT.size, chunk_size=CHUNK)["id"]
            with closing(sqlite3.connect(service.data_dir / "haulier.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                refused = outsider.put(upload, 0, CONTENT.range(0, CHUNK))
                assert refused.problem == (503, "storage-unavailable")
                assert int(refused.headers["retry-after"]) >= 1
                assert outsider.state(upload)["received"] == []
                assert ready(outsider).status == 503
            assert outsider.put(upload, 0, CONTENT.range(0, CHUNK)).status == 204
            assert ready(outsider).status == 200


class TestReadOnlyDisk:
    def test_is_503_before_a_body_is_read_and_over_when_it_can_be_written_again(self, tmp_path: Path) -> None:
        with serving(tmp_path / "data") as service:
            outsider = Outsider(service.port)
            upload = outsider.begin(size=CONTENT.size, chunk_size=CHUNK)["id"]
            assert outsider.put(upload, 0, CONTENT.range(0, CHUNK)).status == 204
            with read_only(service.data_dir):
                assert outsider.try_begin(size=1000).problem == (503, "storage-not-writable")
                with Wire(service.port) as wire:
                    target = f"/api/uploads/{upload}/chunks/1"
                    wire.start("PUT", target, CHUNK, {"Expect": "100-continue"})
                    assert wire.answer().problem == (503, "storage-not-writable")
                assert upload_all(outsider).problem == (503, "storage-not-writable")
                assert ready(outsider).status == 503
                assert outsider.ask("GET", "/healthz").status == 200
                assert outsider.state(upload)["received"] == [[0, CHUNK]]
            assert ready(outsider).status == 200
            for index in (1, 2, 3):
                chunk = CONTENT.range(index * CHUNK, (index + 1) * CHUNK)
                assert outsider.put(upload, index, chunk).status == 204
            require_bytes(outsider, outsider.finish(upload).json["id"], CONTENT)

    def test_keeps_a_service_from_starting_in_words(self, tmp_path: Path) -> None:
        service = ServeProcess(tmp_path / "data")
        service.data_dir.mkdir()
        with read_only(service.data_dir):
            service.spawn()
            assert service.wait() == 2
        assert "Read-only file system" in service.log
        assert "Traceback" not in service.log


class TestVanishedDirectories:
    @pytest.fixture
    def service(self, tmp_path: Path) -> Iterator[ServeProcess]:
        with serving(tmp_path / "data") as running:
            yield running

    @pytest.fixture
    def outsider(self, service: ServeProcess) -> Outsider:
        return Outsider(service.port)

    @pytest.mark.parametrize("names", [["incoming"], ["objects"], ["incoming", "objects", "lost+found"]])
    def test_are_made_again_at_the_next_save(
        self, service: ServeProcess, outsider: Outsider, names: list[str]
    ) -> None:
        for name in names:
            shutil.rmtree(service.data_dir / name)
        saved = upload_all(outsider)
        assert saved.status == 201
        require_bytes(outsider, saved.json["id"], CONTENT)
        assert "directory.created" in service.log

    def test_that_a_part_was_in_cost_its_upload_what_it_had_and_no_more(
        self, service: ServeProcess, outsider: Outsider
    ) -> None:
        upload = outsider.begin(size=CONTENT.size, chunk_size=CHUNK)["id"]
        for index in (0, 1):
            chunk = CONTENT.range(index * CHUNK, (index + 1) * CHUNK)
            assert outsider.put(upload, index, chunk).status == 204
        shutil.rmtree(service.data_dir / "incoming")
        assert outsider.put(upload, 3, CONTENT.range(3 * CHUNK, CONTENT.size)).status == 204
        assert outsider.put(upload, 2, CONTENT.range(2 * CHUNK, 3 * CHUNK)).status == 204
        refused = outsider.finish(upload)
        assert (refused.status, refused.json["missing"]) == (409, [[0, 2 * CHUNK]])
        for index in (1, 0):
            chunk = CONTENT.range(index * CHUNK, (index + 1) * CHUNK)
            assert outsider.put(upload, index, chunk).status == 204
        finished = outsider.finish(upload)
        assert finished.status == 200
        require_bytes(outsider, finished.json["id"], CONTENT)

    def test_that_the_database_was_in_acknowledge_nothing_any_more(self, tmp_path: Path) -> None:
        with serving(tmp_path / "data") as service:
            outsider = Outsider(service.port)
            elsewhere = service.data_dir.rename(tmp_path / "elsewhere")
            assert upload_all(outsider).problem == (503, "storage-unavailable")
            assert outsider.ask("PUT", "/api/files/short", body=b"short").problem == (
                503,
                "storage-unavailable",
            )
            assert ready(outsider).status == 503
            shutil.rmtree(service.data_dir)
            elsewhere.rename(service.data_dir)
            assert ready(outsider).status == 200
            assert upload_all(outsider).status == 201


@dataclass(frozen=True)
class Unlucky:
    """A service whose disk breaks on demand."""

    service: ServeProcess
    accidents: Accidents
    outsider: Outsider

    def begin(self) -> str:
        return str(self.outsider.begin(size=CONTENT.size, chunk_size=CHUNK)["id"])

    def put(self, upload: str, index: int) -> Answer:
        return self.outsider.put(upload, index, CONTENT.range(index * CHUNK, (index + 1) * CHUNK))

    def begin_and_put_all(self) -> str:
        upload = self.begin()
        for index in range(4):
            assert self.put(upload, index).status == 204
        return upload


@pytest.fixture(scope="module")
def broken_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unlucky]:
    folder = tmp_path_factory.mktemp("unlucky")
    accidents = Accidents(folder / "accidents")
    with serving(folder / "data", command=accidents.command, cwd=ROOT) as service:
        yield Unlucky(service, accidents, Outsider(service.port))


@pytest.fixture
def unlucky(broken_service: Unlucky) -> Iterator[Unlucky]:
    """One service for all tests; however one of them went, the disk is well before the next."""
    yield broken_service
    shutil.rmtree(broken_service.accidents.directory, ignore_errors=True)


class TestBrokenDisk:
    @pytest.mark.parametrize(
        ("point", "code", "slug"),
        [
            ("before-pwrite", "EIO", (503, "storage-unavailable")),
            ("before-pwrite", "ENOSPC", (507, "storage-full")),
            ("before-pwrite", "EDQUOT", (507, "storage-full")),
            ("before-open", "EIO", (503, "storage-unavailable")),
            ("before-open", "EACCES", (503, "storage-not-writable")),
            ("before-open", "EROFS", (503, "storage-not-writable")),
            ("before-open", "EMFILE", (503, "storage-unavailable")),
        ],
    )
    def test_refuses_a_chunk_and_takes_it_when_it_is_well(
        self, unlucky: Unlucky, point: str, code: str, slug: tuple[int, str]
    ) -> None:
        upload = unlucky.begin()
        assert unlucky.put(upload, 0).status == 204
        unlucky.accidents.arm(point, code)
        assert unlucky.put(upload, 1).problem == slug
        assert unlucky.outsider.state(upload)["received"] == [[0, CHUNK]]
        unlucky.accidents.disarm(point)
        for index in (3, 2, 1):
            assert unlucky.put(upload, index).status == 204
        require_bytes(unlucky.outsider, unlucky.outsider.finish(upload).json["id"], CONTENT)

    @pytest.mark.parametrize("point", ["before-preadv", "before-link", "before-sync_blob_directory"])
    def test_fails_a_finish_that_succeeds_when_it_is_well(self, unlucky: Unlucky, point: str) -> None:
        unlucky.accidents.arm(point, "EIO")
        upload = unlucky.begin_and_put_all()
        assert unlucky.outsider.finish(upload).problem == (503, "storage-unavailable")
        assert unlucky.outsider.state(upload)["status"] == "finishing"
        unlucky.accidents.disarm(point)
        finished = unlucky.outsider.finish(upload)
        assert (finished.status, finished.json["status"]) == (200, "completed")
        require_bytes(unlucky.outsider, finished.json["id"], CONTENT)

    def test_that_lost_what_it_had_taken_fails_the_upload_for_good(self, unlucky: Unlucky) -> None:
        """A sync that failed may succeed the next time without the bytes; so nobody asks it again."""
        upload = unlucky.begin_and_put_all()
        unlucky.accidents.arm("before-sync", "EIO")
        assert unlucky.outsider.finish(upload).problem == (503, "storage-unavailable")
        unlucky.accidents.disarm("before-sync")
        assert unlucky.outsider.state(upload)["status"] == "failed"
        assert unlucky.outsider.finish(upload).problem == (410, "upload-gone")
        assert upload in take_inventory(unlucky.service.data_dir).set_aside

    def test_that_cannot_remove_a_part_takes_nothing_back_from_a_finish(self, unlucky: Unlucky) -> None:
        upload = unlucky.begin_and_put_all()
        unlucky.accidents.arm("before-unlink", "EIO")
        finished = unlucky.outsider.finish(upload)
        assert (finished.status, finished.json["status"]) == (200, "completed")
        require_bytes(unlucky.outsider, finished.json["id"], CONTENT)
        unlucky.accidents.disarm("before-unlink")

    def test_tells_readers_instead_of_sending_half_a_file(self, unlucky: Unlucky) -> None:
        record = unlucky.outsider.finish(unlucky.begin_and_put_all()).json["id"]
        unlucky.accidents.arm("before-preadv", "EIO")
        answer = unlucky.outsider.ask("GET", f"/api/records/{record}/assets/original")
        assert answer.problem == (503, "storage-unavailable")
        unlucky.accidents.disarm("before-preadv")
        require_bytes(unlucky.outsider, record, CONTENT)
