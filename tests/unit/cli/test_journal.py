"""How the commands of the sender tell what became of a transfer."""

import asyncio
from pathlib import Path

import pytest

from haulier.cli.journal import code_of, is_there, wait_there
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
