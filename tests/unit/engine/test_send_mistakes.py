"""Callers that are cancelled, mistakes of ours, clocks that are set, and a journal that is slow: nothing is lost or told wrong."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from haulier.adapters.memory.journal import MemoryJournal, MemoryJournalFile, MemoryJournalRows
from haulier.adapters.memory.remote import Accident
from haulier.core.dispatch import Dispatch, Removed, Wanted
from haulier.core.errors import (
    PeerBlocked,
    PeerBusy,
    PeerUnreachable,
    RemoteSessionLost,
    StorageError,
    StorageFull,
    StorageUnavailable,
    TransferNotFound,
    TransferRemoved,
    TransferTimeout,
)
from haulier.core.outgoing import RemoteSession
from haulier.core.secret import Secret
from haulier.core.transfer import Obstacle, Outcome, Phase, TransferId
from haulier.core.values import replace
from haulier.engine.send import Role, UploadManager
from haulier.engine.send_journal import SharedJournal
from haulier.engine.send_rows import save_row
from haulier.engine.send_runner import SendRunner
from haulier.engine.send_waiting import AGAIN_S
from haulier.engine.send_watch import Changed, Hindered
from haulier.sending_ports import JournalRows
from haulier.testing.journal_contract import ended, row
from tests.support.engine import beside
from tests.support.sending import SOON_S, Sending, in_phase, settle

DATA = bytes(range(256)) * 1000
FAR = 24 * 3600.0
MISTAKE = KeyError("ours")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Tracebacks with all that is local take longer to draw than everything else here."""
    with capture_logs():
        yield


class LateJournal(MemoryJournal):
    """Commits at once, as a thread does, and returns later whatever `late` is true of."""

    def __init__(self, file: MemoryJournalFile, late: Callable[[Any], bool]) -> None:
        super().__init__(file)
        self._late = late
        self.committed = asyncio.Event()
        self.answer = asyncio.Event()

    async def write(self, work: Callable[[MemoryJournalRows], Any], *, durable: bool = True) -> Any:
        result = await super().write(work, durable=durable)
        if self._late(result[0]):
            self.committed.set()
            await self.answer.wait()
        return result


def put(each: Dispatch, rows: JournalRows) -> None:
    rows.put(each)


# --- whoever is cancelled ------------------------------------------------------------------------------


async def test_a_runner_that_is_stopped_while_it_begins_lets_go_of_the_journal() -> None:
    world = Sending()
    journal = LateJournal(world.journal, lambda _: True)
    manager = world.manager(journal=journal)
    await manager.start()
    await journal.committed.wait()
    await manager.stop()
    assert await journal.holder() is None


@pytest.mark.parametrize(
    ("remote", "operation"),
    [("any", "create"), ("ordered", "send"), ("any", "commit"), ("any", "verify")],
)
async def test_an_attempt_that_nobody_here_has_cancelled_is_made_again_later(
    monkeypatch: pytest.MonkeyPatch, remote: str, operation: str
) -> None:
    world = Sending()
    calls = 0

    async def cancelled(*_: object) -> None:
        nonlocal calls
        calls += 1
        raise asyncio.CancelledError

    async with world.running() as manager:
        with monkeypatch.context() as patched:
            patched.setattr(world.remote if remote == "any" else world.ordered, operation, cancelled)
            queued = await manager.queue(world.file("a", b"1"), f"{remote}:a")
            row = await in_phase(manager, queued, Phase.WAITING_RETRY)
            assert row.error == "a mistake in haulier itself: CancelledError: nobody has stopped it"
            assert calls == 1
        world.clock.advance(AGAIN_S)
        assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED
    assert {**world.remote.files, **world.ordered.files} == {"a": [b"1"]}


