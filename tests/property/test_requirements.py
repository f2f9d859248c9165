"""The properties of the form endpoint and its history, by their numbers; each at least 100 cases.

Properties 9 and 10 are about visitors and have tests of their own.
"""

import asyncio
import json
import shutil
import tempfile
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from haulier.adapters.sql import models
from haulier.adapters.sql.database import open_database
from haulier.config import Settings, load_settings
from haulier.core.errors import (
    ConfigError,
    DirectoryNotCreatable,
    StorageFull,
    StorageNotWritable,
    StorageUnavailable,
)
from haulier.core.record import RecordStatus
from haulier.directories import prepare_directories
from haulier.server.presenter import HistoryItemOut, present, present_all
from tests.support.databases import alchemy_url
from tests.support.postgres import empty_database, fresh_database
from tests.support.real_service import RealService, real_service

T = TypeVar("T")

CASES: Final = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)
NAMES = st.text(
    st.characters(categories=("L", "N", "S", "Zs"), exclude_characters='"\\/%'), min_size=1, max_size=40
).map(lambda name: name.strip() or "x")
"""What people call files; a form escapes quotes in its own way, which is tested with the forms."""
BAD: Final = b'{"a": '


class World:
    """A running service that examples share; it is called from outside of its event loop."""

    def __init__(self, runner: asyncio.Runner, service: RealService) -> None:
        self._runner = runner
        self.service = service

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def upload(self, *files: tuple[str, bytes]) -> Any:
        return self.run(self.service.upload(*files))

    def ids(self) -> set[str]:
        """Return the ids of the whole history."""
        answer = self.run(self.service.client.get("/api/ingestion/history/export"))
        return {row["id"] for row in answer.json()}

    def read(self, record: str) -> bytes:
        return self.run(self.service.client.get(f"/api/records/{record}/assets/original")).content


