"""Who follows hears of each thing how it is now, in the order of the last changes, and when something was missed."""

import asyncio
from collections.abc import Callable

import pytest

from haulier.core.news import News
from haulier.engine import followers as module
from haulier.engine.followers import Follower, Followers
from tests.support.engine import beside


def changed(value: str) -> News[str]:
    return News(value, changed=True)


def is_over(follower: Follower[str]) -> bool:
    return follower.over


def moved(value: str) -> News[str]:
    return News(value, changed=False)


async def test_of_each_thing_the_newest_is_heard_once() -> None:
    followers: Followers[str] = Followers()
    with followers.following() as follower:
        for key, news in (("a", moved("a1")), ("b", changed("b1")), ("a", moved("a2"))):
            followers.tell(key, news)
        assert follower.hear() == (False, [changed("b1"), moved("a2")])
        assert follower.hear() == (False, [])


async def test_a_change_that_was_not_heard_of_is_still_one_after_progress() -> None:
    followers: Followers[str] = Followers()
    with followers.following() as follower:
        followers.tell("a", changed("begun"))
        followers.tell("a", moved("further"))
        assert follower.hear() == (False, [changed("further")])
        followers.tell("a", moved("still further"))
        assert follower.hear() == (False, [moved("still further")])


async def test_each_hears_what_is_told_while_it_follows() -> None:
    followers: Followers[str] = Followers()
    followers.tell("a", changed("before"))
    with followers.following() as first:
        followers.tell("a", changed("one"))
        with followers.following() as second:
            assert len(followers) == 2
            followers.tell("b", changed("two"))
            assert second.hear() == (False, [changed("two")])
        assert first.hear() == (False, [changed("one"), changed("two")])
    assert len(followers) == 0


async def test_who_lags_too_far_is_told_so_and_hears_what_comes_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BEHIND", 2)
    followers: Followers[str] = Followers()
    with followers.following() as follower:
        for key in ("a", "b", "a", "b"):
            followers.tell(key, changed(key))
        assert follower.hear() == (False, [changed("a"), changed("b")])
        for key in ("a", "b", "c", "d"):
            followers.tell(key, changed(key))
        assert follower.hear() == (True, [changed("d")])
        followers.tell("a", changed("a"))
        followers.tell_missed()
        assert follower.hear() == (True, [])


async def test_who_waits_is_woken_by_news_by_a_loss_and_by_the_end() -> None:
    followers: Followers[str] = Followers()
    with followers.following() as follower:
        tells: list[Callable[[], None]] = [lambda: followers.tell("a", changed("a")), followers.tell_missed]
        for tell in tells:
            waiting = beside(follower.wait())
            await asyncio.sleep(0)
            assert not waiting.done()
            tell()
            await asyncio.wait_for(waiting, 60)
            follower.hear()
        waiting = beside(follower.wait())
        followers.close()
        await asyncio.wait_for(waiting, 60)


async def test_after_the_end_what_is_there_is_heard_and_then_it_is_over() -> None:
    followers: Followers[str] = Followers()
    with followers.following() as follower:
        followers.tell("a", changed("last"))
        followers.close()
        assert is_over(follower) is False
        assert follower.hear() == (False, [changed("last")])
        assert is_over(follower) is True
        await asyncio.wait_for(follower.wait(), 60)
    with followers.following() as later:
        followers.tell("a", changed("first"))
        assert later.hear() == (False, [changed("first")])
        assert is_over(later) is False
