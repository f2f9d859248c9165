"""`GET /api/events` of real services: between workers, and after a kill."""

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ServeProcess, serving

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """Two workers on SQLite."""
    with serving(tmp_path_factory.mktemp("feed") / "data", {"HAULIER_WORKERS": "2"}) as running:
        yield running


def request(port: int, method: str, target: str, body: bytes = b"", **headers: str) -> Any:
    """Return the answer's text, over a connection of its own, which may land in any worker."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request(method, target, body or None, headers)
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


class Follower(threading.Thread):
    """Reads a stream until it has seen so many records complete."""

    def __init__(self, port: int, wanted: int) -> None:
        super().__init__(daemon=True)
        self.ready = threading.Event()
        self.seen: list[str] = []
        self._port = port
        self._wanted = wanted

    def run(self) -> None:
        """Follow."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        connection.request("GET", "/api/events")
        answer = connection.getresponse()
        while len(self.seen) < self._wanted:
            line = answer.readline().decode().strip()
            if line == "event: ready":
                self.ready.set()
            if line.startswith('data: {"kind":"record.completed"'):
                self.seen.append(json.loads(line.removeprefix("data: "))["record"])
        connection.close()


def test_every_follower_hears_of_every_upload_in_whatever_worker_it_was(service: ServeProcess) -> None:
    followers = [Follower(service.port, 20) for _ in range(6)]
    for follower in followers:
        follower.start()
    assert all(follower.ready.wait(PATIENCE_S) for follower in followers)
    made = [json.loads(request(service.port, "PUT", f"/api/files/{n}", b"x"))["id"] for n in range(20)]
    for follower in followers:
        follower.join(PATIENCE_S)
        assert follower.seen == made


def test_who_comes_back_after_a_restart_has_missed_nothing(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as first:
        request(first.port, "PUT", "/api/files/a", b"x")
        seen = request(first.port, "GET", "/api/events?follow=false").split("\n", 1)[0]
        record = json.loads(request(first.port, "PUT", "/api/files/b", b"x"))["id"]
    with serving(tmp_path / "data") as second:
        place = {"Last-Event-ID": seen.removeprefix("id: ")}
        text = request(second.port, "GET", "/api/events?follow=false", **place)
    documents = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert [(each["kind"], each["record"]) for each in documents if each] == [
        ("record.created", record),
        ("record.completed", record),
    ]
