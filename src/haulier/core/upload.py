"""What an upload keeps with its session, and the limits of every field a client may send.

Rule 1: names and paths are for people; no disk path is ever built from them.
Rule 2: every field has a bound and every refusal names the field and the cure.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, field
from typing import Final

from haulier.core.digest import Digest, DigestName
from haulier.core.errors import FieldProblem, InvalidRequest
from haulier.core.record import AssetKind, RecordId
from haulier.core.session import Concat, Mode, Session, SessionId
from haulier.core.text import is_storable
from haulier.core.values import dataclass, replace

MAX_SIZE: Final = 2**63 - 1
"""Largest size that is a number at all: what SQL's BIGINT and tus' lengths hold."""
MAX_FILENAME: Final = 255
"""Bytes of UTF-8. Precedent: NAME_MAX of ext4, XFS, APFS (and NTFS in UTF-16 units)."""
MAX_PATH: Final = 4096
"""Bytes of UTF-8. Precedent: PATH_MAX of Linux."""
MAX_CONTENT_TYPE: Final = 255
"""Characters. Precedent: RFC 6838 section 4.2 allows 127 for each half."""
MAX_METADATA_KEYS: Final = 64
MAX_METADATA_BYTES: Final = 16 * 1024
"""Bytes of all keys and values. Precedent: usual header limits, through which tus sends them."""
MAX_SIDE: Final = 2**31 - 1
"""Pixels. Precedent: PNG, the widest of the formats."""
MAX_PARTIALS: Final = 1000
"""Uploads that one is put together of. Precedent: S3 lists 1000 parts at a time; a header holds not many more."""
MAX_KEY: Final = 255
"""Characters of an idempotency key. Precedent: Stripe's limit."""

IMAGE_TYPES: Final = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif",
    ".tif": "image/tiff", ".tiff": "image/tiff", ".avif": "image/avif", ".heic": "image/heic", ".heif": "image/heif",
}  # fmt: skip
"""By extension, where the machine's own list of types may be older than the format."""

DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"

_BIDI: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Embeddings, overrides and isolates, which make a name look like another one. The plain marks of
right-to-left scripts (U+200E, U+200F, U+061C) and the joiners of emoji are ordinary and stay."""
_UNSAFE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Controls with NUL, CR and LF; lone surrogates, which no encoding can carry; line breaks by other names."""

# RFC 6838 section 4.2 for the names, RFC 9110 section 5.6.6 for the parameters, which may be empty.
# Repeats are possessive (`*+`): white space before and after an empty parameter could be shared out in
# exponentially many ways otherwise.
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]++"
_QUOTED: Final = r'"(?:[\t !#-\[\]-~]|\\[\t -~])*+"'
_MEDIA_TYPE: Final = re.compile(rf"{_NAME}/{_NAME}(?:[ \t]*+;[ \t]*+(?:{_ATOM}=(?:{_ATOM}|{_QUOTED}))?+)*+")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadDetails:
    """What the upload service keeps with a session."""

    capsule: str
    protocol: str
    """Which front end began it: `native`, `tus`, `resumable`, `form`."""
    filename: str
    path: str | None = None
    content_type: str = DEFAULT_CONTENT_TYPE
    metadata: Mapping[str, str] = field(default_factory=dict)
    digest_name: DigestName
    expected: Digest | None = None
    """What the whole file must have by the word of its begin; of any name, not only `digest_name`."""
    promised: Digest | None = None
    """What it must have by the word of the finish that is under way, or was last; goes before `expected`."""
    record: RecordId | None
    """None for a detached asset, which a record takes over later."""
    asset: AssetKind = AssetKind.ORIGINAL
    adds_to_record: bool = False
    """Whether the record was there before and this upload only adds an asset to it."""
    digest: Digest | None = None
    """The result, once committed."""
    derivatives: bool = True
    """Whether the service makes smaller pictures, when it is an image and comes alone."""
    width: int | None = None
    height: int | None = None
    """Pixels, by the word of the sender, who made the picture."""
    data_url: str | None = None
    """A committed placeholder as a URL."""
    raw_metadata: str | None = None
    """What the client sent as metadata, character by character (of bytes beyond ASCII: as Latin-1)."""
    raw_concat: str | None = None
    """The same of what it said about being made of others, or for others."""

    def attached(self, record: RecordId) -> "UploadDetails":
        """A record takes this detached asset over."""
        assert self.record is None, f"the asset belongs to record {self.record} already"
        return replace(self, record=record, adds_to_record=True)

    @property
    def makes_record(self) -> bool:
        """Whether the record begins, and may end, with this upload."""
        return self.record is not None and not self.adds_to_record


