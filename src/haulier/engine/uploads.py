"""Uploads: what front ends call. Access, quotas, digests and records on top of the session engine.

Rule 1: every call names its caller; what a caller may not know of does not exist.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from haulier.core.caller import Caller
from haulier.core.digest import Digest
from haulier.core.errors import (
    AccessDenied,
    DigestMalformed,
    IdempotencyKeyReused,
    InvalidRequest,
    RequestError,
)
from haulier.core.record import AssetKind
from haulier.core.session import Concat, Mode, SessionId, SessionSpec, SessionStatus
from haulier.core.upload import (
    BeginUpload,
    Upload,
    UploadDetails,
)
from haulier.core.values import dataclass, replace
from haulier.engine.background import Background
from haulier.engine.body_checks import BodyCheck, judge_whole
from haulier.engine.context import NotAsJudged, SessionPorts
from haulier.engine.digests import Digests
from haulier.engine.gate import Admission, UploadGate
from haulier.engine.hooks import NO_HOOKS, Hooks, ask
from haulier.engine.planning import Planner, UploadLimits
from haulier.engine.policy import DigestCheck, TakenUpload, UploadObserver, UploadPolicy
from haulier.engine.sessions import SessionService
from haulier.engine.whole import ReadAhead
from haulier.ports import AccessPolicy, Body, Ears, JobQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An upload that can take bytes. `token` is derived, so a repeated begin returns the same one."""

    upload: Upload
    created: bool
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadState:
    """An upload as others see it. `speed` is bytes per second, a moving average."""

    upload: Upload
    verified_bytes: int
    speed: float


