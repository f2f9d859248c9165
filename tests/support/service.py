"""The HTTP service on in-memory adapters, called in this process."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from typing import Any

import httpx2

from haulier.adapters.access import GrantedAccess
from haulier.adapters.claims import LocalClaims
from haulier.adapters.clock import SystemClock, SystemIdentifiers
from haulier.adapters.content_checks import MemoryContentChecker
from haulier.adapters.memory.files import MemoryFiles
from haulier.adapters.memory.journal import MemoryJournal
from haulier.adapters.memory.remote import MemoryRemote
from haulier.adapters.memory.rows import MemoryDatabase
from haulier.adapters.memory.sink import MemorySink
from haulier.adapters.signals import MemorySignals
from haulier.adapters.workers import MemoryWorkers
from haulier.config import Settings
from haulier.core.ingestion import IngestionRules
from haulier.core.upload import UploadDetails
from haulier.core.values import dataclass
from haulier.engine.accounts import Accounts
from haulier.engine.background import Background
from haulier.engine.context import SessionPorts
from haulier.engine.history import HistoryService
from haulier.engine.ingestion import IngestionPorts, IngestionService
from haulier.engine.lanes import LaneService
from haulier.engine.links import LinkService
from haulier.engine.operations import OperatorService
from haulier.engine.outbox import Feed, TellingWork
from haulier.engine.planning import UploadLimits
from haulier.engine.records import RecordService
from haulier.engine.send import UploadManager
from haulier.engine.uploads import UploadService
from haulier.engine.visitors import VisitorService
from haulier.machine import Clock
from haulier.ports import NodeBeside
from haulier.server.app import create_app
from haulier.server.metrics import Metrics
from haulier.server.page import BuiltPage
from haulier.server.services import Services
from tests.support.witness import WitnessedWork

ORIGIN = "http://127.0.0.1:8000"


@dataclass(kw_only=True)
class MemoryService:
    """A service whose rows and bytes are in memory, with handles on all that a test may turn."""

    limits: UploadLimits = field(default_factory=UploadLimits)
    clock: Clock = field(default_factory=SystemClock)
    sink: MemorySink = field(default_factory=MemorySink)
    database: MemoryDatabase[UploadDetails] = field(default_factory=MemoryDatabase)
    background: Background = field(default_factory=Background)
    metrics: Metrics = field(default_factory=Metrics)
    page: BuiltPage | None = None
    rules: IngestionRules = field(default_factory=IngestionRules)
    reasons: Sequence[str] = ()
    opened: bool = True
    """Whether it stands for a service in open mode."""
    node: NodeBeside | None = None
    visitor_ttl_s: float = 30 * 24 * 3600.0

    def __post_init__(self) -> None:
        access = GrantedAccess(self.clock, opened=self.opened)
        signals = MemorySignals()
        self.feed = Feed(self.database, access, signals)
        self.work: TellingWork[UploadDetails] = TellingWork(WitnessedWork(self.database), self.feed.told)
        ports = SessionPorts(
            work=self.work,
            sink=self.sink,
            claims=LocalClaims(),
            workers=MemoryWorkers(),
            signals=signals,
            clock=self.clock,
            ids=SystemIdentifiers(self.clock),
            holder="test",
            boot_id="boot",
        )
        self.uploads = UploadService(
            ports,
            access,
            self.background,
            secret=b"secret",
            limits=self.limits,
            hashers=2,
            observer=self.metrics,
        )
        self.operators = OperatorService(
            self.database, expire=self.uploads.expire, count_workers=self._count_workers
        )
        self.accounts = Accounts(self.database, self.clock, SystemIdentifiers(self.clock))
        self.visitors = VisitorService(
            self.work,
            self.clock,
            SystemIdentifiers(self.clock),
            access,
            secret=b"secret",
            ttl_s=self.visitor_ttl_s,
        )
        self.lanes = LaneService(self.work, access, self.clock, SystemIdentifiers(self.clock))
        self.records = RecordService(self.work, self.sink, access, self.clock)
        self.links = LinkService(self.records, self.clock, secret=b"secret")

        self.remote = MemoryRemote()
        self.files = MemoryFiles()
        self.transfers = UploadManager(
            MemoryJournal(),
            {"there": self.remote},
            files=self.files,
            clock=self.clock,
            ids=SystemIdentifiers(self.clock),
            chance=lambda: 0.0,
            unknown_s=0.0,
        )
        self.history = HistoryService(self.work, self.records, self.clock)
        self.checker = MemoryContentChecker(self.sink)
        self.ingestion = IngestionService(
            self.uploads,
            IngestionPorts(
                work=self.work,
                lanes=self.lanes,
                sink=self.sink,
                checker=self.checker,
                clock=self.clock,
                ids=SystemIdentifiers(self.clock),
            ),
            self.rules,
        )

    async def _count_workers(self) -> int:
        return 1

    async def readiness(self) -> Sequence[str]:
        return self.reasons

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        await self.transfers.start()
        try:
            yield
        finally:
            await self.transfers.stop(grace_s=1)
            self.feed.stop()
            await self.uploads.stop()
            await self.background.stop(grace_s=1)

    def app(self, **settings: Any) -> Any:
        services = Services(
            uploads=self.uploads,
            records=self.records,
            lanes=self.lanes,
            links=self.links,
            feed=self.feed,
            ingestion=self.ingestion,
            history=self.history,
            accounts=self.accounts,
            visitors=self.visitors,
            operators=self.operators,
            readiness=self.readiness,
            clock=self.clock,
            new_id=SystemIdentifiers(self.clock).request_id,
            page=self.page,
            metrics=self.metrics,
            transfers=self.transfers,
            node=self.node,
        )
        return create_app(services, Settings(**settings), lifespan=self.lifespan)

    @asynccontextmanager
    async def client(self, **settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
        """Call the application in this process, as its own user would on its own name."""
        async with served(self.app(local_users=True, **settings)) as client, self.lifespan():
            yield client


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """Call an ASGI application without a socket; what it lets out is raised here."""
    transport = httpx2.ASGITransport(app=with_server(app))
    async with httpx2.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        yield client


def with_server(app: Any) -> Any:
    """Give requests the socket's address, which a transport without sockets does not know."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "server": ("127.0.0.1", 8000)}, receive, send)

    return call
