"""What operators ask: does it live, can it take uploads, what has it done."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

import structlog
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from haulier.core.errors import HaulierError
from haulier.server.metrics import CONTENT_TYPE
from haulier.server.problems import row_of
from haulier.server.schemas import HealthOut, ReadyOut
from haulier.server.services import Services

log = structlog.get_logger()

CHECK_S: Final = 5.0
"""How long one check may take; Kubernetes' probes give up after 1 s, load balancers after 5."""


class Readiness:
    """Asks what an upload needs, each thing by a check that raises when it is not there."""

    def __init__(
        self, checks: Mapping[str, Callable[[], Awaitable[object]]], *, stopping: Callable[[], bool]
    ) -> None:
        self._checks = checks
        self._stopping = stopping

    async def __call__(self) -> Sequence[str]:
        """Return why uploads cannot be taken; details are logged, never told."""
        reasons = ["the service is stopping"] if self._stopping() else []
        for name, check in self._checks.items():
            try:
                async with asyncio.timeout(CHECK_S):
                    await check()
            except TimeoutError:
                reasons.append(f"{name}: no answer within {CHECK_S:g} seconds")
                log.warning("readiness.silent", check=name)
            except HaulierError as error:
                reasons.append(f"{name}: {row_of(error).slug}")
                log.warning("readiness.failed", check=name, error=repr(error))
        return reasons


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
