"""P12: a queue of 100 000 transfers against one of 1 000: enqueue, next, place. CPU time of one operation."""

import random
import sys
import time
from collections.abc import Callable
from functools import partial

from benchmarks.harness import Measure, Verdict, conclude, median, take_turns
from haulier.core.fairness import SMALL_FILE, Entry, RankedQueue

ROUNDS = 5
SMALL, LARGE = 1_000, 100_000
SAMPLES = 1_000
"""Operations that are measured: as many for both queues."""
LINES = ("one", "two", "three", "four")
SPAN_S = 4 * 3600.0
"""Over which those that wait have arrived: every shelf has entries of many ranks."""


def entry(key: int, arrived_at: float, chance: random.Random) -> Entry[int]:
    size = chance.choice((1, 2 * SMALL_FILE))
    priority = chance.choice((-1, 0, 1))
    return Entry(key=key, line=chance.choice(LINES), priority=priority, size=size, arrived_at=arrived_at)


def fill(count: int, chance: random.Random) -> RankedQueue[int]:
    queue: RankedQueue[int] = RankedQueue()
    for key in range(count):
        queue.add(entry(key, key * SPAN_S / count, chance))
    return queue


def enqueue(queue: RankedQueue[int], count: int, chance: random.Random) -> None:
    for key in range(count, count + SAMPLES):
        queue.add(entry(key, SPAN_S, chance))


def start_next(queue: RankedQueue[int], count: int, chance: random.Random) -> None:
    """Take out the next, and let another come, so that the queue stays as long as it is."""
    for key in range(count, count + SAMPLES):
        found = queue.next(LINES, now=SPAN_S)
        assert found is not None
        queue.remove(found.key)
        queue.add(entry(key, SPAN_S, chance))


def place(queue: RankedQueue[int], count: int, chance: random.Random) -> None:
    for key in chance.choices(range(count), k=SAMPLES):
        assert queue.place(key, now=SPAN_S) is not None


Operation = Callable[[RankedQueue[int], int, random.Random], None]
OPERATIONS: dict[str, Operation] = {"enqueue": enqueue, "next": start_next, "place": place}


def run(operation: Operation, count: int) -> Measure:
    chance = random.Random(count)
    queue = fill(count, chance)
    cpu, wall = time.process_time(), time.perf_counter()
    operation(queue, count, chance)
    return Measure(time.process_time() - cpu, time.perf_counter() - wall)


def compare(operation: Operation) -> tuple[float, float]:
    """Return the medians of one operation in microseconds, on the small queue and on the large one."""
    runs = {str(count): partial(run, operation, count) for count in (SMALL, LARGE)}
    found = take_turns(ROUNDS, runs)
    small, large = (median(measures, "cpu_s") / SAMPLES * 1e6 for measures in found.values())
    return small, large


def main() -> int:
    rows = []
    for name, operation in OPERATIONS.items():
        small, large = compare(operation)
        rows.append((name, small, large, large / small))
    return conclude(
        Verdict(
            id="P12",
            title="queue of 100 000 transfers against 1 000",
            ratio=max(row[-1] for row in rows),
            bar=3.0,
            aim=1.0,
            columns=("operation", "1 000: µs", "100 000: µs", "ratio"),
            rows=tuple(rows),
            notes="Four lines, three priorities, small and large files, arrivals over four hours. The ratio is the worst.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
