"""The only place that picks adapters: settings in, a running service out.

Rule 1: everything that can be wrong with a start is found before the socket is opened, and said in one
        sentence that names the setting and the cure.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import stat
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO, cast

import structlog

from haulier.adapters.access import OpenAccess
from haulier.adapters.claims import LocalClaims
from haulier.adapters.clock import SystemClock, SystemIdentifiers
from haulier.adapters.disk import DiskSink
from haulier.adapters.disk.directories import prepare_tree
from haulier.adapters.sql.sqlite.database import SqliteDatabase
from haulier.config import Settings
from haulier.core.errors import ConfigError, HaulierError, ServiceStopping, StorageError
from haulier.engine.background import Background
from haulier.engine.context import SessionLimits, SessionPorts
from haulier.engine.janitor import Janitor, JanitorLimits
from haulier.engine.records import RecordService
from haulier.engine.uploads import UploadLimits, UploadService
from haulier.server.app import create_app
from haulier.server.http.limits import ConnectionLimits
from haulier.server.http.serving import listen, serve
from haulier.server.metrics import Metrics
from haulier.server.services import Services

SECRET_BYTES: Final = 32
"""Length of the server's secret: what HMAC-SHA-256 makes use of."""
STOP_GRACE_S: Final = 5.0
"""How long work in the background may take when the service ends; the rest is gone on with at start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One start-up check: what was looked at, and what was found, with the cure when it is wrong."""

    name: str
    ok: bool
    detail: str


def run_service(settings: Settings) -> int:
    """Serve until a signal; return the exit code.

    Raises:
        ConfigError: the service cannot start with these settings.
    """
    configure_logging(settings)
    root = prepare_tree(settings.root, min_free=settings.min_free_bytes)
    if settings.storage_dir != settings.root:
        prepare_tree(settings.storage_dir, setting="storage_url", min_free=settings.min_free_bytes)
    with only_service(root):
        require_database(settings)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host

        def ready(port: int) -> None:
            sys.stdout.write(f"haulier serve ready on http://{host}:{port}\ndata directory {root}\n")
            sys.stdout.flush()

        service = Service(settings, root)
        return serve(
            create_app(service.services, settings, lifespan=service.lifespan),
            host=settings.host,
            port=settings.port,
            on_ready=ready,
            on_stopping=service.stop,
            limits=ConnectionLimits(body_silence_s=settings.silent_body_s),
        )


class Service:
    """The parts of one service process, wired."""

    def __init__(self, settings: Settings, root: Path) -> None:
        """Build the parts; nothing runs and no file is open before `lifespan` is entered."""
        clock = SystemClock()
        self._clock = clock
        self._sink = DiskSink(settings.storage_dir, min_free=settings.min_free_bytes)
        self._database = SqliteDatabase(f"sqlite:///{settings.database_file}")
        self._background = Background()
        self._stopping = False
        metrics = Metrics()
        access = OpenAccess(self._database)
        self._uploads = UploadService(
            SessionPorts(
                work=self._database,
                sink=self._sink,
                claims=LocalClaims(),
                clock=clock,
                ids=SystemIdentifiers(clock),
                holder=uuid.uuid4().hex,
                boot_id=boot_id(),
            ),
            access,
            self._background,
            secret=load_secret(root),
            limits=upload_limits(settings),
            hashers=os.cpu_count() or 1,
            observer=metrics,
        )
        records = RecordService(self._database, self._sink, access, clock)
        self._janitor = Janitor(
            self._uploads,
            records,
            sink=self._sink,
            work=self._database,
            clock=clock,
            limits=JanitorLimits(
                interval_s=settings.janitor_interval_s,
                ttl_s=settings.session_ttl_s,
                trash_for_s=settings.trash_for_s,
                retention_s=settings.retention_s,
            ),
            swept=metrics.swept,
        )
        self.services = Services(
            uploads=self._uploads, records=records, readiness=self.readiness, clock=clock, metrics=metrics
        )

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Run what runs beside requests: the database, the repair of what a crash left, the janitor."""
        async with self._database:
            janitor: asyncio.Task[None] | None = None
            try:
                await self._uploads.redo()
                self._background.start(self._uploads.resume(), name="resume")
                janitor = self._background.start(self._janitor.run(), name="janitor")
                yield
            finally:
                if janitor is not None:
                    janitor.cancel()
                await self.stop()
                await self._background.stop(grace_s=STOP_GRACE_S)
                self._sink.close()

    async def stop(self) -> None:
        """Take no more bytes and save every running body; a second call is harmless."""
        self._stopping = True
        await self._uploads.stop()

    async def readiness(self) -> Sequence[str]:
        """Return why uploads cannot be taken now; nothing when they can."""
        reasons = [str(ServiceStopping())] if self._stopping else []
        try:
            await self._database.read(lambda tx: tx.capsules.exists("default"))
        except HaulierError as error:
            reasons.append(f"the database does not answer: {type(error).__name__}")
        try:
            await self._sink.check(None)
        except HaulierError as error:
            reasons.append(f"the storage cannot be written: {type(error).__name__}")
        return reasons


def upload_limits(settings: Settings) -> UploadLimits:
    """Return the engine's limits as they are set."""
    return UploadLimits(
        chunk_size=settings.chunk_size,
        ttl_s=settings.session_ttl_s,
        digest=settings.digest,
        sessions=SessionLimits(
            max_live=settings.max_active_sessions,
            max_size=settings.max_upload_bytes,
            durable=settings.durability == "power",
        ),
    )


