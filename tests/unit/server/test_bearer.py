"""With tokens nobody is let in without one, and nothing is told about what there is."""

from typing import Any

import pytest

from haulier.core.caller import Caller
from haulier.core.errors import Unauthenticated
from haulier.core.secret import make_token
from haulier.core.session import SessionId
from haulier.core.token import SignIn, Token
from haulier.core.upload import UploadDetails
from haulier.server.access import CALLER, NOBODY
from haulier.server.bearer import MAX_TOKEN, REMEMBERED, Callers, TokenGuard, bearer_token
from haulier.server.browsers import Browsers
from haulier.server.errors import HostRefused, RateLimited
from haulier.server.hosts import HostRules
from haulier.server.limits import Buckets
from haulier.testing import ManualClock, MemoryDatabase
from tests.support.visitors import visitor_service

ALICE = Caller(owner="user:alice")
ALICES = make_token(b"a" * 32).reveal()
GUESS = make_token(b"g" * 32).reveal()


class Accounts:
    """Knows one token, and one upload's."""

    def __init__(self) -> None:
        self.lookups: list[str] = []
        self.good = ALICES

    async def find(self, secret: str) -> Caller:
        self.lookups.append(secret)
        if secret == self.good:
            return ALICE
        raise Unauthenticated("the token is not known", given=True)

    async def find_sign_in(self, secret: str) -> SignIn:
        self.lookups.append(secret)
        if secret != self.good:
            raise Unauthenticated("this browser is not signed in any more", given=True)
        token = Token(id="t", principal=ALICE.owner, scope=ALICE.scope, created_at=0.0)
        return SignIn.begin(token, now=0.0)

    async def caller_of_token(self, upload_id: SessionId, secret: str) -> Caller:
        self.lookups.append(f"{upload_id} {secret}")
        if (upload_id, secret) == ("u1", "upload-1"):
            return Caller(owner="user:alice", upload=upload_id)
        raise Unauthenticated("the token is not this upload's own", given=True)


def request(*given: str, path: str = "/api/records", method: str = "GET", address: str = "192.0.2.1") -> Any:
    headers = [(b"authorization", each.encode("latin-1")) for each in given]
    return {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "headers": [(b"host", b"192.0.2.9:8000"), *headers],
        "server": ("192.0.2.9", 8000),
        "client": (address, 1),
    }


@pytest.mark.parametrize("field", [f"Bearer {ALICES}", f"bearer {ALICES}", f"BEARER  {ALICES}"])
def test_a_token_is_read_as_the_standard_writes_it(field: str) -> None:
    assert bearer_token(request(field)) == ALICES


def test_none_is_told_from_a_bad_one() -> None:
    with pytest.raises(Unauthenticated) as caught:
        bearer_token(request())
    assert not caught.value.given


