"""The only place that picks adapters: settings in, a running service out.

Rule 1: everything that can be wrong with a start is found before the socket is opened, and said in one
        sentence that names the setting and the cure.
"""

import asyncio
import os
import random
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from haulier.adapters.access import GrantedAccess
from haulier.adapters.claims import LocalClaims
from haulier.adapters.clock import SharedClock, SystemClock, SystemIdentifiers
from haulier.adapters.content_checks import BoundedContentChecker
from haulier.adapters.disk import DiskSink
from haulier.adapters.jobs import LocalJobs
from haulier.adapters.node_beside import NodeOfDirectory
from haulier.adapters.pictures import DiskPictures, can_make_pictures
from haulier.adapters.service_files import load_secret, only_service
from haulier.adapters.signals import NotifiedSignals, PolledSignals
from haulier.adapters.sql.database import SqlDatabase, open_database
from haulier.adapters.sql.sqlite.database import SqliteDatabase
from haulier.adapters.worker_locks import WorkerLocks, new_worker
from haulier.adapters.workers import SharedWorkers
from haulier.bounded.processor import BoundedProcessor
from haulier.config import Settings, require_closed
from haulier.core.errors import (
    ConfigError,
    HaulierError,
    ServiceStopping,
    StorageError,
    StorageUnavailable,
)
from haulier.core.ingestion import SHELF, IngestionRules
from haulier.core.record import RecordId
from haulier.core.upload import UploadDetails
from haulier.core.values import dataclass
from haulier.deliveries import Deliveries, http_hooks
from haulier.directories import prepare_directories, require_own_storage
from haulier.engine.accounts import Accounts
from haulier.engine.background import Background
from haulier.engine.context import SessionLimits, SessionPorts
from haulier.engine.history import HistoryService
from haulier.engine.hooks import NO_HOOKS, Hooks
from haulier.engine.ingestion import IngestionPorts, IngestionService
from haulier.engine.janitor import JUMP_S, Janitor, JanitorLimits, People
from haulier.engine.lanes import LaneService
from haulier.engine.links import LinkService
from haulier.engine.operations import OperatorService
from haulier.engine.outbox import Feed, TellingWork
from haulier.engine.planning import UploadLimits
from haulier.engine.processing import ProcessingPorts, ProcessingService
from haulier.engine.records import RecordService
from haulier.engine.send import Role
from haulier.engine.uploads import UploadService
from haulier.engine.visitors import VisitorService
from haulier.forwarding import Forwarding
from haulier.logs import get_logger
from haulier.machine import Clock
from haulier.places import JOURNAL, RemotePlaces, home_directory
from haulier.ports import Signals
from haulier.sender import UploadManager
from haulier.server.app import create_app
from haulier.server.counts import SharedCounts, prepare_counts
from haulier.server.http.limits import BODY_WINDOW_S, ConnectionLimits
from haulier.server.http.serving import StopBudget, Until, listen, serve, serve_handed
from haulier.server.http.supervisor import Supervisor, WorkerPlace
from haulier.server.logs import keep_logging
from haulier.server.metrics import Metrics
from haulier.server.page import installed_page
from haulier.server.services import Services

log = get_logger()

READINESS_S: Final = 2.0
"""How long database and disk may each take to answer who asks for readiness: load balancers ask again every few seconds,
and what does not answer for so long takes no uploads."""
STOP_GRACE_S: Final = 5.0
"""How long work in the background may take when the service ends; the rest is gone on with at start."""

TIME_INTERVAL_S: Final = 60.0
"""How often a service asks its database for the time: clocks that nobody sets drift apart by some milliseconds until then."""
ROWS_S: Final = 5.0
"""How long one transaction may take when the service ends; more than that, and the database is taken for lost. Who
waits for it still has a second to be told so, of the time to save."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which process of a service this is."""

    worker: str
    """The id under which it claims; no other process ever had it."""
    slot: int = 0
    """Its place among the service's workers, from 0."""
    workers: int = 1
    """How many there are."""


