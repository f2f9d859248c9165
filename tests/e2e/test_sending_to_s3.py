"""The installed command sends a large file to S3, is killed in the middle, and goes on by the upload's id."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.interop.remotes.servers import running
from tests.interop.remotes.test_s3 import BUCKET, KEYS, make_bucket, rclone
from tests.support.fault_proxy import fault_proxy
from tests.support.files import MIB, make_file, sha256
from tests.support.processes import DEADLINE_S, HAULIER, environment

SIZE = 300 * MIB
PART = 8 * MIB
PARALLEL = 4


@pytest.mark.slow
def test_a_large_file_goes_on_after_a_kill_and_sends_no_more_than_the_parts_in_flight_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "s3").mkdir()
    source = make_file(tmp_path / "large.bin", SIZE)
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

    place = rclone(tmp_path / "s3")
    with running(place.server), fault_proxy(place.port) as proxy:
        asyncio.run(make_bucket(place))
        run("remote", "add", "shelf", "--type", "s3", "--url", proxy.url, "--option", f"bucket={BUCKET}")
        push = subprocess.Popen(
            [HAULIER, "push", str(source), "--to", "shelf:in/large.bin", "--id", "t-large"],
            env=settings,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        proxy.wait(up=SIZE // 3)
        push.kill()
        push.wait(DEADLINE_S)
        assert not (tmp_path / "s3" / "files" / BUCKET / "in" / "large.bin").exists()
        run("transfers", "wait", "t-large", "--timeout", "300")
        sent = sum(link.up for link in proxy.links)
        assert sha256(tmp_path / "s3" / "files" / BUCKET / "in" / "large.bin") == sha256(source)
    # Bodies that were cut by the kill, and the heads of a hundred requests.
    assert sent < SIZE + PARALLEL * PART + MIB
