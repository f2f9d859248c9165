"""What is sent out, over HTTP: looking, waiting, and saying what is wanted. For operators."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from haulier.core.dispatch import Dispatch, Removed
from haulier.core.errors import InvalidRequest, StorageUnavailable, TransferNotFound, TransferTimeout
from haulier.core.instants import iso_time
from haulier.core.transfer_document import transfer_document
from haulier.engine.operations import require_operator
from haulier.engine.send import TransferView, UploadManager
from haulier.engine.send_watch import Changed, Lagged, Progress
from haulier.server.access import caller_of
from haulier.server.events import Message
from haulier.server.records import DEFAULT_LIMIT, MAX_LIMIT
from haulier.server.uploads import MAX_WAIT_S, json_answer

_EXAMPLE: Final[dict[str, Any]] = {
    "id": "01a221ff-1093-75f6-94ec-3fb839c9c3f2",
    "direction": "upload",
    "remote": "office",
    "target": "in/big",
    "path": "/home/ann/big",
    "phase": "in_progress",
    "step": "uploading",
    "outcome": None,
    "label": "InProgress",
    "priority": "normal",
    "place": None,
    "bytes": 16777216,
    "size": 30000000,
    "speed": 89781684.1,
    "eta_s": 0.1,
    "attempts": 1,
    "digest": None,
    "remote_id": None,
    "stored_as": None,
    "error": None,
    "obstacle": None,
    "wanted": "run",
    "retry_at": None,
    "superseded_by": None,
    "retry_of": None,
}


class TransferOut(BaseModel):
    """A transfer to a remote."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    direction: str
    remote: str
    target: str
    path: str
    phase: str
    step: str | None
    outcome: str | None
    label: str
    priority: str
    place: int | None
    """In the queue, from 1; null when it does not wait for a slot, or another process runs the queue."""
    bytes: int
    size: int
    speed: float | None
    eta_s: float | None
    attempts: int
    digest: dict[str, str] | None
    remote_id: str | None
    stored_as: str | None
    error: str | None
    obstacle: str | None
    wanted: str
    retry_at: str | None
    superseded_by: str | None
    retry_of: str | None

    @classmethod
    def of(cls, view: TransferView) -> "TransferOut":
        """Present a transfer."""
        document = transfer_document(view.row, view.snapshot, view.place)
        retry_at = document["retry_at"]
        return cls(**{**document, "retry_at": None if retry_at is None else iso_time(retry_at)})


class TransferListOut(BaseModel):
    """A page of transfers, the newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_EXAMPLE], "next": None, "total": None, "left_out": 0}]}
    )

    items: list[TransferOut]
    next: str | None
    total: int | None = None
    left_out: int = 0


Wish = Callable[[UploadManager, str], Awaitable[Dispatch]]

WISHES: Final[dict[str, Wish]] = {
    "pause": lambda manager, it: manager.pause(it),
    "resume": lambda manager, it: manager.resume(it),
    "cancel": lambda manager, it: manager.cancel(it, wait=False),
    "bump": lambda manager, it: manager.bump(it),
}


class TransferRoutes:
    """`/api/transfers`."""

    def __init__(self, manager: UploadManager | None) -> None:
        """Take the manager; None where the service has none."""
        self._manager = manager

    def install(self, app: FastAPI) -> None:
        """Add the routes."""
        app.add_api_route(
            "/api/transfers",
            self.list,
            methods=["GET"],
            response_model=TransferListOut,
            operation_id="listTransfers",
        )
        app.add_api_route(
            "/api/transfers/{transfer_id}",
            self.show,
            methods=["GET"],
            response_model=TransferOut,
            operation_id="showTransfer",
        )
        for name, wish in WISHES.items():
            app.add_api_route(
                f"/api/transfers/{{transfer_id}}/{name}",
                self._wishing(wish),
                methods=["POST"],
                response_model=TransferOut,
                operation_id=f"{name}Transfer",
                description=f"Write down that it is wanted to {name} a transfer. For operators.",
            )
        app.add_api_route(
            "/api/transfers/{transfer_id}/retry",
            self.retry,
            methods=["POST"],
            response_model=TransferOut,
            status_code=HTTPStatus.CREATED,
            operation_id="retryTransfer",
        )

    def _for_operators(self, request: Request) -> UploadManager:
        require_operator(caller_of(request))
        if self._manager is None:
            raise StorageUnavailable("this service has no journal of transfers")
        return self._manager

    async def list(
        self,
        request: Request,
        *,
        cursor: Annotated[
            int | None, Query(ge=0, le=2**63 - 1, description="`next` of the page before")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        remote: Annotated[str | None, Query(max_length=64, description="Only to this remote")] = None,
        live: Annotated[bool | None, Query(description="Only those that have not, or have, ended")] = None,
    ) -> Response:
        """List transfers to remotes, the newest first. For operators."""
        manager = self._for_operators(request)
        views, after = await manager.list(remote=remote, live=live, after=cursor, limit=limit)
        items = [TransferOut.of(view) for view in views]
        return json_answer(TransferListOut(items=items, next=None if after is None else str(after)))

    async def show(
        self,
        request: Request,
        transfer_id: str,
        wait: Annotated[
            float | None,
            Query(
                description="Seconds to wait for its end; clamped to 0 to 60. The answer is how it stands then"
            ),
        ] = None,
    ) -> Response:
        """Look at a transfer, or wait for its end. For operators."""
        manager = self._for_operators(request)
        with suppress(TransferTimeout):
            await manager.wait(transfer_id, timeout_s=min(max(wait or 0.0, 0.0), MAX_WAIT_S))
        view = await manager.get(transfer_id)
        if view is None:
            raise TransferNotFound(transfer_id, 0.0)  # removed in this very moment
        return json_answer(TransferOut.of(view))

    async def retry(self, request: Request, transfer_id: str) -> Response:
        """Queue a new transfer of the same file to the same place; the old result stays. For operators."""
        manager = self._for_operators(request)
        try:
            view = await manager.get(await manager.retry(transfer_id))
        except OSError as error:
            raise InvalidRequest.of("transfer", f"its file cannot be read: {error.strerror}") from error
        assert view is not None
        return json_answer(TransferOut.of(view), HTTPStatus.CREATED)

    def _wishing(self, wish: Wish) -> Callable[[Request, str], Awaitable[Response]]:
        async def endpoint(request: Request, transfer_id: str) -> Response:
            row = await wish(self._for_operators(request), transfer_id)
            return json_answer(TransferOut.of(TransferView(row, row.transfer.snapshot)))

        return endpoint


async def transfer_messages(manager: UploadManager) -> AsyncGenerator[Message, None]:
    """Yield what happens to transfers, for a stream of events; without ids, since whoever comes back looks anew."""
    async with aclosing(manager.events()) as events:
        async for happening in events:
            if isinstance(happening, Changed):
                yield _told(happening.row)
            elif isinstance(happening, Removed):
                yield Message(name="transfer.removed", data=f'{{"id":"{happening.id}"}}')
            elif isinstance(happening, Progress):
                view = await manager.get(happening.id)
                if view is not None:
                    yield Message(name="transfer.progress", data=TransferOut.of(view).model_dump_json())
            elif isinstance(happening, Lagged):
                for row in happening.live:
                    yield _told(row)


def _told(row: Dispatch) -> Message:
    view = TransferView(row, row.transfer.snapshot)
    return Message(name="transfer.changed", data=TransferOut.of(view).model_dump_json())
