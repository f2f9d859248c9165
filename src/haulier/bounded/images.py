"""Smaller pictures of one original. Runs in a child only: decoders are where files of strangers bite.

Rule 1: a file is opened by the one loader that its first bytes name; libvips never guesses.
Rule 2: dimensions are judged from the header, before a pixel is decoded.
Rule 3: the original is decoded once, in a stream; each smaller picture is made from the next larger one.
Rule 4: nothing but pixels is kept: no EXIF, no location, no profile. What those said about showing the
        picture, its orientation and its colours, is done to the pixels first.
"""

import base64
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import pyvips

from haulier.bounded.formats import HEAD, ImageFormat, declared_pixels, image_format
from haulier.bounded.limits import Limits
from haulier.bounded.messages import MAX_DETAIL
from haulier.core.processing import (
    DISPLAY_SIDE,
    MAX_PLACEHOLDER_URL,
    PLACEHOLDER_SIDE,
    QUALITY,
    THUMBNAIL_SIDE,
    Derivative,
    Derivatives,
    ProcessingFailure,
    Unprocessed,
)
from haulier.core.values import dataclass

_PLACEHOLDER_QUALITIES: Final = (50, 25, 5, 0)
"""Tried in turn until it is short enough; noise with transparency needs the last but one."""
_SHRINKS: Final = (8, 4, 2)
_SPARE: Final = 1.4
"""How much larger than wanted a picture stays when its decoder shrinks it: the last step decides the sharpness."""
_UPRIGHT: Final = frozenset({1, 2, 3, 4})
"""EXIF orientations that leave width and height where they are. Source: Exif 2.32, 4.6.4.A, Orientation."""
_PROFILE: Final = "icc-profile-data"
_SPACES: Final[Mapping[str, bytes]] = {
    "srgb": b"RGB ",
    "rgb": b"RGB ",
    "rgb16": b"RGB ",
    "b-w": b"GRAY",
    "grey16": b"GRAY",
    "cmyk": b"CMYK",
}
"""The colours that a profile may be for, by how an image's own are meant."""
_TOO_LARGE: Final = (
    "out of memory",
    "memory allocation",
    "security limit",  # libheif
    "too large",
    "limit exceeded",
    "exceeds",
    "width/height out of range",  # libtiff
    "maximum supported image dimension",  # libjpeg
)
"""Words of the decoders for sizes that they do not take."""

_LOADERS: Final[Mapping[ImageFormat, tuple[Callable[..., Any], Mapping[str, Any]]]] = {
    ImageFormat.JPEG: (pyvips.Image.jpegload_source, {}),
    ImageFormat.PNG: (pyvips.Image.pngload_source, {}),
    ImageFormat.WEBP: (pyvips.Image.webpload_source, {"page": 0, "n": 1}),
    ImageFormat.AVIF: (pyvips.Image.heifload_source, {"n": 1}),
    ImageFormat.GIF: (pyvips.Image.gifload_source, {"page": 0, "n": 1}),
    ImageFormat.TIFF: (pyvips.Image.tiffload_source, {"page": 0, "n": 1}),
}


@dataclass(frozen=True, slots=True)
class _Original:
    """An opened image, perhaps smaller than its file says; width and height are those of the upright file."""

    image: pyvips.Image
    width: int
    height: int
    owner: object = None
    """Of the pixels, where that is not the image."""


class _Refused(Exception):
    """The job ends without a result."""

    def __init__(self, failure: ProcessingFailure, detail: str) -> None:
        super().__init__(detail)
        self.outcome = Unprocessed(failure, detail)


def prepare() -> None:
    """Set the library up once a process: it keeps nothing between jobs."""
    pyvips.cache_set_max(0)
    pyvips.cache_set_max_mem(0)
    pyvips.cache_set_max_files(0)
    pyvips.block_untrusted_set(True)


def derive(source: int, display: int, thumbnail: int, limits: Limits) -> Derivatives | Unprocessed:
    """Make the derivatives of an image.

    Args:
        source: an open file, read from its start.
        display: an empty open file that takes the display picture.
        thumbnail: the same for the thumbnail.
        limits: what is too large.
    """
    try:
        return _derive(source, display, thumbnail, limits)
    except _Refused as refused:
        return refused.outcome
    except MemoryError:
        return Unprocessed(ProcessingFailure.IMAGE_TOO_LARGE, "out of memory")
    except pyvips.Error as error:
        return Unprocessed(*_judge(str(error)))


def _judge(words: str) -> tuple[ProcessingFailure, str]:
    """Tell too large from broken by what a decoder says."""
    large = any(sign in words.lower() for sign in _TOO_LARGE)
    failure = ProcessingFailure.IMAGE_TOO_LARGE if large else ProcessingFailure.IMAGE_BROKEN
    return failure, " ".join(words.split())[:MAX_DETAIL]


def _derive(source: int, display: int, thumbnail: int, limits: Limits) -> Derivatives:
    size = os.fstat(source).st_size
    if size > limits.source_bytes:
        raise _Refused(ProcessingFailure.IMAGE_TOO_LARGE, f"{size} bytes")
    head = os.pread(source, HEAD, 0)
    found = image_format(head)
    if found is None:
        raise _Refused(ProcessingFailure.FORMAT_UNSUPPORTED, "no image that is known")
    _require_pixels(declared_pixels(head), limits)
    original = _open(source, found, limits)
    large = _shrink(original.image, DISPLAY_SIDE)
    small = _shrink(large, THUMBNAIL_SIDE)
    placeholder, url = _placeholder(small)
    return Derivatives(
        media_type=found.value,
        source_width=original.width,
        source_height=original.height,
        display=_save(large, display),
        thumbnail=_save(small, thumbnail),
        placeholder=placeholder,
        placeholder_url=url,
    )


