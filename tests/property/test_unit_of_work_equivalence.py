"""The databases and the one in memory answer alike, whatever is asked in whatever order."""

import asyncio
import contextlib
import math
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from haulier.adapters.memory.rows import MemoryDatabase
from haulier.adapters.sql.database import SqlDatabase, open_database
from haulier.adapters.sql.sqlite.database import SqliteDatabase
from haulier.core.caller import Role, Scope
from haulier.core.capsule import Capsule, CapsulePolicy
from haulier.core.errors import CapsuleNotFound, QuotaExceeded
from haulier.core.quantity import MIB
from haulier.core.record import AssetKind, RecordId, RecordStatus
from haulier.core.session import Concat, LiveLimit, Mode, SessionId, SessionStatus
from haulier.core.token import Token
from haulier.core.upload import UploadDetails
from haulier.core.values import replace
from haulier.ports import KeyTaken, RecordQuery
from haulier.testing.rows import SHA_256, T0, asset, chunk, record, upload, whole
from tests.support.postgres import fresh_database

Step = Callable[[Any], Awaitable[Any]]
"""One call of a store, given the transaction."""

CAPSULES = {"default": None, "other": None, "small": 1000}
CAPSULE_ROWS = [
    "INSERT INTO capsules (id, name, quota_bytes, used_bytes, reserved_bytes) "
    f"VALUES ('{name}', '{name}', {quota or 'NULL'}, 0, 0)"
    for name, quota in CAPSULES.items()
    if name != "default"
]
CHUNKED = ("c1", "c2")
APPENDED = ("p1",)
FINAL = ("f1",)
SHORT = ("w1", "w2", "w3")
RECORDS = ("r1", "r2", "r3")
BLOBS = ("b1", "b2", "b3", "b4")
PRINCIPALS = ("local", "user:x", "user:y")
TOKENS = ("t1", "t2", "t3")

moments = st.integers(0, 400).map(lambda quarter: T0 + quarter / 4)
owners = st.sampled_from(["local", "user:x"])
keys = st.sampled_from([None, "k1", "k2"])
scopes = st.sampled_from(["default", "other"])
limits = st.builds(
    LiveLimit,
    of_owner=st.integers(1, 4),
    address=st.sampled_from([None, "here", "there"]),
    of_address=st.integers(1, 3),
)
# What the core lets into names: no controls, no surrogates. Few letters, so that searches find something.
names = st.text(st.sampled_from("aAäÄ\u0308ßSs%_\\ςΣ"), min_size=1, max_size=6) | st.text(
    st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=6
)
paths = st.none() | st.text(st.sampled_from("aAb/\ud7ff\U0010ffff"), min_size=1, max_size=5)
sessions_ids = st.sampled_from([SessionId(name) for name in (*CHUNKED, *APPENDED, *FINAL, *SHORT)])
record_ids = st.sampled_from([RecordId(name) for name in RECORDS])
kinds = st.sampled_from(AssetKind)
principals = st.sampled_from(PRINCIPALS)
capsule_names = st.sampled_from([*CAPSULES, "attic", "none"])
token_ids = st.sampled_from(TOKENS)


class Rollback(Exception):
    """Raised at the end of a transaction that is to leave nothing."""


@cache
def template() -> Path:
    """Return a fresh database with our capsules; made once, copied for each example."""
    path = Path(tempfile.mkdtemp()) / "template.db"

    async def make() -> None:
        async with SqliteDatabase(path):
            with contextlib.closing(sqlite3.connect(path)) as connection, connection:
                for name, quota in list(CAPSULES.items())[1:]:
                    connection.execute(
                        "INSERT INTO capsules (id, name, quota_bytes, used_bytes, reserved_bytes)"
                        " VALUES (?, ?, ?, 0, 0)",
                        (name, name, quota),
                    )

    asyncio.run(make())
    return path


def on_sqlite(ends: contextlib.ExitStack) -> SqlDatabase:
    """Return a fresh database in a file."""
    path = Path(ends.enter_context(tempfile.TemporaryDirectory())) / "haulier.db"
    shutil.copy(template(), path)
    return open_database(path)


