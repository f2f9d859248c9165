"""How a stream is cut into segments."""

from collections.abc import AsyncIterator

import pytest

from haulier.client.streams import segments


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([b""], []),
        ([b"abc"], [b"abc"]),
        ([b"abcd"], [b"abcd"]),
        ([b"ab", b"", b"cdef", b"g"], [b"abcd", b"efg"]),
        ([b"abcdefghij"], [b"abcd", b"efgh", b"ij"]),
        ([b"a"] * 8, [b"aaaa", b"aaaa"]),
    ],
)
async def test_segments_are_full_but_the_last(given: list[bytes], expected: list[bytes]) -> None:
    assert [segment async for segment in segments(pieces(*given), 4)] == expected
