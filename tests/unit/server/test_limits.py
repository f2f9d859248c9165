"""One caller cannot take what others need, and what is kept about callers is bounded."""

from typing import Any

import pytest

from haulier.core.caller import Caller
from haulier.server.access import CALLER
from haulier.server.errors import RateLimited
from haulier.server.limits import (
    MAX_KEPT,
    AddressLimits,
    Buckets,
    CountedAddresses,
    OwnerLimits,
    RequestLimits,
    Running,
    address_key,
    has_body,
    waits,
)
from haulier.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_bucket_gives_its_burst_then_its_rate(clock: ManualClock) -> None:
    buckets = Buckets(clock, rate=2.0, burst=3.0)
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take("b") == 0.0
    clock.advance(0.5)
    assert [buckets.take("a"), buckets.take("a")] == [0.0, 0.5]
    clock.advance(1000)
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_a_refused_one_costs_nothing(clock: ManualClock) -> None:
    buckets = Buckets(clock, rate=1.0, burst=1.0)
    assert buckets.take("a") == 0.0
    for _ in range(10):
        assert buckets.take("a") == 1.0
    clock.advance(1)
    assert buckets.take("a") == 0.0


def test_a_debt_is_waited_for_and_no_longer_than_a_burst(clock: ManualClock) -> None:
    buckets = Buckets(clock, rate=1.0, burst=2.0)
    for _ in range(100):
        buckets.charge("a")
    assert buckets.wait("a") == 3.0
    clock.advance(3)
    assert buckets.wait("a") == 0.0


def test_no_rate_is_no_limit(clock: ManualClock) -> None:
    buckets = Buckets(clock, rate=0.0, burst=0.0)
    assert {buckets.take("a") for _ in range(1000)} == {0.0}
    buckets.charge("a")
    assert len(buckets) == 0


def test_the_wall_clock_changes_no_rate(clock: ManualClock) -> None:
    buckets = Buckets(clock, rate=1.0, burst=1.0)
    assert buckets.take("a") == 0.0
    clock.step_wall(1e6)
    assert buckets.take("a") == 1.0


def test_the_longest_silent_ones_are_forgotten(clock: ManualClock) -> None:
    buckets = Buckets(clock, rate=1.0, burst=1.0)
    for number in range(MAX_KEPT):
        buckets.take(f"{number}")
    assert buckets.take("1") == 1.0  # asking in vain keeps nobody
    clock.advance(1)
    assert buckets.take("0") == 0.0
    for number in range(100):
        buckets.take(f"new {number}")
    assert len(buckets) == MAX_KEPT
    assert buckets.wait("0") == 1.0
    assert buckets.wait("1") == 0.0


def test_places_are_given_back_whatever_happens() -> None:
    running = Running(1)
    with running.one("a", "what"), running.one("b", "what"):
        with pytest.raises(RateLimited) as caught, running.one("a", "too many"):
            pass
        assert caught.value.limit == "too many"
    with pytest.raises(KeyError), running.one("a", "what"):
        raise KeyError
    with running.one("a", "what"):
        pass
    assert running._counts == {}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("testclient", "testclient", True),
    ],
)
def test_a_client_cannot_change_its_address_at_will(one: str, other: str, same: bool) -> None:
    keys = {address_key({"client": (address, 1)}) for address in (one, other)}
    assert len(keys) == (1 if same else 2)
    assert address_key({"client": None}) == ""


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([], False),
        ([(b"content-length", b"0")], False),
        ([(b"content-length", b"1")], True),
        ([(b"transfer-encoding", b"chunked")], True),
    ],
)
def test_a_body_is_announced(headers: list[tuple[bytes, bytes]], body: bool) -> None:
    assert has_body({"headers": headers}) is body


# --- the layers ------------------------------------------------------------------------------------


def request(owner: str | None = "user:a", address: str = "192.0.2.1", *, body: bool = False) -> Any:
    scope: dict[str, Any] = {"type": "http", "path": "/", "client": (address, 1)}
    scope["headers"] = [(b"content-length", b"5")] if body else []
    return scope if owner is None else {**scope, CALLER: Caller(owner=owner)}


async def passed(scope: Any, receive: Any, send: Any) -> None:
    """Be the application."""


LIMITS = RequestLimits(per_owner_s=1, per_address_s=1, bodies_per_owner=1, bodies_per_address=1)


async def test_an_address_that_asks_too_often_is_told_when_to_ask_again(clock: ManualClock) -> None:
    layer: Any = AddressLimits(passed, limits=LIMITS, clock=clock)
    for _ in range(2):
        await layer(request(), None, None)
    with pytest.raises(RateLimited, match="address") as caught:
        await layer(request("user:b"), None, None)
    assert caught.value.retry_after_s == 1.0
    await layer(request(address="192.0.2.2"), None, None)
    await layer({"type": "lifespan"}, None, None)
    clock.advance(1)
    await layer(request(), None, None)


async def test_an_owner_that_asks_too_often_is_told_from_wherever_it_asks(clock: ManualClock) -> None:
    layer: Any = OwnerLimits(passed, limits=LIMITS, clock=clock)
    await layer(request(), None, None)
    await layer(request(address="192.0.2.2"), None, None)
    with pytest.raises(RateLimited, match="user:a"):
        await layer(request(address="192.0.2.3"), None, None)
    await layer(request("user:b"), None, None)
    for _ in range(10):
        await layer(request(None), None, None)  # nobody owns a probe


@pytest.mark.parametrize("kind", [AddressLimits, OwnerLimits])
async def test_bodies_at_once_are_limited_and_other_requests_are_not(kind: Any, clock: ManualClock) -> None:
    limits = RequestLimits(bodies_per_owner=1, bodies_per_address=1)
    calls: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        calls.append("in")
        if len(calls) == 1:  # within the first body
            with pytest.raises(RateLimited) as caught:
                await layer(request(body=True), None, None)
            assert caught.value.retry_after_s > 0
            await layer(request("user:b", "192.0.2.2", body=True), None, None)
            await layer(request(), None, None)

    layer: Any = kind(application, limits=limits, clock=clock)
    await layer(request(body=True), None, None)
    await layer(request(body=True), None, None)
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("GET /api/events", True),
        ("GET /api/uploads/u/events", True),
        ("GET /api/uploads/u?wait=5", True),
        ("GET /api/uploads/u?a=b&w%61it=5", True),
        ("GET /api/transfers/t?wait=5", True),
        ("GET /api/uploads/u", False),
        ("GET /api/transfers/t?wai=5", False),
        ("GET /api/records?wait=5", False),
        ("GET /api/events/more", False),
        ("POST /api/uploads/u?wait=5", False),
    ],
)
def test_streams_and_waits_are_told_from_other_requests(asked: str, expected: bool) -> None:
    method, _, target = asked.partition(" ")
    path, _, query = target.partition("?")
    scope: Any = {"method": method, "path": path, "query_string": query.encode(), "headers": []}
    assert waits(scope) is expected


@pytest.mark.parametrize(
    ("client", "address"), [(("192.0.2.1", 5), "192.0.2.1"), (None, None), (("", 0), None)]
)
async def test_what_is_begun_counts_for_the_address_too_where_one_is_known(
    client: tuple[str, int] | None, address: str | None
) -> None:
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope)

    caller = Caller(owner="user:a")
    layer: Any = CountedAddresses(app)
    await layer({"type": "http", "client": client, CALLER: caller}, None, None)
    await layer({"type": "http", "client": client}, None, None)
    assert seen[0][CALLER].address == address
    assert seen[0][CALLER] == caller  # whoever it is, from wherever
    assert CALLER not in seen[1]
