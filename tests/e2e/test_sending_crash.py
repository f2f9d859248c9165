"""A sender is killed at every transition of its journal; the next one ends with the same bytes, once."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from haulier import Outcome, UploadManager
from haulier.adapters.clock import SystemClock
from haulier.adapters.journal import SqliteJournal
from haulier.core.dispatch import Dispatch
from haulier.core.transfer import TransferId
from haulier.remotes.haulier import HaulierRemote
from tests.support.processes import ServeProcess, environment, serving

CHUNK = 256 * 1024
SIZE = 2 * CHUNK + 1000
TRANSITIONS = range(1, 13)
"""Transactions of one transfer of three chunks, from queueing to the end, and one more than there are."""


class CountingRemote(HaulierRemote):
    """Counts what it sends."""

    sent = 0

    async def send(self, outgoing: Any, session: Any, cargo: Any) -> Any:
        self.sent += cargo.size
        return await super().send(outgoing, session, cargo)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    settings = {"HAULIER_CHUNK_SIZE": str(CHUNK)}
    with serving(tmp_path_factory.mktemp("service") / "data", settings) as running:
        yield running


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "file.bin"
    path.write_bytes(bytes(range(251)) * (SIZE // 251) + bytes(SIZE % 251))
    return path


@pytest.fixture
async def remote(service: ServeProcess) -> AsyncIterator[CountingRemote]:
    remote = CountingRemote(service.url)
    yield remote
    await remote.close()


async def die(journal: Path, url: str, file: Path, target: str, at: int, when: str) -> bytes:
    """Run a sender until it kills itself; return what it printed, which is nothing when it did."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.crashing_sender", str(journal), url, str(file), target),
        *(str(at), when),
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    out, _ = await process.communicate()
    return out.splitlines()[-1] if b"done" in out else b""


async def confirmed(journal: Path, target: str) -> int:
    """Bytes that the dead sender's journal says the remote has."""
    rows = SqliteJournal(journal, SystemClock())
    await rows.open()
    row = await rows.read(lambda it: it.find(TransferId(target)))
    await rows.close()
    return row.transfer.done if isinstance(row, Dispatch) else 0


async def versions(url: str, path: str) -> list[dict[str, Any]]:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"{url}/api/records", params={"prefix": path})
        return [record for record in answer.json()["items"] if record["path"] == path]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", TRANSITIONS)
async def test_killed_at_any_transition_it_arrives_once(
    service: ServeProcess, file: Path, remote: CountingRemote, tmp_path: Path, at: int, when: str
) -> None:
    journal, target = tmp_path / "journal.db", f"{at}-{when}.bin"
    printed = await die(journal, service.url, file, target, at, when)
    assert printed == (b"done" if at == TRANSITIONS[-1] else b"")
    done = await confirmed(journal, target)
    async with asyncio.timeout(60), UploadManager(journal, {"here": remote}) as manager:
        queued = await manager.queue(file, f"here:{target}", id=target)
        row = await manager.wait(queued)
    assert row.transfer.outcome is Outcome.SUCCEEDED
    assert remote.sent <= SIZE - done
    found = await versions(service.url, target)
    assert [(record["status"], record["size"]) for record in found] == [("completed", SIZE)]
    assert row.sum is not None
    assert found[0]["digest"] == {row.sum.name: row.sum.value}
