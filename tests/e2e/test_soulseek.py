"""`haulier soulseek` as processes: shared with a real Nicotine+ through our rendezvous, killed, restarted, controlled."""

import json
import os
import re
import select
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.processes import DEADLINE_S, HAULIER, ServeProcess, environment, serving, wait_until
from tests.support.soulseek import make_file, nicotine, sha256_of

pytestmark = pytest.mark.slow

SIZE = 12_000_000


class Command:
    """A long-running command, after its first line."""

    def __init__(self, folder: Path, variables: dict[str, str], *arguments: str | Path) -> None:
        self._log = (folder / f"{arguments[1]}.log").open("ab")
        self._process = subprocess.Popen(
            [HAULIER, *map(str, arguments)],
            cwd=folder,
            env=environment(
                {"HAULIER_SOULSEEK_PASSWORD": "secret", "HAULIER_HOME": str(folder / "home"), **variables}
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], DEADLINE_S)
        line = self._process.stdout.readline() if readable else ""
        found = re.fullmatch(rf"haulier soulseek {arguments[1]} ready on (127\.0\.0\.1:(\d+))\n", line)
        assert found is not None, (line, Path(self._log.name).read_text())
        self.address, self.port = found[1], int(found[2])

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; harmless when it has ended."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            return self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()
            self._process.wait(DEADLINE_S)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._log.close()


