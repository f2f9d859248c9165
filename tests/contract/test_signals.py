"""Words between processes, on the databases that carry them."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from haulier.adapters.clock import SystemClock
from haulier.adapters.signals import IDS_IN_A_NOTICE, NotifiedSignals, PolledSignals
from haulier.adapters.sql.postgres.database import PostgresDatabase
from haulier.adapters.sql.sqlite.database import SqliteDatabase
from haulier.core.errors import StorageUnavailable
from haulier.core.session import SessionId
from haulier.testing import ManualClock
from haulier.testing.rows import add_upload, upload
from tests.support.engine import beside, until
from tests.support.postgres import fresh_database

A, B = SessionId("a"), SessionId("b")
PATIENCE_S = 60.0


class FakeEars:
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.heard: list[frozenset[SessionId] | None] = []
        self.interest = asyncio.Event()
        self.interest.set()
        self._new = asyncio.Event()

    async def wanted(self) -> None:
        """Wait until a test cares."""
        await self.interest.wait()

    async def hear(self, session_ids: Collection[SessionId] | None) -> None:
        """Remember."""
        self.heard.append(None if session_ids is None else frozenset(session_ids))
        self._new.set()

    async def until_heard(self, word: frozenset[SessionId] | None) -> None:
        """Wait for a word after those that were forgotten."""
        async with asyncio.timeout(PATIENCE_S):
            while word not in self.heard:
                self._new.clear()
                await self._new.wait()


@asynccontextmanager
async def listening(signals: Any) -> AsyncIterator[FakeEars]:
    ears = FakeEars()
    task = beside(signals.listen(ears))
    try:
        yield ears
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[tuple[SqliteDatabase, SqliteDatabase]]:
    path = tmp_path / "rows.db"
    async with SqliteDatabase(path) as one, SqliteDatabase(path) as two:
        yield one, two


@pytest.fixture
async def postgres() -> AsyncIterator[tuple[PostgresDatabase, PostgresDatabase]]:
    with fresh_database() as url:
        async with PostgresDatabase(url) as one, PostgresDatabase(url) as two:
            yield one, two


async def test_sqlite_counts_the_commits_of_others_only(
    sqlite: tuple[SqliteDatabase, SqliteDatabase],
) -> None:
    one, two = sqlite
    before = await one.commits_of_others()
    await add_upload(one, upload("a"))
    assert await one.commits_of_others() == before
    await add_upload(two, upload("b"))
    assert await one.commits_of_others() != before


async def test_a_closed_sqlite_counts_no_commits(tmp_path: Path) -> None:
    async with SqliteDatabase(tmp_path / "rows.db") as database:
        pass
    with pytest.raises(StorageUnavailable):
        await database.commits_of_others()


async def test_a_commit_of_another_process_is_heard_on_sqlite(
    sqlite: tuple[SqliteDatabase, SqliteDatabase],
) -> None:
    one, two = sqlite
    signals = PolledSignals(one.commits_of_others, SystemClock())
    signals.tell(A)
    async with listening(signals) as ears:
        await ears.until_heard(frozenset())
        ears.heard.clear()
        await add_upload(two, upload("a"))
        await ears.until_heard(None)


async def test_sqlite_is_asked_nothing_while_nobody_cares() -> None:
    asked, clock = [], ManualClock()

    async def ask() -> int:
        asked.append(1)
        if len(asked) == 2:
            raise StorageUnavailable("no")
        return 7

    async with listening(PolledSignals(ask, clock)) as ears:
        await until(lambda: clock.sleepers)
        ears.interest.clear()
        clock.advance(1)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(asked) == 1
        ears.interest.set()
        await until(lambda: len(asked) == 2 and clock.sleepers)
        clock.advance(1)
        await until(lambda: len(ears.heard) == 2)
    assert ears.heard == [None, frozenset()]


async def test_what_is_told_is_heard_by_other_processes_on_postgresql(
    postgres: tuple[PostgresDatabase, PostgresDatabase],
) -> None:
    clock = SystemClock()
    one, two = (NotifiedSignals(database, clock) for database in postgres)
    async with listening(one) as ears, listening(two) as others:
        await ears.until_heard(None)
        await others.until_heard(None)
        one.tell(A)
        one.tell(B)
        one.tell(A)
        await others.until_heard(frozenset({A, B}))


class FakeNotices:
    """Fails the first time."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self._fails = True

    async def listen(self, _channel: str) -> AsyncIterator[str | None]:
        """Have nothing to say."""
        yield None
        await asyncio.Event().wait()

    async def notify(self, _channel: str, payload: str = "") -> None:
        """Remember, or fail."""
        if self._fails:
            self._fails = False
            raise StorageUnavailable("no")
        self.sent.append(payload)


async def test_many_words_go_in_few_notices_and_a_lost_one_is_made_up_for_by_a_look_around() -> None:
    clock, notices = ManualClock(), FakeNotices()
    signals = NotifiedSignals(notices, clock)
    async with listening(signals) as ears:
        for number in range(2 * IDS_IN_A_NOTICE + 1):
            signals.tell(SessionId(f"{number:022}"))
        await until(lambda: clock.sleepers == 2)
        clock.advance(10)
        await until(lambda: len(notices.sent) == 2 and ears.heard.count(None) == 2)
    assert [len(payload.split(",")) for payload in notices.sent] == [IDS_IN_A_NOTICE, 1]
    assert all(len(payload) < 8000 for payload in notices.sent)
