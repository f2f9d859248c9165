"""Kills and changes in the middle of `haulier put`: nothing acknowledged is sent again, nothing is mixed."""

import signal
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from tests.support.files import MIB, make_file, sha256
from tests.support.processes import Commands, ServeProcess, wait_until

SIZE = 400 * MIB


@pytest.fixture
def source(haulier: Commands) -> Path:
    return make_file(haulier.folder / "large.bin", SIZE)


def accepted(service: ServeProcess) -> Counter[str]:
    """Count the chunks that the service has acknowledged, by path."""
    return Counter(r["path"] for r in service.requests("PUT", "/chunks/") if r["status"] == 204)


def test_after_kill_9_of_the_client_only_missing_chunks_are_sent(
    service: ServeProcess, haulier: Commands, source: Path
) -> None:
    killed = haulier.start("put", source)
    wait_until(lambda: len(accepted(service)) >= 3, "three chunks are accepted")
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    before = accepted(service)
    assert 3 <= len(before) < 50

    again = haulier.run("put", source, "--json")
    assert again.code == 0, again.err
    assert again.documents[0]["digest"] == {"sha-256": sha256(source)}
    after = accepted(service)
    # What was on its way when the client died may have been accepted without its knowledge, never twice.
    assert set(after.values()) == {1}
    assert len(after) == 50
    assert len(haulier.run("ls", "--json").documents) == 1


def test_a_finished_put_leaves_no_state_behind(haulier: Commands, source: Path) -> None:
    assert haulier.run("put", source).code == 0
    assert list((haulier.folder / "home/uploads").iterdir()) == []


def test_put_outlives_kill_9_of_the_service(service: ServeProcess, haulier: Commands, source: Path) -> None:
    running = haulier.start("put", source, "--json")
    wait_until(lambda: len(accepted(service)) >= 3, "three chunks are accepted")
    service.kill()
    assert running.poll() is None
    service.start()
    _, err = running.communicate()
    assert (running.returncode, err) == (0, b"")
    (record,) = haulier.run("ls", "--json").documents
    assert record["digest"] == {"sha-256": sha256(source)}
    assert len(haulier.run("ls", "--json").documents) == 1


def test_standard_input_outlives_kill_9_of_the_service(
    service: ServeProcess, haulier: Commands, source: Path
) -> None:
    with source.open("rb") as stream:
        running = haulier.start("put", "-", "--json", stdin=stream)
        wait_until(lambda: len(service.requests("PATCH", "/api/uploads/")) >= 3, "three segments arrived")
        service.kill()
        service.start()
        _, err = running.communicate()
    assert (running.returncode, err) == (0, b"")
    (record,) = haulier.run("ls", "--json").documents
    assert record["digest"] == {"sha-256": sha256(source)}


def test_a_file_that_changes_while_it_is_sent_is_refused_and_nothing_is_kept(
    service: ServeProcess, haulier: Commands, source: Path
) -> None:
    running = haulier.start("put", source)
    wait_until(lambda: len(accepted(service)) >= 3, "three chunks are accepted")
    with source.open("r+b") as file:
        file.write(b"changed")
    out, err = running.communicate()
    assert running.returncode == 1
    assert out == b""
    assert b"changed while it was being sent" in err
    upload = next(iter(accepted(service))).split("/")[3]
    assert httpx2.get(f"{service.url}/api/uploads/{upload}").json()["status"] == "aborted"
    assert haulier.run("put", source).code == 0


def test_ctrl_c_says_how_to_go_on_and_going_on_works(
    service: ServeProcess, haulier: Commands, source: Path
) -> None:
    running = haulier.start("put", source)
    wait_until(lambda: len(accepted(service)) >= 3, "three chunks are accepted")
    running.send_signal(signal.SIGINT)
    _, err = running.communicate()
    assert running.returncode == 130
    assert err == b"haulier: interrupted; run the same command again and it goes on where it stopped\n"
    assert haulier.run("put", source).code == 0
    assert set(accepted(service).values()) == {1}


def test_get_after_a_kill_fetches_only_the_rest(
    service: ServeProcess, haulier: Commands, source: Path
) -> None:
    record = haulier.run("put", source, "--json").documents[0]["id"]
    running = haulier.start("get", record, "-o", "copy.bin")
    wait_until(lambda: _part_size(haulier) > 20 * MIB, "a part has arrived")
    running.kill()
    running.communicate()
    kept = _part_size(haulier)
    assert 0 < kept < SIZE
    assert not (haulier.folder / "copy.bin").exists()
    fetched = haulier.run("get", record, "-o", "copy.bin")
    assert fetched.code == 0, fetched.err
    assert sha256(haulier.folder / "copy.bin") == sha256(source)
    assert _part_size(haulier) == 0
    assert [r["status"] for r in service.requests("GET", "/assets/original$")][-1] == 206


def _part_size(haulier: Commands) -> int:
    return sum(part.stat().st_size for part in haulier.folder.glob(".haulier-*.part"))
