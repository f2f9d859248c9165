"""One attempt: which phase follows which, its one outcome, and what is shown of its progress."""

from collections.abc import Callable

import pytest

from haulier.core.transfer import (
    TRANSITIONS,
    Direction,
    Obstacle,
    Outcome,
    Pace,
    Phase,
    Step,
    Transfer,
    TransferId,
)
from haulier.core.values import replace

REASON = "the connection was cut"


def queued(size: int = 1000) -> Transfer:
    return Transfer(id=TransferId("t"), direction=Direction.UPLOAD, line="remote", size=size, queued_at=0.0)


def running(size: int = 1000, *, offset: int = 0, now: float = 0.0) -> Transfer:
    return queued(size).request().initialize().begin(offset, now=now)


IN_PHASE: dict[Phase, Transfer] = {
    Phase.QUEUED: queued(),
    Phase.REQUESTED: queued().request(),
    Phase.QUEUED_REMOTELY: queued().request().queue_remotely(),
    Phase.INITIALIZING: queued().request().initialize(),
    Phase.IN_PROGRESS: running(),
    Phase.WAITING_RETRY: running().wait_until(60.0, REASON),
    Phase.PAUSED: running().pause(),
    Phase.BLOCKED: running().block(Obstacle.QUOTA, "full"),
    Phase.ENDED: running().end(Outcome.ERRORED, now=1.0),
}

ENTER: dict[Phase, Callable[[Transfer], Transfer]] = {
    Phase.QUEUED: Transfer.requeue,
    Phase.REQUESTED: Transfer.request,
    Phase.QUEUED_REMOTELY: Transfer.queue_remotely,
    Phase.INITIALIZING: Transfer.initialize,
    Phase.IN_PROGRESS: lambda it: it.begin(0, now=0.0),
    Phase.WAITING_RETRY: lambda it: it.wait_until(1.0, REASON),
    Phase.BLOCKED: lambda it: it.block(Obstacle.AUTH, REASON),
}

LEGAL = {
    Phase.QUEUED: "requested waiting_retry paused blocked ended",
    Phase.REQUESTED: "queued queued_remotely initializing waiting_retry paused blocked ended",
    Phase.QUEUED_REMOTELY: "queued requested initializing waiting_retry paused blocked ended",
    Phase.INITIALIZING: "queued in_progress waiting_retry paused blocked ended",
    Phase.IN_PROGRESS: "queued waiting_retry paused blocked ended",
    Phase.WAITING_RETRY: "queued paused blocked ended",
    Phase.PAUSED: "queued ended",
    Phase.BLOCKED: "queued paused ended",
    Phase.ENDED: "",
}


def test_the_table_says_what_was_decided() -> None:
    found = {phase: {str(after) for after in afters} for phase, afters in TRANSITIONS.items()}
    assert found == {phase: set(afters.split()) for phase, afters in LEGAL.items()}


@pytest.mark.parametrize("before", Phase)
@pytest.mark.parametrize("after", ENTER)
def test_a_phase_is_entered_only_from_where_the_table_allows_it(before: Phase, after: Phase) -> None:
    transfer = IN_PHASE[before]
    if after.value in LEGAL[before].split():
        assert ENTER[after](transfer).phase is after
    else:
        with pytest.raises(AssertionError):
            ENTER[after](transfer)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.ENDED])
def test_every_live_phase_may_be_cancelled_and_paused(phase: Phase) -> None:
    cancelled = IN_PHASE[phase].cancel(now=1.0)
    assert (cancelled.phase, cancelled.outcome) == (Phase.ENDED, Outcome.CANCELLED)
    assert IN_PHASE[phase].pause().phase is Phase.PAUSED


@pytest.mark.parametrize("outcome", Outcome)
def test_an_ended_transfer_keeps_its_outcome(outcome: Outcome) -> None:
    ended = running().end(outcome, now=1.0, reason=REASON)
    assert ended.end(Outcome.SUCCEEDED, now=2.0) == ended
    assert ended.cancel(now=2.0) == ended
    assert ended.supersede(now=2.0) == ended
    assert ended.pause() == ended
    assert ended.outcome is outcome
    assert ended.reason == REASON


def test_a_superseded_transfer_says_so() -> None:
    assert queued().supersede(now=1.0).outcome is Outcome.SUPERSEDED