Upload = Session[UploadDetails]
"""A session with what the upload service keeps with it."""


def check_filename(name: str) -> Iterator[FieldProblem]:
    """Yield what is wrong with a file name: one component, no control characters, no separators."""
    if _length(name) > MAX_FILENAME:
        yield FieldProblem("filename", f"must be at most {MAX_FILENAME} bytes of UTF-8")
        return
    if name in {"", ".", ".."}:
        yield FieldProblem("filename", "must not be empty, '.' or '..'")
    if "/" in name or "\\" in name:
        yield FieldProblem("filename", "must not contain '/' or '\\'; folders go into 'path'")
    yield from _check_characters("filename", name)


def check_path(path: str) -> Iterator[FieldProblem]:
    """Yield what is wrong with a record's path: relative, `/`, NFC, no empty, `.` or `..` components."""
    if _length(path) > MAX_PATH:
        yield FieldProblem("path", f"must be at most {MAX_PATH} bytes of UTF-8")
        return
    if path.startswith("/") or "\\" in path:
        yield FieldProblem("path", "must be relative and use '/'")
    if any(part in {"", ".", ".."} for part in path.removeprefix("/").split("/")):
        yield FieldProblem("path", "must not have empty, '.' or '..' components")
    if not unicodedata.is_normalized("NFC", path):
        yield FieldProblem("path", "must be in Unicode normalisation form C")
    yield from _check_characters("path", path)


def _length(text: str) -> int:
    """Return the bytes that `text` takes; it may come from JSON with lone surrogates."""
    return len(text.encode("utf-8", "surrogatepass"))


def _check_characters(field_name: str, text: str) -> Iterator[FieldProblem]:
    if text.isascii() and text.isprintable():
        return
    for character in text:
        if unicodedata.category(character) in _UNSAFE or character in _BIDI:
            yield FieldProblem(field_name, f"must not contain the character U+{ord(character):04X}")
            return


def check_content_type(text: str) -> Iterator[FieldProblem]:
    """Yield what is wrong with a media type."""
    if len(text) > MAX_CONTENT_TYPE or _MEDIA_TYPE.fullmatch(text) is None:
        yield FieldProblem(
            "content_type", f"must be a media type like 'image/png', at most {MAX_CONTENT_TYPE} characters"
        )


def check_metadata(metadata: Mapping[str, str]) -> Iterator[FieldProblem]:
    """Yield what is wrong with free metadata."""
    if not metadata:
        return
    if len(metadata) > MAX_METADATA_KEYS:
        yield FieldProblem("metadata", f"must have at most {MAX_METADATA_KEYS} keys")
    texts = [text for item in metadata.items() for text in item]
    if sum(map(_length, texts)) > MAX_METADATA_BYTES:
        yield FieldProblem("metadata", f"must be at most {MAX_METADATA_BYTES} bytes of UTF-8 in all")
    elif not all(map(is_storable, texts)):
        yield FieldProblem("metadata", "must not contain NUL or lone surrogates")


def check_key(key: str) -> Iterator[FieldProblem]:
    """Yield what is wrong with an idempotency key."""
    if not 1 <= len(key) <= MAX_KEY or not key.isprintable() or not key.isascii():
        yield FieldProblem("Idempotency-Key", f"must be 1 to {MAX_KEY} printable ASCII characters")


