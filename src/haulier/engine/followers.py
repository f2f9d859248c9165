"""Who follows things that change, and hears of each how it is now.

Rule 1: whoever is slow hears less often, and of each thing the newest: nothing is told twice, nothing piles up.
Rule 2: one that lags too far is told that it has missed something, and looks at all of them anew.
Where every change counts, and not how things are, `send_watch` is the one to read.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

from haulier.core.news import News

T = TypeVar("T")

MAX_BEHIND: Final = 1_000
"""Things that are new to a follower at a time, a megabyte or so. Who lags further is better off looking anew."""


class Followers(Generic[T]):
    """All who follow."""

    def __init__(self) -> None:
        self._followers: dict[Follower[T], None] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._followers)

    @contextmanager
    def following(self) -> "Iterator[Follower[T]]":
        """Give one who hears what is told from now on."""
        follower: Follower[T] = Follower()
        self._followers[follower] = None
        try:
            yield follower
        finally:
            del self._followers[follower]

    def tell(self, key: str, news: News[T]) -> None:
        """Tell all how the thing of that key is now."""
        for follower in self._followers:
            follower.take(key, news)

    def tell_missed(self) -> None:
        """Tell all that something may have happened that nobody tells."""
        for follower in self._followers:
            follower.miss()

    def close(self) -> None:
        """Let all come to their end who follow now."""
        for follower in self._followers:
            follower.close()


class Follower(Generic[T]):
    """What one who follows has not heard yet."""

    def __init__(self) -> None:
        self._news: dict[str, News[T]] = {}
        self._missed = False
        self._closed = False
        self._woken = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether nothing comes any more."""
        return self._closed and not self._news and not self._missed

    def take(self, key: str, news: News[T]) -> None:
        """Put it behind what is there; what is older of the same thing goes."""
        news = news.over(self._news.pop(key, None))
        if len(self._news) == MAX_BEHIND:
            self.miss()
            return
        self._news[key] = news
        self._woken.set()

    def miss(self) -> None:
        """Be told to look anew, which makes all that was new old."""
        self._news.clear()
        self._missed = True
        self._woken.set()

    def close(self) -> None:
        """Come to the end after what is there."""
        self._closed = True
        self._woken.set()

    async def wait(self) -> None:
        """Wait until there is something to hear, or nothing any more."""
        await self._woken.wait()

    def hear(self) -> tuple[bool, list[News[T]]]:
        """Return whether something was missed, and what is new since then."""
        if not self._closed:
            self._woken.clear()
        missed, self._missed = self._missed, False
        news, self._news = list(self._news.values()), {}
        return missed, news