class Place:
    """A folder with a rendezvous, in which commands run."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.variables: dict[str, str] = {}
        self._stack = stack
        self.server = self.start("rendezvous", "--port", "0")

    def start(self, command: str, *arguments: str | Path) -> Command:
        started = Command(self.folder, self.variables, "soulseek", command, *arguments)
        self._stack.callback(started.end, signal.SIGKILL)
        return started

    def share(self, user: str, *folders: str | Path) -> Command:
        where = ("--server", self.server.address, "--listen", "127.0.0.1:0", "--data-dir", user)
        return self.start("share", *folders, "--user", user, *where)

    def run(self, *arguments: str | Path, code: int = 0) -> str:
        """Run a command to its end; returns what it printed."""
        done = subprocess.run(
            [HAULIER, "soulseek", *map(str, arguments)],
            cwd=self.folder,
            env=environment(
                {"HAULIER_SOULSEEK_PASSWORD": "secret", "HAULIER_HOME": str(self.folder / "home")}
            ),
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE_S,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def uploads(self, user: str) -> list[dict[str, Any]]:
        """Ask the node itself, which takes no time; a command takes as long as a transfer."""
        items: list[dict[str, Any]] = self.ask(user, "GET", "/uploads")["items"]
        return items

    def has_uploads(self, user: str, count: int) -> bool:
        return len(self.uploads(user)) == count

    def ask(self, user: str, method: str, path: str, document: object = None) -> dict[str, Any]:
        """Ask a node through its control API."""
        url = json.loads((self.folder / user / "control.json").read_text())["url"]
        token = (self.folder / user / "control.token").read_text().strip()
        body = None if document is None else json.dumps(document).encode()
        headers = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"{url}{path}", body, headers, method=method)
        with urllib.request.urlopen(request) as answer:
            told: dict[str, Any] = json.load(answer)
            return told


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, stack)


@pytest.mark.needs("nicotine")
def test_nicotine_gets_a_shared_folder_whatever_is_killed(place: Place) -> None:
    song = make_file(place.folder / "Music" / "song.bin", SIZE)
    other = make_file(place.folder / "Music" / "other.bin", SIZE, seed=1)
    sharing = place.share("alice", song.parent)
    slow: dict[str, dict[str, object]] = {
        "transfers": {"use_download_speed_limit": "primary", "downloadlimit": 3_000}
    }
    with nicotine(place.folder / "them", place.server.port, "them", settings=slow) as foreign:
        foreign.want("alice", "Music\\song.bin", SIZE)
        foreign.want("alice", "Music\\other.bin", SIZE)
        foreign.start()
        part = foreign.part("alice", "Music\\song.bin")
        wait_until(lambda: _size_of(part) > 1_000_000, "some of the first is there")
        sharing.end(signal.SIGKILL)
        sharing = place.share("alice", song.parent)
        live = [it for it in place.uploads("alice") if it["outcome"] is None]
        assert sorted(it["target"] for it in live) == ["Music\\other.bin", "Music\\song.bin"]
        part = foreign.part("alice", "Music\\other.bin")
        wait_until(lambda: _size_of(part) > 500_000, "some of the second is there")
        foreign.kill()
        assert not (foreign.downloads / other.name).exists()
        foreign.start()
        for file in (song, other):
            got = foreign.downloads / file.name
            wait_until(got.exists, f"{file.name} is there")
            assert sha256_of(got) == sha256_of(file)
    assert sharing.end() == 0


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_commands_use_the_node_that_runs(place: Place) -> None:
    song = make_file(place.folder / "Music" / "song one.bin", 100_000)
    place.share("alice", Path(f"Tunes={song.parent}"))
    bob = place.share("bob")
    assert place.run("search", "one", "-two", "--wait", "1", "--data-dir", "bob") == (
        "alice  100000  Tunes\\song one.bin\n"
    )
    assert place.run("browse", "alice", "--data-dir", "bob") == "100000  Tunes\\song one.bin\n"
    assert place.run("fetch", "alice", "Tunes\\song one.bin", "--data-dir", "bob") == (
        f"{place.folder / 'song one.bin'}\n"
    )
    assert sha256_of(place.folder / "song one.bin") == sha256_of(song)
    [download] = json.loads("[" + place.run("downloads", "list", "--data-dir", "bob", "--json") + "]")
    assert (download["label"], download["remote"], download["bytes"]) == (
        "Completed, Succeeded",
        "alice",
        100_000,
    )
    place.run("downloads", "pause", "nothing", "--data-dir", "bob", code=1)
    place.run("fetch", "alice", "Tunes\\nothing", "--data-dir", "bob", code=4)
    make_file(song.parent / "two.bin", 10)
    assert place.run("rescan", "--data-dir", "alice") == "2 files in 1 folders\n"
    assert bob.end() == 0
    place.run("rescan", "--data-dir", "bob", code=3)


def test_without_a_node_a_command_logs_in_by_itself(place: Place) -> None:
    song = make_file(place.folder / "Music" / "song.bin", 100_000)
    place.share("alice", song.parent)
    alone = (
        "--user",
        "carol",
        "--server",
        place.server.address,
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        "carol",
    )
    place.run("fetch", "alice", "Music\\song.bin", "-o", "got", *alone)
    assert sha256_of(place.folder / "got") == sha256_of(song)
    assert place.run("browse", "alice", *alone) == "100000  Music\\song.bin\n"
    assert place.run("search", "song", "--wait", "1", *alone) == "alice  100000  Music\\song.bin\n"


def test_a_server_that_is_not_there_or_refuses_ends_a_lone_command(place: Place) -> None:
    place.share("alice")
    nowhere = ("--server", f"127.0.0.1:{free_port()}", "--listen", "127.0.0.1:0", "--data-dir", "carol")
    place.run("fetch", "alice", "Music\\song.bin", "-o", "got", "--user", "carol", *nowhere, code=3)
    where = ("--server", place.server.address, "--listen", "127.0.0.1:0", "--data-dir", "carol")
    refused = ("--user", " carol", *where)
    place.run("search", "song", "--wait", "1", *refused, code=4)
    place.run("share", *refused, code=4)


def test_a_folder_that_holds_the_nodes_own_files_is_not_shared(place: Place) -> None:
    where = ("--server", place.server.address, "--listen", "127.0.0.1:0")
    place.run("share", place.folder, "--user", "alice", *where, "--data-dir", "alice", code=2)
    place.start("share", place.folder, "--user", "bob", *where, "--data-dir", ".hidden")


def test_a_service_of_the_same_directory_lists_and_steers_the_nodes_transfers(place: Place) -> None:
    songs = place.folder / "Music"
    for name in ("one", "two"):
        make_file(songs / name, 9_000_000)
    alice = place.share("alice", songs, "--rate", "30000")
    bob = place.share("bob")
    ids = {}
    for count, name in enumerate(("one", "two"), 1):
        wanted = {"user": "alice", "file": f"Music\\{name}", "target": str(place.folder / name)}
        ids[name] = place.ask("bob", "POST", "/downloads", wanted)["id"]
        wait_until(partial(place.has_uploads, "alice", count), "alice was asked for it")
    wait_until(
        lambda: any(it["label"] == "InProgress" for it in place.uploads("alice")), "the first one is sent"
    )
    with (
        serving(place.folder / "alice", {"HAULIER_NO_TRANSFERS": "true"}) as of_alice,
        serving(place.folder / "bob", {"HAULIER_NO_TRANSFERS": "true"}) as of_bob,
    ):
        listed = api(of_alice, "/api/transfers")["items"]
        assert [(it["target"], it["remote"], it["direction"], it["place"]) for it in listed] == [
            ("Music\\two", "bob", "upload", 1),
            ("Music\\one", "bob", "upload", None),
        ]
        assert api(of_alice, f"/api/transfers/{listed[1]['id']}")["label"] == "InProgress"
        assert api(of_bob, f"/api/transfers/{ids['one']}/pause", method="POST")["phase"] == "paused"
        with pytest.raises(urllib.error.HTTPError) as refused:
            api(of_alice, f"/api/transfers/{listed[0]['id']}/pause", method="POST")
        assert refused.value.code == 422
        refused.value.close()
        api(of_alice, f"/api/transfers/{listed[0]['id']}/cancel", method="POST")
        ended = api(of_bob, f"/api/transfers/{ids['two']}?wait=60")
        assert (ended["label"], ended["error"]) == ("Completed, Cancelled", "Cancelled")
        assert api(of_bob, f"/api/transfers/{ids['one']}/resume", method="POST")["outcome"] is None
        bob.end(signal.SIGKILL)
        shown = api(of_bob, f"/api/transfers/{ids['one']}")
        assert (shown["label"], shown["speed"]) == ("Queued, Locally", None)
        with pytest.raises(urllib.error.HTTPError) as down:
            api(of_bob, f"/api/transfers/{ids['one']}/pause", method="POST")
        assert down.value.code == 422
        assert "haulier soulseek share" in json.load(down.value)["errors"][0]["reason"]
        down.value.close()
    assert alice.end() == 0


def test_a_service_beside_tells_of_the_nodes_transfers_as_they_change(place: Place) -> None:
    song = make_file(place.folder / "Music" / "song.bin", 2_000_000)
    place.share("alice", song.parent, "--rate", "500000")
    with serving(place.folder / "bob", {"HAULIER_NO_TRANSFERS": "true"}) as service:
        request = urllib.request.Request(f"{service.url}/api/events", headers={"Accept": "text/event-stream"})
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as stream:
            events = _events(stream)
            assert next(events)[0] == "ready"
            bob = place.share("bob")
            assert next(events) == ("transfer.reset", {})
            wanted = {"user": "alice", "file": "Music\\song.bin", "target": str(place.folder / "got")}
            begun = place.ask("bob", "POST", "/downloads", wanted)["id"]
            told: list[tuple[str, dict[str, Any]]] = []
            while not told or told[-1][1]["outcome"] is None:
                told.append(next(events))
            assert {transfer["id"] for _, transfer in told} == {begun}
            assert {"transfer.changed", "transfer.progress"} == {name for name, _ in told}
            assert [name for name, _ in told][-1] == "transfer.changed"
            assert told[-1][1]["label"] == "Completed, Succeeded"
            assert api(service, f"/api/transfers/{begun}") == told[-1][1]
            bob.end(signal.SIGKILL)
            assert next(events) == ("transfer.reset", {})


def _events(stream: Iterable[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events of a stream, without its ids and comments."""
    name = ""
    for line in stream:
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def api(service: ServeProcess, path: str, *, method: str = "GET") -> dict[str, Any]:
    with urllib.request.urlopen(urllib.request.Request(f"{service.url}{path}", method=method)) as answer:
        document: dict[str, Any] = json.load(answer)
        return document