def on_postgres(ends: contextlib.ExitStack) -> SqlDatabase:
    """Return a fresh PostgreSQL database."""
    return open_database(ends.enter_context(fresh_database(template=CAPSULE_ROWS)))


async def outcome(call: Awaitable[Any]) -> tuple[str, Any]:
    """Return what came of a call, in words that both databases share."""
    try:
        result = await call
    except (QuotaExceeded, CapsuleNotFound) as refusal:
        return type(refusal).__name__, str(refusal)
    except (KeyTaken, Rollback) as refusal:
        return type(refusal).__name__, None
    except (AssertionError, sqlite3.IntegrityError, psycopg.IntegrityError):
        return "mistake", None
    return "answer", list(result) if isinstance(result, list | tuple) else result


class BothDatabases(RuleBasedStateMachine):
    """What is done to both, and how their answers are compared."""

    rows = staticmethod(on_sqlite)

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.ends = contextlib.ExitStack()
        self.sql = self.rows(self.ends)
        self.memory: MemoryDatabase[UploadDetails] = MemoryDatabase(capsules=CAPSULES)
        self.runner.run(self.sql.open())

    def teardown(self) -> None:
        self.runner.run(self.sql.close())
        self.runner.close()
        self.ends.close()

    def do(self, *steps: Step, rolled_back: bool = False, durable: bool = False) -> Any:
        """Run the steps in one transaction of each database; they must come to the same."""

        async def work(tx: Any) -> list[Any]:
            answers = [await step(tx) for step in steps]
            if rolled_back:
                raise Rollback
            return [list(it) if isinstance(it, list | tuple) else it for it in answers]

        async def both() -> tuple[Any, Any]:
            return (
                await outcome(self.sql.write(work, durable=durable)),
                await outcome(self.memory.write(work, durable=durable)),
            )

        mine, expected = self.runner.run(both())
        assert mine == expected
        return mine

    def see(self, step: Step) -> Any:
        """Read the same from both."""

        async def both() -> tuple[Any, Any]:
            return await outcome(self.sql.read(step)), await outcome(self.memory.read(step))

        mine, expected = self.runner.run(both())
        assert mine == expected
        return mine[1]

    def fence_of(self, session_id: SessionId, back: int) -> int:
        session = self.see(lambda tx: tx.sessions.peek(session_id))
        return 0 if session is None else max(session.fence - back, 0)