class UploadService:
    """Uploads of every front end. All calls may run in parallel and be repeated."""

    def __init__(  # noqa: PLR0913 - one a collaborator
        self,
        ports: SessionPorts[UploadDetails],
        access: AccessPolicy,
        background: Background,
        *,
        secret: bytes,
        limits: UploadLimits,
        hashers: int,
        observer: UploadObserver | None = None,
        hooks: Hooks = NO_HOOKS,
        jobs: JobQueue | None = None,
    ) -> None:
        """`jobs` takes images that are to be processed; None: that is not done here."""
        self._ports = ports
        self._gate = UploadGate(ports.work, access, secret)
        self._planner = Planner(self._gate, ports.ids, ports.sink, limits)
        self._digests = Digests(ports.sink, background, parallel=hashers, progressed=self._progressed)
        self._observer = observer
        self._on_begin = hooks.on_begin
        self._asks = (hooks.on_begin, hooks.on_finish) != (None, None)
        self._ahead: set[ReadAhead] = set()
        """Bodies that are being read before anything is begun for them."""
        self._policy = UploadPolicy(
            self._digests, observer, access, sink=ports.sink, on_finish=hooks.on_finish, jobs=jobs
        )
        self._sessions: SessionService[UploadDetails] = SessionService(
            ports, self._policy, background, limits.sessions
        )
        self._whole = self._sessions.whole(self._policy)

    def _progressed(self, upload_id: SessionId) -> None:
        self._sessions.notify(upload_id)

    # --- begin ---------------------------------------------------------------------------------------

    async def begin(self, request: BeginUpload, *, caller: Caller) -> Begun:
        """Return a new upload, or the one of the same idempotency key and request.

        Raises:
            InvalidRequest · LengthExceeded · FileEmpty · TypeNotAccepted
            CapsuleNotFound · AccessDenied · RecordNotFound · QuotaExceeded
            IdempotencyKeyReused · StorageFull · StorageError
            UploadRefused · HookUnavailable: by the operator's own rules.
        """
        taken = await self._planner.admit(request, caller)
        asked = "" if request.key is None else request.fingerprint()
        if self._on_begin is not None:
            amended = await ask("on_begin", self._on_begin(request, caller))
            if amended is not None:
                request = replace(amended, key=request.key)
                taken = await self._planner.admit(request, caller)
        if request.concat is Concat.FINAL:
            size = await self._sessions.total_of(request.partials, scope=request.capsule, owner=caller.owner)
            self._planner.require_size(size)
            request = replace(request, size=size)
        # By what was asked for: a repeat is the same request, whatever becomes of it.
        spec, details = self._planner.plan(request, caller, taken, request_hash=asked)
        upload, created = await self._sessions.begin(
            spec, details, limit=self._planner.live_limit(caller), partials=request.partials
        )
        if upload.spec.request_hash != spec.request_hash:
            raise IdempotencyKeyReused(request.key or "")
        if created and self._observer is not None:
            self._observer.begun()
        return Begun(upload=upload, created=created, token=self._gate.token_of(upload))

    @property
    def concatenates(self) -> bool:
        """Whether uploads can be put together of others here."""
        return self._planner.concatenates

    async def prospect_of(self, upload: Upload) -> tuple[int | None, float]:
        """Return an upload's size and expiry; of one that is made of others also before it is put together."""
        return await self._sessions.prospect_of(upload)

    async def caller_of_token(self, upload_id: SessionId, token: str) -> Caller:
        """Return who calls with an upload's own token: its owner, for that upload only; in constant time.

        Raises:
            Unauthenticated: it is not the token of that upload, or there is no such upload any more.
        """
        return await self._gate.caller_of_token(upload_id, token)

    async def take(
        self,
        request: BeginUpload,
        body: ReadAhead,
        *,
        caller: Caller,
        digests: tuple[Digest, ...] = (),
        check: BodyCheck | None = None,
    ) -> TakenUpload | None:
        """Take a short file in one step; None: it has to be begun, and `body` to be received, as any other.

        Whatever is wrong with it is said there. Only who may not begin at all is told here.

        Args:
            request: whose whole file the body is.
            body: not received yet.
            caller: who owns it.
            digests: what the body must have beside the file's own.
            check: or what else judges the body.

        Raises:
            As `begin`; nothing is left then.
        """
        if self._asks or not body.short or not _is_plain(request, body.length):
            return None
        admission = await self._planner.admit_as_known(request, caller)
        try:
            plan = self._planner.plan(request, caller, admission.policy)
        except RequestError:
            self._gate.forget(admission)  # by now the capsule may take it
            return None
        try:
            return await self._take_by(
                plan, body, check or _check_of(digests), admission=admission, caller=caller
            )
        except NotAsJudged:
            self._gate.forget(admission)
        except RequestError:
            pass  # whoever begins is told the same
        return None

    async def _take_by(
        self,
        plan: tuple[SessionSpec, UploadDetails],
        body: ReadAhead,
        check: BodyCheck | None,
        *,
        admission: Admission,
        caller: Caller,
    ) -> TakenUpload | None:
        spec, details = plan
        self._ahead.add(body)
        try:
            content = await body.whole()
        finally:
            self._ahead.discard(body)
        if content is None:
            return None
        await judge_whole(check, content)
        details = self._policy.judge(details, content)
        return await self._whole.keep(
            spec, details, content, by=admission, limit=self._planner.live_limit(caller)
        )

    # --- reading -------------------------------------------------------------------------------------

    async def state(self, upload_id: SessionId, *, caller: Caller) -> UploadState:
        """Return the upload as it is; disturbs nobody, works for ended ones.

        Raises:
            UploadNotFound: there is none that the caller may know of.
        """
        await self._gate.known(upload_id, caller)
        return self._state(await self._sessions.load(upload_id))

    async def wait(self, upload_id: SessionId, *, caller: Caller, timeout_s: float) -> UploadState:
        """Return the ended upload, whenever it ended.

        Raises:
            UploadNotFound · ServiceStopping
            WaitTimeout: it is still live after `timeout_s` seconds.
        """
        await self._gate.known(upload_id, caller)
        return self._state(await self._sessions.wait(upload_id, timeout_s=timeout_s))

    async def watch(self, upload_id: SessionId, *, caller: Caller) -> AsyncGenerator[UploadState, None]:
        """Yield the upload now and after changes, the ended one last; progress is coalesced.

        Raises:
            UploadNotFound: there is none that the caller may know of.
        """
        await self._gate.known(upload_id, caller)
        async with aclosing(self._sessions.watch(upload_id)) as uploads:
            async for upload in uploads:
                yield self._state(upload)

    async def find_pending(self, capsule: str, key: str, *, caller: Caller) -> Upload | None:
        """Return the caller's live upload with that idempotency key.

        Raises:
            CapsuleNotFound · AccessDenied
        """
        await self._gate.require_account(capsule, caller)
        return await self._sessions.find_pending(capsule, caller.owner, key)

    async def count_active_for(self, capsule: str | None, *, caller: Caller) -> int:
        """Count the caller's live uploads, in one capsule or in all.

        Raises:
            CapsuleNotFound · AccessDenied
        """
        await self._gate.require_account(capsule, caller)
        return await self._sessions.count_active_for(capsule, caller.owner)

    async def probe(self) -> Sequence[Upload]:
        """Return all live uploads, for operators."""
        return await self._sessions.probe()

    def _state(self, upload: Upload) -> UploadState:
        return UploadState(
            upload=upload,
            verified_bytes=self._verified(upload),
            speed=self._sessions.speed(upload.id) if upload.status.live else 0.0,
        )

    def _verified(self, upload: Upload) -> int:
        if upload.status is SessionStatus.COMMITTED:
            return 0 if upload.details.digest is None else upload.size or 0
        return self._digests.verified(upload.id)

    # --- bytes ---------------------------------------------------------------------------------------

    async def put_chunk(
        self,
        upload_id: SessionId,
        index: int,
        body: Body,
        *,
        caller: Caller,
        digests: tuple[Digest, ...] = (),
        replace: bool = False,
    ) -> None:
        """Accept a chunk; see `SessionService.put_chunk`. `digests` are this body's own."""
        await self._gate.movable(upload_id, caller)
        await self._sessions.put_chunk(upload_id, index, body, check=_check_of(digests), replace=replace)

    async def append(  # noqa: PLR0913 - what judges a body, and who hears of it, are as many things
        self,
        upload_id: SessionId,
        offset: int,
        body: Body,
        *,
        caller: Caller,
        digests: tuple[Digest, ...] = (),
        check: BodyCheck | None = None,
        final: bool = False,
        size: int | None = None,
        progressed: Callable[[int], None] | None = None,
    ) -> UploadState:
        """Take bytes at the end; see `SessionService.append`. `digests`, or `check`, judge this body alone.

        Raises, beside what that raises:
            AccessDenied: also for an upload that is put together of others.
        """
        upload = await self._gate.movable(upload_id, caller)
        if upload.spec.concat is Concat.FINAL:
            raise AccessDenied("append to an upload that is put together of others")
        upload = await self._sessions.append(
            upload_id,
            offset,
            body,
            check=check or _check_of(digests),
            final=final,
            size=size,
            progressed=progressed,
        )
        return self._state(upload)

    async def offset(self, upload_id: SessionId, *, caller: Caller) -> Upload:
        """Return the upload with its true offset, after a running append has let go.

        Raises:
            UploadNotFound · UploadGone · InvalidRequest: it takes chunks.
            UploadBusy: it is whole, but its finish failed and is tried again.
            AccessDenied: it is open, and the caller may not disturb it.
        """
        await self._gate.movable_if_open(upload_id, caller)
        return await self._sessions.offset(upload_id)

    # --- ends ----------------------------------------------------------------------------------------

    async def finish(
        self,
        upload_id: SessionId,
        *,
        caller: Caller,
        digest: Digest | None = None,
        size: int | None = None,
    ) -> UploadState:
        """Make the upload final; see `SessionService.finish`. `digest` overrides the one from begin, this time.

        Asked again, of a committed upload, `digest` and `size` are compared with the result.
        """
        await self._gate.movable(upload_id, caller)
        upload = await self._sessions.finish(upload_id, size=size, amend=_promising(digest))
        _require_same(upload, digest, size)
        return self._state(upload)

    async def abort(self, upload_id: SessionId, *, caller: Caller) -> None:
        """End the upload and free its bytes; harmless when it is aborted, expired or failed.

        Raises:
            UploadNotFound · UploadComplete · AccessDenied · StorageError
        """
        await self._gate.movable(upload_id, caller)
        await self._sessions.abort(upload_id)

    async def fail(self, upload_id: SessionId, error: str, *, caller: Caller) -> None:
        """End an open upload as failed and free its bytes: what its sender did cannot be mended.

        Raises:
            UploadNotFound · AccessDenied · StorageError
        """
        await self._gate.movable(upload_id, caller)
        await self._sessions.fail(upload_id, error)

    async def keep_answer(self, upload_id: SessionId, answer: str, *, caller: Caller) -> str:
        """Keep what the caller is told about the result; return what was kept first.

        Raises:
            UploadNotFound: there is none that the caller may know of, or none any more.
        """
        await self._gate.known(upload_id, caller)
        return await self._sessions.keep_answer(upload_id, answer)

    async def give_up(self, upload_id: SessionId) -> None:
        """End an upload that its begin's own service does not want any more, whoever its owner is by now.

        As `abort`, but a finish that has failed here is not tried again.
        """
        await self._sessions.give_up(upload_id)

    async def expire(self, *, now: float | None = None, most_ttl_s: float = float("inf")) -> int:
        """End uploads that nobody has touched for their time to live; return how many."""
        return await self._sessions.expire(now=now, most_ttl_s=most_ttl_s)

    async def purge(self, *, before: float) -> int:
        """Remove the rows of uploads that ended before then; their records stay."""
        return await self._sessions.purge(before=before)

    async def listen(self, *others: Ears) -> None:
        """Hear what other processes do to the uploads that matter here, for ever; cancel it to end it.

        `others` hear the same words.
        """
        await self._sessions.listen(*others)

    async def resume(self) -> None:
        """At start: let digests of open uploads catch up."""
        await self._sessions.resume()

    async def redo(self) -> int:
        """Go on with uploads that a dead worker left half finished; return how many."""
        return await self._sessions.redo()

    async def keep(self) -> None:
        """Note the activity of the uploads that are held here, so that no other process expires them."""
        await self._sessions.keep()

    async def stop(self) -> None:
        """Take no more bytes; save every running body."""
        for body in self._ahead:
            body.stop()
        await self._sessions.stop()


