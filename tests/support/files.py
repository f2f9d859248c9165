"""Files to send: their bytes follow from a seed, and no block is like another."""

import hashlib
import random
from pathlib import Path
from typing import Final

MIB: Final = 1024 * 1024


def make_file(path: Path, size: int, *, seed: int = 1) -> Path:
    """Write `size` bytes and return the path."""
    block = bytearray(random.Random(seed).randbytes(MIB))
    with path.open("wb") as file:
        for number in range(-(-size // MIB)):
            block[:8] = number.to_bytes(8, "big")
            file.write(memoryview(block)[: size - number * MIB])
    return path


def sha256(path: Path) -> str:
    """Return the file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
