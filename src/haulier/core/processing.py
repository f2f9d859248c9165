"""What is found out about a stored file by opening it: derivatives of an image, metadata of its content.

Both come from work on bytes of strangers, which may also end without a result; `Unprocessed` then says why. It
is a value, not an error: the file itself stays stored, and whoever asked writes the reason down.
"""

import base64
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from haulier.core.values import dataclass

DISPLAY_SIDE: Final = 2048
THUMBNAIL_SIDE: Final = 512
PLACEHOLDER_SIDE: Final = 32
"""Longest sides in pixels; a smaller original is never enlarged."""
QUALITY: Final = 82
"""Of display and thumbnail, as WebP counts it."""
MAX_PLACEHOLDER_URL: Final = 2048
"""Characters: it is repeated in every list that shows the record."""
MAX_INLINE: Final = MAX_PLACEHOLDER_URL // 4 * 3 - len("data:image/webp;base64,")
"""Bytes of a placeholder that fit into such a URL, whatever the name of its type."""
INLINE_TYPES: Final = frozenset({"image/webp", "image/png", "image/jpeg", "image/gif", "image/avif"})
"""Pictures that cannot do anything but be shown."""
MAX_PREVIEW: Final = 500
MAX_PROBLEMS: Final = 10
"""Problems that are told of one file: whoever mends those runs into the rest."""


class ProcessingFailure(StrEnum):
    """Why a file could not be worked on."""

    IMAGE_TOO_LARGE = "image-too-large"
    """It, or what it unpacks to, is beyond a limit; that says nothing about its being whole."""
    IMAGE_BROKEN = "image-broken"
    FORMAT_UNSUPPORTED = "format-unsupported"
    IMAGE_TIMEOUT = "image-timeout"
    IMAGE_CRASHED = "image-crashed"
    """It ended the process that opened it, twice."""
    CHECK_TOO_LARGE = "check-too-large"
    CHECK_TIMEOUT = "check-timeout"
    CHECK_CRASHED = "check-crashed"
    QUOTA_EXCEEDED = "quota-exceeded"
    """The capsule has no room for what was made."""
    QUEUE_FULL = "queue-full"
    """Too many are waiting; the only one that can pass by itself."""

    @property
    def words(self) -> str:
        """What to tell the person whose file it is."""
        return _WORDS[self]


_WORDS: Final[Mapping[ProcessingFailure, str]] = {
    ProcessingFailure.IMAGE_TOO_LARGE: "The image is too large to make previews of it.",
    ProcessingFailure.IMAGE_BROKEN: "The image is damaged or cut off, so there are no previews of it.",
    ProcessingFailure.FORMAT_UNSUPPORTED: "There are no previews of files of this kind.",
    ProcessingFailure.IMAGE_TIMEOUT: "Making previews of the image took too long.",
    ProcessingFailure.IMAGE_CRASHED: "The image could not be opened.",
    ProcessingFailure.CHECK_TOO_LARGE: "The file is too large to be checked.",
    ProcessingFailure.CHECK_TIMEOUT: "Checking the file took too long.",
    ProcessingFailure.CHECK_CRASHED: "The file could not be checked.",
    ProcessingFailure.QUOTA_EXCEEDED: "The capsule has no room left for previews of the image.",
    ProcessingFailure.QUEUE_FULL: "Too many files are being worked on; try again in a moment.",
}


@dataclass(frozen=True, slots=True)
class Unprocessed:
    """Work on a file that ended without a result. `detail` is for whoever reads the logs."""

    failure: ProcessingFailure
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivative:
    """One smaller picture: pixels, and bytes as stored."""

    width: int
    height: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivatives:
    """The pictures made from one original.

    Source dimensions are those of the upright picture, as people see it.
    """

    media_type: str
    """The original's, by its content."""
    source_width: int
    source_height: int
    display: Derivative
    thumbnail: Derivative
    placeholder: Derivative
    placeholder_url: str
    """The placeholder itself, as a data URL."""


def is_image(content_type: str) -> bool:
    """Whether previews are tried of what is said to be of this media type; its first bytes decide."""
    return content_type.strip().lower().startswith("image/")


def data_url(content: bytes, content_type: str) -> str | None:
    """Return a small picture as a URL; None: it is not small enough, or no mere picture."""
    essence = content_type.partition(";")[0].strip().lower()
    if not 0 < len(content) <= MAX_INLINE or essence not in INLINE_TYPES:
        return None
    return f"data:{essence};base64,{base64.b64encode(content).decode('ascii')}"


def content_of(url: str) -> bytes:
    """Return what a data URL in base64 holds.

    Raises:
        ValueError: it is none.
    """
    return base64.b64decode(url.partition(";base64,")[2], validate=True)


class ContentFault(StrEnum):
    """What can be wrong with a file's content."""

    TYPE_MISMATCH = "type-mismatch"
    """The content is of another kind than the file's name says."""
    BINARY = "binary"
    """A NUL character, which no text has."""
    UNDECODABLE = "undecodable"
    JSON_INVALID = "json-invalid"
    CSV_INVALID = "csv-invalid"


@dataclass(frozen=True, slots=True)
class ContentProblem:
    """One thing that is wrong, in words, and where: both counted from 1, columns in characters."""

    fault: ContentFault
    message: str
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMetadata:
    """What a file holds, found by reading all of it. None: does not apply, or was not looked at."""

    media_type: str
    """By content, whatever the file's name or its sender say."""
    encoding: str | None = None
    line_count: int | None = None
    """Lines of a text; a last one without a line break counts."""
    record_count: int | None = None
    """Elements of a JSON array (1 for any other value), records of a CSV file, the first one included."""
    preview: str | None = None
    """The first 500 characters of a text."""
    valid_json: bool | None = None
    valid_csv: bool | None = None
    errors: tuple[ContentProblem, ...] = ()