def _check_of(digests: tuple[Digest, ...]) -> DigestCheck | None:
    return DigestCheck(digests) if digests else None


def _is_plain(request: BeginUpload, length: int | None) -> bool:
    """Whether nobody can come back for it, and nothing else has to do with it."""
    return (
        request.size == length
        and request.mode is Mode.APPEND
        and request.asset is AssetKind.ORIGINAL
        and request.concat is Concat.NONE
        and (request.key, request.record) == (None, None)
        and not request.lanes
    )


def _promising(digest: Digest | None) -> Callable[[UploadDetails], UploadDetails]:
    # None too: what a finish that failed was given does not count for this one.
    return lambda details: replace(details, promised=digest)


def _require_same(upload: Upload, digest: Digest | None, size: int | None) -> None:
    """A finish that is repeated with other words than those that were true must not look right."""
    if upload.status is not SessionStatus.COMMITTED:
        return
    if digest is not None:
        details = upload.details
        judged = {each.name: each for each in (details.promised or details.expected, details.digest) if each}
        if digest.name not in judged:  # nobody has computed it, and its bytes are not read again for that
            reason = f"cannot be {digest.name} any more: the upload is complete, and that was not computed"
            raise DigestMalformed("digest", reason)
        digest.require(judged[digest.name].value)
    if size not in {None, upload.size}:
        raise InvalidRequest.of("size", f"must be {upload.size}, the size of the committed upload")