@contextmanager
def database(kind: str) -> Iterator[dict[str, Any]]:
    if kind == "sqlite":
        yield {}
    else:
        with fresh_database() as url:
            yield {"database_url": url}


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A service on each database."""
    with database(request.param) as rows, asyncio.Runner() as runner:
        stack = AsyncExitStack()
        service = runner.run(stack.enter_async_context(real_service(tmp_path / "data", **rows)))
        try:
            yield World(runner, service)
        finally:
            runner.run(stack.aclose())


def as_file(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


@contextmanager
def somewhere() -> Iterator[Path]:
    """A folder of one example's own."""
    path = Path(tempfile.mkdtemp(prefix="haulier-property-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


FOLDERS = st.lists(st.sampled_from(["incoming", "objects", "ingestion", "lost+found"]), unique=True)


def test_property_1_directories_exist_and_are_writable_before_any_file_operation(world: World) -> None:
    root = world.service.settings.root

    @CASES
    @given(FOLDERS, st.sampled_from([0o755, 0o700]))
    def attempt(vanished: list[str], mode: int) -> None:
        for name in vanished:
            shutil.rmtree(root / name)
        for name in set(root_names) - set(vanished):
            (root / name).chmod(mode)
        assert world.upload(("a.json", b"1")).status_code == 201
        for name in root_names:
            probe = root / name / ".probe"
            probe.touch()
            probe.unlink()

    root_names = ["incoming", "objects", "ingestion", "lost+found"]
    attempt()


def test_property_2_any_valid_json_goes_through_and_is_readable_at_once(world: World) -> None:
    @CASES
    @given(VALUES, NAMES)
    def attempt(value: Any, name: str) -> None:
        data = as_file(value)
        answer = world.upload((f"{name}.json", data))
        assert answer.status_code == 201, answer.text
        document = answer.json()
        assert world.read(document["id"]) == data
        row = world.run(world.service.client.get(f"/api/ingestion/history/{document['id']}")).json()
        assert (row["original_filename"], row["size"], row["status"]) == (
            f"{name}.json",
            len(data),
            "completed",
        )
        assert row["file_metadata"]["valid_json"] is True

    attempt()


def test_property_3_writes_are_all_or_nothing(world: World) -> None:
    @CASES
    @given(st.lists(st.booleans(), min_size=1, max_size=7))
    def attempt(good: list[bool]) -> None:
        before, stored = world.ids(), set(world.service.stored)
        files = [(f"{number}.json", b"[1]" if fine else BAD) for number, fine in enumerate(good)]
        answer = world.upload(*files)
        made = world.ids() - before
        assert answer.status_code == (201 if all(good) else 422)
        assert len(made) == (len(good) if all(good) else 0)
        assert len(set(world.service.stored) - stored) == len(made)
        assert world.service.parts_left == []

    attempt()


ERRORS = st.sampled_from(
    [
        (StorageFull(5, 1), 507, "storage-full"),
        (StorageUnavailable("broken"), 503, "storage-unavailable"),
        (StorageNotWritable("/somewhere"), 503, "storage-not-writable"),
        (DirectoryNotCreatable("/somewhere", "no"), 500, "directory-not-creatable"),
        (ValueError("a mistake"), 500, "internal-error"),
    ]
)


def test_property_4_any_storage_error_gives_a_consistent_answer_and_a_log_line(world: World) -> None:
    sink = world.service.parts._sink

    @CASES
    @given(st.sampled_from(["open", "commit"]), ERRORS, st.lists(NAMES, min_size=1, max_size=3))
    def attempt(operation: str, planned: tuple[Exception, int, str], names: list[str]) -> None:
        error, status, slug = planned

        async def fail(*_: Any, **__: Any) -> None:
            raise error

        before = world.ids()
        with patch.object(sink, operation, fail), capture_logs() as logs:
            answer = world.upload(*[(f"{name}.json", b"1") for name in names])
        document = answer.json()
        assert (answer.status_code, document["type"].rpartition("/")[2]) == (status, slug)
        assert {"title", "detail", "instance"} <= set(document)
        assert "/somewhere" not in answer.text
        assert [entry for entry in logs if entry["event"] == "form.failed"]
        assert [entry for entry in logs if entry.get("instance") == document["instance"]]
        assert world.ids() == before
        assert world.service.parts_left == []

    attempt()


def test_property_5_names_are_unique_and_a_collision_gives_a_new_one(world: World) -> None:
    ids = type(world.service.parts._uploads._ports.ids)
    real = ids.blob_key

    @CASES
    @given(st.lists(st.booleans(), max_size=7))
    def attempt(collides: list[bool]) -> None:
        before = dict(world.service.stored)
        taken = [next(iter(before), None) if again else None for again in collides]

        def blob_key(self: Any) -> str:
            return (taken.pop(0) if taken else None) or real(self)

        with patch.object(ids, "blob_key", blob_key):
            answer = world.upload(("a.json", b"[5]"))
        name = answer.json()["stored_filename"]
        assert name not in before
        assert str(uuid.UUID(name)) == name
        assert world.service.stored == {**before, name: b"[5]"}

    attempt()


def test_property_6_concurrent_uploads_are_each_whole(world: World) -> None:
    @CASES
    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), min_size=2, max_size=5))
    def attempt(forms: list[tuple[bool, int]]) -> None:
        async def all_at_once() -> list[Any]:
            return await asyncio.gather(
                *(
                    world.service.upload(
                        *[(f"{number}.json", b"1") for number in range(count)],
                        *([] if good else [("bad.json", BAD)]),
                    )
                    for good, count in forms
                )
            )

        before = world.ids()
        answers = world.run(all_at_once())
        assert [answer.status_code for answer in answers] == [201 if good else 422 for good, _ in forms]
        told = {item["id"] for answer in answers for item in answer.json().get("items", [])}
        assert world.ids() - before == told
        assert len(told) == sum(count for good, count in forms if good)

    attempt()


PATHS = st.lists(
    st.sampled_from(["a", "b", "..", ".", "objects", "run", "x y", "é"]), min_size=1, max_size=4
).map("/".join)


