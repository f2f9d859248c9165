"""Links that open one asset for whoever has them, until their time is over.

Rule 1: a link says itself what it opens and until when; our signature is what makes that true. So nothing is stored,
        and a new key ends all links.
Rule 2: what a link opens is looked up when it is used: the link of a record that is deleted opens nothing.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from enum import StrEnum
from typing import Final

from haulier.core.record import AssetKind, RecordId
from haulier.core.values import dataclass

MIN_LINK_S: Final = 1
MAX_LINK_S: Final = 30 * 24 * 3600
"""A month: what nobody remembers having given away should not open for ever. Precedent: a week for S3's."""
USUAL_LINK_S: Final = 24 * 3600

_PURPOSE: Final = b"haulier link\0"
"""Keeps these signatures apart from all others that are made with the same key."""
_TEXT: Final = re.compile(
    r"([0-9a-f-]{36})\.([a-z]+)\.([0-9]{1,12})\.([a-z]+)\.([A-Za-z0-9_-]{43})", re.ASCII
)


class Disposition(StrEnum):
    """What a browser does with the bytes."""

    ATTACHMENT = "attachment"
    INLINE = "inline"
    """Shows them, where their type can do no harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Leave to fetch one asset. `expires_at` in whole seconds since the epoch, UTC."""

    record: RecordId
    kind: AssetKind
    expires_at: int
    disposition: Disposition = Disposition.ATTACHMENT

    def signed(self, key: bytes) -> str:
        """Return the link as text that is good in an address."""
        text = f"{self.record}.{self.kind}.{self.expires_at}.{self.disposition}"
        mac = hmac.new(key, _PURPOSE + text.encode(), hashlib.sha256).digest()
        return f"{text}.{urlsafe_b64encode(mac).rstrip(b'=').decode('ascii')}"

    def expired(self, now: float) -> bool:
        """Whether it opens nothing any more."""
        return self.expires_at <= now


def read_link(text: str, key: bytes) -> Link | None:
    """Return what a text says; None unless we signed it with this key."""
    match = _TEXT.fullmatch(text)
    if match is None or match[2] not in list(AssetKind) or match[4] not in list(Disposition):
        return None
    link = Link(
        record=RecordId(match[1]),
        kind=AssetKind(match[2]),
        expires_at=int(match[3]),
        disposition=Disposition(match[4]),
    )
    return link if hmac.compare_digest(link.signed(key), text) else None
