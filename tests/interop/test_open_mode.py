"""The open mode of a real service, asked by other users of this machine and by clients that curl can be."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.components import require
from tests.support.processes import ServeProcess, serving

pytestmark = pytest.mark.needs("curl")
NOBODY = 65_534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a client as somebody else")


def curl(*arguments: str, user: int | None = None) -> str:
    """Run curl; returns headers and body as they came."""
    command = [require("curl"), "--silent", "--show-error", "--include", "--noproxy", "*", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, user=user, timeout=60, check=True, cwd="/")
    return done.stdout


@as_root
def test_another_user_of_this_machine_is_refused_with_the_flag_that_lets_him_in(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as service:
        answer = curl(f"{service.url}/api/records", user=NOBODY)
        assert answer.startswith("HTTP/1.1 403 ")
        assert '"rule": "user"' in answer
        assert "--local-users" in answer
        assert curl(f"{service.url}/healthz", user=NOBODY).startswith("HTTP/1.1 200 ")
        assert curl(f"{service.url}/api/records").startswith("HTTP/1.1 200 ")


@as_root
def test_another_user_sends_no_body_that_anybody_reads(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as service:
        answer = curl(
            "-X", "PUT", "-H", "Expect: 100-continue", "-d", "x", f"{service.url}/api/files/a", user=NOBODY
        )
        assert answer.startswith("HTTP/1.1 403 ")


@as_root
def test_local_users_lets_other_users_in(tmp_path: Path) -> None:
    with serving(tmp_path / "data", {"HAULIER_LOCAL_USERS": "1"}) as service:
        assert (
            curl("-T", "/etc/hostname", f"{service.url}/api/files/", user=NOBODY).count("HTTP/1.1 201 ") == 1
        )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """One service for all headers."""
    with serving(tmp_path_factory.mktemp("headers") / "data") as running:
        yield running


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://evil.example/api/records", 421),
        ("http://127.0.0.1@evil.example/api/records", 421),
        ("http://{own}/api/records", 200),
        ("http://{own}", 200),  # without a path, as Python's urllib asks a proxy
        ("http://{own}?a=/", 200),
        ("http://evil.example", 421),
        ("http://", 400),
    ],
)
def test_the_name_in_an_absolute_target_counts_and_the_header_does_not(
    service: ServeProcess, target: str, status: int
) -> None:
    own = service.url.removeprefix("http://")
    answer = curl("--request-target", target.format(own=own), service.url)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    answer = curl("-H", "Host: evil.example", "--request-target", f"http://{own}/api/records", service.url)
    assert answer.startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("header", "status", "slug"),
    [
        ("Host: evil.example", 421, "host-refused"),
        ("Host:", 421, "host-refused"),
        ("X-Forwarded-For: 127.0.0.1", 403, "not-local"),
        ("Via: 1.1 tunnel", 403, "not-local"),
        ("Origin: null", 403, "not-local"),
        ("Origin: http://127.0.0.1:1", 403, "not-local"),
        ("Sec-Fetch-Site: cross-site", 403, "not-local"),
        ("Sec-Fetch-Site: same-origin", 200, None),
        ("X-Request-ID: mine", 200, None),
    ],
)
def test_a_header_decides(service: ServeProcess, header: str, status: int, slug: str | None) -> None:
    answer = curl("-H", header, f"{service.url}/api/records")
    assert answer.startswith(f"HTTP/1.1 {status} ")
    if slug is not None:
        assert f'"type": "{service.url}/errors/{slug}"' in answer
