"""Secrets that show nothing by accident, and the form of a bearer token.

Rule 1: a secret leaves its type only by `reveal`, so that no log line, repr or traceback shows one.
Rule 2: a token can be told from every other text without asking anybody: by its prefix, its length and a checksum.
        Scanners of source code rely on that, and a mistyped token is refused without a look-up.
"""

import base64
import binascii
import hashlib
import zlib
from typing import Final

from haulier.core.values import dataclass

SECRET_BYTES: Final = 32
"""256 random bits: what nobody guesses, so a plain hash of it needs no salt and no slow function; and what
HMAC-SHA-256 makes use of."""
TOKEN_PREFIX: Final = "hl_"  # noqa: S105 - the public part
"""Precedent: GitHub's `ghp_`, Stripe's `sk_`."""
TOKEN_LENGTH: Final = len(TOKEN_PREFIX) + 43 + 6
"""Characters: the prefix, 32 bytes and a CRC-32, both in base64url without padding."""


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A text that must not be shown; equal ones are equal."""

    _text: str

    def reveal(self) -> str:
        """Return the text, for whoever has to send or print it."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__


def make_token(chance: bytes) -> Secret:
    """Return the bearer token made of 32 random bytes."""
    if len(chance) != SECRET_BYTES:
        message = f"a token takes {SECRET_BYTES} random bytes, not {len(chance)}"
        raise ValueError(message)
    return Secret(TOKEN_PREFIX + _base64(chance) + _checksum(chance))


def is_token(text: str) -> bool:
    """Whether the text has the form of a bearer token; says nothing about whether anybody made it."""
    if len(text) != TOKEN_LENGTH or not text.startswith(TOKEN_PREFIX) or not text.isascii():
        return False
    body = text[len(TOKEN_PREFIX) : -6]
    try:
        chance = base64.b64decode(body + "=", b"-_", validate=True)
    except binascii.Error:
        return False
    # Written again and compared: the last character of 43 has bits that decoding ignores.
    return len(chance) == SECRET_BYTES and text == make_token(chance).reveal()


def hash_token(text: str) -> bytes:
    """Return what is stored of a token: SHA-256, 32 bytes.

    A token is found by its hash. How long that takes says nothing about the token: whoever does not have it
    cannot choose a hash that shares a beginning with a stored one.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _checksum(chance: bytes) -> str:
    return _base64(zlib.crc32(chance).to_bytes(4, "big"))


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
