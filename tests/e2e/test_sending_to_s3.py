"""The installed command sends a large file to S3, is killed in the middle, and goes on by the upload's id."""

import asyncio
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from tests.interop.remotes.servers import running
from tests.interop.remotes.test_s3 import BUCKET, KEYS, SERVICES, Endpoint, make_bucket
from tests.support.fault_proxy import fault_proxy
from tests.support.files import MIB, make_file
from tests.support.files import sha256 as sha256_of
from tests.support.processes import DEADLINE_S, HAULIER, environment

PART = 8 * MIB
PARALLEL = 4
KEY = "in/large.bin"


async def arrived(place: Endpoint) -> str | None:
    """Return the digest of what is there, read back piece by piece; None when there is nothing."""
    total = sha256()
    async with place.client() as client:
        found = await client.list_objects_v2(Bucket=BUCKET, Prefix=KEY)
        if not found.get("Contents"):
            return None
        answer = await client.get_object(Bucket=BUCKET, Key=KEY)
        async for piece in answer["Body"].iter_chunks(MIB):
            total.update(piece)
    return total.hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("service", "size"),
    [
        pytest.param("rclone", 300 * MIB, id="300-MB"),
        # rclone keeps all parts in memory.
        pytest.param("seaweedfs", 5 * 1024 * MIB, id="5-GB", marks=pytest.mark.long),
    ],
)
def test_a_large_file_goes_on_after_a_kill_and_sends_no_more_than_the_parts_in_flight_again(
    tmp_path: Path, service: str, size: int
) -> None:
    (tmp_path / "s3").mkdir()
    source = make_file(tmp_path / "large.bin", size)
    settings = environment(
        {
            "HAULIER_HOME": str(tmp_path / "home"),
            "AWS_ACCESS_KEY_ID": KEYS[0],
            "AWS_SECRET_ACCESS_KEY": KEYS[1],
        }
    )

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [HAULIER, *arguments],
            env=settings,
            capture_output=True,
            text=True,
            timeout=10 * DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    place = SERVICES[service](tmp_path / "s3")
    with running(place.server), fault_proxy(place.port) as proxy:
        asyncio.run(make_bucket(place))
        run("remote", "add", "shelf", "--type", "s3", "--url", proxy.url, "--option", f"bucket={BUCKET}")
        push = subprocess.Popen(
            [HAULIER, "push", str(source), "--to", f"shelf:{KEY}", "--id", "t-large"],
            env=settings,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for up in range(4 * PART, size // 3, 4 * PART):  # each wait has a deadline of its own
            proxy.wait(up=up)
        push.kill()
        push.wait(DEADLINE_S)
        assert asyncio.run(arrived(place)) is None
        run("transfers", "wait", "t-large", "--timeout", "1100")
        sent = sum(link.up for link in proxy.links)
        assert asyncio.run(arrived(place)) == sha256_of(source)
        # Bodies that were cut by the kill, and the heads of each request.
        assert sent < size + PARALLEL * PART + (size // PART) * 16 * 1024
