"""Turns of lines, and the places of those who wait for theirs."""

from haulier.core.rounds import TurnQueue, Waiting

MIB = 1024 * 1024


def filled(lines: tuple[str, ...], each: int) -> TurnQueue[int]:
    queue: TurnQueue[int] = TurnQueue(bundle_files=1)
    for number in range(each * len(lines)):
        queue.add(Waiting(key=number, line=lines[number // each], size=1))
    return queue


def test_turns_of_lines_that_always_wait_differ_by_at_most_one() -> None:
    queue = filled(("ann", "bob", "cid"), 50)
    turns = dict.fromkeys(("ann", "bob", "cid"), 0)
    for _ in range(150):
        (entry,) = queue.take()
        turns[entry.line] += 1
        assert max(turns.values()) - min(turns.values()) <= 1


def test_every_fourth_start_is_the_others() -> None:
    queue = filled(("friend", "stranger"), 6)
    queue.favour({"friend"})
    started = [queue.take()[0].line[0] for _ in range(12)]
    assert "".join(started) == "fffsfffsssss"


def test_a_held_line_blocks_nobody_and_is_first_when_it_is_let_go() -> None:
    queue = filled(("ann", "bob"), 3)
    queue.hold("ann")
    assert [queue.take()[0].line for _ in range(2)] == ["bob", "bob"]
    queue.let_go("ann")
    assert queue.take()[0].line == "ann"


def test_a_bundle_is_twenty_files_or_sixteen_mib_of_one_line() -> None:
    queue: TurnQueue[int] = TurnQueue()
    for number in range(25):
        queue.add(Waiting(key=number, line="ann", size=1))
    for number in range(100, 103):
        queue.add(Waiting(key=number, line="bob", size=8 * MIB))
    assert [entry.key for entry in queue.take()] == list(range(20))
    assert [entry.key for entry in queue.take()] == [100, 101]
    assert [entry.key for entry in queue.take()] == list(range(20, 25))


def test_places_know_that_every_fourth_start_is_the_others() -> None:
    queue = filled(("friend", "stranger"), 6)
    queue.favour({"friend"})
    assert [queue.place(key) for key in range(6)] == [1, 2, 3, 5, 6, 7]
    assert [queue.place(key) for key in range(6, 12)] == [4, 8, 9, 10, 11, 12]


def test_whoever_came_first_has_the_first_place_where_nobody_takes_turns() -> None:
    queue: TurnQueue[int] = TurnQueue(first_come=True)
    for number, line in enumerate(("ann", "ann", "bob", "ann")):
        queue.add(Waiting(key=number, line=line, size=1))
    assert [queue.place(key) for key in range(4)] == [1, 2, 3, 4]
    assert [queue.take()[0].key for _ in range(4)] == [0, 1, 2, 3]