@pytest.mark.parametrize(
    "fields",
    [
        ("",), ("Bearer",), ("Bearer ",), (ALICES,), ("Basic YTpi",), ("Bearer a b",), ("Bearer a, Bearer b",),
        ("Bearer \xe9",), ("Bearer a\x00",), ('Bearer "a"',), ("Bearer " + "a" * MAX_TOKEN,), ("Bearer a", "Bearer a"),
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused_without_a_lookup(fields: tuple[str, ...]) -> None:
    with pytest.raises(Unauthenticated) as caught:
        bearer_token(request(*fields))
    assert caught.value.given
    assert '"' not in caught.value.reason


class World:
    """A guard in front of an application."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.accounts = Accounts()
        self.passed: list[Any] = []
        callers = Callers(self.accounts, self.accounts, Buckets(self.clock, rate=1.0, burst=3.0))
        self.database: MemoryDatabase[UploadDetails] = MemoryDatabase()
        self.visitors = visitor_service(self.database, self.clock)
        self.guard = TokenGuard(
            self.application,
            hosts=HostRules(addresses=True, cure=""),
            callers=callers,
            browsers=Browsers(self.visitors),
            origins=["https://app.example"],
        )

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        self.passed.append(scope)

    async def ask(self, *given: str, **more: Any) -> Any:
        """Return the caller that the application sees; None for nobody."""

        async def unread() -> Any:
            raise AssertionError("a body was read before the request was judged")

        await self.guard(request(*given, **more), unread, None)  # type: ignore[arg-type]  # nothing is sent
        return self.passed[-1].get(CALLER)


@pytest.fixture
def world() -> World:
    return World()


async def test_a_known_token_tells_the_caller(world: World) -> None:
    assert await world.ask(f"Bearer {ALICES}") == ALICE


@pytest.mark.parametrize(
    "path",
    ["/api/records", "/metrics", "/nothing/here", "/healthz/", "/errors/", "/errors/a/b", "/page/"],
)
async def test_nothing_else_is_open(world: World, path: str) -> None:
    for given in ((), ("Bearer hl_bob",)):
        with pytest.raises(Unauthenticated):
            await world.ask(*given, path=path)
    assert world.passed == []


async def test_the_page_is_shown_to_nobody_so_that_he_can_sign_in_but_not_to_a_bad_token(
    world: World,
) -> None:
    assert await world.ask(path="/") == NOBODY
    assert await world.ask(path="/", method="HEAD") == NOBODY
    with pytest.raises(Unauthenticated):
        await world.ask(path="/", method="POST")
    with pytest.raises(Unauthenticated):
        await world.ask("Bearer hl_bob", path="/")


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/openapi.json", "/errors/upload-busy", "/page/a.js"]
)
async def test_probes_and_documents_need_no_token_and_look_at_none(world: World, path: str) -> None:
    assert await world.ask(path=path) is None
    assert await world.ask("Bearer hl_bob", path=path) is None
    assert world.accounts.lookups == []


@pytest.mark.parametrize("path", ["/openapi.json", "/errors/upload-busy", "/page/a.js"])
async def test_documents_are_only_read(world: World, path: str) -> None:
    with pytest.raises(Unauthenticated):
        await world.ask(path=path, method="POST")


async def test_a_preflight_shows_no_token(world: World) -> None:
    with pytest.raises(Unauthenticated):
        await world.ask(method="OPTIONS")
    scope = request(method="OPTIONS")
    scope["headers"].append((b"access-control-request-method", b"POST"))
    await world.guard(scope, None, None)  # type: ignore[arg-type]  # neither is touched
    assert CALLER not in world.passed[0]


async def test_the_name_is_judged_before_the_token(world: World) -> None:
    scope = request(f"Bearer {ALICES}")
    scope["headers"][0] = (b"host", b"evil.example")
    for path in ("/api/records", "/openapi.json"):
        with pytest.raises(HostRefused):
            await world.guard({**scope, "path": path}, None, None)  # type: ignore[arg-type]  # neither is touched
    assert world.accounts.lookups == []


@pytest.mark.parametrize("path", ["/api/uploads/u1", "/api/uploads/u1/chunks/0", "/api/uploads/u1/finish"])
async def test_an_uploads_own_token_is_good_at_its_own_addresses(world: World, path: str) -> None:
    caller = await world.ask("Bearer upload-1", path=path)
    assert (caller.owner, caller.upload) == ("user:alice", "u1")


@pytest.mark.parametrize(
    "path",
    [
        "/api/uploads",
        "/api/uploads/",
        "/api/uploads/u2",
        "/api/records",
        "/api/files/u1",
        "/x/api/uploads/u1",
    ],
)
async def test_an_uploads_own_token_is_good_nowhere_else(world: World, path: str) -> None:
    with pytest.raises(Unauthenticated):
        await world.ask("Bearer upload-1", path=path)


async def test_a_callers_token_is_never_tried_as_an_uploads(world: World) -> None:
    assert await world.ask(f"Bearer {ALICES}", path="/api/uploads/u1") == ALICE
    assert world.accounts.lookups == [ALICES]


async def test_guessing_is_slowed_down_without_lookups(world: World) -> None:
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await world.ask(f"Bearer {GUESS}")
    for _ in range(10):
        with pytest.raises(RateLimited) as caught:
            await world.ask(f"Bearer {GUESS}")
        assert 0 < caught.value.retry_after_s <= 1
    assert len(world.accounts.lookups) == 3
    with pytest.raises(Unauthenticated):
        await world.ask(f"Bearer {GUESS}", address="192.0.2.2")
    world.clock.advance(1)
    with pytest.raises(Unauthenticated):
        await world.ask(f"Bearer {GUESS}")


async def test_who_has_shown_a_good_token_is_not_stopped_by_others_behind_the_same_address(
    world: World,
) -> None:
    assert await world.ask(f"Bearer {ALICES}") == ALICE
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await world.ask(f"Bearer {GUESS}")
    assert await world.ask(f"Bearer {ALICES}") == ALICE


async def test_a_token_that_was_good_is_asked_for_every_time(world: World) -> None:
    assert await world.ask(f"Bearer {ALICES}") == ALICE
    world.accounts.good = "hl_another"
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await world.ask(f"Bearer {ALICES}")
    with pytest.raises(RateLimited):
        await world.ask(f"Bearer {ALICES}")


async def test_a_missing_token_is_no_guess(world: World) -> None:
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            await world.ask()


async def test_no_more_than_so_many_good_tokens_are_remembered(world: World) -> None:
    callers = world.guard._callers
    for number in range(REMEMBERED + 10):
        callers._remember(number.to_bytes(4, "big"))
    assert len(callers._good) == REMEMBERED
