"""What every `Journal` does, as a suite to inherit from: a class that does has to have the fixture `open_journal`."""

from collections.abc import Awaitable, Callable
from typing import Final

from haulier.core.dispatch import Dispatch, Fingerprint, OnChange, Removed, Wanted
from haulier.core.outgoing import Checksum, IfExists, RemoteSession, Stored
from haulier.core.secret import Secret
from haulier.core.transfer import Direction, Obstacle, Outcome, Phase, Priority, Transfer, TransferId
from haulier.core.values import replace
from haulier.sending_ports import Journal, JournalQuery, JournalRows, Waiting

OpenJournal = Callable[[], Awaitable[Journal]]
"""Opens the same journal as another process would; closed by whoever gave it."""

T0: Final = 1_800_000_000.0
SOURCE: Final = Fingerprint(device=1, inode=2, size=1000, mtime_ns=3, ctime_ns=4, edges="abcd")


def row(name: str, *, remote: str = "r", target: str = "t", queued_at: float = T0) -> Dispatch:
    """Return a row that was just queued."""
    transfer = Transfer(
        id=TransferId(name), direction=Direction.UPLOAD, line=remote, size=1000, queued_at=queued_at
    )
    return Dispatch(transfer=transfer, target=target, path=f"/{name}", source=SOURCE)


def full(name: str) -> Dispatch:
    """Return a row with something in every field."""
    queued = row(name)
    blocked = (
        queued.transfer.request().initialize().begin(10, now=T0).advance().block(Obstacle.AUTH, "sign in")
    )
    return replace(
        queued,
        transfer=replace(blocked, priority=Priority.HIGH, speed=1.5, sent=17),
        if_exists=IfExists.RENAME,
        on_change=OnChange.FAIL,
        wanted=Wanted.PAUSE,
        superseded_by=TransferId("other"),
        retry_of=TransferId("first"),
        bumped_at=T0 + 1,
        intended_at=T0 + 2,
        session=RemoteSession(state=Secret('{"url": "http://r/1"}'), chunk_size=None, commits_itself=True),
        left=(
            RemoteSession(state=Secret('{"url": "http://r/0"}'), chunk_size=8, commits_itself=False),
            RemoteSession(state=Secret("of before"), chunk_size=None, commits_itself=True),
        ),
        pace=4096,
        restarts=2,
        furthest=20,
        failures=3,
        stalled_at=T0 + 3,
        sum=Checksum("sha-256", "ab"),
        stored=Stored(name="t", id="17", size=1000, etag='"e"', checksum=Checksum("sha-256", "ab")),
        error="sign in",
    )


def ended(name: str, at: float) -> Dispatch:
    """Return a row that has succeeded."""
    queued = row(name)
    return queued.moved(queued.transfer.end(Outcome.SUCCEEDED, now=at), now=at)


def put(*rows_: Dispatch) -> Callable[[JournalRows], None]:
    """Return the work that puts these rows, in their order."""

    def work(rows: JournalRows) -> None:
        for each in rows_:
            rows.put(each)

    return work


def forget(name: str, *given_up: RemoteSession) -> Callable[[JournalRows], None]:
    """Work of the runner: these sessions are no more."""
    return lambda rows: rows.forget_sessions(TransferId(name), given_up)


async def found(journal: Journal, name: str) -> Dispatch | Removed | None:
    """Read one row."""
    return await journal.read(lambda rows: rows.find(TransferId(name)))


