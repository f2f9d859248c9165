"""A row of the journal: what may be wanted of it, and what becomes of it."""

import errno

import pytest

from haulier.core.dispatch import Dispatch, Wanted, enqueue
from haulier.core.errors import PeerBlocked, SourceChanged
from haulier.core.retry import BACK_OFF, is_due
from haulier.core.transfer import Obstacle, Outcome, Phase, Priority
from haulier.core.values import replace
from haulier.core.verdict import fail, may_restart, settle, stumble
from haulier.testing.journal_contract import T0, ended, full, row


def test_what_was_given_up_stays_so_and_removing_is_the_last_wish() -> None:
    cancelled = row("a").want(Wanted.CANCEL)
    assert cancelled.want(Wanted.RUN) is cancelled
    assert cancelled.want(Wanted.PAUSE) is cancelled
    removed = cancelled.want(Wanted.REMOVE)
    assert removed.wanted is Wanted.REMOVE
    assert removed.want(Wanted.CANCEL) is removed
    assert ended("b", T0).want(Wanted.REMOVE).wanted is Wanted.RUN


def test_what_was_given_up_is_not_superseded() -> None:
    cancelled = row("a").want(Wanted.CANCEL)
    assert cancelled.supersede(row("b").id) is cancelled
    superseded = row("a").supersede(row("b").id)
    assert superseded.obey(now=T0).transfer.outcome is Outcome.SUPERSEDED


def test_one_that_an_obstacle_stopped_is_tried_again_when_it_is_asked_for_again() -> None:
    blocked = settle(row("a"), PeerBlocked(Obstacle.AUTH, "sign in"), now=T0, chance=lambda: 0.0)
    assert (blocked.transfer.phase, blocked.wanted) == (Phase.BLOCKED, Wanted.PAUSE)
    same = replace(row("b"), path=blocked.path)
    joined, (changed,) = enqueue(same, [blocked])
    assert (joined, changed) == (blocked.id, blocked.want(Wanted.RUN))
    assert changed.obey(now=T0).transfer.phase is Phase.QUEUED


def test_one_that_somebody_paused_rests_on_when_it_is_asked_for_again() -> None:
    paused = row("a").want(Wanted.PAUSE).obey(now=T0)
    assert paused.transfer.phase is Phase.PAUSED
    assert enqueue(replace(row("b"), path=paused.path), [paused]) == (paused.id, [])


def test_what_rests_as_it_is_wanted_to_is_left_alone() -> None:
    """Else each look at it would write its row, and tell a change that there is not."""
    paused = row("a").want(Wanted.PAUSE).obey(now=T0)
    assert paused.obey(now=T0 + 1) is paused
    past = row("a")
    past = replace(past, transfer=replace(past.transfer, past_return=True)).want(Wanted.CANCEL)
    assert past.obey(now=T0 + 1) is past


@pytest.mark.parametrize(
    ("code", "phase"),
    [
        (errno.EMFILE, Phase.WAITING_RETRY),
        (errno.ENOMEM, Phase.WAITING_RETRY),
        (errno.ESTALE, Phase.WAITING_RETRY),
        (errno.ENOENT, Phase.ENDED),
        (errno.EACCES, Phase.ENDED),
        (errno.EIO, Phase.ENDED),
    ],
)
def test_what_the_system_is_short_of_can_pass_and_what_is_wrong_with_the_file_cannot(
    code: int, phase: Phase
) -> None:
    running = row("a")
    running = running.moved(running.transfer.request(), now=T0)
    assert settle(running, OSError(code, "x"), now=T0, chance=lambda: 0.0).transfer.phase is phase


def test_a_row_that_is_to_run_and_does_is_left_alone() -> None:
    queued = row("a")
    assert queued.obey(now=T0) is queued
    assert queued.prioritize(Priority.NORMAL) is queued
    assert ended("a", T0).bump(now=T0).bumped_at is None


def test_what_others_wrote_is_kept_when_the_runner_saves() -> None:
    mine, theirs = full("a"), replace(full("a").bump(now=T0 + 9), wanted=Wanted.CANCEL, failures=0)
    merged = mine.merged(theirs)
    assert (merged.wanted, merged.bumped_at, merged.failures) == (Wanted.CANCEL, T0 + 9, 3)


def test_only_confirmed_progress_forgives_failures() -> None:
    running = row("a").transfer.request().initialize().begin(100, now=T0)
    failing = replace(row("a"), transfer=running, furthest=100, failures=2, stalled_at=T0)
    same = failing.confirmed(running.confirm(100, now=T0), now=T0)
    more = failing.confirmed(running.confirm(101, now=T0), now=T0)
    assert (same.failures, same.stalled_at) == (2, T0)
    assert (more.failures, more.stalled_at, more.furthest) == (0, None, 101)