class SessionsOfBoth(BothDatabases):
    @initialize(size=st.sampled_from([MIB, 2 * MIB + 5]), data=st.data())
    def begin_some(self, size: int, data: Any) -> None:
        """Start where something can happen: two sessions, one of them about to be complete."""
        self.do(
            lambda tx: tx.sessions.insert(upload("c1", size=size), limit=LiveLimit(of_owner=9)),
            lambda tx: tx.sessions.insert(
                upload("p1", mode=Mode.APPEND, size=None), limit=LiveLimit(of_owner=9)
            ),
        )
        if data.draw(st.booleans()):
            self.fill_and_finish(SessionId("c1"), T0)

    @rule(
        name=st.sampled_from(CHUNKED),
        owner=owners,
        key=keys,
        scope=scopes,
        size=st.sampled_from([0, 5, MIB, 2 * MIB + 5]),
        limit=limits,
        now=moments,
        filename=names,
        rolled_back=st.booleans(),
    )
    def begin_chunks(self, name: str, limit: LiveLimit, now: float, rolled_back: bool, **fields: Any) -> None:
        session = upload(name, begun_at=now, **fields)
        self.do(lambda tx: tx.sessions.insert(session, limit=limit), rolled_back=rolled_back)

    @rule(
        name=st.sampled_from(APPENDED),
        owner=owners,
        key=keys,
        size=st.sampled_from([None, 5]),
        concat=st.sampled_from([Concat.NONE, Concat.PARTIAL]),
        limit=limits,
        now=moments,
    )
    def begin_append(self, name: str, limit: LiveLimit, now: float, **fields: Any) -> None:
        session = upload(name, begun_at=now, mode=Mode.APPEND, **fields)
        self.do(lambda tx: tx.sessions.insert(session, limit=limit))

    @rule(
        short=st.lists(st.sampled_from(SHORT), min_size=1, max_size=3, unique=True),
        owner=owners,
        scope=scopes,
        limit=limits,
        now=moments,
        rolled_back=st.booleans(),
    )
    def keep_short_ones(
        self, short: list[str], limit: LiveLimit, now: float, rolled_back: bool, **fields: Any
    ) -> None:
        sessions = [whole(name, begun_at=now, **fields) for name in short]
        self.do(lambda tx: tx.sessions.insert_committed(sessions, limit=limit), rolled_back=rolled_back)

    @rule(made_of=st.lists(st.sampled_from(APPENDED), max_size=3), now=moments)
    def begin_final(self, made_of: list[str], now: float) -> None:
        session = upload("f1", begun_at=now, mode=Mode.APPEND, size=None, concat=Concat.FINAL)
        self.do(
            lambda tx: tx.sessions.insert(session, limit=LiveLimit(of_owner=9)),
            lambda tx: tx.sessions.join(session.id, [SessionId(name) for name in made_of]),
        )

    @rule(size=st.integers(0, 5), now=moments)
    def assemble(self, size: int, now: float) -> None:
        session = self.see(lambda tx: tx.sessions.peek(SessionId("f1")))
        if session is None or session.size is None:
            self.do(lambda tx: tx.sessions.assemble(SessionId("f1"), size, now=now))

    @rule(name=st.sampled_from([*APPENDED, *CHUNKED]))
    def lock_finals(self, name: str) -> None:
        self.do(lambda tx: tx.sessions.finals(SessionId(name)))

    @rule(
        name=st.sampled_from(CHUNKED),
        data=st.data(),
        fill=st.binary(min_size=1, max_size=1),
        now=moments,
        back=st.sampled_from([0, 0, 0, 1]),
    )
    def accept(self, name: str, data: Any, fill: bytes, now: float, back: int) -> None:
        session = self.see(lambda tx: tx.sessions.peek(SessionId(name)))
        if session is None or not session.chunk_count:
            self.do(lambda tx: tx.sessions.accept_chunk(SessionId("none"), 0, chunk(0), now=now))
            return
        index = data.draw(st.integers(0, session.chunk_count - 1))
        start, stop = session.chunk_range(index)
        accepted = chunk(index, stop - start, fill=fill)
        fence = self.fence_of(session.id, back)
        self.do(lambda tx: tx.sessions.accept_chunk(session.id, fence, accepted, now=now))

    @rule(name=st.sampled_from(CHUNKED), index=st.integers(0, 2), now=moments)
    def forget(self, name: str, index: int, now: float) -> None:
        self.do(lambda tx: tx.sessions.forget_chunk(SessionId(name), index, now=now))

    @rule(
        name=st.sampled_from(CHUNKED),
        back=st.integers(0, 1),
        error=st.sampled_from([None, "lost"]),
        now=moments,
    )
    def lose(self, name: str, back: int, error: str | None, now: float) -> None:
        fence = self.fence_of(SessionId(name), back)
        self.do(lambda tx: tx.sessions.lose_chunks(SessionId(name), fence, error, now=now))

    @rule(
        name=st.sampled_from(APPENDED),
        back=st.integers(0, 1),
        holder=st.sampled_from([None, "holder"]),
        now=moments,
    )
    def claim(self, name: str, back: int, holder: str | None, now: float) -> None:
        fence = self.fence_of(SessionId(name), back)
        self.do(lambda tx: tx.sessions.claim(SessionId(name), fence, holder, now=now))

    @rule(session_id=sessions_ids, answer=st.sampled_from(["one", "two"]))
    def keep_answer(self, session_id: SessionId, answer: str) -> None:
        self.do(lambda tx: tx.sessions.keep_answer(session_id, answer))

    @rule(session_id=sessions_ids, back=st.integers(0, 1), letting_go=st.booleans())
    def ask_or_let_go(self, session_id: SessionId, back: int, letting_go: bool) -> None:
        fence = self.fence_of(session_id, back)
        if letting_go:
            self.do(lambda tx: tx.sessions.release(session_id, fence))
        else:
            self.do(lambda tx: tx.sessions.ask(session_id, fence))

    @rule(
        session_id=sessions_ids,
        worker=st.sampled_from(["one", "two"]),
        before=st.sampled_from([None, "one", "two"]),
    )
    def follow(self, session_id: SessionId, worker: str, before: str | None) -> None:
        self.do(lambda tx: tx.sessions.follow(session_id, worker, instead_of=before))

    @rule(
        name=st.sampled_from(APPENDED),
        back=st.integers(0, 1),
        offset=st.integers(0, 5),
        flags=st.tuples(st.booleans(), st.booleans()),
        now=moments,
    )
    def advance(self, name: str, back: int, offset: int, flags: tuple[bool, bool], now: float) -> None:
        trusted, release = flags
        session = self.see(lambda tx: tx.sessions.peek(SessionId(name)))
        if session is not None and session.size is not None:
            offset = min(offset, session.size)
        fence = self.fence_of(SessionId(name), back)
        self.do(
            lambda tx: tx.sessions.advance(
                SessionId(name),
                fence,
                offset,
                tail_trusted=trusted,
                boot_id="boot",
                now=now,
                release=release,
            )
        )

    @rule(name=st.sampled_from(APPENDED), size=st.integers(0, 5))
    def declare_size(self, name: str, size: int) -> None:
        self.do(lambda tx: tx.sessions.declare_size(SessionId(name), size))

    @rule(session_id=sessions_ids, now=moments, rolled_back=st.booleans())
    def start_finish(self, session_id: SessionId, now: float, rolled_back: bool) -> None:
        blob = blob_of(session_id)
        self.do(
            lambda tx: tx.sessions.start_finish(session_id, blob, "worker", now=now),
            rolled_back=rolled_back,
        )

    @rule(session_id=sessions_ids, now=moments)
    def fill_and_finish(self, session_id: SessionId, now: float) -> None:
        """Without this, few sessions would ever be complete."""
        session = self.see(lambda tx: tx.sessions.peek(session_id))
        if session is None or session.spec.mode is Mode.APPEND or session.status is not SessionStatus.OPEN:
            return

        async def fill(tx: Any) -> None:
            for index in range(session.chunk_count):
                start, stop = session.chunk_range(index)
                await tx.sessions.accept_chunk(session_id, session.fence, chunk(index, stop - start), now=now)

        blob = blob_of(session_id)
        self.do(fill, lambda tx: tx.sessions.start_finish(session_id, blob, "worker", now=now))

    @rule(session_id=sessions_ids, back=st.integers(0, 1))
    def take_finish(self, session_id: SessionId, back: int) -> None:
        fence = self.fence_of(session_id, back)
        self.do(lambda tx: tx.sessions.take_finish(session_id, fence, "another"))

    @rule(session_id=sessions_ids, back=st.integers(0, 1), now=moments, filename=names)
    def commit_or_amend(self, session_id: SessionId, back: int, now: float, filename: str) -> None:
        session = self.see(lambda tx: tx.sessions.peek(session_id))
        if session is None:
            return
        fence = self.fence_of(session_id, back)
        amended = replace(session.details, filename=filename, expected=SHA_256)
        committed = replace(amended, digest=SHA_256, record=RecordId("r1"))
        self.do(
            lambda tx: tx.sessions.amend(session_id, fence, amended),
            lambda tx: tx.sessions.commit(session_id, fence, committed, now=now),
            durable=True,
        )

    @rule(session_id=sessions_ids, back=st.integers(0, 1), now=moments, rolled_back=st.booleans())
    def reopen(self, session_id: SessionId, back: int, now: float, rolled_back: bool) -> None:
        if session_id in (*APPENDED, *FINAL):  # which fail instead
            return
        fence = self.fence_of(session_id, back)
        self.do(
            lambda tx: tx.sessions.reopen(session_id, fence, "wrong digest", now=now), rolled_back=rolled_back
        )

    @rule(
        session_id=sessions_ids,
        status=st.sampled_from([SessionStatus.ABORTED, SessionStatus.EXPIRED, SessionStatus.FAILED]),
        now=moments,
    )
    def end_open(self, session_id: SessionId, status: SessionStatus, now: float) -> None:
        self.do(lambda tx: tx.sessions.end(session_id, None, status, error="why", now=now))

    @rule(session_id=sessions_ids, back=st.integers(0, 1), now=moments)
    def fail_finishing(self, session_id: SessionId, back: int, now: float) -> None:
        fence = self.fence_of(session_id, back)
        self.do(lambda tx: tx.sessions.end(session_id, fence, SessionStatus.FAILED, error=None, now=now))

    @rule(session_id=sessions_ids, now=moments)
    def touch(self, session_id: SessionId, now: float) -> None:
        self.do(lambda tx: tx.sessions.touch(session_id, now=now))

    @rule(now=moments, held=st.sets(sessions_ids), limit=st.integers(1, 3))
    def expire(self, now: float, held: set[SessionId], limit: int) -> None:
        self.do(lambda tx: tx.sessions.expire(now=now, held=held, limit=limit))

    @rule(before=moments, limit=st.integers(1, 3))
    def purge(self, before: float, limit: int) -> None:
        self.do(lambda tx: tx.sessions.purge(before=before, limit=limit))

    @rule(session_id=sessions_ids)
    def erase_session(self, session_id: SessionId) -> None:
        self.do(lambda tx: tx.sessions.erase(session_id))

    @invariant()
    def both_show_the_same(self) -> None:
        self.see(all_sessions)


