"""Answers of a child: read when they are possible, and else as none."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from haulier.bounded.messages import CHECK, DERIVE, MAX_MESSAGE, ProtocolBroken, frame, length_of
from haulier.bounded.replies import read_reply
from haulier.core.processing import (
    ContentFault,
    ContentProblem,
    Derivative,
    Derivatives,
    FileMetadata,
    ProcessingFailure,
    Unprocessed,
)
from haulier.core.values import replace

PICTURE = Derivative(width=20, height=10, size=99)
MADE = Derivatives(
    media_type="image/jpeg",
    source_width=200,
    source_height=100,
    display=PICTURE,
    thumbnail=PICTURE,
    placeholder=PICTURE,
    placeholder_url="data:image/webp;base64,UklGRg==",
)
FOUND = FileMetadata(
    media_type="text/csv",
    encoding="utf-8",
    line_count=3,
    record_count=2,
    preview="a,b",
    valid_csv=False,
    errors=(ContentProblem(ContentFault.CSV_INVALID, "2 fields", 3),),
)


def said(value: Any) -> bytes:
    return json.dumps(asdict(value)).encode()


def test_what_a_child_says_comes_back_as_it_was() -> None:
    assert read_reply(DERIVE, said(MADE)) == MADE
    assert read_reply(CHECK, said(FOUND)) == FOUND
    broken = Unprocessed(ProcessingFailure.IMAGE_BROKEN, "cut")
    assert read_reply(DERIVE, said(broken)) == broken
    large = Unprocessed(ProcessingFailure.CHECK_TOO_LARGE)
    assert read_reply(CHECK, said(large)) == large


@pytest.mark.parametrize(
    ("job", "reply"),
    [
        (CHECK, MADE),
        (DERIVE, FOUND),
        (CHECK, Unprocessed(ProcessingFailure.IMAGE_BROKEN)),
        (DERIVE, Unprocessed(ProcessingFailure.CHECK_TOO_LARGE)),
        (DERIVE, Unprocessed(ProcessingFailure.QUEUE_FULL)),
        (DERIVE, Unprocessed(ProcessingFailure.IMAGE_TIMEOUT)),
        (DERIVE, Unprocessed(ProcessingFailure.IMAGE_BROKEN, "x" * 501)),
        (DERIVE, replace(MADE, media_type="text/html\r\nSet-Cookie: a")),
        (DERIVE, replace(MADE, source_width=0)),
        (DERIVE, replace(MADE, source_height=-1)),
        (DERIVE, replace(MADE, source_height=2**60)),
        (DERIVE, replace(MADE, display=replace(PICTURE, size=0))),
        (DERIVE, replace(MADE, placeholder_url="javascript:alert(1)")),
        (DERIVE, replace(MADE, placeholder_url='data:image/webp;base64,AA"><script>')),
        (DERIVE, replace(MADE, placeholder_url="data:image/webp;base64," + "A" * 2048)),
        (CHECK, replace(FOUND, media_type="")),
        (CHECK, replace(FOUND, preview="x" * 501)),
        (CHECK, replace(FOUND, encoding="x" * 501)),
        (CHECK, replace(FOUND, line_count=-1)),
        (CHECK, replace(FOUND, record_count=2**60)),
        (CHECK, replace(FOUND, errors=FOUND.errors * 11)),
        (CHECK, replace(FOUND, errors=(replace(FOUND.errors[0], message="x" * 501),))),
        (CHECK, replace(FOUND, errors=(replace(FOUND.errors[0], column=-5),))),
    ],
)
def test_what_cannot_be_is_no_answer(job: str, reply: Any) -> None:
    with pytest.raises(ProtocolBroken):
        read_reply(job, said(reply))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 60_000,
        b'{"failure": "new-failure", "detail": ""}',
        b'{"failure": "image-broken", "detail": 5}',
        said(MADE).replace(b"200", b'"200"'),
        said(MADE).replace(b"200", b"200.5"),
        said(MADE).replace(b"200", b"NaN"),
    ],
)
def test_what_has_no_known_form_is_no_answer(body: bytes) -> None:
    with pytest.raises(ProtocolBroken):
        read_reply(DERIVE, body)


def test_messages_have_a_length_and_a_limit() -> None:
    assert frame(b"abc") == b"\0\0\0\x03abc"
    assert length_of(b"\0\0\0\x03") == 3
    with pytest.raises(ProtocolBroken):
        frame(bytes(MAX_MESSAGE + 1))
    for head in (b"\0\0\0\0", b"\0\1\0\1", b"\xff\xff\xff\xff"):
        with pytest.raises(ProtocolBroken):
            length_of(head)