def test_a_token_from_the_environment_is_known_to_a_service_beside(place: Place) -> None:
    song = make_file(place.folder / "Music" / "song.bin", 9_000_000)
    place.variables = {"HAULIER_CONTROL_TOKEN": "sesame"}
    place.share("alice", song.parent, "--rate", "30000")
    place.variables = {}
    assert (place.folder / "alice" / "control.token").stat().st_mode & 0o777 == 0o600
    place.share("bob")
    wanted = {"user": "alice", "file": "Music\\song.bin", "target": str(place.folder / "got")}
    place.ask("bob", "POST", "/downloads", wanted)
    wait_until(lambda: place.has_uploads("alice", 1), "alice was asked for it")
    with serving(place.folder / "alice", {"HAULIER_NO_TRANSFERS": "true"}) as service:
        [listed] = api(service, "/api/transfers")["items"]
        assert api(service, f"/api/transfers/{listed['id']}/cancel", method="POST")["outcome"] == "cancelled"


def test_an_operator_says_who_gets_nothing(place: Place) -> None:
    song = make_file(place.folder / "Music" / "song.bin", 1000)
    place.share("alice", song.parent, "--ban", "bob", "--ban", "dan", "--buddy", "cid", "--first-come")
    place.share("bob")
    place.share("cid")
    place.run("fetch", "alice", "Music\\song.bin", "-o", "got", "--data-dir", "bob", code=4)
    place.run("fetch", "alice", "Music\\song.bin", "-o", "got", "--data-dir", "cid")
    assert sha256_of(place.folder / "got") == sha256_of(song)


