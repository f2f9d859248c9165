"""quickXorHash."""

import base64
from random import Random

import pytest

from haulier.core.quick_xor import QuickXor


def hash_of(*pieces: bytes) -> str:
    total = QuickXor()
    for piece in pieces:
        total.update(piece)
    return total.text()


def by_the_definition(data: bytes) -> str:
    bits = [0] * 160
    for index, byte in enumerate(data):
        for bit in range(8):
            bits[(11 * index + bit) % 160] ^= byte >> bit & 1
    found = bytearray(sum(bits[8 * at + bit] << bit for bit in range(8)) for at in range(20))
    for at, byte in enumerate(len(data).to_bytes(8, "little")):
        found[12 + at] ^= byte
    return base64.b64encode(found).decode()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        (b"a" * 1000, "cIADHOAABzjAAQ5waAAcgQhEIAI="),
        (bytes(range(256)) * 3, "rxAOGe1RimTF/e+k/m0O5nnSZT8="),
    ],
)
def test_known_values(data: bytes, expected: str) -> None:
    assert hash_of(data) == expected


@pytest.mark.parametrize("size", [1, 19, 20, 159, 160, 161, 320, 1601])
def test_it_is_what_the_definition_says(size: int) -> None:
    data = Random(size).randbytes(size)
    assert hash_of(data) == by_the_definition(data)


@pytest.mark.parametrize("step", [1, 7, 160, 333])
def test_pieces_of_any_length_make_the_same(step: int) -> None:
    data = Random(1).randbytes(1000)
    assert hash_of(*(data[low : low + step] for low in range(0, 1000, step))) == by_the_definition(data)
