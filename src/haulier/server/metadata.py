"""`Upload-Metadata`: what clients say about a file beside its bytes.

Rule 1: a field that cannot be read is refused before an upload is touched.
Rule 2: what a client calls its file is for people; what of it cannot be text is kept raw, and used for nothing.

It is a field of tus; tus-js-client sends it whatever protocol it speaks.

Source: https://tus.io/protocols/resumable-upload, version 1.0.0.
"""

import base64
import binascii
import unicodedata
from collections.abc import Mapping
from typing import Final

from haulier.core.errors import InvalidRequest
from haulier.core.text import is_storable
from haulier.core.upload import check_content_type
from haulier.core.values import dataclass

METADATA: Final = "Upload-Metadata"
UNNAMED: Final = "unnamed"
"""The file name of an upload that was not given one; no protocol here asks for one."""

_NOTHING: Final = frozenset({"", "null", "undefined"})
"""What JavaScript clients make of a value that is not there, `String(null)`."""


def read_metadata(text: str | None) -> Mapping[str, bytes]:
    """Read `Upload-Metadata`: keys with the bytes of their values.

    Source: "Upload-Metadata": pairs separated by commas, key and value by a space; keys unique and not empty,
    values base64 and perhaps empty. An empty field has no pairs.

    Raises:
        InvalidRequest: it is something else.
    """
    metadata: dict[str, bytes] = {}
    for pair in (text or "").split(",") if text and text.strip() else ():
        key, _, value = pair.strip().partition(" ")
        if not key:
            raise InvalidRequest.of(METADATA, "must not have an empty key")
        if key in metadata:
            raise InvalidRequest.of(METADATA, f"must not have the key {key[:64]!r} twice")
        metadata[key] = _from_base64(value, f"the value of {key[:64]!r}")
    return metadata


def _from_base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        raise InvalidRequest.of(METADATA, f"{what} must be base64") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What the metadata says about a file, in our words."""

    filename: str
    path: str | None
    content_type: str | None
    texts: Mapping[str, str]
    """All values that are text."""


def describe(metadata: Mapping[str, bytes]) -> Described:
    """Return what the keys mean that tus-js-client, Uppy and others use.

    Those are `filename` or `name`, `filetype` or `type`, and `relativePath`.
    """
    texts = {key: text for key, value in metadata.items() if (text := _text_of(value)) is not None}
    kind = _first_of(texts, "filetype", "type")
    return Described(
        filename=_first_of(texts, "filename", "name") or UNNAMED,
        path=_path_of(texts.get("relativePath", "")),
        # Only a word about the file; one that is no media type is worth as much as none.
        content_type=kind if kind and not any(check_content_type(kind)) else None,
        texts=texts,
    )


def _text_of(value: bytes) -> str | None:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if is_storable(text) else None


def _first_of(texts: Mapping[str, str], *keys: str) -> str | None:
    for key in keys:
        text = texts.get(key, "")
        if text not in _NOTHING:
            return text
    return None


def _path_of(text: str) -> str | None:
    # Browsers give the path of a dropped folder with a slash in front, and macOS decomposes its letters.
    return None if text in _NOTHING else unicodedata.normalize("NFC", text.removeprefix("/"))
