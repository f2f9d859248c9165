"""The journal's contract on both that ship, and what only a file can suffer."""

import asyncio
import errno
import os
import sqlite3
import stat
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from math import inf
from pathlib import Path
from typing import Any, Final

import pytest

from haulier.adapters.clock import SystemClock
from haulier.adapters.journal import SqliteJournal
from haulier.adapters.lock_files import try_lock
from haulier.adapters.memory.journal import MemoryJournal, MemoryJournalFile
from haulier.adapters.watched_files import WatchedFiles
from haulier.core.dispatch import Removed
from haulier.core.errors import ConfigError, StorageUnavailable
from haulier.core.values import replace
from haulier.sending_ports import Journal, JournalQuery
from haulier.testing.journal_contract import T0, JournalContract, OpenJournal, ended, found, full, put, row

NO_TEXT: Final = b"half a character: \xc3"


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def open_journal(self) -> OpenJournal:
        file = MemoryJournalFile()

        async def open_one() -> Journal:
            journal = MemoryJournal(file)
            await journal.open()
            return journal

        return open_one


class TestSqliteJournal(JournalContract):
    @pytest.fixture
    async def open_journal(self, tmp_path: Path) -> AsyncIterator[OpenJournal]:
        opened = []

        async def open_one() -> Journal:
            journal = SqliteJournal(tmp_path / "sub" / "journal.db", SystemClock())
            await journal.open()
            opened.append(journal)
            return journal

        yield open_one
        for journal in opened:
            await journal.close()


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    journal = SqliteJournal(tmp_path / "journal.db", SystemClock())
    await journal.open()
    yield journal
    await journal.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_all_its_files_are_their_owners_alone(journal: SqliteJournal) -> None:
    await journal.take()
    await journal.write(put(full("a")))
    files = sorted(path.name for path in journal.path.parent.iterdir())
    assert files == ["journal.db", "journal.db-shm", "journal.db-wal", "journal.db.lock"]
    assert {mode(path) for path in journal.path.parent.iterdir()} == {0o600}


async def test_a_journal_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.touch(mode=0o644)
    journal = SqliteJournal(path, SystemClock())
    await journal.open()
    await journal.close()
    assert mode(path) == 0o600


async def test_what_is_no_regular_file_is_no_journal_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    os.mkfifo(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="Not a regular file"):
        await SqliteJournal(path, SystemClock()).open()
    assert mode(path) == 0o644


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("phase", "dancing"),
        ("wanted", "everything"),
        ("priority", 17),
        ("source", "no json"),
        ("source", "[]"),
        ("stored", "{}"),
        ("done", 5000),
        ("outcome", "succeeded"),
        ("session = 'kept', chunk_size", -1),
        ("pace", 0),
        ("left_there", "[[]]"),
        ("sum", "[" * 5000),
        ("size", 2000),
        ("retry_at = NULL, phase", "waiting_retry"),
        ("queued_at", -inf),
        ("retry_at", inf),
        ("speed", inf),
        *((column, NO_TEXT) for column in ("remote", "target", "path", "step", "wanted", "error", "session")),
    ],
)
async def test_a_row_that_cannot_be_read_is_put_aside_and_stops_no_other(
    journal: SqliteJournal, column: str, value: object
) -> None:
    await journal.write(put(row("bad"), row("good")))
    with closing(sqlite3.connect(journal.path)) as connection, connection:
        as_text = "CAST(? AS TEXT)" if value is NO_TEXT else "?"
        connection.execute(f"UPDATE transfers SET {column} = {as_text} WHERE id = 'bad'", (value,))
    waiting = await journal.read(lambda rows: rows.waiting(after=None, limit=10))
    assert waiting[-1].id == "good"
    page = await journal.read(lambda rows: rows.list(JournalQuery(), after=None, limit=10))
    assert [each.id for _, each in page.rows] == ["good"]
    assert await found(journal, "bad") is None
    gone = await journal.write(lambda rows: rows.find(row("bad").id))
    assert isinstance(gone, Removed)
    assert gone.reason.startswith("its row cannot be read: ")
    assert await found(journal, "good") == row("good")
    with closing(sqlite3.connect(journal.path)) as connection:
        kept = connection.execute("SELECT id, content FROM quarantine").fetchall()
    assert [name for name, _ in kept] == ["bad"]
    assert '"id": "bad"' in kept[0][1]


