"""Remotes where nobody listens: nothing can have arrived there, so a transfer is given up, or rests, at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from haulier import UploadManager
from haulier.core.errors import PeerUnreachable
from haulier.core.secret import Secret
from haulier.core.transfer import Outcome, Phase
from haulier.remotes.calls import asking_after
from haulier.remotes.haulier import HaulierRemote
from haulier.remotes.onedrive import OneDriveRemote
from haulier.remotes.s3 import S3Remote
from haulier.remotes.tus import TusRemote
from haulier.sending_ports import Remote
from tests.support.ports import free_port
from tests.support.sending import in_phase

DEADLINE_S = 60.0
"""For what happens at once; only a test that fails waits so long."""


async def token(_: bool) -> str:
    return "token"


@pytest.fixture(params=["haulier", "tus", "tus in one request", "s3", "onedrive"])
async def remote(request: pytest.FixtureRequest) -> AsyncIterator[Remote]:
    url = f"http://127.0.0.1:{free_port()}"
    keys = (Secret("an-access-key"), Secret("a-secret-key"))
    kinds: dict[str, Callable[[], Remote]] = {
        "haulier": lambda: HaulierRemote(url),
        "tus": lambda: TusRemote(url),
        "tus in one request": lambda: TusRemote(url, one_request=True),
        "s3": lambda: S3Remote(url, bucket="bucket", keys=keys),
        "onedrive": lambda: OneDriveRemote(token, drive_id="d", base_url=url),
    }
    made = kinds[request.param]()
    yield made
    await made.close()


@pytest.mark.parametrize("size", [0, 3, 17 * 1024 * 1024])
async def test_a_transfer_is_paused_and_given_up_at_once(remote: Remote, tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(size))
    async with (
        asyncio.timeout(DEADLINE_S),
        UploadManager(tmp_path / "journal.db", {"away": remote}) as manager,
    ):
        queued = await manager.queue(file, "away:file")
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        await manager.pause(queued)
        await in_phase(manager, queued, Phase.PAUSED)
        await manager.resume(queued)
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        assert (await manager.cancel(queued)).transfer.outcome is Outcome.CANCELLED


def test_a_question_about_what_was_sent_says_nothing_of_that() -> None:
    with pytest.raises(PeerUnreachable, match="refused") as told, asking_after():
        raise PeerUnreachable("http://remote", "refused", sent=False)
    assert told.value.sent
