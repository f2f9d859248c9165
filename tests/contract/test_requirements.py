"""The ten groups of requirements of the form endpoint, criterion by criterion: the number is in each test's name.

Group 8 is about visitors and has tests of its own.
"""

import asyncio
import json
import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from haulier.adapters.disk.directories import prepare_shelf, prepare_tree
from haulier.adapters.sql import models
from haulier.adapters.sql.database import open_database
from haulier.config import Settings, load_settings
from haulier.core.errors import ConfigError, StorageFull, StorageUnavailable
from haulier.core.record import RecordStatus
from haulier.directories import prepare_directories
from haulier.server.presenter import present, present_all
from haulier.start_checks import check_service
from tests.support.databases import alchemy_url
from tests.support.postgres import empty_database, fresh_database
from tests.support.real_service import RealService, as_json, real_service
from tests.support.small_disk import read_only, small_disk

PRICES = as_json([{"price": 12}, {"price": 13}])
MIB = 1024 * 1024


@contextmanager
def rows_in(kind: str) -> Iterator[dict[str, Any]]:
    """Give the setting of a database of that kind."""
    if kind == "sqlite":
        yield {}
    else:
        with fresh_database() as url:
            yield {"database_url": url}


@pytest.fixture(params=["sqlite", "postgresql"])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RealService]:
    """A service on each database."""
    with rows_in(request.param) as rows:
        async with real_service(tmp_path / "data", **rows) as running:
            yield running


@pytest.fixture
async def one_service(tmp_path: Path) -> AsyncIterator[RealService]:
    """A service where the database does not matter."""
    async with real_service(tmp_path / "data") as running:
        yield running


def refused(answer: Any) -> tuple[int, str]:
    """Return the status and slug of a problem."""
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


async def nothing_is_left(service: RealService) -> bool:
    """Whether a refused form left neither bytes nor rows."""
    capsule = await service.parts._database.read(lambda tx: tx.capsules.load("default"))
    assert capsule is not None
    return (
        service.parts_left == []
        and service.stored == {}
        and (await service.history())["items"] == []
        and (capsule.used, capsule.reserved) == (0, 0)
    )


def faulty(service: RealService, name: str, error: BaseException) -> Any:
    """Let one operation of the sink fail."""

    async def fail(*_: Any, **__: Any) -> None:
        raise error

    return patch.object(service.parts._sink, name, fail)


class TestGroup1Directories:
    def test_1_1_the_whole_tree_is_made_at_start(self, tmp_path: Path) -> None:
        settings = Settings(data_dir=tmp_path / "a" / "b")
        assert prepare_directories(settings) == tmp_path / "a" / "b"
        made = sorted(path.name for path in (tmp_path / "a" / "b").iterdir())
        assert made == ["incoming", "ingestion", "lost+found", "objects"]

    async def test_1_2_the_target_is_verified_before_each_save(self, one_service: RealService) -> None:
        assert (await one_service.upload(("a.json", PRICES))).status_code == 201
        with read_only(one_service.settings.ingestion_path):
            answer = await one_service.upload(("b.json", PRICES))
        assert refused(answer) == (503, "storage-not-writable")
        assert len(one_service.stored) == 1

    async def test_1_3_a_directory_that_is_missing_at_an_upload_is_made_at_once(
        self, one_service: RealService
    ) -> None:
        one_service.settings.ingestion_path.rmdir()
        with capture_logs() as logs:
            answer = await one_service.upload(("a.json", PRICES))
        assert answer.status_code == 201
        assert list(one_service.stored.values()) == [PRICES]
        made = [entry["path"] for entry in logs if entry["event"] == "directory.created"]
        assert str(one_service.settings.ingestion_path) in made

    def test_1_4_permissions_of_what_is_made_fit(self, tmp_path: Path) -> None:
        settings = Settings(data_dir=tmp_path / "data")
        prepare_directories(settings)
        modes = {
            f"{path.stat().st_mode & 0o777:o}" for path in (tmp_path / "data", *(tmp_path / "data").iterdir())
        }
        assert modes == {"755"}

    def test_1_5_each_creation_is_logged(self, tmp_path: Path) -> None:
        with capture_logs() as logs:
            prepare_directories(Settings(data_dir=tmp_path / "data"))
        root = tmp_path / "data"
        places = (root, root / "incoming", root / "objects", root / "lost+found", root / "ingestion")
        assert [(entry["event"], entry["path"]) for entry in logs] == [
            ("directory.created", str(place)) for place in places
        ]


