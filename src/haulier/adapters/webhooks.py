"""Events as signed HTTP requests; of the answer only the status counts."""

import json
from typing import Final

import httpx2

from haulier.adapters.signed_posts import PostFailed, Resolve, SignedPost, Target, resolve
from haulier.core.event import EventKind, Interest, Told
from haulier.core.instants import iso_time
from haulier.core.values import dataclass
from haulier.engine.courier import GIVE_UP_S, ReceiverFailed
from haulier.machine import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where events go, and which."""

    name: str
    target: Target
    kinds: frozenset[EventKind]


class HttpReceiver:
    """`haulier.engine.courier.Receiver` behind a URL."""

    patience_s = GIVE_UP_S

    def __init__(
        self, endpoint: Endpoint, *, client: httpx2.AsyncClient, clock: Clock, find: Resolve = resolve
    ) -> None:
        """`client` is shared by all receivers and closed by its owner."""
        self._endpoint = endpoint
        self.interest: Final = Interest(endpoint.kinds)
        self._post = SignedPost(endpoint.target, client=client, clock=clock, find=find)

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return f"webhook {self._endpoint.name}"

    async def receive(self, told: Told) -> None:
        """Send one event. Raises ReceiverFailed."""
        try:
            await self._post.send(f"evt_{told.position}", body_of(told))
        except PostFailed as failed:
            raise ReceiverFailed(str(failed), retry_after_s=failed.retry_after_s) from failed


def body_of(told: Told) -> bytes:
    """Return what is sent of an event; the same at each try."""
    event = told.event
    document = {
        "type": event.kind.value,
        "timestamp": iso_time(event.created_at),
        "data": {"record": event.record, "capsule": event.capsule, "owner": event.owner, **event.facts},
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
