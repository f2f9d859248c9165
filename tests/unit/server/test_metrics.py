"""What several workers count is one service's count, whoever of them has died."""

from pathlib import Path

import pytest

from haulier.core.errors import ConfigError
from haulier.core.session import SessionStatus
from haulier.server.counts import ROOM, SharedCounts, prepare_counts
from haulier.server.metrics import Metrics
from haulier.server.problems import SLUGS, TABLE
from tests.support.service import MemoryService

STATUSES = {0, 200, 201, 202, 204, 206, 304, *(row.status for row in TABLE.values())}
"""All that any route answers; 0 is no answer."""


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    """Files for two workers."""
    directory = tmp_path / "metrics"
    prepare_counts(directory, 2)
    return directory


def worker(slot: int, counts: Path) -> Metrics:
    """Count as a new process in that place would."""
    return Metrics(SharedCounts(counts, slot))


def metric(metrics: Metrics, name: str) -> float:
    lines = metrics.render(live=3).decode().splitlines()
    (line,) = (line for line in lines if line.startswith(name + " "))
    return float(line.rpartition(" ")[2])


def test_any_worker_tells_the_sum(counts: Path) -> None:
    one, two = worker(0, counts), worker(1, counts)
    one.begun()
    two.begun()
    two.accepted(5)
    for each in (one, two):
        each.answered("/a", "GET", 200, 0.01, problem=None)
        assert metric(each, "haulier_uploads_begun_total") == 2
        assert metric(each, "haulier_accepted_bytes_total") == 5
        assert metric(each, 'haulier_uploads_ended_total{status="committed"}') == 0
    assert metric(one, 'haulier_request_seconds_count{method="GET",route="/a",status="200"}') == 2
    assert metric(one, 'haulier_request_seconds_bucket{le="0.025",method="GET",route="/a",status="200"}') == 2


def test_what_is_read_from_rows_is_not_added_up(counts: Path) -> None:
    worker(0, counts)
    assert metric(worker(1, counts), "haulier_live_sessions") == 3


def test_a_replacement_goes_on_where_the_dead_one_stopped(counts: Path) -> None:
    other, dead = worker(1, counts), worker(0, counts)
    dead.begun()
    dead.ended(SessionStatus.COMMITTED)
    with dead.receiving():
        assert metric(other, "haulier_running_bodies") == 1
        replacement = worker(0, counts)
        assert metric(other, "haulier_running_bodies") == 0
        assert metric(replacement, "haulier_uploads_begun_total") == 1
        replacement.begun()
        assert metric(other, "haulier_uploads_begun_total") == 2
        assert metric(other, 'haulier_uploads_ended_total{status="committed"}') == 1


def test_a_new_service_begins_at_zero(counts: Path) -> None:
    worker(0, counts).begun()
    prepare_counts(counts, 1)
    assert metric(worker(0, counts), "haulier_uploads_begun_total") == 0


def test_a_start_finds_the_disk_full_before_any_worker_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metrics").write_text("in the way")
    with pytest.raises(ConfigError, match="what workers count") as refused:
        prepare_counts(tmp_path / "metrics", 2)
    assert refused.value.setting == "workers"


def test_every_route_with_every_status_fits_twice(counts: Path) -> None:
    metrics = worker(0, counts)
    routes = MemoryService().app().routes
    for path, method in {(route.path, method) for route in routes for method in route.methods}:
        for status in STATUSES:
            metrics.answered(path, method, status, 1.0, problem=None)
    for slug in SLUGS:
        metrics.answered("none", "GET", 404, 1.0, problem=slug)
    file = counts / "0"
    assert file.stat().st_size == ROOM
    assert len(file.read_bytes().rstrip(b"\0")) < ROOM / 2
