"""How stored bytes are sent: ranges, conditions, and what a browser may do with them.

Rule 1: whatever cannot be read as a range means the whole; only a range behind the end is an error.
Rule 2: a stranger's file is a download, in a sandbox; only types that cannot act are shown in place.

Source: RFC 9110 sections 13 and 14; RFC 6266 and RFC 8187 for names.
"""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib.parse import quote

from haulier.core.record import Asset
from haulier.core.values import dataclass
from haulier.server.errors import RangeNotSatisfiable

INLINE: Final = frozenset(
    {
        "image/avif", "image/bmp", "image/gif", "image/jpeg", "image/png", "image/webp", "text/plain",
        "audio/aac", "audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/wav", "audio/webm",
        "video/mp4", "video/mpeg", "video/ogg", "video/webm",
    }
)  # fmt: skip
"""Types that browsers show without running anything: no HTML, SVG, XML or PDF."""
SANDBOX: Final = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox; "
    "frame-ancestors 'self'"
)
"""For a browser that shows the file anyway: it may look like something, but not do anything."""

_RANGE: Final = re.compile(r"\s*bytes\s*=\s*([0-9]{0,300})-([0-9]{0,300})\s*", re.ASCII | re.IGNORECASE)
_ENTITY_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `[start, stop)` of `size`; `partial` when a range asked for them."""

    start: int
    stop: int
    size: int
    partial: bool

    @property
    def headers(self) -> Mapping[str, str]:
        """What says which bytes these are."""
        length = {"Content-Length": str(self.stop - self.start)}
        if not self.partial:
            return length
        return length | {"Content-Range": f"bytes {self.start}-{self.stop - 1}/{self.size}"}


def entity_tag(asset: Asset) -> str:
    """Return a strong validator: bytes under a blob key never change."""
    if asset.digest is not None:
        return f'"{asset.digest.name}-{asset.digest.hex}"'
    return f'"{asset.blob_key}"'


def choose_span(size: int, text: str | None, *, if_range: str | None, tag: str) -> Span:
    """Return the bytes that a `Range` asks for, or all.

    Several ranges, other units and nonsense are answered whole, as RFC 9110 section 14.2 allows; so is a
    range whose `If-Range` is not the very file there is.

    Raises:
        RangeNotSatisfiable: it starts behind the end.
    """
    whole = Span(0, size, size, partial=False)
    match = None if text is None else _RANGE.fullmatch(text)
    if match is None or (if_range is not None and if_range.strip() != tag):
        return whole
    first, last = match[1], match[2]
    if not first and not last:
        return whole
    if not first:  # the last so many bytes
        start, stop = max(size - int(last), 0), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return whole
    if start >= size or start >= stop:
        raise RangeNotSatisfiable(size)
    return Span(start, stop, size, partial=True)


def is_meant(text: str | None, tag: str) -> bool:
    """Whether `If-Match` allows a request for the file of that tag; compared strongly.

    Source: RFC 9110 section 13.1.1
    """
    return text is None or text.strip() == "*" or tag in _ENTITY_TAG.findall(text)


def is_known(text: str | None, tag: str) -> bool:
    """Whether `If-None-Match` names the tag; compared weakly."""
    if text is None:
        return False
    return text.strip() == "*" or tag in {given.removeprefix("W/") for given in _ENTITY_TAG.findall(text)}


def presentation(filename: str, content_type: str, *, attached: bool = False) -> Mapping[str, str]:
    """Return the headers that say what to do with a file. `attached`: save it, whatever it is."""
    essence = content_type.partition(";")[0].strip().lower()
    shown = essence in INLINE and not attached
    return {
        "Content-Type": content_type,
        "Content-Disposition": disposition("inline" if shown else "attachment", filename),
        "Content-Security-Policy": SANDBOX,
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def disposition(kind: str, filename: str) -> str:
    """Return a Content-Disposition with an ASCII name for old readers, and the real one."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in filename)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


async def chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield `first`, then the rest; closes the rest when it is left early."""
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        close = getattr(rest, "aclose", None)
        if close is not None:
            await close()
