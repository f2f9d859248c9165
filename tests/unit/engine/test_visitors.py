"""Visitors come back by what was signed for them, last as long as they are seen, and leave their records."""

from typing import Any

import pytest

from haulier.core.caller import Caller, Role, Scope
from haulier.core.errors import RecordNotFound, StorageUnavailable, VisitorNotFound
from haulier.core.session import SessionStatus
from haulier.core.upload import BeginUpload
from haulier.core.visitor import Visitor, sign_visitor
from haulier.engine.visitors import ADOPTED_BATCH, ENDED_BATCH, MAX_USER_AGENT, Seen
from haulier.testing import ManualClock, MemoryDatabase
from tests.support.bodies import FakeBody
from tests.support.engine import CHUNK, Engine, engine
from tests.support.visitors import SECRET, TTL_S, visitor_service


class World:
    """Visitors on rows of their own."""

    def __init__(self) -> None:
        self.clock = ManualClock(1000.0)
        self.database: Any = MemoryDatabase()
        self.visitors = visitor_service(self.database, self.clock)

    async def begin(self) -> tuple[Visitor, str]:
        visitor = await self.visitors.begin("Firefox")
        return visitor, self.visitors.signed(visitor)


@pytest.fixture
def world() -> World:
    return World()


async def test_a_new_visitor_lasts_for_its_time_and_says_what_its_browser_is(world: World) -> None:
    visitor, _ = await world.begin()
    assert (visitor.created_at, visitor.last_seen_at, visitor.expires_at) == (1000.0, 1000.0, 1000.0 + TTL_S)
    assert dict(visitor.metadata) == {"user_agent": "Firefox"}
    assert visitor.principal is None


async def test_what_a_browser_says_of_itself_is_cut_or_left_out(world: World) -> None:
    assert dict((await world.visitors.begin("x" * 10_000)).metadata) == {"user_agent": "x" * MAX_USER_AGENT}
    assert dict((await world.visitors.begin(None)).metadata) == {}


async def test_a_visitor_is_found_again_by_what_was_signed_for_it(world: World) -> None:
    visitor, signed = await world.begin()
    other, _ = await world.begin()
    assert visitor.id != other.id
    assert await world.visitors.find([signed]) == Seen(visitor, extended=False)


@pytest.mark.parametrize("key", [b"", b"another key", SECRET + b"x"])
async def test_a_forged_text_names_nobody(world: World, key: bytes) -> None:
    visitor, _ = await world.begin()
    assert await world.visitors.find([sign_visitor(visitor.id, key), visitor.id, ""]) is None


async def test_an_id_that_is_unknown_by_now_names_nobody(world: World) -> None:
    assert await world.visitors.find([sign_visitor("v", SECRET)]) is None


async def test_the_first_text_that_names_one_who_lives_counts(world: World) -> None:
    visitor, signed = await world.begin()
    found = await world.visitors.find(["nonsense", sign_visitor("v", SECRET), signed])
    assert found == Seen(visitor, extended=False)


async def test_an_ended_visitor_is_nobody_before_any_janitor_came(world: World) -> None:
    visitor, signed = await world.begin()
    world.clock.advance(TTL_S)
    assert await world.visitors.find([signed]) is None
    with pytest.raises(VisitorNotFound):
        await world.visitors.extend(visitor)


async def test_being_seen_moves_the_end_once_a_minute(world: World) -> None:
    _, signed = await world.begin()
    world.clock.advance(59)
    early = await world.visitors.find([signed])
    world.clock.advance(1)
    later = await world.visitors.find([signed])
    assert early is not None
    assert later is not None
    assert (early.extended, early.visitor.expires_at) == (False, 1000.0 + TTL_S)
    assert (later.extended, later.visitor.expires_at) == (True, 1060.0 + TTL_S)
    assert world.visitors.remaining_s(later.visitor) == TTL_S


async def test_a_short_time_is_moved_in_tenths(world: World) -> None:
    visitors = visitor_service(world.database, world.clock, seed=1, ttl_s=10.0)
    signed = visitors.signed(await visitors.begin(None))
    world.clock.advance(9)
    found = await visitors.find([signed])
    assert found is not None
    assert (found.extended, found.visitor.expires_at) == (True, 1019.0)


async def test_a_browser_that_is_always_seen_never_ends(world: World) -> None:
    _, signed = await world.begin()
    for _ in range(4):
        world.clock.advance(TTL_S / 2)
        assert await world.visitors.find([signed]) is not None


async def test_a_shorter_setting_takes_nothing_from_those_who_were_promised_more(world: World) -> None:
    visitor, signed = await world.begin()
    shorter = visitor_service(world.database, world.clock, seed=1, ttl_s=10.0)
    world.clock.advance(100)
    assert await shorter.find([signed]) == Seen(visitor, extended=False)


async def test_a_database_that_takes_no_writes_keeps_nobody_out(world: World) -> None:
    visitor, signed = await world.begin()
    world.clock.advance(100)

    class Full:
        read = staticmethod(world.database.read)

        @staticmethod
        async def write(*_: Any, **__: Any) -> Any:
            raise StorageUnavailable("no room")

    full = visitor_service(Full(), world.clock)
    assert await full.find([signed]) == Seen(visitor, extended=False)


async def test_one_that_is_cleared_in_the_moment_it_comes_back_is_nobody(world: World) -> None:
    visitor, signed = await world.begin()
    world.clock.advance(TTL_S / 2)
    real = world.database.write

    async def write(work: Any, **how: Any) -> Any:
        world.database.write = real
        await world.visitors.clear(visitor)
        return await real(work, **how)

    world.database.write = write
    assert await world.visitors.find([signed]) is None


