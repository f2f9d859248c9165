"""Throw-away PostgreSQL clusters: one for all tests of a machine's user, or one of a test's own.

Rule 1: a cluster lives in a temporary folder and listens on a Unix socket there; nothing of the system's is touched.
Rule 2: the shared one ends with its last user, however that ends: users hold a shared lock on a file, which the
        kernel frees, and a keeper process waits for the exclusive one.
Rule 3: as root everything runs as the user `postgres`, because PostgreSQL refuses root.
"""

import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psycopg

from haulier.adapters.sql.postgres.connection import options_of
from haulier.adapters.sql.postgres.migrate import migrate
from haulier.core.values import dataclass
from tests.support.components import require

SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    # Throw-away: what a power loss would take is not wanted back. A crash of PostgreSQL alone loses nothing.
    "fsync": "off",
    "full_page_writes": "off",
    "log_min_messages": "warning",
}
PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster in `root`: its socket, its log, and its data below."""

    root: Path

    @property
    def data(self) -> Path:
        """Where PostgreSQL keeps everything."""
        return self.root / "data"

    def make(self) -> None:
        """Make the files; nothing runs yet."""
        self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        _give_to_postgres(self.root)
        encoding = ("--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust", "--username=haulier")
        self._run("initdb", "--pgdata", str(self.data), "--no-sync", *encoding)
        settings = {**SETTINGS, "unix_socket_directories": str(self.root)}
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._run("pg_ctl", "--pgdata", str(self.data), "--wait", "--log", str(self.root / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; `immediate` is a crash."""
        self._run("pg_ctl", "--pgdata", str(self.data), "--wait", "--mode", mode, "stop")

    def restart(self, mode: str = "immediate") -> None:
        """Crash it, or stop it otherwise, and start it."""
        self.stop(mode)
        self.start()

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Let it do nothing for a while, and its connections too, as on a machine that has run out of memory."""
        leader = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        processes = [leader, *map(int, children)]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    @contextmanager
    def followed(self) -> Iterator["Cluster"]:
        """Run a standby of it, which only reads."""
        root = Path(tempfile.mkdtemp(prefix="haulier-pg-"))
        standby = Cluster(root)
        try:
            _give_to_postgres(root)
            source = ("--host", str(self.root), "--username", "haulier", "--checkpoint", "fast")
            standby._run("pg_basebackup", "--pgdata", str(standby.data), "--write-recovery-conf", *source)
            with (standby.data / "postgresql.conf").open("a") as file:
                file.write(f"unix_socket_directories = '{root}'\n")
            standby.start()
            yield standby
        finally:
            standby.end()

    def end(self) -> None:
        """Stop it if it runs, and remove it."""
        end = [binary("pg_ctl"), "--pgdata", str(self.data), "--mode", "immediate", "stop"]
        subprocess.run(end, check=False, capture_output=True, **as_postgres())
        shutil.rmtree(self.root)

    def answers(self) -> bool:
        """Whether it takes connections. Files do not tell: they outlive a server that was killed."""
        ask = [binary("pg_isready"), "--quiet", "--timeout", str(round(PATIENCE_S)), "--host", str(self.root)]
        return subprocess.run(ask, check=False, **as_postgres()).returncode == 0

    def url(self, name: str = "postgres") -> str:
        """Return the URL of a database."""
        return f"postgresql://haulier@/{name}?host={quote(str(self.root), safe='')}"

    def execute(self, statement: str, *parameters: Any, name: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement beside everything else; return its rows."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        with tempfile.TemporaryFile("w+") as told:
            # A pipe would stay open as long as the server that pg_ctl leaves behind.
            command = [binary(program), *arguments]
            done = subprocess.run(command, stdout=told, stderr=told, check=False, **as_postgres())
            told.seek(0)
            assert done.returncode == 0, f"{program} failed: {told.read()}"


def _give_to_postgres(folder: Path) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)


def as_postgres() -> dict[str, Any]:
    """Return how a program of PostgreSQL's is run, for `subprocess`."""
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    return {"cwd": "/", **user}


