"""The service inside of somebody else's program: one ASGI application to mount wherever they like.

Rule 1: the host says who calls; no token and no rule of open mode counts there.
Rule 2: the host says when it runs: a mounted application hears of no start and no end, so it is entered by name.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from haulier.adapters.service_files import only_service
from haulier.adapters.sql.database import open_database
from haulier.adapters.worker_locks import WorkerLocks, new_worker
from haulier.bootstrap import Identity, Service
from haulier.config import Settings
from haulier.directories import prepare_directories, require_own_storage
from haulier.engine.hooks import NO_HOOKS, Hooks
from haulier.server.app import create_app
from haulier.server.embedded_guard import Authenticate


class EmbeddedService:
    """The application; `running` is entered in the host's own lifespan."""

    def __init__(self, settings: Settings, *, authenticate: Authenticate, hooks: Hooks = NO_HOOKS) -> None:
        self._settings = settings.model_copy(update={"require_tokens": True, "workers": 1})
        self._authenticate = authenticate
        self._hooks = hooks
        self._app: ASGIApp | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while this is entered; bodies that come in at its end are kept as they are.

        Raises:
            ConfigError: the service cannot start with these settings.
        """
        settings = self._settings
        root = prepare_directories(settings)
        with only_service(root):
            async with open_database(settings.database) as database:
                await require_own_storage(settings, database, claim=True)
            WorkerLocks(settings.storage_dir).sweep()
            service = Service(settings, root, Identity(worker=new_worker()), hooks=self._hooks)
            async with service.lifespan():
                self._app = create_app(service.services, settings, authenticate=self._authenticate)
                try:
                    yield
                finally:
                    self._app = None
                    await service.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if self._app is None:
            raise RuntimeError("enter running() of Haulier's application in your own lifespan")
        await self._app(scope, receive, send)


def asgi_app(settings: Settings, *, authenticate: Authenticate, hooks: Hooks = NO_HOOKS) -> EmbeddedService:
    """Return the service as an application to mount.

    Args:
        settings: as `haulier.config.load_settings` reads them; of a host and port it listens at none.
        authenticate: says who sends a request.
        hooks: asked about uploads, told about records.
    """
    return EmbeddedService(settings, authenticate=authenticate, hooks=hooks)