async def test_extending_gives_the_whole_time_at_once(world: World) -> None:
    visitor, _ = await world.begin()
    world.clock.advance(1)
    assert (await world.visitors.extend(visitor)).expires_at == 1001.0 + TTL_S


async def test_whether_visitors_are_admitted_is_a_matter_of_capsules(world: World) -> None:
    assert not await world.visitors.admitted()


async def put(one: Engine, caller: Caller, data: bytes = b"12345") -> Any:
    """Bring a file in as somebody; return its upload."""
    begun = await one.uploads.begin(BeginUpload(filename="a.bin", size=len(data)), caller=caller)
    await one.uploads.put_chunk(begun.upload.id, 0, FakeBody(data), caller=caller)
    return (await one.uploads.finish(begun.upload.id, caller=caller)).upload


async def visit(one: Engine) -> tuple[Visitor, Caller]:
    """Return a visitor of a service in open mode."""
    visitor = await one.visitors.begin(None)
    return visitor, Caller(owner=visitor.owner, scope=Scope.OPERATOR)


async def test_a_visitors_end_takes_what_it_had_under_way_and_leaves_its_records() -> None:
    async with engine() as one:
        visitor, caller = await visit(one)
        done = await put(one, caller)
        # Kept alive to the last, so that its own time is not over.
        one.clock.advance(TTL_S - 10)
        await one.janitor.sweep()
        begun = await one.uploads.begin(BeginUpload(filename="b", size=CHUNK), caller=caller)
        one.clock.advance(10)
        await one.janitor.sweep()
        assert ("visitors", 1) in one.swept
        assert await one.database.read(lambda tx: tx.visitors.load(visitor.id)) is None
        state = await one.uploads.state(begun.upload.id, caller=caller)
        assert state.upload.status is SessionStatus.EXPIRED
        record = await one.records.get(done.details.record, caller=caller)
        assert record.assets
        assert record.owner == visitor.owner


async def test_clearing_ends_a_visitor_at_once_and_leaves_its_records() -> None:
    async with engine() as one:
        visitor, caller = await visit(one)
        done = await put(one, caller)
        begun = await one.uploads.begin(BeginUpload(filename="b", size=CHUNK), caller=caller)
        await one.visitors.clear(visitor)
        await one.visitors.clear(visitor)
        assert await one.visitors.find([one.visitors.signed(visitor)]) is None
        assert await one.uploads.expire() == 1
        state = await one.uploads.state(begun.upload.id, caller=caller)
        assert state.upload.status is SessionStatus.EXPIRED
        assert (await one.records.get(done.details.record, caller=caller)).assets


async def test_clearing_one_that_is_gone_touches_no_upload_of_its_owner() -> None:
    async with engine() as one:
        visitor, caller = await visit(one)
        await one.visitors.clear(visitor)
        await one.uploads.begin(BeginUpload(filename="b", size=CHUNK), caller=caller)
        await one.visitors.clear(visitor)
        assert await one.uploads.expire() == 0


async def test_more_visitors_end_than_one_transaction_removes(world: World) -> None:
    for _ in range(ENDED_BATCH + 1):
        await world.begin()
    world.clock.advance(TTL_S)
    assert await world.visitors.purge(now=world.clock.now()) == ENDED_BATCH + 1
    assert await world.visitors.purge(now=world.clock.now()) == 0


ALICE = Caller(owner="user:alice", scope=Scope.WRITE)


async def closed() -> Engine:
    """Return a service with tokens whose capsule `default` admits visitors."""
    one = Engine(opened=False)
    await one.accounts.set_capsule("default", {"admits_visitors": "true"})
    return one


async def test_who_signs_in_gets_what_the_browsers_visitor_made() -> None:
    one = await closed()
    visitor = await one.visitors.begin(None)
    caller = Caller(owner=visitor.owner, scope=Scope.WRITE)
    done = [await put(one, caller) for _ in range(ADOPTED_BATCH + 1)]
    begun = await one.uploads.begin(BeginUpload(filename="b", size=5), caller=caller)
    assert await one.visitors.adopt(visitor, ALICE) == ADOPTED_BATCH + 2
    assert await one.visitors.adopt(visitor, ALICE) == 0
    found = await one.visitors.find([one.visitors.signed(visitor)])
    assert found is not None
    assert found.visitor.principal == "user:alice"
    for it in (done[0], done[-1]):
        assert (await one.records.get(it.details.record, caller=ALICE)).owner == "user:alice"
        with pytest.raises(RecordNotFound):
            await one.records.get(it.details.record, caller=caller)
    # What was under way goes on, as the principal's, and by its own token.
    by_token = await one.uploads.caller_of_token(begun.upload.id, begun.token)
    assert by_token.owner == "user:alice"
    await one.uploads.put_chunk(begun.upload.id, 0, FakeBody(b"12345"), caller=by_token)
    state = await one.uploads.finish(begun.upload.id, caller=ALICE)
    assert state.upload.status is SessionStatus.COMMITTED
    await one.background.stop(grace_s=1)


async def test_what_lies_where_the_principal_may_not_write_stays_the_visitors() -> None:
    one = await closed()
    await one.accounts.create_capsule("lobby", owner="user:boss")
    await one.accounts.set_capsule("lobby", {"admits_visitors": "true"})
    await one.accounts.grant("lobby", "user:alice", Role.READER)
    visitor = await one.visitors.begin(None)
    caller = Caller(owner=visitor.owner, scope=Scope.WRITE)
    begun = await one.uploads.begin(BeginUpload(filename="b", size=5, capsule="lobby"), caller=caller)
    assert await one.visitors.adopt(visitor, ALICE) == 0
    assert (await one.uploads.state(begun.upload.id, caller=caller)).upload.spec.owner == visitor.owner
    await one.background.stop(grace_s=1)
