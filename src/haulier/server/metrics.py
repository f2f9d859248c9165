"""What operators scrape, in Prometheus' words.

Rule 1: one registry an app, so that several apps in one process never share a count; workers are one app a process.
Rule 2: several workers of a service count into files that each of them can read (`prometheus_client`'s multiprocess
        mode): any worker answers for all, and what a dead one counted stays.
Rule 3: labels have few values: routes by their template, problems by their slug, never a path or an id.
"""

import os
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from haulier.core.errors import ConfigError
from haulier.core.session import SessionStatus

COUNTS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Where `prometheus_client` looks for the directory of the counts; it has no other way to be told."""
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_DURATIONS: Final = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0)
"""Seconds. From a small answer to a body that takes minutes."""
_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS"})
COUNT_FILES: Final = {"counter": 512 * 1024, "gauge_sum": 64 * 1024, "histogram": 12 * 1024 * 1024}
"""What a worker counts into, by the names that `prometheus_client` gives, and the bytes of each: several times what
every route with every status needs."""


def prepare_counts(directory: Path, workers: int) -> None:
    """Make the files into which workers count, empty and with all the room that they may need.

    They are mapped into memory: a disk that is full when one of them grows would kill its worker.

    Raises:
        ConfigError: there is no room for them.
    """
    try:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o755)
        for slot in range(workers):
            for kind, size in COUNT_FILES.items():
                _reserve(directory / f"{kind}_{slot}.db", size)
    except OSError as error:
        needed = f"{workers * sum(COUNT_FILES.values())} bytes for what workers count"
        raise ConfigError(
            "workers", str(workers), f"{directory} needs {needed} ({error.strerror})"
        ) from error


def _reserve(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.write(descriptor, bytes(size))
    finally:
        os.close(descriptor)


def share_counts(slot: int) -> None:
    """Have everything that this process counts from here on counted into the files of its slot.

    The worker before it in that slot left its counts there; they go on.
    """
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


class _LiveSessions:
    """A gauge that is read from the rows and not counted, so that workers do not add it up."""

    def __init__(self) -> None:
        self.live = 0

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Tell Prometheus."""
        yield GaugeMetricFamily(
            "haulier_live_sessions", "Uploads that are open or finishing.", value=self.live
        )


class Metrics:
    """Counters of one service; its methods are what the rest of the service tells.

    Args:
        shared: the directory of the counts of all workers; None where there is one process.
    """

    def __init__(self, *, shared: Path | None = None) -> None:
        registry = CollectorRegistry()
        self._told = registry if shared is None else CollectorRegistry()
        if shared is not None:
            MultiProcessCollector(self._told, path=str(shared))  # type: ignore[no-untyped-call]
        self._live = _LiveSessions()
        self._told.register(self._live)
        self._begun = Counter("haulier_uploads_begun", "Uploads begun.", registry=registry)
        ended = Counter(
            "haulier_uploads_ended", "Uploads that came to their end.", ["status"], registry=registry
        )
        self._bytes = Counter("haulier_accepted_bytes", "Bytes of uploads accepted.", registry=registry)
        self._bodies = Gauge(
            "haulier_running_bodies", "Bodies being received.", registry=registry, multiprocess_mode="sum"
        )
        self._receiving = self._bodies.track_inprogress()  # knows nothing of any single body
        self._bodies.set(0)  # those of a dead worker in this one's slot died with it
        self._requests = Histogram(
            "haulier_request_seconds",
            "How long requests took.",
            ["method", "route", "status"],
            buckets=_DURATIONS,
            registry=registry,
        )
        self._problems = Counter("haulier_problems", "Problems answered.", ["slug"], registry=registry)
        self._swept = Counter("haulier_janitor", "What the janitor did.", ["result"], registry=registry)
        # A count that is there from the start has a rate from the start.
        self._ends = {status: ended.labels(status.value) for status in SessionStatus if not status.live}
        self._answers: dict[tuple[str, str, int], Histogram] = {}
        """What was found by its labels once, which takes longer than to count."""

    def begun(self) -> None:
        """An upload was begun."""
        self._begun.inc()

    def ended(self, status: SessionStatus) -> None:
        """An upload came to its end."""
        self._ends[status].inc()

    def accepted(self, count: int) -> None:
        """Bytes of an upload were accepted."""
        self._bytes.inc(count)

    def receiving(self) -> AbstractContextManager[None]:
        """Count a body for as long as it is being received."""
        return self._receiving

    def swept(self, result: str, count: int) -> None:
        """The janitor did something `count` times; `result` is one of few words."""
        self._swept.labels(result).inc(count)

    def answered(
        self, route: str, method: str, status: int, duration_s: float, *, problem: str | None
    ) -> None:
        """A request is over; `status` is 0 when it ended without an answer."""
        # Clients make up methods; each would be a new time series.
        known = method if method in _METHODS else "other"
        answers = self._answers.get((known, route, status))
        if answers is None:
            answers = self._answers[known, route, status] = self._requests.labels(known, route, str(status))
        answers.observe(duration_s)
        if problem is not None:
            self._problems.labels(problem).inc()

    def render(self, *, live: int) -> bytes:
        """Return the exposition text. `live` is counted by the caller, who knows the rows."""
        self._live.live = live
        return generate_latest(self._told)
