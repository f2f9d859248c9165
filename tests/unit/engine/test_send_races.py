"""Two processes on one journal, whose owners change their minds at any moment.

What they do is drawn from a seed. Turns that threads take are not: a seed that fails may have to be run several times.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from haulier.adapters.memory.journal import MemoryJournal
from haulier.adapters.memory.remote import Accident, MemoryRemote
from haulier.core.errors import PeerUnreachable, RemoteSessionLost, StorageUnavailable, TransferRemoved
from haulier.core.transfer import Phase, Priority
from haulier.engine.send import UploadManager
from haulier.engine.send_attempt import Attempt
from haulier.engine.send_runner import SendLimits
from haulier.engine.slots import SlotLimits
from tests.support.engine import beside
from tests.support.sending import Sending, settle

SEEDS = (1, 4, 8, 34, 38, 55, 59, 2)
"""All but the last have found a transfer that was started twice, before that was mended."""
FILES = 6
STEPS = 60
LIMITS = SendLimits(slots=SlotLimits(total=3, per_line=2, reserved=1))


class LateJournal(MemoryJournal):
    """Takes turns of the loop before it does what it is asked to, and before it tells that it has, as one in a thread."""

    random: Random

    async def read(self, work: Any) -> Any:
        """Read late."""
        await self._late()
        found = await super().read(work)
        await self._late()
        return found

    async def write(self, work: Any, *, durable: bool = True) -> Any:
        """Write late."""
        await self._late()
        found = await super().write(work, durable=durable)
        await self._late()
        return found

    async def _late(self) -> None:
        for _ in range(self.random.choice((0, 1, 3, 30))):
            await asyncio.sleep(0)


class Attempts:
    """Counts the attempts that run, by transfer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.running: Counter[str] = Counter()
        self.began: Counter[str] = Counter()
        self.at_once: list[str] = []
        run = Attempt.run

        async def counted(attempt: Attempt) -> None:
            name = attempt.row.id
            self.running[name] += 1
            self.began[name] += 1
            if self.running[name] > 1:
                self.at_once.append(name)
            try:
                await run(attempt)
            finally:
                self.running[name] -= 1

        monkeypatch.setattr(Attempt, "run", counted)


def slow_down(
    remote: MemoryRemote, random: Random, over: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let each call take some turns of the loop, and some fail until that is over."""
    errors = (PeerUnreachable("http://remote", "cut"), RemoteSessionLost("gone"))

    def late(call: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
        async def called(*args: Any) -> Any:
            for _ in range(random.randrange(30)):
                await asyncio.sleep(0)
            if not over.is_set() and random.random() < 0.1:
                remote.plan(name, Accident(error=random.choice(errors)))
            return await call(*args)

        return called

    for name in ("create", "offset", "send", "commit", "cancel"):
        monkeypatch.setattr(remote, name, late(getattr(remote, name), name))


async def change_one(manager: UploadManager, random: Random, names: list[str]) -> None:
    name = random.choice(names)
    choices: list[Callable[[], Awaitable[Any]]] = [
        lambda: manager.pause(name),
        lambda: manager.resume(name),
        lambda: manager.resume(name),
        lambda: manager.bump(name),
        lambda: manager.set_priority(name, random.choice(list(Priority))),
        lambda: manager.cancel(name, wait=False) if random.random() < 0.2 else manager.get(name),
        lambda: manager.remove(name) if random.random() < 0.1 else manager.get(name),
    ]
    with suppress(TransferRemoved):
        await random.choice(choices)()


async def ending(first: UploadManager, then: UploadManager, name: str) -> None:
    """Wait until it has ended or is gone; where the first process stops, at the other."""
    with suppress(TransferRemoved):
        try:
            await first.wait(name)
        except StorageUnavailable:
            await then.wait(name)


async def let_all_end(world: Sending, manager: UploadManager, waits: Sequence[asyncio.Task[None]]) -> None:
    """Resume what rests, and let hours go by."""
    for _ in range(50):
        if all(wait.done() for wait in waits):
            return
        for view in (await manager.list(live=True))[0]:
            await manager.resume(view.row.id)
        world.clock.advance(300.0)
        await settle()


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_two_processes_want_meanwhile_one_attempt_runs_and_every_wait_ends(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random, world, attempts, over = Random(seed), Sending(), Attempts(monkeypatch), asyncio.Event()
    for remote in (world.remote, world.ordered):
        slow_down(remote, random, over, monkeypatch)

    def process() -> UploadManager:
        journal = LateJournal(world.journal)
        journal.random = random
        return world.manager(journal=journal, limits=LIMITS)

    async with process() as one, process() as other:
        names: list[str] = []
        for number in range(FILES):
            data = bytes([number]) * random.choice([0, 10, 70_000, 200_000])
            to = random.choice(["any:a", "any:A", "any:b/", "ordered:a", "ordered:b/"])
            names.append(await random.choice([one, other]).queue(world.file(str(number), data), to))
        waits = [beside(ending(random.choice([one, other]), other, name)) for name in dict.fromkeys(names)]
        for step in range(STEPS):
            await asyncio.gather(
                *(
                    change_one(random.choice([one, other]), random, names)
                    for _ in range(random.randrange(1, 4))
                )
            )
            for _ in range(random.choice((0, 2, 10, 60))):
                await asyncio.sleep(0)
            if not random.randrange(4):
                world.clock.advance(random.choice([0.2, 1.0, 30.0]))
            if step == STEPS // 2 and not random.randrange(3):
                await one.stop()
                world.clock.advance(1.0)
                await settle()
                await one.start()
            assert attempts.at_once == []
        over.set()
        await let_all_end(world, other, waits)
        assert [wait.done() for wait in waits] == [True] * len(waits)
        await settle()
        assert attempts.at_once == []
        assert +attempts.running == Counter()
        runners = [it._runner for it in (one, other) if it._runner is not None]
        assert [it.slots.statistics.held for it in runners] == [0]
        left = [row.row.transfer.phase for row in (await other.list())[0]]
        assert set(left) <= {Phase.ENDED}