def test_addresses_that_no_peer_can_be_told_are_refused(place: Place) -> None:
    place.run("rendezvous", "--host", "::1", "--port", "0", code=2)
    where = ("--server", place.server.address, "--data-dir", "alice")
    place.run("share", "--user", "alice", "--listen", "[::1]:0", *where, code=2)


def test_a_name_is_logged_in_once_and_a_directory_has_one_node(place: Place) -> None:
    place.share("alice")
    where = ("--server", place.server.address, "--listen", "127.0.0.1:0")
    place.run("share", "--user", "alice", *where, "--data-dir", "elsewhere", code=4)
    place.run("share", "--user", "bob", *where, "--data-dir", "alice", code=4)
    place.run("browse", "bob", "--user", "alice", *where, "--data-dir", "elsewhere", code=4)


def test_accounts_have_one_server(place: Place) -> None:
    server = place.start("rendezvous", "--port", "0", "--data-dir", "accounts")
    place.run("rendezvous", "--port", "0", "--data-dir", "accounts", code=4)
    assert server.end(signal.SIGKILL) == -signal.SIGKILL
    assert place.start("rendezvous", "--port", "0", "--data-dir", "accounts").end() == 0


def test_the_control_api_wants_its_token(place: Place) -> None:
    place.share("alice")
    token = place.folder / "alice" / "control.token"
    assert token.stat().st_mode & 0o777 == 0o600
    url = json.loads((place.folder / "alice" / "control.json").read_text())["url"]
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"{url}/status", headers=headers))
        assert refused.value.code == 401
        refused.value.close()
    right_one = {"user": "bob", "file": "Music\\a", "target": "/a"}
    for bad in (
        {"target": 5}, {"target": "relative"}, {"target": "/a\0b"},
        {"user": "b" * 257}, {"user": "\ud800"}, {"file": "\ud800"},
    ):  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as wrong:
            place.ask("alice", "POST", "/downloads", {**right_one, **bad})
        assert wrong.value.code == 422
        wrong.value.close()
    assert place.ask("alice", "GET", "/transfers")["items"] == []
    right = {"Authorization": f"Bearer {token.read_text().strip()}"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/status", headers=right)) as answer:
        assert json.load(answer)["online"] is True
    with urllib.request.urlopen(urllib.request.Request(f"{url}/metrics", headers=right)) as answer:
        assert b"haulier_soulseek_online 1.0\n" in answer.read()


def test_what_a_killed_node_leaves_keeps_nobody_from_logging_in(place: Place) -> None:
    song = make_file(place.folder / "Music" / "song.bin", 1000)
    place.share("alice", song.parent)
    place.share("bob").end(signal.SIGKILL)
    assert (place.folder / "bob" / "control.json").exists()
    alone = (
        "--user",
        "bob",
        "--server",
        place.server.address,
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        "bob",
    )
    assert place.run("browse", "alice", *alone) == "1000  Music\\song.bin\n"
    place.run("uploads", "list", "--data-dir", "bob", code=3)


def test_a_node_that_waits_for_its_server_ends_in_order(place: Place) -> None:
    place.server.end()
    where = ("--server", place.server.address, "--listen", "127.0.0.1:0", "--data-dir", "alice")
    log = place.folder / "waiting.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [HAULIER, "soulseek", "share", "--user", "alice", *where],
            cwd=place.folder,
            env=environment({"HAULIER_SOULSEEK_PASSWORD": "secret", "HAULIER_HOME": str(place.folder)}),
            stderr=errors,
        )
    try:
        wait_until(lambda: "server.lost" in log.read_text(), "it has tried")
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait(DEADLINE_S)


def test_the_first_line_goes_to_standard_output_beside_the_live_view(place: Place) -> None:
    out, screen = place.folder / "out", place.folder / "screen"
    where = f"--server {place.server.address} --listen 127.0.0.1:0 --data-dir alice"
    with screen.open("wb") as shown:
        process = subprocess.Popen(
            ["script", "-qefc", f"exec {HAULIER} soulseek share --user alice {where} > {out}", "/dev/null"],
            cwd=place.folder,
            env=environment({"HAULIER_SOULSEEK_PASSWORD": "secret", "HAULIER_HOME": str(place.folder)}),
            stdin=subprocess.DEVNULL,
            stdout=shown,
        )
    try:
        wait_until(lambda: "0 files shared" in screen.read_text(errors="replace"), "the view is drawn")
        assert re.fullmatch(r"haulier soulseek share ready on 127\.0\.0\.1:\d+\n", out.read_text())
        os.kill(json.loads((place.folder / "alice" / "control.json").read_text())["pid"], signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait(DEADLINE_S)
