"""Which refusals tell that our clock is wrong, and by how much."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import botocore.auth
import pytest

from haulier.body.answers import Answer, Headers
from haulier.remotes.s3_clock import MAX_NOTED, STAMP, ClockFollowed, ServerClock, signed_at

HERE = datetime(2026, 11, 29, 12, tzinfo=UTC)
AHEAD = timedelta(hours=3)


class Machine:
    """A machine with a clock, and what signs there."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = HERE
        self.clock = ServerClock()
        patch.setattr(botocore.auth, "get_current_datetime", lambda **_: self.now)

    def sign(self) -> str:
        request = SimpleNamespace(context={"timestamp": self.now.strftime(STAMP)})
        self.clock._shifting(lambda _: None)(request)
        return str(request.context["timestamp"])


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def refused(at: datetime | None, status: int = 403) -> Answer:
    fields = [] if at is None else [("Date", format_datetime(at, usegmt=True))]
    return Answer(status_code=status, headers=Headers(fields))


def test_what_was_signed_at_another_time_is_signed_anew_by_theirs(machine: Machine) -> None:
    with pytest.raises(ClockFollowed, match="3:00:00"):
        machine.clock.check(refused(HERE + AHEAD), machine.sign())
    signed = machine.sign()
    assert signed == "20261129T150000Z"
    machine.clock.check(refused(HERE + AHEAD), signed)


def test_several_that_are_refused_together_say_the_same(machine: Machine) -> None:
    for signed in [machine.sign() for _ in range(3)]:
        with pytest.raises(ClockFollowed):
            machine.clock.check(refused(HERE + AHEAD), signed)
    assert machine.clock.ahead == AHEAD


def test_a_body_that_took_long_says_nothing_about_the_clock(machine: Machine) -> None:
    signed = machine.sign()
    machine.now += timedelta(hours=1)
    machine.clock.check(refused(machine.now), signed)
    assert not machine.clock.ahead


@pytest.mark.parametrize(
    "answer", [refused(HERE + AHEAD, 200), refused(HERE + AHEAD, 404), refused(None), refused(HERE)]
)
def test_what_says_nothing_about_the_clock_changes_nothing(machine: Machine, answer: Answer) -> None:
    machine.clock.check(answer, machine.sign())
    assert not machine.clock.ahead


def test_a_date_that_is_none_changes_nothing(machine: Machine) -> None:
    answer: Any = Answer(status_code=403, headers=Headers([("Date", "yesterday")]))
    machine.clock.check(answer, machine.sign())
    machine.clock.check(refused(HERE + AHEAD), None)
    assert not machine.clock.ahead


def test_what_is_remembered_of_signatures_has_a_bound(machine: Machine) -> None:
    for _ in range(MAX_NOTED + 5):
        machine.now += timedelta(seconds=1)
        machine.sign()
    assert len(machine.clock._taken) == MAX_NOTED


def test_the_time_of_an_address_is_read() -> None:
    assert signed_at("http://x/a?X-Amz-Date=20261129T150000Z&y=1") == "20261129T150000Z"
    assert signed_at("http://x/a") is None
