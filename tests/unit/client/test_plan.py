"""Which chunks are still to be sent."""

from haulier.client.plan import Chunk, missing_chunks
from haulier.core.ranges import Ranges


def test_all_of_a_new_file_the_last_one_short() -> None:
    assert missing_chunks(25, 10, Ranges()) == [Chunk(0, 0, 10), Chunk(1, 10, 20), Chunk(2, 20, 25)]


def test_nothing_of_an_empty_file() -> None:
    assert missing_chunks(0, 10, Ranges()) == []


def test_nothing_when_all_is_there() -> None:
    assert missing_chunks(25, 10, Ranges(((0, 25),))) == []


def test_only_the_gaps() -> None:
    received = Ranges(((0, 10), (20, 30), (40, 45)))
    assert missing_chunks(45, 10, received) == [Chunk(1, 10, 20), Chunk(3, 30, 40)]


def test_a_chunk_of_which_a_part_is_there_is_sent_whole_and_once() -> None:
    # Two gaps in chunk 1: it must not be planned twice.
    received = Ranges(((0, 12), (14, 16)))
    assert missing_chunks(20, 10, received) == [Chunk(1, 10, 20)]


def test_the_size_of_the_last_chunk() -> None:
    assert missing_chunks(25, 10, Ranges(((0, 20),)))[0].size == 5
