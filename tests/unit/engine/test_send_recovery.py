"""What changes, vanishes, is lost or is restarted while files are sent; several processes on one journal."""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from haulier.adapters.memory.journal import MemoryJournal, MemoryJournalRows
from haulier.adapters.memory.remote import Accident
from haulier.core.dispatch import Dispatch, OnChange, Removed
from haulier.core.errors import (
    HaulierError,
    JournalBusy,
    PeerBusy,
    PeerRefused,
    PeerUnreachable,
    RemoteSessionLost,
    StorageUnavailable,
    TransferNotFound,
    TransferRemoved,
)
from haulier.core.outgoing import IfExists, Outgoing, RemoteSession, Stored, VerifyMode, VerifyPolicy
from haulier.core.transfer import Outcome, Phase, TransferId
from haulier.core.values import replace
from haulier.engine.send import POLL_S, Role, UploadManager
from haulier.engine.send_runner import SendLimits
from haulier.engine.send_watch import MAX_BEHIND, Changed, Happening, Hindered, Lagged, Progress
from haulier.engine.slots import SlotLimits
from haulier.sending_ports import Cargo
from tests.support.engine import beside
from tests.support.sending import SOON_S, Sending, in_phase, settle

DATA = bytes(range(256)) * 1000


async def wait_out(world: Sending, manager: UploadManager, transfer_id: str) -> Dispatch:
    """The result, whatever delays are on the way to it."""
    waiter = beside(manager.wait(transfer_id))
    while not waiter.done():
        await settle()
        world.clock.advance(300)
    return await waiter


async def test_a_file_that_changes_while_it_is_sent_is_sent_anew_in_a_session_of_its_own() -> None:
    world = Sending()
    async with world.running() as manager:
        gate = world.ordered.gate("send")
        queued = await manager.queue(world.file("a", DATA), "ordered:a")
        await gate.wait_reached()
        world.files.write("/a", DATA[::-1], in_place=True)
        gate.open()
        row = await wait_out(world, manager, queued)
    assert row.transfer.outcome is Outcome.SUCCEEDED
    assert row.restarts == 1
    assert world.ordered.files == {"a": [DATA[::-1]]}
    assert world.ordered.sessions == 0


@pytest.mark.parametrize("way", [IfExists.REPLACE, IfExists.FAIL])
async def test_no_file_is_made_of_one_that_changes_during_the_request_that_makes_it(way: IfExists) -> None:
    world = Sending()
    async with world.running() as manager:
        gate = world.ordered.gate("send")
        queued = await manager.queue(world.file("a", b"old"), "ordered:a", if_exists=way)
        await gate.wait_reached()
        world.files.write("/a", b"new", in_place=True)
        gate.open()
        row = await wait_out(world, manager, queued)
    assert row.transfer.outcome is Outcome.SUCCEEDED
    assert world.ordered.files == {"a": [b"new"]}
    assert world.ordered.sessions == 0


@pytest.mark.parametrize("failures", [1, 2, 3], ids=["once", "until the next has begun", "until the end"])
async def test_a_session_of_a_file_that_changed_which_the_remote_does_not_give_up_is_not_forgotten(
    failures: int,
) -> None:
    world = Sending()
    asked: list[str] = []
    cancel = world.ordered.cancel

    async def noted(outgoing: Outgoing, session: RemoteSession) -> None:
        asked.append(outgoing.id)
        await cancel(outgoing, session)

    world.ordered.cancel = noted  # type: ignore[method-assign]
    async with world.running() as manager:
        gate = world.ordered.gate("send")
        world.ordered.plan("cancel", *(PeerBusy(503, "not now") for _ in range(failures)))
        queued = await manager.queue(world.file("a", DATA), "ordered:a")
        await gate.wait_reached()
        world.files.write("/a", DATA[::-1], in_place=True)
        gate.open()
        row = await wait_out(world, manager, queued)
        await settle()
        assert row.transfer.outcome is Outcome.SUCCEEDED
        assert world.ordered.files == {"a": [DATA[::-1]]}
        assert world.ordered.sessions == (failures == 3)
    async with world.running() as manager:
        await settle()
        view = await manager.get(queued)
    assert view is not None
    assert (view.row.leftovers, world.ordered.sessions) == ((), 0)
    # What a remote remembers under the transfer's id is of the file that it has now.
    assert asked == [queued, *[f"{queued}, earlier"] * failures]


