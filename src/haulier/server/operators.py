"""What operators ask: does it live, can it take uploads, what has it done, what is under way."""

from http import HTTPStatus
from typing import Annotated, Final

from fastapi import FastAPI, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from haulier.server.access import caller_of
from haulier.server.answers import json_answer
from haulier.server.metrics import CONTENT_TYPE
from haulier.server.operator_schemas import ExpiredOut, LiveSessionListOut, LiveSessionOut, StatsOut
from haulier.server.records import DEFAULT_LIMIT, MAX_LIMIT, read_cursor, write_cursor
from haulier.server.schemas import HealthOut, ReadyOut
from haulier.server.services import Services

UNREADY_AGAIN_S: Final = 5
"""When to ask again; what load balancers do anyway."""


class OperatorRoutes:
    """`/healthz`, `/readyz`, `/metrics`, and the operators' calls."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._operators = services.operators

    def install(self, app: FastAPI) -> None:
        """Add the routes."""
        app.add_api_route(
            "/healthz", self.health, methods=["GET"], response_model=HealthOut, operation_id="health"
        )
        app.add_api_route(
            "/readyz", self.ready, methods=["GET"], response_model=ReadyOut, operation_id="ready"
        )
        # Probes of load balancers send HEAD. Not in the document: it is the same operation.
        app.add_api_route("/healthz", self.health, methods=["HEAD"], include_in_schema=False)
        app.add_api_route("/readyz", self.ready, methods=["HEAD"], include_in_schema=False)
        app.add_route("/metrics", self.metrics, methods=["GET"])
        app.add_api_route(
            "/api/operators/sessions",
            self.sessions,
            methods=["GET"],
            response_model=LiveSessionListOut,
            operation_id="liveSessions",
        )
        app.add_api_route(
            "/api/operators/stats",
            self.stats,
            methods=["GET"],
            response_model=StatsOut,
            operation_id="stats",
        )
        app.add_api_route(
            "/api/operators/expire",
            self.expire,
            methods=["POST"],
            response_model=ExpiredOut,
            operation_id="expire",
        )

    async def health(self) -> Response:
        """Answer as long as the process does."""
        return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})

    async def ready(self) -> Response:
        """Tell whether uploads can be taken, and if not, why."""
        reasons = list(await self._services.readiness())
        answer = ReadyOut(status="unready" if reasons else "ready", reasons=reasons)
        headers = {"Cache-Control": "no-store"}
        if not reasons:
            return JSONResponse(answer.model_dump(), headers=headers)
        headers["Retry-After"] = str(UNREADY_AGAIN_S)
        return JSONResponse(answer.model_dump(), HTTPStatus.SERVICE_UNAVAILABLE, headers=headers)

    async def metrics(self, request: Request) -> Response:
        """Tell Prometheus. For operators."""
        live = await self._operators.count_live(caller=caller_of(request))
        return Response(self._services.metrics.render(live=live), media_type=CONTENT_TYPE)

    async def sessions(
        self,
        request: Request,
        cursor: Annotated[str | None, Query(max_length=1024, description="`next` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    ) -> Response:
        """List all uploads that are open or finishing, oldest first. For operators."""
        page = await self._operators.live(
            after=None if cursor is None else read_cursor(cursor), limit=limit, caller=caller_of(request)
        )
        now = self._services.clock.now()
        return json_answer(
            LiveSessionListOut(
                items=[LiveSessionOut.of(upload, now=now) for upload in page.items],
                next=None if page.next is None else write_cursor(page.next),
            )
        )

    async def stats(self, request: Request) -> Response:
        """Tell how much there is, and who works. For operators."""
        return json_answer(StatsOut.of(await self._operators.stats(caller=caller_of(request))))

    async def expire(self, request: Request) -> Response:
        """Expire now what nobody has touched for its time to live. For operators."""
        return json_answer(ExpiredOut(expired=await self._operators.expire(caller=caller_of(request))))
