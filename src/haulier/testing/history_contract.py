"""What every `HistoryStore`, and what it needs of sessions and records, does; see `unit_of_work_contract`."""

import json
from typing import Any, Final

from haulier.core.processing import ContentFault, ContentProblem, FileMetadata
from haulier.core.record import RecordId, RecordStatus
from haulier.core.values import replace
from haulier.ports import DayCount, HistoryQuery, RecordQuery
from haulier.testing.rows import (
    MORE,
    T0,
    Database,
    add_finishing,
    add_record,
    record,
    see,
    see_record,
    upload,
)

ME: Final = "local"

FILE: Final = FileMetadata(
    media_type="text/csv",
    encoding="utf-8",
    line_count=2,
    record_count=2,
    preview="a;b",
    valid_csv=False,
    errors=(ContentProblem(ContentFault.CSV_INVALID, "odd", 2, 1), ContentProblem(ContentFault.BINARY, "no")),
)
DAY_S: Final = 86_400.0


async def listed(database: Database, **query: Any) -> list[str]:
    """Return the ids of a page, and `MORE` where there is a next one, which begins behind its last row."""
    wanted = HistoryQuery(**{"owner": ME, **query})
    page = await database.read(lambda tx: tx.history.page(wanted))
    if page.next is None:
        return [row["id"] for row in page.items]
    assert page.next == (page.items[-1]["created_at"], page.items[-1]["id"])
    return [*(row["id"] for row in page.items), MORE]


async def add_committed(database: Database, name: str, **fields: Any) -> None:
    """Add a committed upload without a record."""
    finishing = await add_finishing(database, upload(name, **fields), blob_key=f"blob of {name}")
    assert await database.write(
        lambda tx: tx.sessions.commit(finishing.id, finishing.fence, finishing.details, now=T0 + 2)
    )


class DetachedContract:
    """Committed uploads that no record has."""

    async def test_detached_uploads_are_found_by_their_protocol_and_age(self, database: Database) -> None:
        """Those unseen for longest first; not those that a record has."""
        for name, protocol in (("a", "form"), ("b", "form"), ("c", "native"), ("d", "form")):
            await add_committed(database, name, protocol=protocol)
        taken = await see(database, "d")
        assert taken is not None
        details = taken.details
        assert await database.write(
            lambda tx: tx.sessions.settle(taken.id, details.attached(RecordId("r")), instead_of=details)
        )

        async def find(before: float, limit: int = 9) -> list[str]:
            found = await database.read(lambda tx: tx.sessions.detached("form", before=before, limit=limit))
            return [session.id for session in found]

        assert await find(T0 + 2) == []
        assert await find(T0 + 3) == ["a", "b"]
        assert await find(T0 + 3, limit=1) == ["a"]


