"""Digest names, the in-order digest of a file with its frontier, and the RFC 9530 fields.

Rule 1: bytes reach a digest in file order and once; what lies beyond a gap waits on disk.
Rule 2: comparing digests takes the same time wherever they differ.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, Protocol

import google_crc32c
from blake3 import blake3

from haulier.core.errors import DigestMalformed, DigestMismatch
from haulier.core.values import dataclass

Buffer = bytes | bytearray | memoryview
"""What hashes and sinks take: bytes that the callee must not keep."""


class DigestName(StrEnum):
    """Names as RFC 9530 registers them, and `blake3`; `none` switches whole-file hashing off."""

    SHA_256 = "sha-256"
    SHA_512 = "sha-512"
    BLAKE3 = "blake3"
    CRC32C = "crc32c"
    MD5 = "md5"
    NONE = "none"


class Hasher(Protocol):
    """The common part of hashlib, blake3 and google_crc32c."""

    def update(self, data: Buffer, /) -> object:
        """Take the next bytes."""

    def digest(self) -> bytes:
        """Return the digest of what was taken."""
        ...


class _Crc32c:
    """google_crc32c's checksum, which takes `bytes` only."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = google_crc32c.extend(self._value, bytes(data))

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_HASHERS: Final[Mapping[DigestName, Callable[[], Hasher]]] = {
    DigestName.SHA_256: hashlib.sha256,
    DigestName.SHA_512: hashlib.sha512,
    DigestName.BLAKE3: blake3,
    DigestName.CRC32C: _Crc32c,
    DigestName.MD5: lambda: hashlib.md5(usedforsecurity=False),
}
_LENGTHS: Final = {name: len(make().digest()) for name, make in _HASHERS.items()}
_BY_NAME: Final[Mapping[str, DigestName]] = {name.value: name for name in _HASHERS}
"""The digests that have a value; `none` has not."""


def new_hasher(name: DigestName) -> Hasher:
    """Return a fresh hash; `none` has none and is a programming mistake here."""
    return _HASHERS[name]()


def parse_digest_name(text: str, *, field: str) -> DigestName:
    """Return the digest of that name.

    Raises:
        DigestMalformed: we do not know it.
    """
    try:
        # Only ASCII has the upper case that is meant: the Kelvin sign's lower case is a "k", too.
        return DigestName(text.lower() if text.isascii() else text)
    except ValueError:
        known = ", ".join(DigestName)
        raise DigestMalformed(field, f"{text[:64]!r} is not one of {known}") from None


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest with its name; `value` is raw bytes of the name's length."""

    name: DigestName
    value: bytes

    @classmethod
    def from_hex(cls, name: DigestName, text: str, *, field: str) -> "Digest":
        """Read lower or upper case hex.

        Raises:
            DigestMalformed: not hex, or not the length of this digest.
        """
        expected = _LENGTHS.get(name)
        if expected is None:
            raise DigestMalformed(field, f"a digest named {name} has no value")
        if len(text) != 2 * expected or re.fullmatch(r"[0-9A-Fa-f]*", text) is None:
            raise DigestMalformed(field, f"{name} must be {2 * expected} hexadecimal digits")
        return cls(name, bytes.fromhex(text))

    @property
    def hex(self) -> str:
        """Lower case hex."""
        return self.value.hex()

    def require(self, actual: bytes) -> None:
        """Compare with what was computed.

        Raises:
            DigestMismatch: they differ.
        """
        if not hmac.compare_digest(self.value, actual):
            raise DigestMismatch(self.name, self.hex, actual.hex())


class OrderedDigest:
    """The digest of a file's bytes from 0 to `frontier`.

    Not thread-safe: one thread at a time may call `update`.
    """

    def __init__(self, name: DigestName) -> None:
        self.name = name
        self.frontier = 0
        self._hasher = new_hasher(name)

    def update(self, offset: int, piece: Buffer) -> None:
        """Take the bytes at `offset`, which must be the frontier."""
        if offset != self.frontier:
            message = f"digest is at {self.frontier}, not at {offset}"
            raise AssertionError(message)
        self._hasher.update(piece)
        self.frontier += len(piece)

    def value(self) -> Digest:
        """Return the digest of all bytes up to the frontier."""
        return Digest(self.name, self._hasher.digest())


MAX_FIELD: Final = 4096
"""Longest digest field that is read; a SHA-512 item takes about 100 characters."""
MAX_PREFERENCE: Final = 10
"""The RFC's own upper bound of a preference."""

