"""One PostgreSQL connection: how it is opened, how statements run on it, what its errors mean.

Rule 1: the driver never begins or commits by itself (autocommit); every transaction says how it wants to be.
Rule 2: a connection is used by one task at a time.
Rule 3: errors of the driver leave through `translated` only.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from sqlalchemy.dialects.postgresql.psycopg import dialect

from haulier.adapters.sql.compiled import compiler
from haulier.adapters.sql.rows import Parameters, Row
from haulier.adapters.sql.statements import Statement
from haulier.core.errors import (
    ConfigError,
    StorageError,
    StorageFull,
    StorageNotWritable,
    StorageUnavailable,
)

Connection = psycopg.AsyncConnection[DictRow]

PREPARED_STATEMENTS: Final = 256
"""All of ours stay prepared; the driver's default of 100 would do for the fixed ones only."""
PAGE: Final = 8192
"""Bytes; PostgreSQL's default page, and the least that a write which found no room has needed."""
IDLE_S: Final = 30.0
"""How long a process that was stopped in the middle of a transaction may keep its locks from the others: longer
than any pause of a machine that still works."""

_compiled: Final = compiler(dialect())  # type: ignore[no-untyped-call]  # SQLAlchemy's own


def options_of(url: str) -> Mapping[str, Any]:
    """Return what the URL says, and what it leaves to us.

    Raises:
        ConfigError: this is no URL of a PostgreSQL database.
    """
    try:
        given = conninfo_to_dict(url) if url.startswith("postgresql://") else {}
    except psycopg.ProgrammingError as error:
        # Its words quote the URL, and so perhaps the password.
        raise ConfigError("database_url", "***", _EXPECTED) from error
    if not given:
        raise ConfigError("database_url", "***", _EXPECTED)
    return {**_DEFAULTS, **given}