async def test_of_several_sessions_that_are_left_none_is_tried_after_one_that_is_not_given_up() -> None:
    world = Sending()
    world.ordered.plan("cancel", *(PeerBusy(503, "not now") for _ in range(4)))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "ordered:a")
        for number in (1, 2):
            gate = world.ordered.gate("send")
            reached = beside(gate.wait_reached())
            while not reached.done():
                await settle()
                world.clock.advance(1.0)
            world.files.write("/a", DATA[number:], in_place=True)
            gate.open()
            await in_phase(manager, queued, Phase.WAITING_RETRY)
        row = await wait_out(world, manager, queued)
        await settle()
    assert (row.transfer.outcome, len(row.left)) == (Outcome.SUCCEEDED, 2)
    assert world.ordered.sessions == 0


async def test_a_session_that_the_remote_refuses_to_give_up_keeps_no_other_there() -> None:
    world = Sending()
    async with world.running() as manager:
        gate = world.ordered.gate("send")
        world.ordered.plan("cancel", *(PeerRefused(403, "forbidden", "not this one") for _ in range(4)))
        queued = await manager.queue(world.file("a", DATA), "ordered:a")
        await gate.wait_reached()
        world.files.write("/a", DATA[::-1], in_place=True)
        gate.open()
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        again = world.ordered.gate("send")
        reached = beside(again.wait_reached())
        while not reached.done():
            await settle()
            world.clock.advance(1.0)
        assert world.ordered.sessions == 2
        row = await manager.cancel(queued)
        await settle()
    # Refused: the first when the file changed and before the second was begun, the second at the cancel, the first after it.
    assert (row.transfer.outcome, world.ordered.sessions) == (Outcome.CANCELLED, 1)


@pytest.mark.parametrize("failures", [0, 1], ids=["at once", "later"])
@pytest.mark.parametrize("state", ["paused", "waiting", "running", "ended"])
async def test_what_is_removed_is_given_up_at_its_remote(state: str, failures: int) -> None:
    world = Sending()
    accident = PeerBusy(503, "not now")
    async with world.running() as manager:
        gate = world.ordered.gate("send")
        if state == "waiting":
            world.ordered.plan("send", accident)
        queued = await manager.queue(world.file("a", DATA), "ordered:a")
        await gate.wait_reached()
        if state == "paused":
            await manager.pause(queued)
            await in_phase(manager, queued, Phase.PAUSED)
        elif state == "waiting":
            gate.open()
            await in_phase(manager, queued, Phase.WAITING_RETRY)
        elif state == "ended":
            world.ordered.plan("cancel", accident, accident)
            await manager.cancel(queued)
            await settle()
        assert world.ordered.sessions == 1
        # At the end of one that runs it is asked once more.
        world.ordered.plan("cancel", *[accident] * failures * (2 if state == "running" else 1))
        await manager.remove(queued)
        await settle()
        with pytest.raises(TransferRemoved):
            await manager.wait(queued)
        assert await manager.get(queued) is None
        assert world.ordered.sessions == failures
    async with world.running() as manager:
        await settle()
        assert await manager.list() == ([], None)
        assert (world.ordered.sessions, world.ordered.files) == (0, {})


@pytest.mark.parametrize(("remote", "call"), [("any", "commit"), ("any", "verify"), ("ordered", "verify")])
async def test_who_is_cancelled_too_late_and_stopped_then_is_told_as_stored(
    monkeypatch: pytest.MonkeyPatch, remote: str, call: str
) -> None:
    world = Sending()
    place = world.remotes[remote]
    work, done = getattr(place, call), asyncio.Event()

    async def silent(*given: Any) -> None:
        await work(*given)
        done.set()
        await asyncio.get_running_loop().create_future()

    async with asyncio.timeout(SOON_S), world.manager() as manager:
        with monkeypatch.context() as patched:
            patched.setattr(place, call, silent)
            queued = await manager.queue(world.file("a", DATA), f"{remote}:a")
            await done.wait()
            cancelling = beside(manager.cancel(queued))
            await settle()
            await manager.stop(grace_s=0.0)
            with suppress(HaulierError):
                await cancelling
    assert "cancel" not in place.calls, "what has made the file tells of it"
    async with world.running() as manager:
        row = await wait_out(world, manager, queued)
    assert (row.transfer.outcome, row.error) == (Outcome.SUCCEEDED, None)
    assert place.files == {"a": [DATA]}


@pytest.mark.parametrize("remote", ["any", "ordered"])
async def test_what_is_stored_already_is_compared_without_the_file(remote: str) -> None:
    world = Sending()
    place = world.remotes[remote]
    place.plan("verify", PeerBusy(503, "not now"))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), f"{remote}:a")
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        world.files.remove("/a")
        row = await wait_out(world, manager, queued)
    assert (row.transfer.outcome, row.error) == (Outcome.SUCCEEDED, None)
    assert place.files == {"a": [DATA]}


