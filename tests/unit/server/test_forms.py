"""Forms: files as bodies, whatever the pieces they come in, and forms that are hostile."""

from collections.abc import Iterable, MutableMapping
from typing import Any

import pytest

from haulier.core.errors import BodyCut, BodyMalformed, InvalidRequest, LengthExceeded
from haulier.core.ingestion import IngestionRules
from haulier.ports import BodyEnd
from haulier.server.errors import FormMalformed, MediaTypeRefused
from haulier.server.forms import MAX_FIELD, MAX_FIELDS, MAX_HEADER, MAX_HEADERS, MAX_PREAMBLE, Form
from haulier.server.http.asgi import MALFORMED, AsgiBody

BOUNDARY = "xyz"


def part(data: bytes, *, name: str = "f", filename: str | None = "a.json", fields: str = "") -> bytes:
    """Return one part with its delimiter."""
    file = "" if filename is None else f'; filename="{filename}"'
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n{fields}\r\n'.encode()
        + data
        + b"\r\n"
    )


END = f"--{BOUNDARY}--\r\n".encode()


def form_of(pieces: Iterable[bytes], *, end: MutableMapping[str, Any] | None = None, **rules: Any) -> Form:
    """Return a form that comes in these pieces."""
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
    ]
    messages.append(end or {"type": "http.request", "body": b"", "more_body": False})
    waiting = iter(messages)

    async def receive() -> MutableMapping[str, Any]:
        return next(waiting)

    scope = {"type": "http", "headers": [(b"transfer-encoding", b"chunked")]}
    return Form(AsgiBody(scope, receive), BOUNDARY, IngestionRules(**rules))


async def read(form: Form) -> list[tuple[str, bytes]]:
    """Return all files."""
    found = []
    async for file in form.files():
        data = bytearray()
        assert await file.receive(data.extend) is BodyEnd.COMPLETE
        found.append((file.filename, bytes(data)))
    return found


TWO = (
    part(b"[1]\r\n--xy")
    + part(b"", filename="")
    + part(b"note", filename=None)
    + part(b"", filename="b.txt")
    + END
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
async def test_files_come_out_as_they_went_in_whatever_the_pieces(size: int) -> None:
    pieces = [TWO[at : at + size] for at in range(0, len(TWO), size)]
    assert await read(form_of(pieces)) == [("a.json", b"[1]\r\n--xy"), ("b.txt", b"")]


async def test_what_stands_around_a_form_is_no_part_of_it() -> None:
    longest = b"x" * (MAX_PREAMBLE - 2) + b"\r\n"
    for preamble in (
        [b"preamble\r\n"],
        [longest],
        [longest[at : at + 999] for at in range(0, len(longest), 999)],
    ):
        assert await read(form_of([*preamble, TWO, b"epilogue", b"\r\n--xyz\r\n"])) == [
            ("a.json", b"[1]\r\n--xy"),
            ("b.txt", b""),
        ]


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (
            "name=f; filename=\"=?utf-8?B?w6kudHh0?=\"; filename*=utf-8''%C3%A9.txt",
            "é.txt",
        ),  # .NET's HttpClient
        ("name=f; filename*=UTF-8'en'%C3%A9.txt", "é.txt"),  # urllib3 before 1.25
        ("name=f; filename*=iso-8859-1''%e9.txt", "é.txt"),
        ("name=f; filename=a.txt; filename*=UTF-8''", "a.txt"),
        ("name=f; filename=a.txt; filename*=koi8-r''%e9.txt", "a.txt"),
        ("name=\"f; filename*=UTF-8''b.txt\"; filename=a.txt", "a.txt"),
    ],
)
async def test_an_extended_name_counts_before_a_plain_one(parameters: str, name: str) -> None:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {parameters}\r\n\r\n"
    assert await read(form_of([head.encode() + b"x\r\n", END])) == [(name, b"x")]


async def test_a_field_whose_name_looks_like_a_file_is_none() -> None:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"f; filename*=UTF-8''b.txt\"\r\n\r\n"
    assert await read(form_of([head.encode() + b"x\r\n", END])) == []


async def test_an_extended_name_that_is_no_utf_8_is_refused() -> None:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=f; filename*=UTF-8''%ff\r\n\r\n"
    with pytest.raises(InvalidRequest, match="Content-Disposition"):
        await read(form_of([head.encode() + b"x\r\n", END]))


async def test_a_charset_is_told() -> None:
    text = part(b"x", filename="a.txt", fields="Content-Type: text/plain; charset=iso-8859-1\r\n")
    (charset,) = [
        (file.charset, await file.receive(lambda _: None))[0] async for file in form_of([text, END]).files()
    ]
    assert charset == "iso-8859-1"


