"""A handler that is held back while a newer one takes over can write neither row nor file afterwards.

Two processes in one: each has its own connection to the database, its own descriptors with the kernel's own range
locks, and claims of its own. Nobody asks anybody: to the second one, the first is dead.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from haulier.adapters.access import GrantedAccess
from haulier.adapters.claims import LocalClaims
from haulier.adapters.clock import SystemClock, SystemIdentifiers
from haulier.adapters.disk import DiskSink
from haulier.adapters.disk.writer import DiskTools
from haulier.adapters.signals import MemorySignals
from haulier.adapters.sql.database import SqlDatabase, open_database
from haulier.adapters.workers import MemoryWorkers
from haulier.core.caller import LOCAL
from haulier.core.errors import UploadBusy, UploadGone
from haulier.core.session import Mode, SessionId, SessionStatus
from haulier.core.upload import BeginUpload, Upload
from haulier.engine.background import Background
from haulier.engine.context import SessionPorts
from haulier.engine.planning import UploadLimits
from haulier.engine.uploads import UploadService
from tests.support.bodies import FakeBody
from tests.support.engine import beside
from tests.support.faulty_calls import FaultyCalls
from tests.support.postgres import fresh_database

A: Final = b"a" * 5000
B: Final = b"b" * 3000
RUBBISH: Final = b"!" * 1000
DEADLINE_S: Final = 60.0


class Process:
    """One process of a service; it believes that every other one is dead."""

    def __init__(self, name: str, database: SqlDatabase, root: Path) -> None:
        ticks = count()
        self.calls = FaultyCalls()
        # Each write seems slow, so that those after the first go to threads, where they may be held.
        tools = DiskTools(calls=self.calls, timer=lambda: float(next(ticks)))
        self.root = root
        self.sink = DiskSink(root, min_free=0, tools=tools)
        self.database = database
        self.background = Background()
        clock = SystemClock()
        self.uploads = UploadService(
            SessionPorts(
                work=database,
                sink=self.sink,
                claims=LocalClaims(),
                workers=MemoryWorkers(),
                signals=MemorySignals(),
                clock=clock,
                ids=SystemIdentifiers(clock),
                holder=name,
                boot_id="boot",
            ),
            GrantedAccess(clock),
            self.background,
            secret=b"s" * 32,
            limits=UploadLimits(),
            hashers=2,
        )

    async def begin(self) -> SessionId:
        """Begin an append of A and B."""
        asked = BeginUpload(filename="a.bin", size=len(A + B), mode=Mode.APPEND)
        return (await self.uploads.begin(asked, caller=LOCAL)).upload.id

    async def append(self, upload: SessionId, offset: int, body: FakeBody) -> Upload:
        """Append at the end."""
        return (await self.uploads.append(upload, offset, body, caller=LOCAL)).upload

    async def offset(self, upload: SessionId) -> int:
        """Ask for the offset, as HEAD does."""
        return (await self.uploads.offset(upload, caller=LOCAL)).offset

    async def state(self, upload: SessionId) -> Upload:
        """Return the row."""
        return (await self.uploads.state(upload, caller=LOCAL)).upload

    def part(self, upload: SessionId) -> bytes:
        """Return the file."""
        return (self.root / "incoming" / upload).read_bytes()

    @contextmanager
    def held_before(self, port: object, operation: str) -> Iterator["Held"]:
        """Hold the next call of an operation back until `go`; it stays held no longer than this block."""
        held, real = Held(), getattr(port, operation)

        async def call(*args: Any, **kwargs: Any) -> Any:
            setattr(port, operation, real)
            held.reached.set()
            await held.go.wait()
            return await real(*args, **kwargs)

        setattr(port, operation, call)
        try:
            yield held
        finally:
            held.go.set()


class Held:
    """A call that waits."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    if request.param == "SQLite":
        yield tmp_path / "haulier.db"
    else:
        with fresh_database() as postgres:
            yield postgres