class TestGroup2Upload:
    async def test_2_1_valid_json_is_saved_under_a_uuid(self, service: RealService) -> None:
        answer = await service.upload(("prices.json", PRICES))
        assert answer.status_code == 201, answer.text
        name = answer.json()["stored_filename"]
        assert str(uuid.UUID(name)) == name
        assert service.stored == {name: PRICES}

    async def test_2_2_the_answer_has_the_id(self, service: RealService) -> None:
        document = (await service.upload(("prices.json", PRICES))).json()
        found = await service.client.get(f"/api/ingestion/history/{document['id']}")
        assert found.json()["original_filename"] == "prices.json"
        assert document["items"] == [{key: value for key, value in document.items() if key != "items"}]
        assert set(document) == {
            "items", "id", "original_filename", "stored_filename", "size", "digest", "content_type", "uploaded_at",
            "status",
        }  # fmt: skip

    async def test_2_3_a_storage_failure_is_described(self, one_service: RealService) -> None:
        with faulty(one_service, "commit", StorageUnavailable("the disk broke")):
            answer = await one_service.upload(("a.json", PRICES))
        assert refused(answer) == (503, "storage-unavailable")
        assert answer.json()["detail"].startswith(
            "Disk or database failed for now; nothing half done is left."
        )
        assert await nothing_is_left(one_service)

    async def test_2_4_write_permission_is_checked_before_a_body_is_read(
        self, one_service: RealService
    ) -> None:
        read: list[bool] = []

        async def body() -> AsyncIterator[bytes]:
            read.append(True)
            yield b""

        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        with read_only(one_service.settings.ingestion_path):
            answer = await one_service.client.post("/api/ingestion/upload", content=body(), headers=headers)
        assert (refused(answer), read) == ((503, "storage-not-writable"), [])

    async def test_2_5_a_form_is_saved_whole_or_not_at_all(self, service: RealService) -> None:
        bad = await service.upload(("a.json", PRICES), ("b.json", b"{"))
        assert refused(bad) == (422, "content-invalid")
        assert await nothing_is_left(service)
        good = await service.upload(("a.json", PRICES), ("b.csv", b"a,b\n1,2\n"))
        assert [item["original_filename"] for item in good.json()["items"]] == ["a.json", "b.csv"]
        assert sorted(service.stored.values()) == sorted([PRICES, b"a,b\n1,2\n"])