async def test_what_is_stored_already_is_told_by_a_journal_that_lacks_its_session() -> None:
    world = Sending()
    world.remote.plan("verify", PeerBusy(503, "not now"))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        row = await in_phase(manager, queued, Phase.WAITING_RETRY)
    await MemoryJournal(world.journal).write(lambda rows: rows.put(replace(row, session=None)))
    async with world.running() as manager:
        row = await wait_out(world, manager, queued)
    assert (row.transfer.outcome, world.remote.calls.count("verify")) == (Outcome.SUCCEEDED, 1)


async def test_a_remote_that_loses_every_session_after_a_chunk_is_not_sent_to_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    send = world.ordered.send

    async def forgetful(outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> Stored | None:
        if cargo.start:
            await world.ordered.cancel(outgoing, session)
        return await send(outgoing, session, cargo)

    monkeypatch.setattr(world.ordered, "send", forgetful)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "ordered:a")
        began_at = world.clock.now()
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        while world.clock.now() < began_at + 2 * 24 * 3600:
            world.clock.advance(300)
            await settle()
        row = await in_phase(manager, queued, Phase.ENDED, Phase.WAITING_RETRY)
    assert row.transfer.outcome is Outcome.TIMED_OUT
    assert world.ordered.files == {}


async def test_what_a_remote_kept_of_a_chunk_that_failed_is_progress() -> None:
    world = Sending()
    world.ordered.plan("send", Accident(error=PeerUnreachable("http://remote", "cut"), kept=1000))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "ordered:a")
        assert (await in_phase(manager, queued, Phase.WAITING_RETRY)).failures == 1
        gate = world.ordered.gate("send")
        world.clock.advance(300)
        await gate.wait_reached()
        row = await in_phase(manager, queued, Phase.IN_PROGRESS)
        assert (row.failures, row.stalled_at, row.furthest) == (0, None, 1000)
        gate.open()
        assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED


@pytest.mark.usefixtures("impatient")
async def test_a_file_that_grew_or_shrank_before_its_turn_is_sent_as_it_is() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        await manager.pause(queued)
        await in_phase(manager, queued, Phase.PAUSED)
        world.file("a", b"short")
        gate.open()
        await manager.resume(queued)
        row = await wait_out(world, manager, queued)
    assert row.transfer.size == 5
    assert world.newest("a") == b"short"


async def test_a_changed_file_may_be_asked_to_fail() -> None:
    world = Sending()
    async with world.running() as manager:
        gate = world.remote.gate("send")
        queued = await manager.queue(world.file("a", DATA), "any:a", on_change=OnChange.FAIL)
        await gate.wait_reached()
        world.file("a", b"other")
        gate.open()
        row = await manager.wait(queued)
        assert row.transfer.outcome is Outcome.ABORTED
        assert row.transfer.reason == "/a changed while it was being sent: it was written to"
        await settle()
    assert world.remote.sessions == 0
    assert world.remote.files == {}


async def test_a_file_that_always_changes_is_given_up() -> None:
    world = Sending()
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        for n in range(12):
            await settle()
            world.file("a", b"%d" % n)
            world.clock.advance(2)
        send = world.remote.send

        async def changing(*arguments: object) -> object:
            world.file("a", world.files.current("/a").data + b"x")
            return await send(*arguments)  # type: ignore[arg-type]

        world.remote.send = changing  # type: ignore[method-assign,assignment]
        again = await manager.queue(world.file("b", b"x"), "any:b")
        await manager.wait(again)
        world.file("a", b"new")
        third = await manager.queue("/a", "any:a")
        row = await wait_out(world, manager, third)
        assert row.transfer.outcome is Outcome.ABORTED
        assert row.restarts == 10
        await manager.wait(queued)


async def test_a_file_that_vanishes_ends_as_errored() -> None:
    world = Sending()
    async with world.running() as manager:
        gate = world.remote.gate("send")
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        world.files.remove("/a")
        gate.open()
        row = await manager.wait(queued)
    assert row.transfer.outcome is Outcome.ERRORED
    assert row.transfer.reason == "/a: No such file or directory"


async def test_a_file_that_cannot_be_read_any_more_ends_as_errored() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        world.files.fail("/a", OSError(errno.EIO, "Input/output error"))
        gate.open()
        row = await manager.wait(queued)
    assert row.transfer.outcome is Outcome.ERRORED
    assert row.transfer.reason == "Input/output error"


