"""What is really in a data directory: files and rows, read beside the service."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

from haulier.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything that uploads can leave behind. Blobs are sizes by name."""

    parts: frozenset[str]
    blobs: dict[str, int]
    set_aside: frozenset[str]
    uploads: dict[str, int]
    """How many, by status."""
    records: dict[str, int]
    """How many, by status."""
    chunks: int
    named_blobs: frozenset[str]
    used_bytes: int
    reserved_bytes: int


def take_inventory(data_dir: Path) -> Inventory:
    """Look at everything; the service may run, but nothing should be under way."""
    blobs = {path.name: path.stat().st_size for path in (data_dir / "objects").rglob("*") if path.is_file()}
    database = data_dir / "haulier.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:

        def rows(statement: str) -> list[str]:
            return [row[0] for row in connection.execute(statement)]

        ((used, reserved),) = connection.execute("SELECT used_bytes, reserved_bytes FROM capsules")
        return Inventory(
            parts=_names(data_dir / "incoming"),
            blobs=blobs,
            set_aside=_names(data_dir / "lost+found"),
            uploads=dict(Counter(rows("SELECT status FROM uploads"))),
            records=dict(Counter(rows("SELECT status FROM records"))),
            chunks=len(rows('SELECT "index" FROM chunks')),
            named_blobs=frozenset(rows("SELECT blob_key FROM assets")),
            used_bytes=used,
            reserved_bytes=reserved,
        )


def require_one_file(data_dir: Path, size: int) -> None:
    """Fail unless there is one committed upload with one record and one blob, and nothing else at all."""
    found = take_inventory(data_dir)
    assert found == Inventory(
        parts=frozenset(),
        blobs=dict.fromkeys(found.named_blobs, size),
        set_aside=frozenset(),
        uploads={"committed": 1},
        records={"completed": 1},
        chunks=0,
        named_blobs=found.named_blobs,
        used_bytes=size,
        reserved_bytes=0,
    )
    assert len(found.named_blobs) == 1


def _names(directory: Path) -> frozenset[str]:
    return frozenset(path.name for path in directory.iterdir())
