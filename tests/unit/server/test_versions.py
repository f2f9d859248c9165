"""The versions of the draft that clients are heard in are those that they are answered in."""

from haulier.server.interim import SPOKEN
from haulier.server.resumable import versions


def test_every_version_that_is_spoken_is_described_and_no_other() -> None:
    assert sorted(versions._BY_NUMBER) == sorted(SPOKEN.values()) == [3, 4, 5, 6, 7, 8]
    assert {text: int(text) for text in SPOKEN} == SPOKEN
    assert versions.NEWEST is versions._BY_NUMBER[8]