async def test_a_session_that_is_lost_is_replaced_at_once() -> None:
    world = Sending()
    world.remote.plan("commit", RemoteSessionLost("it expired"))
    async with world.running() as manager:
        row = await manager.wait(await manager.queue(world.file("a", DATA), "any:a"))
    assert row.transfer.outcome is Outcome.SUCCEEDED
    assert world.remote.calls.count("create") == 2
    assert world.remote.files == {"a": [DATA]}


async def test_a_remote_that_loses_every_session_is_let_rest() -> None:
    world = Sending()
    world.remote.plan("commit", RemoteSessionLost("it expired"), RemoteSessionLost("it expired"))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        assert (await wait_out(world, manager, queued)).transfer.outcome is Outcome.SUCCEEDED


async def test_after_a_cut_only_what_is_missing_is_sent() -> None:
    world = Sending()
    world.ordered.plan("send", Accident(error=PeerUnreachable("http://remote", "cut"), kept=1000))
    world.remote.plan("send", Accident(error=PeerBusy(504, "too slow"), done=True))
    async with world.running() as manager:
        ids = [await manager.queue(world.file("a", DATA), f"{name}:a") for name in ("ordered", "any")]
        for each in ids:
            assert (await wait_out(world, manager, each)).transfer.outcome is Outcome.SUCCEEDED
    assert world.ordered.sent_bytes == world.remote.sent_bytes == len(DATA)
    assert world.ordered.files == world.remote.files == {"a": [DATA]}


async def test_a_chunk_that_took_too_long_is_half_as_long_next_time() -> None:
    world = Sending()
    world.ordered.plan("send", PeerUnreachable("http://remote", "timed out", too_slow=True))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "ordered:a")
        row = await in_phase(manager, queued, Phase.WAITING_RETRY)
        assert row.pace == 32 * 1024
        await wait_out(world, manager, queued)


async def test_what_is_stored_with_another_byte_is_an_error_and_no_loop() -> None:
    world = Sending()
    gate = world.remote.gate("verify")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        world.remote.corrupt("a")
        gate.open()
        row = await manager.wait(queued)
    assert row.transfer.outcome is Outcome.ERRORED
    assert "a (sha-256) has digest" in (row.transfer.reason or "")
    assert world.remote.calls.count("commit") == 1


async def test_a_policy_may_leave_the_comparison_out() -> None:
    world = Sending()
    limits = SendLimits(policies={"any": VerifyPolicy(VerifyMode.OFF)})
    async with world.running(limits=limits) as manager:
        row = await manager.wait(await manager.queue(world.file("a", DATA), "any:a"))
    assert row.transfer.outcome is Outcome.SUCCEEDED
    assert row.sum is None
    assert "verify" not in world.remote.calls


@pytest.mark.parametrize("operation", ["create", "send", "commit", "verify"])
async def test_stopped_anywhere_and_started_again_it_arrives_once(operation: str) -> None:
    world = Sending()
    gate = world.remote.gate(operation)
    manager = world.manager()
    await manager.start()
    await manager.start()
    queued = await manager.queue(world.file("a", DATA), "any:a")
    waiter = beside(manager.wait(queued))
    await gate.wait_reached()
    await manager.stop(grace_s=0)
    await manager.stop()
    assert world.files.open_now == 0
    gate.open()
    await manager.start()
    assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED
    with suppress(StorageUnavailable):
        await waiter
    await manager.stop()
    assert world.remote.files == {"a": [DATA]}
    assert world.remote.calls.count("commit") <= 2


async def test_a_stop_lets_what_is_being_committed_come_to_its_end() -> None:
    world = Sending()
    gate = world.remote.gate("commit")
    manager = world.manager()
    await manager.start()
    queued = await manager.queue(world.file("a", DATA), "any:a")
    await gate.wait_reached()
    stop = beside(manager.stop(grace_s=60))
    await settle()
    assert not stop.done()
    gate.open()
    await stop
    async with world.running(role=Role.NEVER) as observer:
        assert (await observer.wait(queued)).transfer.outcome is Outcome.SUCCEEDED


class SlowJournal(MemoryJournal):
    """Lets others go on while it is opened."""

    async def open(self) -> None:
        await asyncio.sleep(0)
        await super().open()