def require_valid(problems: Iterator[FieldProblem]) -> None:
    """Raise all problems at once.

    Raises:
        InvalidRequest: there is at least one.
    """
    found = tuple(problems)
    if found:
        raise InvalidRequest(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginUpload:
    """What a front end asks for; `problems` says what is wrong with it."""

    filename: str
    size: int | None
    """Bytes; None while unknown, in mode append only."""
    mode: Mode = Mode.CHUNKS
    capsule: str = "default"
    path: str | None = None
    chunk_size: int | None = None
    content_type: str | None = None
    """None: guessed from the file's name."""
    digest_name: DigestName | None = None
    """None: the expected digest's name, else the service's default."""
    expected: Digest | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    raw_metadata: str | None = None
    """The metadata as it was sent, where a client may ask for it back."""
    concat: Concat = Concat.NONE
    """A partial upload makes no record. A final one has no size of its own."""
    partials: tuple[SessionId, ...] = ()
    """What a final upload is made of, in this order; one may come more than once."""
    raw_concat: str | None = None
    """What says so, as it was sent."""
    record: RecordId | None = None
    """An existing record that gets one more asset."""
    asset: AssetKind = AssetKind.ORIGINAL
    lanes: bool = False
    """Make no record: the asset stays detached until a record takes it."""
    derivatives: bool = True
    """Whether the service may make smaller pictures of it."""
    width: int | None = None
    height: int | None = None
    """Pixels, of a picture whose sender knows them."""
    key: str | None = None
    """Idempotency key."""
    protocol: str = "native"
    ends_by_word: bool = False
    """Mode append: the last byte of a known size does not complete the upload; a final body or a finish does."""
    ttl_s: float | None = None
    """Seconds without activity after which it may expire; clamped to what the capsule allows. None: its default."""

    def problems(self) -> Iterator[FieldProblem]:
        """Yield all that is wrong with the request by itself."""
        yield from check_filename(self.filename)
        if self.path is not None:
            yield from check_path(self.path)
        if self.content_type is not None:
            yield from check_content_type(self.content_type)
        yield from check_metadata(self.metadata)
        if self.key is not None:
            yield from check_key(self.key)
        yield from _check_sizes(self)
        yield from _check_asset(self)
        yield from _check_concat(self)

    def fingerprint(self) -> str:
        """Return a hash that equal requests share, whatever the order of their members, their key, time and way to end."""
        members = asdict(replace(self, key=None))
        for name in ("ttl_s", "ends_by_word"):  # they say nothing about what is uploaded
            del members[name]
        for name, usual in _LATER_MEMBERS.items():
            if members[name] == usual:
                del members[name]  # so that uploads from before there was such a member go on
        text = json.dumps(members, sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


_LATER_MEMBERS: Final = {
    "derivatives": True,
    "width": None,
    "height": None,
    "raw_metadata": None,
    "concat": Concat.NONE,
    "partials": (),
    "raw_concat": None,
}


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _check_sizes(request: BeginUpload) -> Iterator[FieldProblem]:
    if request.size is None and request.mode is Mode.CHUNKS:
        yield FieldProblem("size", "must be given; only mode 'append' may leave it out")
    if request.size is not None and not 0 <= request.size <= MAX_SIZE:
        yield FieldProblem("size", f"must be 0 to {MAX_SIZE} bytes")
    if request.chunk_size is not None and not 0 < request.chunk_size <= MAX_SIZE:
        yield FieldProblem("chunk_size", f"must be 1 to {MAX_SIZE} bytes")
    if request.ttl_s is not None and not request.ttl_s > 0:
        yield FieldProblem("ttl_s", "must be a number of seconds above 0")
    expected = request.expected
    if expected is not None and request.digest_name not in {None, expected.name}:
        yield FieldProblem("digest_name", f"must be {expected.name}, as the digest that is given")


def _check_asset(request: BeginUpload) -> Iterator[FieldProblem]:
    if request.lanes and request.record is not None:
        yield FieldProblem("lanes", "cannot be combined with 'record'")
    if (request.width is None) is not (request.height is None):
        yield FieldProblem("width", "must be given together with 'height', or both left out")
    for name, side in (("width", request.width), ("height", request.height)):
        if side is not None and not 0 < side <= MAX_SIDE:
            yield FieldProblem(name, f"must be 1 to {MAX_SIDE} pixels")
    if request.record is not None and request.asset is AssetKind.ORIGINAL:
        yield FieldProblem("asset", "must be another than 'original', which made the record")
    if request.record is None and not request.lanes and request.asset is not AssetKind.ORIGINAL:
        yield FieldProblem("asset", "needs 'record', the record that gets it, or 'lanes'")


def _check_concat(request: BeginUpload) -> Iterator[FieldProblem]:
    final = request.concat is Concat.FINAL
    if request.concat is not Concat.NONE and (request.mode is not Mode.APPEND or request.key is not None):
        yield FieldProblem("concat", "needs mode 'append', and no idempotency key")
    if final and request.size is not None:
        yield FieldProblem("size", "must not be given: a final upload has the size of its partial ones")
    if final and not 1 <= len(request.partials) <= MAX_PARTIALS:
        yield FieldProblem("partials", f"must be 1 to {MAX_PARTIALS} partial uploads")
    if not final and request.partials:
        yield FieldProblem("partials", "may only be given for a final upload")
