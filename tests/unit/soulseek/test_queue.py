"""Who waits for an upload, how much of whom, and who is passed over."""

from haulier.core.transfer import TransferId
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.queue import TOO_MANY_BYTES, TOO_MANY_FILES, Hold, Request, UploadQueue

MB = 1_000_000


def request(
    id_: str, user: str = "bob", *, size: int = 20 * MB, address: str | None = None, trusted: bool = True
) -> Request:
    return Request(id=TransferId(id_), user=user, address=address or f"of {user}", size=size, trusted=trusted)


def queue(*requests: Request, bounds: Bounds | None = None, first_come: bool = False) -> UploadQueue:
    waiting = UploadQueue(bounds or Bounds(), first_come=first_come)
    for each in requests:
        waiting.add(each)
    return waiting


def taken(waiting: UploadQueue) -> list[tuple[str, ...]]:
    """Take turns until nobody can have one."""
    turns: list[tuple[str, ...]] = []
    while turn := waiting.take():
        turns.append(turn)
    return turns


def test_users_take_turns_and_files_keep_their_order() -> None:
    waiting = queue(
        request("b1"), request("b2"), request("c1", "carol"), request("b3"), request("c2", "carol")
    )
    assert taken(waiting) == [("b1",), ("c1",), ("b2",), ("c2",), ("b3",)]


def test_first_come_first_served_is_a_setting() -> None:
    waiting = queue(request("b1"), request("b2"), request("c1", "carol"), first_come=True)
    assert taken(waiting) == [("b1",), ("b2",), ("c1",)]


def test_small_files_of_one_user_are_one_turn() -> None:
    waiting = queue(*(request(f"b{number}", size=MB) for number in range(25)), request("c1", "carol"))
    turns = taken(waiting)
    assert [len(turn) for turn in turns] == [16, 1, 9]


def test_buddies_go_first_but_every_fourth_turn_is_the_others() -> None:
    waiting = queue(
        *(request(f"b{number}") for number in range(6)),
        *(request(f"c{number}", "carol") for number in range(3)),
    )
    waiting.favour({"bob"})
    assert [turn[0] for turn in taken(waiting)] == ["b0", "b1", "b2", "c0", "b3", "b4", "b5", "c1", "c2"]


def test_whoever_only_claims_to_be_a_buddy_is_none() -> None:
    spoofed = request("x", "bob", address="elsewhere", trusted=False)
    waiting = queue(request("c1", "carol"), spoofed, request("b1"))
    waiting.favour({"bob"})
    assert [turn[0] for turn in taken(waiting)] == ["b1", "c1", "x"]


def test_a_user_who_becomes_a_buddy_while_waiting_goes_first() -> None:
    waiting = queue(request("c1", "carol"))
    waiting.favour({"bob"})
    waiting.add(request("b1"))
    assert [turn[0] for turn in taken(waiting)] == ["b1", "c1"]


def test_who_is_held_is_passed_over_until_the_last_reason_is_gone() -> None:
    waiting = queue(request("b1"), request("c1", "carol"), request("x", trusted=False))
    waiting.hold("bob", Hold.TURN)
    waiting.hold("bob", Hold.BACKING_OFF)
    assert taken(waiting) == [("c1",)]
    waiting.let_go("bob", Hold.TURN)
    assert taken(waiting) == []
    waiting.let_go("bob", Hold.BACKING_OFF)
    waiting.let_go("bob", Hold.BACKING_OFF)
    assert taken(waiting) == [("b1",), ("x",)]


def test_who_is_away_counts_for_nobodys_place() -> None:
    waiting = queue(request("b1"), request("c1", "carol"), request("c2", "carol"))
    assert waiting.place(TransferId("c2")) == 3
    waiting.hold("bob", Hold.ABSENT)
    assert waiting.place(TransferId("c2")) == 2
    waiting.let_go("bob", Hold.ABSENT)
    assert waiting.place(TransferId("c2")) == 3
    assert waiting.place(TransferId("nobody's")) is None


