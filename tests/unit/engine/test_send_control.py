"""What is wanted of transfers, in which order they run, and that no slot is ever lost."""

import asyncio
from typing import Any

import pytest

from haulier.adapters.memory.remote import IN_ORDER, Accident, MemoryRemote
from haulier.core.dispatch import Dispatch, Wanted
from haulier.core.errors import (
    InvalidRequest,
    PeerBlocked,
    PeerBusy,
    PeerRefused,
    PeerUnreachable,
    RemoteSessionLost,
)
from haulier.core.outgoing import Held, IfExists, Outgoing, RemoteSession, Stored
from haulier.core.ranges import Ranges
from haulier.core.transfer import Obstacle, Outcome, Phase, Priority, Step, TransferId
from haulier.core.values import replace
from haulier.engine.send import Role, UploadManager
from haulier.engine.send_runner import SendLimits, SendRunner
from haulier.engine.slots import SlotLimits
from haulier.sending_ports import Cargo
from tests.support.engine import beside
from tests.support.sending import Sending, in_phase, settle

DATA = bytes(range(256)) * 1000
LARGE = bytes(9 * 1024 * 1024)
ONE = SendLimits(slots=SlotLimits(total=1, per_line=0))


def held(manager: UploadManager) -> int:
    assert manager._runner is not None
    return manager._runner.slots.statistics.held


async def ended(manager: UploadManager, transfer_id: str) -> Dispatch:
    """The result, and nothing is left that it held."""
    row = await manager.wait(transfer_id)
    await settle()
    assert held(manager) == 0
    return row


async def test_a_cancel_while_a_session_is_begun_takes_it_away_and_frees_one_slot() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        cancelling = beside(manager.cancel(queued))
        await settle()
        assert held(manager) == 1
        gate.open()
        row = await cancelling
        assert (row.transfer.outcome, row.session) == (Outcome.CANCELLED, None)
        await ended(manager, queued)
    assert world.remote.calls[:2] == ["create", "cancel"]
    assert world.remote.sessions == 0


async def test_a_pause_while_a_session_is_begun_keeps_it() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        await manager.pause(queued)
        await settle()
        gate.open()
        row = await in_phase(manager, queued, Phase.PAUSED)
        assert row.session is not None
        await manager.resume(queued)
        assert (await ended(manager, queued)).transfer.outcome is Outcome.SUCCEEDED
    assert world.remote.calls.count("create") == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("target", "operation"), [("any:a", "create"), ("any:a", "send"), ("ordered:a", "send")]
)
async def test_a_cancel_stops_a_request_that_is_not_answered_and_frees_one_slot(
    target: str, operation: str
) -> None:
    world = Sending()
    gates = [remote.gate(operation) for remote in (world.remote, world.ordered)]
    gate = gates[target.startswith("ordered")]
    async with world.running() as manager:
        # Of one byte: the request that brings it is the last one, which may make the file.
        queued = await manager.queue(world.file("a", b"1"), target)
        await gate.wait_reached()
        assert held(manager) == 1
        row = await manager.cancel(queued)
        assert row.transfer.outcome is Outcome.CANCELLED
        assert row.session is None
        await ended(manager, queued)
        for each in gates:
            each.open()
        other = await manager.queue(world.file("b", DATA), "any:b")
        assert (await ended(manager, other)).transfer.outcome is Outcome.SUCCEEDED
    assert world.remote.sessions == world.ordered.sessions == 0
    assert "a" not in world.remote.files
    assert "a" not in world.ordered.files


@pytest.mark.parametrize(("operation", "step"), [("commit", Step.COMMITTING), ("verify", Step.VERIFYING)])
async def test_a_cancel_past_the_point_of_no_return_tells_what_truly_happened(
    operation: str, step: Step
) -> None:
    world = Sending()
    gate = world.remote.gate(operation)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        cancel = beside(manager.cancel(queued))
        await settle()
        view = await manager.get(queued)
        assert view is not None
        assert view.row.transfer.step is step
        assert not cancel.done()
        gate.open()
        assert (await cancel).transfer.outcome is Outcome.SUCCEEDED
        await ended(manager, queued)
    assert world.remote.files == {"a": [DATA]}