def settings_or_refusal(flags: dict[str, Any]) -> Settings | ConfigError:
    """Do what a start does with settings."""
    try:
        chosen = load_settings(flags)
        prepare_directories(chosen)
    except ConfigError as refusal:
        return refusal
    return chosen


@CASES
@given(PATHS, st.booleans(), st.integers(-5, 5) | st.integers(2**62, 2**64))
def test_property_7_any_configuration_is_applied_or_refused(path: str, absolute: bool, limit: int) -> None:
    with somewhere() as folder:
        root = folder / "data"
        given_dir = str(root / path) if absolute else path
        flags = {"data_dir": str(root), "ingestion_dir": given_dir, "ingestion_max_bytes": limit}
        chosen = settings_or_refusal(flags)
        if isinstance(chosen, ConfigError):
            assert chosen.setting in {"ingestion_dir", "--ingestion-max-bytes"}
            assert chosen.expected
            return
        assert 1 <= chosen.ingestion_max_bytes == limit
        resolved = chosen.ingestion_path.resolve()
        assert resolved.is_dir()
        assert resolved.is_relative_to(root)
        assert resolved != root
        assert resolved.relative_to(root).parts[0] not in {"objects", "run", "incoming", "lost+found"}


def test_property_7_what_is_not_given_has_its_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = load_settings({})
    assert (chosen.ingestion_dir, chosen.ingestion_max_bytes) == (Path("ingestion"), 104_857_600)


FILES = st.sampled_from(
    [
        (".json", b'{"a": [1]}', "application/json"),
        (".csv", b"a,b\n1,2\n", "text/csv"),
        (".txt", b"plain words\n", "text/plain"),
        (".gif", b"GIF89a" + bytes(20), "image/gif"),
    ]
)


def test_property_8_each_upload_has_a_complete_record(world: World) -> None:
    @CASES
    @given(st.lists(st.tuples(NAMES, FILES), min_size=1, max_size=3))
    def attempt(chosen: list[tuple[str, tuple[str, bytes, str]]]) -> None:
        files = [(name + kind[0], kind[1]) for name, kind in chosen]
        answer = world.upload(*files)
        assert answer.status_code == 201, answer.text
        for (name, data), (_, kind), item in zip(files, chosen, answer.json()["items"], strict=True):
            row = world.run(world.service.client.get(f"/api/ingestion/history/{item['id']}")).json()
            assert (row["original_filename"], row["size"], row["content_type"]) == (name, len(data), kind[2])
            # What smaller pictures are made of is not done with its arrival.
            image = kind[2].startswith("image/")
            assert row["status"] in ({"uploaded", "processing", "completed"} if image else {"completed"})
            assert row["stored_filename"] == item["stored_filename"]
            assert row["file_metadata"]["media_type"] == kind[2]
            assert row["uploaded_at"].endswith("Z")

    attempt()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_property_11_the_schema_is_right_after_every_start(tmp_path: Path, kind: str) -> None:
    """However many start at once, and however often."""

    async def start(place: Path | str) -> None:
        async with open_database(place):
            pass

    async def start_some(place: Path | str, count: int) -> None:
        await asyncio.gather(*(start(place) for _ in range(count)))

    def check(place: Path | str) -> None:
        engine = sa.create_engine(alchemy_url(place))
        seen = sa.inspect(engine)
        for table in models.metadata.tables.values():
            assert {column["name"] for column in seen.get_columns(table.name)} == set(table.columns.keys())
            indexes = {str(index["name"]) for index in seen.get_indexes(table.name)}
            wanted = {str(index.name) for index in table.indexes}
            # On SQLite a place is the row id.
            assert indexes >= (wanted - {"ix_events_place"} if kind == "sqlite" else wanted)
        engine.dispose()

    @contextmanager
    def somewhere_new() -> Iterator[Path | str]:
        if kind == "sqlite":
            with somewhere() as folder:
                yield folder / "haulier.db"
        else:
            yield shared

    @CASES
    @given(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    def attempt(starts: list[int]) -> None:
        with somewhere_new() as place:
            for count in starts:
                asyncio.run(start_some(place, count))
                check(place)

    if kind == "sqlite":
        attempt()
    else:
        with empty_database() as shared:
            attempt()


TIMES = st.floats(0, 253_402_300_000)
ROWS = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1),
        "original_filename": st.text(min_size=1),
        "status": st.sampled_from(list(RecordStatus)).map(str),
        "created_at": TIMES,
    },
    optional={
        "uploaded_at": st.none() | TIMES,
        "size": st.none() | st.integers(0, 2**63 - 1),
        "content_type": st.none() | st.text(min_size=1),
        "error": st.none() | st.text(),
        "metadata": st.dictionaries(st.text(), st.text()).map(json.dumps),
        "blob_key": st.none() | st.uuids().map(lambda key: f"ingestion-{key}"),
        "_private": st.text(),
        "path": st.text(),
    },
)