async def test_a_manager_that_several_start_at_once_sends_each_file_once() -> None:
    world = Sending()
    async with world.running(role=Role.NEVER) as observer:
        queued = await observer.queue(world.file("a", DATA), "any:a")
    manager = world.manager(journal=SlowJournal(world.journal))
    async with asyncio.timeout(SOON_S):
        await asyncio.gather(*(manager.start() for _ in range(3)))
        assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED
        await asyncio.gather(*(manager.stop() for _ in range(3)))
    assert world.remote.calls.count("create") == 1
    assert (world.files.open_now, world.journal.runner) == (0, None)


@pytest.mark.parametrize("then", ["stop", "start"])
async def test_a_stop_that_was_cancelled_is_gone_on_with_by_whoever_stops_or_starts_next(then: str) -> None:
    world = Sending()
    gate = world.remote.gate("commit")
    manager = world.manager()
    async with asyncio.timeout(SOON_S):
        await manager.start()
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        stopping = beside(manager.stop(grace_s=60))
        await settle()
        stopping.cancel()
        await asyncio.wait({stopping})
        next_one = beside(manager.start() if then == "start" else manager.stop(grace_s=60))
        await settle()
        gate.open()
        await next_one
        if then == "start":
            assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED
            await manager.stop()
    assert world.remote.files == {"a": [DATA]}
    assert (world.files.open_now, world.journal.runner) == (0, None)


@asynccontextmanager
async def killed(world: Sending) -> AsyncIterator[UploadManager]:
    """A process that dies where it is: what it does afterwards changes nothing."""
    manager = world.manager()
    await manager.start()
    frozen = world.journal
    try:
        yield manager
    finally:
        rows = frozen.rows
        await manager.stop(grace_s=0)
        frozen.rows, frozen.runner = rows, None


@pytest.mark.parametrize("operation", ["create", "send", "commit", "verify"])
async def test_killed_anywhere_the_next_runner_ends_it_with_one_version(operation: str) -> None:
    world = Sending()
    gate = world.remote.gate(operation)
    async with killed(world) as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
    gate.open()
    async with world.running() as manager:
        assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED
    assert world.remote.files == {"a": [DATA]}


async def test_an_observer_queues_wants_and_hears_of_the_result() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running() as runner, world.running() as observer:
        assert (runner.runs, observer.runs) == (True, False)
        assert await observer.holder() == "memory"
        queued = await observer.queue(world.file("a", DATA), "any:a")
        waiter = beside(observer.wait(queued))
        cancelled = await observer.queue(world.file("b", DATA), "any:b")
        await pass_time(world)
        await gate.wait_reached()
        assert (await observer.cancel(cancelled)).live
        gate.open()
        await pass_time(world)
        assert (await waiter).transfer.outcome is Outcome.SUCCEEDED
        assert (await observer.wait(cancelled)).transfer.outcome is Outcome.CANCELLED
        view = await observer.get(queued)
        assert view is not None
        assert view.place is None


async def pass_time(world: Sending, seconds: float = 1.0) -> None:
    """Let every process look at the journal."""
    for _ in range(int(seconds * 10)):
        await settle()
        world.clock.advance(0.1)
    await settle()


async def test_an_observer_takes_over_what_the_runner_lets_go() -> None:
    world = Sending()
    gate = world.remote.gate("send")
    async with world.running() as observer:
        await observer.stop()
        runner = world.manager()
        await runner.start()
        await observer.start()
        queued = await observer.queue(world.file("a", DATA), "any:a")
        waiter = beside(observer.wait(queued))
        await pass_time(world)
        await gate.wait_reached()
        await runner.stop(grace_s=0)
        gate.open()
        await pass_time(world)
        assert observer.runs
        assert (await waiter).transfer.outcome is Outcome.SUCCEEDED
    assert world.remote.files == {"a": [DATA]}


async def test_a_second_runner_is_refused() -> None:
    world = Sending()
    async with world.running():
        with pytest.raises(JournalBusy, match="process memory runs this journal already"):
            await world.manager(role=Role.REQUIRED).start()


async def test_what_is_wanted_while_nobody_runs_is_obeyed_by_the_next_runner() -> None:
    world = Sending()
    async with world.running(role=Role.NEVER) as observer:
        ids = [await observer.queue(world.file(name, DATA), f"any:{name}") for name in ("a", "b", "c", "d")]
        await observer.cancel(ids[0])
        await observer.pause(ids[1])
        await observer.remove(ids[2])
        with pytest.raises(TransferNotFound):
            await observer.wait("unknown", timeout_s=0)
    async with world.running() as manager:
        assert (await manager.wait(ids[0])).transfer.outcome is Outcome.CANCELLED
        await in_phase(manager, ids[1], Phase.PAUSED)
        assert (await manager.wait(ids[3])).transfer.outcome is Outcome.SUCCEEDED
        await settle()
        assert await manager.get(ids[2]) is None
    assert set(world.remote.files) == {"d"}


