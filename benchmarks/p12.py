"""P12: queues of 100 000 transfers and of 100 000 uploads against 1 000: enqueue, next, place. CPU time of one operation."""

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Final, Protocol

from benchmarks.harness import Verdict, conclude
from haulier.core.fairness import SMALL_FILE, Entry, RankedQueue
from haulier.core.transfer import TransferId
from haulier.core.values import replace
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.queue import Hold, Request, UploadQueue

ROUNDS = 5
SMALL, LARGE = 1_000, 100_000
SAMPLES = 1_000
"""Operations that are measured: as many for both queues."""
LINES = ("one", "two", "three", "four")
SPAN_S = 4 * 3600.0
"""Over which those that wait have arrived: every shelf has entries of many ranks."""
FILES_OF_A_USER: Final = 100
"""On average: as many as a user may have. So there are ten users in the short queue, and a thousand in the long one."""


class Queue(Protocol):
    """A queue that is measured; it is as long after each operation as it was before, but for `enqueue`."""

    def enqueue(self) -> None:
        """Add one."""

    def start_next(self) -> None:
        """Take out the next ones, and let as many come."""

    def place(self) -> None:
        """Ask for the place of any."""


class Transfers:
    """The queue of transfers to remotes."""

    def __init__(self, count: int) -> None:
        self._chance = random.Random(count)
        self._queue: RankedQueue[int] = RankedQueue()
        self._count = self._last = 0
        for number in range(count):
            self._add(number * SPAN_S / count)
        self._count = count

    def _add(self, arrived_at: float) -> None:
        chance = self._chance
        size, priority = chance.choice((1, 2 * SMALL_FILE)), chance.choice((-1, 0, 1))
        line = chance.choice(LINES)
        self._queue.add(Entry(key=self._last, line=line, priority=priority, size=size, arrived_at=arrived_at))
        self._last += 1

    def enqueue(self) -> None:
        """Add one."""
        self._add(SPAN_S)

    def start_next(self) -> None:
        """Take one."""
        found = self._queue.next(LINES, now=SPAN_S)
        assert found is not None
        self._queue.remove(found.key)
        self._add(SPAN_S)

    def place(self) -> None:
        """Ask for the place of one."""
        assert self._queue.place(self._chance.randrange(self._count), now=SPAN_S) is not None


class Uploads:
    """The queue of a Soulseek node: users take turns, one has friends, some are away or have a turn."""

    def __init__(self, count: int) -> None:
        self._chance = random.Random(count)
        bounds = replace(Bounds(), queued_files_per_user=count, queued_bytes_per_user=2**62)
        self._queue = UploadQueue(bounds)
        self._users = [f"user{number}" for number in range(count // FILES_OF_A_USER)]
        self._last = 0
        self._queue.favour(self._users[::10])
        for _ in range(count):
            self.enqueue()
        self._count = count
        for number, user in enumerate(self._users[5::10]):
            self._queue.hold(user, Hold.ABSENT if number % 2 else Hold.TURN)

    def enqueue(self) -> None:
        """Ask for a file, as one user of many."""
        user, size = self._chance.choice(self._users), self._chance.choice((1, 20 * 1024 * 1024))
        id_ = TransferId(str(self._last))
        request = Request(id=id_, user=user, address=user, size=size, trusted=True)
        assert self._queue.excess(request) is None
        self._queue.add(request)
        self._last += 1

    def start_next(self) -> None:
        """Let a user have a turn, and let as many files be asked for."""
        for id_ in self._queue.take():
            self._queue.forget(id_)
            self.enqueue()

    def place(self) -> None:
        """Ask for the place of one."""
        assert self._queue.place(TransferId(str(self._chance.randrange(self._count)))) is not None


KINDS: Final[Mapping[str, Callable[[int], Queue]]] = {"transfers": Transfers, "uploads": Uploads}
OPERATIONS: Final[Mapping[str, Callable[[Queue], None]]] = {
    "enqueue": lambda queue: queue.enqueue(),
    "place": lambda queue: queue.place(),
    "next": lambda queue: queue.start_next(),
}


def run(kind: Callable[[int], Queue], count: int) -> dict[str, float]:
    """Fill one queue; return the CPU microseconds of each operation on it."""
    queue = kind(count)
    found = {}
    for name, operation in OPERATIONS.items():
        cpu = time.process_time()
        for _ in range(SAMPLES):
            operation(queue)
        found[name] = (time.process_time() - cpu) / SAMPLES * 1e6
    return found


def compare(kind: Callable[[int], Queue]) -> Iterator[tuple[str, float, float]]:
    """Yield each operation's medians, on the small queue and on the large one, which take turns."""
    runs = [(run(kind, SMALL), run(kind, LARGE)) for _ in range(ROUNDS)]
    for name in OPERATIONS:
        yield name, median(small[name] for small, _ in runs), median(large[name] for _, large in runs)


def main() -> int:
    rows = [
        (f"{kind}: {name}", small, large, large / small)
        for kind, queue in KINDS.items()
        for name, small, large in compare(queue)
    ]
    return conclude(
        Verdict(
            id="P12",
            title="queues of 100 000 transfers and uploads against 1 000",
            ratio=max(row[-1] for row in rows),
            bar=3.0,
            aim=1.0,
            columns=("operation", "1 000: µs", "100 000: µs", "ratio"),
            rows=tuple(rows),
            notes="Transfers: four lines, three priorities, small and large files, arrivals over four hours. Uploads: a "
            "hundred files a user, so ten users against a thousand; one in ten is favoured, one in twenty is away, as many "
            "have a turn; next is a turn of up to twenty files. The ratio is the worst.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
