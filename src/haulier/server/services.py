"""What the HTTP service stands on; built by whoever picks the adapters."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field

from haulier.core.caller import Caller
from haulier.core.errors import HaulierError, UploadComplete
from haulier.core.session import SessionId
from haulier.core.values import dataclass
from haulier.engine.accounts import Accounts
from haulier.engine.history import HistoryService
from haulier.engine.ingestion import IngestionService
from haulier.engine.lanes import LaneService
from haulier.engine.links import LinkService
from haulier.engine.operations import OperatorService
from haulier.engine.outbox import Feed
from haulier.engine.records import RecordService
from haulier.engine.send import UploadManager
from haulier.engine.uploads import UploadService, UploadState
from haulier.engine.visitors import VisitorService
from haulier.logs import get_logger
from haulier.machine import Clock
from haulier.ports import NodeBeside
from haulier.server.metrics import Metrics
from haulier.server.page import BuiltPage

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The use cases that HTTP calls, and what it needs beside them."""

    uploads: UploadService
    records: RecordService
    lanes: LaneService
    links: LinkService
    feed: Feed
    """What happens to records, for whoever follows it."""
    ingestion: IngestionService
    history: HistoryService
    accounts: Accounts
    """Asked where tokens are required."""
    visitors: VisitorService
    """Browsers without a token."""
    operators: OperatorService
    readiness: Callable[[], Awaitable[Sequence[str]]]
    """Returns why uploads cannot be taken now, in words without paths; nothing when they can."""
    clock: Clock
    new_id: Callable[[], str]
    """Names requests and problem instances."""
    transfers: UploadManager | None = None
    """What is sent out; None where there is no journal."""
    node: NodeBeside | None = None
    """The Soulseek node of the same data directory."""
    page: BuiltPage | None = None
    """What people see at `/`; without it a small page."""
    metrics: Metrics = field(default_factory=Metrics)
    """Shared with the engine's observers; one an app."""

    async def abandon(self, upload_id: SessionId, failure: HaulierError, *, caller: Caller) -> UploadState:
        """Free an upload that failed and that nobody can go on with, since nobody was told its address.

        Returns it if it is complete after all, as its sender has to be told: its commit came before its failure.

        A finish that failed is not tried again: its file would be stored after its sender was told that it is not. What
        fails here is left to the janitor.

        Raises:
            `failure`: it is not stored.
        """
        try:
            await self.uploads.give_up(upload_id)
        except UploadComplete:
            return await self.uploads.state(upload_id, caller=caller)
        except HaulierError as error:
            log.warning("upload.abandoned", error=repr(error))
        raise failure
