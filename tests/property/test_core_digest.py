"""Digests under any split and any text."""

import base64
import hashlib
from collections.abc import Callable

import pytest
from blake3 import blake3
from hypothesis import example, given
from hypothesis import strategies as st

from haulier.core.digest import (
    Digest,
    DigestName,
    OrderedDigest,
    format_digest_field,
    parse_digest_field,
    parse_want_digest,
)
from haulier.core.errors import DigestMismatch
from tests.support.oracles import (
    LENGTHS,
    VALUED,
    check_digest_field,
    check_digest_name,
    check_retry_after,
    check_want_digest,
)


def crc32c(data: bytes) -> bytes:
    """The Castagnoli CRC bit by bit, as RFC 3720 appendix B.4 defines it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "big")


PEERS: dict[DigestName, Callable[[bytes], bytes]] = {
    DigestName.SHA_256: lambda data: hashlib.sha256(data).digest(),
    DigestName.SHA_512: lambda data: hashlib.sha512(data).digest(),
    DigestName.BLAKE3: lambda data: blake3(data).digest(),
    DigestName.CRC32C: crc32c,
    DigestName.MD5: lambda data: hashlib.md5(data).digest(),
}
NAMES = st.sampled_from(VALUED)
DIGESTS = NAMES.flatmap(
    lambda name: st.binary(min_size=LENGTHS[name], max_size=LENGTHS[name]).map(
        lambda value: Digest(name, value)
    )
)
# What fields are made of, put together wrongly.
SHARDS = st.sampled_from(
    [
        "sha-256", "crc32c", "md5", "=", ":", ",", ";", " ", "\t", '"', "\\", "*", "?1", "@1", "1", "-", ".",
        "AAAA", "AAAAAA==", "%", "(", ")", "\x00", "\n", "\xe9", "\ud800", "=:Q3lHIA==:", ";a=", "crc32c=:Q3lHIA==:",
    ]
)  # fmt: skip
SHARDED = st.lists(SHARDS, max_size=30).map("".join)
ANYTHING = (
    st.text() | st.text(st.characters(codec="latin-1")) | SHARDED | st.text(st.characters(categories=["Cs"]))
)


@given(name=NAMES, pieces=st.lists(st.binary(max_size=200), max_size=10))
def test_a_digest_in_pieces_is_the_digest_of_the_whole(name: DigestName, pieces: list[bytes]) -> None:
    digest = OrderedDigest(name)
    for piece in pieces:
        digest.update(digest.frontier, memoryview(piece))
    whole = b"".join(pieces)
    assert digest.frontier == len(whole)
    assert digest.value() == Digest(name, PEERS[name](whole))


@given(digest=DIGESTS, wrong=st.binary(max_size=64))
def test_only_the_very_bytes_pass(digest: Digest, wrong: bytes) -> None:
    digest.require(digest.value)
    if wrong != digest.value:
        with pytest.raises(DigestMismatch):
            digest.require(wrong)


@given(DIGESTS)
def test_hex_comes_back(digest: Digest) -> None:
    assert Digest.from_hex(digest.name, digest.hex, field="digest") == digest
    assert Digest.from_hex(digest.name, digest.hex.upper(), field="digest") == digest


@given(
    digests=st.lists(DIGESTS, unique_by=lambda digest: digest.name),
    comma=st.sampled_from([",", ", ", " ,\t"]),
    parameters=st.sampled_from(["", ";a", ';q="x, y"; b=1.5']),
)
def test_fields_come_back(digests: list[Digest], comma: str, parameters: str) -> None:
    text = comma.join(format_digest_field(digest) + parameters for digest in digests)
    assert parse_digest_field("Repr-Digest", text) == tuple(digests)


@given(digest=DIGESTS)
def test_a_digest_is_the_same_without_padding(digest: Digest) -> None:
    value = base64.b64encode(digest.value).decode().rstrip("=")
    assert parse_digest_field("Repr-Digest", f"{digest.name}=:{value}:") == (digest,)


@given(st.dictionaries(NAMES, st.integers(0, 10)))
def test_wants_are_sorted_and_without_the_unwanted(wanted: dict[DigestName, int]) -> None:
    names = parse_want_digest("Want-Repr-Digest", ", ".join(f"{name}={it}" for name, it in wanted.items()))
    assert sorted(names) == sorted(name for name, preference in wanted.items() if preference)
    preferences = [wanted[name] for name in names]
    assert preferences == sorted(preferences, reverse=True)


@given(ANYTHING)
@example("crc32c=:Q3lHIA==:" + ";a" * 2000)
@example("crc32c=:Q3lHIA==:" + " " * 4000 + "!")
@example('crc32c=:Q3lHIA==:;a="' + "\\" * 4000)
@example("crc32c=:" + "A" * 65_536 + ":")
@example("a=::," * 13_000)
@example("\ud800" * 65_536)
def test_no_text_breaks_the_digest_fields(text: str) -> None:
    check_digest_field(text)
    check_want_digest(text)
    check_digest_name(text)


@given(ANYTHING | st.sampled_from(VALUED).map(lambda name: name.swapcase()))
@example("0" * 65_536)
@example("\u212a")
def test_no_text_breaks_the_digest_names(text: str) -> None:
    check_digest_name(text)


DATES = st.lists(
    st.sampled_from(
        ["Sun", ",", " ", "22", "Nov", "2026", "99999999999999999999", "10:00:00", "99:99:99", "GMT", "-0000", "+9999", ":", "-"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@given(ANYTHING | DATES)
@example("9" * 65_536)
def test_no_text_breaks_the_wait_that_is_asked_for(text: str) -> None:
    check_retry_after(text)
