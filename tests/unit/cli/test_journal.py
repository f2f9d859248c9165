"""How the commands of the sender tell what became of a transfer."""

import asyncio
from pathlib import Path

import pytest

from haulier.cli.journal import code_of, hindrances_told, is_there, obstacles_told, wait_there
from haulier.core.errors import PeerBlocked, StorageUnavailable
from haulier.core.transfer import Obstacle, Outcome, Phase
from haulier.engine.send import Role
from haulier.testing.journal_contract import T0, row
from tests.support.sending import Sending, in_phase, settle


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.SUCCEEDED, 0),
        (Outcome.CANCELLED, 1),
        (Outcome.SUPERSEDED, 1),
        (Outcome.TIMED_OUT, 1),
        (Outcome.ABORTED, 1),
        (Outcome.ERRORED, 1),
        (Outcome.REJECTED, 4),
    ],
)
def test_the_exit_code_tells_how_a_transfer_ended(outcome: Outcome, code: int) -> None:
    queued = row("a")
    assert code_of(queued.moved(queued.transfer.end(outcome, now=T0), now=T0)) == code


async def test_a_journal_that_is_made_meanwhile_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haulier.engine.send.POLL_S", 0.0)
    place = tmp_path / "home" / "journal.db"
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(wait_there(place, 60.0))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert not place.parent.exists()
        place.parent.mkdir()
        place.touch()
    assert is_there(place)


async def test_a_journal_that_nobody_makes_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    await wait_there(tmp_path / "journal.db", 0.0)
    (tmp_path / "file").touch()
    assert not is_there(tmp_path / "file" / "journal.db")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr("haulier.cli.journal.tell", texts.append)
    return texts


AGAIN = "somebody says haulier transfers resume mine"
SIGN_IN = f"/a: sign in (auth); it waits until that is mended and {AGAIN}"
PAUSED = f"/a: it was paused; it waits until {AGAIN}"


async def test_what_stands_still_before_somebody_waits_for_it_is_told_once(said: list[str]) -> None:
    world = Sending()
    world.remote.plan("create", PeerBlocked(Obstacle.AUTH, "sign in"))
    async with world.running() as manager, obstacles_told(manager) as obstacles:
        await manager.queue(world.file("a", b"1"), "any:a", id="mine")
        await in_phase(manager, "mine", Phase.BLOCKED)
        assert said == []
        for _ in range(2):
            assert await obstacles.look("mine") is not None
        assert said == [SIGN_IN]
        assert await obstacles.look("nobody's") is None


@pytest.mark.parametrize("paused", [True, False], ids=["paused before", "blocked later"])
async def test_what_an_id_joins_later_is_told_too(said: list[str], *, paused: bool) -> None:
    world = Sending()
    gate = world.remote.gate("create")
    world.remote.plan("create", PeerBlocked(Obstacle.AUTH, "sign in"))
    async with (
        world.running() as manager,
        world.running(role=Role.NEVER) as other,
        obstacles_told(other) as obstacles,
    ):
        path = world.file("a", b"1")
        await manager.queue(path, "any:a", id="mine")
        await gate.wait_reached()
        if paused:
            await manager.pause("mine")
            gate.open()
            await in_phase(manager, "mine", Phase.PAUSED, Phase.BLOCKED)
        assert await obstacles.look("yours") is None
        assert await manager.queue(path, "any:a", id="yours") == "mine"
        gate.open()
        await settle()
        for _ in range(3):
            world.clock.advance(1.0)
            await settle()
        assert said == [PAUSED if paused else SIGN_IN]


async def test_what_comes_to_stand_still_is_told_and_told_again_when_it_does_so_again(
    said: list[str],
) -> None:
    world = Sending()
    world.remote.plan("create", *(PeerBlocked(Obstacle.AUTH, "sign in") for _ in range(2)))
    async with world.running() as manager, obstacles_told(manager) as obstacles:
        await manager.queue(world.file("b", b"1"), "any:b")  # nobody waits for that one
        await manager.queue(world.file("a", b"1"), "any:a", id="mine")
        await obstacles.look("mine")
        await in_phase(manager, "mine", Phase.BLOCKED)
        assert said == [SIGN_IN]
        gate = world.remote.gate("create")
        await manager.resume("mine")
        await gate.wait_reached()
        await settle()
        await manager.pause("mine")
        gate.open()
        await in_phase(manager, "mine", Phase.PAUSED)
        assert said == [SIGN_IN, PAUSED]


async def test_whoever_lagged_is_told_of_all_that_he_waits_for(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Sending()
    world.remote.plan("create", PeerBlocked(Obstacle.AUTH, "sign in"))
    async with world.running() as manager, obstacles_told(manager) as obstacles:
        await manager.queue(world.file("a", b"1"), "any:a", id="mine")
        await obstacles.look("mine")
        monkeypatch.setattr("haulier.engine.send_watch.MAX_BEHIND", 0)
        await in_phase(manager, "mine", Phase.BLOCKED)
        assert said == [SIGN_IN]


async def test_what_is_resumed_stands_still_no_more_although_nobody_runs_it(said: list[str]) -> None:
    world = Sending()
    world.remote.plan("create", PeerBlocked(Obstacle.AUTH, "sign in"))
    async with world.running() as manager:
        await manager.queue(world.file("a", b"1"), "any:a", id="mine")
        await in_phase(manager, "mine", Phase.BLOCKED)
    async with world.running(role=Role.NEVER) as observer, obstacles_told(observer) as obstacles:
        assert await observer.queue("/a", "any:a") == "mine"
        view = await obstacles.look("mine")
        assert view is not None
        assert view.row.transfer.phase is Phase.BLOCKED
    assert said == []


@pytest.mark.parametrize("telling", ["obstacles", "hindrances"])
async def test_an_error_of_what_is_told_meanwhile_ends_the_wait(
    telling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("haulier.cli.journal.tell", fail)
    world = Sending()
    gate = world.remote.gate("create")
    world.remote.plan("create", PeerBlocked(Obstacle.AUTH, "sign in"))
    async with world.running() as manager:
        await manager.queue(world.file("a", b"1"), "any:a", id="mine")
        await gate.wait_reached()

        async def wait() -> None:
            async with obstacles_told(manager) as obstacles, hindrances_told(manager, Path("/journal.db")):
                await obstacles.look("mine")
                await settle()
                if telling == "obstacles":
                    gate.open()
                else:
                    manager._journal.note(StorageUnavailable("the disk is on fire"))
                await manager.wait("mine")

        with pytest.raises(BrokenPipeError):
            await wait()
        manager._journal.note(None)
        gate.open()