class HistoryContract(DetachedContract):
    """One owner's uploads."""

    async def test_what_a_file_holds_is_kept_with_its_record(self, database: Database) -> None:
        """And goes with it."""
        key = RecordId("r")
        await add_record(database, record("r"))
        assert await database.read(lambda tx: tx.records.description(key)) is None
        await database.write(lambda tx: tx.records.describe(key, FILE))
        assert await database.read(lambda tx: tx.records.description(key)) == FILE
        await database.write(lambda tx: tx.records.erase(key))
        assert await database.read(lambda tx: tx.records.description(key)) is None

    async def test_a_row_tells_what_is_stored(self, database: Database) -> None:
        """With its original's key, and what it holds."""
        await add_record(database, record("r", metadata={"a": "b"}), original="key")
        await database.write(lambda tx: tx.records.describe(RecordId("r"), replace(FILE, errors=())))
        (row,) = (await database.read(lambda tx: tx.history.page(HistoryQuery(owner=ME)))).items
        file = dict(row["file"])
        assert (json.loads(file.pop("errors")), json.loads(row["metadata"])) == ([], {"a": "b"})
        assert file.pop("valid_json") is None
        assert not file.pop("valid_csv")
        assert file == {
            "media_type": "text/csv",
            "encoding": "utf-8",
            "line_count": 2,
            "record_count": 2,
            "preview": "a;b",
        }
        assert {key: row[key] for key in row if key not in {"file", "metadata"}} == {
            "id": "r",
            "original_filename": "a.bin",
            "content_type": "application/octet-stream",
            "status": "completed",
            "size": 5,
            "error": None,
            "created_at": T0,
            "uploaded_at": T0,
            "blob_key": "key",
        }
        one = await database.read(lambda tx: tx.history.one(ME, RecordId("r")))
        assert one == row

    async def test_a_history_is_one_owners(self, database: Database) -> None:
        """Whatever the query: a page, one row, counts."""
        await add_record(database, record("r", owner="user:x"))
        assert await listed(database) == []
        assert await listed(database, owner="user:x") == ["r"]
        assert await database.read(lambda tx: tx.history.one(ME, RecordId("r"))) is None
        assert list(await database.read(lambda tx: tx.history.days(ME, since=0, until=T0 + 9))) == []

    async def test_the_trash_is_not_in_a_history(self, database: Database) -> None:
        """Until it is restored."""
        await add_record(database, record("r"), original="key")
        await database.write(lambda tx: tx.records.delete(RecordId("r"), now=T0, keep_assets=False))
        assert await listed(database) == []
        assert await database.read(lambda tx: tx.history.one(ME, RecordId("r"))) is None
        await database.write(lambda tx: tx.records.restore(RecordId("r")))
        assert await listed(database) == ["r"]
        assert await see_record(database, "r") is not None

    async def test_pages_follow_each_other_whatever_the_filters(self, database: Database) -> None:
        """By keyset, or by leaving rows out; with one row more where there is one."""
        statuses = (RecordStatus.COMPLETED, RecordStatus.UPLOADING)
        for number in range(6):
            original = f"key {number}" if number % 2 else None
            await add_record(database, record(f"r{number}", begun_at=T0 + number // 2), original=original)
        assert await listed(database, limit=2) == ["r5", "r4", MORE]
        assert await listed(database, limit=2, after=(T0 + 2, "r4")) == ["r3", "r2", MORE]
        assert await listed(database, limit=2, skip=4) == ["r1", "r0"]
        both = frozenset(statuses)
        assert await listed(database, limit=2, statuses=both) == ["r5", "r4", MORE]
        assert await listed(database, limit=2, statuses=both, after=(T0 + 1, "r3")) == ["r2", "r1", MORE]
        assert await listed(database, limit=2, statuses=both, skip=3) == ["r2", "r1", MORE]
        assert await listed(database, statuses=frozenset({statuses[0]})) == ["r5", "r3", "r1"]
        assert await listed(database, statuses=frozenset({RecordStatus.FAILED})) == []

    async def test_filters_of_a_history_narrow_it(self, database: Database) -> None:
        """All given ones must hold; no character of a name is a wildcard."""
        for number, name in enumerate(["GRÖSSE.txt", "b%c.txt", "b.txt"]):
            path = None if number == 0 else f"in_{number}/{name}"
            await add_record(database, record(f"r{number}", filename=name, path=path, begun_at=T0 + number))
        assert await listed(database, filename="größe") == ["r0"]
        assert await listed(database, filename="%") == ["r1"]
        assert await listed(database, filename="b", since=T0 + 1, until=T0 + 2) == ["r1"]
        assert await listed(database, path_prefix="in_") == ["r2", "r1"]
        assert await listed(database, path_prefix="in_1/", filename="B") == ["r1"]
        assert await listed(database, path_prefix="n_1/") == []
        assert await listed(database, path_prefix="") == ["r2", "r1", "r0"]
        assert await listed(database, since=T0 + 1) == ["r2", "r1"]
        assert await listed(database, until=T0 + 1) == ["r0"]

    async def test_a_text_that_no_row_can_have_finds_nothing(self, database: Database) -> None:
        """A NUL, which PostgreSQL's driver does not even take."""
        await add_record(database, record("r", filename="a.bin", path="in/a.bin"), original="key")
        assert await listed(database, filename="a\0") == []
        assert await listed(database, path_prefix="in\0") == []
        assert await listed(database, owner="local\0") == []
        assert await database.read(lambda tx: tx.history.one(ME, RecordId("r\0"))) is None
        assert await see_record(database, "r\0") is None
        assert await see(database, "a\0") is None
        listed_by = RecordQuery(name="a\0", path_prefix="in\0")
        assert not (await database.read(lambda tx: tx.records.list(listed_by))).items

    async def test_days_are_those_of_utc(self, database: Database) -> None:
        """Counted by status, with their bytes; from `since` on, before `until`."""
        midnight = 19_676 * DAY_S
        for name, begun_at, size in (("a", midnight - 1, 1), ("b", midnight, 2), ("c", midnight + 9, None)):
            await add_record(database, record(name, begun_at=begun_at, size=size))
        await add_record(database, record("d", begun_at=midnight + 99), original="key")
        found = await database.read(lambda tx: tx.history.days(ME, since=midnight - 1, until=midnight + 100))
        assert list(found) == [
            DayCount(day=19_675, status="uploading", count=1, size=1),
            DayCount(day=19_676, status="completed", count=1, size=5),
            DayCount(day=19_676, status="uploading", count=2, size=2),
        ]
        later = await database.read(lambda tx: tx.history.days(ME, since=midnight, until=midnight + 9))
        assert [day.count for day in later] == [1]
