"""What an upload will be, by what was asked for, who asks, and what the capsule takes."""

import mimetypes
from dataclasses import field
from functools import lru_cache
from pathlib import PurePosixPath

from haulier.core.caller import Caller
from haulier.core.capsule import CapsulePolicy
from haulier.core.defaults import DEFAULT_CHUNK, MAX_LIVE_OF_ADDRESS, SESSION_TTL_S
from haulier.core.digest import DigestName
from haulier.core.errors import InvalidRequest, LengthExceeded
from haulier.core.ingestion import PROTOCOL
from haulier.core.session import Concat, LiveLimit, SessionSpec, fit_chunk_size
from haulier.core.upload import (
    DEFAULT_CONTENT_TYPE,
    IMAGE_TYPES,
    BeginUpload,
    UploadDetails,
    require_valid,
)
from haulier.core.values import dataclass
from haulier.engine.context import SessionLimits
from haulier.engine.gate import Admission, UploadGate
from haulier.machine import Identifiers
from haulier.ports import ByteSink, Concatenating


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """Settings of the upload service; sizes in bytes, times in seconds."""

    chunk_size: int = DEFAULT_CHUNK
    ttl_s: float = SESSION_TTL_S
    digest: DigestName = DigestName.SHA_256
    """For uploads that name none."""
    max_live_of_user: int = 100
    """Live uploads of one `user:NAME`; the local owner's are limited by `sessions`."""
    max_live_of_address: int = MAX_LIVE_OF_ADDRESS
    """Live uploads begun from one address, of all owners, where addresses count; 0 is no limit."""
    sessions: SessionLimits = field(default_factory=SessionLimits)


class Planner:
    """Admits what is asked for, and says what becomes of it."""

    def __init__(self, gate: UploadGate, ids: Identifiers, sink: ByteSink, limits: UploadLimits) -> None:
        self._gate = gate
        self._ids = ids
        self._limits = limits
        self._sink = sink

    @property
    def concatenates(self) -> bool:
        """Whether uploads can be put together of others here."""
        return isinstance(self._sink, Concatenating)

    async def admit(self, request: BeginUpload, caller: Caller) -> CapsulePolicy:
        """Return what the capsule takes, for a caller who may begin this there.

        Raises:
            InvalidRequest · LengthExceeded, and what `UploadGate.enter` raises.
        """
        self._require_possible(request)
        return await self._gate.enter(request, caller)

    async def admit_as_known(self, request: BeginUpload, caller: Caller) -> Admission:
        """As `admit`, for what `UploadGate.enter_as_known` is for."""
        self._require_possible(request)
        return await self._gate.enter_as_known(request, caller)

    def _require_possible(self, request: BeginUpload) -> None:
        require_valid(request.problems())
        if request.concat is not Concat.NONE and not self.concatenates:
            raise InvalidRequest.of("concat", "this storage cannot put uploads together")
        self.require_size(request.size)

    def require_size(self, size: int | None) -> None:
        """Raise LengthExceeded for more bytes than the service takes."""
        max_size = self._limits.sessions.max_size
        if size is not None and size > max_size:
            raise LengthExceeded(max_size)

    def live_limit(self, caller: Caller) -> LiveLimit:
        """Return how many live uploads there may be of the caller, and of where the call comes from."""
        limits = self._limits
        of_owner = limits.sessions.max_live if caller.local else limits.max_live_of_user
        if caller.address is None or not limits.max_live_of_address:
            return LiveLimit(of_owner=of_owner)
        address = self._gate.hidden_address(caller.address)
        return LiveLimit(of_owner=of_owner, address=address, of_address=limits.max_live_of_address)

    def plan(
        self, request: BeginUpload, caller: Caller, taken: CapsulePolicy, *, request_hash: str = ""
    ) -> tuple[SessionSpec, UploadDetails]:
        """Return what the session will be.

        Args:
            request: what was asked for.
            caller: who owns it.
            taken: what the capsule takes.
            request_hash: of what was asked for at first, where it may be asked again.

        Raises:
            LengthExceeded · FileEmpty · TypeNotAccepted · InvalidRequest: the capsule does not take it.
        """
        content_type = request.content_type or guess_content_type(request.filename)
        partial = request.concat is Concat.PARTIAL
        if not partial:  # a piece of a file is judged with the file
            if request.size is not None:
                taken.require_size(request.size)
            taken.require_type(content_type)
        expected = request.expected
        spec = SessionSpec(
            scope=request.capsule,
            owner=caller.owner,
            key=request.key,
            request_hash=request_hash,
            mode=request.mode,
            size=request.size,
            chunk_size=fit_chunk_size(request.chunk_size, request.size, default=self._limits.chunk_size),
            ttl_s=self._ttl(request, taken),
            concat=request.concat,
            min_size=0 if partial else taken.min_size,
            max_size=None if partial else taken.max_size,
            ends_by_word=request.ends_by_word,
        )
        adds = request.record is not None
        details = UploadDetails(
            capsule=request.capsule,
            protocol=request.protocol,
            filename=request.filename,
            path=request.path,
            content_type=content_type,
            metadata=dict(request.metadata),
            raw_metadata=request.raw_metadata,
            raw_concat=request.raw_concat,
            digest_name=DigestName.NONE
            if partial
            else taken.choose_digest(
                request.digest_name or (expected.name if expected else None), default=self._limits.digest
            ),
            expected=expected,
            record=None if request.lanes or partial else request.record or self._ids.record_id(),
            asset=request.asset,
            adds_to_record=adds,
            derivatives=request.derivatives,
            width=request.width,
            height=request.height,
        )
        return spec, details

    def _ttl(self, request: BeginUpload, taken: CapsulePolicy) -> float:
        if request.protocol == PROTOCOL and request.ttl_s is not None:
            return request.ttl_s  # nobody can go on with a form, so what a dead one left is over soon
        return taken.fit_ttl(request.ttl_s, default=self._limits.ttl_s)


def guess_content_type(filename: str) -> str:
    """Return the media type that a file name suggests."""
    stem, dot, extensions = filename.partition(".")
    return _type_of("name" + dot + extensions if stem else filename)


@lru_cache(maxsize=1024)
def _type_of(filename: str) -> str:
    # Files come by the thousand, with few extensions.
    known = IMAGE_TYPES.get(PurePosixPath(filename).suffix.lower())
    return known or mimetypes.guess_type(filename, strict=False)[0] or DEFAULT_CONTENT_TYPE