async def test_sessions_of_the_dead_are_given_up_by_the_next_runner() -> None:
    world = Sending()
    world.remote.plan("commit", PeerUnreachable("http://remote", "cut"))
    world.remote.plan("cancel", PeerUnreachable("http://remote", "still cut"))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a", on_change=OnChange.FAIL)
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        world.file("a", b"other")
        world.clock.advance(300)
        assert (await manager.wait(queued)).transfer.outcome is Outcome.ABORTED
        await settle()
    assert world.remote.sessions == 1
    async with world.running() as manager:
        await settle()
        view = await manager.get(queued)
        assert view is not None
        assert view.row.session is None
    assert world.remote.sessions == 0


async def test_results_are_forgotten_after_the_retention() -> None:
    world = Sending()
    async with world.running() as manager:
        queued = await manager.wait(await manager.queue(world.file("a", DATA), "any:a"))
        world.clock.advance(29 * 24 * 3600)
        await settle()
        assert await manager.get(queued.id) is not None
        world.clock.advance(2 * 24 * 3600)
        await settle()
        assert await manager.get(queued.id) is None


async def test_events_tell_every_state_and_the_last_of_the_progress() -> None:
    world = Sending()
    async with world.running() as manager:
        events = manager.events()
        found: list[object] = []

        async def read() -> None:
            found.extend([happening async for happening in events])

        reader = beside(read())
        await settle()
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await manager.wait(queued)
        removed = await manager.queue(world.file("b", DATA), "any:b")
        await manager.wait(removed)
        await settle()
        await manager.remove(removed)
        await settle()
    await reader
    states = [it.row.transfer.phase for it in found if isinstance(it, Changed) and it.row.id == queued]
    assert states[0] is Phase.QUEUED
    assert [phase for phase in Phase if phase in states] == [
        Phase.QUEUED,
        Phase.REQUESTED,
        Phase.INITIALIZING,
        Phase.IN_PROGRESS,
        Phase.ENDED,
    ]
    assert [it.snapshot.done for it in found if isinstance(it, Progress) and it.id == queued][-1] == len(DATA)
    assert [it.id for it in found if isinstance(it, Removed)] == [removed]


