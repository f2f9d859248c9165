"""What operators scrape, in Prometheus' words.

Rule 1: one registry an app, so that several apps in one process never share a count; workers are one app a process.
Rule 2: what is counted is plain numbers (`server/counts.py`), which become Prometheus' metrics when they are asked for: each
        request counts some seven times, and is scraped never.
Rule 3: labels have few values: routes by their template, problems by their slug, never a path or an id.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import accumulate
from math import inf
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from haulier.core.session import SessionStatus
from haulier.server.counts import Counts, Numbers

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_DURATIONS: Final = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0)
"""Seconds. From a small answer to a body that takes minutes."""
_BUCKETS: Final = tuple(map(floatToGoString, (*_DURATIONS, inf)))
_SUM: Final = len(_BUCKETS)
"""Where the numbers of a histogram have the sum of what it has seen, behind its buckets."""
_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS"})

_Family = type[CounterMetricFamily] | type[GaugeMetricFamily] | type[HistogramMetricFamily]

_BEGUN: Final = "haulier_uploads_begun"
_ENDED: Final = "haulier_uploads_ended"
_BYTES: Final = "haulier_accepted_bytes"
_BODIES: Final = "haulier_running_bodies"
_REQUESTS: Final = "haulier_request_seconds"
_PROBLEMS: Final = "haulier_problems"
_JANITOR: Final = "haulier_janitor"
_FAMILIES: Final[Mapping[str, tuple[_Family, str, tuple[str, ...]]]] = {
    _BEGUN: (CounterMetricFamily, "Uploads begun.", ()),
    _ENDED: (CounterMetricFamily, "Uploads that came to their end.", ("status",)),
    _BYTES: (CounterMetricFamily, "Bytes of uploads accepted.", ()),
    _BODIES: (GaugeMetricFamily, "Bodies being received.", ()),
    _REQUESTS: (HistogramMetricFamily, "How long requests took.", ("method", "route", "status")),
    _PROBLEMS: (CounterMetricFamily, "Problems answered.", ("slug",)),
    _JANITOR: (CounterMetricFamily, "What the janitor did.", ("result",)),
}
"""What each is, what it is about, and its labels."""


class _Running:
    """Counts what runs, for as long as it does; knows nothing of any single one."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        numbers[0] = 0.0  # those of a dead worker in this one's place died with it

    def __enter__(self) -> None:
        self._numbers[0] += 1

    def __exit__(self, *_: object) -> None:
        self._numbers[0] -= 1


class Metrics(Collector):
    """Counters of one service; its methods are what the rest of the service tells.

    Args:
        counts: where the numbers are; None: in this process alone.
    """

    def __init__(self, counts: Counts | None = None) -> None:
        self._counts = counts = Counts() if counts is None else counts
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._live = 0
        # A count that is there from the start has a rate from the start.
        self._begun = counts.of((_BEGUN,))
        self._ends = {
            status: counts.of((_ENDED, status.value)) for status in SessionStatus if not status.live
        }
        self._bytes = counts.of((_BYTES,))
        self._receiving = _Running(counts.of((_BODIES,)))
        self._answers: dict[tuple[str, str, int], Numbers] = {}

    def begun(self) -> None:
        """An upload was begun."""
        self._begun[0] += 1

    def ended(self, status: SessionStatus) -> None:
        """An upload came to its end."""
        self._ends[status][0] += 1

    def accepted(self, count: int) -> None:
        """Bytes of an upload were accepted."""
        self._bytes[0] += count

    def receiving(self) -> AbstractContextManager[None]:
        """Count a body for as long as it is being received."""
        return self._receiving

    def swept(self, result: str, count: int) -> None:
        """The janitor did something `count` times; `result` is one of few words."""
        self._counts.of((_JANITOR, result))[0] += count

    def answered(
        self, route: str, method: str, status: int, duration_s: float, *, problem: str | None
    ) -> None:
        """A request is over; `status` is 0 when it ended without an answer."""
        answers = self._answers.get((method, route, status))
        if answers is None:
            answers = self._answers_of(method, route, status)
        answers[bisect_left(_DURATIONS, duration_s)] += 1
        answers[_SUM] += duration_s
        if problem is not None:
            self._counts.of((_PROBLEMS, problem))[0] += 1

    def _answers_of(self, method: str, route: str, status: int) -> Numbers:
        if method not in _METHODS:
            # Clients make up methods; each would be a new time series.
            return self._counts.of((_REQUESTS, "other", route, str(status)), _SUM + 1)
        found = self._counts.of((_REQUESTS, method, route, str(status)), _SUM + 1)
        self._answers[method, route, status] = found
        return found

    def render(self, *, live: int) -> bytes:
        """Return the exposition text. `live` is counted by the caller, who knows the rows."""
        self._live = live
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Tell Prometheus."""
        # Read from the rows and not counted, so that workers do not add it up.
        yield GaugeMetricFamily(
            "haulier_live_sessions", "Uploads that are open or finishing.", value=self._live
        )
        sums = self._counts.sums()
        for metric, (kind, text, labels) in _FAMILIES.items():
            family = kind(metric, text, labels=labels)
            for name, numbers in sums.items():
                if name[0] == metric:
                    _add(
                        family,
                        dict(zip(labels, name[1:], strict=True)),
                        numbers,
                        self._counts.began.get(name),
                    )
            yield family


def _add(family: Metric, labels: dict[str, str], numbers: Numbers, began: float | None) -> None:
    if isinstance(family, HistogramMetricFamily):
        *counts, total = numbers
        family.add_metric(list(labels.values()), list(zip(_BUCKETS, accumulate(counts), strict=True)), total)
    else:
        family.add_sample(f"{family.name}{'_total' if family.type == 'counter' else ''}", labels, numbers[0])
    if began is not None and family.type != "gauge":
        family.add_sample(f"{family.name}_created", labels, began)
