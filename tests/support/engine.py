"""The real engine on the shipped fakes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from haulier.adapters.access import GrantedAccess
from haulier.adapters.claims import LocalClaims
from haulier.adapters.jobs import LocalJobs
from haulier.adapters.signals import MemorySignals
from haulier.adapters.workers import MemoryWorkers
from haulier.core.caller import LOCAL
from haulier.core.errors import StorageUnavailable
from haulier.core.record import RecordId
from haulier.core.session import Mode, SessionId, SessionStatus
from haulier.core.upload import BeginUpload, Upload, UploadDetails
from haulier.engine.accounts import Accounts
from haulier.engine.background import Background
from haulier.engine.context import SessionPorts
from haulier.engine.hooks import NO_HOOKS, Hooks
from haulier.engine.janitor import Janitor, JanitorLimits, People
from haulier.engine.lanes import LaneService
from haulier.engine.outbox import Feed, TellingWork
from haulier.engine.planning import UploadLimits
from haulier.engine.processing import ProcessingPorts, ProcessingService
from haulier.engine.records import RecordService
from haulier.engine.uploads import UploadService
from haulier.testing import ManualClock, MemoryDatabase, MemoryDisk, MemorySink, SeededIdentifiers
from tests.support.fake_pictures import FakePictures
from tests.support.visitors import visitor_service
from tests.support.witness import WitnessedWork

T = TypeVar("T")

CHUNK = 256 * 1024
"""The smallest chunk; tests of several chunks use it."""
ME: Final = LOCAL


class Counts:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.uploads = 0
        self.bytes = 0
        self.ends: list[SessionStatus] = []

    def begun(self) -> None:
        """Count an upload."""
        self.uploads += 1

    def accepted(self, count: int, /) -> None:
        """Count bytes."""
        self.bytes += count

    def ended(self, status: SessionStatus, /) -> None:
        """Remember an end."""
        self.ends.append(status)


class Engine:
    """One service process on a world that outlives it; `restart` kills it and starts another."""

    def __init__(
        self,
        *,
        database: "MemoryDatabase[UploadDetails] | None" = None,
        disk: MemoryDisk | None = None,
        clock: ManualClock | None = None,
        boot_id: str = "boot 1",
        seed: int = 0,
        limits: UploadLimits | None = None,
        beside: "Engine | None" = None,
        hooks: Hooks = NO_HOOKS,
        opened: bool = True,
        pictures: FakePictures | None = None,
        observed: bool = True,
    ) -> None:
        """Be a process of its own, or one `beside` another that lives; with `pictures`, one that processes."""
        self.clock = clock or ManualClock()
        self.database: MemoryDatabase[UploadDetails] = database or MemoryDatabase()
        self.disk = disk or MemoryDisk(clock=self.clock)
        self.sink = MemorySink(self.disk)
        self.claims = LocalClaims()
        self.holder = f"worker {seed}"
        self.signals: MemorySignals = MemorySignals(None if beside is None else beside.signals.room)
        self.workers: MemoryWorkers = MemoryWorkers() if beside is None else beside.workers
        self.workers.living.add(self.holder)
        self.background = Background()
        self.counts = Counts()
        self.seed = seed
        self.hooks = hooks
        self.pictures = pictures
        self.jobs = LocalJobs(self.process, self.background, parallel=2)
        jobs = None if pictures is None else self.jobs
        self.limits = limits or UploadLimits(chunk_size=CHUNK)
        access = GrantedAccess(self.clock, opened=opened)
        self.feed = Feed(self.database, access, self.signals)
        self.witness = WitnessedWork(self.database)
        self.work: TellingWork[UploadDetails] = TellingWork(self.witness, self.feed.told)
        ports = self._ports(boot_id)
        self.processing = ProcessingService(
            ProcessingPorts(
                work=self.work,
                sink=self.sink,
                pictures=FakePictures() if pictures is None else pictures,
                jobs=self.jobs,
                workers=self.workers,
                clock=self.clock,
                ids=ports.ids,
                holder=self.holder,
            ),
            digest=self.limits.digest,
        )
        if pictures is not None:
            pictures.sink = self.sink
        self.uploads = UploadService(
            ports,
            access,
            self.background,
            secret=b"s" * 32,
            limits=self.limits,
            hashers=2,
            observer=self.counts if observed else None,
            hooks=hooks,
            jobs=jobs,
        )
        self.lanes = LaneService(
            self.work, access, self.clock, SeededIdentifiers(self.clock, seed + 1000), jobs=jobs
        )
        self.records = RecordService(self.work, self.sink, access, self.clock, jobs=jobs)
        self.accounts = Accounts(self.work, self.clock, SeededIdentifiers(self.clock, seed + 3000))
        self.visitors = visitor_service(self.work, self.clock, seed=seed + 2000)
        self.swept: list[tuple[str, int]] = []
        self.janitor = Janitor(
            self.uploads,
            self.records,
            People(self.visitors, self.accounts),
            sink=self.sink,
            work=self.database,
            clock=self.clock,
            limits=JanitorLimits(),
            swept=lambda result, count: self.swept.append((result, count)),
            processing=None if pictures is None else self.processing,
        )

    async def process(self, record_id: RecordId) -> None:
        """Do a job."""
        await self.processing.run(record_id)

    def _ports(self, boot_id: str) -> SessionPorts[UploadDetails]:
        return SessionPorts(
            work=self.work,
            sink=self.sink,
            claims=self.claims,
            workers=self.workers,
            signals=self.signals,
            clock=self.clock,
            ids=SeededIdentifiers(self.clock, self.seed),
            holder=self.holder,
            boot_id=boot_id,
        )

    async def restart(self, *, boot_id: str = "boot 1") -> "Engine":
        """Kill this process and return a new one on the same database and disk."""
        self.sink.die()
        self.database.crash()
        await self.background.stop(grace_s=0)
        return Engine(
            database=self.database,
            disk=self.disk,
            clock=self.clock,
            boot_id=boot_id,
            seed=self.seed + 1,
            limits=self.limits,
            hooks=self.hooks,
            pictures=None if self.pictures is None else FakePictures(),
        )

    def neighbour(self) -> "Engine":
        """Return another process on the same rows and bytes; both hear each other from now on."""
        other = Engine(
            database=self.database,
            disk=self.disk,
            clock=self.clock,
            seed=self.seed + 1,
            limits=self.limits,
            beside=self,
            hooks=self.hooks,
            pictures=None if self.pictures is None else FakePictures(),
        )
        for one in (self, other):
            one.background.start(one.uploads.listen(one.feed), name="signals")
        return other

    async def die(self) -> None:
        """End as `kill -9` does: claims of ranges are free, and everybody can see it."""
        self.workers.living.discard(self.holder)
        self.signals.leave()
        self.sink.die()
        await self.background.stop(grace_s=0)

    async def pass_time_until(self, condition: Callable[[], bool], *, step_s: float = 0.5) -> None:
        """Let time pass until `condition()` holds; at most an hour."""
        for _ in range(int(3600 / step_s)):
            for _ in range(50):
                if condition():
                    return
                await asyncio.sleep(0)
            self.clock.advance(step_s)
        raise AssertionError("the condition never held")

    def before_write(self, action: Callable[[], Awaitable[object]], *, nth: int = 1) -> None:
        """Run `action` just before the `nth` write from now on: somebody else was faster by a moment."""
        real, count = self.database.write, 0

        async def write(work: Any, **how: bool) -> Any:
            nonlocal count
            count += 1
            if count == nth:
                self.database.write = real  # type: ignore[method-assign]
                await action()
            return await real(work, **how)

        self.database.write = write  # type: ignore[method-assign]

    def waiters(self, upload_id: SessionId, what: str) -> int:
        """Return how many wait for a claim that somebody holds."""
        return len(self.claims._places[upload_id, what].waiters)

    def before_sink(self, operation: str, action: Callable[[], Awaitable[object]]) -> None:
        """Run `action` before each call of that operation of the sink."""
        real = getattr(self.sink, operation)

        async def call(*args: Any, **kwargs: Any) -> Any:
            await action()
            return await real(*args, **kwargs)

        setattr(self.sink, operation, call)

    async def take_over(self, upload_id: SessionId, holder: str = "another") -> None:
        """Let `holder` have the append, as a worker that took it from a dead one."""
        session = await self.state(upload_id)
        await self.database.write(
            lambda tx: tx.sessions.claim(upload_id, session.fence, holder, now=self.clock.now())
        )

    async def begin(self, size: int | None = None, **request: Any) -> Upload:
        """Begin an upload named `a.bin`."""
        asked = BeginUpload(**{"filename": "a.bin", "size": size, **request})
        return (await self.uploads.begin(asked, caller=ME)).upload

    async def begin_append(self, size: int | None = None, **request: Any) -> Upload:
        """Begin an append upload."""
        return await self.begin(size, mode=Mode.APPEND, **request)

    async def state(self, upload_id: SessionId) -> Upload:
        """Return the upload as it is stored."""
        return (await self.uploads.state(upload_id, caller=ME)).upload

    async def content(self, upload: Upload) -> bytes:
        """Return the bytes of a committed upload."""
        assert upload.blob_key is not None
        size = upload.size or 0
        return b"".join([piece async for piece in self.sink.read(upload.blob_key, 0, size)])


@asynccontextmanager
async def engine(**world: Any) -> AsyncIterator[Engine]:
    """Yield an engine; at the end nothing of it is still running."""
    one = Engine(**world)
    try:
        yield one
    finally:
        await one.background.stop(grace_s=0)
    assert one.witness.silent == set()


async def let_others_run(count: int = 50) -> None:
    """Let others go as far as they come without time: what still waits then waits for something."""
    for _ in range(count):
        await asyncio.sleep(0)


def count_writes(one: Engine) -> list[dict[str, bool]]:
    """Return a list that gets of each transaction from now on how it is to be written."""
    writes: list[dict[str, bool]] = []
    real = one.database.write

    async def write(work: Any, *, frees: bool = False, **how: bool) -> Any:
        writes.append(how)
        return await real(work, frees=frees, **how)

    one.database.write = write  # type: ignore[method-assign]
    return writes


def count_reads(one: Engine) -> list[None]:
    """Return a list that gets an item for each look at the rows from now on."""
    reads: list[None] = []
    real = one.database.read

    async def read(work: Any) -> Any:
        reads.append(None)
        return await real(work)

    one.database.read = read  # type: ignore[method-assign]
    return reads


def lose_an_answer(database: MemoryDatabase[UploadDetails]) -> None:
    """Let the next durable commit be told as failed, though it is done."""
    real = database.write

    async def write(work: Any, **how: bool) -> Any:
        result = await real(work, **how)
        if how.get("durable"):
            database.write = real  # type: ignore[method-assign]
            raise StorageUnavailable("the answer is lost")
        return result

    database.write = write  # type: ignore[method-assign]


def beside(work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    """Run `work` beside the test, which awaits or cancels it."""
    return asyncio.get_running_loop().create_task(work)


async def until(condition: Any, *, turns: int = 1000) -> None:
    """Let others run until `condition()` holds; a test's deadline without a clock."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition never held")