async def all_sessions(tx: Any) -> list[Any]:
    """Look at the sessions in every way there is."""
    ids = [SessionId(name) for name in (*CHUNKED, *APPENDED, *FINAL, *SHORT)]
    return [
        list(await tx.sessions.partials(SessionId("f1"))),
        [await tx.sessions.load(it) for it in ids],
        [await tx.sessions.peek(it) for it in ids],
        [await tx.sessions.chunk(it, index) for it in ids for index in range(3)],
        [await tx.sessions.peek_chunk(it, index) for it in ids for index in range(3)],
        list(await tx.sessions.live(after=None, limit=10_000)),
        [await tx.sessions.count_live(scope, "local") for scope in (None, "default", "other")],
        [
            await tx.sessions.find(scope, owner, key)
            for scope in ("default", "other")
            for owner in ("local", "user:x")
            for key in ("k1", "k2")
        ],
        await tx.sessions.blob_keys([blob_of(it) for it in ids]),
    ]


def blob_of(session_id: SessionId) -> str:
    """Two sessions never share one."""
    return f"blob-{session_id}"


class RecordsOfBoth(BothDatabases):
    @initialize()
    def begin_some(self) -> None:
        """Start where something can happen: a record of each kind."""
        self.do(
            lambda tx: tx.records.insert(record("r1", path="a/b")),
            lambda tx: tx.records.insert(record("r2", begun_at=T0 + 1)),
            lambda tx: tx.records.complete(RecordId("r2"), asset("b1"), now=T0 + 2),
        )

    @rule(
        name=st.sampled_from(RECORDS),
        now=moments,
        owner=owners,
        capsule=scopes,
        filename=names,
        path=paths,
        rolled_back=st.booleans(),
    )
    def insert_record(self, name: str, now: float, rolled_back: bool, **fields: Any) -> None:
        row = record(name, begun_at=now, **fields)
        self.do(lambda tx: tx.records.insert(row), rolled_back=rolled_back)

    def blob_is_free(self, blob_key: str) -> bool:
        # Keys of blobs are random UUIDs: the same one twice is a mistake that only the database on disk notices.
        return not self.see(lambda tx: tx.records.blob_keys([blob_key]))

    @rule(record_id=record_ids, blob_key=st.sampled_from(BLOBS), now=moments)
    def complete_record(self, record_id: RecordId, blob_key: str, now: float) -> None:
        if self.blob_is_free(blob_key):
            self.do(lambda tx: tx.records.complete(record_id, asset(blob_key), now=now))

    @rule(record_id=record_ids, blob_key=st.sampled_from(BLOBS), kind=kinds)
    def add_asset(self, record_id: RecordId, blob_key: str, kind: AssetKind) -> None:
        if self.blob_is_free(blob_key):
            self.do(lambda tx: tx.records.add_asset(record_id, asset(blob_key, kind)))

    @rule(
        record_id=record_ids,
        status=st.sampled_from([RecordStatus.CANCELLED, RecordStatus.FAILED]),
        now=moments,
    )
    def end_record(self, record_id: RecordId, status: RecordStatus, now: float) -> None:
        self.do(lambda tx: tx.records.end(record_id, status, error="why", now=now))

    @rule(record_id=record_ids, now=moments, keep_assets=st.booleans())
    def delete_record(self, record_id: RecordId, now: float, keep_assets: bool) -> None:
        self.do(lambda tx: tx.records.delete(record_id, now=now, keep_assets=keep_assets))

    @rule(record_id=record_ids, rolled_back=st.booleans())
    def restore_record(self, record_id: RecordId, rolled_back: bool) -> None:
        self.do(lambda tx: tx.records.restore(record_id), rolled_back=rolled_back)

    @rule(record_id=record_ids, before=st.just(math.inf) | moments)
    def drop_assets(self, record_id: RecordId, before: float) -> None:
        self.do(lambda tx: tx.records.drop_assets(record_id, deleted_before=before))

    @rule(record_id=record_ids)
    def erase_record(self, record_id: RecordId) -> None:
        self.do(lambda tx: tx.records.erase(record_id))

    @rule(before=moments, limit=st.integers(1, 3))
    def look_into_the_trash(self, before: float, limit: int) -> None:
        self.see(lambda tx: tx.records.deleted_before(before, limit=limit))

    @rule(
        query=st.builds(
            RecordQuery,
            owner=st.none() | owners,
            capsule=st.none() | scopes,
            statuses=st.frozensets(st.sampled_from(RecordStatus), max_size=2),
            name=st.none() | names,
            path_prefix=st.none() | st.text(st.sampled_from("aAb/\ud7ff\U0010ffff"), max_size=2),
            since=st.none() | moments,
            until=st.none() | moments,
            kind=st.none() | kinds,
            visible_to=st.none() | owners,
            deleted=st.booleans(),
            after=st.none() | st.tuples(moments, st.sampled_from(RECORDS)),
            limit=st.integers(1, 3),
        )
    )
    def filtered_list(self, query: RecordQuery) -> None:
        self.see(lambda tx: shown(tx, query))

    @rule(name=st.sampled_from(["default", "small", "none"]), size=st.integers(0, 700))
    def reserve(self, name: str, size: int) -> None:
        self.do(lambda tx: tx.capsules.reserve(name, size))

    @rule(name=st.sampled_from(["default", "small", "none"]), size=st.integers(0, 700))
    def fill(self, name: str, size: int) -> None:
        self.do(lambda tx: tx.capsules.fill(name, size))

    @rule(
        name=st.sampled_from(["default", "small", "none"]),
        reserved=st.integers(0, 700),
        size=st.integers(-700, 700),
    )
    def use(self, name: str, reserved: int, size: int) -> None:
        self.do(lambda tx: tx.capsules.use(name, reserved=reserved, size=size))

    @invariant()
    def both_show_the_same(self) -> None:
        self.see(all_records)


