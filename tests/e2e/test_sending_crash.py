"""A sender is killed at every transition of its journal; the next one ends with the same bytes, once, on every remote."""

import asyncio
import json
import re
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
from haulier.core.outgoing import IfExists
from haulier.core.transfer import TransferId
from tests.interop.remotes.servers import running
from tests.interop.remotes.test_s3 import BUCKET, KEYS, Endpoint, make_bucket
from tests.interop.remotes.test_s3 import serving as s3_serving
from tests.interop.remotes.test_tus import node_server
from tests.support.crashing_sender import remote_of
from tests.support.files import MIB, make_file
from tests.support.onedrive import DRIVE, SESSION_S, TOKEN, Drive, standing_in
from tests.support.processes import environment, serving

pytestmark = pytest.mark.slow

CHUNK = 256 * 1024


class Place:
    """Where is sent to, looked at past the remote."""

    SIZE: int
    TRANSITIONS: int
    """Transactions of one transfer, from queueing to the end, and one more than there are."""
    WAY = IfExists.REPLACE

    def __init__(self, kind: str, url: str, **more: Any) -> None:
        self.settings = json.dumps({"type": kind, "url": url, **more})

    async def prepare(self) -> None:
        """Make what has to be there."""

    async def versions(self, target: str) -> list[bytes]:
        """Return every file, or version of one, that has arrived."""
        raise NotImplementedError

    async def left(self, target: str) -> list[int]:
        """Return how many bytes each session holds that is neither a file nor gone."""
        raise NotImplementedError

    def forget(self) -> None:
        """Let time pass, so that a session that nobody knows of expires."""

    async def remove(self, target: str) -> None:
        """Make room for the next one."""


class HaulierPlace(Place):
    SIZE = 2 * CHUNK + 1000
    TRANSITIONS = 12
    """Three chunks."""

    def __init__(self, url: str) -> None:
        super().__init__("haulier", url)
        self.url = url

    async def versions(self, target: str) -> list[bytes]:
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{self.url}/api/records", params={"prefix": target})
            found = [record for record in answer.json()["items"] if record["path"] == target]
            assert {record["status"] for record in found} <= {"completed"}
            links = [record["assets"][0]["url"] for record in found]
            return [(await client.get(httpx2.URL(self.url).join(link))).content for link in links]

    async def left(self, target: str) -> list[int]:
        return []  # they would be records that are not completed