# RFC 9651 section 3. Parameters may have values of every type; a quoted one may hold commas, so members
# cannot be told apart by splitting. Repeats are possessive (`*+`): there is one way to match.
_KEY: Final = r"[a-z*][a-z0-9_.*-]*+"
_BARE_ITEM: Final = (
    r"(?:"
    r":[A-Za-z0-9+/=]*:"  # Byte Sequence
    r'|"(?:[ !#-\[\]-~]|\\["\\])*+"'  # String
    r'|%"(?:[ !#$&-~]|%[0-9a-f]{2})*+"'  # Display String
    r"|-?[0-9]{1,12}\.[0-9]{1,3}|@?-?[0-9]{1,15}"  # Decimal, Date, Integer
    r"|\?[01]"  # Boolean
    r"|[A-Za-z*][A-Za-z0-9:/!#$%&'*+.^_`|~-]*+"  # Token
    r")"
)
_PARAMETERS: Final = rf"(?:; *+{_KEY}(?:={_BARE_ITEM})?)*+"
# A comma promises another member; after the last one there is none.
_END: Final = r"[ \t]*+(?:,[ \t]*+(?!\Z)|\Z)"
_DIGEST_MEMBER: Final = re.compile(rf"({_KEY})=:([A-Za-z0-9+/=]*):{_PARAMETERS}{_END}")
_WANT_MEMBER: Final = re.compile(rf"({_KEY})=(-?[0-9]{{1,15}}){_PARAMETERS}{_END}")


def parse_digest_field(field: str, text: str) -> tuple[Digest, ...]:
    """Read `Content-Digest` or `Repr-Digest`; unknown algorithms and parameters are left out.

    Of several members of one name the last one counts. An empty field has no digests.

    Source: RFC 9530 sections 2 and 3; a Dictionary of Byte Sequences (RFC 9651 section 4.2.2).

    Raises:
        DigestMalformed: not such a dictionary, or a value that is not of its algorithm's length.
    """
    members = _read_members(field, text, _DIGEST_MEMBER)
    return tuple(
        Digest(_BY_NAME[name], _decode_value(field, _BY_NAME[name], value))
        for name, value in members.items()
        if name in _BY_NAME
    )


def parse_want_digest(field: str, text: str) -> tuple[DigestName, ...]:
    """Read `Want-Repr-Digest`: the digests we know, most wanted first; 0 means not wanted.

    Source: RFC 9530 section 4.

    Raises:
        DigestMalformed: not a Dictionary of Integers from 0 to 10.
    """
    wanted: dict[DigestName, int] = {}
    for name, value in _read_members(field, text, _WANT_MEMBER).items():
        preference = int(value)
        if not 0 <= preference <= MAX_PREFERENCE:
            raise DigestMalformed(field, f"the preference of {name[:64]} must be 0 to {MAX_PREFERENCE}")
        if name in _BY_NAME and preference:
            wanted[_BY_NAME[name]] = preference
    return tuple(sorted(wanted, key=lambda name: -wanted[name]))


def format_digest_field(digest: Digest) -> str:
    """Return the digest as one member of a digest field."""
    return f"{digest.name}=:{base64.b64encode(digest.value).decode('ascii')}:"


def _read_members(field: str, text: str, pattern: re.Pattern[str]) -> dict[str, str]:
    if len(text) > MAX_FIELD:
        raise DigestMalformed(field, f"longer than {MAX_FIELD} characters")
    text = text.strip(" \t")
    members: dict[str, str] = {}
    position = 0
    while position < len(text):
        member = pattern.match(text, position)
        if member is None:
            shown = text[position : position + 80]
            raise DigestMalformed(field, f"{shown!r} does not begin with a member of a digest dictionary")
        members[member[1]] = member[2]
        position = member.end()
    return members


def _decode_value(field: str, name: DigestName, value: str) -> bytes:
    # RFC 9651 section 4.2.7: a reader should not fail because the padding is missing.
    bare = value.rstrip("=")
    padded = bare + "=" * (-len(bare) % 4)
    try:
        raw = base64.b64decode(padded if value == bare else value, validate=True)
    except binascii.Error:
        raise DigestMalformed(field, f"the value of {name} is not base64") from None
    if len(raw) != _LENGTHS[name]:
        raise DigestMalformed(field, f"{name} must be {_LENGTHS[name]} bytes, not {len(raw)}")
    return raw