async def test_rows_that_nobody_can_ask_for_are_put_aside_by_whoever_begins_to_run_them(
    journal: SqliteJournal,
) -> None:
    await journal.write(put(row("a"), row("b"), row("c"), row("good")))
    with closing(sqlite3.connect(journal.path)) as connection, connection:
        connection.execute("UPDATE transfers SET id = CAST(x'ff' || id AS TEXT) WHERE id <> 'good'")
    waiting = await journal.write(lambda rows: rows.waiting(after=None, limit=2))
    assert [each.id for each in waiting] == ["good"]
    with closing(sqlite3.connect(journal.path)) as connection:
        assert connection.execute("SELECT id, reason FROM quarantine ORDER BY id").fetchall() == [
            (rf"\xff{each}", "ValueError: id is no UTF-8") for each in ("a", "b", "c")
        ]
        assert connection.execute("SELECT count(*) FROM transfers").fetchone() == (1,)


async def test_what_is_left_of_rows_whose_ids_cannot_be_read_is_pruned(journal: SqliteJournal) -> None:
    await journal.write(lambda rows: rows.remove(Removed(id=row("gone").id, removed_at=1.0)))
    await journal.write(put(ended("b", 1.0)))
    with closing(sqlite3.connect(journal.path)) as connection, connection:
        for table in ("removed", "transfers"):
            connection.execute(f"UPDATE {table} SET id = CAST(x'ff' AS TEXT)")
    assert await journal.write(lambda rows: rows.prune(before=2.0, limit=10)) == 2
    assert await journal.write(lambda rows: rows.prune(before=2.0, limit=10)) == 0


async def test_a_row_that_has_not_ended_is_not_pruned_whatever_it_says_of_its_end(
    journal: SqliteJournal,
) -> None:
    await journal.write(put(row("a")))
    with closing(sqlite3.connect(journal.path)) as connection, connection:
        connection.execute("UPDATE transfers SET ended_at = 1.0")
    assert await journal.write(lambda rows: rows.prune(before=2.0, limit=10)) == 0


async def test_a_row_with_a_number_below_all_others_is_run_too(journal: SqliteJournal) -> None:
    await journal.write(put(row("a"), row("b")))
    with closing(sqlite3.connect(journal.path)) as connection, connection:
        connection.execute("UPDATE transfers SET number = -7 WHERE id = 'b'")
    waiting = await journal.read(lambda rows: rows.waiting(after=None, limit=10))
    assert [each.id for each in waiting] == ["b", "a"]


async def test_a_row_that_claims_a_revision_to_come_hides_no_change_of_others(journal: SqliteJournal) -> None:
    await journal.write(put(row("a"), row("b")))
    with closing(sqlite3.connect(journal.path)) as connection, connection:
        connection.execute("UPDATE transfers SET revision = 9223372036854775807 WHERE id = 'a'")
    await journal.write(put(row("c")))
    assert await journal.read(lambda rows: rows.changed(after=1, limit=10)) == [(2, "b"), (3, "c")]


async def test_a_page_with_a_row_that_cannot_be_read_is_not_the_last_one(journal: SqliteJournal) -> None:
    await journal.write(put(row("a"), row("b"), row("bad")))
    with closing(sqlite3.connect(journal.path)) as connection, connection:
        connection.execute("UPDATE transfers SET phase = 'dancing' WHERE id = 'bad'")
    first = await journal.read(lambda rows: rows.list(JournalQuery(), after=None, limit=2))
    assert [each.id for _, each in first.rows] == ["b"]
    second = await journal.read(lambda rows: rows.list(JournalQuery(), after=first.next, limit=2))
    assert [each.id for _, each in second.rows] == ["a"]
    assert second.next is None


