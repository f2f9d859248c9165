"""The order by rank, in examples that can be read; tests/property compares it with the plainest one."""

import pytest

from haulier.core.fairness import AGEING_S, SMALL_FILE, Entry, RankedQueue, rank_of

LOW, NORMAL, HIGH = -1, 0, 1


def queue(*entries: Entry[str]) -> RankedQueue[str]:
    waiting: RankedQueue[str] = RankedQueue()
    for entry in entries:
        waiting.add(entry)
    return waiting


def entry(key: str, *, priority: int = NORMAL, size: int = 0, at: float = 0.0, line: str = "a") -> Entry[str]:
    return Entry(key=key, line=line, priority=priority, size=size, arrived_at=at)


def order(waiting: RankedQueue[str], *, now: float, lines: tuple[str, ...] = ("a", "b")) -> list[str]:
    """Take out all that may start, one after the other."""
    started: list[str] = []
    while (found := waiting.next(lines, now=now)) is not None:
        started.append(found.key)
        waiting.remove(found.key)
    return started


def test_nobody_is_next_of_an_empty_queue() -> None:
    waiting = queue()
    assert waiting.next(["a"], now=0.0) is None
    assert waiting.place("x", now=0.0) is None
    assert waiting.remove("x") is None
    assert len(waiting) == 0


def test_priority_goes_before_arrival() -> None:
    waiting = queue(entry("low", priority=LOW), entry("normal"), entry("high", priority=HIGH))
    assert order(waiting, now=1.0) == ["high", "normal", "low"]


def test_small_files_go_first_and_eight_mebibytes_are_small() -> None:
    waiting = queue(entry("large", size=SMALL_FILE + 1), entry("small", size=SMALL_FILE, at=1.0))
    assert order(waiting, now=2.0) == ["small", "large"]


@pytest.mark.parametrize(("waited", "rank"), [(0.0, 0), (599.9, 0), (600.0, 1), (1800.0, 3), (-5.0, 0)])
def test_each_ten_minutes_of_waiting_are_one_rank(waited: float, rank: int) -> None:
    assert rank_of(NORMAL, 1000.0, now=1000.0 + waited) == rank


def test_a_low_one_goes_before_a_new_high_one_after_twenty_minutes() -> None:
    just_before = 2 * AGEING_S - 1
    waiting = queue(entry("old", priority=LOW), entry("new", priority=HIGH, at=just_before))
    assert waiting.place("old", now=just_before) == 2
    assert waiting.place("old", now=2 * AGEING_S) == 1


def test_a_line_that_is_busy_is_passed_over() -> None:
    waiting = queue(entry("first", line="a"), entry("second", line="b"))
    assert set(waiting.lines) == {"a", "b"}
    assert order(waiting, now=0.0, lines=("b",)) == ["second"]
    assert set(waiting.lines) == {"a"}


def test_the_slot_for_small_files_takes_no_large_one_although_it_was_bumped() -> None:
    waiting = queue(entry("large", size=SMALL_FILE + 1), entry("small"))
    waiting.bump("large")
    found = waiting.next(["a"], now=0.0, small_only=True)
    assert found is not None
    assert found.key == "small"


def test_the_last_one_bumped_is_first_of_its_priority_and_of_no_other() -> None:
    waiting = queue(entry("high", priority=HIGH), entry("a"), entry("b", size=SMALL_FILE + 1), entry("c"))
    waiting.bump("c")
    waiting.bump("b")
    waiting.bump("unknown")
    assert order(waiting, now=0.0) == ["high", "b", "c", "a"]


def test_thousands_keep_their_order_and_places() -> None:
    """More than fit into one block of a shelf, put in from both ends."""
    numbers = [n if n % 2 else 3000 - n for n in range(3000)]
    waiting = queue(*(entry(str(n), at=float(n)) for n in dict.fromkeys(numbers)))
    expected = [str(n) for n in sorted(set(numbers))]
    now = 0.0
    assert [waiting.place(key, now=now) for key in expected] == list(range(1, len(expected) + 1))
    assert order(waiting, now=now) == expected