def _open(source: int, found: ImageFormat, limits: Limits) -> _Original:
    """Open an image of a known format; nothing is decoded yet, except HEIC."""
    if found is ImageFormat.HEIC:
        image, owner = _open_heic(source, limits)
        return _Original(image, image.width, image.height, owner)
    image = _load(source, found)
    _require_pixels(image.width * image.height, limits)
    upright = (image.width, image.height) if _orientation(image) in _UPRIGHT else (image.height, image.width)
    options = _shrinking(found, *upright)
    return _Original(_load(source, found, **options) if options else image, *upright)


def _shrinking(found: ImageFormat, width: int, height: int) -> Mapping[str, Any]:
    """Return what makes a decoder give a smaller picture at once, still larger than wanted; most cannot."""
    longest, shortest = max(width, height), min(width, height)
    fitting = (each for each in _SHRINKS if longest >= each * _SPARE * DISPLAY_SIDE and shortest >= each)
    factor = next(fitting, 1)
    if factor == 1:
        return {}
    if found is ImageFormat.JPEG:
        return {"shrink": factor}
    return {"scale": 1 / factor} if found is ImageFormat.WEBP else {}


def _load(source: int, found: ImageFormat, **options: Any) -> pyvips.Image:
    os.lseek(source, 0, os.SEEK_SET)
    loader, fixed = _LOADERS[found]
    stream = pyvips.Source.new_from_descriptor(source)
    # A serious fault or a cut ends it; what only deserves a warning, like stray bytes, is in many good files.
    return loader(stream, access="sequential", fail_on="error", **fixed, **options)


def _open_heic(source: int, limits: Limits) -> tuple[pyvips.Image, object]:
    try:
        # An extra of its own weight: whoever lacks it still has the other formats.
        from haulier.bounded.heic import read_heic  # noqa: PLC0415
    except ImportError as error:
        raise _Refused(
            ProcessingFailure.FORMAT_UNSUPPORTED, f"HEIC needs haulier[images]: {error}"
        ) from error
    try:
        return read_heic(source, lambda pixels: _require_pixels(pixels, limits))
    except (_Refused, MemoryError):
        raise
    except Exception as error:  # it documents none of what a broken file makes it raise
        raise _Refused(*_judge(str(error))) from error


def _require_pixels(pixels: int, limits: Limits) -> None:
    if pixels > limits.pixels:
        raise _Refused(ProcessingFailure.IMAGE_TOO_LARGE, f"{pixels} pixels")


def _orientation(image: pyvips.Image) -> int:
    return int(image.get("orientation")) if "orientation" in image.get_fields() else 1


def _shrink(image: pyvips.Image, side: int) -> pyvips.Image:
    """Return the upright picture in sRGB, 8 bits a channel, at most `side` long, decoded, without a profile."""
    inks = image.interpretation == "cmyk"
    # Turns, weighs colours by their transparency, and brings CMYK to sRGB.
    small = _with_fitting_profile(image).thumbnail_image(side, height=side, size="down").copy_memory()
    if not inks and _PROFILE in small.get_fields():
        small = _to_srgb(small)
    return _without_profile(small.colourspace("srgb").cast("uchar"))


def _with_fitting_profile(image: pyvips.Image) -> pyvips.Image:
    """Take a profile off that is for other colours than these: converting by it ends in undefined ways."""
    if _PROFILE not in image.get_fields():
        return image
    head = bytes(image.get(_PROFILE)[:20])
    # Source: ICC.1:2022, table 17: the data colour space is the four bytes from offset 16.
    fits = head[16:] == _SPACES.get(image.interpretation)
    return image if fits else _without_profile(image)


def _without_profile(image: pyvips.Image) -> pyvips.Image:
    if _PROFILE not in image.get_fields():
        return image
    bare = image.copy()
    bare.remove(_PROFILE)
    return bare


def _to_srgb(image: pyvips.Image) -> pyvips.Image:
    """Convert by the embedded profile, after the shrinking: that costs a tenth of converting the original."""
    try:
        return image.icc_transform("srgb", embedded=True, intent="relative", depth=8).copy_memory()
    except pyvips.Error:
        # A profile that cannot be used says nothing; browsers show such a picture as sRGB, too.
        return image


def _save(image: pyvips.Image, target: int) -> Derivative:
    image.webpsave_target(pyvips.Target.new_to_descriptor(target), Q=QUALITY, keep="none")
    return Derivative(width=image.width, height=image.height, size=os.fstat(target).st_size)


def _placeholder(image: pyvips.Image) -> tuple[Derivative, str]:
    """Return the smallest picture as a data URL, at the best quality at which it is short enough."""
    tiny = _shrink(image, PLACEHOLDER_SIDE)
    for quality in _PLACEHOLDER_QUALITIES:
        data = tiny.webpsave_buffer(Q=quality, alpha_q=quality, keep="none")
        url = "data:image/webp;base64," + base64.b64encode(data).decode("ascii")
        if len(url) <= MAX_PLACEHOLDER_URL:
            return Derivative(width=tiny.width, height=tiny.height, size=len(data)), url
    raise AssertionError("1024 pixels at the lowest quality take less than 1.5 KB")
