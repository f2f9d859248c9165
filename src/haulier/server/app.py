"""The HTTP service as one ASGI application, built from the use cases.

Layers, outermost first: the request's id, log and counts; who really asks, where proxies stand in between; CORS
headers; what every answer of a protocol says; errors to problems; addresses with a NUL; limits of an address; the
guard; limits of an owner; preflights; frequent routes; routes. Those that only look at a request, or note what its answer
is to carry, are plain functions that return the next one's awaitable: no coroutine of their own for each request.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from haulier.config import Settings
from haulier.server.bearer import Callers, TokenGuard
from haulier.server.browsers import NEW_VISITORS_BURST, NEW_VISITORS_S, Browsers
from haulier.server.cors import CorsHeaders, Preflights
from haulier.server.embedded_guard import Authenticate, EmbeddedGuard
from haulier.server.feed import FeedRoutes
from haulier.server.files import FileRoutes
from haulier.server.frequent import FrequentRoutes
from haulier.server.home import HomeRoutes
from haulier.server.hosts import host_rules
from haulier.server.ingestion import IngestionRoutes
from haulier.server.limits import AddressLimits, Buckets, CountedAddresses, OwnerLimits, RequestLimits
from haulier.server.open_mode import OpenModeGuard, OpenModeRules
from haulier.server.openapi import document_with
from haulier.server.operators import OperatorRoutes
from haulier.server.problems import ProblemAnswers
from haulier.server.proxies import PublicAddress, TrustedProxies
from haulier.server.records import RecordRoutes
from haulier.server.requests import RequestLog
from haulier.server.resumable import ResumableRoutes
from haulier.server.services import Services
from haulier.server.sign_in import SignInRoutes
from haulier.server.tails import NulRefusal
from haulier.server.transfers import TransferRoutes
from haulier.server.tus import TusRoutes, TusVersion
from haulier.server.uploads import UploadRoutes
from haulier.server.visitors import VisitorRoutes

Lifespan = Callable[[], AbstractAsyncContextManager[None]]

NO_TELEMETRY: Final[Any] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI would follow every request with spans, and send them where its own variables say."""


class _Application(FastAPI):
    """FastAPI without its own layers around a request: `ProblemAnswers` answers whatever is raised."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to our layers at once; what FastAPI does before is for its telemetry."""
        if scope["type"] != "http" or self.middleware_stack is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Return our layers around the routes."""
        app: ASGIApp = AsyncExitStackMiddleware(self.router)  # which FastAPI's own routes look for
        app = FrequentRoutes(app, self.router.routes)
        for layer, arguments, options in reversed(self.user_middleware):
            app = layer(app, *arguments, **options)
        return app


def create_app(
    services: Services,
    settings: Settings,
    *,
    lifespan: Lifespan | None = None,
    authenticate: Authenticate | None = None,
) -> ASGIApp:
    """Return the application.

    Args:
        services: what it stands on; the caller starts and stops them, for instance in `lifespan`.
        settings: of the guard, CORS and limits.
        lifespan: an async context manager around the whole life of the application.
        authenticate: says who calls; None: tokens do, or the rules of open mode.
    """
    app = _Application(
        title="Haulier",
        version=version("haulier"),
        summary="Moves files and never loses one.",
        # Interactive pages load their code from elsewhere; /openapi.json is for one's own tools.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=None if lifespan is None else lambda _app: lifespan(),
        telemetry=NO_TELEMETRY,
        middleware=_layers(services, settings, authenticate),
    )
    uploads = UploadRoutes(services, silence_s=settings.silent_body_s)
    records = RecordRoutes(services, silence_s=settings.silent_body_s)
    FileRoutes(
        services,
        uploads,
        default_digest=settings.digest,
        silence_s=settings.silent_body_s,
        interim=settings.interim_responses,
    ).install(app)
    TusRoutes(
        services, records, max_size=settings.max_upload_bytes, silence_s=settings.silent_body_s
    ).install(app)
    uploads.install(app)
    SignInRoutes(services, opened=not settings.tokens_required).install(app)
    VisitorRoutes(services).install(app)
    records.install(app)
    ResumableRoutes(
        services,
        uploads,
        max_size=settings.max_upload_bytes,
        ttl_s=settings.session_ttl_s,
        default_digest=settings.digest,
        silence_s=settings.silent_body_s,
        interim=settings.interim_responses,
    ).install(app)
    IngestionRoutes(services, silence_s=settings.silent_body_s).install(app)
    FeedRoutes(services).install(app)
    OperatorRoutes(services).install(app)
    TransferRoutes(services.transfers, services.node).install(app)
    HomeRoutes(services).install(app)
    app.openapi = lambda: document_with(app)  # type: ignore[method-assign]  # FastAPI's way to extend it
    return app


def _layers(services: Services, settings: Settings, authenticate: Authenticate | None) -> list[Middleware]:
    """Return our layers; one that would only pass on everything is left out."""
    proxies = Middleware(
        PublicAddress,
        public_url=settings.public_url,
        proxies=TrustedProxies.of(settings.trusted_proxies),
    )
    cors = Middleware(CorsHeaders, origins=settings.cors_origin)
    return [
        Middleware(RequestLog, clock=services.clock, metrics=services.metrics, new_id=services.new_id),
        *([proxies] if settings.trusted_proxies or settings.public_url is not None else ()),
        *([cors] if settings.cors_origin else ()),
        Middleware(TusVersion),
        Middleware(ProblemAnswers, new_instance=services.new_id),
        Middleware(NulRefusal),
        *_guards(services, settings, authenticate),
        Middleware(Preflights, origins=settings.cors_origin),
    ]


def _guards(services: Services, settings: Settings, authenticate: Authenticate | None) -> list[Middleware]:
    if authenticate is not None:
        guard = Middleware(EmbeddedGuard, authenticate=authenticate)
    elif settings.tokens_required:
        guard = _token_guard(services, settings)
    else:
        rules = OpenModeRules(
            origins=frozenset(settings.cors_origin), local_users=settings.local_users, anybody=settings.open
        )
        guard = Middleware(OpenModeGuard, rules=rules, browsers=_browsers(services, bounded=settings.open))
        if not settings.open:
            # Only this machine's user calls, who can do worse to it than many requests.
            return [guard]
    limits = RequestLimits(
        per_owner_s=settings.rate_per_owner,
        per_address_s=settings.rate_per_address,
        bodies_per_owner=settings.max_bodies_per_owner,
        bodies_per_address=settings.max_bodies_per_address,
        waits_per_owner=settings.max_waits_per_owner,
        waits_per_address=settings.max_waits_per_address,
    )
    return [
        Middleware(AddressLimits, limits=limits, clock=services.clock),
        guard,
        Middleware(OwnerLimits, limits=limits, clock=services.clock),
        Middleware(CountedAddresses),
    ]


def _token_guard(services: Services, settings: Settings) -> Middleware:
    failures = Buckets(services.clock, rate=settings.rate_of_failures / 60, burst=settings.rate_of_failures)
    return Middleware(
        TokenGuard,
        hosts=host_rules(settings),
        callers=Callers(services.accounts, services.uploads, failures),
        browsers=_browsers(services, bounded=True),
        origins=settings.cors_origin,
    )


def _browsers(services: Services, *, bounded: bool) -> Browsers:
    new = Buckets(services.clock, rate=NEW_VISITORS_S, burst=NEW_VISITORS_BURST) if bounded else None
    return Browsers(services.visitors, new=new)