class TestGroup3Errors:
    async def test_3_1_a_directory_that_cannot_be_made_has_its_own_code(
        self, one_service: RealService
    ) -> None:
        one_service.settings.ingestion_path.rmdir()
        one_service.settings.ingestion_path.write_text("in the way")
        answer = await one_service.upload(("a.json", PRICES))
        assert refused(answer) == (500, "directory-not-creatable")

    async def test_3_2_low_disk_has_its_own_code(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", 12 * MIB) as disk:
            async with real_service(disk.path / "data", min_free_bytes=4 * MIB) as service:
                assert (await service.upload(("a.json", PRICES))).status_code == 201
                with disk.filled(leaving=MIB):
                    answer = await service.upload(("b.json", PRICES))
                assert refused(answer) == (507, "storage-full")
                assert len(service.stored) == 1

    @pytest.mark.parametrize("operation", ["open", "commit"])
    async def test_3_3_no_partial_file_is_left(self, one_service: RealService, operation: str) -> None:
        with faulty(one_service, operation, StorageFull(1, 0)):
            answer = await one_service.upload(("a.json", PRICES), ("b.json", PRICES))
        assert refused(answer) == (507, "storage-full")
        assert await nothing_is_left(one_service)

    async def test_3_4_the_log_has_what_is_needed_to_debug(self, one_service: RealService) -> None:
        with capture_logs() as logs, faulty(one_service, "commit", StorageUnavailable("EIO on /dev/sda")):
            answer = await one_service.upload(("a.json", PRICES))
        (failed,) = [entry for entry in logs if entry["event"] == "form.failed"]
        assert failed["files"] == ["a.json"]
        assert "EIO on /dev/sda" in failed["error"]
        (told,) = [entry for entry in logs if entry["event"] == "request.failed"]
        assert told["instance"] == answer.json()["instance"]

    async def test_3_5_an_unforeseen_error_is_500_with_a_friendly_message(
        self, one_service: RealService
    ) -> None:
        with faulty(one_service, "commit", ValueError("secret of ours")):
            answer = await one_service.upload(("a.json", PRICES))
        assert refused(answer) == (500, "internal-error")
        assert "secret of ours" not in answer.text
        assert answer.json()["instance"].startswith("urn:uuid:")
        assert await nothing_is_left(one_service)


class TestGroup4Validation:
    def test_4_1_a_place_that_cannot_be_written_ends_the_start(self, tmp_path: Path) -> None:
        settings = Settings(data_dir=tmp_path / "data")
        prepare_directories(settings)
        with read_only(settings.ingestion_path), pytest.raises(ConfigError, match="not writable"):
            prepare_directories(settings)

    async def test_4_2_disk_space_is_checked_before_a_large_upload(self, tmp_path: Path) -> None:
        read: list[bool] = []

        async def body() -> AsyncIterator[bytes]:
            read.append(True)
            yield b""

        headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(64 * MIB)}
        with small_disk(tmp_path / "disk", 12 * MIB) as disk:
            async with real_service(disk.path / "data", min_free_bytes=4 * MIB) as service:
                answer = await service.client.post("/api/ingestion/upload", content=body(), headers=headers)
        assert (refused(answer), read) == ((507, "storage-full"), [])

    def test_4_3_wrong_permissions_are_mended_where_possible(self, tmp_path: Path) -> None:
        settings = Settings(data_dir=tmp_path / "data")
        prepare_directories(settings)
        settings.ingestion_path.chmod(0o500)
        with capture_logs() as logs:
            prepare_directories(settings)
        assert f"{settings.ingestion_path.stat().st_mode & 0o777:o}" == "755"
        assert [entry["event"] for entry in logs] == ["directory.mended"]

    @pytest.mark.parametrize("place", ["../outside", "/tmp", "link", "a/../../x", ".", "objects", "run/x"])
    def test_4_4_a_place_that_is_not_inside_the_root_is_refused(self, tmp_path: Path, place: str) -> None:
        root = prepare_tree(tmp_path / "data")
        (root / "link").symlink_to(tmp_path)
        with pytest.raises(ConfigError) as caught:
            prepare_shelf(root, root / place)
        assert caught.value.setting == "ingestion_dir"
        assert "a directory of its own inside" in caught.value.expected

    def test_4_5_else_the_service_does_not_start_and_says_why(self, tmp_path: Path) -> None:
        settings = Settings(data_dir=tmp_path / "data", ingestion_dir=Path("../x"))
        with pytest.raises(ConfigError, match="ingestion_dir"):
            prepare_directories(settings)
        found = {check.name: check.ok for check in check_service(settings)}
        assert found["ingestion directory"] is False


