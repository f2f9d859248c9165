"""Fills a service's database with copies of its newest record: `python -m tests.support.many_records DATA_DIR COUNT`."""

import sqlite3
import sys
import uuid
from pathlib import Path


def copy_newest(database: Path, count: int) -> None:
    """Insert `count` copies, each a second older than the one before, named `row-000000.txt` on."""
    with sqlite3.connect(database, timeout=60) as connection:
        connection.row_factory = sqlite3.Row
        newest = dict(connection.execute("SELECT * FROM records ORDER BY created_at DESC LIMIT 1").fetchone())
        columns = ", ".join(newest)
        places = ", ".join(f":{name}" for name in newest)
        rows = (
            {
                **newest,
                "id": str(uuid.uuid4()),
                "original_filename": f"row-{index:06}.txt",
                "folded_filename": f"row-{index:06}.txt",
                "created_at": newest["created_at"] - 1 - index,
            }
            for index in range(count)
        )
        connection.executemany(f"INSERT INTO records ({columns}) VALUES ({places})", rows)


if __name__ == "__main__":
    copy_newest(Path(sys.argv[1]) / "haulier.db", int(sys.argv[2]))
