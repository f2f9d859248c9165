"""SIGTERM and Ctrl-C, as the system sends them to what runs until somebody stops it."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from haulier.adapters.stop_signals import STOPS, until_stopped
from haulier.cli import agent as commands
from haulier.cli.outcome import DONE
from tests.support.patience import PATIENCE_S


class NotHeard(Exception):
    """A signal did what it does where nobody waits for one."""


def fail(number: int, _: Any) -> None:
    raise NotHeard(signal.Signals(number).name)


@pytest.fixture(autouse=True)
def _survived() -> Iterator[None]:
    """No signal ends the tests; none of them is let pass either."""
    before = {number: signal.signal(number, fail) for number in STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("command", ["agent", "watch"])
def test_whoever_is_told_to_end_in_the_moment_it_is_ready_ends_well(
    command: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    def ready(line: str, **_: Any) -> None:
        lines.append(line)
        send(number)

    monkeypatch.setattr(commands, "print", ready, raising=False)
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "remotes.json").write_text(
        '{"remotes": {"there": {"type": "tus", "url": "http://127.0.0.1:9/f", "options": {}, "secrets": {}}}}',
        encoding="utf-8",
    )
    run = {
        "agent": lambda: commands.agent(home=tmp_path),
        "watch": lambda: commands.watch(folder, "there:in/", home=tmp_path),
    }
    with pytest.raises(typer.Exit) as ended:
        run[command]()
    assert ended.value.exit_code == DONE
    assert lines == [f"haulier {command} ready, journal {tmp_path / 'journal.db'}"]


async def test_a_signal_cancels_once_and_does_what_it_always_does_when_the_work_has_ended() -> None:
    cancelled = 0

    async def work() -> None:
        nonlocal cancelled
        try:
            send(signal.SIGTERM)
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled += 1
            send(signal.SIGINT)
            send(signal.SIGTERM)
            for _ in range(5):
                await asyncio.sleep(0)
            raise

    async with asyncio.timeout(PATIENCE_S):
        await until_stopped(work())
    assert cancelled == 1
    loop = asyncio.get_running_loop()
    assert [loop.remove_signal_handler(number) for number in STOPS] == [False, False]


async def test_the_end_of_the_work_and_its_error_come_out() -> None:
    async def work(error: Exception | None) -> None:
        if error is not None:
            raise error

    async with asyncio.timeout(PATIENCE_S):
        await until_stopped(work(None))
        with pytest.raises(OSError, match="of the work"):
            await until_stopped(work(OSError("of the work")))
