"""Things that come at the same time, done together."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from haulier.core.errors import StorageFull, StorageUnavailable
from haulier.engine.background import Background
from haulier.engine.gathering import MOST, Gathering
from tests.support.engine import beside


class Refused(Exception):
    """What the doer says of one thing."""


class Doer:
    """Does things when it is let, and remembers in which steps."""

    def __init__(self) -> None:
        self.steps: list[list[str]] = []
        self.begun = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.refused: set[str] = set()
        self.failures: dict[int, Exception] = {}
        """By the number of the step."""

    async def do(self, key: str, things: Sequence[str]) -> None:
        """Do all of them, or none."""
        number = len(self.steps)
        self.steps.append([key, *things])
        self.begun.set()
        await self.may_go_on.wait()
        if failure := self.failures.get(number):
            raise failure
        if refused := self.refused.intersection(things):
            raise Refused(*sorted(refused))


class Scene:
    """A gathering, what does its things, and those that wait."""

    def __init__(self, background: Background) -> None:
        self.doer = Doer()
        self.background = background
        self.gathering: Gathering[str, str] = Gathering(self.doer.do, background)

    def add(self, *things: str, key: str = "key") -> list[asyncio.Task[None]]:
        """Let somebody wait for each of these."""
        return [beside(self.gathering.add(key, thing)) for thing in things]

    async def hold(self, thing: str, key: str = "key") -> asyncio.Task[None]:
        """Let one be under way until `go_on`."""
        self.doer.may_go_on.clear()
        self.doer.begun.clear()
        [waiting] = self.add(thing, key=key)
        await self.doer.begun.wait()
        return waiting

    async def go_on(self, *waiting: asyncio.Task[None]) -> list[BaseException | None]:
        """Let all be done, and return what came of them."""
        self.doer.may_go_on.set()
        return await asyncio.gather(*waiting, return_exceptions=True)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    background = Background()
    yield Scene(background)
    await background.stop(grace_s=0)


class TestTogether:
    async def test_one_alone_is_done_at_once(self, scene: Scene) -> None:
        await scene.gathering.add("key", "a")
        await scene.gathering.add("key", "b")
        assert scene.doer.steps == [["key", "a"], ["key", "b"]]

    async def test_what_comes_while_one_is_being_done_is_done_together_and_in_order(
        self, scene: Scene
    ) -> None:
        first = await scene.hold("a")
        others = scene.add("b", "c", "d")
        assert await scene.go_on(first, *others) == [None] * 4
        assert scene.doer.steps == [["key", "a"], ["key", "b", "c", "d"]]

    async def test_what_comes_turn_after_turn_is_done_together(self, scene: Scene) -> None:
        waiting = []
        for thing in "abcde":
            waiting += scene.add(thing)
            await asyncio.sleep(0)
        assert await scene.go_on(*waiting) == [None] * 5
        assert scene.doer.steps == [["key", "a", "b", "c", "d", "e"]]

    async def test_what_comes_after_a_turn_of_nothing_is_not_waited_for(self, scene: Scene) -> None:
        [first] = scene.add("a")
        await scene.doer.begun.wait()
        assert await scene.go_on(first, *scene.add("b")) == [None, None]
        assert scene.doer.steps == [["key", "a"], ["key", "b"]]

    async def test_so_many_are_begun_though_each_turn_brings_more(self, scene: Scene) -> None:
        waiting = []
        for number in range(MOST + 1):
            waiting += scene.add(str(number))
            await asyncio.sleep(0)
        await scene.go_on(*waiting)
        assert [len(step) - 1 for step in scene.doer.steps] == [MOST, 1]

    async def test_nobody_is_told_before_its_own_is_done(self, scene: Scene) -> None:
        first = await scene.hold("a")
        [other] = scene.add("b")
        for _ in range(5):
            await asyncio.sleep(0)
        assert (first.done(), other.done(), scene.doer.steps) == (False, False, [["key", "a"]])
        await scene.go_on(first, other)

    async def test_those_of_another_key_wait_for_nobody(self, scene: Scene) -> None:
        first = await scene.hold("a", key="x")
        second = await scene.hold("b", key="y")
        assert scene.doer.steps == [["x", "a"], ["y", "b"]]
        assert await scene.go_on(first, second) == [None, None]

    async def test_so_many_are_done_together_and_no_more(self, scene: Scene) -> None:
        first = await scene.hold("a")
        others = scene.add(*map(str, range(MOST + 2)))
        await scene.go_on(first, *others)
        assert [len(step) - 1 for step in scene.doer.steps] == [1, MOST, 2]


class TestOutcomes:
    async def test_one_that_is_refused_takes_nobody_with_it(self, scene: Scene) -> None:
        first = await scene.hold("a")
        others = scene.add("b", "c", "d")
        scene.doer.refused = {"c"}
        outcomes = await scene.go_on(first, *others)
        assert [type(outcome) for outcome in outcomes] == [type(None), type(None), Refused, type(None)]
        assert scene.doer.steps[1:] == [["key", "b", "c", "d"], ["key", "b"], ["key", "c"], ["key", "d"]]

    async def test_what_finds_no_room_together_may_find_it_alone(self, scene: Scene) -> None:
        first = await scene.hold("a")
        others = scene.add("b", "c")
        scene.doer.failures = {1: StorageFull(2), 3: StorageFull(1)}
        outcomes = await scene.go_on(first, *others)
        assert [type(outcome) for outcome in outcomes] == [type(None), type(None), StorageFull]

    async def test_what_may_have_been_done_is_not_done_again(self, scene: Scene) -> None:
        first = await scene.hold("a")
        others = scene.add("b", "c")
        scene.doer.failures = {1: StorageUnavailable("lost during a commit")}
        [_, *outcomes] = await scene.go_on(first, *others)
        assert [type(outcome) for outcome in outcomes] == [StorageUnavailable] * 2
        assert scene.doer.steps[1:] == [["key", "b", "c"]]

    async def test_one_that_is_cancelled_is_done_all_the_same(self, scene: Scene) -> None:
        first = await scene.hold("a")
        [gone, other] = scene.add("b", "c")
        await asyncio.sleep(0)
        gone.cancel()
        outcomes = await scene.go_on(first, gone, other)
        assert [type(outcome) for outcome in outcomes] == [type(None), asyncio.CancelledError, type(None)]
        assert scene.doer.steps[1:] == [["key", "b", "c"]]

    async def test_what_the_end_of_the_service_cuts_leaves_nobody_waiting(self, scene: Scene) -> None:
        first = await scene.hold("a")
        others = scene.add("b", "c")
        await asyncio.sleep(0)
        await scene.background.stop(grace_s=0)
        outcomes = await asyncio.gather(first, *others, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 3
        await scene.go_on()
        await scene.gathering.add("key", "d")
        assert scene.doer.steps == [["key", "a"], ["key", "d"]]