@pytest.mark.parametrize("coding", ["binary", "8BIT", "7bit"])
async def test_a_part_may_say_that_its_bytes_are_the_files(coding: str) -> None:
    text = part(b"=41", fields=f"Content-Transfer-Encoding: {coding}\r\n")
    assert await read(form_of([text, END])) == [("a.json", b"=41")]


@pytest.mark.parametrize("coding", ["base64", "quoted-printable", "x-uuencode"])
async def test_an_encoded_part_is_never_taken_for_the_file(coding: str) -> None:
    text = part(b"e30=", fields=f"Content-Transfer-Encoding: {coding}\r\n")
    with pytest.raises(MediaTypeRefused, match=coding):
        await read(form_of([text, END]))


async def test_a_field_that_nobody_reads_may_be_encoded() -> None:
    field = part(b"e30=", filename=None, fields="Content-Transfer-Encoding: base64\r\n")
    assert await read(form_of([field, part(b"{}"), END])) == [("a.json", b"{}")]


async def test_files_in_a_part_of_their_own_parts_are_not_lost_in_silence() -> None:
    """RFC 2388 put several files of one field into one part; RFC 7578 section 4.3 gives each a part."""
    inner = b'--q\r\nContent-Disposition: file; filename="b.json"\r\n\r\n{}\r\n--q--'
    mixed = part(inner, filename=None, fields="Content-Type: Multipart/Mixed; boundary=q\r\n")
    with pytest.raises(FormMalformed, match="each file in a part of the form"):
        await read(form_of([part(b"{}"), mixed, END]))


async def test_a_head_that_is_no_text_is_refused_in_words() -> None:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name=f; filename="\xe9.json"\r\n\r\n'
    with pytest.raises(FormMalformed) as refused:
        await read(form_of([head.encode("latin-1"), END]))
    assert str(refused.value) == "the form cannot be read: Segment header failed to decode"


async def test_no_more_than_the_limit_is_delivered() -> None:
    async for file in form_of([part(b"12345"), END]).files():
        data = bytearray()
        assert await file.receive(data.extend, limit=3) is BodyEnd.LIMIT
        assert data == b"123"
        break


async def test_whoever_takes_slowly_is_waited_for() -> None:
    taken = []

    async def later(piece: Any) -> None:
        taken.append(bytes(piece))

    async for file in form_of([part(b"123"), END]).files():
        assert await file.receive(later) is BodyEnd.COMPLETE
    assert taken == [b"123"]


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([b""], "end"),
        ([b"no form at all"], "end"),
        ([part(b"x")], "end"),
        ([f"--{BOUNDARY}\r\n".encode(), b"X" * (MAX_HEADER + 2)], "header length"),
        ([part(b"x", filename="a" * (MAX_HEADER + 1)), END], "header length"),
        ([part(b"x", fields="X: y\r\n" * MAX_HEADERS), END], "header count"),
        ([part(b"", filename=None) * (MAX_FIELDS + 1), END], "segment count"),
        ([part(b"x", filename="a.txt") * 3, END], "more than 2 files"),
        ([f"--{BOUNDARY}\r\nX: y\r\n\r\nx\r\n".encode(), END], "Content-Disposition"),
        (
            [f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=\xff\r\n\r\n".encode("latin-1"), END],
            "decode",
        ),
        ([f"--{BOUNDARY}\nContent-Disposition: form-data\n\nx\n".encode(), END], "line break"),
        ([b"x" * 1024] * 1024 + [b"\r\n", part(b"x"), END], "before its first part"),
    ],
)
async def test_a_hostile_form_is_refused(pieces: list[bytes], reason: str) -> None:
    with pytest.raises(FormMalformed, match=f"(?i){reason}"):
        await read(form_of(pieces, max_files=2))


async def test_a_field_that_is_no_file_is_bounded() -> None:
    with pytest.raises(LengthExceeded):
        await read(form_of([part(bytes(MAX_FIELD + 1), filename=None), END]))


async def test_a_file_is_bounded_and_nothing_past_the_bound_is_delivered() -> None:
    assert await read(form_of([part(b"12345"), END], max_bytes=5)) == [("a.json", b"12345")]
    files = form_of([part(b"123456"), END], max_bytes=5).files()
    file, data = await anext(files), bytearray()
    with pytest.raises(LengthExceeded):
        await file.receive(data.extend)
    assert len(data) <= 5


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ({"type": "http.disconnect"}, BodyCut),
        ({"type": "http.disconnect", MALFORMED: True}, BodyMalformed),
    ],
)
async def test_a_form_that_ends_early_is_not_taken_for_whole(
    end: MutableMapping[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await read(form_of([part(b"x")[:-2]], end=end))
