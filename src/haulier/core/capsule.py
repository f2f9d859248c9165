"""Capsules: separate named spaces, who owns them, what they take and how much of it.

Rule 1: a policy is a frozen value; operators change it by `key=value`, and every refusal names the key and the cure.
Rule 2: what a key does not say is as if there were no policy: nothing is limited by accident.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from haulier.core.caller import Role, read_principal
from haulier.core.digest import DigestName
from haulier.core.errors import (
    FieldProblem,
    FileEmpty,
    InvalidRequest,
    LengthExceeded,
    QuotaExceeded,
    TypeNotAccepted,
)
from haulier.core.upload import MAX_SIZE
from haulier.core.values import dataclass, replace

MAX_NAME: Final = 64
"""Characters of a capsule's name. Precedent: S3's bucket names have 63."""
MAX_TYPES: Final = 100
"""Patterns in one policy; each begin is compared with all of them."""
MAX_FORWARD: Final = 4096
"""Characters; a remote and a path on it, which may be as long as any path."""
MIN_TTL_S: Final = 1.0
MAX_TTL_S: Final = 365 * 24 * 3600.0
"""A year: what `HAULIER_SESSION_TTL_S` takes at most, too."""

_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")
_SIZE: Final = re.compile(r"([0-9]{1,19})(b|kb|mb|gb|tb|kib|mib|gib|tib)?", re.IGNORECASE)
_UNITS: Final = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_TIME: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd])?", re.IGNORECASE)
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TYPE: Final = re.compile(r"(?:\*|[a-z0-9][a-z0-9!#$&^_.+-]{0,126})/(?:\*|[a-z0-9][a-z0-9!#$&^_.+-]{0,126})")


@dataclass(frozen=True, slots=True, kw_only=True)
class CapsulePolicy:
    """What a capsule takes. Sizes are bytes, times seconds; empty tuples and None mean no limit."""

    min_size: int = 0
    max_size: int | None = None
    types: tuple[str, ...] = ()
    """Media types, `*` on either side of the slash matches all."""
    ttl: float | None = None
    """Seconds without activity after which an upload expires; None: the service's setting."""
    min_ttl: float | None = None
    max_ttl: float | None = None
    """Between these a client may ask for another time."""
    digests: tuple[DigestName, ...] = ()
    digest: DigestName | None = None
    """For uploads that name none; None: the service's setting."""
    admits_users: bool = False
    """Whether everybody with a token may put things in, and then sees those, without a grant."""
    admits_visitors: bool = False
    """The same for visitors."""
    valid_images: bool = False
    """Whether an image that no smaller pictures can be made of fails, instead of being kept without them."""
    forward: str | None = None
    """`REMOTE:PATH` that each completed record goes on to."""

    def require_size(self, size: int) -> None:
        """Raise what is wrong with the size of a file.

        Raises:
            LengthExceeded · FileEmpty
            InvalidRequest: it is too small.
        """
        if self.max_size is not None and size > self.max_size:
            raise LengthExceeded(self.max_size)
        if size == 0 < self.min_size:
            raise FileEmpty(self.min_size)
        if size < self.min_size:
            raise InvalidRequest.of(
                "size", f"must be at least {self.min_size} bytes, as the capsule wants it"
            )

    def require_type(self, content_type: str) -> None:
        """Raise TypeNotAccepted when the capsule does not take this media type."""
        essence = content_type.partition(";")[0].strip().lower()
        if self.types and not any(_matches(essence, pattern) for pattern in self.types):
            raise TypeNotAccepted(accepted=self.types, provided=essence)

    def choose_digest(self, asked: DigestName | None, *, default: DigestName) -> DigestName:
        """Return the digest of a new upload.

        Args:
            asked: what the client named, if anything.
            default: the service's own.

        Raises:
            InvalidRequest: the capsule does not allow it.
        """
        if not self.digests or asked in self.digests:
            return asked or self.digest or default
        if asked is not None:
            raise InvalidRequest.of(
                "digest_name", f"must be one of {', '.join(self.digests)}, which the capsule allows"
            )
        if self.digest is not None:
            return self.digest
        return default if default in self.digests else self.digests[0]

    def fit_ttl(self, asked: float | None, *, default: float) -> float:
        """Return a new upload's time to live, in seconds; what a client asks for is clamped to what is allowed."""
        usual = self.ttl if self.ttl is not None else default
        least = self.min_ttl if self.min_ttl is not None else min(usual, self.max_ttl or usual)
        most = self.max_ttl if self.max_ttl is not None else max(usual, least)
        return min(max(usual if asked is None else asked, least), most)

    def document(self) -> dict[str, Any]:
        """Return what is set, as JSON can hold it; `CapsulePolicy.of` reads it back."""
        values = {key: getattr(self, key) for key in KEYS if getattr(self, key) != getattr(NO_POLICY, key)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "CapsulePolicy":
        """Return what `document` made."""
        values: dict[str, Any] = dict(document)
        if "types" in values:
            values["types"] = tuple(values["types"])
        if "digests" in values:
            values["digests"] = tuple(map(DigestName, values["digests"]))
        if "digest" in values:
            values["digest"] = DigestName(values["digest"])
        return cls(**values)

    def problems(self) -> Iterator[FieldProblem]:
        """Yield where the keys contradict each other."""
        if self.max_size is not None and self.min_size > self.max_size:
            yield FieldProblem("min_size", f"must not be above max_size, which is {self.max_size}")
        if self.min_ttl is not None and self.max_ttl is not None and self.min_ttl > self.max_ttl:
            yield FieldProblem("min_ttl", f"must not be above max_ttl, which is {self.max_ttl:g} seconds")
        if self.ttl is not None and not (self.min_ttl or 0) <= self.ttl <= (self.max_ttl or MAX_TTL_S):
            yield FieldProblem("ttl", "must lie between min_ttl and max_ttl")
        if self.digest is not None and self.digests and self.digest not in self.digests:
            yield FieldProblem("digest", f"must be one of digests, which are {', '.join(self.digests)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capsule:
    """A separate named space with its owner, its policy, and what it holds; bytes throughout."""

    name: str
    owner: str
    """`user:NAME`, or `local` for what open mode made."""
    policy: CapsulePolicy = CapsulePolicy()
    quota: int | None = None
    """None: no limit. May be below what is used already: then nothing new goes in."""
    used: int = 0
    reserved: int = 0
    """Of uploads under way."""

    def role_of(self, principal: str, granted: Role | None) -> Role | None:
        """Return what a principal is here: its owner, or what was granted."""
        return Role.OWNER if principal == self.owner else granted

    def require_room(self, size: int) -> None:
        """Raise QuotaExceeded when what is stored would pass the quota with `size` bytes more."""
        if self.quota is not None and self.used + size > self.quota:
            raise QuotaExceeded("bytes", self.quota, "capsule")

    def set(self, changes: Mapping[str, str]) -> "Capsule":
        """Return the capsule with settings changed, by their keys; an empty text takes a setting back.

        Raises:
            InvalidRequest: unknown keys, values that cannot be read, settings that contradict each other.
        """
        policy, problems = dict[str, Any](), list[FieldProblem]()
        changed = self
        for key, text in changes.items():
            try:
                if key == "owner":
                    changed = replace(changed, owner=read_principal(text, field=key))
                elif key == "quota":
                    changed = replace(changed, quota=_read_size(key, text) if text else None)
                else:
                    policy[key] = _read_setting(key, text)
            except InvalidRequest as error:
                problems += error.errors
        if problems:
            raise InvalidRequest(tuple(problems))
        merged = replace(self.policy, **policy)
        if contradictions := tuple(merged.problems()):
            raise InvalidRequest(contradictions)
        return replace(changed, policy=merged)


NO_POLICY: Final = CapsulePolicy()


def check_capsule_name(name: str, *, field: str = "name") -> Iterator[FieldProblem]:
    """Yield what is wrong with the name of a new capsule."""
    if _NAME.fullmatch(name) is None:
        yield FieldProblem(
            field,
            f"must be 1 to {MAX_NAME} ASCII letters, digits and ._- and begin with a letter or a digit",
        )


def read_changes(texts: Sequence[str]) -> dict[str, str]:
    """Split `key=value` texts; a key that is given twice has its last value.

    Raises:
        InvalidRequest: one has no `=`.
    """
    pairs = [text.partition("=") for text in texts]
    problems = tuple(
        FieldProblem(key, "must be written key=value") for key, equals, _ in pairs if not (equals and key)
    )
    if problems:
        raise InvalidRequest(problems)
    return {key: value for key, _, value in pairs}


def _matches(essence: str, pattern: str) -> bool:
    kind, _, subtype = pattern.partition("/")
    given_kind, _, given_subtype = essence.partition("/")
    return kind in {"*", given_kind} and subtype in {"*", given_subtype}


def _read_setting(key: str, text: str) -> Any:
    if key not in KEYS:
        near = difflib.get_close_matches(key, ALL_KEYS, n=1)
        cure = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(ALL_KEYS)}"
        raise InvalidRequest.of(key, f"there is no such key; {cure}")
    return KEYS[key](key, text) if text else getattr(NO_POLICY, key)


def _read_size(key: str, text: str) -> int:
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * _UNITS[(match[2] or "b").lower()] if match else -1
    if not 0 <= size <= MAX_SIZE:
        raise InvalidRequest.of(key, f"must be a size like 500000, 10MB or 5GiB, up to {MAX_SIZE} bytes")
    return size


def read_time(key: str, text: str) -> float:
    """Return the seconds that a text like 90, 15m, 24h or 7d says; `key` names it in the error.

    Raises:
        InvalidRequest
    """
    match = _TIME.fullmatch(text)
    seconds = float(match[1]) * _SECONDS[(match[2] or "s").lower()] if match else -1.0
    if not MIN_TTL_S <= seconds <= MAX_TTL_S:
        raise InvalidRequest.of(key, "must be a time like 90, 15m, 24h or 7d, from a second to a year")
    return seconds


def _read_types(key: str, text: str) -> tuple[str, ...]:
    patterns = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    if len(patterns) > MAX_TYPES or not all(map(_TYPE.fullmatch, patterns)):
        raise InvalidRequest.of(
            key, f"must be up to {MAX_TYPES} media types like image/*,application/pdf, with commas between"
        )
    return patterns


def _read_digests(key: str, text: str) -> tuple[DigestName, ...]:
    return tuple(dict.fromkeys(_read_digest(key, part.strip()) for part in text.split(",")))


def _read_digest(key: str, text: str) -> DigestName:
    try:
        return DigestName(text.lower())
    except ValueError:
        raise InvalidRequest.of(key, f"{text!r} is none of {', '.join(DigestName)}") from None


def _read_switch(key: str, text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise InvalidRequest.of(key, "must be true or false")
    return text.lower() == "true"


def _read_forward(key: str, text: str) -> str:
    remote, colon, _ = text.partition(":")
    if not (remote and colon) or len(text) > MAX_FORWARD or not text.isprintable():
        raise InvalidRequest.of(key, f"must be REMOTE:PATH, at most {MAX_FORWARD} characters")
    return text


KEYS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "min_size": _read_size,
    "max_size": _read_size,
    "types": _read_types,
    "ttl": read_time,
    "min_ttl": read_time,
    "max_ttl": read_time,
    "digests": _read_digests,
    "digest": _read_digest,
    "admits_users": _read_switch,
    "admits_visitors": _read_switch,
    "valid_images": _read_switch,
    "forward": _read_forward,
}
"""How the value of each of a policy's keys is read; each names the attribute, too."""
ALL_KEYS: Final = ("quota", "owner", *KEYS)
"""What can be set on a capsule."""
