"""The installed commands and tokens: starts that are refused, logins that end, sentences that name the cure."""

import json
import stat
from collections import Counter
from pathlib import Path

import pytest

from tests.support.callers import TEAM, make_team, make_token, revoke_tokens
from tests.support.files import MIB, make_file, sha256
from tests.support.outsider import Outsider
from tests.support.processes import Commands, ServeProcess, serving, wait_until

SIZE = 400 * MIB


def accepted(service: ServeProcess) -> Counter[str]:
    """Count the requests with bytes that the service has answered well, by path."""
    return Counter(
        request["path"]
        for method in ("PUT", "PATCH")
        for request in service.requests(method, "/api/uploads/")
        if request["status"] == 204
    )


@pytest.mark.parametrize("source", ["large.bin", "-"])
def test_a_long_upload_outlives_the_token_that_began_it(tmp_path: Path, source: str) -> None:
    data = tmp_path / "data"
    people = make_team(data)
    with serving(data) as service:
        haulier = Commands(service.url, tmp_path / "work")
        path = make_file(haulier.folder / "large.bin", SIZE)
        with path.open("rb") as given:
            running = haulier.start(
                "put", source, "--json", "--capsule", TEAM, "--token", people["writer"].token, stdin=given
            )
            wait_until(lambda: accepted(service).total() >= 1, "some bytes are there")
            revoke_tokens(data)
            answer = Outsider(service.port).ask("GET", "/api/records", headers=people["writer"].header)
            assert answer.problem == (401, "unauthenticated")
            assert running.poll() is None
            out, err = running.communicate()
        assert (running.returncode, err) == (0, b"")
        assert json.loads(out)["digest"] == {"sha-256": sha256(path)}
        assert haulier.run("ls", HAULIER_TOKEN=people["writer"].token).code == 4


def test_refusals_are_4_with_a_cure_and_without_the_token(tmp_path: Path) -> None:
    data = tmp_path / "data"
    people = make_team(data)
    with serving(data) as service:
        haulier = Commands(service.url, tmp_path / "work")
        make_file(haulier.folder / "a.txt", 5)
        for arguments in (["put", "a.txt"], ["ls"], ["get", "x"], ["rm", "x"]):
            for token in ("", "hl_wrong-secret", people["expired"].token):
                ran = haulier.run(*arguments, HAULIER_TOKEN=token)
                assert (ran.code, ran.out) == (4, "")
                assert "haulier token create" in ran.err
                assert ran.err.count("\n") == 1
                assert not token or token not in ran.err
        assert "expired" in haulier.run("ls", HAULIER_TOKEN=people["expired"].token).err
        ran = haulier.run("put", "a.txt", "--capsule", TEAM, "--token", people["reader"].token)
        assert ran.code == 4
        assert "grant" in ran.err
        ran = haulier.run("put", "a.txt", "--capsule", TEAM, "--token", people["stranger"].token)
        assert ran.code == 4
        assert "--capsule" in ran.err
        ran = haulier.run("ls", "--token", "caf\xe9")
        assert (ran.code, "caf" in ran.err) == (1, False)
        ran = haulier.run("put", "a.txt", "--capsule", TEAM, "--token", people["writer"].token)
        assert ran.code == 0, ran.err


def test_what_a_killed_client_leaves_behind_holds_no_token(tmp_path: Path) -> None:
    data = tmp_path / "data"
    writer = make_team(data)["writer"]
    with serving(data) as service:
        haulier = Commands(service.url, tmp_path / "work")
        path = make_file(haulier.folder / "large.bin", SIZE)
        killed = haulier.start("put", path, "--capsule", TEAM, "--token", writer.token)
        wait_until(lambda: len(accepted(service)) >= 1, "a chunk is accepted")
        killed.kill()
        killed.communicate()
        (entry,) = (haulier.folder / "home/uploads").iterdir()
        assert stat.S_IMODE(entry.stat().st_mode) == 0o600
        kept = json.loads(entry.read_text())
        assert kept.keys() == {"url", "capsule", "path", "size", "mtime_ns", "inode", "key", "asset"}
        assert writer.token not in entry.read_text()
        # A new login of the same user goes on where the old one was killed.
        before = set(accepted(service))
        renewed = make_token(data, "writer")
        ran = haulier.run("put", path, "--capsule", TEAM, HAULIER_TOKEN=renewed.token)
        assert ran.code == 0, ran.err
        assert before < set(accepted(service))
        assert set(accepted(service).values()) == {1}


# --- starts ----------------------------------------------------------------------------------------


def test_listening_elsewhere_needs_tokens(tmp_path: Path) -> None:
    haulier = Commands("http://127.0.0.1:9", tmp_path / "work")
    arguments = ("serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", tmp_path / "data")
    ran = haulier.run(*arguments)
    assert ran.code == 2
    assert "haulier token create" in ran.err
    assert "--open" in ran.err
    ran = haulier.run(*arguments, HAULIER_PUBLIC_URL="https://files.example")
    assert ran.code == 2
    make_token(tmp_path / "data", "alice")
    service = ServeProcess(tmp_path / "data", {"HAULIER_HOST": "0.0.0.0"})
    process = service.spawn()
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"haulier serve ready on http://0.0.0.0:{service.port}\n"
        assert Outsider(service.port).ask("GET", "/api/records").problem == (401, "unauthenticated")
    finally:
        assert service.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_first_token_ends_open_mode_at_the_next_start(tmp_path: Path, workers: str) -> None:
    data = tmp_path / "data"
    with serving(data, {"HAULIER_OPEN": "true", "HAULIER_WORKERS": workers}) as service:
        outsider = Outsider(service.port)
        assert outsider.ask("GET", "/api/records").status == 200
        alice = make_token(data, "alice")
        assert outsider.ask("GET", "/api/records").status == 200
        assert service.stop() == 0
        service.start()
        for _ in range(4):
            assert outsider.ask("GET", "/api/records").problem == (401, "unauthenticated")
            assert outsider.ask("GET", "/api/records", headers=alice.header).status == 200


def test_a_service_can_be_closed_before_there_are_tokens(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, {"HAULIER_REQUIRE_TOKENS": "true"}) as service:
        outsider = Outsider(service.port)
        assert outsider.ask("GET", "/api/records").problem == (401, "unauthenticated")
        assert outsider.ask("GET", "/readyz").status == 200
        first = make_token(data, "alice")
        assert outsider.ask("GET", "/api/records", headers=first.header).status == 200


def test_open_and_closed_at_once_is_a_mistake(tmp_path: Path) -> None:
    haulier = Commands("http://127.0.0.1:9", tmp_path / "work")
    ran = haulier.run(
        "serve", "--open", "--data-dir", tmp_path / "data", HAULIER_PUBLIC_URL="https://f.example"
    )
    assert ran.code == 2
    assert "public_url" in ran.err
