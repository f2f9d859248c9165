"""Connections that are kept between requests, origins, and proxies."""

import asyncio
import socket
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulier.body import connections
from haulier.body.connections import Connections, Origin, proxy_credentials
from haulier.core.errors import InvalidRequest

HERE = Origin(scheme="http", host="127.0.0.1", port=80)
THERE = Origin(scheme="http", host="there.example", port=80)


class Loop:
    """What a loop knows of time, which is ours."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: list[tuple[float, Callable[[], None], Any]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Any:
        handle = _Handle()
        self.due.append((self.now + delay_s, call, handle))
        return handle

    def advance(self, seconds: float) -> None:
        """Let time pass, and do what is due meanwhile."""
        until = self.now + seconds
        while ready := sorted((each for each in self.due if each[0] <= until), key=lambda each: each[0]):
            self.due.remove(ready[0])
            self.now, call, handle = ready[0]
            if not handle.cancelled:
                call()
        self.now = until

    @property
    def waits(self) -> bool:
        return any(not handle.cancelled for _, _, handle in self.due)


class _Handle:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    # Only there: the test itself runs on a real one.
    monkeypatch.setattr(connections, "asyncio", SimpleNamespace(get_running_loop=lambda: made))
    return made


@pytest.fixture
def far() -> list[socket.socket]:
    """The other ends, so that they live as long as the test."""
    return []


@pytest.fixture
def connected(far: list[socket.socket]) -> Any:
    """Returns a new connection, and closes whatever is left."""
    made: list[socket.socket] = []

    def make() -> socket.socket:
        near, other = socket.socketpair()
        near.setblocking(False)
        made.append(near)
        far.append(other)
        return near

    yield make
    for each in (*made, *far):
        each.close()


def is_open(connection: socket.socket) -> bool:
    return connection.fileno() != -1


class TestKept:
    def test_nobody_asks_and_it_is_closed_in_time(self, loop: Loop, connected: Any) -> None:
        kept, connection = Connections(None), connected()
        kept.give_back(HERE, connection)
        loop.advance(connections.IDLE_S - 0.1)
        assert is_open(connection)
        loop.advance(0.1)
        assert not is_open(connection)
        assert not loop.waits

    async def test_one_that_is_used_again_and_again_stays(self, loop: Loop, connected: Any) -> None:
        kept, connection = Connections(None), connected()
        for _ in range(5):
            kept.give_back(HERE, connection)
            loop.advance(connections.IDLE_S - 0.1)
            assert await kept.take(HERE) is connection
        loop.advance(100)
        assert is_open(connection), "it is in use"
        assert not loop.waits

    def test_each_goes_at_its_own_time_whatever_its_origin(self, loop: Loop, connected: Any) -> None:
        kept = Connections(None)
        made = [connected() for _ in range(3)]
        for origin, connection in zip((HERE, THERE, HERE), made, strict=True):
            kept.give_back(origin, connection)
            loop.advance(1.0)
        for closed in range(4):
            assert [is_open(each) for each in made] == [False] * closed + [True] * (3 - closed)
            loop.advance(1.0)
        assert not loop.waits

    def test_only_one_timer_runs_however_many_are_kept(self, loop: Loop, connected: Any) -> None:
        kept = Connections(None)
        for _ in range(10):
            kept.give_back(HERE, connected())
        assert len(loop.due) == 1

    def test_closing_closes_all_and_leaves_nothing_to_be_done(self, loop: Loop, connected: Any) -> None:
        kept, connection = Connections(None), connected()
        kept.give_back(HERE, connection)
        kept.close()
        assert not is_open(connection)
        assert not loop.waits
        again = connected()
        kept.give_back(HERE, again)
        loop.advance(connections.IDLE_S)
        assert not is_open(again)

    async def test_none_is_kept_for_a_while_where_one_was_ended_under_a_request(
        self, loop: Loop, connected: Any
    ) -> None:
        kept, connection = Connections(None), connected()
        kept.give_back(HERE, connection)
        kept.drop(HERE, await kept.take(HERE), broken=True)
        assert not is_open(connection)
        one, other = connected(), connected()
        kept.give_back(HERE, one)
        kept.give_back(THERE, other)
        assert not is_open(one)
        assert await kept.take(THERE) is other
        loop.advance(connections.ALONE_S)
        again = connected()
        kept.give_back(HERE, again)
        assert await kept.take(HERE) is again

    @pytest.mark.parametrize("broken", [False, True], ids=["ours", "theirs"])
    async def test_the_end_of_one_at_its_first_request_or_by_us_says_nothing_of_others(
        self, loop: Loop, connected: Any, broken: bool
    ) -> None:
        kept = Connections(None)
        first = connected()
        if not broken:
            kept.give_back(HERE, first)
            assert await kept.take(HERE) is first
        kept.drop(HERE, first, broken=broken)
        following = connected()
        kept.give_back(HERE, following)
        assert await kept.take(HERE) is following

    async def test_the_one_that_was_used_last_is_taken_first(self, loop: Loop, connected: Any) -> None:
        kept = Connections(None)
        first, second = connected(), connected()
        kept.give_back(HERE, first)
        kept.give_back(HERE, second)
        assert await kept.take(HERE) is second
        assert await kept.take(HERE) is first

    @pytest.mark.parametrize("said", [b"HTTP/1.1 408 Request Timeout\r\n", b""])
    async def test_one_that_speaks_or_has_ended_is_closed_and_not_taken(
        self, loop: Loop, connected: Any, far: list[socket.socket], said: bytes
    ) -> None:
        kept = Connections(None)
        quiet, other = connected(), connected()
        kept.give_back(HERE, quiet)
        kept.give_back(HERE, other)
        if said:
            far[1].sendall(said)
        else:
            far[1].close()
        assert await kept.take(HERE) is quiet
        assert not is_open(other)


class Racing:
    """Two addresses: the first accepts when it is let, the second never, and does not end at once when it is given up."""

    def __init__(self, made: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        self.accepts, self.ends = asyncio.Event(), asyncio.Event()
        self._made = made
        monkeypatch.setattr(connections, "_look_up", returning([("first",), ("second",)]))
        monkeypatch.setattr(connections, "_dial", self._dial)
        monkeypatch.setattr(connections, "NEXT_ADDRESS_S", 0.0)

    async def begin(self) -> "asyncio.Task[socket.socket]":
        """Try both, and let the first accept."""
        opening = asyncio.get_running_loop().create_task(connections._open("host", 80))
        await turns(20)
        self.accepts.set()
        return opening

    async def _dial(self, found: Any) -> socket.socket:
        if found == ("first",):
            await self.accepts.wait()
            return self._made
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.wait({asyncio.get_running_loop().create_task(self.ends.wait())})
        raise AssertionError


class TestAddresses:
    """Of a host that has several, the first that accepts is taken."""

    async def test_one_that_accepts_while_we_are_cancelled_is_closed_however_often_that_is(
        self, connected: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: socket.socket = connected()
        racing = Racing(made, monkeypatch)
        opening = await racing.begin()
        await turns(1)
        opening.cancel()
        await turns(3)
        opening.cancel()
        await turns(3)
        racing.ends.set()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await turns(3)
        assert not is_open(made)

    async def test_one_that_has_accepted_is_closed_when_we_are_cancelled_while_the_others_end(
        self, connected: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: socket.socket = connected()
        racing = Racing(made, monkeypatch)
        opening = await racing.begin()
        await turns(5)
        assert not opening.done(), "it waits for the other one to end"
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        racing.ends.set()
        await turns(3)
        assert not is_open(made)


def returning(value: Any) -> Any:
    async def call(*_: object) -> Any:
        return value

    return call


async def turns(count: int) -> None:
    """Let everything that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


