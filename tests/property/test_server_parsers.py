"""The server's own small parsers under any text: ranges, cursors, and what says who asks."""

import base64
import json

from hypothesis import example, given
from hypothesis import strategies as st

from haulier.server.content import Span, choose_span
from haulier.server.records import read_cursor, write_cursor
from tests.support.oracles import (
    check_authorization,
    check_byte_range,
    check_cursor,
    check_forwarded,
    check_host,
    check_tus_checksum,
    check_tus_concat,
    check_tus_metadata,
)

RANGES = st.lists(
    st.sampled_from(["bytes", "BYTES", "=", "-", ",", " ", "\t", "0", "999", "1000", "9" * 19, "items", "\u0661"]),
    max_size=10,
).map("".join)  # fmt: skip
KEYS = st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.uuids().map(str))


@given(st.text() | RANGES | RANGES.map(lambda rest: "bytes=" + rest))
@example("bytes=0-" + "9" * 65_536)
@example("bytes=" + "0-0," * 16_384)
@example(" " * 65_536)
def test_no_range_leads_out_of_the_file(text: str) -> None:
    check_byte_range(text)


@given(size=st.integers(1, 10**6), first=st.integers(0, 10**6), length=st.integers(1, 10**6))
def test_a_range_inside_is_given_exactly(size: int, first: int, length: int) -> None:
    first %= size
    span = choose_span(size, f"bytes={first}-{first + length - 1}", if_range=None, tag='"t"')
    assert span == Span(first, min(first + length, size), size, partial=True)


@given(KEYS)
def test_cursors_come_back(key: tuple[float, str]) -> None:
    assert read_cursor(write_cursor(key)) == key


@given(
    st.text()
    | st.text(st.sampled_from("abAB01-_="), max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    ).map(lambda it: base64.urlsafe_b64encode(json.dumps(it).encode()).decode().rstrip("="))
)
@example("W05hTiwiYSJd")  # [NaN,"a"]
@example("WzFlOTk5LCJhIl0")  # [1e999,"a"]
@example("WzEuMCwiXHVkODAwIl0")  # [1.0,"\ud800"]
@example("WzEuMCwiXHUwMDAwIl0")  # [1.0,"\u0000"]
@example("WzEuMCwiYSJd=====")
@example("A" * 65_536)
@example("W1tb" * 1024)  # [[[[...
def test_no_cursor_that_is_taken_breaks_the_database(text: str) -> None:
    check_cursor(text)


CREDENTIALS = st.lists(
    st.sampled_from(["Bearer", "bearer", "Basic", " ", "  ", "hl_", "a", "=", ",", '"', "\t", "\x00", "\xe9", "\u2028"]),
    max_size=8,
).map("".join)  # fmt: skip


@given(st.text() | CREDENTIALS | CREDENTIALS.map(lambda rest: "Bearer " + rest))
@example("Bearer " + "a" * 65_536)
@example("Bearer" + " " * 65_536 + "a")
def test_no_authorization_is_more_than_a_word(text: str) -> None:
    check_authorization(text)


HOPS = st.lists(
    st.sampled_from(["for=", "proto=", "host=", "192.0.2.1", "10.0.0.2", "[2001:db8::1]", ":80", ",", ";", '"', " ", "::",
                     "unknown", "https", "a", "\\", "%"]),
    max_size=12,
).map("".join)  # fmt: skip


@given(st.text() | HOPS)
@example(",".join(["192.0.2.1"] * 1000))
@example("for=" + '"' * 65_536)
@example(";" * 65_536)
@example("fe80::1%eth0")
def test_no_proxy_can_say_what_is_no_address(text: str) -> None:
    check_forwarded(text)


NAMES = st.lists(
    st.sampled_from(["files.example", "127.0.0.1", "localhost", "[::1]", "b", ":", "80", "8000", "0", ".", "@", "\u0130", " "]),
    max_size=4,
).map("".join)  # fmt: skip


@given(st.text() | NAMES)
@example("files.example:" + "0" * 65_536)
@example("LOCALHO\u017fT:8000")
def test_no_other_name_is_ours(text: str) -> None:
    check_host(text)


METADATA = st.lists(
    st.sampled_from(["filename", "relativePath", " ", "  ", ",", "YQ==", "L2E=", "bnVsbA==", "/w==", "AA==", "=", "\xe9", "\t"]),
    max_size=12,
).map("".join)  # fmt: skip


@given(st.text() | METADATA)
@example("a " + "A" * 65_536)
@example("," * 65_536)
@example("a\ud800 YQ==")
def test_no_metadata_is_more_than_names_and_bytes(text: str) -> None:
    check_tus_metadata(text)


CONCATS = st.lists(
    st.sampled_from(["partial", "final;", "final", ";", " ", "/tus/", "a", "http://", "[", "::1", "]", "..", "%00", "%2f", "?", "#", "\u2100"]),
    max_size=10,
).map("".join)  # fmt: skip


@given(st.text() | CONCATS | CONCATS.map(lambda rest: "final;" + rest))
@example("final;" + "/tus/a " * 5000)
@example("final;http://a\u2100/tus/a")
@example("final;/tus/\ud800")
def test_no_upload_is_made_of_what_has_no_name(text: str) -> None:
    check_tus_concat(text)


CHECKSUMS = st.lists(
    st.sampled_from(["sha1", "sha256", "md5", "crc32", "SHA1", " ", "\t", "AAAA", "AA==", "A" * 27 + "=", "=", "\xe9"]), max_size=6
).map("".join)  # fmt: skip


@given(st.text() | CHECKSUMS)
@example("sha1 " + "A" * 65_536)
def test_no_checksum_has_other_than_its_algorithm_s_bytes(text: str) -> None:
    check_tus_checksum(text)