async def test_what_a_cancelled_caller_has_queued_is_sent_and_can_be_waited_for() -> None:
    world = Sending()
    journal = LateJournal(world.journal, lambda result: isinstance(result, tuple) and result[0] == "mine")
    async with asyncio.timeout(SOON_S), world.manager(journal=journal) as manager:
        waiter = beside(manager.wait("mine", timeout_s=4))
        queueing = beside(manager.queue(world.file("a", DATA), "any:a", id="mine"))
        await journal.committed.wait()
        queueing.cancel()
        await settle()
        journal.answer.set()
        with pytest.raises(asyncio.CancelledError):
            await queueing
        assert (await waiter).transfer.outcome is Outcome.SUCCEEDED


async def test_what_a_cancelled_caller_wanted_is_obeyed() -> None:
    world = Sending()
    gate = world.remote.gate("send")
    journal = LateJournal(
        world.journal,
        lambda result: (
            isinstance(result, tuple)
            and isinstance(result[0], Dispatch)
            and result[0].wanted is Wanted.PAUSE
            and result[0].transfer.phase is Phase.IN_PROGRESS
            and not journal.committed.is_set()
        ),
    )
    async with asyncio.timeout(SOON_S), world.manager(journal=journal) as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        pausing = beside(manager.pause(queued))
        await journal.committed.wait()
        pausing.cancel()
        journal.answer.set()
        assert (await in_phase(manager, queued, Phase.PAUSED)).wanted is Wanted.PAUSE


