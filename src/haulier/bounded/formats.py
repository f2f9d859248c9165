"""What a file is, by its first bytes.

Rule 1: the content decides, never a name or what the sender says.
Rule 2: whoever opens a file next opens it as what was found here: no library guesses on.
"""

import re
from enum import StrEnum
from typing import Final

HEAD: Final = 512
"""Bytes that are looked at, of a file's beginning."""
OCTETS: Final = "application/octet-stream"


class ImageFormat(StrEnum):
    """The images that derivatives are made of, by media type."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"
    AVIF = "image/avif"
    GIF = "image/gif"
    TIFF = "image/tiff"
    HEIC = "image/heic"


_IMAGES: Final[tuple[tuple[re.Pattern[bytes], ImageFormat], ...]] = (
    (re.compile(rb"\xff\xd8\xff"), ImageFormat.JPEG),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), ImageFormat.PNG),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), ImageFormat.WEBP),
    (re.compile(rb"GIF8[79]a"), ImageFormat.GIF),
    (re.compile(rb"II(?:\x2a\0|\x2b\0\x08\0)|MM(?:\0\x2a|\0\x2b\0\x08)"), ImageFormat.TIFF),
)
_FTYP: Final = re.compile(rb"(....)ftyp(....)....", re.DOTALL)
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
# Source: ISO/IEC 23008-12, annex B (HEVC in HEIF).
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})

_OTHERS: Final[tuple[tuple[re.Pattern[bytes], str], ...]] = (
    (re.compile(rb"%PDF-"), "application/pdf"),
    (re.compile(rb"PK(?:\x03\x04|\x05\x06)"), "application/zip"),
    (re.compile(rb"\x1f\x8b\x08"), "application/gzip"),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), "application/x-7z-compressed"),
    (re.compile(rb"SQLite format 3\0"), "application/vnd.sqlite3"),
    (re.compile(rb"\x7fELF"), "application/x-elf"),
    (re.compile(rb"OggS\0"), "application/ogg"),
    (re.compile(rb"\x1a\x45\xdf\xa3"), "video/x-matroska"),
    (re.compile(rb"....ftyp", re.DOTALL), "video/mp4"),
)
_MARKUP: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"\s*<svg[\s>]", re.IGNORECASE), "image/svg+xml"),
    (re.compile(r"\s*<(?:\?xml|!--|!doctype\s+svg)[^\0]*<svg[\s>]", re.IGNORECASE), "image/svg+xml"),
    (re.compile(r"\s*<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE), "text/html"),
    (re.compile(r"\s*<\?xml\s", re.IGNORECASE), "application/xml"),
)


def image_format(head: bytes) -> ImageFormat | None:
    """Return what kind of image starts like that; None: none that we open."""
    for pattern, found in _IMAGES:
        if pattern.match(head):
            return found
    return _heif_format(head)


def _heif_format(head: bytes) -> ImageFormat | None:
    """Tell the two codecs of a HEIF file apart: its own brand first, then those it is compatible with."""
    match = _FTYP.match(head)
    if match is None:
        return None
    length = min(int.from_bytes(match[1]), len(head))
    brands = [match[2], *(head[start : start + 4] for start in range(16, length - 3, 4))]
    for brand in brands:
        if brand in _AVIF_BRANDS:
            return ImageFormat.AVIF
        if brand in _HEIC_BRANDS:
            return ImageFormat.HEIC
    return None


def declared_pixels(head: bytes) -> int:
    """Return width times height where a decoder gives no reason for refusing a size, else 0.

    Source: PNG, third edition, section 11.2.1, IHDR: both are the first eight bytes of the first chunk.
    """
    if image_format(head) is not ImageFormat.PNG or head[12:16] != b"IHDR" or len(head) < 24:
        return 0
    return int.from_bytes(head[16:20]) * int.from_bytes(head[20:24])


def binary_type(head: bytes) -> str | None:
    """Return the media type of what is known not to be text; None: it may be text."""
    found = image_format(head)
    if found is not None:
        return found.value
    return next((media_type for pattern, media_type in _OTHERS if pattern.match(head)), None)


def markup_type(start: str) -> str | None:
    """Return the media type of a text that begins like a known markup."""
    return next((media_type for pattern, media_type in _MARKUP if pattern.match(start)), None)
