"""How the commands of the sender tell what became of a transfer."""

import pytest

from haulier.cli.journal import code_of
from haulier.core.transfer import Outcome
from haulier.testing.journal_contract import T0, row


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