class TestGroup5Consistency:
    async def test_5_1_a_stored_file_is_readable_at_once(self, service: RealService) -> None:
        async def round_trip(number: int) -> bool:
            data = as_json(number)
            document = (await service.upload((f"{number}.json", data))).json()
            listed = await service.client.get(f"/api/ingestion/history/{document['id']}")
            read = await service.client.get(f"/api/records/{document['id']}/assets/original")
            return listed.status_code == 200 and read.content == data

        assert await asyncio.gather(*(round_trip(number) for number in range(100))) == [True] * 100

    async def test_5_2_concurrent_forms_are_each_whole(self, service: RealService) -> None:
        good = [
            service.upload((f"{number}.json", as_json(number)), (f"{number}.txt", b"x"))
            for number in range(10)
        ]
        bad = [service.upload((f"bad{number}.json", PRICES), ("b.json", b"[")) for number in range(10)]
        answers = await asyncio.gather(*good, *bad)
        assert [answer.status_code for answer in answers] == [201] * 10 + [422] * 10
        names = sorted(item["original_filename"] for item in (await service.history())["items"])
        assert names == sorted(f"{number}.{kind}" for number in range(10) for kind in ("json", "txt"))
        assert service.parts_left == []

    async def test_5_3_names_are_unique(self, service: RealService) -> None:
        answers = await asyncio.gather(*(service.upload(("same.json", PRICES)) for _ in range(20)))
        assert len({answer.json()["stored_filename"] for answer in answers}) == 20
        assert len(service.stored) == 20

    async def test_5_4_time_and_original_name_are_kept(self, service: RealService) -> None:
        clock = service.parts.services.clock
        before = clock.now()
        document = (await service.upload(("Größe 1.json", PRICES))).json()
        (row,) = (await service.history())["items"]
        assert row["original_filename"] == "Größe 1.json"
        assert row["uploaded_at"] == document["uploaded_at"]
        assert before - 0.001 <= datetime.fromisoformat(row["uploaded_at"]).timestamp() <= clock.now()

    async def test_5_5_a_taken_name_is_never_overwritten(self, one_service: RealService) -> None:
        first = (await one_service.upload(("a.json", PRICES))).json()["stored_filename"]
        keys = iter([first, "unused", first, first, "0b8a3c1e-6c0f-4d55-9f0e-3d8f0f1c2a77"])
        ids = one_service.parts._uploads._ports.ids
        with patch.object(type(ids), "blob_key", lambda _self: next(keys)):
            other = await one_service.upload(("b.json", b"[1]"))
        assert other.status_code == 201, other.text
        assert other.json()["stored_filename"] == "0b8a3c1e-6c0f-4d55-9f0e-3d8f0f1c2a77"
        assert one_service.stored == {first: PRICES, "0b8a3c1e-6c0f-4d55-9f0e-3d8f0f1c2a77": b"[1]"}


class TestGroup6Configuration:
    def test_6_1_by_environment_or_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "haulier.toml"
        file.write_text('ingestion_dir = "from-file"\ningestion_max_bytes = 7\n')
        assert load_settings(config=file).ingestion_dir == Path("from-file")
        monkeypatch.setenv("HAULIER_INGESTION_DIR", "from-environment")
        assert load_settings(config=file).ingestion_dir == Path("from-environment")
        assert load_settings(config=file).ingestion_max_bytes == 7

    def test_6_2_the_default_is_ingestion_in_the_data_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        prepare_directories(Settings())
        assert (tmp_path / ".storage" / "ingestion").is_dir()

    async def test_6_3_nested_directories_are_made(self, tmp_path: Path) -> None:
        async with real_service(tmp_path / "data", ingestion_dir=Path("a/b/c")) as service:
            await service.upload(("a.json", PRICES))
        assert [path.read_bytes() for path in (tmp_path / "data/a/b/c").rglob("*") if path.is_file()] == [
            PRICES
        ]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("INGESTION_MAX_BYTES", "0"),
            ("INGESTION_MAX_BYTES", "many"),
            ("INGESTION_DIR", "a\0b"),
            ("INGESTION_EXTENSIONS", "json"),
        ],
    )
    def test_6_4_settings_are_validated_before_use(self, name: str, value: str) -> None:
        with pytest.raises(ConfigError) as caught:
            load_settings({name.lower(): value})
        assert caught.value.setting == f"--{name.lower().replace('_', '-')}"

    @pytest.mark.parametrize("absolute", [True, False])
    async def test_6_5_relative_and_absolute(self, tmp_path: Path, absolute: bool) -> None:
        place = tmp_path / "data" / "forms" if absolute else Path("forms")
        async with real_service(tmp_path / "data", ingestion_dir=place) as service:
            await service.upload(("a.json", PRICES))
        assert [path.read_bytes() for path in (tmp_path / "data/forms").rglob("*") if path.is_file()] == [
            PRICES
        ]


