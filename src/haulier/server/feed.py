"""`GET /api/events`: what happens to records, as one stream for everything that a page shows.

Its ids are places in the outbox. What else a page follows (the queue of transfers) joins as messages without an id:
whoever comes back is told how that stands, and of records what happened meanwhile.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from haulier.core.event import Event, read_position
from haulier.core.instants import iso_time
from haulier.engine.outbox import FeedQuery, Step
from haulier.server.access import caller_of
from haulier.server.addresses import base_url, header
from haulier.server.events import BEAT, COMMENT, EventStream, Message, merged
from haulier.server.inputs import flag, query_of
from haulier.server.services import Services
from haulier.server.transfers import node_messages, transfer_messages


class FeedRoutes:
    """The stream of events."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def install(self, app: FastAPI) -> None:
        """Add the route."""
        route = Route("/api/events", self.events, methods=["GET"])
        route.methods = {"GET"}  # a HEAD, which Starlette adds, would wait for the end to say nothing
        app.router.routes.append(route)

    async def events(self, request: Request) -> Response:
        """Tell what happens to the records that the caller may read, from where it was before."""
        caller = caller_of(request)
        given = header(request.scope, b"last-event-id")
        steps = self._services.feed.follow(
            FeedQuery(
                owner=caller.owner if flag(request, "mine") else None,
                capsule=query_of(request).get("capsule") or None,
            ),
            caller=caller,
            after=None if not given else read_position(given),
            wait=flag(request, "follow", otherwise=True),
        )
        # The first one is awaited here, so that a refusal is a problem and not an empty stream.
        first = await anext(steps)
        messages = _messages(first, steps, base_url(request.scope))
        if caller.operator and self._services.transfers is not None:
            others = [transfer_messages(self._services.transfers)]
            if self._services.node is not None:
                others.append(node_messages(self._services.node))
            messages = merged(messages, *others)
        alive = BEAT if flag(request, "beat") else COMMENT
        return EventStream(messages, sleep=self._services.clock.sleep, alive=alive)


async def _messages(first: Step, steps: AsyncGenerator[Step, None], base: str) -> AsyncGenerator[Message]:
    async with aclosing(steps):
        # A page then reads its lists anew, and misses nothing that happens meanwhile.
        yield Message(name="reset" if first.missed else "ready", data="{}", id=str(first.position))
        async for step in steps:
            place = str(step.position)
            if step.event is None:
                yield Message(id=place)
            else:
                yield Message(name=step.event.kind.value, data=present(step.event, base), id=place)


def present(event: Event, base: str) -> str:
    """Return an event as one line of JSON."""
    document = {
        "kind": event.kind.value,
        "at": iso_time(event.created_at),
        "record": event.record,
        "capsule": event.capsule,
        **event.facts,
        "url": f"{base}/api/records/{event.record}",
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
