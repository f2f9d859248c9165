"""What makes records out of committed uploads: the request, and what is remembered of it.

Rule 1: a record has exactly one original, and at most one asset of each other kind.
Rule 2: an upload becomes the asset of one record only; its kind is what it was begun as, never what is asked later.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Final

from haulier.core.errors import FieldProblem
from haulier.core.record import AssetKind, RecordId
from haulier.core.session import SessionId
from haulier.core.upload import check_key
from haulier.core.values import dataclass

MAX_RECORDS: Final = 1000
"""Records of one finalisation, which is one transaction that other writers wait for. Precedent: what a form may
have of file parts in PHP, Django and Starlette is 20 to 1000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetSource:
    """Which committed upload becomes which asset."""

    kind: AssetKind
    upload: SessionId
    width: int | None = None
    height: int | None = None
    """Pixels, where the upload's begin could not tell them yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalisation:
    """What a front end asks for: one record for each group of uploads; `problems` says what is wrong with it."""

    capsule: str
    records: tuple[tuple[AssetSource, ...], ...]
    key: str | None = None
    """Idempotency key."""

    def problems(self) -> Iterator[FieldProblem]:
        """Yield all that is wrong with the request by itself."""
        if self.key is not None:
            yield from check_key(self.key)
        if not 1 <= len(self.records) <= MAX_RECORDS:
            yield FieldProblem("records", f"must be 1 to {MAX_RECORDS}")
        for sources in self.records:
            yield from _check_kinds(sources)
        uploads = Counter(source.upload for sources in self.records for source in sources)
        for upload, uses in uploads.items():
            if uses > 1:
                yield FieldProblem("assets", f"must name each upload once, and {upload!r} only once")

    def fingerprint(self) -> str:
        """Return a hash that equal requests share, whatever the order of a record's assets and their key."""
        members = [
            self.capsule,
            [sorted([source.kind.value, source.upload] for source in sources) for sources in self.records],
        ]
        return hashlib.sha256(json.dumps(members).encode()).hexdigest()


def _check_kinds(sources: tuple[AssetSource, ...]) -> Iterator[FieldProblem]:
    kinds = Counter(source.kind for source in sources)
    if kinds[AssetKind.ORIGINAL] == 0:
        yield FieldProblem("assets", "must have an 'original'; the others can be added to a record later")
    if any((source.width is None) is not (source.height is None) for source in sources):
        yield FieldProblem("assets", "must have 'width' and 'height' together, or neither")
    for kind, count in kinds.items():
        if count > 1:
            yield FieldProblem("assets", f"must have one {kind.value!r} only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalised:
    """What was made under an idempotency key, in the order in which it was asked for."""

    capsule: str
    owner: str
    key: str
    request_hash: str
    records: tuple[RecordId, ...]
    created_at: float