@pytest.fixture
async def processes(place: Path | str, tmp_path: Path) -> AsyncIterator[tuple[Process, Process]]:
    """The one that is held back, and the newer one."""
    async with AsyncExitStack() as stack, asyncio.timeout(DEADLINE_S):
        made = []
        for name in ("old", "new"):
            database = open_database(place)
            await stack.enter_async_context(database)
            made.append(Process(name, database, tmp_path))
        yield made[0], made[1]
        for process in made:
            await process.background.stop(grace_s=5)
            process.sink.close()


async def test_held_before_its_range_is_locked(processes: tuple[Process, Process]) -> None:
    old, new = processes
    upload = await old.begin()
    body = FakeBody(RUBBISH)
    with old.held_before(old.sink, "open") as held:
        running = beside(old.append(upload, 0, body))
        await held.reached.wait()
        assert (await new.append(upload, 0, FakeBody(A))).offset == len(A)
        row = await new.state(upload)
        held.go.set()
        with pytest.raises(UploadBusy):
            await running
    assert body.receives == 0
    assert (await new.state(upload)).received == row.received
    assert new.part(upload) == A
    await require_right_end(new, upload)


async def test_held_before_its_range_is_locked_while_the_newer_one_ends_the_upload(
    processes: tuple[Process, Process],
) -> None:
    old, new = processes
    upload = await old.begin()
    body = FakeBody(RUBBISH)
    with old.held_before(old.sink, "open") as held:
        running = beside(old.append(upload, 0, body))
        await held.reached.wait()
        await new.uploads.abort(upload, caller=LOCAL)
        held.go.set()
        with pytest.raises(UploadGone):
            await running
    assert body.receives == 0
    assert (await new.state(upload)).status is SessionStatus.ABORTED
    assert not (new.root / "incoming" / upload).exists()


async def test_held_before_it_says_that_it_lets_go(processes: tuple[Process, Process]) -> None:
    """Its bytes are written and told; what it still has to say about the row is about an older fence."""
    old, new = processes
    upload = await old.begin()
    body = FakeBody(A, RUBBISH, held=True)
    running = beside(old.append(upload, 0, body))
    await body.reached.wait()
    with old.held_before(old.database, "write") as held:
        body.stop()
        await held.reached.wait()
        newer = beside(new.offset(upload))
        held.go.set()
        with pytest.raises(UploadBusy):
            await running
        assert await newer == len(A)
    assert new.part(upload) == A
    await require_right_end(new, upload)


async def test_held_inside_a_write_it_keeps_its_range_and_nobody_takes_over(
    processes: tuple[Process, Process],
) -> None:
    """Nothing takes the bytes back that the kernel may still write: so the newer one waits for them."""
    old, new = processes
    upload = await old.begin()
    body = FakeBody(A, B[:1000], held=True)
    running = beside(old.append(upload, 0, body))
    await body.reached.wait()
    gate = old.calls.stall("pwrite")
    try:
        body.release()
        row = await new.state(upload)
        with new.held_before(new.sink, "open") as held:
            newer = beside(new.offset(upload))
            await held.reached.wait()
        assert (await new.state(upload)).fence == row.fence
        assert not newer.done()
    finally:
        gate.set()
    assert (await running).offset == len(A) + 1000
    assert await newer == len(A) + 1000
    done = await new.append(upload, len(A) + 1000, FakeBody(B[1000:]))
    require_right(done)


async def require_right_end(new: Process, upload: SessionId) -> None:
    """Send the rest; fail unless the file is right."""
    require_right(await new.append(upload, len(A), FakeBody(B)))


def require_right(upload: Upload) -> None:
    """Fail unless it is committed with the right digest."""
    assert upload.status is SessionStatus.COMMITTED
    assert upload.details.digest is not None
    assert upload.details.digest.hex == hashlib.sha256(A + B).hexdigest()
