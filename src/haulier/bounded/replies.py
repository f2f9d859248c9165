"""Reading what a child answers.

Rule 1: no byte of it is trusted: by now the child may belong to whoever made the file. What is not exactly a
        possible answer is none at all.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from haulier.bounded.messages import CHECK, DERIVE, MAX_DETAIL, ProtocolBroken
from haulier.core.processing import (
    MAX_PLACEHOLDER_URL,
    MAX_PREVIEW,
    MAX_PROBLEMS,
    Derivative,
    Derivatives,
    FileMetadata,
    ProcessingFailure,
    Unprocessed,
)

MAX_COUNT: Final = 2**53
"""No file has more lines; JSON numbers are whole up to here."""

_MEDIA_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9.+-]{1,100}")
_PLACEHOLDER: Final = re.compile(r"data:image/webp;base64,[A-Za-z0-9+/]+={0,2}")
_ADAPTERS: Final[Mapping[str, TypeAdapter[Any]]] = {
    DERIVE: TypeAdapter(Derivatives | Unprocessed),
    CHECK: TypeAdapter(FileMetadata | Unprocessed),
}
_POSSIBLE: Final[Mapping[str, frozenset[ProcessingFailure]]] = {
    DERIVE: frozenset(
        {
            ProcessingFailure.IMAGE_TOO_LARGE,
            ProcessingFailure.IMAGE_BROKEN,
            ProcessingFailure.FORMAT_UNSUPPORTED,
        }
    ),
    CHECK: frozenset({ProcessingFailure.CHECK_TOO_LARGE}),
}
"""What a child finds out by itself; the other failures are the parent's to tell."""


def read_reply(job: str, body: bytes) -> Derivatives | FileMetadata | Unprocessed:
    """Return the answer to a job.

    Raises:
        ProtocolBroken: it is not a possible one.
    """
    try:
        reply: Derivatives | FileMetadata | Unprocessed = _ADAPTERS[job].validate_json(body, strict=True)
    except (ValidationError, RecursionError) as error:
        raise ProtocolBroken("the answer is not of a known form") from error
    members = {member.name for member in fields(reply)}
    if set(json.loads(body)) != members or not _is_possible(job, reply):
        raise ProtocolBroken("the answer is not possible")
    return reply


def _is_possible(job: str, reply: Derivatives | FileMetadata | Unprocessed) -> bool:
    if isinstance(reply, Unprocessed):
        return reply.failure in _POSSIBLE[job] and len(reply.detail) <= MAX_DETAIL
    if isinstance(reply, FileMetadata):
        return _is_possible_metadata(reply)
    return (
        _MEDIA_TYPE.fullmatch(reply.media_type) is not None
        and _are_dimensions(reply.source_width, reply.source_height)
        and all(map(_is_possible_picture, (reply.display, reply.thumbnail, reply.placeholder)))
        and len(reply.placeholder_url) <= MAX_PLACEHOLDER_URL
        and _PLACEHOLDER.fullmatch(reply.placeholder_url) is not None
    )


def _is_possible_picture(picture: Derivative) -> bool:
    return _are_dimensions(picture.width, picture.height) and picture.size > 0


def _are_dimensions(width: int, height: int) -> bool:
    return 0 < width <= MAX_COUNT and 0 < height <= MAX_COUNT


def _is_possible_metadata(found: FileMetadata) -> bool:
    counts = [found.line_count, found.record_count]
    for problem in found.errors:
        counts += [problem.line, problem.column]
    texts = (found.encoding or "", *(problem.message for problem in found.errors))
    return (
        _MEDIA_TYPE.fullmatch(found.media_type) is not None
        and len(found.preview or "") <= MAX_PREVIEW
        and len(found.errors) <= MAX_PROBLEMS
        and all(len(text) <= MAX_DETAIL for text in texts)
        and all(count is None or 0 <= count <= MAX_COUNT for count in counts)
    )