def test_the_point_of_no_return_is_taken_back_when_nothing_was_sent() -> None:
    assert running().advance().turn_back() == running()
    with pytest.raises(AssertionError):
        running().turn_back()
    with pytest.raises(AssertionError):
        running().advance().advance().turn_back()


def test_steps_go_on_to_commit_and_verify_and_no_further() -> None:
    committing = running().advance()
    verifying = committing.advance()
    assert (running().step, committing.step, verifying.step) == (
        Step.UPLOADING,
        Step.COMMITTING,
        Step.VERIFYING,
    )
    with pytest.raises(AssertionError):
        verifying.advance()
    with pytest.raises(AssertionError):
        queued().advance()


def test_past_the_point_of_no_return_a_cancel_is_too_late_even_after_a_rest() -> None:
    committing = running().advance()
    resting = committing.wait_until(60.0, "no answer to the commit")
    for transfer in (committing, committing.advance(), resting, resting.requeue().request()):
        assert transfer.cancel(now=1.0) == transfer
        assert transfer.supersede(now=1.0) == transfer
        assert transfer.pause() == transfer
    assert committing.end(Outcome.SUCCEEDED, now=1.0).outcome is Outcome.SUCCEEDED


def test_an_open_session_says_that_there_was_no_commit() -> None:
    again = running().advance().requeue().request().initialize().begin(10, now=0.0)
    assert again.cancel(now=1.0).outcome is Outcome.CANCELLED


def test_one_that_may_have_been_made_stays_past_the_point_of_no_return_and_no_other_gets_there() -> None:
    asked = running().advance().requeue().request().initialize().begin(10, now=0.0, undecided=True)
    assert asked.cancel(now=1.0) == asked
    anew = running().advance().requeue().request().initialize().start_over()
    assert not anew.begin(10, now=0.0, undecided=True).past_return
    never = running().requeue().request().initialize().begin(10, now=0.0, undecided=True)
    assert never.cancel(now=1.0).outcome is Outcome.CANCELLED


def test_what_belongs_to_a_phase_goes_with_it() -> None:
    waiting = running().wait_until(60.0, REASON)
    assert (waiting.retry_at, waiting.reason, waiting.step, waiting.pace) == (60.0, REASON, None, None)
    again = waiting.requeue()
    assert (again.retry_at, again.reason) == (None, None)
    blocked = queued().block(Obstacle.CONFLICT, "the name is taken")
    assert blocked.obstacle is Obstacle.CONFLICT
    assert blocked.requeue().obstacle is None


def test_bytes_that_were_refused_are_not_shown_as_gone() -> None:
    moved = running(1000, offset=100).move(600, now=1.0)
    assert moved.wait_until(60.0, REASON).snapshot.done == 600
    assert moved.pause().snapshot.done == 600
    assert moved.block(Obstacle.QUOTA, "full").snapshot.done == 100


def test_each_start_from_the_queue_is_an_attempt() -> None:
    assert queued().attempts == 0
    again = queued().request().queue_remotely().request()
    assert again.attempts == 1
    assert again.requeue().request().attempts == 2


@pytest.mark.parametrize(
    ("transfer", "label"),
    [
        (IN_PHASE[Phase.QUEUED], "Queued, Locally"),
        (IN_PHASE[Phase.QUEUED_REMOTELY], "Queued, Remotely"),
        (IN_PHASE[Phase.REQUESTED], "Requested"),
        (IN_PHASE[Phase.INITIALIZING], "Initializing"),
        (IN_PHASE[Phase.IN_PROGRESS], "InProgress"),
        (IN_PHASE[Phase.WAITING_RETRY], "Waiting, Retry"),
        (IN_PHASE[Phase.PAUSED], "Paused"),
        (IN_PHASE[Phase.BLOCKED], "Blocked"),
        (running().end(Outcome.SUCCEEDED, now=1.0), "Completed, Succeeded"),
        (running().end(Outcome.CANCELLED, now=1.0), "Completed, Cancelled"),
        (running().end(Outcome.SUPERSEDED, now=1.0), "Completed, Superseded"),
        (running().end(Outcome.TIMED_OUT, now=1.0), "Completed, TimedOut"),
        (running().end(Outcome.REJECTED, now=1.0), "Completed, Rejected"),
        (running().end(Outcome.ABORTED, now=1.0), "Completed, Aborted"),
        (running().end(Outcome.ERRORED, now=1.0), "Completed, Errored"),
    ],
)
def test_labels_are_the_compound_names(transfer: Transfer, label: str) -> None:
    assert transfer.label == label