class TusPlace(Place):
    SIZE = 24 * MIB + 5
    TRANSITIONS = 12
    """Chunks of 8 MiB, of 16, and of 5 bytes."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__("tus", url)
        self._folder = folder

    def _uploads(self, target: str) -> list[Path]:
        told = [(path, json.loads(path.read_text())) for path in self._folder.glob("*.json")]
        return [path.with_suffix("") for path, it in told if it["metadata"]["relativePath"] == target]

    async def versions(self, target: str) -> list[bytes]:
        return [data for path in self._uploads(target) if len(data := path.read_bytes()) == self.SIZE]

    async def left(self, target: str) -> list[int]:
        sizes = [path.stat().st_size for path in self._uploads(target)]
        return [size for size in sizes if size < self.SIZE]

    async def remove(self, target: str) -> None:
        for path in self._uploads(target):
            path.unlink()


class S3Place(Place):
    SIZE = 2 * 8 * MIB + 5
    TRANSITIONS = 12
    """Three parts."""

    def __init__(self, endpoint: Endpoint) -> None:
        keys = {"access_key": KEYS[0], "secret_key": KEYS[1]}
        super().__init__("s3", endpoint.url, options={"bucket": BUCKET}, secrets=keys)
        self._at = endpoint

    async def prepare(self) -> None:
        await make_bucket(self._at)

    async def versions(self, target: str) -> list[bytes]:
        async with self._at.client() as client:
            answer = await client.get_object(Bucket=BUCKET, Key=target)
            return [await answer["Body"].read()]

    async def left(self, target: str) -> list[int]:
        async with self._at.client() as client:
            found = await client.list_multipart_uploads(Bucket=BUCKET, Prefix=target)
            # None may be left: the next attempt aborts what it finds.
            return [1 for _ in found.get("Uploads", [])]

    async def remove(self, target: str) -> None:
        async with self._at.client() as client:
            await client.delete_object(Bucket=BUCKET, Key=target)


class WholeS3Place(S3Place):
    SIZE = 1000
    TRANSITIONS = 10
    """One request."""


class OneDrivePlace(Place):
    SIZE = 30 * MIB + 5
    TRANSITIONS = 12
    """Fragments of 10 MiB, of 20, and of 5 bytes."""

    def __init__(self, drive: Drive, url: str) -> None:
        options = {"drive_id": DRIVE, "token_command": f"echo {TOKEN}"}
        super().__init__("onedrive", f"{url}/v1.0", options=options)
        self._drive = drive

    async def versions(self, target: str) -> list[bytes]:
        item = self._drive.path(target)
        assert item is not None
        assert item.data is not None
        return [item.data] * item.versions

    async def left(self, target: str) -> list[int]:
        found = [it for it in self._drive.sessions.values() if it.name == target and it.state == "open"]
        return [len(session.data) for session in found]

    def forget(self) -> None:
        self._drive.now += SESSION_S + 1

    async def remove(self, target: str) -> None:
        item = self._drive.path(target)
        if item is not None:
            item.data = b""


class BesideOneDrivePlace(OneDrivePlace):
    SIZE = 1000
    TRANSITIONS = 10
    """One request, to a name that is free beside one that is taken."""
    WAY = IfExists.RENAME

    async def prepare(self) -> None:
        for at in range(1, self.TRANSITIONS + 1):
            for when in ("before", "after"):
                if self._drive.path(f"{at}-{when}.bin") is None:
                    self._drive.write(f"{at}-{when}.bin", bytes(self.SIZE))

    async def versions(self, target: str) -> list[bytes]:
        stem = target.removesuffix(".bin")
        made = [item for item in self._drive.items.values() if re.fullmatch(rf"{stem} \d+\.bin", item.name)]
        return [data for item in made for data in item.contents]


class Counting:
    """A remote that counts what is sent to it."""

    def __init__(self, settings: str) -> None:
        self._remote = remote_of(settings)
        self.sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._remote, name)

    async def send(self, outgoing: Any, session: Any, cargo: Any) -> Any:
        self.sent += cargo.size
        return await self._remote.send(outgoing, session, cargo)


@pytest.fixture(scope="module")
def haulier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    settings = {"HAULIER_CHUNK_SIZE": str(CHUNK), "HAULIER_NO_TRANSFERS": "true"}
    with serving(tmp_path_factory.mktemp("service") / "data", settings) as service:
        yield HaulierPlace(service.url)


@pytest.fixture(scope="module")
def tus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("node")
    server, url = node_server(folder)
    with running(server):
        yield TusPlace(url, folder / "files")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with s3_serving("seaweedfs", tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module")
def s3(endpoint: Endpoint) -> Place:
    return S3Place(endpoint)


@pytest.fixture(scope="module")
def s3_whole(endpoint: Endpoint) -> Place:
    return WholeS3Place(endpoint)


@pytest.fixture(scope="module")
def onedrive() -> Iterator[Place]:
    with standing_in() as (drive, url):
        yield OneDrivePlace(drive, url)


@pytest.fixture(scope="module")
def onedrive_beside() -> Iterator[Place]:
    with standing_in() as (drive, url):
        yield BesideOneDrivePlace(drive, url)


@pytest.fixture
async def place(request: pytest.FixtureRequest, kind: str, target: str) -> AsyncIterator[Place]:
    found: Place = request.getfixturevalue(kind)
    await found.prepare()
    yield found
    await found.remove(target)


@pytest.fixture
def target(at: int, when: str) -> str:
    return f"{at}-{when}.bin"


async def die(
    journal: Path, settings: str, file: Path, target: str, at: int, when: str, way: IfExists
) -> bytes:
    """Run a sender until it kills itself; return what it printed, which is nothing when it did."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.crashing_sender", str(journal), settings, str(file), target),
        *(str(at), when, way),
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    out, _ = await process.communicate()
    return out.splitlines()[-1] if b"done" in out else b""


async def kept(journal: Path, target: str) -> Dispatch | None:
    """What the dead sender's journal says."""
    rows = SqliteJournal(journal, SystemClock())
    await rows.open()
    row = await rows.read(lambda it: it.find(TransferId(target)))
    await rows.close()
    return row if isinstance(row, Dispatch) else None


PLACES: dict[str, type[Place]] = {
    "haulier": HaulierPlace,
    "tus": TusPlace,
    "s3": S3Place,
    "s3_whole": WholeS3Place,
    "onedrive": OneDrivePlace,
    "onedrive_beside": BesideOneDrivePlace,
}
MOMENTS = [
    (kind, at, when)
    for kind, place in PLACES.items()
    for at in range(1, place.TRANSITIONS + 1)
    for when in ("before", "after")
]


@pytest.mark.parametrize(("kind", "at", "when"), MOMENTS)
async def test_killed_at_any_transition_it_arrives_once(
    place: Place, target: str, tmp_path: Path, at: int, when: str
) -> None:
    file, journal = make_file(tmp_path / "file.bin", place.SIZE), tmp_path / "journal.db"
    printed = await die(journal, place.settings, file, target, at, when, place.WAY)
    assert printed == (b"done" if at == place.TRANSITIONS else b"")
    row = await kept(journal, target)
    if row is None or row.session is None:
        place.forget()
    remote = Counting(place.settings)
    async with asyncio.timeout(60), UploadManager(journal, {"there": remote}) as manager:
        queued = await manager.queue(file, f"there:{target}", id=target, if_exists=place.WAY)
        ended = await manager.wait(queued)
    await remote.close()
    assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
    # What the journal knows to be there is not sent again.
    assert remote.sent <= place.SIZE - (0 if row is None else row.transfer.done)
    assert await place.versions(target) == [file.read_bytes()]
    # At most one session that nobody knew of, and nothing was sent to that one.
    assert await place.left(target) in ([], [0])