async def shown(tx: Any, query: RecordQuery) -> tuple[list[Any], Any]:
    """Look at a page of records."""
    page = await tx.records.list(query)
    return list(page.items), page.next


async def all_records(tx: Any) -> list[Any]:
    """Look at the records in every way there is."""
    return [
        [await tx.records.load(RecordId(name)) for name in RECORDS],
        await shown(tx, RecordQuery()),
        await shown(tx, RecordQuery(deleted=True)),
        list(await tx.records.deleted_before(T0 + 1000, limit=9)),
        await tx.records.blob_keys(BLOBS),
    ]


class AccessOfBoth(BothDatabases):
    @initialize()
    def begin_some(self) -> None:
        """Start with a record of everybody's in every capsule."""
        self.do(
            *(
                lambda tx, c=capsule, o=owner: tx.records.insert(record(f"{o} in {c}", capsule=c, owner=o))
                for capsule in CAPSULES
                for owner in PRINCIPALS
            )
        )

    @rule(name=capsule_names, principal=principals, role=st.sampled_from(Role), rolled_back=st.booleans())
    def grant(self, name: str, principal: str, role: Role, rolled_back: bool) -> None:
        self.do(lambda tx: tx.capsules.grant(name, principal, role), rolled_back=rolled_back)

    @rule(name=capsule_names, principal=principals)
    def ungrant(self, name: str, principal: str) -> None:
        self.do(lambda tx: tx.capsules.ungrant(name, principal))

    @rule(name=capsule_names, owner=principals, admits=st.booleans(), quota=st.none() | st.integers(0, 2000))
    def change(self, name: str, owner: str, admits: bool, quota: int | None) -> None:
        policy = CapsulePolicy(admits_users=admits, forward='a:"admits_users":true')
        capsule = Capsule(name=name, owner=owner, policy=policy, quota=quota)
        self.do(lambda tx: tx.capsules.lock(name), lambda tx: tx.capsules.change(capsule))

    @rule(name=st.sampled_from(["default", "attic"]), owner=principals)
    def add_capsule(self, name: str, owner: str) -> None:
        self.do(lambda tx: tx.capsules.add(f"id of {name}", Capsule(name=name, owner=owner)))

    @rule(
        name=token_ids,
        principal=principals,
        scope=st.sampled_from(Scope),
        capsule=st.none() | capsule_names,
        now=moments,
        expires_at=st.none() | moments,
    )
    def add_token(self, name: str, now: float, **fields: Any) -> None:
        token = Token(id=name, created_at=now, **fields)
        if all(known.id != name for known in self.see(lambda tx: tx.tokens.list())):
            self.do(lambda tx: tx.tokens.add(token, name.encode()))

    @rule(name=token_ids, now=moments)
    def revoke(self, name: str, now: float) -> None:
        self.do(lambda tx: tx.tokens.revoke(name, now=now))

    @rule(name=token_ids, now=moments)
    def forget(self, name: str, now: float) -> None:
        self.do(lambda tx: tx.tokens.forget(name, now=now))

    @rule(name=token_ids, now=moments)
    def note_use(self, name: str, now: float) -> None:
        self.do(lambda tx: tx.tokens.note_use(name, now=now, unless_since=now - 30))

    @rule(now=moments, principal=principals)
    def ask_who_operates(self, now: float, principal: str) -> None:
        self.see(lambda tx: tx.tokens.name_operator(principal, now=now))

    @invariant()
    def both_show_the_same(self) -> None:
        self.see(all_access)


