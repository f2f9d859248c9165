"""Digests: known values, order, comparison, and the fields of RFC 9530, example by example."""

import base64

import pytest

from haulier.core.digest import (
    MAX_FIELD,
    Digest,
    DigestName,
    OrderedDigest,
    format_digest_field,
    new_hasher,
    parse_digest_field,
    parse_digest_name,
    parse_want_digest,
)
from haulier.core.errors import DigestMalformed, DigestMismatch

# RFC 9530 appendix D digests {"hello": "world"}; its other examples add a line feed.
SHA_256 = "X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="
SHA_512 = "WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew=="
SHA_256_LF = "RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg="
SHA_512_LF = "YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg=="
MD5 = "Sd/dVLAcvNLSq16eXua5uQ=="
CRC32C = "Q3lHIA=="

KNOWN: list[tuple[DigestName, bytes, str]] = [
    (DigestName.SHA_256, b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (DigestName.SHA_256, b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        DigestName.SHA_512,
        b"",
        (
            "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
            "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
        ),
    ),
    (
        DigestName.SHA_512,
        b"abc",
        (
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
            "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        ),
    ),
    (DigestName.BLAKE3, b"", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    (DigestName.BLAKE3, b"abc", "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
    (DigestName.CRC32C, b"", "00000000"),
    (DigestName.CRC32C, b"abc", "364b3fb7"),
    # The check value of every catalogue of CRCs.
    (DigestName.CRC32C, b"123456789", "e3069283"),
    (DigestName.MD5, b"", "d41d8cd98f00b204e9800998ecf8427e"),
    (DigestName.MD5, b"abc", "900150983cd24fb0d6963f7d28e17f72"),
]


def decoded(name: DigestName, value: str) -> Digest:
    return Digest(name, base64.b64decode(value))


def parse(text: str) -> tuple[Digest, ...]:
    return parse_digest_field("Repr-Digest", text)


def want(text: str) -> tuple[DigestName, ...]:
    return parse_want_digest("Want-Repr-Digest", text)


# --- values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "data", "value"), KNOWN)
def test_digests_are_the_published_ones(name: DigestName, data: bytes, value: str) -> None:
    hasher = new_hasher(name)
    hasher.update(data)
    assert hasher.digest().hex() == value


def test_every_digest_with_a_value_is_known() -> None:
    assert {name for name, _, _ in KNOWN} == set(DigestName) - {DigestName.NONE}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("name", sorted(set(DigestName) - {DigestName.NONE}))
def test_every_kind_of_buffer_is_taken(name: DigestName, kind: type[bytes]) -> None:
    hasher, same = new_hasher(name), new_hasher(name)
    hasher.update(kind(b"abc"))
    same.update(b"abc")
    assert hasher.digest() == same.digest()


def test_none_hashes_nothing() -> None:
    with pytest.raises(KeyError):
        new_hasher(DigestName.NONE)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("sha-256", DigestName.SHA_256),
        ("SHA-256", DigestName.SHA_256),
        ("sha-512", DigestName.SHA_512),
        ("Blake3", DigestName.BLAKE3),
        ("crc32c", DigestName.CRC32C),
        ("md5", DigestName.MD5),
        ("none", DigestName.NONE),
    ],
)
def test_names_are_read_in_any_case(text: str, name: DigestName) -> None:
    assert parse_digest_name(text, field="digest") is name


@pytest.mark.parametrize("text", ["", "sha256", "sha-1", "sha-256 ", "bla\u212ae3", "md5\n", "\ud800"])
def test_an_unknown_name_is_refused_with_those_that_are_known(text: str) -> None:
    with pytest.raises(DigestMalformed) as caught:
        parse_digest_name(text, field="digest_name")
    assert caught.value.field == "digest_name"
    assert caught.value.reason.endswith("is not one of sha-256, sha-512, blake3, crc32c, md5, none")


def test_a_refusal_shows_no_more_than_the_beginning() -> None:
    with pytest.raises(DigestMalformed) as caught:
        parse_digest_name("x" * 65_536, field="digest")
    assert len(str(caught.value)) < 200


def test_hex_is_read_in_any_case_and_written_in_lower() -> None:
    digest = Digest.from_hex(DigestName.CRC32C, "E3069aFF", field="digest")
    assert digest == Digest(DigestName.CRC32C, b"\xe3\x06\x9a\xff")
    assert digest.hex == "e3069aff"


@pytest.mark.parametrize(
    "text",
    ["", "e306928", "e30692830", "e306928g", "0xe30692", "e3 06 92", "e306928\n", "\uff11" * 8, "\u0661" * 8],
)
def test_what_is_not_hex_of_that_length_is_refused(text: str) -> None:
    with pytest.raises(DigestMalformed, match="crc32c must be 8 hexadecimal digits"):
        Digest.from_hex(DigestName.CRC32C, text, field="digest")


def test_none_has_no_value() -> None:
    with pytest.raises(DigestMalformed, match="a digest named none has no value"):
        Digest.from_hex(DigestName.NONE, "", field="digest")


def test_the_right_digest_passes() -> None:
    Digest(DigestName.CRC32C, b"\0\1\2\3").require(b"\0\1\2\3")


@pytest.mark.parametrize("actual", [b"\0\1\2\4", b"\0\1\2", b""])
def test_a_wrong_digest_names_both(actual: bytes) -> None:
    with pytest.raises(DigestMismatch) as caught:
        Digest(DigestName.CRC32C, b"\0\1\2\3").require(actual)
    error = caught.value
    assert (error.algorithm, error.expected, error.actual) == ("crc32c", "00010203", actual.hex())


# --- in order ----------------------------------------------------------------------------------------


def test_the_frontier_follows_the_bytes() -> None:
    digest = OrderedDigest(DigestName.MD5)
    assert (digest.name, digest.frontier) == (DigestName.MD5, 0)
    assert digest.value().hex == "d41d8cd98f00b204e9800998ecf8427e"
    digest.update(0, b"a")
    digest.update(1, memoryview(b"bc"))
    assert digest.frontier == 3
    assert digest.value() == Digest(DigestName.MD5, bytes.fromhex("900150983cd24fb0d6963f7d28e17f72"))


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_bytes_out_of_order_never_reach_the_digest(offset: int) -> None:
    digest = OrderedDigest(DigestName.MD5)
    digest.update(0, b"ab")
    with pytest.raises(AssertionError, match=f"digest is at 2, not at {offset}"):
        digest.update(offset, b"c")
    digest.update(2, b"c")
    assert digest.value().hex == "900150983cd24fb0d6963f7d28e17f72"


# --- fields ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "digests"),
    [
        # RFC 9530 sections 2 and 3.
        (f"sha-512=:{SHA_512_LF}:", (decoded(DigestName.SHA_512, SHA_512_LF),)),
        (
            f"sha-256=:d435Qo+nKZ+gLcUHn7GQtQ72hiBVAgqoLsZnZPiTGPk=:,  sha-512=:{SHA_512_LF}:",
            (
                decoded(DigestName.SHA_256, "d435Qo+nKZ+gLcUHn7GQtQ72hiBVAgqoLsZnZPiTGPk="),
                decoded(DigestName.SHA_512, SHA_512_LF),
            ),
        ),
        # Appendix B: a full answer, and appendix B.3's part of it.
        (f"sha-256=:{SHA_256_LF}:", (decoded(DigestName.SHA_256, SHA_256_LF),)),
        (
            "sha-256=:jjcgBDWNAtbYUXI37CVG3gRuGOAjaaDRGpIUFsdyepQ=:",
            (decoded(DigestName.SHA_256, "jjcgBDWNAtbYUXI37CVG3gRuGOAjaaDRGpIUFsdyepQ="),),
        ),
        # Appendix D: one of each algorithm; those we do not know are left out.
        (
            (
                f"sha-512=:{SHA_512}:, sha-256=:{SHA_256}:, md5=:{MD5}:, sha=:07CavjDP4u3/TungoUHJO/Wzr4c=:, "
                f"unixsum=:GQU=:, unixcksum=:7zsHAA==:, adler=:OZkGFw==:, crc32c=:{CRC32C}:"
            ),
            (
                decoded(DigestName.SHA_512, SHA_512),
                decoded(DigestName.SHA_256, SHA_256),
                decoded(DigestName.MD5, MD5),
                decoded(DigestName.CRC32C, CRC32C),
            ),
        ),
    ],
    ids=["section 2", "section 2, two", "appendix B.1", "appendix B.3", "appendix D"],
)
def test_the_rfcs_examples_are_read(text: str, digests: tuple[Digest, ...]) -> None:
    assert parse(text) == digests


@pytest.mark.parametrize(
    ("name", "content", "value"),
    [
        (DigestName.SHA_256, b'{"hello": "world"}', SHA_256),
        (DigestName.SHA_512, b'{"hello": "world"}', SHA_512),
        (DigestName.MD5, b'{"hello": "world"}', MD5),
        (DigestName.CRC32C, b'{"hello": "world"}', CRC32C),
        (DigestName.SHA_256, b'{"hello": "world"}\n', SHA_256_LF),
        (DigestName.SHA_512, b'{"hello": "world"}\n', SHA_512_LF),
        (DigestName.SHA_256, b'"world"}\n', "jjcgBDWNAtbYUXI37CVG3gRuGOAjaaDRGpIUFsdyepQ="),
        (DigestName.SHA_256, b"", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
    ],
)
def test_the_rfcs_content_has_the_rfcs_digest(name: DigestName, content: bytes, value: str) -> None:
    digest = OrderedDigest(name)
    digest.update(0, content)
    assert format_digest_field(digest.value()) == f"{name}=:{value}:"


CRC = decoded(DigestName.CRC32C, CRC32C)
MD = decoded(DigestName.MD5, MD5)


@pytest.mark.parametrize(
    ("text", "digests"),
    [
        ("", ()),
        (" \t", ()),
        ("unixsum=:GQU=:", ()),
        ("none=:AA==:", ()),
        (" crc32c=:Q3lHIA==: ", (CRC,)),
        ("crc32c=:Q3lHIA:", (CRC,)),
        ("crc32c=:Q3lHIB==:", (CRC,)),
        (f"crc32c=:Q3lHIA==:\t, \tmd5=:{MD5}:", (CRC, MD)),
        (f"crc32c=:Q3lHIA==:,md5=:{MD5}:", (CRC, MD)),
        ("crc32c=:AAAAAA==:, crc32c=:Q3lHIA==:", (CRC,)),
        ("crc32c=:AA==:, crc32c=:Q3lHIA==:", (CRC,)),
        (f"crc32c=:AAAAAA==:, md5=:{MD5}:, crc32c=:Q3lHIA==:", (CRC, MD)),
        ("*odd.name_9-*=:!:, crc32c=:Q3lHIA==:".replace("!", "AA"), (CRC,)),
    ],
    ids=[
        "empty",
        "blank",
        "unknown alone",
        "none is no digest",
        "blanks around",
        "no padding",
        "pad bits set",
        "tabs around the comma",
        "no blanks",
        "the last of two",
        "the last of two, the first is short",
        "the place of the first, the value of the last",
        "every character of a key",
    ],
)  # fmt: skip
def test_the_dictionary_is_read_as_rfc_9651_says(text: str, digests: tuple[Digest, ...]) -> None:
    assert parse(text) == digests


@pytest.mark.parametrize(
    "parameters",
    [
        ";a",
        ";a;b;  c",
        ";a=1;b=-1.5;c=?0",
        ";a=token/x:y",
        ';a="with, comma; and \\" quote \\\\"',
        ";a=:AAAA:",
        ";a=@1659578233",
        ';a=%"%c3%bc, x"',
        ";*a-b_c.d=*",
    ],
)
def test_parameters_of_every_type_are_passed_over(parameters: str) -> None:
    assert parse(f"crc32c=:Q3lHIA==:{parameters}, md5=:{MD5}:{parameters}") == (CRC, MD)
    assert want(f"crc32c=1{parameters}, md5=2{parameters}") == (DigestName.MD5, DigestName.CRC32C)


@pytest.mark.parametrize(
    "text",
    [
        "crc32c",
        "crc32c=",
        "crc32c=Q3lHIA==",
        "crc32c=:Q3lHIA==",
        'crc32c="Q3lHIA=="',
        "crc32c = :Q3lHIA==:",
        "crc32c=:Q3lHIA==:,",
        "crc32c=:Q3lHIA==:, ",
        ",crc32c=:Q3lHIA==:",
        "crc32c=:Q3lHIA==:,,md5=:AA==:",
        f"crc32c=:Q3lHIA==: md5=:{MD5}:",
        f"crc32c=:Q3lHIA==:; ,md5=:{MD5}:",
        "crc32c=:Q3lHIA==: ;a",
        'crc32c=:Q3lHIA==:;a="open',
        'crc32c=:Q3lHIA==:;a="\\x"',
        "crc32c=:Q3lHIA==:;a=1.",
        "crc32c=:Q3lHIA==:;A",
        "CRC32C=:Q3lHIA==:",
        "crc32c=:Q3lH IA==:",
        "crc32c=:Q3lHIA-_:",
        "crc32c=(:Q3lHIA==:)",
        "sha-256=abcdef",
        "\xe9=:AAAA:",
        "crc32c=:Q3lHIA==:\n",
        "crc32c=:Q3lHIA==:\x00",
    ],
)
def test_what_is_no_dictionary_of_byte_sequences_is_refused(text: str) -> None:
    with pytest.raises(DigestMalformed, match="does not begin with a member of a digest dictionary"):
        parse(text)


@pytest.mark.parametrize("value", ["Q", "Q3lHIA=", "Q3lHIA===", "=Q3lHIA=", "Q3=lHIA=", "===="])
def test_what_is_not_base64_is_refused(value: str) -> None:
    with pytest.raises(DigestMalformed, match=r"^Repr-Digest: the value of crc32c is not base64$"):
        parse(f"crc32c=:{value}:")


def test_a_digest_of_another_length_is_refused() -> None:
    with pytest.raises(DigestMalformed, match=r"^Repr-Digest: sha-512 must be 64 bytes, not 32$"):
        parse(f"sha-512=:{SHA_256}:")
    with pytest.raises(DigestMalformed, match=r"^Repr-Digest: md5 must be 16 bytes, not 0$"):
        parse("md5=::")


def test_a_field_has_a_longest_length() -> None:
    member = f"crc32c=:Q3lHIA==:;a={'1' * 15}"
    fitting = member + ";b" * ((MAX_FIELD - len(member)) // 2)
    assert len(fitting) in {MAX_FIELD, MAX_FIELD - 1}
    assert parse(fitting) == (CRC,)
    with pytest.raises(DigestMalformed, match="longer than 4096 characters"):
        parse(fitting + ";b")
    with pytest.raises(DigestMalformed, match="longer than 4096 characters"):
        want(" " * (MAX_FIELD + 1))


# --- wants -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        # RFC 9530 section 4.
        ("sha-256=1", (DigestName.SHA_256,)),
        ("sha-512=3, sha-256=10, unixsum=0", (DigestName.SHA_256, DigestName.SHA_512)),
        ("sha-512=3, sha-256=10", (DigestName.SHA_256, DigestName.SHA_512)),
        ("sha=10", ()),
        ("", ()),
        ("sha-256=0", ()),
        ("md5=5, crc32c=5", (DigestName.MD5, DigestName.CRC32C)),
        ("crc32c=5, md5=5", (DigestName.CRC32C, DigestName.MD5)),
        ("md5=9, md5=0", ()),
        ("none=3", ()),
        ("blake3=010", (DigestName.BLAKE3,)),
    ],
)
def test_wants_are_ordered_by_their_preference(text: str, names: tuple[DigestName, ...]) -> None:
    assert want(text) == names


@pytest.mark.parametrize("text", ["md5=11", "md5=-1", "unknown=11", "md5=999999999999999"])
def test_a_preference_is_from_0_to_10(text: str) -> None:
    with pytest.raises(DigestMalformed, match="must be 0 to 10"):
        want(text)


@pytest.mark.parametrize(
    "text", ["md5", "md5=", "md5=1.5", "md5=x", "md5=?1", "md5=1,", "md5 = 1", "md5=:AA==:", "md5=1 x"]
)
def test_a_want_without_whole_numbers_is_refused(text: str) -> None:
    with pytest.raises(DigestMalformed, match="does not begin with a member"):
        want(text)
