"""What S3's words mean, and what ours are."""

import hashlib
from io import BytesIO
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from haulier.core.errors import PeerRefused, PeerUnreadable, RemoteSessionLost
from haulier.core.outgoing import Checksum, IfExists, Outgoing, RemoteSession
from haulier.core.quantity import MIB
from haulier.core.secret import Secret
from haulier.core.values import replace
from haulier.remotes.s3 import (
    LEAST_PART,
    MAX_PARTS,
    MAX_SIZE,
    EtagSum,
    _crc32c,
    _describe,
    _mark,
    _marks,
    _named,
    _signed_headers,
    _span,
    _told_exists,
    part_size,
)
from haulier.remotes.s3_session import _bytes
from haulier.remotes.sessions import cargo_of

OUT = Outgoing(
    id="t",
    name="a.bin",
    size=20 * MIB + 1,
    content_type=None,
    modified_at=1.5,
    intended_at=0.0,
    if_exists=IfExists.REPLACE,
)
SESSION = RemoteSession(state=Secret("{}"), chunk_size=8 * MIB, commits_itself=False)


@given(st.integers(0, MAX_SIZE))
@example(MAX_PARTS * LEAST_PART)
@example(MAX_PARTS * LEAST_PART + 1)
@example(MAX_SIZE)
def test_parts_are_few_enough_and_as_short_as_that_allows(size: int) -> None:
    part = part_size(size)
    assert part % MIB == 0
    assert part >= LEAST_PART
    assert -(-size // part) <= MAX_PARTS
    assert part == LEAST_PART or -(-size // (part - MIB)) > MAX_PARTS


def etag_of(data: bytes, part: int | None) -> str:
    if part is None:
        return hashlib.md5(data).hexdigest()
    sums = [hashlib.md5(data[low : low + part]).digest() for low in range(0, len(data), part)]
    return f"{hashlib.md5(b''.join(sums)).hexdigest()}-{len(sums)}"


class TestEtag:
    @given(st.lists(st.binary(max_size=30), max_size=8), st.one_of(st.none(), st.integers(1, 16)))
    def test_it_is_of_the_parts_wherever_the_bytes_are_cut(
        self, pieces: list[bytes], part: int | None
    ) -> None:
        total = EtagSum(part)
        for piece in pieces:
            total.update(piece)
        kind = "md5" if part is None else "md5-of-parts"
        assert total.checksum() == Checksum(kind, etag_of(b"".join(pieces), part))

    @pytest.mark.parametrize(
        ("told", "checksum"),
        [
            ({"ETag": f'"{"a" * 32}"'}, Checksum("md5", "a" * 32)),
            ({"ETag": f'"{"a" * 32}-3"'}, Checksum("md5-of-parts", f"{'a' * 32}-3")),
            ({"ETag": '"something else"'}, None),
            ({}, None),
            ({"ETag": f'"{"a" * 32}"', "ServerSideEncryption": "aws:kms"}, None),
            ({"ETag": f'"{"a" * 32}"', "ServerSideEncryption": "aws:kms:dsse"}, None),
            ({"ETag": f'"{"a" * 32}"', "ServerSideEncryption": "AES256"}, Checksum("md5", "a" * 32)),
            ({"ETag": f'"{"a" * 32}"', "SSECustomerAlgorithm": "AES256"}, None),
        ],
    )
    def test_it_is_a_sum_where_it_can_be_one(self, told: dict[str, Any], checksum: Checksum | None) -> None:
        assert _describe("a", {"ContentLength": 5, **told}).checksum == checksum

    def test_an_object_is_told_by_its_version_where_it_has_one(self) -> None:
        head = {"ContentLength": 5, "ETag": '"e"'}
        assert _describe("a", head).id == "e"
        assert _describe("a", {**head, "VersionId": "v"}).id == "v"
        with pytest.raises(PeerUnreadable, match="ContentLength"):
            _describe("a", {"ETag": '"e"'})


class TestParts:
    @pytest.mark.parametrize(
        ("number", "size", "span"),
        [
            (1, 8 * MIB, (0, 8 * MIB)),
            (2, 8 * MIB, (8 * MIB, 16 * MIB)),
            (3, 4 * MIB + 1, (16 * MIB, 20 * MIB + 1)),
            (3, 8 * MIB, (0, 0)),
            (1, 8 * MIB - 1, (0, 0)),
            (4, 0, (0, 0)),
        ],
    )
    def test_one_of_another_size_than_the_grids_is_not_trusted(
        self, number: int, size: int, span: tuple[int, int]
    ) -> None:
        assert _span({"PartNumber": number, "Size": size}, OUT, SESSION) == span

    def test_of_a_part_is_named_what_completes_it(self) -> None:
        part = {"PartNumber": 1, "ETag": "e", "Size": 5, "ChecksumCRC32C": "", "LastModified": "x"}
        assert _named(part) == {"PartNumber": 1, "ETag": "e"}
        assert _named({**part, "ChecksumCRC32C": "c"})["ChecksumCRC32C"] == "c"


class TestMarks:
    @pytest.mark.parametrize("change", [{"id": "u"}, {"size": 1}, {"modified_at": 1.6}])
    def test_another_content_or_transfer_has_another_mark(self, change: dict[str, Any]) -> None:
        assert _mark(OUT) == _mark(replace(OUT, name="elsewhere"))
        assert _mark(OUT) != _mark(replace(OUT, **change))

    def test_the_time_is_written_as_rclone_writes_it(self) -> None:
        assert _marks(OUT) == {"haulier-transfer": _mark(OUT), "mtime": "1.500000000"}


def test_what_was_signed_goes_along_and_nothing_else() -> None:
    params = {
        "Key": "k",
        "ContentType": "image/png",
        "IfNoneMatch": "*",
        "ChecksumCRC32C": "c",
        "Metadata": {"mtime": "1"},
    }
    assert _signed_headers(params) == {
        "Content-Type": "image/png",
        "If-None-Match": "*",
        "x-amz-checksum-crc32c": "c",
        "x-amz-meta-mtime": "1",
    }


@pytest.mark.parametrize(
    ("status", "way", "kind"),
    [
        (412, IfExists.FAIL, PeerRefused),
        (412, IfExists.RENAME, RemoteSessionLost),
        (400, IfExists.RENAME, PeerRefused),
    ],
)
def test_a_name_that_was_taken_meanwhile_ends_it_or_is_chosen_anew(
    status: int, way: IfExists, kind: type[Exception]
) -> None:
    error = PeerRefused(status, "PreconditionFailed", "at least one did not hold")
    told = _told_exists(error, replace(OUT, if_exists=way))
    assert type(told) is kind
    assert (told is error) is (status != 412)
    if status == 412 and kind is PeerRefused:
        assert "target-exists" in str(told)


def test_crc_is_of_the_cargo_alone() -> None:
    whole = cargo_of(b"xx123456789xx")
    # Of "123456789": 0xe3069283. Source: RFC 3720 appendix B.4 has the polynomial, catalogues of CRCs this check.
    assert _crc32c(type(whole)(source=whole.source, start=2, stop=11)) == "4waSgw=="


@pytest.mark.parametrize(
    ("body", "expected"),
    [(None, b""), ("ü", "ü".encode()), (b"a", b"a"), (bytearray(b"b"), b"b"), (BytesIO(b"c"), b"c")],
)
def test_bodies_of_every_kind_that_botocore_makes_are_bytes(body: Any, expected: bytes) -> None:
    found = _bytes(body)
    assert (type(found), found) == (bytes, expected)
