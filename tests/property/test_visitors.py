"""Properties 9 and 10: visitors find their own again, and their end cleans up; on both databases."""

import asyncio
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import field
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haulier.adapters.disk.directories import prepare_tree
from haulier.adapters.sql.database import open_database
from haulier.adapters.worker_locks import new_worker
from haulier.bootstrap import Identity, Service
from haulier.config import Settings
from haulier.core.session import SessionStatus
from haulier.core.values import dataclass
from haulier.core.visitor import Visitor, sign_visitor
from haulier.server.app import create_app
from haulier.testing import ManualClock
from haulier.testing.rows import Database, add_record, add_upload, record, see, see_record, upload
from tests.support.postgres import fresh_database
from tests.support.service import served
from tests.support.visitors import visitor_service

T = TypeVar("T")

CASES: Final = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
COOKIE: Final = "haulier_visitor_8000"
NOBODYS: Final = sign_visitor("019aa0b4-5a3c-7c1e-9d43-0f6a5f3a2b11", b"somebody else's key")


@contextmanager
def rows_of(kind: str) -> Iterator[Path | str]:
    """Give the place of an empty database of that kind."""
    with ExitStack() as stack:
        if kind == "postgresql":
            yield stack.enter_context(fresh_database())
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="haulier-visitors-"))
            yield Path(folder) / "haulier.db"


