"""How a webhook is signed, so that its receiver can tell ours from everybody else's, and an old one from a new one.

Source: the Standard Webhooks specification (standardwebhooks.com), version 1: `webhook-id`, `webhook-timestamp`, and
`webhook-signature` with HMAC-SHA-256 over `id.timestamp.body`.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the public part
MIN_SECRET: Final = 24
MAX_SECRET: Final = 64
"""Bytes of a secret, as the specification has them."""


def read_webhook_secret(text: str) -> bytes:
    """Return the key that a secret stands for: `whsec_` and base64 of 24 to 64 random bytes.

    Raises:
        ValueError: it is none. Its words are not in the error.
    """
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    if not text.startswith(SECRET_PREFIX) or not MIN_SECRET <= len(key) <= MAX_SECRET:
        raise ValueError("not a webhook secret")
    return key


def sign_webhook(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return one signature; `timestamp` is in seconds since the epoch."""
    mac = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode("ascii")