def test_speed_is_a_moving_average_of_a_fifth_over_samples_of_a_second() -> None:
    pace = Pace.start(0, now=0.0)
    assert pace.moved_to(500, now=0.9) == pace
    first = pace.moved_to(1000, now=1.0)
    assert first.speed == 1000.0
    assert first.moved_to(3000, now=2.0).speed == pytest.approx(1200.0)
    assert first.moved_to(3000, now=3.0).speed == pytest.approx(1000.0)


def test_bytes_that_were_lost_or_a_clock_that_steps_back_give_no_negative_speed() -> None:
    first = Pace.start(0, now=10.0).moved_to(1000, now=11.0)
    assert first.moved_to(0, now=12.0).speed == pytest.approx(800.0)
    assert first.moved_to(5000, now=5.0) == first


def test_progress_shows_percent_speed_and_time_to_go() -> None:
    half = running(1000, offset=250).confirm(500, now=1.0)
    shown = half.snapshot
    assert (shown.done, shown.size, shown.percent, shown.speed, shown.eta_s) == (500, 1000, 50.0, 250.0, 2.0)


def test_whoever_reads_it_elsewhere_is_shown_the_speed_of_what_runs_and_of_nothing_else() -> None:
    half = running(1000, offset=250).confirm(500, now=1.0)
    assert replace(half, pace=None).snapshot == half.snapshot
    assert half.requeue().snapshot.speed is None


def test_what_has_gone_is_shown_and_counts_for_the_speed_but_is_not_confirmed() -> None:
    moved = running(1000, offset=100).move(600, now=1.0)
    assert (moved.done, moved.snapshot.done, moved.snapshot.speed, moved.snapshot.eta_s) == (
        100,
        600,
        500.0,
        0.8,
    )
    assert moved.confirm(500, now=1.5).snapshot.done == 600
    assert moved.confirm(700, now=1.5).snapshot.done == 700
    assert moved.move(2000, now=1.5).snapshot.done == 1000


def test_what_had_gone_is_shown_until_the_next_attempt_knows_better() -> None:
    moved = running(1000, offset=100).move(600, now=1.0)
    resting = moved.wait_until(9.0, "cut")
    assert resting.snapshot.done == 600
    again = resting.requeue().request().initialize()
    assert again.begin(300, now=9.0).snapshot.done == 300
    assert resting.end(Outcome.TIMED_OUT, now=9.0).snapshot.done == 100


def test_what_is_counted_while_a_row_is_written_is_kept() -> None:
    began = running(1000)
    moved = began.move(600, now=1.0)
    assert began.confirm(200, now=0.5).keep_up(moved).snapshot == moved.snapshot
    assert began.pause().keep_up(moved) == began.pause()
    assert began.keep_up(moved.pause()) == began


def test_without_a_speed_there_is_no_time_to_go() -> None:
    assert running().snapshot.eta_s is None
    assert running().confirm(0, now=5.0).snapshot.eta_s is None
    assert queued().snapshot.speed is None


def test_an_empty_file_is_at_zero_percent() -> None:
    assert running(0).confirm(0, now=0.0).snapshot.percent == 0.0
    assert running(0).end(Outcome.SUCCEEDED, now=1.0).snapshot.percent == 0.0


def test_at_the_end_the_speed_is_that_of_the_whole_attempt_without_what_was_there_before() -> None:
    ended = running(1000, offset=200).confirm(1000, now=1.0).end(Outcome.SUCCEEDED, now=4.0)
    assert ended.speed == 200.0
    assert ended.snapshot.speed == 200.0
    assert ended.snapshot.eta_s is None
    assert running().end(Outcome.SUCCEEDED, now=0.0).speed is None


@pytest.mark.parametrize("done", [-1, 1001])
def test_more_than_the_file_has_is_a_mistake(done: int) -> None:
    with pytest.raises(AssertionError):
        running().confirm(done, now=1.0)
    with pytest.raises(AssertionError):
        running(offset=done)


def test_only_an_attempt_in_progress_has_bytes_confirmed() -> None:
    with pytest.raises(AssertionError):
        queued().confirm(1, now=1.0)


def test_a_source_may_have_another_size_before_bytes_flow() -> None:
    assert queued(1000).resized(10).size == 10
    assert running(offset=700).pause().requeue().resized(500).done == 500
    with pytest.raises(AssertionError):
        running().resized(5)
