"""The rows' contract on every database that ships."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from haulier.adapters.memory_rows import MemoryDatabase
from haulier.adapters.sql.sqlite.database import SqliteDatabase
from haulier.core.upload import UploadDetails
from haulier.testing.rows import Database
from haulier.testing.unit_of_work_contract import UnitOfWorkContract


def add_capsule(path: Path, name: str, quota: int | None) -> None:
    """Add a capsule behind the adapter's back: nothing in it makes one yet."""
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO capsules (id, name, quota_bytes, used_bytes, reserved_bytes) VALUES (?, ?, ?, 0, 0)",
            (name, name, quota),
        )
    connection.close()


class TestSqliteDatabase(UnitOfWorkContract):
    @pytest.fixture
    async def database(self, tmp_path: Path) -> AsyncIterator[Database]:
        path = tmp_path / "haulier.db"
        async with SqliteDatabase(f"sqlite:///{path}") as database:
            add_capsule(path, "other", None)
            add_capsule(path, "small", 1000)
            yield database


class TestMemoryDatabase(UnitOfWorkContract):
    @pytest.fixture
    def database(self) -> Database:
        database: MemoryDatabase[UploadDetails] = MemoryDatabase(
            capsules={"default": None, "other": None, "small": 1000}
        )
        return database
