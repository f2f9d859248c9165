"""Standard input that nobody reads to its end."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from haulier.cli.standard_input import PIECE, read_descriptor
from tests.support.sending import settle

DEADLINE_S = 60.0


def test_the_reader_ends_without_a_word_when_nobody_listens_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    file = tmp_path / "endless"
    file.write_bytes(bytes(4 * PIECE))
    descriptor = os.open(file, os.O_RDONLY)

    async def read_once() -> None:
        async for piece in read_descriptor(descriptor):
            assert piece
            # The reader hands over a piece that there is no room for: that stays undone, whatever else happens.
            waiting: set[asyncio.Task[Any]] = set()
            while not waiting & others():
                waiting = others()
                await settle()
            return

    def others() -> set[asyncio.Task[Any]]:
        return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}

    async def read() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await read_once()

    asyncio.run(read())
    for thread in threading.enumerate():
        if thread.name == "standard input":
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
    os.close(descriptor)
    assert failed == []
