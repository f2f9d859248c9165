"""How a file is cut into chunks, and which of them are still to be sent."""

import pytest

from haulier.core.chunks import ChunkGrid
from haulier.core.errors import ChunkOutOfRange
from haulier.core.ranges import Ranges


def test_the_last_chunk_may_be_short() -> None:
    grid = ChunkGrid(25, 10)
    assert [grid.span(index) for index in range(grid.count)] == [(0, 10), (10, 20), (20, 25)]


def test_an_empty_file_has_no_chunks() -> None:
    assert ChunkGrid(0, 10).count == 0
    assert list(ChunkGrid(0, 10).missing(Ranges())) == []


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_chunk_before_the_first_or_after_the_last(index: int) -> None:
    with pytest.raises(ChunkOutOfRange) as raised:
        ChunkGrid(25, 10).span(index)
    assert (raised.value.index, raised.value.chunk_count) == (index, 3)


@pytest.mark.parametrize(
    ("size", "received", "missing"),
    [
        (25, [], [0, 1, 2]),
        (25, [(0, 25)], []),
        (25, [(0, 20)], [2]),
        (45, [(0, 10), (20, 30), (40, 45)], [1, 3]),
        (20, [(0, 12), (14, 16)], [1]),  # two gaps in one chunk: it is named once
        (20, [(5, 12)], [0, 1]),
    ],
)
def test_a_chunk_is_missing_when_one_byte_is(
    size: int, received: list[tuple[int, int]], missing: list[int]
) -> None:
    assert list(ChunkGrid(size, 10).missing(Ranges.of(received))) == missing