def boot_id() -> str:
    """Return what is equal within one run of the machine's kernel only.

    Source: random(4). Where it is missing every process counts as a boot: tails are then not trusted.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return uuid.uuid4().hex


def load_secret(root: Path) -> bytes:
    """Return the server's secret, made at the first start, readable by its owner only.

    Raises:
        ConfigError: it cannot be read, or others can read it.
    """
    path = root / "secret.key"
    try:
        with contextlib.suppress(FileExistsError):
            _write_secret(path)
        secret = path.read_bytes()
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigError("data_dir", str(root), f"{path} must be readable: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError("data_dir", str(root), f"{path} must have mode 0600, not {mode:04o}; use chmod 600")
    if len(secret) != SECRET_BYTES:
        raise ConfigError(
            "data_dir", str(root), f"{path} must have {SECRET_BYTES} bytes; remove it to have a new one made"
        )
    return secret


def _write_secret(path: Path) -> None:
    # Whole or not at all: a crash between creating and writing must not leave an empty secret behind.
    whole = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(SECRET_BYTES))
        os.fsync(descriptor)
        os.link(whole, path)
    finally:
        os.close(descriptor)
        whole.unlink()


@contextmanager
def only_service(root: Path) -> Iterator[None]:
    """Hold the data directory for this process; the kernel lets it go when the process ends.

    Raises:
        ConfigError: another process serves it.
    """
    path = root / "run" / "service.lock"
    path.parent.mkdir(mode=0o755, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise ConfigError(
                "data_dir",
                str(root),
                f"process {holder} serves it already; stop that one, or choose another with --data-dir",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)


def require_database(settings: Settings) -> None:
    """Open the database once: a server that finds it broken while it starts could only show a traceback.

    Raises:
        ConfigError: it cannot be used.
    """
    try:
        _check_database(settings)
    except StorageError as error:
        where = str(settings.root) if settings.database_url is None else settings.database_url
        expected = f"expected an SQLite file that can be opened and written, or room for a new one; {error}"
        raise ConfigError(
            "data_dir" if settings.database_url is None else "database_url", where, expected
        ) from error


def check_service(settings: Settings) -> Sequence[Check]:
    """Run every check of a start, without starting; each on its own, so that all faults show at once."""
    checks: Sequence[tuple[str, Callable[[], str]]] = (
        ("data directory", lambda: _check_tree(settings, settings.root, setting="data_dir")),
        ("storage directory", lambda: _check_tree(settings, settings.storage_dir, setting="storage_url")),
        ("single service", lambda: _check_single(settings.root)),
        ("secret", lambda: f"{len(load_secret(settings.root))} bytes, readable by its owner only"),
        ("database", lambda: _check_database(settings)),
        ("port", lambda: _check_port(settings)),
    )
    return [_checked(name, look) for name, look in checks]


def _checked(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, ok=True, detail=look())
    except (HaulierError, OSError) as error:
        return Check(name=name, ok=False, detail=str(error))


def _check_tree(settings: Settings, directory: Path, *, setting: str) -> str:
    return f"{prepare_tree(directory, setting=setting, min_free=settings.min_free_bytes)} is writable"


def _check_single(root: Path) -> str:
    with only_service(root):
        return "no other process serves this directory"


def _check_database(settings: Settings) -> str:
    async def look() -> str:
        async with SqliteDatabase(f"sqlite:///{settings.database_file}") as database:
            await database.read(lambda tx: tx.capsules.exists("default"))
        return f"{settings.database_file} answers"

    return asyncio.run(look())


def _check_port(settings: Settings) -> str:
    for bound in listen(settings.host, settings.port):
        bound.close()
    return f"{settings.host} port {settings.port} is free"


class LossyLog:
    """Standard error without its faults: a full disk or a closed pipe loses log lines, never a request."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write what can be written."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._stream.write(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure_logging(settings: Settings) -> None:
    """Send structured log events to standard error, as lines for people or as JSON."""
    console = settings.log == "console"
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if not console else _as_it_is,
            # Plain tracebacks: richer ones show every variable, and so headers, tokens and bytes.
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
            if console
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", LossyLog(sys.stderr))),
    )


def _as_it_is(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return event
