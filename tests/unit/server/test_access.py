"""Open mode lets this machine's user in, on its own name, and nobody else: one clause, one test."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from haulier.server.browsers import Browsers
from haulier.server.errors import HostRefused, NotLocal
from haulier.server.open_mode import OpenModeGuard, OpenModeRules
from haulier.server.peers import socket_uid
from tests.support.visitors import visitor_service

HOST = (b"host", b"127.0.0.1:8000")


def request(
    *headers: tuple[bytes, bytes], method: str = "GET", path: str = "/api/records", **more: Any
) -> Any:
    return {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "headers": list(headers),
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 40000),
        "extensions": {"haulier.connection": {}},
        **more,
    }


def judge(scope: Any, **rules: Any) -> None:
    OpenModeRules(**rules).refuse_by_headers(scope)


def refused(scope: Any, **rules: Any) -> NotLocal:
    with pytest.raises(NotLocal) as caught:
        judge(scope, **rules)
    return caught.value


# --- Host ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [b"127.0.0.1:8000", b"[::1]:8000", b"localhost:8000", b"LocalHost:8000"])
def test_our_own_names_with_our_port_pass(host: bytes) -> None:
    judge(request((b"host", host)))


def test_a_loopback_address_that_is_listened_on_is_a_name() -> None:
    judge(request((b"host", b"127.0.0.2:8000"), server=("127.0.0.2", 8000)))
    with pytest.raises(HostRefused):
        judge(request((b"host", b"127.0.0.2:8000"), server=("127.0.0.1", 8000)))


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example:8000",
        b"127.0.0.1",
        b"127.0.0.1:8001",
        b"127.0.0.1:",
        b"127.0.0.1:08000x",
        b"localhost.:8000",
        b"localhost.evil.example:8000",
        b"127.0.0.2:8000",
        b"[::1]",
        b"[::2]:8000",
        b"::1:8000",
        b"user@127.0.0.1:8000",
        b"",
        b"\xc2\xb2:8000",
    ],
)
def test_every_other_name_is_refused(host: bytes) -> None:
    with pytest.raises(HostRefused):
        judge(request((b"host", host)))


def test_no_name_or_two_names_are_refused() -> None:
    with pytest.raises(HostRefused):
        judge(request())
    with pytest.raises(HostRefused):
        judge(request(HOST, (b"host", b"localhost:8000")))


def test_the_usual_port_may_be_left_out() -> None:
    judge(request((b"host", b"localhost"), server=("127.0.0.1", 80)))
    with pytest.raises(HostRefused):
        judge(request((b"host", b"localhost"), server=("127.0.0.1", 443)))
    judge(request((b"host", b"localhost"), server=("127.0.0.1", 443), scheme="https"))


def test_a_server_that_does_not_know_its_port_has_no_name() -> None:
    with pytest.raises(HostRefused):
        judge(request(HOST, server=None))


# --- proxies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-anything",
        b"x-real-ip", b"via",
    ],
)  # fmt: skip
def test_what_came_through_a_proxy_is_refused(name: bytes) -> None:
    assert refused(request(HOST, (name, b""))).rule == "forwarded"
    assert refused(request(HOST, (name, b"x")), anybody=True).rule == "forwarded"


# --- Origin ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [b"127.0.0.1:8000", b"localhost:8000"])
def test_our_own_origin_passes(host: bytes) -> None:
    judge(request((b"host", host), (b"origin", b"http://" + host), method="POST"))


@pytest.mark.parametrize(
    "origin",
    [
        b"null", b"http://evil.example", b"http://127.0.0.1:3000", b"http://localhost:8000", b"https://127.0.0.1:8000",
        b"http://127.0.0.1:8000.evil.example", b"http://127.0.0.1:8000/", b"",
    ],
)  # fmt: skip
def test_every_other_origin_is_refused(origin: bytes) -> None:
    error = refused(request(HOST, (b"origin", origin), method="POST"))
    assert (error.rule, error.flag) == ("origin", "--cors-origin")
    assert refused(request(HOST, (b"origin", origin)), anybody=True).rule == "origin"


def test_an_origin_given_by_flag_passes_and_its_neighbours_do_not() -> None:
    allowed = frozenset({"http://127.0.0.1:3000"})
    judge(request(HOST, (b"origin", b"http://127.0.0.1:3000"), method="POST"), origins=allowed)
    for other in (b"http://127.0.0.1:3001", b"null", b"http://localhost:3000"):
        assert refused(request(HOST, (b"origin", other)), origins=allowed).rule == "origin"


def test_two_origins_are_refused() -> None:
    own = (b"origin", b"http://127.0.0.1:8000")
    assert refused(request(HOST, own, own)).rule == "origin"


# --- Sec-Fetch-Site --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "method", "passes"),
    [
        (b"same-origin", "POST", True),
        (b"same-origin", "GET", True),
        (b"none", "GET", True),
        (b"none", "HEAD", True),
        (b"none", "POST", False),
        (b"none", "PUT", False),
        (b"same-site", "GET", False),
        (b"cross-site", "GET", False),
        (b"cross-site", "POST", False),
        (b"", "GET", False),
        (b"anything", "GET", False),
    ],
)
def test_a_browser_may_ask_for_its_own_site_only(site: bytes, method: str, passes: bool) -> None:
    scope = request(HOST, (b"sec-fetch-site", site), method=method)
    if passes:
        judge(scope)
    else:
        error = refused(scope)
        assert (error.rule, error.flag) == ("sec-fetch-site", "--cors-origin")


def test_an_allowed_origin_may_ask_from_its_own_site() -> None:
    scope = request(
        HOST, (b"origin", b"https://app.example"), (b"sec-fetch-site", b"cross-site"), method="POST"
    )
    judge(scope, origins=frozenset({"https://app.example"}))


def test_an_allowed_origin_does_not_open_requests_without_one() -> None:
    scope = request(HOST, (b"sec-fetch-site", b"cross-site"))
    assert refused(scope, origins=frozenset({"https://app.example"})).rule == "sec-fetch-site"


def test_our_own_origin_does_not_hide_another_site() -> None:
    scope = request(HOST, (b"origin", b"http://127.0.0.1:8000"), (b"sec-fetch-site", b"same-site"))
    assert refused(scope).rule == "sec-fetch-site"


# --- the guard -------------------------------------------------------------------------------------


class Application:
    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1


async def unread() -> Any:
    raise AssertionError("a body was read before the request was judged")


async def unsent(message: Any) -> None:
    raise AssertionError(message)


async def call(scope: Any, *, uid: int | None = None, **rules: Any) -> tuple[int, int]:
    """Return how often the application and the lookup were called, for two requests of a connection."""
    application, lookups = Application(), []

    def peer_uid(client: Any, server: Any) -> int | None:
        lookups.append((client, server))
        return uid

    guard = OpenModeGuard(
        application, rules=OpenModeRules(**rules), browsers=Browsers(visitor_service()), peer_uid=peer_uid
    )
    await guard(scope, unread, unsent)
    await guard(scope, unread, unsent)
    return application.calls, len(lookups)


@pytest.mark.parametrize("uid", sorted({os.geteuid(), 0}))
async def test_our_own_user_and_root_pass_and_are_looked_up_once(uid: int) -> None:
    assert await call(request(HOST), uid=uid) == (2, 1)


@pytest.mark.parametrize("uid", [os.geteuid() + 1, 65_534, None])
async def test_another_user_or_nobody_is_refused_with_the_flag(uid: int | None) -> None:
    with pytest.raises(NotLocal) as caught:
        await call(request(HOST), uid=uid)
    assert (caught.value.rule, caught.value.flag) == ("user", "--local-users")


async def test_local_users_lets_other_users_in() -> None:
    assert await call(request(HOST), uid=os.geteuid() + 1, local_users=True) == (2, 0)


async def test_open_has_no_rules_of_names_and_users() -> None:
    scope = request((b"host", b"files.example"), server=("0.0.0.0", 8000))
    assert await call(scope, uid=None, anybody=True) == (2, 0)


async def test_open_keeps_the_other_rules() -> None:
    with pytest.raises(NotLocal):
        await call(request(HOST, (b"origin", b"http://evil.example")), anybody=True)


async def test_without_a_place_to_remember_every_request_is_looked_up() -> None:
    scope = request(HOST, extensions={})
    assert await call(scope, uid=os.geteuid()) == (2, 2)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_are_exempt(path: str) -> None:
    assert await call(request((b"host", b"10.0.0.1"), (b"via", b"x"), path=path)) == (2, 0)


@pytest.mark.parametrize(
    "path", ["/healthz/", "/metrics", "/", "/openapi.json", "//healthz", "/healthz/../api"]
)
async def test_nothing_else_is_exempt(path: str) -> None:
    with pytest.raises(HostRefused):
        await call(request((b"host", b"10.0.0.1"), path=path))


# --- whose connection ------------------------------------------------------------------------------


@contextmanager
def connection(listening: int, server: str, client: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(listening))
        if listening == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((server, 0))
        listener.listen()
        family = socket.AF_INET6 if ":" in client else socket.AF_INET
        near = stack.enter_context(socket.socket(family))
        near.connect((client, listener.getsockname()[1]))
        far = stack.enter_context(listener.accept()[0])
        yield near, far


KINDS = [
    (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
    (socket.AF_INET6, "::1", "::1"),
    (socket.AF_INET6, "::", "127.0.0.1"),  # seen as ::ffff:127.0.0.1, listed as IPv4
    (socket.AF_INET, "127.0.0.1", "::ffff:127.0.0.1"),  # seen as 127.0.0.1, listed as IPv6
]
linux = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="/proc/net/tcp is Linux's")


@linux
@pytest.mark.parametrize("kind", KINDS)
def test_the_kernel_says_whose_connection_it_is(kind: tuple[int, str, str]) -> None:
    with connection(*kind) as (_, far):
        assert socket_uid(far.getpeername()[:2], far.getsockname()[:2]) == os.geteuid()


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a moment")
@pytest.mark.parametrize("kind", KINDS)
def test_a_socket_of_another_user_is_told_as_such(kind: tuple[int, str, str]) -> None:
    os.seteuid(12_345)
    try:
        with connection(*kind) as (_, far):
            os.seteuid(0)
            assert socket_uid(far.getpeername()[:2], far.getsockname()[:2]) == 12_345
    finally:
        os.seteuid(0)


@linux
@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_closed_end_belongs_to_nobody_not_to_root(kind: tuple[int, str, str]) -> None:
    with connection(*kind) as (near, far):
        ends = far.getpeername()[:2], far.getsockname()[:2]
        near.close()
        assert socket_uid(*ends) is None


@linux
def test_an_end_that_does_not_exist_belongs_to_nobody() -> None:
    assert socket_uid(("127.0.0.1", 1), ("127.0.0.1", 2)) is None
    assert socket_uid(("testclient", 1), ("127.0.0.1", 2)) is None
