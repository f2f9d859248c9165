"""What is sent out, over HTTP: looking, waiting, and saying what is wanted. For operators.

The transfers of the Soulseek node beside the service are here too: listed among those of the journal, and what is
wanted of them is passed on.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
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
from haulier.core.transfer import Phase, TransferId
from haulier.core.transfer_document import peer_document, transfer_document
from haulier.core.values import dataclass
from haulier.engine.operations import require_operator
from haulier.engine.send import TransferView, UploadManager
from haulier.engine.send_watch import Changed, Lagged, Progress
from haulier.ports import NodeBeside, PeerTransfer
from haulier.sending_ports import JournalQuery
from haulier.server.access import caller_of
from haulier.server.answers import json_answer
from haulier.server.events import Message
from haulier.server.inputs import MAX_WAIT_S
from haulier.server.records import DEFAULT_LIMIT, MAX_LIMIT

_LARGEST: Final = 2**63 - 1
_IN_A_QUEUE: Final = frozenset({Phase.QUEUED, Phase.REQUESTED, Phase.QUEUED_REMOTELY})
_CURSOR: Final = r"^[0-9]{1,19}(\.[0-9]{1,19})?$"

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
    """A transfer to a remote, or to or from a Soulseek peer, who is then its `remote`."""

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
    """In the queue, from 1; null when it does not wait for a slot, or nobody here knows."""
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
        return cls.of_document(transfer_document(view.row, view.snapshot, view.place))

    @classmethod
    def of_peer(cls, kept: PeerTransfer, place: int | None) -> "TransferOut":
        """Present a transfer of the node beside the service."""
        return cls.of_document(
            peer_document(kept.transfer, kept.file, local=kept.target, place=place, retry_of=kept.retry_of)
        )

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> "TransferOut":
        """Present what `core.transfer_document` makes; a node tells more than this."""
        members = {name: document[name] for name in cls.model_fields}
        retry_at = document["retry_at"]
        return cls(**{**members, "retry_at": None if retry_at is None else iso_time(retry_at)})


class TransferListOut(BaseModel):
    """A page of transfers, the newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_EXAMPLE], "next": None, "total": None, "left_out": 0}]}
    )

    items: list[TransferOut]
    next: str | None
    total: int | None = None
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: below these numbers, in the journal and in the node's list; None: at the newest."""

    own: int | None = None
    beside: int | None = None

    @classmethod
    def parse(cls, cursor: str | None) -> "Place":
        """Return the place that `next` of the page before said."""
        if cursor is None:
            return cls()
        own, _, beside = cursor.partition(".")
        return cls(_number(own), _number(beside) if beside else None)

    def __str__(self) -> str:
        return f"{self.own}" if self.beside is None else f"{self.own}.{self.beside}"


def _number(digits: str) -> int:
    return min(int(digits), _LARGEST)


def merged(
    place: Place, own: Sequence[TransferView], beside: Sequence[PeerTransfer], limit: int
) -> tuple[list[TransferView | PeerTransfer], Place]:
    """Return a page of both, what was queued last first, and where the next page begins.

    Each list keeps its own order, so that pages never skip or repeat one, whatever comes between them.
    """
    page: list[TransferView | PeerTransfer] = []
    i = j = 0
    while len(page) < limit and (i < len(own) or j < len(beside)):
        if j == len(beside) or (
            i < len(own) and own[i].row.transfer.queued_at >= beside[j].transfer.queued_at
        ):
            page.append(own[i])
            i += 1
        else:
            page.append(beside[j])
            j += 1
    return page, Place(
        _after([it.number for it in own], i, place.own), _after([it.number for it in beside], j, place.beside)
    )


def _after(numbers: Sequence[int], taken: int, before: int | None) -> int:
    """Return below which number a list goes on after so many of it were taken."""
    if taken:
        return numbers[taken - 1]
    if before is not None:
        return before
    return numbers[0] + 1 if numbers else 0


Wish = Callable[[UploadManager, str], Awaitable[Dispatch]]

WISHES: Final[dict[str, Wish]] = {
    "pause": lambda manager, it: manager.pause(it),
    "resume": lambda manager, it: manager.resume(it),
    "cancel": lambda manager, it: manager.cancel(it, wait=False),
    "bump": lambda manager, it: manager.bump(it),
}