@CASES
@given(ROWS)
def test_property_12_every_presented_record_is_complete_and_well_formed(row: dict[str, Any]) -> None:
    item = present(row)
    assert item is not None
    document = json.loads(item.model_dump_json())
    assert set(document) == set(HistoryItemOut.model_fields)
    assert document["uploaded_at"].endswith("Z")
    assert document["size"] == (row.get("size") or 0)
    assert document["metadata"] == json.loads(row.get("metadata", "{}"))
    assert document["status"] in set(RecordStatus)
    assert "ingestion-" not in (document["stored_filename"] or "")


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@CASES
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                ["id", "original_filename", "status", "created_at", "size", "metadata", "file", "error"]
            ),
            ANYTHING,
        )
        | ROWS,
        max_size=5,
    )
)
def test_property_13_what_cannot_be_presented_is_logged_filtered_or_defaulted(
    rows: list[dict[str, Any]],
) -> None:
    with capture_logs() as logs:
        items, left_out = present_all(rows)
    assert len(items) + left_out == len(rows)
    assert sum(entry["event"] == "history.row_left_out" for entry in logs) == left_out
    for item in items:
        json.loads(item.model_dump_json())


WRONG: dict[str, Any] = {
    "size": st.sampled_from([-1, "5", 1.5, [1]]),
    "metadata": st.sampled_from(["{", "[]", 5, '{"a": 1}']),
    "uploaded_at": st.sampled_from([-1.0, "yesterday", float("nan"), 1e300]),
    "content_type": st.sampled_from(["", 5, ["text/plain"]]),
    "error": st.sampled_from([5, ["a"], {}]),
    "file": st.sampled_from([5, "{}", {"encoding": "utf-8"}, {"media_type": "a/b", "line_count": -1}]),
    "blob_key": st.sampled_from(["", 5, ["a"]]),
}
"""What optional columns must not be."""
DEFAULTED: dict[str, tuple[str, Any]] = {
    "size": ("size", 0),
    "metadata": ("metadata", {}),
    "uploaded_at": ("uploaded_at", "1970-01-01T00:01:40.000Z"),
    "content_type": ("content_type", "application/octet-stream"),
    "error": ("error", None),
    "file": ("file_metadata", None),
    "blob_key": ("stored_filename", None),
}
"""By column: the member, and its default."""


@CASES
@given(st.fixed_dictionaries({}, optional=WRONG))
def test_property_13_what_is_wrong_with_a_sound_row_is_defaulted_and_the_row_is_shown(
    wrong: dict[str, Any],
) -> None:
    row = {"id": "r", "original_filename": "a.json", "status": "completed", "created_at": 100.0, **wrong}
    with capture_logs() as logs:
        (item,), left_out = present_all([row])
    assert left_out == 0
    shown = json.loads(item.model_dump_json())
    assert (shown["id"], shown["original_filename"], shown["status"]) == ("r", "a.json", "completed")
    for member, default in DEFAULTED.values():
        assert shown[member] == default
    assert [entry["event"] for entry in logs] == ["history.field_defaulted"] * len(wrong)
    assert {entry["field"] for entry in logs} == {DEFAULTED[column][0] for column in wrong}
