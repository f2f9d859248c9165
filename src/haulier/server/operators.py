"""What operators ask: does it live, can it take uploads, what has it done."""

from http import HTTPStatus

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from haulier.server.metrics import CONTENT_TYPE
from haulier.server.schemas import HealthOut, ReadyOut
from haulier.server.services import Services


class OperatorRoutes:
    """`/healthz`, `/readyz`, `/metrics`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def install(self, app: FastAPI) -> None:
        """Add the routes."""
        app.add_api_route(
            "/healthz", self.health, methods=["GET"], response_model=HealthOut, operation_id="health"
        )
        app.add_api_route(
            "/readyz", self.ready, methods=["GET"], response_model=ReadyOut, operation_id="ready"
        )
        app.add_route("/metrics", self.metrics, methods=["GET"])

    async def health(self) -> Response:
        """Answer as long as the process does."""
        return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})

    async def ready(self) -> Response:
        """Tell whether uploads can be taken, and if not, why."""
        reasons = list(await self._services.readiness())
        answer = ReadyOut(status="unready" if reasons else "ready", reasons=reasons)
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        return JSONResponse(answer.model_dump(), status, headers={"Cache-Control": "no-store"})

    async def metrics(self, request: Request) -> Response:  # noqa: ARG002 - Starlette's shape
        """Tell Prometheus."""
        live = len(await self._services.uploads.probe())
        return Response(self._services.metrics.render(live=live), media_type=CONTENT_TYPE)