def binary(program: str) -> str:
    """Return the path of one of PostgreSQL's programs; Debian keeps most of them off PATH."""
    # A link on PATH to one of them has not the others beside it.
    return str(Path(require("postgresql")).resolve().parent / program)


@contextmanager
def own_cluster() -> Iterator[Cluster]:
    """A cluster that a test may stop, crash and fill."""
    # Not pytest's own folders: the path of a socket has 107 bytes at most.
    root = Path(tempfile.mkdtemp(prefix="haulier-pg-"))
    cluster = Cluster(root)
    try:
        cluster.make()
        cluster.start()
        yield cluster
    finally:
        cluster.end()  # the test may have stopped it


# --- the shared one ------------------------------------------------------------------------------------


_KEEPERS: Final[list["subprocess.Popen[bytes]"]] = []
"""Outlive this process by nature; kept so that nobody complains that one still runs."""


@cache
def shared_cluster() -> Cluster:
    """Return the cluster that all tests of this user share; started when nobody else has."""
    place = Path(tempfile.gettempdir()) / f"haulier-pg-{os.geteuid()}-{_version(SETTINGS)}"
    place.mkdir(mode=0o755, exist_ok=True)
    descriptor = os.open(place / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # Held until this process ends; waits for a keeper that is clearing away.
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    cluster = Cluster(place / "cluster")
    with _alone(place / "start"):
        if not cluster.answers():
            # Never there, cleared away, or killed together with its keeper, which leaves its files behind.
            shutil.rmtree(cluster.root, ignore_errors=True)
            cluster.make()
            cluster.start()
            keeper = [sys.executable, "-m", "tests.support.postgres", str(place)]
            _KEEPERS.append(subprocess.Popen(keeper, start_new_session=True))
    return cluster


def keep(place: Path) -> None:
    """Wait until nobody uses the shared cluster, then end it."""
    with (place / "users").open("r+") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        Cluster(place / "cluster").stop("immediate")
        shutil.rmtree(place / "cluster")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _version(of: object) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:12]


# --- databases -----------------------------------------------------------------------------------------


@contextmanager
def fresh_database(*, template: Sequence[str] = ()) -> Iterator[str]:
    """A migrated database of the shared cluster, and its URL; `template`: statements that every copy has had."""
    cluster = shared_cluster()
    name = f"test_{uuid.uuid4().hex}"
    # Copied as files, which here is half the work of writing every page of it to the log.
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE {_template(tuple(template))} STRATEGY file_copy")
    try:
        yield cluster.url(name)
    finally:
        cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def empty_database(options: str = "") -> Iterator[str]:
    """A database without any table."""
    cluster = shared_cluster()
    name = f"test_{uuid.uuid4().hex}"
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
    try:
        yield cluster.url(name)
    finally:
        cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")


@cache
def _template(statements: tuple[str, ...]) -> str:
    """Return the name of a migrated database to copy; made once for each version of the migrations."""
    cluster = shared_cluster()
    name = f"template_{_version((_migrations(), statements))}"
    with _alone(cluster.root.parent / "templates"):
        if not cluster.execute("SELECT 1 FROM pg_database WHERE datname = %s", name):
            making = f"making_{uuid.uuid4().hex}"
            cluster.execute(f"CREATE DATABASE {making}")
            migrate(options_of(cluster.url(making)), making, lock_timeout_s=PATIENCE_S)
            for statement in statements:
                cluster.execute(statement, name=making)
            _await_disconnection(cluster, making)
            cluster.execute(f"ALTER DATABASE {making} RENAME TO {name}")
    return name


def _migrations() -> list[str]:
    from haulier.adapters.sql import migrations

    folder = Path(next(iter(migrations.__path__)))
    return [path.read_text() for path in sorted(folder.rglob("*.py"))]


def _await_disconnection(cluster: Cluster, name: str) -> None:
    # A client has closed its connection some time before the server's process has gone.
    deadline = time.monotonic() + PATIENCE_S
    while cluster.execute("SELECT 1 FROM pg_stat_activity WHERE datname = %s", name):
        assert time.monotonic() < deadline, "somebody is still connected"
        time.sleep(0.01)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
