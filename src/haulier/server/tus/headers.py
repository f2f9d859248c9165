"""The header fields of tus, read strictly and written as the specification wants them.

Rule 1: nothing here changes anything: a field that cannot be read is refused before an upload is touched.
Rule 2: what a client calls its file is for people; what of it cannot be text is kept raw, and used for nothing.

Source: https://tus.io/protocols/resumable-upload, version 1.0.0; the sections are named where they are followed.
"""

import base64
import binascii
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from haulier.core.errors import InvalidRequest
from haulier.core.session import Concat, SessionId
from haulier.core.upload import MAX_PARTIALS, check_content_type, is_storable
from haulier.server.access import TUS

VERSION: Final = "1.0.0"
MEDIA_TYPE: Final = "application/offset+octet-stream"
METADATA: Final = "Upload-Metadata"
CONCAT: Final = "Upload-Concat"
UNNAMED: Final = "unnamed"
"""The file name of an upload whose metadata has none; tus does not ask for one."""

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
        metadata[key] = _from_base64(METADATA, value, f"the value of {key[:64]!r}")
    return metadata


def _from_base64(field: str, text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        raise InvalidRequest.of(field, f"{what} must be base64") from None


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
    return next((texts[key] for key in keys if texts.get(key, "") not in _NOTHING), None)


def _path_of(text: str) -> str | None:
    # Browsers give the path of a dropped folder with a slash in front, and macOS decomposes its letters.
    return None if text in _NOTHING else unicodedata.normalize("NFC", text.removeprefix("/"))


@dataclass(frozen=True, slots=True)
class MadeOf:
    """What `Upload-Concat` says: whether an upload is made of others, of which, or for others."""

    concat: Concat
    partials: tuple[str, ...] = ()
    """Ids as they stand in the addresses, whether there are such uploads or not."""


def read_concat(text: str | None) -> MadeOf:
    """Read `Upload-Concat`.

    Source: "Upload-Concat": `partial`, or `final;` and addresses separated by spaces, absolute or relative.

    Raises:
        InvalidRequest: it is something else, or an address is none of an upload here.
    """
    if text is None:
        return MadeOf(Concat.NONE)
    kind, semicolon, listed = text.partition(";")
    if kind == Concat.PARTIAL.value and not semicolon:
        return MadeOf(Concat.PARTIAL)
    addresses = listed.split()
    if kind != Concat.FINAL.value or not addresses:
        raise InvalidRequest.of(CONCAT, "must be 'partial', or 'final;' and the URLs of partial uploads")
    if len(addresses) > MAX_PARTIALS:
        raise InvalidRequest.of(CONCAT, f"must name at most {MAX_PARTIALS} uploads")
    return MadeOf(Concat.FINAL, tuple(map(_id_in, addresses)))


def _id_in(address: str) -> SessionId:
    """Return the upload that an address names; the host is not looked at: a proxy may have another one."""
    try:
        path = urlsplit(urljoin(f"{TUS}/", address)).path
    except ValueError:
        path = ""
    folder, _, name = path.rpartition("/")
    if not name or not (folder == TUS or folder.endswith(TUS)):
        raise InvalidRequest.of(CONCAT, f"{address[:64]!r} is no URL of an upload here")
    return SessionId(unquote(name))


def imf_date(time: float) -> str:
    """Return a time as HTTP writes it, rounded down. Source: RFC 9110 section 5.6.7."""
    return formatdate(int(time), usegmt=True)