class Running:
    """What examples share, called from outside of its event loop."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


# --- property 9 --------------------------------------------------------------------------------------


class HttpService(Running):
    """A service in open mode, called in this process."""

    def __init__(self, runner: asyncio.Runner, client: Any) -> None:
        super().__init__(runner)
        self._client = client

    def ask(self, method: str, target: str, shown: str | None, by: str = "Cookie") -> Any:
        """Ask as a browser that keeps this text, or none; by its cookie or by the header."""
        self._client.cookies.clear()
        headers = {"Cookie": f"{COOKIE}={shown}"} if by == "Cookie" else {by: shown}
        body = b"bytes" if method == "PUT" else None
        answer = self.run(
            self._client.request(method, target, content=body, headers=headers if shown else None)
        )
        assert answer.status_code < 300, answer.text
        return answer


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HttpService]:
    data: Path = tmp_path_factory.mktemp("visitors")
    with rows_of(request.param) as place, asyncio.Runner() as runner:
        elsewhere = f"sqlite:///{place}" if isinstance(place, Path) else place
        chosen = Settings(data_dir=data, database_url=elsewhere, local_users=True, image_processes=0)
        stack = AsyncExitStack()

        async def start() -> Any:
            parts = Service(chosen, prepare_tree(data, min_free=0), Identity(worker=new_worker()))
            client = await stack.enter_async_context(served(create_app(parts.services, chosen)))
            await stack.enter_async_context(parts.lifespan())
            return client

        yield HttpService(runner, runner.run(start()))
        runner.run(stack.aclose())


@dataclass
class Browser:
    """What a browser keeps, and what it must find."""

    shown: str | None = None
    names: list[str] = field(default_factory=list)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["load", "upload", "upload by header", "forge", "forget"]),
    ),
    min_size=1,
    max_size=8,
)


@CASES
@given(steps=STEPS)
def test_property_9_a_visitor_is_made_or_reused_and_finds_its_history_again(
    service: HttpService, steps: Sequence[tuple[int, str]]
) -> None:
    browsers = [Browser() for _ in range(3)]
    for number, (which, step) in enumerate(steps):
        browser = browsers[which]
        if step == "load":
            given_text = service.ask("GET", "/", browser.shown).headers.get("x-session-id")
            assert (given_text is None) == (browser.shown is not None)
            browser.shown = browser.shown or given_text
        elif step == "forge":
            new = service.ask("GET", "/", NOBODYS).headers["x-session-id"]
            assert new not in {it.shown for it in browsers} | {NOBODYS}
            assert _names(service, new) == []
        elif step == "forget":
            browsers[which] = Browser()
        elif browser.shown is not None:
            by = "X-Session-ID" if "header" in step else "Cookie"
            service.ask("PUT", f"/api/files/{number}", browser.shown, by)
            browser.names.insert(0, str(number))
        for each in browsers:
            if each.shown is not None:
                assert _names(service, each.shown) == each.names


def _names(service: HttpService, shown: str) -> list[str]:
    listed = service.ask("GET", "/api/records?mine=true", shown)
    return [item["filename"] for item in listed.json()["items"]]


# --- property 10 -------------------------------------------------------------------------------------


class Rows(Running):
    """A database, and how many visitors it has had."""

    def __init__(self, runner: asyncio.Runner, database: Database) -> None:
        super().__init__(runner)
        self.database = database
        self.count = 0


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def rows(request: pytest.FixtureRequest) -> Iterator[Rows]:
    with rows_of(request.param) as place, asyncio.Runner() as runner:
        database = open_database(place)
        runner.run(_enter(database))
        yield Rows(runner, database)
        runner.run(database.__aexit__(None, None, None))


async def _enter(database: Any) -> None:
    await database.__aenter__()


VISITS = st.lists(
    st.tuples(
        st.floats(1.0, 400 * 24 * 3600.0),  # how long the visitor lasts
        st.floats(0.0, 400 * 24 * 3600.0),  # when it was seen again; if it had ended, it was not
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@CASES
@given(visits=VISITS, elapsed=st.floats(0.0, 800 * 24 * 3600.0))
def test_property_10_expiry_cleans_up_keeps_records_and_is_configurable(
    rows: Rows, visits: list[tuple[float, float, bool]], elapsed: float
) -> None:
    rows.run(_visit_and_expire(rows, visits, elapsed))


async def _visit_and_expire(rows: Rows, visits: list[tuple[float, float, bool]], elapsed: float) -> None:
    database, start = rows.database, 1_700_000_000.0
    ends: dict[str, float] = {}
    made: list[Visitor] = []
    for ttl_s, seen_after, comes_back in visits:
        clock, rows.count = ManualClock(start), rows.count + 1
        service = visitor_service(database, clock, seed=rows.count, ttl_s=ttl_s)
        visitor = await service.begin(None)
        made.append(visitor)
        ends[visitor.id] = start + ttl_s
        owner = visitor.owner
        await add_upload(database, upload(f"u{visitor.id}", owner=owner, begun_at=start, ttl_s=10.0**9))
        await add_record(
            database, record(f"r{visitor.id}", owner=owner, begun_at=start), original=f"b{visitor.id}"
        )
        if comes_back:
            clock.advance(seen_after)
            found = await service.find([service.signed(visitor)])
            assert (found is not None) == (seen_after < ttl_s)
            if found is not None:
                ends[visitor.id] = found.visitor.expires_at
                assert found.visitor.expires_at >= start + ttl_s
    now = start + elapsed
    clock = ManualClock(now)
    service = visitor_service(database, clock, seed=rows.count)
    ended = {visitor_id for visitor_id, at in ends.items() if at <= now}
    assert await service.purge(now=now) == len(ended)
    await database.write(lambda tx: tx.sessions.expire(now=now, held=(), limit=1000))
    for visitor in made:
        gone = visitor.id in ended
        assert (await database.read(lambda tx, v=visitor: tx.visitors.load(v.id)) is None) == gone  # type: ignore[misc]  # of a lambda with defaults
        assert (await service.find([service.signed(visitor)]) is None) == gone
        session = await see(database, f"u{visitor.id}")
        assert session is not None
        assert session.status is (SessionStatus.EXPIRED if gone else SessionStatus.OPEN)
        kept = await see_record(database, f"r{visitor.id}")
        assert kept is not None
        assert (kept.owner, kept.deleted_at, len(kept.assets)) == (visitor.owner, None, 1)
        await service.clear(visitor)