def run_service(settings: Settings) -> int:
    """Serve until a signal; return the exit code.

    Raises:
        ConfigError: the service cannot start with these settings.
    """
    keep_logging(settings.log)
    root = prepare_directories(settings)
    with only_service(root):
        closed = require_closed(settings, tokens=look_at_rows(settings))
        if settings.open and not closed.open:
            log.warning("open.ignored", reason="there are tokens, so nobody is served without one")
        settings = closed
        WorkerLocks(settings.storage_dir).sweep()
        return _serve_alone(settings, root) if settings.workers == 1 else _supervise(settings, root)


def _serve_alone(settings: Settings, root: Path) -> int:
    service = Service(settings, root, Identity(worker=new_worker()))
    return serve(
        create_app(service.services, settings, lifespan=service.lifespan),
        host=settings.host,
        port=settings.port,
        on_ready=_announcing(settings, root),
        on_stopping=service.stop,
        budget=service.budget,
        limits=_connection_limits(settings),
    )


def run_worker(settings: Settings, identity: Identity, channel: socket.socket) -> int:
    """Serve as one of several workers, until the supervisor ends it; return the exit code."""
    keep_logging(settings.log, worker=identity.worker)
    try:
        look_at_rows(settings)
        service = Service(settings, settings.root, identity)
    except ConfigError as error:  # it was right when the supervisor looked
        log.error("worker.refused", error=str(error))
        return 1
    return serve_handed(
        create_app(service.services, settings, lifespan=service.lifespan),
        channel,
        on_stopping=service.stop,
        budget=service.budget,
        limits=_connection_limits(settings),
    )


def _supervise(settings: Settings, root: Path) -> int:
    sockets = listen(settings.host, settings.port)
    prepare_counts(counts_directory(root), settings.workers)
    given = settings.model_dump_json().encode()

    async def spawn(place: WorkerPlace) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            # -P: never a module that happens to lie where the service was started.
            *(
                sys.executable,
                "-P",
                "-m",
                "haulier.worker",
                str(place.channel),
                str(place.slot),
                place.worker,
            ),
            stdin=asyncio.subprocess.PIPE,
            stdout=2,
            pass_fds=(place.channel,),
        )
        assert process.stdin is not None
        process.stdin.write(given)
        process.stdin.close()
        return process

    async def supervise() -> int:
        return await Supervisor(
            sockets,
            workers=settings.workers,
            spawn=spawn,
            on_ready=_announcing(settings, root),
        ).run()

    return asyncio.run(supervise())


def _announcing(settings: Settings, root: Path) -> Callable[[int], None]:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host

    def ready(port: int) -> None:
        sys.stdout.write(f"haulier serve ready on http://{host}:{port}\ndata directory {root}\n")
        sys.stdout.flush()

    return ready


def _connection_limits(settings: Settings) -> ConnectionLimits:
    return ConnectionLimits(
        body_silence_s=settings.silent_body_s,
        body_speed=settings.min_body_speed,
        # Who may be silent for so long may be slow for as long.
        body_window_s=max(settings.silent_body_s, BODY_WINDOW_S),
    )