class JournalContract:
    """Inherit from it, and give it `open_journal`."""

    async def test_what_was_put_is_found_as_it_was(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        plain, whole = row("plain"), full("whole")
        in_chunks = replace(
            row("chunks"), session=RemoteSession(state=Secret("s"), chunk_size=8, commits_itself=False)
        )
        await journal.write(put(plain, whole, in_chunks))
        assert await found(journal, "plain") == plain
        assert await found(journal, "whole") == whole
        assert await found(journal, "chunks") == in_chunks
        assert await found(journal, "none") is None

    async def test_putting_again_replaces_and_keeps_the_place(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        await journal.write(put(row("a"), row("b")))
        await journal.write(put(replace(full("a"))), durable=False)
        assert await found(journal, "a") == full("a")
        waiting = await journal.read(lambda rows: rows.waiting(after=None, limit=10))
        assert [each.id for each in waiting] == ["a", "b"]

    async def test_the_last_bandwidth_that_was_asked_for_is_told_with_when(
        self, open_journal: OpenJournal
    ) -> None:
        one, other = await open_journal(), await open_journal()
        assert await one.read(lambda rows: rows.bandwidth()) == (0, None)
        for asked in (1000.0, None, 2500.0):
            await one.write(lambda rows, asked=asked: rows.ask_bandwidth(asked))  # type: ignore[misc]
            await one.write(put(row("a")))
            at, told = await other.read(lambda rows: rows.bandwidth())
            assert (at, told) == (await other.read(lambda rows: rows.revision()) - 1, asked)

    async def test_another_process_reads_what_was_committed(self, open_journal: OpenJournal) -> None:
        one, other = await open_journal(), await open_journal()
        await one.write(put(row("a")))
        assert await found(other, "a") == row("a")

    async def test_work_that_raises_changes_nothing(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()

        def broken(rows: JournalRows) -> None:
            rows.put(row("a"))
            raise ZeroDivisionError

        try:
            await journal.write(broken)
        except ZeroDivisionError:
            pass
        else:
            raise AssertionError("it did not come out")
        assert await found(journal, "a") is None
        await journal.write(put(row("b")))

    async def test_the_live_ones_of_a_target_come_eldest_first(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        await journal.write(
            put(row("a"), row("b"), row("x", target="u"), row("y", remote="s"), ended("c", T0))
        )
        live = await journal.read(lambda rows: rows.live_of("r", "t"))
        assert [each.id for each in live] == ["a", "b"]

    async def test_what_waits_comes_in_batches_with_what_its_place_takes(
        self, open_journal: OpenJournal
    ) -> None:
        journal = await open_journal()
        await journal.write(put(full("a"), ended("b", T0), row("c", queued_at=T0 + 1)))
        first = (await journal.read(lambda rows: rows.waiting(after=None, limit=1)))[0]
        assert first == Waiting(
            id=TransferId("a"),
            number=first.number,
            remote="r",
            target="t",
            phase=Phase.BLOCKED,
            priority=1,
            size=1000,
            queued_at=T0,
            bumped_at=T0 + 1,
            wanted=Wanted.PAUSE,
        )
        rest = await journal.read(lambda rows: rows.waiting(after=first.number, limit=10))
        assert [(each.id, each.phase, each.queued_at) for each in rest] == [("c", Phase.QUEUED, T0 + 1)]

    async def test_another_id_names_the_transfer_that_it_joined(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        await journal.write(put(row("a")))
        await journal.write(lambda rows: rows.join(TransferId("b"), TransferId("a")))
        assert await found(journal, "b") == row("a")
        await journal.write(lambda rows: rows.remove(Removed(id=TransferId("a"), removed_at=T0)))
        assert await found(journal, "b") == Removed(id=TransferId("a"), removed_at=T0)

    async def test_of_a_removed_row_only_that_is_left(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        gone = Removed(id=TransferId("a"), removed_at=T0, reason="because")
        await journal.write(put(row("a")))
        await journal.write(lambda rows: rows.remove(gone))
        assert await found(journal, "a") == gone
        assert await journal.read(lambda rows: rows.waiting(after=None, limit=10)) == []

    async def test_changes_come_in_order_each_row_once(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        assert await journal.read(lambda rows: rows.revision()) == 0
        await journal.write(put(row("a"), row("b")))
        await journal.write(put(full("a")))
        await journal.write(lambda rows: rows.remove(Removed(id=TransferId("b"), removed_at=T0)))
        await journal.write(lambda rows: rows.join(TransferId("c"), TransferId("a")))
        changed = await journal.read(lambda rows: rows.changed(after=0, limit=10))
        assert [name for _, name in changed] == ["a", "b", "c"]
        revisions = [revision for revision, _ in changed]
        assert revisions == sorted(revisions)
        assert revisions[-1] == await journal.read(lambda rows: rows.revision())
        assert await journal.read(lambda rows: rows.changed(after=revisions[0], limit=1)) == changed[1:2]

    async def test_only_the_commits_of_others_count_as_theirs(self, open_journal: OpenJournal) -> None:
        one, other = await open_journal(), await open_journal()
        before = await one.commits_of_others()
        await one.write(put(row("a")))
        assert await one.commits_of_others() == before
        await other.write(put(row("b")))
        assert await one.commits_of_others() != before

    async def test_lists_are_filtered_and_paged_the_newest_first(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        await journal.write(put(row("a"), row("b", remote="s"), ended("c", T0), row("d")))

        async def names(query: JournalQuery, after: int | None = None, limit: int = 10) -> list[str]:
            found_ = await journal.read(lambda rows: rows.list(query, after=after, limit=limit))
            return [each.id for _, each in found_.rows]

        assert await names(JournalQuery()) == ["d", "c", "b", "a"]
        assert await names(JournalQuery(remote="r")) == ["d", "c", "a"]
        assert await names(JournalQuery(live=True)) == ["d", "b", "a"]
        assert await names(JournalQuery(live=False)) == ["c"]
        page = await journal.read(lambda rows: rows.list(JournalQuery(), after=None, limit=2))
        assert await names(JournalQuery(), after=page.next) == ["b", "a"]
        whole = await journal.read(lambda rows: rows.list(JournalQuery(), after=None, limit=4))
        assert whole.next is None

    async def test_leftovers_are_ended_rows_of_which_sessions_are_left(
        self, open_journal: OpenJournal
    ) -> None:
        journal = await open_journal()
        session = RemoteSession(state=Secret("s"), chunk_size=None, commits_itself=False)
        left = replace(ended("a", T0), session=session)
        also = replace(ended("d", T0), left=(session,))
        await journal.write(put(left, ended("b", T0), full("c"), also))
        first = await journal.read(lambda rows: rows.leftovers(after=None, limit=1))
        assert list(first.rows) == [(first.next, also)]
        second = await journal.read(lambda rows: rows.leftovers(after=first.next, limit=1))
        assert ([each for _, each in second.rows], second.next) == ([left], None)

    async def test_a_removed_row_is_there_for_who_cleans_up_until_nothing_lies_at_the_remote(
        self, open_journal: OpenJournal
    ) -> None:
        journal = await open_journal()
        first, second = (
            RemoteSession(state=Secret(name), chunk_size=None, commits_itself=False) for name in "12"
        )
        left = replace(ended("a", T0), session=second, left=(first,))
        gone = Removed(id=left.id, removed_at=T0)
        await journal.write(put(left))
        await journal.write(lambda rows: rows.remove(gone))
        for given_up, lies in ((), (first, second)), ((first,), (second,)), ((second,), ()), ((second,), ()):
            await journal.write(forget(left.id, *given_up))
            assert await found(journal, "a") == gone
            page = await journal.read(lambda rows: rows.list(JournalQuery(), after=None, limit=10))
            assert list(page.rows) == []
            kept = await journal.read(lambda rows: rows.leftover(left.id))
            assert (() if kept is None else kept.leftovers) == lies
            page = await journal.read(lambda rows: rows.leftovers(after=None, limit=10))
            assert [each for _, each in page.rows] == ([] if kept is None else [kept])
            changed = await journal.read(lambda rows: rows.changed(after=0, limit=10))
            assert [name for _, name in changed] == ["a"]

    async def test_sessions_are_forgotten_of_ended_rows_only(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        session = RemoteSession(state=Secret("s"), chunk_size=None, commits_itself=False)
        live, left = replace(row("live"), session=session), replace(ended("a", T0), session=session)
        await journal.write(put(live, left))
        for name in ("live", "a", "nobody"):
            await journal.write(forget(name, session))
        assert await found(journal, "live") == live
        assert await found(journal, "a") == ended("a", T0)
        assert await journal.read(lambda rows: rows.leftover(TransferId("live"))) is None

    async def test_only_what_is_old_is_pruned_with_the_ids_that_joined_it(
        self, open_journal: OpenJournal
    ) -> None:
        journal = await open_journal()
        await journal.write(put(ended("old", T0), ended("new", T0 + 10), row("live", queued_at=0.0)))
        await journal.write(lambda rows: rows.join(TransferId("also"), TransferId("old")))
        await journal.write(lambda rows: rows.remove(Removed(id=TransferId("gone"), removed_at=T0)))
        assert await journal.write(lambda rows: rows.prune(before=T0 + 5, limit=1)) == 1
        assert await journal.write(lambda rows: rows.prune(before=T0 + 5, limit=10)) == 1
        assert await journal.write(lambda rows: rows.prune(before=T0 + 5, limit=10)) == 0
        for name in ("old", "also", "gone"):
            assert await found(journal, name) is None
        for name in ("new", "live"):
            assert await found(journal, name) is not None

    async def test_there_is_one_runner_until_it_lets_go(self, open_journal: OpenJournal) -> None:
        one, other = await open_journal(), await open_journal()
        assert await one.holder() is None
        assert await one.take()
        assert await one.take()
        assert not await other.take()
        assert await other.holder() is not None
        assert await one.holder() == await other.holder()
        await other.give_up()
        assert not await other.take()
        await one.give_up()
        await one.give_up()
        assert await other.take()
        await other.close()
        await other.close()
        assert await one.take()
