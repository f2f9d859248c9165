"""Pictures in every format that derivatives are made of, and files that only look like them.

The picture: 64 x 48, its left half red, its right half blue.
"""

import base64
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import pyvips

WIDTH: Final = 64
HEIGHT: Final = 48
RED: Final = (200, 30, 30)
BLUE: Final = (30, 30, 200)
ARTIST: Final = b"Somebody at home"
"""Words of the metadata, to be looked for where no metadata should be."""

HEIC: Final = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAeRtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "AA5waXRtAAAAAAACAAAAEGlkYXQAAAAAAEAAMAAAAExpbG9jAQAAAERAAAMAAQAAAAAAAAIIAAEAAAAAAAAAdQACAAEAAAAAAAAA"
    "AQAAAAAAAAAIAAMAAAAAAAACfQABAAAAAAAAALgAAABNaWluZgAAAAAAAwAAABVpbmZlAgAAAQABAABodmMxAAAAABVpbmZlAgAA"
    "AAACAABncmlkAAAAABVpbmZlAgAAAQADAABFeGlmAAAAANhpcHJwAAAAtmlwY28AAAB2aHZjQwEDcAAAAAAAAAAAAB7wAPz9+PgA"
    "AA8DIAABABhAAQwB//8DcAAAAwCQAAADAAADAB66AkAhAAEAKkIBAQNwAAADAJAAAAMAAAMAHqAggQWW6uSmubgQEDAgAAADACAA"
    "AAMAISIAAQAGRAHBc8CJAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAUaXNwZQAAAAAAAABAAAAAMAAAABBwaXhpAAAAAAMICAgAAAAa"
    "aXBtYQAAAAAAAAACAAECgQIAAgIDhAAAAChpcmVmAAAAAAAAAA5kaW1nAAIAAQABAAAADmNkc2MAAwABAAIAAAE1bWRhdAAAAHEo"
    "Aa8J4DkjJL//+jG///hGnkP2uYXBf/4PFn3+Ff5//s3vUV2VhWyC2w9DqZvEdv6pvxKkYbNJZNbj8QMy2NoI2N+zDu3iuQYTV2Pc"
    "LzOa+iAYB4o9IbHvOI4kPfne6ND+M2tp9+E/i/wOMstk+5R3AgAAAABJSSoACAAAAAYAEgEDAAEAAAABAAAAGgEFAAEAAABWAAAA"
    "GwEFAAEAAABeAAAAKAEDAAEAAAACAAAAEwIDAAEAAAABAAAAaYcEAAEAAABmAAAAAAAAADhjAADoAwAAOGMAAOgDAAAGAACQBwAE"
    "AAAAMDIxMAGRBwAEAAAAAQIDAACgBwAEAAAAMDEwMAGgAwABAAAA//8AAAKgBAABAAAAQAAAAAOgBAABAAAAMAAAAAAAAAA="
)
"""The picture as HEIC. No encoder of it may be shipped with Haulier, so this was made once, by libheif's heif-enc."""

_SAVERS: Final[Mapping[str, Callable[[pyvips.Image], bytes]]] = {
    "jpg": lambda image: bytes(image.jpegsave_buffer(Q=95)),
    "png": lambda image: bytes(image.pngsave_buffer()),
    "webp": lambda image: bytes(image.webpsave_buffer(lossless=True)),
    "avif": lambda image: bytes(image.heifsave_buffer(compression="av1", lossless=True)),
    "gif": lambda image: bytes(image.gifsave_buffer()),
    "tif": lambda image: bytes(image.tiffsave_buffer(compression="deflate")),
}
FORMATS: Final = (*_SAVERS, "heic")
ORIENTED: Final = ("jpg", "png", "webp", "tif")
"""Formats whose orientation is a note beside the pixels."""
WITH_EXIF: Final = ("jpg", "png", "webp", "avif")


def plain(colour: tuple[int, ...], width: int, height: int) -> pyvips.Image:
    """Return a picture of one colour."""
    image = pyvips.Image.black(width, height, bands=len(colour)) + list(colour)
    return image.cast("uchar").copy(interpretation="srgb")


def picture(width: int = WIDTH, height: int = HEIGHT) -> pyvips.Image:
    """Return the picture, in any size."""
    halves = plain(RED, width // 2, height), plain(BLUE, width - width // 2, height)
    return halves[0].join(halves[1], "horizontal").copy(interpretation="srgb")


def stored(kind: str, image: pyvips.Image | None = None) -> bytes:
    """Return the picture, or another, as a file of that kind; HEIC only as it is."""
    if kind == "heic":
        assert image is None
        return HEIC
    return _SAVERS[kind](picture() if image is None else image)


def with_metadata(image: pyvips.Image, *, orientation: int = 1) -> pyvips.Image:
    """Add an orientation, an author and a place, as cameras do."""
    text = pyvips.GValue.gstr_type
    noted = image.copy()
    noted.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    words = ARTIST.decode()
    noted.set_type(text, "exif-ifd0-Artist", f"{words} ({words}, ASCII, {len(words) + 1} components)")
    noted.set_type(text, "exif-ifd3-GPSLatitudeRef", "N (N, ASCII, 2 components, 2 bytes)")
    noted.set_type(
        text, "exif-ifd3-GPSLatitude", "48/1 12/1 0/1 (48, 12, 0, Rational, 3 components, 24 bytes)"
    )
    return noted


def colour_at(data: bytes, x: float, y: float) -> tuple[int, ...]:
    """Return a pixel of a stored picture; x and y are fractions of its sides."""
    image = pyvips.Image.new_from_buffer(data, "")
    pixel: Any = image(int(x * image.width), int(y * image.height))
    return tuple(round(value) for value in pixel)


def is_near(colour: tuple[int, ...], wanted: tuple[int, ...], *, tolerance: int = 12) -> bool:
    """Whether two colours differ by no more than compression makes them differ."""
    return len(colour) == len(wanted) and all(
        abs(one - other) <= tolerance for one, other in zip(colour, wanted, strict=True)
    )


def png(width: int, height: int, *, depth: int = 1, colour: int = 0, interlaced: bool = False) -> bytes:
    """Return a PNG of ones only; its rows are packed as they are made, so any size costs little memory."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    row = b"\0" + b"\xff" * ((width * channels * depth + 7) // 8)
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png_of(width, height, rows, depth=depth, colour=colour, interlaced=interlaced)


def png_of(
    width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 2, interlaced: bool = False
) -> bytes:
    """Return a PNG whose head says so and whose packed rows are these, whatever they are."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    chunks = (b"IHDR", head), (b"IDAT", rows), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def huge(kind: str) -> bytes:
    """Return a few hundred bytes that announce 3.6 or more gigapixels."""
    if kind == "png":
        return png_of(2**31 - 1, 2**31 - 1, b"")
    if kind == "gif":
        screen = struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0)
        frame = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
        return b"GIF89a" + screen + b"\0\0\0\xff\xff\xff" + frame + b"\x02\x02\x44\x01\0;"
    if kind == "tif":
        return _tiff(60000, 60000)
    data = bytearray(stored(kind))
    if kind == "jpg":
        place = data.index(b"\xff\xc0") + 5
        data[place : place + 4] = struct.pack(">HH", 60000, 60000)
        return bytes(data)
    place = -1
    while (place := data.find(b"ispe", place + 1)) >= 0:  # AVIF and HEIC
        data[place + 8 : place + 16] = struct.pack(">II", 60000, 60000)
    return bytes(data)


def _tiff(width: int, height: int) -> bytes:
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, 1),
    ]
    packed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IIH", 12, 0, len(entries)) + packed + bytes(4)
