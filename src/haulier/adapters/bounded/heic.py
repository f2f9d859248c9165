"""HEIC, which libvips leaves out: decoded by pi-heif into memory, upright already. Runs in a child only."""

import os
from collections.abc import Callable
from typing import Any, Final

import pi_heif
import pyvips

_BANDS: Final = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def read_heic(source: int, require_size: Callable[[int, int], None]) -> pyvips.Image:
    """Decode the primary picture, 8 bits a channel, its colour profile beside it.

    Args:
        source: an open file.
        require_size: called with width and height before anything is decoded; may raise.

    Raises:
        ValueError · EOFError · OSError · RuntimeError · SyntaxError: pi-heif's, for what it cannot read.
    """
    pi_heif.options.DECODE_THREADS = 1
    os.lseek(source, 0, os.SEEK_SET)
    with os.fdopen(os.dup(source), "rb") as file:
        picture: Any = pi_heif.open_heif(file)
        require_size(*picture.size)
        pixels, (width, height) = picture.data, picture.size
    image = pyvips.Image.new_from_memory(pixels, width, height, _BANDS[picture.mode], "uchar")
    grey = picture.mode.startswith("L")
    image = image.copy(interpretation="b-w" if grey else "srgb")
    profile = picture.info.get("icc_profile")
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image