async def all_access(tx: Any) -> list[Any]:
    """Look at capsules, grants and tokens in every way there is."""
    names = [*CAPSULES, "attic", "none"]
    return [
        list(await tx.capsules.list()),
        [dict(await tx.capsules.grants(name)) for name in names],
        [await tx.capsules.standing(name, who) for name in names for who in PRINCIPALS],
        [await shown(tx, RecordQuery(visible_to=who, limit=50)) for who in PRINCIPALS],
        list(await tx.tokens.list()),
        [await tx.tokens.find(name.encode()) for name in TOKENS],
        await tx.tokens.any(),
    ]


class SessionsOnPostgres(SessionsOfBoth):
    rows = staticmethod(on_postgres)


class RecordsOnPostgres(RecordsOfBoth):
    rows = staticmethod(on_postgres)


class AccessOnPostgres(AccessOfBoth):
    rows = staticmethod(on_postgres)


for machine in (SessionsOfBoth, RecordsOfBoth, AccessOfBoth):
    machine.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
for machine in (SessionsOnPostgres, RecordsOnPostgres, AccessOnPostgres):
    # Each look at everything is some forty round trips.
    machine.TestCase.settings = settings(max_examples=15, stateful_step_count=30)

TestSessions = SessionsOfBoth.TestCase
TestRecords = RecordsOfBoth.TestCase
TestAccess = AccessOfBoth.TestCase
TestSessionsOnPostgres = pytest.mark.needs("postgresql")(SessionsOnPostgres.TestCase)
TestRecordsOnPostgres = pytest.mark.needs("postgresql")(RecordsOnPostgres.TestCase)
TestAccessOnPostgres = pytest.mark.needs("postgresql")(AccessOnPostgres.TestCase)
