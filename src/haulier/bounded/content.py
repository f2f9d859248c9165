"""What a file holds, found by reading it once from end to end. Runs in a child only.

Rule 1: bytes decide what it is; its name decides what it should be, and a difference is told.
Rule 2: memory is flat, whatever the file's size, the length of its lines, or its nesting.
"""

import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import field
from itertools import chain
from typing import Final

from haulier.bounded.csv_text import CsvReader
from haulier.bounded.formats import HEAD, OCTETS, ImageFormat, binary_type, markup_type
from haulier.bounded.json_text import JsonInvalid, JsonScanner
from haulier.bounded.messages import MAX_DETAIL
from haulier.bounded.text import NotText, Text, choose_encoding
from haulier.core.processing import ContentFault, ContentProblem, FileMetadata
from haulier.core.values import dataclass

JSON: Final = "application/json"
CSV: Final = "text/csv"
PLAIN: Final = "text/plain"

_EXPECTED: Final[Mapping[str, str]] = {
    ".json": JSON,
    ".csv": CSV,
    ".txt": PLAIN,
    ".jpg": ImageFormat.JPEG,
    ".jpeg": ImageFormat.JPEG,
    ".png": ImageFormat.PNG,
    ".webp": ImageFormat.WEBP,
    ".avif": ImageFormat.AVIF,
    ".gif": ImageFormat.GIF,
    ".tif": ImageFormat.TIFF,
    ".tiff": ImageFormat.TIFF,
    ".heic": ImageFormat.HEIC,
    ".heif": ImageFormat.HEIC,
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    ".zip": "application/zip",
    ".gz": "application/gzip",
}
"""What a file with that extension should be; any other may be anything."""


@dataclass(slots=True)
class _Findings:
    """What was found so far."""

    media_type: str
    record_count: int | None = None
    valid_json: bool | None = None
    valid_csv: bool | None = None
    errors: list[ContentProblem] = field(default_factory=list)


def inspect(source: int, *, extension: str, charset: str | None) -> FileMetadata:
    """Read an open file through.

    Args:
        source: read from its start.
        extension: of its name, lower case, with its dot; empty for none.
        charset: what its text is said to be encoded in.
    """
    head = os.pread(source, HEAD, 0)
    expected = _EXPECTED.get(extension)
    binary = binary_type(head)
    if binary is not None:
        return _other_than_text(binary, expected)
    # RFC 8259, section 8.1: JSON is UTF-8, whatever its sender or a mark of another encoding says.
    encoding = "utf-8-sig" if expected == JSON else choose_encoding(head, charset)
    if encoding is None:
        message = f"the encoding {charset!r} is not known here"[:MAX_DETAIL]
        return FileMetadata(media_type=OCTETS, errors=(ContentProblem(ContentFault.UNDECODABLE, message),))
    return _read(Text(source, encoding), expected)


def _other_than_text(found: str, expected: str | None) -> FileMetadata:
    mismatch = expected is not None and found != expected
    return FileMetadata(media_type=found, errors=(_mismatch(found, expected),) if mismatch else ())


def _mismatch(found: str, expected: str | None) -> ContentProblem:
    return ContentProblem(ContentFault.TYPE_MISMATCH, f"this is {found}, but its name says {expected}")


def _read(text: Text, expected: str | None) -> FileMetadata:
    found = _Findings(PLAIN)
    pieces = text.pieces()
    try:
        first = next(pieces, "")
        _judge(found, first, chain((first,), pieces), expected)
        deque(pieces, maxlen=0)  # whatever was found wrong, lines are counted to the end
    except NotText as error:
        return _not_text(error, expected)
    return FileMetadata(
        media_type=found.media_type,
        encoding=text.encoding,
        line_count=text.line_count,
        record_count=found.record_count,
        preview=text.preview,
        valid_json=found.valid_json,
        valid_csv=found.valid_csv,
        errors=tuple(found.errors),
    )


def _judge(found: _Findings, first: str, pieces: Iterable[str], expected: str | None) -> None:
    """Read as much of the text as its kind needs, and write down what it is."""
    if expected == CSV:
        _judge_csv(found, pieces)
    elif expected == JSON or (expected in {None, PLAIN} and first.lstrip()[:1] in {"{", "["}):
        _judge_json(found, pieces, meant=expected == JSON)
    found.media_type = markup_type(first[:HEAD]) or found.media_type
    plain = found.media_type == PLAIN and expected in {JSON, CSV}  # meant as that, and told as invalid
    if expected not in {None, PLAIN, found.media_type} and not plain:
        found.errors.append(_mismatch(found.media_type, expected))


def _judge_csv(found: _Findings, pieces: Iterable[str]) -> None:
    reader = CsvReader()
    reader.read(pieces)
    found.record_count = reader.record_count
    found.errors += reader.problems
    found.valid_csv = not reader.problems
    found.media_type = CSV if found.valid_csv else PLAIN


def _judge_json(found: _Findings, pieces: Iterable[str], *, meant: bool) -> None:
    """`meant`: its name says that this is JSON, so it is a fault when it is none."""
    scanner = JsonScanner()
    try:
        for piece in pieces:
            scanner.feed(piece)
        scanner.finish()
    except JsonInvalid as error:
        if meant:
            found.valid_json = False
            problem = ContentProblem(ContentFault.JSON_INVALID, str(error), error.line, error.column)
            found.errors.append(problem)
        return
    found.valid_json = True
    found.record_count = scanner.record_count
    found.media_type = JSON


def _not_text(error: NotText, expected: str | None) -> FileMetadata:
    problem = ContentProblem(error.fault, str(error), error.line, error.column)
    return FileMetadata(
        media_type=OCTETS,
        valid_json=False if expected == JSON else None,
        valid_csv=False if expected == CSV else None,
        errors=(problem,),
    )