class Service:
    """The parts of one service process, wired."""

    def __init__(
        self, settings: Settings, root: Path, identity: Identity, *, hooks: Hooks = NO_HOOKS
    ) -> None:
        """Build the parts; nothing runs and no file is open before `lifespan` is entered.

        `hooks` are the embedding program's; each process of a service needs them.
        """
        self.budget = StopBudget()
        self._identity = identity
        self._locks = WorkerLocks(settings.storage_dir)
        self._clock = clock = SharedClock()
        self._sink = DiskSink(
            settings.storage_dir,
            min_free=settings.min_free_bytes,
            shelves={SHELF: settings.ingestion_path.resolve()},
        )
        self._checks = BoundedProcessor()
        self._database = open_database(settings.database)
        self._database_place = settings.database_place
        self._background = Background()
        self._pictures: DiskPictures | None = None
        self._jobs: LocalJobs | None = None
        self._processing: ProcessingService | None = None
        self._stopping = False
        metrics = Metrics(
            SharedCounts(counts_directory(root), identity.slot) if identity.workers > 1 else None
        )
        access = GrantedAccess(clock, opened=not settings.tokens_required)
        signals = _signals_of(self._database, clock)
        self._feed = Feed(self._database, access, signals)
        self._secret = load_secret(settings.storage_dir, setting=settings.storage_setting)
        ports = self._ports_for(identity, signals, clock)
        work = ports.work
        jobs = self._process_pictures(settings, identity, ports)
        self._http_hooks = http_hooks(
            settings.hooks, clock=clock, ids=ports.ids, locate=self._sink.path_of_blob
        )
        hooks = self._http_hooks.after(hooks)
        self._uploads = self._uploads_for(settings, ports, access, metrics, hooks=hooks, jobs=jobs)
        self._places = RemotePlaces(home_directory(settings.home))
        # Its journal is this machine's, whose commands queue what it runs.
        self._transfers = transfers_of(settings, self._places, SystemClock())
        self._node = NodeOfDirectory(settings.root)
        self._deliveries = self._deliveries_for(settings, hooks, ports)
        records = RecordService(work, self._sink, access, clock, jobs=jobs)
        self._links = LinkService(records, clock, secret=self._secret)
        self._visitors = VisitorService(
            work, clock, ports.ids, access, secret=self._secret, ttl_s=settings.visitor_ttl_s
        )
        self._accounts = Accounts(self._database, clock, ports.ids)
        lanes = LaneService(work, access, clock, ports.ids, jobs=jobs)
        self._history = HistoryService(work, records, clock)
        self._ingestion = self._ingestion_for(settings, ports, lanes)
        self._janitor = self._janitor_for(settings, records, clock, metrics)
        self.services = self._services_of(records, lanes, clock, metrics)

    def _ports_for(self, identity: Identity, signals: Signals, clock: Clock) -> SessionPorts[UploadDetails]:
        work: TellingWork[UploadDetails] = TellingWork(self._database, self._feed.told)
        return SessionPorts(
            work=work,
            sink=self._sink,
            claims=LocalClaims(),
            workers=SharedWorkers(self._locks),
            signals=signals,
            clock=clock,
            ids=SystemIdentifiers(clock),
            holder=identity.worker,
            boot_id=boot_id(),
        )

    def _uploads_for(
        self,
        settings: Settings,
        ports: SessionPorts[UploadDetails],
        access: GrantedAccess,
        metrics: Metrics,
        *,
        hooks: Hooks,
        jobs: LocalJobs | None,
    ) -> UploadService:
        return UploadService(
            ports,
            access,
            self._background,
            secret=self._secret,
            limits=upload_limits(settings),
            hashers=os.cpu_count() or 1,
            observer=metrics,
            hooks=hooks,
            jobs=jobs,
        )

    def _deliveries_for(
        self, settings: Settings, hooks: Hooks, ports: SessionPorts[UploadDetails]
    ) -> Deliveries:
        return Deliveries(
            settings.webhooks,
            hooks,
            work=self._database,
            feed=self._feed,
            workers=ports.workers,
            clock=ports.clock,
            holder=ports.holder,
            others=[Forwarding(self._transfers, self._database, self._sink.path_of_blob)],
        )

    def _process_pictures(
        self, settings: Settings, identity: Identity, ports: SessionPorts[UploadDetails]
    ) -> LocalJobs | None:
        """Build what makes smaller pictures, where that is wanted and can be done."""
        if not settings.image_processes or not can_make_pictures():
            return None
        # Each worker has at least one; more of them would multiply what all may take.
        processes = max(1, settings.image_processes // identity.workers)
        self._pictures = DiskPictures(self._sink, processes=processes)

        async def run(record_id: RecordId) -> None:
            assert self._processing is not None
            await self._processing.run(record_id)

        self._jobs = LocalJobs(run, self._background, parallel=processes)
        self._processing = ProcessingService(
            ProcessingPorts(
                work=ports.work,
                sink=self._sink,
                pictures=self._pictures,
                jobs=self._jobs,
                workers=ports.workers,
                clock=ports.clock,
                ids=ports.ids,
                holder=ports.holder,
            ),
            digest=settings.digest,
        )
        return self._jobs

    def _ingestion_for(
        self, settings: Settings, ports: SessionPorts[UploadDetails], lanes: LaneService
    ) -> IngestionService:
        return IngestionService(
            self._uploads,
            IngestionPorts(
                work=ports.work,
                lanes=lanes,
                sink=self._sink,
                checker=BoundedContentChecker(self._sink, self._checks),
                clock=ports.clock,
                ids=ports.ids,
            ),
            IngestionRules(max_bytes=settings.ingestion_max_bytes, extensions=settings.ingestion_extensions),
        )

    def _janitor_for(
        self, settings: Settings, records: RecordService, clock: Clock, metrics: Metrics
    ) -> Janitor:
        return Janitor(
            self._uploads,
            records,
            People(self._visitors, self._accounts),
            sink=self._sink,
            work=self._database,
            clock=clock,
            limits=janitor_limits(settings),
            sweep_forms=self._ingestion.sweep,
            swept=metrics.swept,
            processing=self._processing,
            file_clock=SystemClock(),
        )

    def _services_of(
        self, records: RecordService, lanes: LaneService, clock: Clock, metrics: Metrics
    ) -> Services:
        operators = OperatorService(
            self._database, expire=self._janitor.expire, count_workers=self._count_workers
        )
        return Services(
            uploads=self._uploads,
            records=records,
            lanes=lanes,
            links=self._links,
            ingestion=self._ingestion,
            history=self._history,
            feed=self._feed,
            accounts=self._accounts,
            visitors=self._visitors,
            operators=operators,
            readiness=self.readiness,
            clock=clock,
            new_id=SystemIdentifiers(clock).request_id,
            page=installed_page(),
            metrics=metrics,
            transfers=self._transfers,
            node=self._node,
        )

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Run what runs beside requests: the database, the repair of what a crash left, the janitor."""
        with self._locks.held(self._identity.worker):
            async with (
                self._database,
                self._in_time(),
                self._running(),
                self._transferring(),
                self._deliveries.running(self._background),
            ):
                yield

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Go by the database's clock where that is another machine's, as all who share its rows do."""
        database = self._database
        if isinstance(database, SqliteDatabase):
            yield
            return
        await self._tell_time(database.now)
        telling = self._keep_running("clock", lambda: self._keep_time(database.now))
        try:
            yield
        finally:
            telling.cancel()

    async def _keep_time(self, ask: Callable[[], Awaitable[float]]) -> None:
        while True:
            await self._clock.sleep(TIME_INTERVAL_S)
            await self._tell_time(ask)

    async def _tell_time(self, ask: Callable[[], Awaitable[float]]) -> None:
        asked = self._clock.monotonic()
        now = await ask()
        ahead = self._clock.tell(now, at=(asked + self._clock.monotonic()) / 2)
        if abs(ahead) > JUMP_S:
            log.warning("clock.differs", seconds=round(ahead, 3), database=self._database_place)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        listening = self._keep_running("signals", lambda: self._uploads.listen(self._feed))
        janitor: asyncio.Task[None] | None = None
        try:
            await self._uploads.redo()
            self._background.start(self._uploads.resume(), name="resume")
            if self._processing is not None:
                self._background.start(self._processing.redo(), name="unprocessed")
            janitor = self._keep_running("janitor", self._janitor.run)
            yield
        finally:
            if janitor is not None:
                janitor.cancel()
            # Where no server has done so: what that could not save in time is not waited for twice.
            with suppress(TimeoutError):
                async with asyncio.timeout(self.budget.left_s(Until.SAVED)):
                    await self.stop()
            listening.cancel()
            await self._stop_pictures()
            await self._checks.close()
            await self._background.stop(grace_s=self._grace_s)
            await self._http_hooks.close()
            self._sink.close()

    def _keep_running(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> "asyncio.Task[None]":
        return self._background.keep_running(name, work, clock=self.services.clock, chance=random.random)

    async def _stop_pictures(self) -> None:
        if self._jobs is not None and self._pictures is not None:
            self._jobs.stop()
            await self._pictures.close()

    @asynccontextmanager
    async def _transferring(self) -> AsyncIterator[None]:
        """Run the queue of transfers, or watch who does; a service whose journal cannot be used serves all the same."""
        try:
            await self._transfers.start()
        except (HaulierError, OSError) as error:
            log.error("transfers.unavailable", error=str(error))
        try:
            yield
        finally:
            await self._transfers.stop(grace_s=self._grace_s)
            await self._node.close()
            await self._places.close()

    @property
    def _grace_s(self) -> float:
        return min(STOP_GRACE_S, self.budget.left_s(Until.CLOSED))

    async def stop(self) -> None:
        """Take no more bytes and save every running body; a second call is harmless."""
        if not self._stopping:
            self._stopping = True
            self.budget.begin()
            self._database.hurry(ROWS_S)
        self._feed.stop()
        await self._uploads.stop()

    async def _count_workers(self) -> int:
        return await asyncio.to_thread(self._locks.count_living)

    async def readiness(self) -> Sequence[str]:
        """Return why uploads cannot be taken now; nothing when they can."""
        reasons = [str(ServiceStopping())] if self._stopping else []
        reasons += [f"{name} keeps failing; see the log" for name in self._background.dying()]
        looks: dict[str, Callable[[], Awaitable[object]]] = {
            # As a write: a database that can only be read takes no uploads.
            "the database does not answer": lambda: self._database.write(
                lambda tx: tx.capsules.exists("default")
            ),
            "the storage cannot be written": lambda: self._sink.check(1),
        }
        for what, look in looks.items():
            try:
                async with asyncio.timeout(READINESS_S):
                    await look()
            except (HaulierError, TimeoutError) as error:
                reasons.append(f"{what}: {type(error).__name__}")
        return reasons


def transfers_of(settings: Settings, places: RemotePlaces, clock: Clock) -> UploadManager:
    """Return the manager of transfers, as it is set; not started."""
    return UploadManager(
        settings.journal or home_directory(settings.home) / JOURNAL,
        places,
        limits=places.limits(give_up_s=settings.transfer_give_up_s, bandwidth=settings.bandwidth),
        role=Role.NEVER if settings.no_transfers else Role.WHEN_FREE,
        clock=clock,
        unknown_s=0.0,
    )


def _signals_of(database: SqlDatabase, clock: Clock) -> Signals:
    if isinstance(database, SqliteDatabase):
        return PolledSignals(database.commits_of_others, clock)
    return NotifiedSignals(database, clock)


def janitor_limits(settings: Settings) -> JanitorLimits:
    """Return the janitor's limits as they are set."""
    return JanitorLimits(
        interval_s=settings.janitor_interval_s,
        ttl_s=settings.session_ttl_s,
        visitor_ttl_s=settings.visitor_ttl_s,
        trash_for_s=settings.trash_for_s,
        retention_s=settings.retention_s,
        events_for_s=settings.events_for_s,
    )


def upload_limits(settings: Settings) -> UploadLimits:
    """Return the engine's limits as they are set."""
    return UploadLimits(
        chunk_size=settings.chunk_size,
        ttl_s=settings.session_ttl_s,
        digest=settings.digest,
        max_live_of_user=settings.max_active_sessions or UploadLimits().max_live_of_user,
        max_live_of_address=settings.max_active_sessions_per_address,
        sessions=SessionLimits(
            max_live=settings.max_active_sessions or SessionLimits().max_live,
            max_size=settings.max_upload_bytes,
            durable=settings.durability == "power",
        ),
    )


def counts_directory(root: Path) -> Path:
    """Return where the workers of a service keep what they count."""
    return root / "run" / "metrics"


def boot_id() -> str:
    """Return what is equal within one run of the machine's kernel only.

    Source: random(4). Where it is missing every process counts as a boot: tails are then not trusted.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return uuid.uuid4().hex


def look_at_rows(settings: Settings) -> bool:
    """Open the database once, and tell whether there is a token: then nobody is served without one.

    A server that finds the database broken while it starts could only show a traceback.

    Raises:
        ConfigError: it cannot be used, or its files are not in this storage.
    """

    async def look() -> bool:
        async with open_database(settings.database) as database:
            await require_own_storage(settings, database, claim=True)
            return await database.read(lambda tx: tx.tokens.any())

    try:
        return asyncio.run(look())
    except StorageError as error:
        setting, where = "database_url", settings.database_place
        expected = (
            "expected a PostgreSQL server that answers, and a database there in which tables may be made"
        )
        if not settings.on_postgres:
            expected = "expected an SQLite file that can be opened and written, or room for a new one"
        if settings.database_url is None:
            setting, where = "data_dir", str(settings.root)
        away = settings.on_postgres and isinstance(error, StorageUnavailable)
        raise ConfigError(setting, where, f"{expected}; {error}", unreachable=away) from error