async def test_a_cancel_while_it_waits_for_a_slot_ends_it_at_once() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running(limits=ONE) as manager:
        first = await manager.queue(world.file("a", DATA), "any:a")
        second = await manager.queue(world.file("b", DATA), "any:b")
        await gate.wait_reached()
        assert (await manager.cancel(second)).transfer.outcome is Outcome.CANCELLED
        assert held(manager) == 1
        gate.open()
        await ended(manager, first)
    assert set(world.remote.files) == {"a"}


async def test_a_cancel_while_it_backs_off_ends_it_and_gives_its_session_up() -> None:
    world = Sending()
    world.remote.plan("send", PeerUnreachable("http://remote", "cut"))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", b"1"), "any:a")
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        assert held(manager) == 0
        assert (await manager.cancel(queued)).transfer.outcome is Outcome.CANCELLED
        await settle()
        row = await ended(manager, queued)
        assert row.session is None
    assert world.remote.sessions == 0


async def test_a_finished_transfer_is_returned_unchanged() -> None:
    world = Sending()
    async with world.running() as manager:
        row = await manager.wait(await manager.queue(world.file("a", DATA), "any:a"))
        assert await manager.cancel(row.id) == row
        assert await manager.pause(row.id) == row
        assert await manager.resume(row.id) == row
        assert await manager.bump(row.id) == row
        assert await manager.set_priority(row.id, Priority.HIGH) == row


@pytest.mark.parametrize(
    ("field", "given", "named"),
    [
        ("priority", 99, "Priority.LOW"),
        ("if_exists", "overwrite", "IfExists.REPLACE"),
        ("on_change", None, "OnChange.RESTART"),
    ],
)
async def test_a_choice_that_there_is_not_is_refused_by_its_name(field: str, given: Any, named: str) -> None:
    world = Sending()
    async with world.running() as manager:
        with pytest.raises(InvalidRequest, match=rf"{field}.*{named}.*not {given!r}"):
            await manager.queue(world.file("a", DATA), "any:a", **{field: given})
        assert (await manager.list())[0] == []
        as_text: Any = "rename"
        row = await manager.wait(await manager.queue(world.file("a", DATA), "any:a", if_exists=as_text))
        assert row.if_exists is IfExists.RENAME
        wrong: Any = 99
        with pytest.raises(InvalidRequest, match="priority"):
            await manager.set_priority(row.id, wrong)


async def test_a_paused_transfer_goes_on_where_it_was() -> None:
    world = Sending()
    async with world.running() as manager:
        gate = world.ordered.gate("send")
        queued = await manager.queue(world.file("a", DATA), "ordered:a")
        await gate.wait_reached()
        await manager.pause(queued)
        row = await in_phase(manager, queued, Phase.PAUSED)
        assert row.session is not None
        assert held(manager) == 0
        gate.open()
        await settle()
        assert world.ordered.calls.count("send") == 1
        await manager.resume(queued)
        assert (await ended(manager, queued)).transfer.outcome is Outcome.SUCCEEDED
    assert world.ordered.calls.count("create") == 1
    assert world.ordered.calls.count("offset") == 1


@pytest.mark.usefixtures("impatient")
async def test_a_paused_one_may_be_cancelled_and_a_cancelled_one_stays_so() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        await manager.pause(queued)
        await in_phase(manager, queued, Phase.PAUSED)
        cancel = beside(manager.cancel(queued))
        await settle()
        row = await manager.resume(queued)
        assert row.wanted is Wanted.CANCEL
        assert (await cancel).transfer.outcome is Outcome.CANCELLED


async def test_urgent_ones_go_first_then_small_ones_then_who_came_first() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running(limits=ONE) as manager:
        await manager.queue(world.file("first", b"1"), "any:first")
        await gate.wait_reached()
        world.file("large", LARGE)
        for name, priority in [
            ("low", Priority.LOW),
            ("large", Priority.NORMAL),
            ("early", Priority.NORMAL),
            ("late", Priority.NORMAL),
            ("high", Priority.HIGH),
        ]:
            path = "/large" if name == "large" else world.file(name, b"1")
            await manager.queue(path, f"any:{name}", priority=priority, id=name)
        await settle()
        places = {str(view.row.id): view.place for view in (await manager.list())[0]}
        assert [places[name] for name in ("high", "early", "late", "large", "low")] == [1, 2, 3, 4, 5]
        await manager.set_priority("low", Priority.HIGH)
        await manager.bump("late")
        await settle()
        gate.open()
        for name in ("low", "large", "early", "late", "high"):
            await manager.wait(name)
    assert list(world.remote.files) == ["first", "high", "low", "late", "early", "large"]


