"""The real upload side of a node with a hundred users and mixed files, in virtual time.

Whoever always has something waiting has as many turns as any other, within one, as long as no turn takes longer than a
round of all users; who is privileged goes first and starves nobody; no slot idles while somebody could start.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from haulier.core.transfer import Outcome
from haulier.engine.slots import Lease
from haulier.ports import SharedFile
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.offer import Offer, Offers, Unreached
from haulier.soulseek.peer_links import PeerLink
from haulier.soulseek.peer_messages import QueueUpload
from haulier.soulseek.shares import Shares
from haulier.soulseek.surroundings import Surroundings
from haulier.soulseek.tasks import Tasks
from haulier.soulseek.upload import UploadRules
from haulier.soulseek.uploads import Uploads
from tests.simulation.loop import SimLoop, new_loop

SCHEDULES: Final = range(4)
USERS: Final = 100
EACH: Final = 60
"""Files that a user has waiting at the start."""
SIZES: Final = (10_000, 300_000, 4_000_000, 9_000_000, 40_000_000, 200_000_000)
RATE: Final = 10_000_000
STARTS: Final = 400
"""Turns that are watched: four rounds of all users."""


class Scene:
    """Uploads whose peers take what they are offered, in the time that it takes."""

    def __init__(
        self, loop: SimLoop, seed: int, *, privileged: frozenset[str] = frozenset(), faults: float = 0.0
    ) -> None:
        self.chance = random.Random(f"{seed}/files")
        self.faults = faults
        self.files: dict[str, SharedFile] = {}
        self.starts: list[str] = []
        self.turns: Counter[str] = Counter()
        nothing = lambda *_, **__: None  # noqa: E731 - a hole to drop things into
        tasks = Tasks(nothing)
        clock = SimpleNamespace(now=loop.time, monotonic=loop.time, sleep=asyncio.sleep)
        up = SimpleNamespace(is_set=lambda: True)
        link = SimpleNamespace(watch=nothing, unwatch=nothing, tell=nothing, privileged=privileged, up=up)
        around: dict[str, Any] = {
            "peers": SimpleNamespace(is_trusted=self._trusted, ask=self._hear),
            "link": link,
            "ledger": SimpleNamespace(put=nothing),
            "clock": clock,
        }
        self.now = loop.time
        self.uploads = Uploads(
            Surroundings(**around, bounds=Bounds(retry_base_s=5.0), spawn=tasks, log=nothing),
            shares=cast("Shares", SimpleNamespace(find=self._find)),
            offers=cast("Offers", SimpleNamespace(make=self._make)),
            rules=UploadRules(),
        )
        self.tasks = tasks
        self._grant = self.uploads._slots.acquire_nowait
        self.uploads._slots.acquire_nowait = self._count  # type: ignore[method-assign] # to watch it

    def _count(self, line: str, *, small: bool = False) -> Lease | None:
        self.starts.append(line)
        self.turns[line] += 1
        return self._grant(line, small=small)

    async def _trusted(self, link: PeerLink) -> bool:
        return True

    async def _hear(self, user: str, *messages: object) -> None:
        """A notice reaches its peer."""

    async def _find(self, path: str) -> SharedFile | None:
        return self.files.get(path)

    async def _make(self, offer: Offer) -> bool:
        """A peer takes the file, at the rate of its line; some cannot be reached for a while."""
        offer.become(offer.transfer.request())
        if self.chance.random() < self.faults:
            await asyncio.sleep(2.0)
            raise Unreached("nobody answers")
        offer.become(offer.transfer.initialize())
        offer.become(offer.transfer.begin(0, now=self.now()))
        await asyncio.sleep(offer.file.size / RATE)
        offer.become(offer.transfer.confirm(offer.file.size, now=self.now()))
        return True

    async def ask(self, user: str) -> None:
        """A user asks for one more file."""
        path = f"Music\\{len(self.files)}"
        self.files[path] = SharedFile(share="Music", path=path, local="", size=self.chance.choice(SIZES))
        connection = SimpleNamespace(address=f"of {user}")
        link = cast("PeerLink", SimpleNamespace(user=user, connection=connection))
        await self.uploads.take_queue_upload(link, QueueUpload(path))

    async def ask_all(self, users: list[str], each: int) -> None:
        """Let the users ask, in any order, before anything starts."""
        asked = [user for user in users for _ in range(each)]
        self.chance.shuffle(asked)
        self.uploads._started = True
        pump, self.uploads.pump = self.uploads.pump, lambda: None  # type: ignore[method-assign]
        for user in asked:
            await self.ask(user)
        self.uploads.pump = pump  # type: ignore[method-assign]

    async def run_until(self, condition: Callable[[], bool]) -> None:
        self.uploads.start()
        while not condition():  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(1.0)
        await self.uploads.stop()
        await self.tasks.stop()

    def check_slots(self) -> None:
        """No slot idles while somebody could start, and none is held beyond its limits."""
        slots = self.uploads.slots
        assert slots.held <= 10
        ready = self.uploads._queue._turns._ready
        if self.uploads._started and slots.held < 10:
            assert not ready[True], "a privileged user could start"
            assert not ready[False], "a user could start"


@pytest.fixture(params=SCHEDULES)
def schedule(request: pytest.FixtureRequest) -> int:
    return int(request.param)


USER_NAMES: Final = [f"user{number:02}" for number in range(USERS)]


def play(seed: int, scenario: Callable[[SimLoop], Any]) -> None:
    loop = new_loop(seed)
    try:
        loop.run_until_complete(scenario(loop))
    finally:
        loop.unwind()


def test_users_who_always_wait_have_as_many_turns_within_one(schedule: int) -> None:
    async def scenario(loop: SimLoop) -> None:
        scene = Scene(loop, schedule)
        await scene.ask_all(USER_NAMES, EACH)

        def check() -> None:
            scene.check_slots()
            if scene.turns:
                least = min(scene.turns[user] for user in USER_NAMES)
                assert max(scene.turns.values()) - least <= 1, scene.turns

        loop.after_step = check
        await scene.run_until(lambda: len(scene.starts) >= STARTS)
        loop.after_step = lambda: None
        assert scene.uploads.totals.ended.keys() == {Outcome.SUCCEEDED}

    play(schedule, scenario)


def test_privileged_users_go_first_and_starve_nobody(schedule: int) -> None:
    vips = [f"vip{number}" for number in range(20)]

    async def scenario(loop: SimLoop) -> None:
        scene = Scene(loop, schedule, privileged=frozenset(vips))
        await scene.ask_all([*USER_NAMES[:50], *vips], EACH)
        loop.after_step = scene.check_slots
        await scene.run_until(lambda: len(scene.starts) >= STARTS)
        loop.after_step = lambda: None
        for at in range(len(scene.starts) - 3):
            ordinary = sum(user not in vips for user in scene.starts[at : at + 4])
            assert ordinary == 1, scene.starts[at : at + 4]
        turns = [scene.turns[user] for user in USER_NAMES[:50]]
        assert max(turns) - min(turns) <= 1

    play(schedule, scenario)


def test_users_who_cannot_be_reached_cost_the_others_nothing(schedule: int) -> None:
    async def scenario(loop: SimLoop) -> None:
        scene = Scene(loop, schedule, faults=0.3)
        await scene.ask_all(USER_NAMES, 3)
        loop.after_step = scene.check_slots
        await scene.run_until(lambda: not scene.uploads.live)
        loop.after_step = lambda: None
        assert scene.uploads.slots.held == 0
        ended = scene.uploads.totals.ended
        assert ended[Outcome.SUCCEEDED] + ended.get(Outcome.ERRORED, 0) == 3 * USERS
        assert ended[Outcome.SUCCEEDED] > 2 * USERS

    play(schedule, scenario)