async def test_whoever_gives_up_waiting_for_the_runners_place_leaves_it_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, other = (SqliteJournal(tmp_path / "journal.db", SystemClock()) for _ in range(2))
    await journal.open()
    begun, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any, **options: Any) -> tuple[int | None, str]:
        begun.set()
        go_on.wait(20)
        return try_lock(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr("haulier.adapters.journal.try_lock", slow)
        taking = asyncio.get_running_loop().create_task(journal.take())
        await asyncio.to_thread(begun.wait)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        go_on.set()
        await journal.close()
    await other.open()
    assert await other.take()
    await other.close()


async def test_a_runners_place_that_cannot_be_written_is_let_go(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("haulier.adapters.lock_files.os.pwrite", full_disk)
        with pytest.raises(StorageUnavailable, match=r"journal\.db\.lock: No space left on device"):
            await journal.take()
    assert await journal.holder() is None
    assert await journal.take()


async def test_a_place_that_may_not_be_looked_at_is_an_error_of_ours(journal: SqliteJournal) -> None:
    (journal.path.parent / "journal.db.lock").mkdir()
    for ask in (journal.take, journal.holder):
        with pytest.raises(StorageUnavailable, match=r"journal\.db\.lock: Is a directory"):
            await ask()


async def test_a_closed_journal_knows_of_no_commits(journal: SqliteJournal) -> None:
    await journal.close()
    with pytest.raises(StorageUnavailable, match="is closed"):
        await journal.commits_of_others()


async def test_a_fault_while_commits_are_asked_for_is_an_error_of_ours(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Faulty:
        def execute(self, _: str) -> None:
            raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(journal, "_connection", Faulty())
        with pytest.raises(StorageUnavailable, match="disk I/O error"):
            await journal.commits_of_others()


async def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no database at all, but long enough to be read as one" * 10)
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
    newer = tmp_path / "newer.db"
    journal = SqliteJournal(newer, SystemClock())
    await journal.open()
    await journal.close()
    with closing(sqlite3.connect(newer)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")
    for path, words in ((text, "another kind"), (other, "another program"), (newer, "newer Haulier")):
        path.chmod(0o644)
        before = path.read_bytes()
        journal = SqliteJournal(path, SystemClock())
        with pytest.raises(ConfigError, match=words):
            await journal.open()
        await journal.close()
        assert (path.read_bytes(), mode(path)) == (before, 0o644)


async def test_a_journal_that_was_made_before_columns_were_added_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path, SystemClock())
    await journal.open()
    begun = row("a").moved(row("a").transfer.request().initialize().begin(10, now=T0), now=T0)
    at_rest = begun.moved(begun.transfer.requeue(), now=T0)
    await journal.write(put(at_rest))
    await journal.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE transfers DROP COLUMN sent")
        connection.execute("ALTER TABLE transfers DROP COLUMN furthest")
        connection.execute("DROP INDEX transfers_leftovers")
        connection.execute("ALTER TABLE transfers DROP COLUMN left_there")
    for _ in range(2):
        journal = SqliteJournal(path, SystemClock())
        await journal.open()
        assert await found(journal, "a") == replace(at_rest, furthest=10)
        await journal.close()


async def test_a_journal_of_somebody_else_that_others_can_read_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    path.touch(mode=0o644)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    journal = SqliteJournal(path, SystemClock())
    with pytest.raises(StorageUnavailable, match="not permitted"):
        await journal.open()
    await journal.close()


async def test_a_place_where_no_file_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/journal"):
        await SqliteJournal(tmp_path / "file" / "journal", SystemClock()).open()


async def test_a_closed_journal_says_so(journal: SqliteJournal) -> None:
    await journal.close()
    with pytest.raises(StorageUnavailable, match="is closed"):
        await journal.write(put(row("a")))
    await journal.open()
    await journal.open()
    await journal.write(put(row("a")))


async def test_a_journal_has_one_runner_by_whatever_name_it_is_opened(
    journal: SqliteJournal, tmp_path: Path
) -> None:
    (tmp_path / "folder").symlink_to(tmp_path)
    (tmp_path / "folder" / "link.db").symlink_to("journal.db")
    for name in ("folder/journal.db", "link.db", "folder/link.db"):
        other = SqliteJournal(tmp_path / name, SystemClock())
        await other.open()
        assert await journal.take()
        assert not await other.take()
        assert await other.holder() == await journal.holder()
        await journal.give_up()
        assert await other.take()
        assert not await journal.take()
        await other.close()


async def test_a_link_that_leads_to_another_journal_now_is_let_go(tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to("one.db")
    journal = SqliteJournal(link, SystemClock())
    await journal.open()
    assert await journal.take()
    link.unlink()
    link.symlink_to("two.db")
    with pytest.raises(StorageUnavailable) as failed:
        await journal.commits_of_others()
    assert failed.value.replaced
    await journal.close()


# --- a file that is removed or replaced under its process -----------------------------------------------


def removed(path: Path) -> None:
    path.unlink()


def renamed(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replaced(path: Path) -> None:
    backup = path.with_name("backup")
    backup.write_bytes(path.read_bytes())
    backup.rename(path)


ACCIDENTS = [removed, renamed, replaced]
Accident = Callable[[Path], None]


@pytest.mark.parametrize("accident", ACCIDENTS)
async def test_nothing_is_kept_or_read_in_a_journal_that_is_another_one_now(
    journal: SqliteJournal, accident: Accident
) -> None:
    await journal.write(put(row("a")))
    accident(journal.path)
    uses: list[Callable[[], Awaitable[Any]]] = [
        lambda: journal.write(put(row("b"))),
        lambda: found(journal, "a"),
        journal.commits_of_others,
        journal.take,
    ]
    for use in uses:
        with pytest.raises(StorageUnavailable, match="was removed or replaced while it was open") as failed:
            await use()
        assert failed.value.replaced
    assert await journal.holder() is None


async def test_a_journal_that_is_put_back_is_whole_and_can_be_opened_anew(journal: SqliteJournal) -> None:
    await journal.write(put(row("a")))
    renamed(journal.path)
    with pytest.raises(StorageUnavailable):
        await journal.write(put(row("b")))
    (journal.path.parent / "elsewhere").rename(journal.path)
    with pytest.raises(StorageUnavailable):
        await journal.write(put(row("b")))
    await journal.open()
    await journal.write(put(row("c")))
    assert [await found(journal, name) for name in "abc"] == [row("a"), None, row("c")]


async def test_a_journal_that_is_restored_gets_nothing_of_the_log_of_the_one_before(
    journal: SqliteJournal,
) -> None:
    await journal.write(put(row("kept")))
    await journal.close()
    backup = journal.path.with_name("backup")
    backup.write_bytes(journal.path.read_bytes())
    await journal.open()
    await journal.write(put(*(row(f"later{n}") for n in range(100))))
    backup.rename(journal.path)
    await journal.close()
    await journal.open()
    listed = await journal.read(lambda rows: rows.list(JournalQuery(), after=None, limit=10))
    assert [each.id for _, each in listed.rows] == ["kept"]


async def test_what_goes_into_a_file_that_is_removed_meanwhile_is_not_told_as_kept(
    journal: SqliteJournal,
) -> None:
    def late(rows: Any) -> None:
        rows.put(row("a"))
        removed(journal.path)

    with pytest.raises(StorageUnavailable) as failed:
        await journal.write(late)
    assert failed.value.replaced


async def test_a_journal_that_is_removed_while_it_is_opened_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = SqliteJournal(tmp_path / "journal.db", SystemClock())
    prepare = journal._prepare

    def slow(connection: sqlite3.Connection) -> None:
        removed(journal.path)
        prepare(connection)

    with monkeypatch.context() as patched:
        patched.setattr(journal, "_prepare", slow)
        with pytest.raises(StorageUnavailable):
            await journal.open()
    await journal.open()
    await journal.write(put(row("a")))
    await journal.close()


HOLDER = """
import asyncio, sys
from pathlib import Path
from haulier.adapters.clock import SystemClock
from haulier.adapters.journal import SqliteJournal
from haulier.core.errors import StorageUnavailable
from haulier.testing.journal_contract import put, row
async def main():
    journal = SqliteJournal(Path(sys.argv[1]), SystemClock())
    await journal.open()
    await journal.take()
    await journal.write(put(*(row(f"old{n}") for n in range(100))))
    print("open", flush=True)
    sys.stdin.readline()
    try:
        await journal.write(put(row("lost")))
    except StorageUnavailable as error:
        print(error.replaced, flush=True)
    sys.stdin.readline()
asyncio.run(main())
"""


async def test_whoever_makes_a_new_journal_waits_until_another_process_lets_go_of_the_old_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.db"
    pipe = asyncio.subprocess.PIPE
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(path), stdin=pipe, stdout=pipe
    )
    assert other.stdin is not None
    assert other.stdout is not None
    assert await other.stdout.readline() == b"open\n"
    removed(path)
    new = SqliteJournal(path, SystemClock())
    opening = asyncio.get_running_loop().create_task(new.open())
    other.stdin.write(b"\n")
    assert await other.stdout.readline() == b"True\n"
    await opening
    assert not await new.take(), "the old one's runner has not given up yet"
    await new.write(put(row("new")))
    await other.communicate(b"\n")
    assert await new.take()
    await new.write(put(row("newer")))
    await new.close()
    await new.open()
    listed = await new.read(lambda rows: rows.list(JournalQuery(), after=None, limit=10))
    assert [each.id for _, each in listed.rows] == ["newer", "new"]
    await new.close()


async def test_a_new_journal_whose_old_one_is_never_let_go_is_refused_and_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haulier.adapters.sqlite_file.LET_GO_S", 0.1)
    path = tmp_path / "journal.db"
    pipe = asyncio.subprocess.PIPE
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(path), stdin=pipe, stdout=pipe
    )
    assert other.stdout is not None
    assert await other.stdout.readline() == b"open\n"
    removed(path)
    with pytest.raises(StorageUnavailable, match="SHORT_READ"):
        await SqliteJournal(path, SystemClock()).open()
    await other.communicate(b"\n\n")


async def test_whoever_makes_the_runners_lock_anew_is_the_only_runner(journal: SqliteJournal) -> None:
    assert await journal.take()
    removed(journal.path.with_name("journal.db.lock"))
    other = SqliteJournal(journal.path, SystemClock())
    await other.open()
    assert await other.take()
    with pytest.raises(StorageUnavailable, match=r"journal\.db\.lock was removed or replaced") as failed:
        await journal.write(put(row("a")))
    assert failed.value.replaced
    await journal.close()
    await journal.open()
    assert not await journal.take()
    await journal.write(put(row("b")))
    await other.close()


async def test_a_path_that_cannot_be_looked_at_says_nothing_about_its_file(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", failing)
        with pytest.raises(StorageUnavailable, match="Input/output error") as failed:
            await journal.write(put(row("a")))
    assert not failed.value.replaced
    await journal.write(put(row("a")))


@pytest.mark.parametrize("accident", ACCIDENTS)
async def test_no_other_store_in_a_file_keeps_anything_where_nobody_will_find_it(
    tmp_path: Path, accident: Accident
) -> None:
    path = tmp_path / "watched"
    watched = WatchedFiles(path, tmp_path, "any:")
    await watched.open()
    await watched.note({"a": (1, 2, 3, 4)})
    accident(path)
    for use in (watched.note({"b": (1, 2, 3, 4)}), watched.forget(["a"])):
        with pytest.raises(StorageUnavailable) as failed:
            await use
        assert failed.value.replaced
    await watched.close()


async def test_the_runners_place_is_free_when_its_process_was_killed(journal: SqliteJournal) -> None:
    program = """
import asyncio, sys, time
from pathlib import Path
from typing import Any
from haulier.adapters.clock import SystemClock
from haulier.adapters.journal import SqliteJournal
async def main():
    journal = SqliteJournal(Path(sys.argv[1]), SystemClock())
    await journal.open()
    print(await journal.take(), flush=True)
    time.sleep(600)
asyncio.run(main())
"""
    command = [sys.executable, "-c", program, str(journal.path)]
    other = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert other.stdout is not None
    assert await other.stdout.readline() == b"True\n"
    assert not await journal.take()
    assert await journal.holder() == str(other.pid)
    other.kill()
    await other.communicate()
    assert await journal.holder() is None
    assert await journal.take()