async def test_nothing_starves_behind_newer_and_more_urgent_ones() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running(limits=ONE) as manager:
        await manager.queue(world.file("first", b"1"), "any:first")
        await gate.wait_reached()
        await manager.queue(world.file("old", b"1"), "any:old", priority=Priority.LOW, id="old")
        world.clock.advance(1801)
        newest = [
            await manager.queue(world.file(f"n{n}", b"1"), f"any:n{n}", priority=Priority.HIGH)
            for n in range(5)
        ]
        await settle()
        gate.open()
        for each in ["old", *newest]:
            await manager.wait(each)
    assert list(world.remote.files)[1] == "old"


async def test_one_slot_is_kept_for_small_files() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    limits = SendLimits(slots=SlotLimits(total=2, per_line=0, reserved=1))
    async with world.running(limits=limits) as manager:
        world.file("large", LARGE)
        one = await manager.queue("/large", "any:one")
        two = await manager.queue("/large", "any:two")
        await settle()
        assert held(manager) == 1
        small = await manager.queue(world.file("small", b"1"), "any:small")
        await settle()
        assert held(manager) == 2
        gate.open()
        for each in (one, two, small):
            await manager.wait(each)


async def test_no_more_run_at_once_than_there_are_slots_and_more_as_soon_as_there_are() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running(limits=ONE) as manager:
        ids = [await manager.queue(world.file(f"f{n}", b"x"), f"any:f{n}") for n in range(6)]
        await settle()
        assert held(manager) == 1
        manager.set_slots(SlotLimits(total=0, per_line=3))
        await settle()
        assert held(manager) == 3
        gate.open()
        for each in ids:
            await manager.wait(each)


async def test_when_one_is_told_to_wait_all_of_that_remote_wait_and_nobody_else() -> None:
    world = Sending()
    world.remote.plan("create", PeerBusy(429, "too many requests", 120.0))
    async with world.running() as manager:
        first = await manager.queue(world.file("a", DATA), "any:a")
        await in_phase(manager, first, Phase.WAITING_RETRY)
        second = await manager.queue(world.file("b", DATA), "any:b")
        other = await manager.queue(world.file("c", DATA), "ordered:c")
        assert (await manager.wait(other)).transfer.outcome is Outcome.SUCCEEDED
        await settle()
        world.clock.advance(119)
        await settle()
        assert world.remote.calls == ["create"]
        world.clock.advance(2)
        assert (await manager.wait(first)).transfer.outcome is Outcome.SUCCEEDED
        assert (await manager.wait(second)).transfer.outcome is Outcome.SUCCEEDED


async def test_a_transfer_that_runs_also_waits_when_its_remote_asks_another_to() -> None:
    world = Sending()
    async with world.running() as manager:
        gate = world.ordered.gate("send")
        first = await manager.queue(world.file("a", DATA), "ordered:a")
        await gate.wait_reached()
        world.ordered.plan("create", PeerBusy(503, "later", 60.0))
        second = await manager.queue(world.file("b", DATA), "ordered:b")
        await in_phase(manager, second, Phase.WAITING_RETRY)
        gate.open()
        row = await in_phase(manager, first, Phase.WAITING_RETRY)
        assert row.transfer.reason == "the remote asks to wait"
        assert row.failures == 0
        assert held(manager) == 0
        world.clock.advance(61)
        assert (await manager.wait(first)).transfer.outcome is Outcome.SUCCEEDED
        await manager.wait(second)


async def test_an_obstacle_blocks_until_somebody_resumes() -> None:
    world = Sending()
    world.remote.plan("create", PeerBlocked(Obstacle.QUOTA, "the drive is full"))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        row = await in_phase(manager, queued, Phase.BLOCKED)
        assert (row.transfer.obstacle, row.error) == (Obstacle.QUOTA, "the drive is full (quota)")
        assert held(manager) == 0
        world.clock.advance(3600)
        await settle()
        assert world.remote.calls == ["create"]
        await manager.resume(queued)
        assert (await ended(manager, queued)).transfer.outcome is Outcome.SUCCEEDED


