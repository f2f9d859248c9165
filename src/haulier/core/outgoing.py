"""A file on its way to a remote: what is asked for, the remote's session, what it holds, what became of it.

Rule 1: a session's `state` is the remote's own business and a secret: addresses that need no other credential.
Rule 2: what the remote says that it holds is the truth; what we have sent is not.
Rule 3: a comparison says what it rests on. No digest, or another one than ours, is never taken for equality.
"""

from dataclasses import field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Protocol

from haulier.core.errors import InvalidRequest, PeerCorrupted
from haulier.core.ranges import Ranges
from haulier.core.secret import Secret
from haulier.core.values import dataclass, replace

if TYPE_CHECKING:
    from haulier.core.digest import Buffer

CHUNK_S: Final = 10.0
"""Seconds that a chunk should take: long enough that its request costs nothing, short enough that a cut one
costs little."""
PACE_WEIGHT: Final = 0.3
"""Weight of the newest chunk in the moving average of the speed."""


class IfExists(StrEnum):
    """What is done about a file that has the target's name."""

    REPLACE = "replace"
    FAIL = "fail"
    RENAME = "rename"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One file for one target; the same through all attempts of a transfer."""

    id: str
    """The transfer's; remotes that know idempotency keys use it as one."""
    name: str
    """Where it is to be: segments with `/` between them, none before the first."""
    size: int
    modified_at: float
    """Seconds since the epoch, UTC."""
    intended_at: float
    """When the first attempt was written down: whatever lies about from since then may be ours."""
    if_exists: IfExists = IfExists.REPLACE
    content_type: str | None = None

    @property
    def filename(self) -> str:
        """The last segment of the name."""
        return self.name.rsplit("/", 1)[-1]

    def check_segments(self) -> None:
        """Refuse a name that addresses and folders would take for another. Raises InvalidRequest."""
        if {"", ".", ".."} & set(self.name.split("/")):
            raise InvalidRequest.of("target", f"{self.name!r} must not have empty segments, . or ..")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSession:
    """What a remote has begun for a file; the journal keeps it before the first byte is sent."""

    state: Secret
    """Text that only the remote that made it can read."""
    chunk_size: int | None
    """Chunks are exactly this long but for the last, and go in any order; None: in order, as `ChunkPace` says."""
    commits_itself: bool
    """Whether the request that brings the last byte makes the file, so that it is the point of no return."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """A checksum in the words of a remote: `sha-256` in hex, `quickXorHash` in base64, an `etag`."""

    name: str
    value: str


class Summing(Protocol):
    """Computes the checksum that a remote will tell, over all bytes of a file in order."""

    def update(self, data: "Buffer", /) -> object:
        """Take the next bytes."""

    def checksum(self) -> Checksum:
        """Return the checksum of what was taken."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file as its remote describes it."""

    name: str
    """Another one than was asked for, when it was renamed."""
    id: str | None = None
    """The remote's own: a record, an item, an address."""
    size: int | None = None
    etag: str | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a remote holds of a file."""

    ranges: Ranges = field(default_factory=Ranges)
    stored: Stored | None = None
    """Once the file is there, surely the one of this transfer. Where only its checksum can tell, `ranges` has all, and `commit`
    compares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteLimits:
    """What a remote can take."""

    max_size: int | None
    """Bytes of a file."""
    parallel: int = 1
    """Chunks of one file that may be on their way at once; 1 where they go in order."""
    grid: int = 1
    """Chunks are a multiple of this, but for the last."""
    first_chunk: int = 8 * 1024 * 1024
    """Where an adapting chunk size begins."""
    least_chunk: int = 256 * 1024
    most_chunk: int = 256 * 1024 * 1024
    if_exists: frozenset[IfExists] = frozenset(IfExists)
    """The ways that it knows."""
    folds_case: bool = False
    """Whether names that differ in case alone are one file's there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkPace:
    """How long the next chunk should be, where the remote leaves it to us."""

    limits: RemoteLimits
    size: int
    """Bytes of the next chunk: on the grid, between the limits."""
    speed: float | None = None
    """Bytes per second: a moving average over chunks."""

    @classmethod
    def start(cls, limits: RemoteLimits, size: int | None = None) -> "ChunkPace":
        """Begin with chunks of about that size, as an attempt before had them; None: nothing is known yet.

        That attempt may have gone to a remote of another kind, with another grid.
        """
        return cls(limits=limits, size=_on_grid(limits.first_chunk if size is None else size, limits))

    def took(self, sent: int, seconds: float) -> "ChunkPace":
        """`sent` bytes took that long; the next chunk should take `CHUNK_S`. It grows to the double at most."""
        if seconds <= 0 or sent <= 0:
            return self
        sample = sent / seconds
        speed = sample if self.speed is None else self.speed + PACE_WEIGHT * (sample - self.speed)
        wanted = min(speed * CHUNK_S, 2.0 * self.size)
        return replace(self, size=_on_grid(int(wanted), self.limits), speed=speed)

    def halve(self) -> "ChunkPace":
        """The last chunk took too long for somebody on the way: what was learned of the speed is wrong."""
        return replace(self, size=_on_grid(self.size // 2, self.limits), speed=None)


def _on_grid(size: int, limits: RemoteLimits) -> int:
    bounded = min(max(size, limits.least_chunk), limits.most_chunk)
    return max(limits.grid, bounded // limits.grid * limits.grid)


class VerifyMode(StrEnum):
    """How a file that has been sent is compared with what its remote holds."""

    STRICT = "strict"
    """By checksum where the remote tells one, else by size; a difference is an error."""
    TOLERATE = "tolerate"
    """As strict, but for named extensions, whose files the remote rewrites."""
    SIZE = "size"
    OFF = "off"


class Basis(StrEnum):
    """What a comparison rests on."""

    CHECKSUM = "checksum"
    SIZE = "size"
    NOTHING = "nothing"
    TOLERATED = "tolerated"
    """It differs, and the policy allows that; both checksums are kept."""


@dataclass(frozen=True, slots=True)
class VerifyPolicy:
    """A remote's way of comparing."""

    mode: VerifyMode = VerifyMode.STRICT
    extensions: frozenset[str] = frozenset()
    """Lower case, without a dot; only with `tolerate`."""

    @classmethod
    def parse(cls, text: str) -> "VerifyPolicy":
        """Read `strict`, `size`, `off`, or `tolerate:docx,xlsx`.

        Raises:
            InvalidRequest: it is none of them.
        """
        word, _, rest = text.partition(":")
        extensions = frozenset(part.strip().lower().lstrip(".") for part in rest.split(",") if part.strip())
        if word not in set(VerifyMode) or bool(extensions) != (word == VerifyMode.TOLERATE):
            raise InvalidRequest.of("verify", f"{text!r} must be strict, size, off, or tolerate:docx,xlsx")
        return cls(VerifyMode(word), extensions)

    @property
    def sums(self) -> bool:
        """Whether a checksum is wanted at all."""
        return self.mode in {VerifyMode.STRICT, VerifyMode.TOLERATE}

    def compare(self, outgoing: Outgoing, ours: Checksum | None, theirs: Stored) -> Basis:
        """Compare what was sent with what is stored, and say what the comparison rests on.

        Raises:
            PeerCorrupted: they differ.
        """
        if self.mode is VerifyMode.OFF:
            return Basis.NOTHING
        if theirs.size is not None and theirs.size != outgoing.size:
            return self._differ(outgoing, "its size", str(outgoing.size), str(theirs.size))
        found = theirs.checksum
        if self.sums and ours is not None and found is not None and found.name == ours.name:
            if found.value == ours.value:
                return Basis.CHECKSUM
            return self._differ(outgoing, found.name, ours.value, found.value)
        return Basis.NOTHING if theirs.size is None else Basis.SIZE

    def _differ(self, outgoing: Outgoing, what: str, expected: str, actual: str) -> Basis:
        if PurePosixPath(outgoing.name).suffix.lower().lstrip(".") in self.extensions:
            return Basis.TOLERATED
        raise PeerCorrupted(f"{outgoing.name} ({what})", expected, actual)