_EXPECTED: Final = "expected postgresql://USER:PASSWORD@HOST/NAME, with %XX for what URLs give a meaning"
_DEFAULTS: Final[Mapping[str, Any]] = {
    "application_name": "haulier",
    "client_encoding": "UTF8",
    # While one server takes over from another, the address may lead to one that only follows. A connection to it would be
    # kept: it reads what is old and writes nothing, until somebody starts this process again.
    "target_session_attrs": "primary",
    # A machine that vanishes is noticed in seconds; the kernel's own defaults are hours.
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


def place_of(url: str) -> str:
    """Return where the database is, in words that hold no password."""
    options = conninfo_to_dict(url)
    host = options.get("host") or options.get("hostaddr") or "its default socket"
    return f"PostgreSQL database {options.get('dbname') or 'of the user'!s} at {host}"


async def connect(
    options: Mapping[str, Any], *, lock_timeout_s: float, statement_timeout_s: float
) -> Connection:
    """Open a connection; `lock_timeout_s` bounds each wait for a row, `statement_timeout_s` each statement."""
    connection: Connection = await psycopg.AsyncConnection.connect(
        **options, autocommit=True, row_factory=dict_row
    )
    connection.prepared_max = PREPARED_STATEMENTS
    try:
        await connection.execute(_SETTINGS, {
            "lock": f"{lock_timeout_s * 1000:.0f}ms",
            "statement": f"{statement_timeout_s * 1000:.0f}ms",
            "idle": f"{IDLE_S * 1000:.0f}ms",
        })  # fmt: skip
    except BaseException:
        await connection.close()
        raise
    return connection


_SETTINGS: Final = """
SELECT set_config('lock_timeout', %(lock)s, false),
       set_config('statement_timeout', %(statement)s, false),
       set_config('idle_in_transaction_session_timeout', %(idle)s, false),
       -- What was answered survives a crash of the database too, whatever its operator has chosen for others: what is
       -- durable waits for its replicas as well, if there are any.
       set_config('haulier.durable', CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
                                          THEN 'on' ELSE current_setting('synchronous_commit') END, false),
       set_config('synchronous_commit', 'local', false)
"""


class AsksMore(Exception):
    """What was thought to be one statement is more."""


class PostgresExecutor:
    """Runs statements inside one transaction."""

    dialect = "postgresql"

    def __init__(self, connection: Connection, begin: Sequence[bytes] = ()) -> None:
        """`begin` are commands that open the transaction; they go with its first statement, in one round trip."""
        self._connection = connection
        # Binary answers: times come back bit for bit, and bytes without a detour through hex.
        self._cursor = connection.cursor(binary=True)
        self._begin = begin

    @property
    def begun(self) -> bool:
        """Whether there is a transaction to be ended."""
        return not self._begin

    async def rows(self, statement: Statement, parameters: Parameters) -> Sequence[Row]:
        """Return all rows of the answer."""
        if _asks_in_vain(statement, parameters):
            return []
        await self._run(statement, parameters)
        return await self._cursor.fetchall()

    async def row(self, statement: Statement, parameters: Parameters) -> Row | None:
        """Return the only row of the answer."""
        rows = await self.rows(statement, parameters)
        assert len(rows) <= 1
        return rows[0] if rows else None

    async def count(self, statement: Statement, parameters: Parameters) -> int:
        """Return how many rows were changed."""
        await self._run(statement, parameters)
        return self._cursor.rowcount

    async def count_all(self, statement: Statement, each: Sequence[Parameters]) -> int:
        """Run a statement with each of these, in one round trip, and return how many rows were changed."""
        compiled = _compiled(statement)
        begin, self._begin = self._begin, ()
        async with self._connection.pipeline():
            for command in begin:
                await self._connection.execute(command, prepare=True)
            await self._cursor.executemany(compiled.text.encode(), [compiled.fill(one) for one in each])
        return self._cursor.rowcount

    async def exclude(self, name: str) -> None:
        """Wait until no other transaction, in any process, has excluded this name."""
        await self.execute(b"SELECT pg_advisory_xact_lock(%(key)s)", {"key": advisory_key(name)})

    async def _run(self, statement: Statement, parameters: Parameters) -> None:
        compiled = _compiled(statement)
        await self.execute(compiled.text.encode(), compiled.fill(parameters))

    async def execute(self, text: bytes, parameters: Parameters | Sequence[Any]) -> None:
        """Run a statement of ours as text; the transaction begins with it, if it has not."""
        begin, self._begin = self._begin, ()
        if not begin:
            await self._cursor.execute(text, parameters, prepare=True)
            return
        async with self._connection.pipeline():
            for command in begin:
                await self._connection.execute(command, prepare=True)
            await self._cursor.execute(text, parameters, prepare=True)


class OneSelect(PostgresExecutor):
    """Runs one statement that only reads, which sees the rows at one moment without any transaction around it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._asked = False

    async def exclude(self, name: str) -> None:  # noqa: ARG002 - nothing is excluded
        """Raise AsksMore: that is held until the end of a transaction."""
        raise AsksMore

    async def count_all(self, statement: Statement, each: Sequence[Parameters]) -> int:  # noqa: ARG002 - nothing is run
        """Raise AsksMore: that is more than one, and no reading."""
        raise AsksMore

    async def _run(self, statement: Statement, parameters: Parameters) -> None:
        if self._asked or not isinstance(statement, sa.Select):
            raise AsksMore
        self._asked = True
        await super()._run(statement, parameters)


def _asks_in_vain(statement: Statement, parameters: Parameters) -> bool:
    """Whether it looks for a text that has a NUL: none here has one, and the driver refuses to ask."""
    return isinstance(statement, sa.Select) and any(
        "\0" in value for value in parameters.values() if isinstance(value, str)
    )


def advisory_key(name: str) -> int:
    """Return the number under which PostgreSQL knows a lock of ours.

    Two names that share one number would only wait for each other.
    """
    digest = hashlib.blake2b(f"haulier: {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


CLASHES: Final = frozenset({
    "40001",  # serialization failure
    "40P01",  # deadlock
    "55P03",  # lock timeout
})  # fmt: skip
"""SQLSTATEs of transactions that were in each other's way; their connections are whole."""
_PASSES: Final = CLASHES | frozenset({
    "53300",  # too many connections
    "57P01", "57P02", "57P03",  # the server stops, has crashed, is starting
    "25P03",  # this process was stopped for longer than IDLE_S
})  # fmt: skip
"""SQLSTATEs after which the same transaction may well succeed. Source: PostgreSQL's manual, appendix A."""


_OPERATORS: Final = frozenset({
    "42P01",  # undefined table
    "42P07",  # duplicate table, which a migration finds
    "3F000",  # no such schema
})  # fmt: skip
"""SQLSTATEs of a database that its operator has changed. All the rest of class 42, syntax and names, are mistakes of ours;
42501, insufficient privilege, has a word of its own."""


def may_pass(error: psycopg.Error) -> bool:
    """Whether the same transaction may succeed in a moment; a lost connection has no SQLSTATE, or one of class 08."""
    state = error.sqlstate
    return isinstance(error, psycopg.OperationalError) and (
        state is None or state in _PASSES or state.startswith("08")
    )


def translate(error: psycopg.Error, place: str) -> StorageError | None:
    """Return what a driver's error means to callers; None: it is a mistake of ours and stays loud."""
    state = error.sqlstate or ""
    if state == "53100":  # disk full
        return StorageFull(PAGE)
    if state in {"25006", "42501"}:  # read-only transaction, insufficient privilege
        return StorageNotWritable(place, words_of(error))
    theirs = isinstance(error, psycopg.OperationalError) or state in _OPERATORS or state.startswith("XX")
    return StorageUnavailable(f"{place}: {words_of(error)}") if theirs else None


def words_of(error: psycopg.Error) -> str:
    """Return what happened in one line."""
    told = [error.diag.message_primary, error.diag.message_detail]
    lines = " ".join(part for part in told if part) or str(error)
    return f"{error.sqlstate or type(error).__name__}: {' '.join(lines.split())}"


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Turn the driver's errors into ours; the one place where that happens."""
    try:
        yield
    except psycopg.Error as error:
        ours = translate(error, place)
        if ours is None:
            raise
        raise ours from error
