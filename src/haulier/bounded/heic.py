"""HEIC, which libvips leaves out: decoded by pi-heif into memory, upright already. Runs in a child only."""

import os
from collections.abc import Callable
from typing import Any, Final

import pi_heif
import pyvips

_BANDS: Final = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


def read_heic(source: int, require_pixels: Callable[[int], None]) -> tuple[pyvips.Image, object]:
    """Decode the primary picture, 8 bits a channel, its colour profile beside it.

    Args:
        source: an open file.
        require_pixels: called with width times height before anything is decoded; may raise.

    Returns:
        The picture, and the owner of its memory: that must live for as long as the picture does.

    Raises:
        Exception: pi-heif's, of many kinds, for what it cannot read.
    """
    pi_heif.options.DECODE_THREADS = 1
    os.lseek(source, 0, os.SEEK_SET)
    with os.fdopen(os.dup(source), "rb") as file:
        owner: Any = pi_heif.open_heif(file)
        width, height = owner.size
        require_pixels(width * height)
        pixels, (width, height) = owner.data, owner.size
    image = pyvips.Image.new_from_memory(pixels, width, height, _BANDS[owner.mode], "uchar")
    image = image.copy(interpretation="b-w" if owner.mode.startswith("L") else "srgb")
    profile = owner.info.get("icc_profile")
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image, owner
