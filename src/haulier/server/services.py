"""What the HTTP service stands on; built by whoever picks the adapters."""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from haulier.core.caller import Caller
from haulier.core.errors import Unauthenticated
from haulier.core.session import SessionId
from haulier.engine.operations import OperatorService
from haulier.engine.records import RecordService
from haulier.engine.uploads import UploadService
from haulier.ports import Clock
from haulier.server.metrics import Metrics


def _random_id() -> str:
    return str(uuid.uuid4())


class Accounts(Protocol):
    """Who is known by which secret."""

    async def find(self, secret: str) -> Caller:
        """Return whose token it is.

        Raises:
            Unauthenticated: nobody's, or it has expired; the reason says which.
        """
        ...

    async def find_by_upload(self, upload_id: SessionId, secret: str) -> Caller:
        """Return the caller that an upload's own token makes.

        Raises:
            Unauthenticated: there is no such upload, or the token is not its own.
        """
        ...


class NoAccounts:
    """`Accounts` of a service that asks nobody who calls."""

    async def find(self, secret: str) -> Caller:
        """Know nobody."""
        del secret
        raise Unauthenticated("nobody is known here", given=True)

    async def find_by_upload(self, upload_id: SessionId, secret: str) -> Caller:
        """Know nobody."""
        del upload_id
        return await self.find(secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The use cases that HTTP calls, and what it needs beside them."""

    uploads: UploadService
    records: RecordService
    operators: OperatorService
    readiness: Callable[[], Awaitable[Sequence[str]]]
    """Returns why uploads cannot be taken now, in words without paths; nothing when they can."""
    clock: Clock
    accounts: Accounts = field(default_factory=NoAccounts)
    """Asked where tokens are required."""
    metrics: Metrics = field(default_factory=Metrics)
    """Shared with the engine's observers; one an app."""
    new_id: Callable[[], str] = _random_id
    """Names requests and problem instances."""