def origin_of(url: str, **more: Any) -> Origin:
    return Origin.of(urlsplit(url), **more)


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("no_proxies")
class TestOrigin:
    @pytest.mark.parametrize(
        ("url", "authority", "place"),
        [
            ("http://Files.example/a?b", "files.example", "files.example:80"),
            ("https://files.example", "files.example", "files.example:443"),
            ("http://files.example:443", "files.example:443", "files.example:443"),
            ("https://files.example:443/", "files.example", "files.example:443"),
            ("http://[::1]:8000", "[::1]:8000", "[::1]:8000"),
            ("http://[::1]/", "[::1]", "[::1]:80"),
        ],
    )
    def test_where_requests_go_is_told_as_one_writes_it(self, url: str, authority: str, place: str) -> None:
        found = origin_of(url)
        assert (found.authority, found.place) == (authority, place)
        assert str(found) == f"{urlsplit(url).scheme}://{authority}"

    @pytest.mark.parametrize(
        "url", ["ftp://x", "http://", "files.example", "http://x:99999", "http://x:port"]
    )
    def test_what_is_no_address_is_refused(self, url: str) -> None:
        with pytest.raises(InvalidRequest):
            origin_of(url)


@pytest.mark.usefixtures("no_proxies")
class TestProxies:
    @pytest.mark.parametrize(
        ("environment", "url", "proxy"),
        [
            ({"http_proxy": "http://p:1"}, "http://there.example", "http://p:1"),
            ({"http_proxy": "http://p:1"}, "https://there.example", None),
            ({"https_proxy": "p:1"}, "https://there.example", "http://p:1"),
            ({"all_proxy": "http://p:1"}, "https://there.example", "http://p:1"),
            ({"all_proxy": "http://all:1", "http_proxy": "http://p:1"}, "http://there.example", "http://p:1"),
            ({"all_proxy": "http://p:1", "no_proxy": "there.example"}, "http://there.example", None),
            ({"all_proxy": "http://p:1", "no_proxy": "there.example:80"}, "http://there.example", None),
            (
                {"all_proxy": "http://p:1", "no_proxy": "there.example:81"},
                "http://there.example",
                "http://p:1",
            ),
            ({"all_proxy": "http://p:1"}, "http://127.0.0.1:8000", None),
            ({"all_proxy": "http://p:1"}, "http://localhost", None),
            ({"all_proxy": "http://p:1"}, "http://[::1]", None),
        ],
    )
    def test_the_environment_says_what_stands_between(
        self, environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert origin_of(url).proxy == proxy
        assert origin_of(url, proxied=False).proxy is None

    @pytest.mark.parametrize(
        "proxy", ["https://u:secret@p:1", "socks5://u:secret@p:1", "http://:1", "http://p:port"]
    )
    def test_one_that_cannot_be_used_is_told_without_its_password(
        self, proxy: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("all_proxy", proxy)
        with pytest.raises(InvalidRequest, match="HTTP_PROXY") as told:
            origin_of("http://there.example")
        assert "secret" not in str(told.value)

    def test_credentials_of_a_proxy_are_decoded(self) -> None:
        given = Origin(scheme="http", host="h", port=80, proxy="http://us%40er:p%3Aw@p:1")
        # Of "us@er:p:w". Source: RFC 7617 section 2.
        assert proxy_credentials(given) == [("Proxy-Authorization", "Basic dXNAZXI6cDp3")]
        for plain in (None, "http://p:1"):
            assert proxy_credentials(Origin(scheme="http", host="h", port=80, proxy=plain)) == []


class TestOrder:
    @given(st.lists(st.sampled_from([socket.AF_INET6, socket.AF_INET]), max_size=8))
    def test_both_families_take_turns_and_each_keeps_its_order(
        self, families: list[socket.AddressFamily]
    ) -> None:
        found: list[Any] = [
            (family, socket.SOCK_STREAM, 6, "", number) for number, family in enumerate(families)
        ]
        mixed = connections._interleaved(found)
        assert sorted(mixed, key=lambda each: each[4]) == found
        assert mixed[:1] == found[:1]
        for family in set(families):
            own = [each[4] for each in mixed if each[0] is family]
            assert own == sorted(own)
        fewer = min(families.count(socket.AF_INET6), families.count(socket.AF_INET))
        turns_taken = [each[0] for each in mixed[: 2 * fewer]]
        assert all(one is not other for one, other in pairwise(turns_taken))
