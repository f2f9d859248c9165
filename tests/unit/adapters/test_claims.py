"""Claims inside one process: one holder, first come first served, asked back politely."""

import asyncio

import pytest

from haulier.adapters.claims import LocalClaims
from haulier.core.session import SessionId
from haulier.engine.changes import Changes
from tests.support.engine import beside

A, B = SessionId("a"), SessionId("b")


async def test_claimants_follow_each_other_in_order() -> None:
    claims, order = LocalClaims(), []
    first = await claims.claim(A, "x")

    async def take(number: int) -> None:
        claim = await claims.claim(A, "x")
        order.append(number)
        claim.release()

    waiting = [beside(take(number)) for number in range(3)]
    await asyncio.sleep(0)
    assert order == []
    first.release()
    first.release()
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2]
    assert claims.held() == frozenset()


async def test_different_things_do_not_wait_for_each_other() -> None:
    claims = LocalClaims()
    held = [await claims.claim(A, "x"), await claims.claim(A, "y"), await claims.claim(B, "x")]
    assert claims.held() == {A, B}
    for claim in held:
        claim.release()


async def test_a_holder_is_asked_to_let_go_now_or_as_soon_as_it_listens() -> None:
    claims, asked = LocalClaims(), []
    first = await claims.claim(A, "x")
    second = beside(claims.claim(A, "x", ask=True))
    await asyncio.sleep(0)
    first.on_asked(lambda: asked.append("late"))
    assert asked == ["late"]
    third = beside(claims.claim(A, "x", ask=True))
    await asyncio.sleep(0)
    assert asked == ["late", "late"]
    first.release()
    claim = await second
    claim.on_asked(lambda: asked.append("second"))
    assert asked[-1] == "second"
    claim.release()
    (await third).release()


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    claims = LocalClaims()
    first = await claims.claim(A, "x")
    waiting = beside(claims.claim(A, "x"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.release()
    assert claims.held() == frozenset()


async def test_a_claim_that_arrives_with_the_cancel_is_passed_on() -> None:
    claims = LocalClaims()
    first = await claims.claim(A, "x")
    cancelled = beside(claims.claim(A, "x"))
    next_one = beside(claims.claim(A, "x"))
    await asyncio.sleep(0)
    first.release()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    (await next_one).release()
    assert claims.held() == frozenset()


async def test_idle_waits_for_every_holder() -> None:
    claims, asked = LocalClaims(), []
    held = [await claims.claim(A, "x"), await claims.claim(A, "y"), await claims.claim(B, "x")]
    for claim in held:
        claim.on_asked(lambda: asked.append(1))
    claims.ask_all(A)
    assert asked == [1, 1]
    idle = beside(claims.idle(A))
    await asyncio.sleep(0)
    held[0].release()
    await asyncio.sleep(0)
    assert not idle.done()
    held[1].release()
    await idle
    await claims.idle(A)
    held[2].release()


async def test_changes_wake_their_watchers_only() -> None:
    awake = asyncio.Event()
    told: list[SessionId] = []
    changes = Changes(awake, told.append)
    assert not awake.is_set()
    with changes.watching(A) as one, changes.watching(A) as two, changes.watching(B) as other:
        changes.notify(A)
        assert (one.is_set(), two.is_set(), other.is_set()) == (True, True, False)
        changes.wake_all()
        assert other.is_set()
        assert awake.is_set()
        assert set(changes.watched()) == {A, B}
    changes.notify(A)
    changes.wake(B)
    assert changes._watchers == {}
    assert told == [A, A]