class TestGroup7History:
    async def test_7_1_each_upload_has_a_record(self, service: RealService) -> None:
        answer = await service.upload(("a.json", PRICES), ("b.txt", b"text"))
        assert {item["id"] for item in (await service.history())["items"]} == {
            item["id"] for item in answer.json()["items"]
        }

    async def test_7_2_it_is_paged_by_cursor_and_by_number(self, service: RealService) -> None:
        for number in range(5):
            await service.upload((f"{number}.json", PRICES))
        seen, page = [], await service.history(limit=2)
        while True:
            seen += [item["original_filename"] for item in page["items"]]
            if page["next"] is None:
                break
            page = await service.history(limit=2, cursor=page["next"])
        assert seen == ["4.json", "3.json", "2.json", "1.json", "0.json"]
        second = await service.history(limit=2, page=2)
        assert [item["original_filename"] for item in second["items"]] == ["2.json", "1.json"]
        assert (await service.history(limit=2, page=4))["items"] == []

    async def test_7_3_changes_of_status_are_recorded(self, service: RealService) -> None:
        wanted = {"filename": "a.bin", "size": 3}
        begun = (await service.client.post("/api/uploads", json=wanted)).json()
        assert [item["status"] for item in (await service.history())["items"]] == ["uploading"]
        await service.client.delete(f"/api/uploads/{begun['id']}")
        assert [item["status"] for item in (await service.history())["items"]] == ["cancelled"]

    async def test_7_4_a_row_has_name_uuid_time_size_and_status(self, service: RealService) -> None:
        document = (await service.upload(("a.json", PRICES))).json()
        (row,) = (await service.history())["items"]
        assert {key: row[key] for key in document if key in row} == {
            "id": document["id"],
            "original_filename": "a.json",
            "stored_filename": document["stored_filename"],
            "size": len(PRICES),
            "content_type": "application/json",
            "uploaded_at": document["uploaded_at"],
            "status": "completed",
        }
        assert row["file_metadata"] == {
            "media_type": "application/json",
            "encoding": "utf-8",
            "line_count": 1,
            "record_count": 2,
            "preview": PRICES.decode(),
            "valid_json": True,
            "valid_csv": None,
            "errors": [],
        }

    async def test_7_5_filters_narrow_it(self, service: RealService) -> None:
        await service.upload(("Größe.json", PRICES))
        await service.upload(("b.txt", b"x"))
        await service.client.post("/api/uploads", json={"filename": "open.bin", "size": 1})

        async def names(**params: Any) -> list[str]:
            return [item["original_filename"] for item in (await service.history(**params))["items"]]

        assert await names(filename="GRÖSSE") == ["Größe.json"]
        assert await names(filename="%") == []
        assert await names(status="uploading") == ["open.bin"]
        assert await names(status=["uploading", "completed"]) == ["open.bin", "b.txt", "Größe.json"]
        assert await names(status=["uploading", "completed"], limit=1, page=2) == ["b.txt"]
        assert await names(**{"from": "2020-01-01", "to": "2020-02-01T00:00:00+02:00"}) == []
        assert len(await names(**{"from": "2020-01-01T00:00:00Z"})) == 3

    async def test_7_6_it_is_sound_under_concurrency(self, service: RealService) -> None:
        async def look() -> None:
            for _ in range(10):
                page = await service.history(limit=200)
                assert page["left_out"] == 0
                assert all(item["status"] == "completed" for item in page["items"])

        uploads = (service.upload((f"{number}.json", PRICES)) for number in range(30))
        await asyncio.gather(look(), look(), *uploads)
        ids = [item["id"] for item in (await service.history(limit=200))["items"]]
        assert len(ids) == len(set(ids)) == 30


