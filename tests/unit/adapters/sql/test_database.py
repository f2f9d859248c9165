"""Which database a URL names, and which extra it needs."""

import sys
from pathlib import Path

import pytest

from haulier.adapters.sql.database import open_database
from haulier.adapters.sql.postgres.database import PostgresDatabase
from haulier.adapters.sql.sqlite.database import SqliteDatabase
from haulier.core.errors import ConfigError


def test_a_place_names_its_database(tmp_path: Path) -> None:
    assert isinstance(open_database(tmp_path / "rows.db"), SqliteDatabase)
    assert isinstance(open_database("postgresql://u@h/rows"), PostgresDatabase)


@pytest.mark.parametrize("url", ["mysql://h/x", "sqlite:///rows.db", "rows.db", "", "postgresql:rows"])
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        open_database(url)
    assert refused.value.setting == "database_url"


def test_postgresql_without_its_extra_names_it_and_sqlite_does_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in [name for name in sys.modules if name.startswith("haulier.adapters.sql.postgres")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'haulier\[postgres\]'") as refused:
        open_database("postgresql://u:hush@h/rows")
    assert "hush" not in str(refused.value)
    open_database(tmp_path / "rows.db")
