"""`Upload-Checksum`: what says that a body came as it was sent, in a header or in a trailer.

Rule 1: of a body with a checksum nothing counts before it was judged; then all of it, or nothing.
Rule 2: a checksum that was announced and never came is a refusal, not a body without one.

Source: "Checksum", https://tus.io/protocols/resumable-upload, version 1.0.0.
"""

import base64
import binascii
import hashlib
import hmac
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from starlette.types import Scope

from haulier.core.digest import Buffer, Hasher
from haulier.core.errors import DigestMismatch, InvalidRequest
from haulier.core.values import dataclass
from haulier.engine.body_checks import BodyCheck, Scan
from haulier.server.addresses import fields_of, joined
from haulier.server.http.asgi import TRAILERS_EXTENSION, announced_length

FIELD: Final = "Upload-Checksum"


class _Crc32:
    """CRC-32 as zlib has it, four bytes in network order."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_HASHERS: Final[Mapping[str, Callable[[], Hasher]]] = {
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "crc32": _Crc32,
}
ALGORITHMS: Final = tuple(_HASHERS)
"""In the words of `Tus-Checksum-Algorithm`; sha1 MUST be among them."""
_LENGTHS: Final = {name: len(make().digest()) for name, make in _HASHERS.items()}


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a body must have."""

    algorithm: str
    value: bytes

    async def verify(self, scan: Scan) -> None:
        """Compare with what the bytes have. Raises DigestMismatch."""
        hasher = _HASHERS[self.algorithm]()

        def see(piece: Buffer) -> None:
            hasher.update(piece)

        await scan(see)
        actual = hasher.digest()
        if not hmac.compare_digest(self.value, actual):
            raise DigestMismatch(self.algorithm, self.value.hex(), actual.hex())


def read_checksum(text: str) -> Checksum:
    """Read the field: the name of an algorithm, a space, and the checksum in base64.

    Raises:
        InvalidRequest: it is something else, or an algorithm that we do not know.
    """
    algorithm, _, encoded = text.strip(" \t").partition(" ")
    if algorithm not in _HASHERS:
        raise InvalidRequest.of(FIELD, f"must begin with one of {', '.join(ALGORITHMS)}")
    try:
        value = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        value = b""
    if len(value) != _LENGTHS[algorithm]:
        raise InvalidRequest.of(FIELD, f"must have the {_LENGTHS[algorithm]} bytes of {algorithm} in base64")
    return Checksum(algorithm, value)


class ChecksumCheck:
    """Judges one body by what came with it; see `BodyCheck`."""

    strict = True

    def __init__(self, given: Checksum | None, trailers: Iterable[tuple[bytes, bytes]] | None) -> None:
        """`given`: by the header. `trailers`: those that one is announced in; complete when the body is."""
        self._given = given
        self._trailers = trailers

    def update(self, piece: Buffer) -> None:
        """Nothing yet: of a trailer nobody knows the algorithm, and hashing has no place on the event loop."""

    async def verify(self, scan: Scan) -> None:
        """Judge the whole body. Raises DigestMismatch and InvalidRequest."""
        if self._given is not None:
            await self._given.verify(scan)
        if self._trailers is not None:
            await _read_trailer(self._trailers).verify(scan)


def _read_trailer(trailers: Iterable[tuple[bytes, bytes]]) -> Checksum:
    name = FIELD.lower().encode("ascii")
    values = [value for field, value in trailers if field.lower() == name]
    if len(values) != 1:
        found = "came more than once" if values else "never came"
        raise InvalidRequest.of(FIELD, f"was announced as a trailer, and {found}")
    return read_checksum(values[0].decode("latin-1"))


def reads_trailers(scope: Scope) -> bool:
    """Whether the server below tells trailers apart from headers, so that one can be believed."""
    return TRAILERS_EXTENSION in scope.get("extensions", {})


def check_of(scope: Scope) -> BodyCheck | None:
    """Return what the request's body has to be judged by.

    Raises:
        InvalidRequest: a checksum that cannot be read, or a trailer that cannot come.
    """
    fields = fields_of(scope)
    if b"upload-checksum" not in fields and b"trailer" not in fields:
        return None
    text = joined(fields, b"upload-checksum")
    given = None if text is None else read_checksum(text)
    announced = (joined(fields, b"trailer") or "").lower().split(",")
    if FIELD.lower() not in map(str.strip, announced):
        return None if given is None else ChecksumCheck(given, None)
    if announced_length(scope) is not None:
        raise InvalidRequest.of(FIELD, "can be a trailer of a chunked body only")
    if not reads_trailers(scope):
        raise InvalidRequest.of(FIELD, "cannot be a trailer here; send it as a header")
    return ChecksumCheck(given, scope["extensions"][TRAILERS_EXTENSION])