async def test_a_file_that_goes_in_one_request_has_a_speed_before_it_is_confirmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    send, seen = world.remote.send, []
    async with world.running() as manager:

        async def slow(outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> Stored | None:
            cargo.moved(0)
            for count in (1000, 3000):
                world.clock.advance(1.0)
                cargo.moved(count)
                view = await manager.get(outgoing.id)
                assert view is not None
                seen.append((view.snapshot.done, view.snapshot.speed, view.snapshot.eta_s))
            return await send(outgoing, session, cargo)

        monkeypatch.setattr(world.remote, "send", slow)
        events = manager.events()
        following = beside(anext(events))
        await settle()
        queued = await manager.queue(world.file("a", bytes(4200)), "any:a")
        await following
        told = [
            (it.snapshot.done, it.snapshot.speed)
            async for it in until_ended(events)
            if isinstance(it, Progress)
        ]
        row = await manager.wait(queued)
    assert seen == [(1000, 1000.0, 3.2), (3000, 1200.0, 1.0)]
    assert (4200, 1200.0) in told
    assert row.transfer.snapshot.speed == 2100.0


async def until_ended(events: AsyncIterator[Happening]) -> AsyncIterator[Happening]:
    async for it in events:
        yield it
        if isinstance(it, Changed) and not it.row.live:
            return


@pytest.mark.parametrize("anew", [True, False])
async def test_a_reader_that_lags_is_told_so_and_shown_what_there_is(anew: bool) -> None:
    world = Sending()
    async with world.running(role=Role.NEVER) as manager:
        events = manager.events(anew=anew)
        first = beside(anext(events))
        await settle()
        queued = await manager.queue(world.file("a", DATA), "any:a")
        assert isinstance(await first, Changed)
        for _ in range(MAX_BEHIND + 1):
            manager.changed(replace(await manager._require(queued)))
        lagged = await anext(events)
        assert isinstance(lagged, Lagged)
        assert [row.id for row in lagged.live] == ([queued] if anew else [])
        await events.aclose()


@pytest.mark.parametrize("later", [0, 2 * MAX_BEHIND], ids=["at the limit", "before others"])
async def test_a_reader_that_lags_still_hears_that_the_journal_was_replaced(later: int) -> None:
    world = Sending()
    async with world.running(role=Role.NEVER) as manager:
        events = manager.events(anew=False)
        first = beside(anext(events))
        await settle()
        queued = await manager.queue(world.file("a", DATA), "any:a")
        assert isinstance(await first, Changed)
        row = await manager._require(queued)
        for _ in range(MAX_BEHIND):
            manager.changed(row)
        error = StorageUnavailable("another journal", replaced=True)
        manager._journal.note(error)
        for _ in range(later):
            manager.changed(row)
        assert await anext(events) == Lagged(())
        assert await anext(events) == Hindered(error)
        await events.aclose()


async def test_a_bound_on_the_bandwidth_can_be_changed_while_it_holds() -> None:
    world = Sending()
    async with world.running() as manager:
        manager.set_bandwidth(64 * 1024)
        queued = await manager.queue(world.file("a", DATA), "ordered:a")
        await in_phase(manager, queued, Phase.IN_PROGRESS)
        assert world.ordered.sent_bytes <= 2 * 64 * 1024
        manager.set_bandwidth(None)
        assert (await wait_out(world, manager, queued)).transfer.outcome is Outcome.SUCCEEDED


async def test_whoever_runs_obeys_the_bandwidth_that_another_process_asks_for() -> None:
    world = Sending()
    async with world.running() as runner, world.running(role=Role.NEVER) as other:
        runner.set_bandwidth(64 * 1024)
        queued = await other.queue(world.file("a", DATA), "ordered:a")
        world.clock.advance(POLL_S)
        await in_phase(runner, queued, Phase.IN_PROGRESS)
        assert runner.limits.bandwidth == 64 * 1024
        await other.ask_bandwidth(None)
        world.clock.advance(POLL_S)
        await settle()
        assert [each.limits.bandwidth for each in (runner, other)] == [None, None]
        assert (await wait_out(world, runner, queued)).transfer.outcome is Outcome.SUCCEEDED
        await runner.ask_bandwidth(5.0)
        assert runner.limits.bandwidth == 5.0
    async with world.running() as later:
        assert later.limits.bandwidth is None, "it was asked of another"


async def test_a_journal_that_cannot_be_written_stops_nothing_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        write = manager._journal.write

        async def failing(*arguments: object, **options: object) -> object:
            raise StorageUnavailable("the disk is on fire")

        monkeypatch.setattr(manager._journal, "write", failing)
        gate.open()
        await settle()
        monkeypatch.setattr(manager._journal, "write", write)
        assert (await wait_out(world, manager, queued)).transfer.outcome is Outcome.SUCCEEDED
    assert world.remote.files == {"a": [DATA]}


async def test_a_journal_that_cannot_be_used_for_a_while_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    async with world.running(role=Role.NEVER) as observer:
        queued = await observer.queue(world.file("a", DATA), "any:a")
        paused = await observer.queue(world.file("b", DATA), "any:b")
        await observer.pause(paused)
    journal = MemoryJournal(world.journal)
    calls = {"read": 0, "write": 0, "commits_of_others": 0}

    def flaky(name: str, method: Any) -> Any:
        async def failing(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            if calls[name] <= 2:
                raise StorageUnavailable("the disk is on fire")
            return await method(*arguments, **options)

        return failing

    manager = world.manager(journal=journal)
    await manager.start()
    for name in calls:
        monkeypatch.setattr(journal, name, flaky(name, getattr(journal, name)))
    async with asyncio.timeout(60):
        while min(calls.values()) < 3 or world.remote.files.get("a") is None:
            await pass_time(world)
            with suppress(StorageUnavailable):
                await manager.get(queued)
        assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED
        await manager.stop()


async def test_what_another_process_wanted_unheard_is_obeyed_when_its_turn_comes() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    limits = SendLimits(slots=SlotLimits(total=1, per_line=0))
    async with world.running(limits=limits) as manager, world.running(role=Role.NEVER) as observer:
        first = await manager.queue(world.file("a", DATA), "any:a")
        second = await manager.queue(world.file("b", DATA), "any:b")
        await gate.wait_reached()
        await observer.pause(second)
        await observer.queue(world.file("c", DATA), "any:c")
        third = await manager.queue(world.file("d", DATA), "any:d")
        gate.open()
        await manager.wait(first)
        await in_phase(manager, second, Phase.PAUSED)
        await pass_time(world)
        await manager.wait(third)
        await manager._heard(TransferId("pruned"))
    assert set(world.remote.files) == {"a", "c", "d"}


async def test_resuming_one_that_backs_off_leaves_it_where_it_is() -> None:
    world = Sending()
    world.remote.plan("create", PeerUnreachable("http://remote", "cut"))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        row = await in_phase(manager, queued, Phase.WAITING_RETRY)
        assert await manager.resume(queued) == row
        await settle()
        assert (await wait_out(world, manager, queued)).transfer.attempts == 2


async def test_limits_of_slots_may_be_set_before_there_is_a_runner() -> None:
    world = Sending()
    async with world.running(role=Role.NEVER) as observer:
        observer.set_slots(SlotLimits(total=1, per_line=1))
        queued = await observer.queue(world.file("a", DATA), "any:a")
    gate = world.remote.gate("create")
    manager = world.manager()
    manager.set_slots(SlotLimits(total=2, per_line=1))
    async with manager:
        await gate.wait_reached()
        second = await manager.queue(world.file("b", DATA), "any:b")
        await settle()
        assert world.remote.calls == ["create"]
        gate.open()
        for each in (queued, second):
            await manager.wait(each)


async def test_a_stop_in_the_same_moment_as_a_start_of_a_transfer_leaves_it_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    async with world.running(role=Role.NEVER) as observer:
        queued = await observer.queue(world.file("a", DATA), "any:a")
    journal = MemoryJournal(world.journal)
    write, begun, go_on = journal.write, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any, **options: Any) -> Any:
        manager = managers[0]
        if manager._runner is not None and manager._runner.slots.statistics.held:
            begun.set()
            await go_on.wait()
        return await write(*arguments, **options)

    monkeypatch.setattr(journal, "write", slow)
    managers = [world.manager(journal=journal)]
    await managers[0].start()
    await begun.wait()
    stopping = beside(managers[0].stop(grace_s=0))
    await settle()
    go_on.set()
    await stopping
    assert world.remote.calls == []
    async with world.running() as again:
        assert (await again.wait(queued)).transfer.outcome is Outcome.SUCCEEDED
    assert world.remote.files == {"a": [DATA]}


async def test_followers_of_a_manager_that_has_stopped_come_to_their_end() -> None:
    world = Sending()
    manager = world.manager()
    await manager.start()
    await manager.stop()
    async with asyncio.timeout(60):
        assert [happening async for happening in manager.events()] == []


async def test_a_row_that_is_gone_while_its_session_is_given_up_stays_gone() -> None:
    world = Sending()
    world.remote.plan("send", PeerUnreachable("http://remote", "cut"))
    gate = world.remote.gate("cancel")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", b"1"), "any:a")
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        await manager.cancel(queued)
        await gate.wait_reached()
        await manager.remove(queued)
        gate.open()
        await settle()
        assert await manager.get(queued) is None


async def test_a_remote_that_tells_no_checksum_is_compared_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Sending()
    monkeypatch.setattr(world.remote, "summing", lambda *_: None)
    async with world.running() as manager:
        row = await manager.wait(await manager.queue(world.file("a", DATA), "any:a"))
    assert row.transfer.outcome is Outcome.SUCCEEDED
    assert row.sum is None


async def test_what_was_stored_without_being_told_is_found_by_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Sending()
    send = world.ordered.send

    async def silent(*arguments: Any) -> None:
        await send(*arguments)

    monkeypatch.setattr(world.ordered, "send", silent)
    async with world.running() as manager:
        row = await manager.wait(await manager.queue(world.file("a", DATA), "ordered:a"))
    assert row.transfer.outcome is Outcome.SUCCEEDED
    assert world.ordered.files == {"a": [DATA]}


async def test_many_old_results_are_forgotten_in_several_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haulier.engine.send_runner.BATCH", 2)
    world = Sending()
    async with world.running() as manager:
        for n in range(5):
            await manager.wait(await manager.queue(world.file(f"f{n}", b"x"), f"any:f{n}"))
    world.clock.advance(31 * 24 * 3600)
    async with world.running() as manager:
        await settle()
        assert await manager.list() == ([], None)


async def test_what_is_old_is_forgotten_though_the_journal_failed_at_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    async with world.running() as manager:
        await manager.wait(await manager.queue(world.file("a", DATA), "any:a"))
    world.clock.advance(31 * 24 * 3600)
    real, failures = MemoryJournalRows.prune, [StorageUnavailable("for a moment")]

    def prune(rows: MemoryJournalRows, **how: Any) -> int:
        if failures:
            raise failures.pop()
        return real(rows, **how)

    monkeypatch.setattr(MemoryJournalRows, "prune", prune)
    async with world.running() as manager:
        await settle()
        assert failures == []
        world.clock.advance(60)
        await settle()
        assert await manager.list() == ([], None)