async def test_a_day_without_progress_ends_as_timed_out_so_that_every_wait_ends() -> None:
    world = Sending()
    async with world.running() as manager:
        world.remote.plan("create", PeerBlocked(Obstacle.AUTH, "sign in again"))
        blocked = await manager.queue(world.file("a", DATA), "any:a")
        await in_phase(manager, blocked, Phase.BLOCKED)
        world.ordered.plan("create", *[PeerUnreachable("http://remote", "refused")] * 2000)
        failing = await manager.queue(world.file("b", DATA), "ordered:b")
        await in_phase(manager, failing, Phase.WAITING_RETRY)
        for _ in range(300):
            world.clock.advance(300)
            await settle()
        for each in (blocked, failing):
            row = await ended(manager, each)
            assert row.transfer.outcome is Outcome.TIMED_OUT
            assert "no progress for 24 hours" in (row.transfer.reason or "")


async def test_a_cancel_of_a_blocked_one_past_the_point_of_no_return_ends_it() -> None:
    world = Sending()
    world.remote.plan("commit", Accident(error=PeerBlocked(Obstacle.AUTH, "sign in"), done=True))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await in_phase(manager, queued, Phase.BLOCKED)
        row = await manager.cancel(queued)
        assert row.transfer.outcome is Outcome.ERRORED
        assert row.transfer.reason == "given up while unfinished: sign in (auth)"


async def test_a_cancel_of_one_that_may_have_arrived_asks_first() -> None:
    world = Sending()
    world.remote.plan("commit", Accident(error=PeerUnreachable("http://remote", "cut"), done=True))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        cancel = beside(manager.cancel(queued))
        await settle()
        assert not cancel.done()
        world.clock.advance(300)
        assert (await cancel).transfer.outcome is Outcome.SUCCEEDED


async def test_a_cancel_of_one_that_turns_out_not_to_have_arrived_is_obeyed_then() -> None:
    world = Sending()
    world.remote.plan("commit", PeerUnreachable("http://remote", "cut"))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        cancel = beside(manager.cancel(queued))
        await settle()
        world.clock.advance(300)
        assert (await cancel).transfer.outcome is Outcome.CANCELLED
    assert world.remote.files == {}
    assert world.remote.sessions == 0


NOT_CONNECTED = PeerUnreachable("http://remote", "refused", sent=False)


@pytest.mark.parametrize(("target", "operation"), [("ordered:a", "send"), ("any:a", "commit")])
async def test_a_cancel_of_one_whose_last_request_found_no_connection_is_obeyed_at_once(
    target: str, operation: str
) -> None:
    world = Sending()
    for remote in (world.remote, world.ordered):
        remote.plan(operation, NOT_CONNECTED)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", b"1"), target)
        row = await in_phase(manager, queued, Phase.WAITING_RETRY)
        assert not row.transfer.past_return
        assert (await manager.cancel(queued)).transfer.outcome is Outcome.CANCELLED
        await settle()
    assert world.remote.sessions == world.ordered.sessions == 0


async def test_one_whose_file_may_be_there_already_stays_so_without_a_connection() -> None:
    world = Sending()
    # The last chunk made the file, and the answer to it was lost; then there was no connection to ask by.
    world.ordered.plan("send", Accident(error=PeerUnreachable("http://remote", "cut"), done=True))
    world.ordered.plan("offset", NOT_CONNECTED)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", b"1"), "ordered:a")
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        cancel = beside(manager.cancel(queued))
        await settle()
        assert not cancel.done()
        for _ in range(2):
            world.clock.advance(300)
            await settle()
        assert (await cancel).transfer.outcome is Outcome.SUCCEEDED


async def test_one_whose_file_an_earlier_request_may_yet_make_stays_so_without_a_connection() -> None:
    world = Sending()
    world.remote.plan("commit", PeerUnreachable("http://remote", "cut"))
    world.remote.plan("commit", NOT_CONNECTED)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", b"1"), "any:a")
        for attempts in (1, 2):
            row = await in_phase(manager, queued, Phase.WAITING_RETRY)
            assert (row.transfer.attempts, row.transfer.past_return) == (attempts, True)
            world.clock.advance(300)
            await settle()


