"""What a start makes of its settings, and what the doctor says about them."""

import asyncio
import contextlib
import errno
import fcntl
import gc
import io
import logging
import os
import sqlite3
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from haulier.adapters.service_files import load_secret, only_service
from haulier.adapters.signals import PolledSignals
from haulier.adapters.sql.database import open_database
from haulier.adapters.sql.sqlite.migrate import migrate
from haulier.adapters.worker_locks import new_worker
from haulier.bootstrap import Identity, Service, run_service, upload_limits
from haulier.config import Settings
from haulier.core.digest import DigestName
from haulier.core.errors import ConfigError
from haulier.core.event import Event
from haulier.directories import prepare_directories, require_own_storage
from haulier.engine.courier import Courier
from haulier.engine.hooks import NO_HOOKS, Hooks
from haulier.engine.janitor import Janitor
from haulier.logs import get_logger
from haulier.server.logs import LossyLog
from haulier.start_checks import check_service


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Take back what a start sets for its whole process."""
    yield
    structlog.reset_defaults()
    get_logger().show_from(logging.NOTSET)


def verdicts(settings: Settings) -> dict[str, bool]:
    return {check.name: check.ok for check in check_service(settings)}


def test_every_setting_of_the_engine_reaches_it() -> None:
    limits = upload_limits(
        Settings(
            chunk_size=300_000,
            session_ttl_s=5,
            digest=DigestName.BLAKE3,
            max_active_sessions=6,
            max_active_sessions_per_address=8,
            max_upload_bytes=7,
            durability="power",
        )
    )
    assert (limits.chunk_size, limits.ttl_s, limits.digest) == (300_000, 5, DigestName.BLAKE3)
    assert (limits.sessions.max_live, limits.sessions.max_size, limits.sessions.durable) == (6, 7, True)
    assert limits.max_live_of_address == 8


def test_users_have_fewer_live_uploads_than_the_local_owner_unless_it_is_said() -> None:
    limits = upload_limits(Settings())
    assert (limits.max_live_of_user, limits.sessions.max_live) == (100, 10_000)
    limits = upload_limits(Settings(max_active_sessions=7))
    assert (limits.max_live_of_user, limits.sessions.max_live) == (7, 7)


def test_the_doctor_looks_at_the_directory_of_the_bytes_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    wrong = Settings(data_dir=tmp_path / "data", storage_url=f"file://{tmp_path / 'file'}", port=0)
    assert [name for name, ok in verdicts(wrong).items() if not ok] == [
        "storage directory",
        "ingestion directory",
        "secret",
    ]
    assert all(verdicts(Settings(data_dir=tmp_path / "data", port=0)).values())


def everything_below(place: Path) -> dict[str, bytes | None]:
    return {
        str(each.relative_to(place)): each.read_bytes() if each.is_file() else None
        for each in place.rglob("*")
        # SQLite's own, while somebody looks.
        if not each.name.endswith(("-shm", "-wal"))
    }


async def opened(settings: Settings) -> None:
    async with open_database(settings.database):
        pass


@pytest.mark.parametrize("there", [False, True])
def test_the_doctor_makes_nothing(tmp_path: Path, *, there: bool) -> None:
    data = tmp_path / "a" / "data"
    if there:
        data.mkdir(parents=True)
    before = everything_below(tmp_path)
    settings = Settings(data_dir=data, port=0)
    assert all(verdicts(settings).values())
    told = {check.name: check.detail for check in check_service(settings)}
    assert "a start makes it" in told["data directory"]
    assert told["secret"] == "there is none; a start makes it"
    assert everything_below(tmp_path) == before


def test_the_doctor_changes_nothing_about_what_a_start_has_made(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, port=0)
    prepare_directories(settings)
    load_secret(tmp_path, setting="data_dir")
    asyncio.run(opened(settings))
    before = everything_below(tmp_path)
    assert all(verdicts(settings).values())
    assert everything_below(tmp_path) == before
    assert "answers" in {check.name: check.detail for check in check_service(settings)}["database"]


def test_the_doctor_upgrades_no_rows_and_refuses_those_of_a_newer_version(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, port=0)
    prepare_directories(settings)
    migrate(settings.database_file, lock_timeout_s=1)
    for revision, ok in (("0018", True), ("9999", False)):
        with closing(sqlite3.connect(settings.database_file)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        assert verdicts(settings)["database"] is ok
        with closing(sqlite3.connect(settings.database_file)) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]


def test_the_doctor_says_where_nothing_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    below = Settings(data_dir=tmp_path / "file" / "data", port=0)
    found = {check.name: check.detail for check in check_service(below) if not check.ok}
    assert f"{tmp_path / 'file'} is no directory" in found["data directory"]
    elsewhere = Settings(data_dir=tmp_path / "data", database_url=f"sqlite:///{tmp_path}/no/rows.db", port=0)
    assert [name for name, ok in verdicts(elsewhere).items() if not ok] == ["database"]


def test_a_database_that_cannot_be_used_ends_the_start_in_words(tmp_path: Path) -> None:
    (tmp_path / "rows.db").write_bytes(b"no database" * 1000)
    away = Settings(data_dir=tmp_path / "one", database_url=f"sqlite:///{tmp_path}/missing/rows.db", port=0)
    for settings, word in (
        (away, "No such file or directory"),
        (Settings(data_dir=tmp_path / "two", database_url=f"sqlite:///{tmp_path}/rows.db", port=0), "NOTADB"),
    ):
        with pytest.raises(ConfigError, match=word) as refused:
            run_service(settings)
        assert (refused.value.setting, refused.value.value) == ("database_url", settings.database_place)


def test_rows_that_are_damaged_are_told_with_their_directory(tmp_path: Path) -> None:
    (tmp_path / "haulier.db").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigError, match=r"haulier\.db") as refused:
        run_service(Settings(data_dir=tmp_path, port=0))
    assert refused.value.setting == "data_dir"


class TestStorageOfTheRows:
    """Rows know the directory that has their bytes."""

    @staticmethod
    async def start(settings: Settings) -> None:
        prepare_directories(settings)
        async with open_database(settings.database) as database:
            await require_own_storage(settings, database, claim=True)

    @staticmethod
    def settings(root: Path, storage: str) -> Settings:
        rows = f"sqlite:///{root}/rows.db"
        return Settings(
            data_dir=root / storage / "data",
            database_url=rows,
            storage_url=f"file://{root / storage}",
            port=0,
        )

    async def test_another_one_is_refused_and_left_as_it_is(self, tmp_path: Path) -> None:
        first, other = self.settings(tmp_path, "a"), self.settings(tmp_path, "b")
        await self.start(first)
        await self.start(first)
        with pytest.raises(
            ConfigError, match="give all services that share it the same storage_url"
        ) as refused:
            await self.start(other)
        assert (refused.value.setting, refused.value.value) == ("storage_url", str(tmp_path / "b"))
        assert not (tmp_path / "b" / "storage.id").exists()
        await self.start(first)

    async def test_one_of_other_rows_is_refused(self, tmp_path: Path) -> None:
        first, other = self.settings(tmp_path, "a"), self.settings(tmp_path, "b")
        await self.start(first)
        await self.start(other.model_copy(update={"database_url": f"sqlite:///{tmp_path}/others.db"}))
        with pytest.raises(ConfigError, match=r"storage\.id"):
            await self.start(other)

    async def test_files_that_were_moved_are_taken_with_their_id(self, tmp_path: Path) -> None:
        await self.start(self.settings(tmp_path, "a"))
        (tmp_path / "a").rename(tmp_path / "b")
        await self.start(self.settings(tmp_path, "b"))

    async def test_files_that_were_restored_are_taken_with_the_id_that_the_refusal_names(
        self, tmp_path: Path
    ) -> None:
        await self.start(self.settings(tmp_path, "a"))
        restored = self.settings(tmp_path, "b")
        with pytest.raises(ConfigError) as refused:
            await self.start(restored)
        told = (tmp_path / "a" / "storage.id").read_text(encoding="ascii").strip()
        assert f"put {told} into {tmp_path / 'b' / 'storage.id'}" in refused.value.expected
        (tmp_path / "b" / "storage.id").write_text(told, encoding="ascii")
        await self.start(restored)

    async def test_new_rows_take_the_directory_that_is_there(self, tmp_path: Path) -> None:
        """As after a change to PostgreSQL, whose rows begin empty."""
        first = self.settings(tmp_path, "a")
        await self.start(first)
        (tmp_path / "rows.db").unlink()
        await self.start(first)

    def test_the_doctor_tells_and_decides_nothing(self, tmp_path: Path) -> None:
        first, other = self.settings(tmp_path, "a"), self.settings(tmp_path, "b")
        assert all(verdicts(other).values())
        assert not (tmp_path / "b" / "storage.id").exists()
        asyncio.run(self.start(first))
        assert [name for name, ok in verdicts(other).items() if not ok] == ["database"]
        assert all(verdicts(first).values())

    def test_an_id_that_cannot_be_read_ends_the_start_in_words(self, tmp_path: Path) -> None:
        settings = self.settings(tmp_path, "a")
        prepare_directories(settings)
        (tmp_path / "a" / "storage.id").mkdir()
        with pytest.raises(ConfigError, match=r"storage\.id must be readable") as refused:
            asyncio.run(self.start(settings))
        assert refused.value.setting == "storage_url"


def test_the_secret_and_its_name_are_on_the_device_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, synced = os.fsync, list[tuple[str, bool]]()

    def record(descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((place.name, (tmp_path / "secret.key").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    secret = load_secret(tmp_path, setting="data_dir")
    (whole, was_there), directory = synced
    assert whole.startswith("secret.")
    assert not was_there
    assert directory == (tmp_path.name, True)
    synced.clear()
    assert (
        load_secret(tmp_path, setting="data_dir") == secret
    )  # whose maker may have died before it had synced the name
    assert (tmp_path.name, True) in synced


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    full = io.TextIOWrapper(io.FileIO("/dev/full", "w"), encoding="ascii", write_through=True)
    with pytest.raises(OSError, match="No space left"):
        full.write("no room for this line\n")
    log = LossyLog(full)
    log.msg("nor for this")
    with contextlib.suppress(OSError):
        full.close()
    log.msg("closed")


def test_a_secret_that_others_can_read_is_told_by_the_setting_that_places_it(tmp_path: Path) -> None:
    load_secret(tmp_path, setting="storage_url")
    (tmp_path / "secret.key").chmod(0o640)
    with pytest.raises(ConfigError, match="0600") as refused:
        load_secret(tmp_path, setting="storage_url")
    assert (refused.value.setting, refused.value.value) == ("storage_url", str(tmp_path))


@pytest.mark.parametrize("obstacle", ["run is a file", "the lock is a directory", "nothing can be locked"])
def test_a_data_directory_whose_lock_cannot_be_made_is_told_by_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if obstacle == "run is a file":
        (tmp_path / "run").touch()
    elif obstacle == "the lock is a directory":
        (tmp_path / "run" / "service.lock").mkdir(parents=True)
    else:
        monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(ConfigError, match=r"run/service\.lock must be a file") as refused,
        only_service(tmp_path),
    ):
        pass
    assert (refused.value.setting, refused.value.value) == ("data_dir", str(tmp_path))


def test_starts_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = set(pool.map(lambda _: load_secret(tmp_path, setting="data_dir"), range(8)))
    assert len(secrets) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


@contextlib.asynccontextmanager
async def service_in(root: Path, hooks: Hooks = NO_HOOKS) -> AsyncIterator[Service]:
    settings = Settings(data_dir=root, home=root / "home", image_processes=0, no_transfers=True)
    service = Service(settings, prepare_directories(settings), Identity(worker=new_worker()), hooks=hooks)
    async with service.lifespan():
        yield service


@pytest.mark.parametrize(
    ("part", "name", "method"),
    [(PolledSignals, "signals", "listen"), (Janitor, "janitor", "run"), (Courier, "deliveries", "run")],
)
async def test_a_part_that_keeps_failing_is_started_again_and_told_to_who_asks_for_readiness(
    part: type, name: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts, enough = Counter[object](), asyncio.Event()

    async def fail(part: object, *_: object) -> None:
        await asyncio.sleep(0)
        starts[part] += 1
        if starts[part] == 4:
            enough.set()
            await asyncio.Event().wait()
        raise ValueError("ours")

    async def hear(_event: Event) -> None:
        """Be one who has to be told."""

    monkeypatch.setattr(part, method, fail)
    monkeypatch.setattr("random.random", lambda: 0.0)
    async with service_in(tmp_path, Hooks(on_record=hear)) as service, asyncio.timeout(60):
        await enough.wait()
        assert await service.readiness() == [f"{name} keeps failing; see the log"]


async def test_a_look_at_readiness_that_breaks_leaves_no_other_look_unawaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*_: object) -> None:
        raise ValueError("ours")

    async with service_in(tmp_path) as service:
        monkeypatch.setattr("haulier.adapters.sql.sqlite.database.SqliteDatabase.write", breaks)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(ValueError, match="ours"):
                await service.readiness()
            gc.collect()
        monkeypatch.undo()
    assert [str(warning.message) for warning in caught] == []
