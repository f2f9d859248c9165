"""The log of a running service: every line that belongs to a request says to which, and to which upload."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.outsider import Outsider, Wire
from tests.support.processes import ServeProcess, serving, wait_until

CHUNK = 256 * 1024


def lines_of(service: ServeProcess, request: str) -> list[dict[str, Any]]:
    """Wait until a request is over; return all lines that name it."""
    found: list[dict[str, Any]] = []

    def over() -> bool:
        found[:] = [event for event in service.events() if event.get("request") == request]
        return any(event["event"] == "request" for event in found)

    wait_until(over, "the request is logged")
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_lines_name_their_request_upload_and_worker(tmp_path: Path, workers: int) -> None:
    with serving(tmp_path / "data", {"HAULIER_WORKERS": str(workers)}) as service, Wire(service.port) as wire:
        begin = json.dumps({"filename": "secret name", "size": CHUNK, "chunk_size": CHUNK}).encode()
        fields = {"Content-Type": "application/json", "X-Request-ID": "the-begin"}
        upload = wire.ask("POST", "/api/uploads", begin, fields).json["id"]
        target = f"/api/uploads/{upload}/chunks"
        # Lost directories are made again, in threads, and told: within the request that needs them.
        shutil.rmtree(service.data_dir / "objects")
        wire.ask("PUT", f"{target}/0", b"x" * CHUNK, {"X-Request-ID": "the-chunk"})
        wire.ask("PUT", f"{target}/7?token=hush", b"x", {"X-Request-ID": "the-mistake"})
        wire.ask("POST", f"/api/uploads/{upload}/finish", headers={"X-Request-ID": "the-finish"})
        requests = {
            name: lines_of(service, name) for name in ("the-begin", "the-chunk", "the-mistake", "the-finish")
        }
        living = set(service.ready_workers())
        assert service.stop() == 0
    for name, lines in requests.items():
        assert {line["upload"] for line in lines} == {upload}, name
        assert [line["event"] for line in lines].count("request") == 1, name
    assert [line["problem"] for line in requests["the-mistake"]] == ["chunk-out-of-range"]
    assert {line["event"] for line in requests["the-finish"]} == {"request", "session.committed"}
    created = [event for event in service.events() if event["event"] == "directory.created"]
    within = [event for event in created if event["path"].endswith("objects")][1:]
    assert [event["request"] for event in within] != []
    served = [event for event in service.events() if "request" in event]
    assert {event.get("worker") for event in served} == (
        living & {requests["the-begin"][0]["worker"]} if living else {None}
    )
    assert "hush" not in service.log


def test_every_line_is_json_with_level_and_time(tmp_path: Path) -> None:
    with serving(tmp_path / "data", {"HAULIER_WORKERS": "2"}) as service:
        assert Outsider(service.port).ask("PUT", "/api/files/a", b"hello").status == 201
        assert Outsider(service.port).ask("GET", "/nowhere").status == 404
        assert service.stop() == 0
        for line in service.log.splitlines():
            event = json.loads(line)
            assert event["level"] in {"debug", "info", "warning", "error"}
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event["timestamp"])
