"""The upload manager as programs get it: a journal in a file, real files, the machine's clock."""

import asyncio
import logging
from pathlib import Path

import pytest

from haulier import Outcome, Priority, UploadManager
from haulier.adapters.memory.remote import IN_ORDER, MemoryRemote
from haulier.core.errors import PeerBusy
from haulier.core.outgoing import Outgoing, RemoteSession, Stored
from haulier.engine.send import Role
from haulier.sending_ports import Cargo


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


async def test_two_hundred_files_are_queued_and_awaited_at_once(tmp_path: Path) -> None:
    remote = MemoryRemote()
    for number in range(200):
        (tmp_path / f"f{number}").write_bytes(b"%d" % number)
    async with asyncio.timeout(120), UploadManager(tmp_path / "journal.db", {"any": remote}) as manager:

        async def send(number: int) -> Outcome | None:
            queued = await manager.queue(tmp_path / f"f{number}", f"any:f{number}")
            return (await manager.wait(queued)).transfer.outcome

        assert set(await asyncio.gather(*map(send, range(200)))) == {Outcome.SUCCEEDED}
    assert remote.files == {f"f{number}": [b"%d" % number] for number in range(200)}


async def test_one_path_with_three_contents_in_a_row_ends_with_the_newest(tmp_path: Path) -> None:
    remote = MemoryRemote()
    path = tmp_path / "f"
    async with asyncio.timeout(60), UploadManager(tmp_path / "journal.db", {"any": remote}) as manager:
        ids = []
        for content in (b"one" * 100_000, b"two" * 100_000, b"six" * 100_000):
            path.write_bytes(content)
            ids.append(await manager.queue(path, "any:f"))
        rows = [await manager.wait(each) for each in ids]
    assert rows[-1].transfer.outcome is Outcome.SUCCEEDED
    assert remote.files["f"][-1] == b"six" * 100_000


async def test_a_process_that_only_queues_leaves_it_to_the_next(tmp_path: Path) -> None:
    remote = MemoryRemote(IN_ORDER)
    remote.plan("send", PeerBusy(503, "slow down"))
    (tmp_path / "f").write_bytes(bytes(1_000_000))
    journal = tmp_path / "journal.db"
    async with UploadManager(journal, {"any": remote}, role=Role.NEVER) as manager:
        queued = await manager.queue(tmp_path / "f", "any:folder/", priority=Priority.HIGH)
        assert await manager.holder() is None
    async with asyncio.timeout(60), UploadManager(journal, {"any": remote}) as manager:
        assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED
    assert remote.files == {"folder/f": [bytes(1_000_000)]}


async def test_another_process_shows_what_has_gone_of_the_one_request_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, journal = MemoryRemote(), tmp_path / "journal.db"
    send, gone = remote.send, 0
    (tmp_path / "f").write_bytes(bytes(60_000))
    async with (
        asyncio.timeout(60),
        UploadManager(journal, {"any": remote}) as manager,
        UploadManager(journal, {}, role=Role.NEVER) as other,
    ):

        async def slow(outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> Stored | None:
            nonlocal gone
            while gone < 50_000:
                gone += 20
                cargo.moved(gone)
                view = await other.get(outgoing.id)
                if view is not None and view.snapshot.done:
                    assert (view.row.transfer.done, view.snapshot.done <= gone) == (0, True)
                    assert view.snapshot.speed
                    break
                await asyncio.sleep(0.01)
            return await send(outgoing, session, cargo)

        monkeypatch.setattr(remote, "send", slow)
        row = await manager.wait(await manager.queue(tmp_path / "f", "any:f"))
    assert row.transfer.outcome is Outcome.SUCCEEDED
    assert 0 < gone < 50_000
