"""What operators scrape, in Prometheus' words.

Rule 1: one registry an app, so that several apps in one process never share a count.
Rule 2: labels have few values: routes by their template, problems by their slug, never a path or an id.
"""

from contextlib import AbstractContextManager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from haulier.core.session import SessionStatus

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_DURATIONS: Final = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0)
"""Seconds. From a small answer to a body that takes minutes."""
_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS"})


class Metrics:
    """Counters of one service; its methods are what the rest of the service tells."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self._begun = Counter("haulier_uploads_begun", "Uploads begun.", registry=registry)
        self._ended = Counter(
            "haulier_uploads_ended", "Uploads that came to their end.", ["status"], registry=registry
        )
        self._bytes = Counter("haulier_accepted_bytes", "Bytes of uploads accepted.", registry=registry)
        self._live = Gauge("haulier_live_sessions", "Uploads that are open or finishing.", registry=registry)
        self._bodies = Gauge("haulier_running_bodies", "Bodies being received.", registry=registry)
        self._requests = Histogram(
            "haulier_request_seconds",
            "How long requests took.",
            ["method", "route", "status"],
            buckets=_DURATIONS,
            registry=registry,
        )
        self._problems = Counter("haulier_problems", "Problems answered.", ["slug"], registry=registry)
        self._swept = Counter("haulier_janitor", "What the janitor did.", ["result"], registry=registry)
        for status in (status for status in SessionStatus if not status.live):
            # A count that is there from the start has a rate from the start.
            self._ended.labels(status.value)

    def begun(self) -> None:
        """An upload was begun."""
        self._begun.inc()

    def ended(self, status: SessionStatus) -> None:
        """An upload came to its end."""
        self._ended.labels(status.value).inc()

    def accepted(self, count: int) -> None:
        """Bytes of an upload were accepted."""
        self._bytes.inc(count)

    def receiving(self) -> AbstractContextManager[None]:
        """Count a body for as long as it is being received."""
        return self._bodies.track_inprogress()

    def swept(self, result: str, count: int) -> None:
        """The janitor did something `count` times; `result` is one of few words."""
        self._swept.labels(result).inc(count)

    def answered(
        self, route: str, method: str, status: int, duration_s: float, *, problem: str | None
    ) -> None:
        """A request is over; `status` is 0 when it ended without an answer."""
        # Clients make up methods; each would be a new time series.
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).observe(duration_s)
        if problem is not None:
            self._problems.labels(problem).inc()

    def render(self, *, live: int) -> bytes:
        """Return the exposition text. `live` is counted by the caller, who knows the rows."""
        self._live.set(live)
        return generate_latest(self._registry)