def test_a_user_has_so_many_files_and_bytes_and_no_more() -> None:
    bounds = Bounds(queued_files_per_user=2, queued_bytes_per_user=100 * MB)
    waiting = queue(request("b1"), bounds=bounds)
    assert waiting.excess(request("b2", size=80 * MB)) is None
    assert waiting.excess(request("b2", size=80 * MB + 1)) == TOO_MANY_BYTES
    waiting.add(request("b2"))
    assert waiting.excess(request("b3", size=0)) == TOO_MANY_FILES
    assert waiting.excess(request("c1", "carol")) is None


def test_an_address_has_no_more_under_many_names() -> None:
    bounds = Bounds(queued_files_per_user=2)
    waiting = queue(request("b1", address="one"), request("c1", "carol", address="one"), bounds=bounds)
    assert waiting.excess(request("d1", "dave", address="one")) == TOO_MANY_FILES
    assert waiting.excess(request("d1", "dave", address="other")) is None


def test_all_together_have_a_bound_too() -> None:
    bounds = Bounds(queued_files=2)
    waiting = queue(request("b1"), request("c1", "carol"), bounds=bounds)
    assert waiting.excess(request("d1", "dave")) == TOO_MANY_FILES


def test_what_has_its_turn_still_counts_until_it_is_forgotten() -> None:
    waiting = queue(request("b1"), bounds=Bounds(queued_files_per_user=1))
    waiting.take()
    assert TransferId("b1") not in waiting
    assert waiting.has("bob")
    assert waiting.excess(request("b2")) == TOO_MANY_FILES
    waiting.forget(TransferId("b1"))
    waiting.forget(TransferId("b1"))
    assert not waiting.has("bob")
    assert waiting.excess(request("b2")) is None


def test_a_turn_that_was_cut_short_is_first_again() -> None:
    waiting = queue(request("b1"), request("b2"))
    waiting.take()
    waiting.wait(TransferId("b1"), at_head=True)
    assert taken(waiting) == [("b1",), ("b2",)]


def test_a_bumped_file_is_the_next_of_its_user() -> None:
    waiting = queue(request("b1"), request("b2"), request("c1", "carol"))
    waiting.bump(TransferId("b2"))
    waiting.bump(TransferId("nobody's"))
    assert taken(waiting) == [("b2",), ("c1",), ("b1",)]
    waiting.bump(TransferId("b1"))
    assert len(waiting) == 0


def test_who_becomes_favoured_before_anything_waits_is_favoured_then() -> None:
    waiting = queue()
    waiting.favour({"bob"})
    waiting.add(request("c1", "carol"))
    waiting.add(request("b1"))
    assert taken(waiting) == [("b1",), ("c1",)]


def test_what_others_ask_for_in_a_name_costs_its_owner_nothing() -> None:
    bounds = Bounds(queued_files_per_user=2, queued_bytes_per_user=100 * MB)
    borrowed = [request(f"x{number}", address=f"of thief {number}", trusted=False) for number in range(2)]
    waiting = queue(*borrowed, bounds=bounds)
    own = request("b1")
    assert waiting.excess(own) is None
    waiting.add(own)
    assert waiting.excess(request("b2")) is None
    waiting.add(request("b2"))
    assert waiting.excess(request("b3")) == TOO_MANY_FILES


def test_who_borrows_a_name_has_no_more_than_the_name_has_left() -> None:
    bounds = Bounds(queued_files_per_user=2, queued_bytes_per_user=100 * MB)
    waiting = queue(request("b1"), bounds=bounds)
    first = request("x1", address="of thief", trusted=False)
    assert waiting.excess(first) is None
    waiting.add(first)
    assert waiting.has("bob")
    assert waiting.excess(request("x2", address="of another", trusted=False)) == TOO_MANY_FILES
    big = request("x3", address="of another", size=90 * MB, trusted=False)
    waiting.forget(first.id)
    assert waiting.excess(big) == TOO_MANY_BYTES