async def test_one_that_turns_out_to_be_held_whole_stays_past_the_point_of_no_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its remote can tell by the checksum alone whether the file is the one that was sent."""
    world = Sending()
    world.ordered.plan("send", Accident(error=PeerUnreachable("http://remote", "cut"), done=True))
    world.ordered.plan("commit", PeerUnreachable("http://remote", "cut"))
    offset = world.ordered.offset

    async def unsure(outgoing: Outgoing, session: RemoteSession) -> Held:
        return replace(await offset(outgoing, session), stored=None)

    monkeypatch.setattr(world.ordered, "offset", unsure)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", b"1"), "ordered:a")
        for attempts in (1, 2):
            row = await in_phase(manager, queued, Phase.WAITING_RETRY)
            assert (row.transfer.attempts, row.transfer.past_return) == (attempts, True)
            world.clock.advance(300)
            await settle()
        assert (await manager.cancel(queued)).transfer.outcome is Outcome.SUCCEEDED
    assert world.ordered.files == {"a": [b"1"]}


async def test_one_whose_last_request_may_yet_work_stays_past_the_point_of_no_return_whatever_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A session may tell that it holds less, and then make the file of a fragment that was answered with an error."""
    world = Sending()
    world.ordered.plan("send", Accident(error=PeerUnreachable("http://remote", "cut"), done=True))
    offset, asked = world.ordered.offset, list[Held]()

    async def late(outgoing: Outgoing, session: RemoteSession) -> Held:
        asked.append(await offset(outgoing, session))
        # The first answer is older than the file.
        return Held() if len(asked) == 1 else Held(ranges=Ranges.of([(0, 1)]))

    async def busy(outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> None:
        raise PeerBusy(503, "busy")

    monkeypatch.setattr(world.ordered, "offset", late)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", b"1"), "ordered:a")
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        monkeypatch.setattr(world.ordered, "send", busy)
        cancel = beside(manager.cancel(queued))
        await settle()
        world.clock.advance(300)
        await settle()
        row = await in_phase(manager, queued, Phase.WAITING_RETRY)
        assert (row.transfer.attempts, row.transfer.past_return) == (2, True)
        assert not cancel.done()
        world.clock.advance(300)
        assert (await cancel).transfer.outcome is Outcome.SUCCEEDED
    assert world.ordered.files == {"a": [b"1"]}
    assert world.ordered.calls.count("create") == 1


@pytest.mark.parametrize("told", [Held(ranges=Ranges.of([(0, 1)])), Held(stored=Stored(name="a", size=1))])
async def test_a_file_that_is_there_before_its_last_byte_went_is_that_of_somebody_else(
    monkeypatch: pytest.MonkeyPatch, told: Held
) -> None:
    world = Sending()
    world.ordered.plan("send", PeerBusy(503, "busy"))

    async def offset(outgoing: Outgoing, session: RemoteSession) -> Held:
        return told

    monkeypatch.setattr(world.ordered, "offset", offset)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", b"1"), "ordered:a")
        row = await in_phase(manager, queued, Phase.WAITING_RETRY)
        assert not row.transfer.past_return
        world.clock.advance(300)
        assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED
    assert world.ordered.files == {"a": [b"1"]}
    assert world.ordered.calls.count("create") == 2


async def test_targets_that_differ_in_case_go_one_after_the_other_where_the_remote_says_so() -> None:
    world = Sending()
    world.remotes["folding"] = folding = MemoryRemote(replace(IN_ORDER, folds_case=True))
    gate = folding.gate("create")
    async with world.running() as manager:
        queued = [await manager.queue(world.file(name, b"1"), f"folding:{name}") for name in ("X", "x")]
        await gate.wait_reached()
        await settle()
        assert folding.calls == ["create"]
        gate.open()
        for each in queued:
            await manager.wait(each)
    assert list(folding.files) == ["X", "x"]


async def test_a_cancel_that_another_process_has_written_is_obeyed_before_the_last_bytes_go() -> None:
    world = Sending()
    gate = world.ordered.gate("send")
    async with world.running() as manager, world.manager(role=Role.NEVER) as elsewhere:
        queued = await manager.queue(world.file("a", b"1"), "ordered:a")
        await gate.wait_reached()
        cancel = beside(elsewhere.cancel(queued))
        view = await manager.get(queued)
        while view is None or view.row.wanted is not Wanted.CANCEL:
            await asyncio.sleep(0)
            view = await elsewhere.get(queued)
        gate.open()
        assert (await ended(manager, queued)).transfer.outcome is Outcome.CANCELLED
        await cancel
    assert world.ordered.files == {}
    assert world.ordered.sessions == 0


class Forgetful(MemoryRemote):
    """Has forgotten the session when the last bytes come, once."""

    async def send(self, outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> Stored | None:
        if "send" not in self.calls:
            self.calls.append("send")
            assert cargo.before_end is not None
            await cargo.before_end()
            raise RemoteSessionLost("it is not known there")
        return await super().send(outgoing, session, cargo)


async def test_one_whose_session_was_lost_at_its_end_may_be_cancelled_while_it_is_sent_anew() -> None:
    world = Sending()
    world.remotes["forgetful"] = remote = Forgetful(IN_ORDER)
    gate = remote.gate("send")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", b"1"), "forgetful:a")
        await gate.wait_reached()
        assert (await manager.cancel(queued)).transfer.outcome is Outcome.CANCELLED
    assert remote.files == {}


async def test_what_was_begun_where_a_remote_is_no_more_is_forgotten_with_the_transfer() -> None:
    world = Sending()
    gate = world.remote.gate("send")
    world.remote.plan("cancel", RemoteSessionLost("it was begun elsewhere"))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
        row = await manager.cancel(queued)
        assert (row.transfer.outcome, row.session) == (Outcome.CANCELLED, None)


class Silent(MemoryRemote):
    """Makes the file by its last chunk, and does not say so."""

    async def send(self, outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> None:
        await super().send(outgoing, session, cargo)


async def test_a_commit_without_a_connection_does_not_undo_that_the_last_chunk_went() -> None:
    world = Sending()
    world.remotes["silent"] = remote = Silent(IN_ORDER)
    remote.plan("commit", NOT_CONNECTED)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", b"1"), "silent:a")
        row = await in_phase(manager, queued, Phase.WAITING_RETRY)
        assert row.transfer.past_return


async def test_a_refusal_is_an_outcome_of_its_own() -> None:
    world = Sending()
    world.remote.plan("create", PeerRefused(403, "access-denied", "not for you"))
    async with world.running() as manager:
        row = await ended(manager, await manager.queue(world.file("a", DATA), "any:a"))
    assert row.transfer.outcome is Outcome.REJECTED
    assert row.transfer.reason == row.error == "not for you (access-denied, 403)"


async def test_a_mistake_of_ours_ends_the_transfer_and_not_the_manager() -> None:
    world = Sending()
    world.remote.plan("create", ZeroDivisionError("oh"))
    async with world.running() as manager:
        row = await ended(manager, await manager.queue(world.file("a", DATA), "any:a"))
        assert row.transfer.outcome is Outcome.ERRORED
        assert row.transfer.reason == "a mistake in haulier itself: ZeroDivisionError: oh"
        await ended(manager, await manager.queue(world.file("a", DATA), "any:a"))
    assert world.newest("a") == DATA


async def test_a_remote_that_is_gone_from_the_settings_blocks_its_transfers() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await gate.wait_reached()
    remote = world.remotes.pop("any")
    gate.open()
    async with world.running() as manager:
        row = await in_phase(manager, queued, Phase.BLOCKED)
        assert row.transfer.reason == "there is no remote 'any' here; set it up, and resume this (conflict)"
        world.remotes["any"] = remote
        await manager.resume(queued)
        assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED


class Starts:
    """Holds whoever has got a slot before its row is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.one, self.may_go_on = asyncio.Event(), asyncio.Event()
        run_one = SendRunner._run_one

        async def late(runner: SendRunner, transfer_id: TransferId) -> None:
            self.one.set()
            await self.may_go_on.wait()
            await run_one(runner, transfer_id)

        monkeypatch.setattr(SendRunner, "_run_one", late)


async def test_one_that_moves_up_while_its_row_is_read_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world, starts = Sending(), Starts(monkeypatch)
    gate = world.remote.gate("create")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await starts.one.wait()
        await manager.bump(queued)
        await settle()
        starts.may_go_on.set()
        await gate.wait_reached()
        await settle()
        assert held(manager) == 1
        gate.open()
        await ended(manager, queued)
    assert world.remote.calls.count("create") == 1
    assert world.remote.files == {"a": [DATA]}


async def test_a_cancel_while_its_row_is_read_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    world, starts = Sending(), Starts(monkeypatch)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await starts.one.wait()
        cancelling = beside(manager.cancel(queued))
        await settle()
        starts.may_go_on.set()
        assert (await cancelling).transfer.outcome is Outcome.CANCELLED
        await ended(manager, queued)
    assert world.remote.files == {}