def tables_of(place: Path | str) -> tuple[set[str], set[str]]:
    """Return the names of tables and of their indexes."""
    engine = sa.create_engine(alchemy_url(place))
    try:
        seen = sa.inspect(engine)
        tables = set(seen.get_table_names())
        return tables, {str(index["name"]) for table in tables for index in seen.get_indexes(table)}
    finally:
        engine.dispose()


@contextmanager
def empty_rows(kind: str, tmp_path: Path) -> Iterator[Path | str]:
    """Give the place of a database without tables."""
    if kind == "sqlite":
        yield tmp_path / "haulier.db"
    else:
        with empty_database() as url:
            yield url


async def start(place: Path | str) -> None:
    async with open_database(place) as database:
        assert await database.read(lambda tx: tx.capsules.exists("default"))


KINDS = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])


class TestGroup9Schema:
    @KINDS
    async def test_9_1_all_tables_are_there(self, tmp_path: Path, kind: str) -> None:
        with empty_rows(kind, tmp_path) as place:
            await start(place)
            assert {"records", "assets", "file_metadata", "uploads", "chunks", "capsules"} <= tables_of(
                place
            )[0]
            assert set(models.metadata.tables) <= tables_of(place)[0]

    @KINDS
    async def test_9_2_they_are_made_at_start_by_one_of_several_processes(
        self, tmp_path: Path, kind: str
    ) -> None:
        with empty_rows(kind, tmp_path) as place:
            await asyncio.gather(*(start(place) for _ in range(4)))
            await start(place)
            assert "file_metadata" in tables_of(place)[0]

    @KINDS
    async def test_9_3_every_filter_of_a_history_has_its_index(self, tmp_path: Path, kind: str) -> None:
        with empty_rows(kind, tmp_path) as place:
            await start(place)
            tables, indexes = tables_of(place)
            assert {"ix_records_owner", "ix_records_owner_status"} <= indexes
            assert "record_names" in tables or "ix_records_names" in indexes  # of parts of names

    def test_9_4_a_migration_that_fails_says_so_and_changes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "haulier.db"
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE file_metadata (of_somebody_else TEXT)")
        with pytest.raises(StorageUnavailable, match="file_metadata"):
            asyncio.run(start(path))
        assert tables_of(path)[0] == {"file_metadata"}

    @KINDS
    async def test_9_5_both_databases_store_the_same(self, tmp_path: Path, kind: str) -> None:
        with rows_in(kind) as rows:
            async with real_service(tmp_path / "data", **rows) as service:
                await service.upload(("a.csv", b"a;b\n1;2\n"))
                (row,) = (await service.history())["items"]
        assert (row["content_type"], row["file_metadata"]["record_count"]) == ("text/csv", 2)

    @KINDS
    async def test_9_6_foreign_keys_and_constraints_hold(self, tmp_path: Path, kind: str) -> None:
        values = "('r', 'text/plain', '[]')"
        with empty_rows(kind, tmp_path) as place:
            await start(place)
            engine = sa.create_engine(alchemy_url(place))
            with engine.connect() as connection:
                if kind == "sqlite":
                    connection.exec_driver_sql("PRAGMA foreign_keys = ON")
                with pytest.raises(sa.exc.IntegrityError):
                    connection.exec_driver_sql(
                        f"INSERT INTO file_metadata (record_id, media_type, errors) VALUES {values}"
                    )
            engine.dispose()
        known = {constraint.name for constraint in models.records.constraints}
        assert "ck_records_status_known" in known


