"""The rows' contract on every database that ships."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from haulier.adapters.memory_rows import MemoryDatabase
from haulier.adapters.sql.postgres.database import PostgresDatabase
from haulier.adapters.sql.sqlite.database import SqliteDatabase
from haulier.core.upload import UploadDetails
from haulier.testing.rows import Database
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
