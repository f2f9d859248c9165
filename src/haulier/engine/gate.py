"""In front of every call on an upload: is it there for this caller, and may it be moved?

Rule 1: what a caller may not know of does not exist; what it may know of but not do is denied.
Rule 2: rights are read with the row they are about, in one transaction, at every call. But a short file is let in by what was
        found before, and judged when it is kept: if anything has changed, it is not kept, and comes in as any other.
"""

import base64
import hashlib
import hmac
from functools import partial
from typing import Final

from haulier.core.access import Rights
from haulier.core.caller import Caller, Scope
from haulier.core.capsule import CapsulePolicy
from haulier.core.errors import (
    AccessDenied,
    CapsuleNotFound,
    InvalidRequest,
    RecordNotFound,
    Unauthenticated,
    UploadNotFound,
)
from haulier.core.session import SessionId, SessionStatus
from haulier.core.upload import BeginUpload, Upload, UploadDetails
from haulier.core.values import dataclass, replace
from haulier.ports import AccessPolicy, Transaction, UnitOfWork

KNOWN: Final = 1024
"""Admissions that are remembered; each is a few hundred bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Admission:
    """That a caller may begin files in a capsule, and what that takes, as it was when somebody looked.

    Two looks are two admissions, whatever they found: files are gathered by one, and it is one that is forgotten.
    """

    caller: Caller
    """Without the address of whoever asked first."""
    capsule: str
    policy: CapsulePolicy

    def holds(self, rights: Rights) -> bool:
        """Whether these, read now, say the same."""
        return rights.begins and rights.capsule.policy == self.policy


class UploadGate:
    """Access to uploads."""

    def __init__(self, work: UnitOfWork[UploadDetails], access: AccessPolicy, secret: bytes) -> None:
        self._work = work
        self._access = access
        self._secret = secret
        self._admissions: dict[tuple[Caller, str], Admission] = {}

    async def enter_as_known(self, request: BeginUpload, caller: Caller) -> Admission:
        """As `enter`, or by what was found before: whoever keeps a file by it asks whether it still `holds`.

        Many short files come at once, and most of them ask the same.
        """
        assert request.record is None, "whether a record may get an asset is not kept for others"
        key = (caller, request.capsule)
        admission = self._admissions.get(key)
        if admission is None:
            policy = await self.enter(request, caller)
            admission = Admission(replace(caller, address=None), request.capsule, policy)
            if len(self._admissions) >= KNOWN:
                self._admissions.clear()
            self._admissions[key] = admission
        return admission

    def forget(self, admission: Admission) -> None:
        """Look again for the next one; harmless when repeated."""
        key = (admission.caller, admission.capsule)
        if self._admissions.get(key) is admission:
            del self._admissions[key]

    async def enter(self, request: BeginUpload, caller: Caller) -> CapsulePolicy:
        """Return what the capsule takes, for a caller who may begin an upload there.

        Raises:
            CapsuleNotFound · AccessDenied
            RecordNotFound · InvalidRequest: the record that shall get an asset cannot.
        """
        return await self._work.read(partial(self._enter, request, caller))

    async def _enter(
        self, request: BeginUpload, caller: Caller, tx: Transaction[UploadDetails]
    ) -> CapsulePolicy:
        rights = require_known(await self._access.rights(tx, caller, request.capsule), request.capsule)
        if not rights.begins:
            raise AccessDenied(f"begin uploads in capsule {request.capsule!r}")
        if request.record is not None:
            await self._require_target(request, rights, tx)
        return rights.capsule.policy

    async def _require_target(
        self, request: BeginUpload, rights: Rights, tx: Transaction[UploadDetails]
    ) -> None:
        """Check early that a record can take one more asset; the commit's own statement decides."""
        assert request.record is not None
        record = await tx.records.load(request.record)
        if record is None or record.deleted_at is not None or not rights.reads(record.owner):
            raise RecordNotFound(request.record)
        if record.capsule != request.capsule:
            raise InvalidRequest.of("record", "is in another capsule")
        if not rights.removes(record.owner):
            raise AccessDenied(f"add to record {request.record!r}")
        if record.asset(request.asset) is not None:
            raise InvalidRequest.of("asset", f"the record has its {request.asset} already")

    async def known(self, upload_id: SessionId, caller: Caller) -> Upload:
        """Return the upload without the chunks it has received.

        Raises:
            UploadNotFound: there is none that the caller may know of.
        """
        upload, _ = await self._work.read(partial(self._look, upload_id, caller))
        return upload

    async def movable(self, upload_id: SessionId, caller: Caller) -> Upload:
        """As `known`, for a caller who may go on with it, finish or abort it.

        Raises:
            UploadNotFound · AccessDenied
        """
        upload, rights = await self._work.read(partial(self._look, upload_id, caller))
        if not rights.moves(upload.spec.owner):
            raise AccessDenied(f"change uploads in capsule {upload.details.capsule!r}")
        return upload

    async def movable_if_open(self, upload_id: SessionId, caller: Caller) -> Upload:
        """As `movable` for an open upload, which looking will disturb; as `known` for any other."""
        upload = await self.known(upload_id, caller)
        return await self.movable(upload_id, caller) if upload.status is SessionStatus.OPEN else upload

    async def _look(
        self, upload_id: SessionId, caller: Caller, tx: Transaction[UploadDetails]
    ) -> tuple[Upload, Rights]:
        upload = await tx.sessions.peek(upload_id)
        if upload is None:
            raise UploadNotFound(upload_id)
        rights = await self._access.rights(tx, caller, upload.details.capsule)
        if rights is None or not rights.sees(upload.id, upload.spec.owner):
            raise UploadNotFound(upload_id)
        return upload, rights

    async def require_account(self, capsule: str | None, caller: Caller) -> None:
        """Check that a caller may ask for its own uploads there, or in all capsules.

        Raises:
            CapsuleNotFound
            AccessDenied: the credential is for one upload, or for one other capsule.
        """
        if caller.upload is not None or (capsule is None and caller.capsule is not None):
            raise AccessDenied("look at other uploads than those that this credential is for")
        if capsule is not None:
            require_known(await self._work.read(lambda tx: self._access.rights(tx, caller, capsule)), capsule)

    # --- tokens of uploads ---------------------------------------------------------------------------

    def token_of(self, upload: Upload) -> str:
        """Return the upload's own token: HMAC-SHA-256 of the server's secret and its id.

        It stays the same when the upload gets another owner, who signed in while it was under way.
        """
        return self._hashed("upload", upload.id)

    def hidden_address(self, address: str) -> str:
        """Return what is kept of an address that counts: equal for equal ones, and without the secret no address.

        There are few enough of them to be tried one by one, so a hash without a key would hide nothing.
        """
        return self._hashed("address", address)

    def _hashed(self, what: str, text: str) -> str:
        mac = hmac.new(self._secret, f"{what}\n{text}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode("ascii")

    async def caller_of_token(self, upload_id: SessionId, token: str) -> Caller:
        """Return who calls with an upload's own token: its owner, for that upload only.

        Raises:
            Unauthenticated: it is not the token of that upload, or there is no such upload any more.
        """
        upload = await self._work.read(lambda tx: tx.sessions.peek(upload_id))
        given = token.encode("utf-8", "surrogatepass")
        if upload is None or not hmac.compare_digest(given, self.token_of(upload).encode("ascii")):
            raise Unauthenticated("the token is not this upload's", given=True)
        return Caller(owner=upload.spec.owner, scope=Scope.WRITE, upload=upload.id)


def require_known(rights: Rights | None, capsule: str) -> Rights:
    """Return the rights in a capsule that the caller may know of.

    Raises:
        CapsuleNotFound: there is none.
    """
    if rights is None or not rights.known:
        raise CapsuleNotFound(capsule)
    return rights
