"""The rows' contract on every database that ships."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from haulier.adapters.memory.rows import MemoryDatabase
from haulier.adapters.sql.models import uploads
from haulier.adapters.sql.postgres.database import PostgresDatabase
from haulier.adapters.sql.sqlite.database import SqliteDatabase
from haulier.core.session import LiveLimit, SessionId, SessionStatus
from haulier.core.upload import UploadDetails
from haulier.testing.rows import T0, TTL_S, Database, chunk, upload, whole
from haulier.testing.unit_of_work_contract import UnitOfWorkContract
from tests.support.postgres import fresh_database

CAPSULES = [
    "INSERT INTO capsules (id, name, quota_bytes, used_bytes, reserved_bytes) "
    f"VALUES ('{name}', '{name}', {quota}, 0, 0)"
    for name, quota in (("other", "NULL"), ("small", 1000))
]
"""Added behind the adapters' backs: nothing in them makes one yet."""


class TestSqliteDatabase(UnitOfWorkContract):
    @pytest.fixture
    async def database(self, tmp_path: Path) -> AsyncIterator[Database]:
        path = tmp_path / "haulier.db"
        async with SqliteDatabase(path) as database:
            with contextlib.closing(sqlite3.connect(path)) as connection, connection:
                for statement in CAPSULES:
                    connection.execute(statement)
            yield database


class TestPostgresDatabase(UnitOfWorkContract):
    @pytest.fixture
    async def database(self) -> AsyncIterator[Database]:
        with fresh_database(template=CAPSULES) as url:
            async with PostgresDatabase(url) as database:
                yield database


class TestMemoryDatabase(UnitOfWorkContract):
    @pytest.fixture
    def database(self) -> Database:
        database: MemoryDatabase[UploadDetails] = MemoryDatabase(
            capsules={"default": None, "other": None, "small": 1000}
        )
        return database


ADDRESSES = sa.select(uploads.c.id, uploads.c.address)
HERE = LiveLimit(of_owner=99, address="here", of_address=99)


async def addresses(database: Database) -> dict[str, str | None]:
    """Return what the rows keep of addresses, which no store tells."""
    rows = await database.read(lambda tx: cast("Any", tx.sessions)._sql.rows(ADDRESSES, {}))
    return {row["id"]: row["address"] for row in rows}


class TestAddresses:
    @pytest.fixture(params=["sqlite", "postgresql"])
    async def database(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
        if request.param == "sqlite":
            async with SqliteDatabase(tmp_path / "haulier.db") as database:
                yield database
            return
        with fresh_database() as url:
            async with PostgresDatabase(url) as database:
                yield database

    async def test_an_address_is_forgotten_when_its_upload_ends_however_it_ends(
        self, database: Database
    ) -> None:
        ids = {name: SessionId(name) for name in ("kept", "aborted", "failed", "committed", "expired")}
        live = {name: upload(name) for name in ids}

        async def begin(tx: Any) -> None:
            for name, session in live.items():
                await tx.sessions.insert(session, limit=HERE)
                if name in {"failed", "committed"}:
                    for index in range(session.chunk_count):
                        start, stop = session.chunk_range(index)
                        await tx.sessions.accept_chunk(session.id, 0, chunk(index, stop - start), now=T0)
                    await tx.sessions.start_finish(session.id, name, "worker", now=T0)
            await tx.sessions.insert_committed([whole("whole")], limit=HERE)

        await database.write(begin)
        assert await addresses(database) == {**dict.fromkeys(ids, "here"), "whole": None}

        async def end(tx: Any) -> None:
            assert await tx.sessions.end(ids["aborted"], None, SessionStatus.ABORTED, error=None, now=T0)
            assert await tx.sessions.end(ids["failed"], 1, SessionStatus.FAILED, error="x", now=T0)
            assert await tx.sessions.commit(ids["committed"], 1, live["committed"].details, now=T0)
            await tx.sessions.touch(ids["kept"], now=T0 + 1)
            expired = await tx.sessions.expire(now=T0 + TTL_S, held=(), limit=9)
            assert [session.id for session in expired] == ["expired"]

        await database.write(end)
        assert await addresses(database) == {**dict.fromkeys(ids), "kept": "here", "whole": None}