class CleaningUp:
    """The question for an offset, which is not answered, and has something to clean up when it is stopped."""

    def __init__(self, world: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.stopped, self.ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.done = self.cut = False
        self._world = world
        monkeypatch.setattr(world.remote, "offset", self._ask)

    async def _ask(self, *_: object) -> None:
        try:
            self.asked.set()
            await asyncio.get_running_loop().create_future()
        finally:
            self.stopped.set()
            try:
                await self.ready.wait()
            except asyncio.CancelledError:
                self.cut = True
                raise
            self.done = True

    async def begin(self, manager: UploadManager) -> TransferId:
        """Queue one, and let it come so far that it is stopped and cleans up."""
        gate = self._world.remote.gate("send")
        queued = await manager.queue(self._world.file("a", b"1"), "any:a")
        await gate.wait_reached()
        await manager.pause(queued)
        await in_phase(manager, queued, Phase.PAUSED)
        await manager.resume(queued)
        await self.asked.wait()
        await manager.pause(queued)
        await self.stopped.wait()
        return queued


async def test_what_is_cleaned_up_after_a_stop_is_not_cut_short_by_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    cleaning = CleaningUp(world, monkeypatch)
    async with asyncio.timeout(SOON_S), world.running() as manager:
        queued = await cleaning.begin(manager)
        cancelling = beside(manager.cancel(queued))
        await settle()
        cleaning.ready.set()
        assert (await cancelling).transfer.outcome is Outcome.CANCELLED
    assert cleaning.done


@pytest.mark.parametrize("call", ["offset", "send"])
async def test_a_stop_that_a_remote_answers_with_an_error_is_a_stop(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    world = Sending()
    called = asyncio.Event()

    async def lose(*_: object) -> None:
        called.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            raise RemoteSessionLost("the connection was closed")

    gate = world.remote.gate("send")
    async with asyncio.timeout(SOON_S), world.running() as manager:
        queued = await manager.queue(world.file("a", b"1"), "any:a")
        await gate.wait_reached()
        await manager.pause(queued)
        await in_phase(manager, queued, Phase.PAUSED)
        monkeypatch.setattr(world.remote, call, lose)
        await manager.resume(queued)
        await called.wait()
        assert (await manager.cancel(queued)).transfer.outcome is Outcome.CANCELLED


async def test_the_end_does_not_wait_for_what_is_cleaned_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Sending()
    cleaning = CleaningUp(world, monkeypatch)
    async with asyncio.timeout(SOON_S):
        manager = world.manager()
        await manager.start()
        await cleaning.begin(manager)
        await manager.stop(grace_s=0.0)
    assert cleaning.cut


# --- a transfer ends once ------------------------------------------------------------------------------


async def test_a_stop_while_the_success_is_being_written_leaves_it_a_success() -> None:
    world = Sending()
    journal = LateJournal(
        world.journal,
        lambda result: (
            isinstance(result, tuple)
            and isinstance(result[0], Dispatch)
            and result[0].transfer.outcome is Outcome.SUCCEEDED
            and not journal.committed.is_set()
        ),
    )
    manager = world.manager(journal=journal)
    await manager.start()
    queued = await manager.queue(world.file("a", DATA), "any:a")
    async with asyncio.timeout(SOON_S):
        await journal.committed.wait()
    await manager.stop(grace_s=0)
    async with world.running(role=Role.NEVER) as observer:
        assert (await observer.wait(queued)).transfer.outcome is Outcome.SUCCEEDED
    assert world.remote.files == {"a": [DATA]}


async def test_a_runner_writes_nothing_over_a_row_that_is_gone_or_over_none() -> None:
    journal = MemoryJournal()
    mine = row("a")
    saved, left = await journal.write(lambda rows: save_row(mine, lambda it: it, 5.0, rows))
    assert (saved, left) == (mine, mine)
    gone = Removed(id=TransferId("a"), removed_at=1.0)
    await journal.write(lambda rows: rows.remove(gone))
    saved, left = await journal.write(lambda rows: save_row(mine, lambda it: it, 5.0, rows))
    assert saved == replace(mine, wanted=Wanted.REMOVE)
    assert left == gone
    assert await journal.read(lambda rows: rows.find(mine.id)) == gone


async def test_an_ended_row_that_was_to_be_forgotten_is_forgotten_by_whoever_saves_next() -> None:
    journal = MemoryJournal()
    over = replace(ended("a", 1.0), wanted=Wanted.REMOVE)
    await journal.write(lambda rows: rows.put(over))
    saved, left = await journal.write(lambda rows: save_row(row("a"), lambda it: it, 5.0, rows))
    assert saved == over
    assert left == Removed(id=over.id, removed_at=5.0)


async def test_chunks_that_are_confirmed_at_once_are_all_counted() -> None:
    world = Sending()
    gate = world.remote.gate("commit")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        view = await manager.get(queued)
        assert view is not None
        assert world.remote.most_parallel == 4
        assert view.row.transfer.done == view.snapshot.done == len(DATA)
        gate.open()
        await manager.wait(queued)


# --- mistakes of ours ----------------------------------------------------------------------------------


async def test_a_mistake_with_one_transfer_stops_no_other_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    obey, broken = SendRunner._obey, {"bad"}

    def failing(self: SendRunner, transfer_id: TransferId, rows: Any) -> Any:
        if transfer_id in broken:
            raise MISTAKE
        return obey(self, transfer_id, rows)

    monkeypatch.setattr(SendRunner, "_obey", failing)
    async with world.running() as manager:
        await manager.queue(world.file("a", DATA), "any:a", id="bad")
        other = await manager.queue(world.file("b", DATA), "any:b")
        assert (await manager.wait(other)).transfer.outcome is Outcome.SUCCEEDED
        view = await in_phase(manager, "bad", Phase.WAITING_RETRY)
        assert view.transfer.reason == "a mistake in haulier itself: KeyError: 'ours'"
        assert view.failures == 1
        broken.clear()
        world.clock.advance(2)
        assert (await manager.wait("bad")).transfer.outcome is Outcome.SUCCEEDED
    assert set(world.remote.files) == {"a", "b"}


async def test_a_mistake_with_a_row_that_cannot_even_be_noted_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    tries = []

    def failing(name: str) -> Callable[..., Any]:
        method = getattr(SendRunner, name)

        def fail(self: SendRunner, transfer_id: TransferId, *rest: Any) -> Any:
            tries.append(name)
            if len(tries) <= 2:
                raise MISTAKE
            return method(self, transfer_id, *rest)

        return fail

    for name in ("_obey", "_let_rest"):
        monkeypatch.setattr(SendRunner, name, failing(name))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await settle()
        assert tries == ["_obey", "_let_rest"]
        assert world.remote.calls == []
        world.clock.advance(AGAIN_S)
        assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED


async def test_a_mistake_with_what_became_of_a_transfer_lets_it_rest_before_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    world.chance.random = lambda: 0.5  # type: ignore[method-assign]
    world.remote.plan("create", PeerBusy(503, "slow down"))
    settle_, tries = SendRunner._settle, []

    async def failing(self: SendRunner, *arguments: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise MISTAKE
        await settle_(self, *arguments)

    monkeypatch.setattr(SendRunner, "_settle", failing)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        assert world.remote.calls == ["create"]
        assert manager._runner is not None
        assert manager._runner.slots.statistics.held == 0
        world.clock.advance(0.5)
        assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED


async def test_a_mistake_with_what_has_ended_or_is_gone_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    async with world.running() as manager:
        over = await manager.wait(await manager.queue(world.file("a", DATA), "any:a"))
        gone = await manager.wait(await manager.queue(world.file("b", DATA), "any:b"))
        await manager.remove(gone.id)
        await settle()

        def failing(*_: Any) -> Any:
            raise MISTAKE

        monkeypatch.setattr(SendRunner, "_obey", failing)
        assert manager._runner is not None
        for each in (over.id, gone.id, TransferId("nobody")):
            manager._runner.touch(each)
        await settle()
        assert await manager.wait(over.id) == over
        assert manager.runs


async def test_a_mistake_while_a_session_is_given_up_leaves_the_session_only() -> None:
    world = Sending()
    world.remote.plan("cancel", MISTAKE)
    gate = world.remote.gate("send")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        assert (await manager.cancel(queued)).transfer.outcome is Outcome.CANCELLED


async def test_a_runner_that_dies_lets_another_process_run_and_comes_back_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    async with world.running() as manager, world.running() as other:
        assert (manager.runs, other.runs) == (True, False)
        assert manager._runner is not None
        monkeypatch.setattr(manager._runner.order, "start_next", lambda: MISTAKE.args[1])
        queued = await manager.queue(world.file("a", DATA), "any:a")
        waiter = beside(manager.wait(queued))
        await settle()
        assert not manager.runs
        world.clock.advance(0.2)
        await settle()
        assert other.runs
        for _ in range(10):
            world.clock.advance(0.2)
            await settle()
        assert (await waiter).transfer.outcome is Outcome.SUCCEEDED
        assert not manager.runs
        await other.stop()
        for _ in range(int(AGAIN_S / 0.2)):
            world.clock.advance(0.2)
            await settle()
        assert manager.runs


async def test_a_mistake_while_listening_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Sending()
    async with world.running() as manager, world.running(role=Role.NEVER) as other:
        changed, tries = manager.changed, []

        def failing(found: Any) -> None:
            tries.append(found)
            if len(tries) == 1:
                raise MISTAKE
            changed(found)

        monkeypatch.setattr(manager, "changed", failing)
        queued = await other.queue(world.file("a", DATA), "any:a")
        for _ in range(4):
            world.clock.advance(0.2)
            await settle()
        assert len(tries) > 1
        assert (await other.wait(queued)).transfer.outcome is Outcome.SUCCEEDED


async def test_one_whose_row_is_gone_from_the_journal_is_stopped_and_holds_no_slot() -> None:
    world = Sending()
    gate = world.ordered.gate("send")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "ordered:a")
        await gate.wait_reached()
        gone = Removed(id=queued, removed_at=world.clock.now(), reason="its row cannot be read")
        await MemoryJournal(world.journal).write(lambda rows: rows.remove(gone))
        world.clock.advance(0.3)
        await settle()
        assert manager._runner is not None
        assert manager._runner.slots.statistics.held == 0
        gate.open()
        with pytest.raises(TransferRemoved, match="cannot be read"):
            await manager.wait(queued)
    assert world.ordered.files == {}


# --- clocks that are set forward, or back ---------------------------------------------------------------


async def pass_hours(world: Sending, hours: int) -> None:
    for _ in range(hours * 12):
        world.clock.advance(300)
        await settle()


def fail_always(world: Sending, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(world.remote, "create", fail)


NEVER: Final = {
    Phase.WAITING_RETRY: PeerUnreachable("http://remote", "cut"),
    Phase.BLOCKED: PeerBlocked(Obstacle.QUOTA, "full"),
}


@pytest.mark.parametrize("step_s", [30 * FAR, -30 * FAR], ids=["forward", "back"])
@pytest.mark.parametrize("phase", NEVER)
async def test_a_clock_that_is_set_changes_nothing_about_when_a_transfer_is_given_up(
    phase: Phase, step_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Sending()
    fail_always(world, NEVER[phase], monkeypatch)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await in_phase(manager, queued, phase)
        await pass_hours(world, 1)
        world.clock.step_wall(step_s)
        await pass_hours(world, 22)
        assert (await in_phase(manager, queued, phase, Phase.ENDED)).transfer.phase is phase
        await pass_hours(world, 2)
        row = await in_phase(manager, queued, phase, Phase.ENDED)
    assert row.transfer.outcome is Outcome.TIMED_OUT


@pytest.mark.parametrize("back_s", [0.0, 30 * FAR], ids=["right", "set back"])
async def test_what_passes_between_two_runs_counts_as_the_clock_says_and_no_longer(
    back_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Sending()
    fail_always(world, NEVER[Phase.WAITING_RETRY], monkeypatch)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await in_phase(manager, queued, Phase.WAITING_RETRY)
    world.clock.step_wall(-back_s)
    if not back_s:
        world.clock.advance(12 * 3600)
    else:
        async with world.running():
            await pass_hours(world, 12)
    async with world.running() as manager:
        await pass_hours(world, 11)
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        await pass_hours(world, 2)
        row = await in_phase(manager, queued, Phase.WAITING_RETRY, Phase.ENDED)
    assert row.transfer.outcome is Outcome.TIMED_OUT


async def test_progress_forgives_what_it_took_to_get_there() -> None:
    world = Sending()
    cut = PeerUnreachable("http://remote", "cut")
    world.ordered.plan("send", *[cut] * 200, Accident(error=cut, kept=1000), *[cut] * 1000)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "ordered:a")
        row = await in_phase(manager, queued, Phase.WAITING_RETRY)
        for _ in range(24):
            row = await in_phase(manager, queued, Phase.WAITING_RETRY)
            if row.furthest:
                break
            await pass_hours(world, 1)
        assert (row.furthest, row.failures < 20) == (1000, True)
        await pass_hours(world, 22)
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        await pass_hours(world, 3)
        row = await in_phase(manager, queued, Phase.WAITING_RETRY, Phase.ENDED)
    assert row.transfer.outcome is Outcome.TIMED_OUT


async def test_a_retry_is_made_although_the_clock_was_set_back_a_day() -> None:
    world = Sending()
    world.remote.plan("create", PeerUnreachable("http://remote", "cut"))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        world.clock.step_wall(-FAR)
        world.clock.advance(300)
        assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED


async def test_a_remote_that_asked_to_wait_is_asked_again_although_the_clock_was_set_back() -> None:
    world = Sending()
    world.remote.plan("create", PeerBusy(503, "slow down", retry_after_s=100))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        world.clock.step_wall(-FAR)
        other = await manager.queue(world.file("b", DATA), "any:b")
        assert (await manager.wait(other)).transfer.outcome is Outcome.SUCCEEDED
        world.clock.advance(300)
        assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED


async def test_a_clock_that_is_set_back_wakes_nobody_who_is_blocked() -> None:
    world = Sending()
    world.remote.plan("create", PeerBlocked(Obstacle.QUOTA, "full"))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await in_phase(manager, queued, Phase.BLOCKED)
        world.clock.step_wall(-FAR)
        world.clock.advance(300)
        assert (await in_phase(manager, queued, Phase.BLOCKED)).transfer.attempts == 1
        assert world.remote.calls == ["create"]


async def test_what_is_old_is_forgotten_although_the_clock_was_set_back() -> None:
    world = Sending()
    async with world.running() as manager:
        queued = await manager.wait(await manager.queue(world.file("a", DATA), "any:a"))
        world.clock.step_wall(-400 * FAR)
        world.clock.advance(300)
        await settle()
        world.clock.step_wall(369 * FAR + 2 * FAR)  # 29 days before it ended, as it were
        world.clock.advance(300)
        await settle()
        assert await manager.get(queued.id) is not None


# --- pages, and what is heard --------------------------------------------------------------------------


async def test_sessions_that_were_left_are_given_up_page_by_page_and_again_every_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("haulier.engine.send_runner.BATCH", 2)
    world = Sending()
    world.remote.plan("cancel", *[PeerUnreachable("http://remote", "cut")] * 5)
    session = RemoteSession(state=Secret('{"session": "1"}'), chunk_size=None, commits_itself=False)
    queued = [row(f"f{n}", remote="any") for n in range(5)]
    over = [it.moved(it.transfer.end(Outcome.ERRORED, now=1.8e9), now=1.8e9) for it in queued]
    journal = MemoryJournal(world.journal)
    for each in over:
        await journal.write(partial(put, replace(each, session=session)))
    gate = world.remote.gate("cancel")
    async with world.running() as manager:
        await gate.wait_reached()
        await settle()
        world.clock.advance(FAR + 1)  # a day, and the first round is still under way
        await settle()
        gate.open()
        await settle()
        assert world.remote.calls.count("cancel") == 5
        world.clock.advance(FAR + 1)
        await settle()
        for each in over:
            view = await manager.get(each.id)
            assert view is not None
            assert view.row.session is None
    assert world.remote.calls.count("cancel") == 10


async def test_a_stop_does_not_wait_for_what_was_left_at_a_remote_that_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("haulier.engine.send_runner.CLEAN_S", FAR)
    world = Sending()
    session = RemoteSession(state=Secret('{"session": "1"}'), chunk_size=None, commits_itself=False)
    left = row("a", remote="any")
    left = left.moved(left.transfer.end(Outcome.ERRORED, now=1.8e9), now=1.8e9)
    await MemoryJournal(world.journal).write(partial(put, replace(left, session=session)))
    gate = world.remote.gate("cancel")
    async with world.running():
        await gate.wait_reached()
    async with world.running() as again:
        gate.open()
        await settle()
        view = await again.get(left.id)
    assert view is not None
    assert view.row.session is None


async def test_a_reader_that_lagged_is_shown_all_that_lives_however_much_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("haulier.engine.send.BATCH", 2)
    world = Sending()
    async with world.running(role=Role.NEVER) as manager:
        ids = [await manager.queue(world.file(f"f{n}", b"x"), f"any:f{n}") for n in range(5)]
        assert [each.id for each in await manager._live()] == ids[::-1]


async def test_what_the_runner_wrote_is_not_heard_again_when_another_process_writes() -> None:
    world = Sending()
    async with world.running() as manager, world.running(role=Role.NEVER) as other:
        for n in range(3):
            await manager.wait(await manager.queue(world.file(f"f{n}", DATA), f"any:f{n}"))
        await settle()
        heard: list[str] = []
        events = manager.events()

        async def read() -> None:
            async for it in events:
                if isinstance(it, Changed):
                    heard.append(it.row.id)  # noqa: PERF401 - looked at while it grows

        reader = beside(read())
        await settle()
        gate = world.remote.gate("create")
        theirs = await other.queue(world.file("b", DATA), "any:b")
        world.clock.advance(0.2)
        await settle()
        assert set(heard) == {theirs}
        gate.open()
        await manager.wait(theirs)
    await reader


# --- waits ---------------------------------------------------------------------------------------------


async def broken_reads(manager: UploadManager, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*_: Any) -> Any:
        raise StorageUnavailable("the disk is on fire")

    monkeypatch.setattr(manager._journal, "read", failing)


@pytest.mark.parametrize("known", [True, False])
async def test_a_journal_that_cannot_be_read_for_a_while_ends_no_wait(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        waiters = [beside(manager.wait(queued, timeout_s=60))] if known else []
        await settle()
        with monkeypatch.context() as patched:
            await broken_reads(manager, patched)
            waiters += [beside(manager.wait(queued, timeout_s=each)) for each in (60, None)]
            manager._watchers.wake(queued)
            await settle()
            assert not any(waiter.done() for waiter in waiters)
        gate.open()
        await settle()
        world.clock.advance(AGAIN_S)
        for waiter in waiters:
            assert (await waiter).transfer.outcome is Outcome.SUCCEEDED


async def test_a_wait_whose_journal_stays_unreadable_ends_with_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    async with world.running() as manager:
        await broken_reads(manager, monkeypatch)
        waiter = beside(manager.wait("mine", timeout_s=3))
        await settle()
        world.clock.advance(3)
        with pytest.raises(TransferTimeout, match=r"still unknown .* on fire"):
            await waiter


async def test_whoever_waits_for_what_is_forgotten_meanwhile_is_told_that_there_is_none() -> None:
    world = Sending()
    world.remote.gate("create")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        waiter = beside(manager.wait(queued))
        await settle()
        del world.journal.rows.rows[queued]
        manager._watchers.wake(queued)
        with pytest.raises(TransferNotFound):
            await waiter


async def test_whoever_waits_when_the_manager_stops_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Sending()
    world.remote.gate("create")
    manager = world.manager()
    await manager.start()
    queued = await manager.queue(world.file("a", DATA), "any:a")
    waiters = [beside(manager.wait(queued, timeout_s=each)) for each in (None, 60)]
    await settle()
    await broken_reads(manager, monkeypatch)
    waiters.append(beside(manager.wait("unknown", timeout_s=60)))
    await settle()
    stopped = asyncio.Event()

    async def failing_late(*_: Any) -> Any:
        await stopped.wait()
        raise StorageUnavailable("it is closed")

    monkeypatch.setattr(manager._journal, "read", failing_late)
    waiters.append(beside(manager.wait(queued, timeout_s=60)))
    await settle()
    await manager.stop(grace_s=0)
    stopped.set()
    for waiter in waiters:
        async with asyncio.timeout(SOON_S):
            with pytest.raises(StorageUnavailable, match="the upload manager has stopped"):
                await waiter
    with pytest.raises(StorageUnavailable, match="the upload manager has stopped"):
        await manager.wait(queued)


# --- a journal that cannot be written ------------------------------------------------------------------


async def hindrances(manager: UploadManager, told: list[StorageError | None]) -> None:
    async for happening in manager.events():
        if isinstance(happening, Hindered):
            told.append(happening.error)  # noqa: PERF401 - looked at while it grows


class FullJournal(MemoryJournal):
    """Has no room while `full`."""

    full = False

    async def write(self, work: Callable[[MemoryJournalRows], Any], *, durable: bool = True) -> Any:
        if self.full:
            raise StorageFull(4096)
        return await super().write(work, durable=durable)


async def test_whoever_follows_is_told_once_that_the_journal_is_full_and_once_that_it_is_not() -> None:
    world = Sending()
    gate = world.remote.gate("send")
    journal = FullJournal(world.journal)
    told = list[StorageError | None]()

    async with asyncio.timeout(SOON_S), world.manager(journal=journal) as manager:
        early = beside(hindrances(manager, told))
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        journal.full = True
        gate.open()
        await settle()
        assert [str(error) for error in told] == ["no room for 4096 bytes"]
        late = beside(hindrances(manager, told))
        await settle()
        assert len(told) == 2, "who comes later is told as well"
        for _ in range(3):
            world.clock.advance(AGAIN_S)
            await settle()
        assert len(told) == 2
        journal.full = False
        world.clock.advance(AGAIN_S)
        row = await manager.wait(queued)
        assert row.transfer.outcome is Outcome.SUCCEEDED
        await settle()
        assert told[2:] == [None, None]
    await asyncio.gather(early, late)
    assert world.newest("a") == DATA


# --- a journal that is removed under us ----------------------------------------------------------------


class RemovableJournal(MemoryJournal):
    """Another one than was opened while `gone`."""

    gone = False

    def _require(self) -> None:
        if self.gone:
            raise StorageUnavailable("it was removed", replaced=True)

    async def read(self, work: Callable[[MemoryJournalRows], Any]) -> Any:
        self._require()
        return await super().read(work)

    async def write(self, work: Callable[[MemoryJournalRows], Any], *, durable: bool = True) -> Any:
        self._require()
        return await super().write(work, durable=durable)

    async def commits_of_others(self) -> int:
        self._require()
        return await super().commits_of_others()

    async def take(self) -> bool:
        self._require()
        return await super().take()


@pytest.mark.parametrize("at", ["create", "send", "commit"])
async def test_a_journal_that_was_removed_is_let_go_and_told_once_and_ends_every_wait(at: str) -> None:
    world = Sending()
    gate = world.remote.gate(at)
    journal = RemovableJournal(world.journal)
    told = list[StorageError | None]()
    async with asyncio.timeout(SOON_S), world.manager(journal=journal) as manager:
        following = beside(hindrances(manager, told))
        queued = await manager.queue(world.file("a", DATA), "any:a")
        waiters = [beside(manager.wait(each)) for each in (queued, "unknown")]
        await gate.wait_reached()
        journal.gone = True
        with pytest.raises(StorageUnavailable):
            await manager.queue(world.file("b", DATA), "any:b")
        for _ in range(10):
            world.clock.advance(0.2)
            await settle()
        assert not manager.runs
        assert await manager.holder() is None
        assert [str(error) for error in told] == ["storage is unavailable: it was removed"]
        for waiter in waiters:
            with pytest.raises(StorageUnavailable, match="it was removed") as failed:
                await waiter
            assert failed.value.replaced
        calls = list(world.remote.calls)
        gate.open()
        world.clock.advance(3600)
        await settle()
        assert world.remote.calls == calls, "nothing goes on"
        assert world.files.open_now == 0
    await following


async def test_a_journal_that_was_full_and_then_removed_is_told_as_removed() -> None:
    journal = RemovableJournal()
    told = list[StorageError | None]()
    shared = SharedJournal(journal, hindered=told.append)
    full, gone = StorageFull(4096), StorageUnavailable("it was removed", replaced=True)
    for error in (full, full, gone, gone, full, None, None):
        shared.note(error)
    assert told == [full, gone, None]


async def test_a_removed_journal_holds_up_no_stop_and_is_let_go_while_its_runner_waits_to_try_again() -> None:
    world = Sending()
    gate = world.remote.gate("send")
    journal = RemovableJournal(world.journal)
    async with asyncio.timeout(SOON_S):
        manager = world.manager(journal=journal)
        await manager.start()
        await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        journal.gone = True
        gate.open()
        await settle()  # its last write has failed, and it waits to try again
        world.clock.advance(0.2)
        await settle()
        assert not manager.runs
        assert await manager.holder() is None
        await manager.stop()
        await manager.stop()


async def test_whoever_stops_while_a_removed_journal_is_let_go_ends_what_is_left() -> None:
    world = Sending()
    gate = world.remote.gate("send")
    journal = RemovableJournal(world.journal)
    stopping = asyncio.Event()

    async def slow(self: SendRunner, *, grace_s: float) -> None:
        if not stopping.is_set():
            stopping.set()
            await asyncio.Event().wait()
        await stop(self, grace_s=grace_s)

    stop = SendRunner.stop
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SendRunner, "stop", slow)
        async with asyncio.timeout(SOON_S), world.manager(journal=journal) as manager:
            await manager.queue(world.file("a", DATA), "any:a")
            await gate.wait_reached()
            journal.gone = True
            world.clock.advance(0.2)
            await stopping.wait()
    assert world.files.open_now == 0
    assert world.journal.runner is None
