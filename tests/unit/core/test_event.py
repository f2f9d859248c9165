"""Events and places."""

import pytest

from haulier.core.digest import Digest, DigestName
from haulier.core.event import (
    ELSEWHERE,
    EVERYTHING,
    START,
    EventKind,
    Interest,
    Position,
    event_of,
    may_miss,
    read_position,
)
from haulier.testing.rows import asset, record

MD5 = Digest(DigestName.MD5, bytes(16))


def test_places_are_ordered_by_transaction_first() -> None:
    assert Position(1, 9) < Position(2, 1) < Position(2, 2)
    with pytest.raises(TypeError):
        assert Position(1, 9) < 3


@pytest.mark.parametrize("place", [START, Position(7, 9), Position(2**63 - 1, 2**63 - 1)])
def test_a_place_is_read_as_it_is_written(place: Position) -> None:
    assert read_position(str(place)) == place


@pytest.mark.parametrize(
    "text", ["", "1", "1-", "-1", "a-b", "1-2-3", " 1-2", "1-9223372036854775808", "\u0661-\u0662"]
)
def test_what_is_no_place_here_is_one_from_which_everything_was_missed(text: str) -> None:
    assert read_position(text) == ELSEWHERE
    assert may_miss(ELSEWHERE, None)
    assert may_miss(ELSEWHERE, (Position(0, 1), Position(0, 4)))


def test_an_event_says_how_its_record_stands() -> None:
    row = record("r", path="x/a.bin", size=None).complete(asset("secret key"), now=5.0)
    told = event_of(EventKind.COMPLETED, row, now=6.0)
    assert (told.record, told.capsule, told.owner, told.created_at) == ("r", "default", "local", 6.0)
    assert told.facts == {
        "filename": "a.bin",
        "path": "x/a.bin",
        "status": "completed",
        "size": 5,
        "content_type": "application/octet-stream",
        "digest": {"sha-256": bytes(range(32)).hex()},
        "error": None,
        "assets": ["original"],
    }


def test_a_record_without_digest_tells_none() -> None:
    assert event_of(EventKind.CREATED, record("r"), now=1.0).facts["digest"] is None


@pytest.mark.parametrize(
    ("after", "kept", "missed"),
    [
        (START, None, False),
        (Position(0, 3), None, True),
        (START, (Position(0, 1), Position(0, 4)), False),
        (START, (Position(0, 2), Position(0, 4)), True),
        (Position(0, 2), (Position(0, 2), Position(0, 4)), False),
        (Position(0, 4), (Position(0, 2), Position(0, 4)), False),
        (Position(0, 5), (Position(0, 2), Position(0, 4)), True),
        (Position(9, 1), (Position(9, 2), Position(9, 4)), True),
    ],
)
def test_a_reader_misses_what_was_removed_behind_its_place(
    after: Position, kept: tuple[Position, Position] | None, missed: bool
) -> None:
    assert may_miss(after, kept) is missed


@pytest.mark.parametrize(
    ("interest", "covers"),
    [
        (EVERYTHING, True),
        (Interest(frozenset({EventKind.CREATED, EventKind.ERASED})), True),
        (Interest(frozenset({EventKind.ERASED})), False),
        (Interest(fact="error"), True),
        (Interest(fact="other"), False),
        (Interest(frozenset({EventKind.ERASED}), "error"), False),
    ],
)
def test_an_interest_is_in_kinds_and_perhaps_in_a_fact(interest: Interest, covers: bool) -> None:
    assert interest.covers(event_of(EventKind.CREATED, record("r"), now=1.0)) is covers