ROW: dict[str, Any] = {
    "id": "019aa0b4-5a3c-7c1e-9d43-0f6a5f3a2b11",
    "original_filename": "a.json",
    "blob_key": "ingestion-0b8a3c1e-6c0f-4d55-9f0e-3d8f0f1c2a77",
    "content_type": "application/json",
    "status": "completed",
    "size": 5,
    "error": None,
    "metadata": "{}",
    "created_at": 1_700_000_000.0,
    "uploaded_at": 1_700_000_001.5,
    "file": None,
}


class TestGroup10Presenter:
    def test_10_1_required_fields_are_present(self) -> None:
        item = present(ROW)
        assert item is not None
        assert item.model_dump(mode="json") == {
            "id": "019aa0b4-5a3c-7c1e-9d43-0f6a5f3a2b11",
            "original_filename": "a.json",
            "stored_filename": "0b8a3c1e-6c0f-4d55-9f0e-3d8f0f1c2a77",
            "size": 5,
            "status": "completed",
            "uploaded_at": "2023-11-14T22:13:21.500Z",
            "content_type": "application/json",
            "error": None,
            "metadata": {},
            "file_metadata": None,
        }

    async def test_10_2_a_front_end_gets_json(self, service: RealService) -> None:
        await service.upload(("a.json", PRICES))
        answer = await service.client.get("/api/ingestion/history")
        assert answer.headers["content-type"] == "application/json"
        document = json.loads(answer.content)
        assert set(document) == {"items", "next", "total", "left_out"}

    def test_10_3_a_failure_is_logged_and_gets_a_safe_default(self) -> None:
        with capture_logs() as logs:
            item = present({**ROW, "size": -1, "metadata": "[", "uploaded_at": "yesterday"})
        assert item is not None
        assert (item.size, item.metadata, item.uploaded_at) == (0, {}, "2023-11-14T22:13:20.000Z")
        assert [(entry["event"], entry["field"]) for entry in logs] == [
            ("history.field_defaulted", "size"),
            ("history.field_defaulted", "uploaded_at"),
            ("history.field_defaulted", "metadata"),
        ]

    def test_10_4_nulls_become_defaults_without_a_word(self) -> None:
        required = {"id", "original_filename", "status", "created_at"}
        with capture_logs() as logs:
            item = present({key: value if key in required else None for key, value in ROW.items()})
        assert logs == []
        assert item is not None
        assert item.model_dump(include={"size", "content_type", "metadata", "error", "stored_filename"}) == {
            "size": 0,
            "content_type": "application/octet-stream",
            "metadata": {},
            "error": None,
            "stored_filename": None,
        }

    def test_10_5_times_are_iso_with_their_zone_and_sizes_are_bytes(self) -> None:
        item = present({**ROW, "size": 3 * MIB})
        assert item is not None
        assert item.size == 3_145_728
        assert item.uploaded_at == "2023-11-14T22:13:21.500Z"

    def test_10_6_what_is_unknown_does_not_leave(self) -> None:
        with capture_logs() as logs:
            items, left_out = present_all(
                [{**ROW, "_private": "x", "path": "/srv/secret"}, {**ROW, "status": "teleported"}]
            )
        assert left_out == 1
        (item,) = items
        assert not {"_private", "path", "blob_key", "created_at"} & set(item.model_dump())
        (entry,) = logs
        assert (entry["event"], entry["record"]) == ("history.row_left_out", ROW["id"])
        assert item.status is RecordStatus.COMPLETED
