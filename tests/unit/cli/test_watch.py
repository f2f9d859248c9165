"""What a watched folder queues, and what it does not queue again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from haulier.adapters.memory.journal import MemoryJournalFile
from haulier.adapters.watched_files import WatchedFiles
from haulier.cli.agent import AGAIN_S, QUIET_S, Seen, Watch
from haulier.core.errors import StorageUnavailable
from haulier.engine.send import UploadManager
from tests.support.sending import Sending

REVISION = (1, 5, 3, 4)
FILE = Seen("/in/a", "a", REVISION)


@asynccontextmanager
async def watching(world: Sending, folder: Path) -> AsyncIterator[tuple[Watch, UploadManager]]:
    known = WatchedFiles(folder / "journal.db.watched", Path("/in"), "any:to/")
    await known.open()
    try:
        async with world.running() as manager:
            watch = Watch(manager, known, Path("/in"), "any:to/", ours=lambda _: False)
            watch._queued = await known.load()
            yield watch, manager
    finally:
        await known.close()


async def sent(world: Sending, watch: Watch, manager: UploadManager, *seen: Seen, at: float) -> int:
    """How many transfers there are after a look at that time, and one when they have been quiet."""
    await watch.look(list(seen), now=at)
    await watch.look(list(seen), now=at + QUIET_S)
    views, _ = await manager.list()
    for view in views:
        await manager.wait(view.row.id)
    return len(views)


async def test_a_file_that_could_not_be_queued_is_tried_again_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = Sending()
    world.files.write("/in/a", b"12345")
    async with watching(world, tmp_path) as (watch, manager):
        queue, tries = manager.queue, []

        async def failing(*arguments: Any, **options: Any) -> Any:
            tries.append(arguments)
            if len(tries) <= 2:
                raise StorageUnavailable("the disk is on fire")
            return await queue(*arguments, **options)

        monkeypatch.setattr(manager, "queue", failing)
        for now, times in (
            (0.0, 0),
            (QUIET_S, 1),
            (QUIET_S + 1, 1),
            (QUIET_S + AGAIN_S, 2),
            (QUIET_S + 2 * AGAIN_S, 3),
            (QUIET_S + 3 * AGAIN_S, 3),
        ):
            await watch.look([FILE], now=now)
            assert len(tries) == times
        views, _ = await manager.list()
        assert [view.row.target for view in views] == ["to/a"]
    assert capsys.readouterr().err.count("/in/a: storage is unavailable: the disk is on fire") == 1


async def test_a_file_is_not_sent_again_although_the_journal_has_forgotten_it(tmp_path: Path) -> None:
    world = Sending()
    world.files.write("/in/a", b"12345")
    async with watching(world, tmp_path) as (watch, manager):
        assert await sent(world, watch, manager, FILE, at=0) == 1
    world.journal = MemoryJournalFile()
    async with watching(world, tmp_path) as (watch, manager):
        assert await sent(world, watch, manager, FILE, at=0) == 0
        world.files.write("/in/a", b"other")
        assert await sent(world, watch, manager, Seen("/in/a", "a", (1, 5, 9, 9)), at=10) == 1
    assert world.remote.files == {"to/a": [b"12345", b"other"]}


async def test_a_file_whose_transfer_was_removed_is_not_sent_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = Sending()
    world.files.write("/in/a", b"12345")
    async with watching(world, tmp_path) as (watch, manager):
        assert await sent(world, watch, manager, FILE, at=0) == 1
        views, _ = await manager.list()
        await manager.remove(views[0].row.id)
        await watch._known.forget(["/in/a"])  # as if it had died before it kept that
        watch._queued.clear()
        assert await sent(world, watch, manager, FILE, at=10) == 0
        assert await watch._known.load() == {"/in/a": REVISION}
    assert world.remote.files == {"to/a": [b"12345"]}
    assert capsys.readouterr().err == ""


async def test_only_files_that_are_gone_from_a_folder_that_is_there_are_forgotten(tmp_path: Path) -> None:
    world = Sending()
    world.files.write("/in/a", b"12345")
    world.files.write("/in/b", b"1")
    other = Seen("/in/b", "b", REVISION)
    async with watching(world, tmp_path) as (watch, manager):
        assert await sent(world, watch, manager, FILE, other, at=0) == 2
        assert await sent(world, watch, manager, at=10) == 2
        assert sorted(await watch._known.load()) == ["/in/a", "/in/b"]
        assert await sent(world, watch, manager, other, at=20) == 2
        assert await watch._known.load() == {"/in/b": REVISION}


async def test_folders_and_places_are_kept_apart_and_names_need_not_be_text(tmp_path: Path) -> None:
    kept = [
        WatchedFiles(tmp_path / "w", Path(folder), to)
        for folder, to in (("/x", "a:"), ("/x", "b:"), ("/y", "a:"))
    ]
    for each in kept:
        await each.open()
    await kept[0].note({"/x/\udcff": REVISION})
    await kept[2].note({"/y/f": REVISION})
    assert [await each.load() for each in kept] == [{"/x/\udcff": REVISION}, {}, {"/y/f": REVISION}]
    for each in kept:
        await each.close()
