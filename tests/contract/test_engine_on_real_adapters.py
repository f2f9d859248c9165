"""What the engine promises, on every set of adapters that it is shipped with."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from haulier.adapters.access import GrantedAccess
from haulier.adapters.claims import LocalClaims
from haulier.adapters.disk import DiskSink
from haulier.adapters.signals import MemorySignals
from haulier.adapters.sql.postgres.database import PostgresDatabase
from haulier.adapters.sql.sqlite.database import SqliteDatabase
from haulier.adapters.workers import MemoryWorkers
from haulier.core.caller import LOCAL, Caller, Role, Scope
from haulier.core.digest import Digest, DigestName
from haulier.core.errors import ChunkConflict, DigestMismatch, QuotaExceeded
from haulier.core.record import AssetKind, RecordStatus
from haulier.core.session import Mode, SessionStatus
from haulier.core.upload import BeginUpload, Upload
from haulier.engine.accounts import Accounts
from haulier.engine.background import Background
from haulier.engine.context import SessionPorts
from haulier.engine.janitor import Janitor, JanitorLimits
from haulier.engine.planning import UploadLimits
from haulier.engine.records import RecordService
from haulier.engine.uploads import UploadService, UploadState
from haulier.ports import RecordQuery
from haulier.testing import ManualClock, MemoryDatabase, MemorySink, SeededIdentifiers
from tests.support.bodies import FakeBody
from tests.support.postgres import fresh_database
from tests.support.visitors import people

ME: Final = LOCAL
CHUNK: Final = 1000
MAX_LIVE: Final = UploadLimits().max_live_of_user
DATA: Final = bytes(range(256)) * 11
"""Three chunks, the last one short."""


class Engine:
    """One process of the service on adapters that outlive it."""

    def __init__(self, database: Any, sink: Any, clock: ManualClock, *, number: int = 1) -> None:
        self.database = database
        self.sink = sink
        self.clock = clock
        self.background = Background()
        access = GrantedAccess(clock)
        self.uploads = UploadService(
            SessionPorts(
                work=database,
                sink=sink,
                claims=LocalClaims(),
                workers=MemoryWorkers(),
                signals=MemorySignals(),
                clock=clock,
                ids=SeededIdentifiers(clock, number),
                holder=f"worker {number}",
                boot_id="boot",
            ),
            access,
            self.background,
            secret=b"s" * 32,
            limits=UploadLimits(chunk_size=CHUNK),
            hashers=2,
        )
        self.records = RecordService(database, sink, access, clock)
        self.janitor = Janitor(
            self.uploads,
            self.records,
            people(database, clock),
            sink=sink,
            work=database,
            clock=clock,
            limits=JanitorLimits(),
        )

    async def begin(self, size: int, **request: Any) -> Upload:
        """Begin an upload."""
        asked = BeginUpload(filename="a.bin", size=size, **request)
        return (await self.uploads.begin(asked, caller=ME)).upload

    async def put(self, upload: Upload, index: int, data: bytes, **how: Any) -> None:
        """Send a chunk in two pieces."""
        half = len(data) // 2
        await self.uploads.put_chunk(upload.id, index, FakeBody(data[:half], data[half:]), caller=ME, **how)

    async def put_all(self, upload: Upload, data: bytes = DATA) -> None:
        """Send all chunks at once."""
        await asyncio.gather(
            *(self.put(upload, n, data[n * CHUNK : (n + 1) * CHUNK]) for n in range(upload.chunk_count))
        )

    async def finish(self, upload: Upload) -> UploadState:
        """Make it final."""
        return await self.uploads.finish(upload.id, caller=ME)

    async def read(self, upload: Upload) -> bytes:
        """Return the bytes of the record."""
        assert upload.details.record is not None
        _, asset = await self.records.asset(upload.details.record, AssetKind.ORIGINAL, caller=ME)
        return b"".join([piece async for piece in self.records.read(asset, 0, asset.size)])


@asynccontextmanager
async def _in_memory(_: Path) -> AsyncIterator[Engine]:
    one = Engine(MemoryDatabase(), MemorySink(), ManualClock())
    yield one
    await one.background.stop(grace_s=5)


@asynccontextmanager
async def _on_disk(root: Path) -> AsyncIterator[Engine]:
    async with SqliteDatabase(root / "haulier.db") as database:
        sink = DiskSink(root, min_free=0)
        one = Engine(database, sink, ManualClock())
        yield one
        await one.background.stop(grace_s=5)
        sink.close()


@asynccontextmanager
async def _on_disk_and_postgres(root: Path) -> AsyncIterator[Engine]:
    with fresh_database() as url:
        async with PostgresDatabase(url) as database:
            sink = DiskSink(root, min_free=0)
            one = Engine(database, sink, ManualClock())
            yield one
            await one.background.stop(grace_s=5)
            sink.close()


@pytest.fixture(
    params=[_in_memory, _on_disk, _on_disk_and_postgres],
    ids=["memory", "disk and SQLite", "disk and PostgreSQL"],
)
async def one(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    async with request.param(tmp_path) as made:
        yield made


def sha_256(data: bytes) -> Digest:
    return Digest(DigestName.SHA_256, hashlib.sha256(data).digest())


async def test_of_two_puts_of_one_index_at_once_the_stored_bytes_are_the_accepted_ones(one: Engine) -> None:
    contents = [b"a" * CHUNK, b"b" * CHUNK]
    for _ in range(200):
        upload = await one.begin(CHUNK)
        puts = [one.put(upload, 0, content) for content in contents]
        answers = await asyncio.gather(*puts, return_exceptions=True)
        (accepted,) = (content for content, answer in zip(contents, answers, strict=True) if answer is None)
        assert sum(isinstance(answer, ChunkConflict) for answer in answers) == 1
        state = await one.finish(upload)
        assert await one.read(state.upload) == accepted


async def test_a_hundred_uploads_at_once_can_be_read_as_soon_as_they_are_finished(one: Engine) -> None:
    async def go(number: int) -> None:
        data = bytes([number]) * (CHUNK + number)
        upload = await one.begin(len(data))
        await one.put_all(upload, data)
        state = await one.finish(upload)
        assert state.upload.details.digest == sha_256(data)
        assert await one.read(state.upload) == data

    await asyncio.gather(*map(go, range(100)))


async def test_sparse_orders_in_two_sessions_at_once_do_not_mix(one: Engine) -> None:
    async def go(data: bytes) -> None:
        upload = await one.begin(len(data), expected=sha_256(data))
        for index in (0, 2, 1):
            await one.put(upload, index, data[index * CHUNK : (index + 1) * CHUNK])
        state = await one.finish(upload)
        assert await one.read(state.upload) == data

    await asyncio.gather(go(DATA), go(DATA[::-1]))


async def test_a_wrong_chunk_is_replaced_after_the_whole_was_wrong(one: Engine) -> None:
    upload = await one.begin(len(DATA), expected=sha_256(DATA))
    wrong = bytearray(DATA)
    wrong[CHUNK] ^= 1
    await one.put_all(upload, bytes(wrong))
    with pytest.raises(DigestMismatch) as raised:
        await one.finish(upload)
    assert (raised.value.expected, raised.value.actual) == (sha_256(DATA).hex, sha_256(bytes(wrong)).hex)
    await one.put(upload, 1, DATA[CHUNK : 2 * CHUNK], replace=True)
    state = await one.finish(upload)
    assert await one.read(state.upload) == DATA


async def test_racing_finishes_make_one_record(one: Engine) -> None:
    upload = await one.begin(len(DATA))
    await one.put_all(upload)
    states = await asyncio.gather(*(one.finish(upload) for _ in range(20)))
    assert {state.upload.status for state in states} == {SessionStatus.COMMITTED}
    assert len({state.upload.blob_key for state in states}) == 1
    page = await one.records.list(RecordQuery(), caller=ME)
    assert [record.id for record in page.items] == [upload.details.record]
    assert len([stray async for stray in one.sink.blobs()]) == 1


async def test_an_empty_file_is_a_record_with_the_digest_of_nothing(one: Engine) -> None:
    state = await one.finish(await one.begin(0))
    assert state.upload.details.digest == sha_256(b"")
    assert await one.read(state.upload) == b""


# --- every crash point of a finish ---------------------------------------------------------------------


class Killed(Exception):
    """The process is gone: no port does anything for it any more."""


class Life:
    """Counts the moments before and after every call of a port, and ends at one of them."""

    def __init__(self, moments: int) -> None:
        self.left = moments

    def pass_moment(self) -> None:
        """Be killed when the time has come, and from then on each time."""
        self.left -= 1
        if self.left < 0:
            raise Killed


class Mortal:
    """A port in the hands of a process that will be killed."""

    def __init__(self, port: Any, life: Life) -> None:
        self._port = port
        self._life = life

    def __getattr__(self, name: str) -> Any:
        call: Callable[..., Any] = getattr(self._port, name)

        async def mortal(*args: Any, **kwargs: Any) -> Any:
            self._life.pass_moment()
            result = await call(*args, **kwargs)
            self._life.pass_moment()
            return result

        return mortal


async def _finish_in_a_life_of(moments: int, one: Engine, upload: Upload) -> bool:
    """Finish, perhaps to be killed on the way; return whether that life was long enough."""
    life = Life(moments)
    mortal = Engine(Mortal(one.database, life), Mortal(one.sink, life), one.clock, number=2 + moments)
    try:
        await mortal.finish(upload)
    except Killed:
        return False
    finally:
        await mortal.background.stop(grace_s=5)
    return True


async def test_a_finish_that_is_killed_at_any_moment_is_gone_on_with(one: Engine) -> None:
    moments, survived = 0, False
    while not survived:
        upload = await one.begin(len(DATA), expected=sha_256(DATA))
        await one.put_all(upload)
        survived = await _finish_in_a_life_of(moments, one, upload)
        await one.uploads.redo()
        state = await one.finish(upload)
        assert state.upload.status is SessionStatus.COMMITTED
        assert await one.read(state.upload) == DATA
        moments += 1
    assert moments > 10
    await one.janitor.sweep()
    await _require_nothing_else(one, moments)


async def _require_nothing_else(one: Engine, count: int) -> None:
    page = await one.records.list(RecordQuery(), caller=ME)
    assert {record.status for record in page.items} == {RecordStatus.COMPLETED}
    assert len(page.items) == count
    named = {asset.blob_key for record in page.items for asset in record.assets}
    assert {stray.key async for stray in one.sink.blobs()} == named
    assert [stray.key async for stray in one.sink.parts()] == []


async def test_parallel_begins_of_callers_with_tokens_pass_no_limit(one: Engine) -> None:
    accounts = Accounts(one.database, one.clock, SeededIdentifiers(one.clock, 9))
    await accounts.create_capsule("team", owner="user:alice")
    await accounts.set_capsule("team", {"quota": str(20 * CHUNK)})
    await accounts.grant("team", "user:bob", Role.WRITER)
    bob = Caller(owner="user:bob", scope=Scope.WRITE)

    async def begin(caller: Caller, size: int) -> str:
        asked = BeginUpload(filename="a.bin", size=size, capsule="team")
        try:
            await one.uploads.begin(asked, caller=caller)
        except QuotaExceeded as refused:
            return refused.resource
        return "begun"

    answers = await asyncio.gather(*(begin(bob, 1) for _ in range(MAX_LIVE + 30)))
    assert (answers.count("begun"), answers.count("sessions")) == (MAX_LIVE, 30)
    alice = Caller(owner="user:alice", scope=Scope.OWNER)
    large = await asyncio.gather(*(begin(alice, 3 * CHUNK) for _ in range(50)))
    assert (large.count("begun"), large.count("bytes")) == (6, 44)
    capsule = await one.database.read(lambda tx: tx.capsules.load("team"))
    assert capsule.reserved == MAX_LIVE + 18 * CHUNK


async def test_a_body_of_unknown_size_is_stopped_at_the_quota_and_gives_back(one: Engine) -> None:
    accounts = Accounts(one.database, one.clock, SeededIdentifiers(one.clock, 9))
    await accounts.set_capsule("default", {"quota": str(CHUNK)})
    asked = BeginUpload(filename="a.bin", size=None, mode=Mode.APPEND)
    upload = (await one.uploads.begin(asked, caller=ME)).upload
    body = FakeBody(*[b"x" * CHUNK] * 100, announced=False)
    with pytest.raises(QuotaExceeded):
        await one.uploads.append(upload.id, 0, body, caller=ME, final=True)
    seen = await one.uploads.offset(upload.id, caller=ME)
    rest = FakeBody(b"y" * (CHUNK - seen.offset), announced=False)
    done = await one.uploads.append(upload.id, seen.offset, rest, caller=ME, final=True)
    assert done.upload.status is SessionStatus.COMMITTED
    capsule = await one.database.read(lambda tx: tx.capsules.load("default"))
    assert (capsule.used, capsule.reserved) == (CHUNK, 0)