def test_bytes_of_a_session_that_was_lost_are_progress_once_and_of_another_revision_again() -> None:
    begun = row("a").transfer.request().initialize().begin(0, now=T0)
    failing = replace(row("a"), transfer=begun, furthest=100, failures=2, stalled_at=T0)
    once_more = failing.confirmed(begun.confirm(100, now=T0), now=T0)
    assert (once_more.failures, once_more.stalled_at, once_more.furthest) == (2, T0, 100)
    anew = failing.restart(failing.source)
    assert (anew.failures, anew.furthest) == (2, 0)
    assert anew.confirmed(begun.confirm(1, now=T0), now=T0).failures == 0


def test_the_words_of_a_failure_can_be_written_down_and_are_no_page() -> None:
    gone = fail(row("a"), FileNotFoundError(2, "gone", "/a\udcff"), now=T0)
    assert gone.error == gone.transfer.reason == r"/a\xff: gone"
    long = fail(row("a"), OSError("\udcff" * 1000), now=T0)
    assert long.error == (r"\xff" * 125)


def test_a_success_forgets_the_last_failure_and_nothing_else_does() -> None:
    failing = replace(row("a"), error="gone")
    assert ended_as(failing, Outcome.SUCCEEDED).error is None
    assert [ended_as(failing, each).error for each in Outcome if each is not Outcome.SUCCEEDED] == [
        "gone"
    ] * 6
    assert failing.moved(failing.transfer.request(), now=T0).error == "gone"


def ended_as(failing: Dispatch, outcome: Outcome) -> Dispatch:
    return failing.moved(failing.transfer.end(outcome, now=T0), now=T0)


def test_delays_double_up_to_five_minutes_and_obey_the_remote() -> None:
    longest = [BACK_OFF.delay(failures, lambda: 1.0) for failures in (1, 2, 3, 9, 10, 100)]
    assert longest == [1.0, 2.0, 4.0, 256.0, 300.0, 300.0]
    assert BACK_OFF.delay(5, lambda: 0.0) == 0.0
    assert BACK_OFF.delay(1, lambda: 0.5, at_least=60.0) == 60.0
    assert BACK_OFF.delay(1, lambda: 0.5, at_least=10**6) == 300.0


def test_a_try_is_due_when_its_time_has_come_or_is_further_away_than_any_delay() -> None:
    assert [is_due(at, now=T0) for at in (T0 - 1, T0, T0 + 1, T0 + 300, T0 + 301)] == [
        True,
        True,
        False,
        False,
        True,
    ]


def test_a_mistake_of_ours_lets_a_transfer_rest_and_times_it_out_after_a_day() -> None:
    running = row("a")
    running = replace(running, transfer=running.transfer.request().initialize())
    resting = stumble(running, KeyError("x"), now=T0, chance=lambda: 0.5)
    assert (resting.transfer.phase, resting.transfer.retry_at) == (Phase.WAITING_RETRY, T0 + 0.5)
    again = stumble(resting, KeyError("x"), now=T0 + 1, chance=lambda: 0.5, stalled_s=1.0)
    assert (again.failures, again.transfer.retry_at) == (2, T0 + 2)
    late = stumble(again, KeyError("x"), now=T0 + 10, chance=lambda: 0.5, stalled_s=24 * 3600 - 1)
    assert late.transfer.retry_at == T0 + 11
    over = stumble(again, KeyError("x"), now=T0 + 10, chance=lambda: 0.5, stalled_s=24 * 3600)
    assert over.transfer.outcome is Outcome.TIMED_OUT
    assert stumble(over, KeyError("x"), now=T0 + 24 * 3600, chance=lambda: 0.5) is over


def test_one_that_was_stopped_before_it_began_stands_in_the_queue() -> None:
    queued = row("a")
    assert queued.halt(now=T0) == queued
    assert replace(queued, wanted=Wanted.CANCEL).halt(now=T0).transfer.outcome is Outcome.CANCELLED


def test_what_a_remote_says_of_a_failure_is_kept_in_bounds() -> None:
    settled = settle(row("a"), OSError("x" * 10_000), now=T0, chance=lambda: 0.0)
    assert settled.transfer.phase is Phase.ENDED
    assert settled.error == settled.transfer.reason == "x" * 500


def test_a_change_of_the_file_may_begin_anew_ten_times() -> None:
    changed = SourceChanged("/a", "it was written to")
    assert may_restart(replace(row("a"), restarts=9), changed)
    assert not may_restart(replace(row("a"), restarts=10), changed)