class TransferRoutes:
    """`/api/transfers`."""

    def __init__(self, manager: UploadManager | None, node: NodeBeside | None = None) -> None:
        """Take the manager and the node beside the service; None where there is none."""
        self._manager = manager
        self._node = node

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
                self._wishing(name, wish),
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
        cursor: Annotated[str | None, Query(pattern=_CURSOR, description="`next` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        remote: Annotated[str | None, Query(max_length=64, description="Only to this remote")] = None,
        live: Annotated[bool | None, Query(description="Only those that have not, or have, ended")] = None,
    ) -> Response:
        """List transfers to remotes and those of the Soulseek node, the newest first. For operators."""
        manager = self._for_operators(request)
        place = Place.parse(cursor)
        own, after = await manager.list(remote=remote, live=live, after=place.own, limit=limit)
        query = JournalQuery(remote=remote, live=live)
        beside: Sequence[PeerTransfer] = ()
        if self._node is not None:
            beside = await self._node.latest(limit + 1, query=query, below=place.beside)
        page, then = merged(place, own, beside, limit)
        places = await self._places(page)
        items = [
            TransferOut.of_peer(it, places.get(it.transfer.id))
            if isinstance(it, PeerTransfer)
            else TransferOut.of(it)
            for it in page
        ]
        more = after is not None or len(page) < len(own) + len(beside)
        return json_answer(TransferListOut(items=items, next=str(then) if more else None))

    async def _places(self, page: Sequence[TransferView | PeerTransfer]) -> Mapping[str, int]:
        """Ask the node for places, where one of its transfers may have one."""
        waiting = any(isinstance(it, PeerTransfer) and it.transfer.phase in _IN_A_QUEUE for it in page)
        return await self._node.places() if waiting and self._node is not None else {}

    async def show(
        self,
        request: Request,
        transfer_id: str,
        wait: Annotated[
            float | None,
            Query(
                description="Seconds to wait for its end; clamped to 0 to 60. The answer is how it stands then",
                allow_inf_nan=False,
            ),
        ] = None,
    ) -> Response:
        """Look at a transfer, or wait for its end. For operators."""
        manager = self._for_operators(request)
        wait_s = min(max(wait or 0.0, 0.0), MAX_WAIT_S)

        async def own() -> TransferOut:
            with suppress(TransferTimeout):
                await manager.wait(transfer_id, timeout_s=wait_s)
            view = await manager.get(transfer_id)
            if view is None:
                raise TransferNotFound(transfer_id, 0.0)  # removed in this very moment
            return TransferOut.of(view)

        return json_answer(
            await self._own_or(own, lambda node: node.show(TransferId(transfer_id), wait_s=wait_s))
        )

    async def _own_or(
        self,
        own: Callable[[], Awaitable[TransferOut]],
        beside: Callable[[NodeBeside], Awaitable[Mapping[str, Any] | None]],
    ) -> TransferOut:
        """Return a transfer of the journal, or else of the node; raises TransferNotFound."""
        try:
            return await own()
        except TransferNotFound:
            found = None if self._node is None else await beside(self._node)
            if found is None:
                raise
            return TransferOut.of_document(found)

    async def retry(self, request: Request, transfer_id: str) -> Response:
        """Queue a new transfer of the same file to the same place; the old result stays. For operators."""
        manager = self._for_operators(request)

        async def own() -> TransferOut:
            try:
                view = await manager.get(await manager.retry(transfer_id))
            except OSError as error:
                raise InvalidRequest.of("transfer", f"its file cannot be read: {error.strerror}") from error
            assert view is not None
            return TransferOut.of(view)

        found = await self._own_or(own, lambda node: node.act(TransferId(transfer_id), "retry"))
        return json_answer(found, HTTPStatus.CREATED)

    def _wishing(self, name: str, wish: Wish) -> Callable[[Request, str], Awaitable[Response]]:
        async def endpoint(request: Request, transfer_id: str) -> Response:
            manager = self._for_operators(request)

            async def own() -> TransferOut:
                row = await wish(manager, transfer_id)
                return TransferOut.of(manager.view(row))

            return json_answer(await self._own_or(own, lambda node: node.act(TransferId(transfer_id), name)))

        return endpoint


async def transfer_messages(manager: UploadManager) -> AsyncGenerator[Message, None]:
    """Yield what happens to transfers, for a stream of events; without ids, since whoever comes back looks anew."""
    async with aclosing(manager.events()) as events:
        async for happening in events:
            if isinstance(happening, Changed):
                yield _told(manager.view(happening.row))
            elif isinstance(happening, Removed):
                yield Message(name="transfer.removed", data=json.dumps({"id": happening.id}))
            elif isinstance(happening, Progress):
                yield _told(manager.view(happening.row), "transfer.progress")
            elif isinstance(happening, Lagged):
                for row in happening.live:
                    yield _told(manager.view(row))


async def node_messages(node: NodeBeside) -> AsyncGenerator[Message, None]:
    """Yield what happens to the transfers of the node beside the service, as `transfer_messages` does of the own ones."""
    async with aclosing(node.events()) as events:
        async for news in events:
            if news is None:
                yield Message(name="transfer.reset", data="{}")
            else:
                name = "transfer.changed" if news.changed else "transfer.progress"
                yield Message(name=name, data=TransferOut.of_document(news.value).model_dump_json())


def _told(view: TransferView, name: str = "transfer.changed") -> Message:
    return Message(name=name, data=TransferOut.of(view).model_dump_json())
