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
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import google_crc32c
from blake3 import blake3

from haulier.core.errors import DigestMalformed, DigestMismatch

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
        return DigestName(text.lower())
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
_MEMBER: Final = re.compile(r"[ \t]*([a-z*][a-z0-9_.*-]*)[ \t]*=[ \t]*:([A-Za-z0-9+/=]*):[ \t]*", re.ASCII)
_WANT: Final = re.compile(r"[ \t]*([a-z*][a-z0-9_.*-]*)[ \t]*=[ \t]*([0-9]{1,2})[ \t]*", re.ASCII)


def parse_digest_field(field: str, text: str) -> tuple[Digest, ...]:
    """Read `Content-Digest` or `Repr-Digest`; unknown algorithms are left out.

    Source: RFC 9530 sections 2 and 3; a Dictionary of Byte Sequences (RFC 9651).

    Raises:
        DigestMalformed: not such a dictionary, or a value that is not of its algorithm's length.
    """
    digests: dict[DigestName, Digest] = {}
    for name, value in _members(field, text, _MEMBER):
        known = _BY_NAME.get(name)
        if known is None:
            continue
        try:
            raw = base64.b64decode(value, validate=True)
        except binascii.Error:
            raise DigestMalformed(field, f"the value of {name} is not base64") from None
        if len(raw) != _LENGTHS[known]:
            raise DigestMalformed(field, f"{name} must be {_LENGTHS[known]} bytes, not {len(raw)}")
        digests[known] = Digest(known, raw)
    return tuple(digests.values())


def parse_want_digest(field: str, text: str) -> tuple[DigestName, ...]:
    """Read `Want-Repr-Digest`: the digests we know, most wanted first; 0 means not wanted.

    Source: RFC 9530 section 4.

    Raises:
        DigestMalformed: not a Dictionary of Integers from 0 to 10.
    """
    wanted: dict[DigestName, int] = {}
    for name, value in _members(field, text, _WANT):
        if int(value) > MAX_PREFERENCE:
            raise DigestMalformed(field, f"the preference of {name} must be 0 to {MAX_PREFERENCE}")
        if name in _BY_NAME:
            wanted[_BY_NAME[name]] = int(value)
    return tuple(sorted((n for n, weight in wanted.items() if weight), key=lambda n: -wanted[n]))


def format_digest_field(digest: Digest) -> str:
    """Return the digest as one member of a digest field."""
    return f"{digest.name}=:{base64.b64encode(digest.value).decode('ascii')}:"


def _members(field: str, text: str, pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    if len(text) > MAX_FIELD:
        raise DigestMalformed(field, f"longer than {MAX_FIELD} characters")
    found = []
    for member in text.split(","):
        match = pattern.fullmatch(member)
        if match is None:
            raise DigestMalformed(field, f"{member.strip()[:80]!r} is not a member of a digest dictionary")
        found.append((match[1], match[2]))
    return found
