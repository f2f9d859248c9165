"""Clients that mean well, behave badly for a while, and get through in the end."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, Final, TypeVar

from haulier.core.caller import LOCAL
from haulier.core.digest import Digest
from haulier.core.errors import (
    BodyCut,
    ChunkConflict,
    ChunksMissing,
    ChunkTooLong,
    ChunkTooShort,
    DigestMismatch,
    HaulierError,
    LengthExceeded,
    OffsetMismatch,
    RequestError,
    UploadBusy,
    UploadComplete,
    UploadGone,
    UploadNotFound,
    WaitTimeout,
)
from haulier.core.record import AssetKind, Record
from haulier.core.session import Mode, SessionId, SessionStatus
from haulier.core.upload import BeginUpload, Upload
from haulier.engine.uploads import UploadState
from tests.simulation.bodies import PROMPT, Delivery, SimBody
from tests.simulation.invariants import Invariants
from tests.simulation.ledger import OTHER, RIGHT, WRONG, Truth, make_contents, sha_256
from tests.simulation.server import CHUNK, TTL_S, Server
from tests.simulation.world import ConnectionLost, World

T = TypeVar("T")

PATIENCE: Final = 60
"""Attempts after which a client that does everything right gives up, and the simulation has found something."""
LATE_S: Final = 10.0
"""Virtual seconds after which a wake-up counts as missed; back ends take less than a tenth of it."""


class Client:
    """One upload, from its begin to its result."""

    mode: Mode
    sizes: tuple[int, ...] = (0, 1, 7, 8, 9, 24, 37, 60)
    slow_s: tuple[float, ...] = (0.5, 0.5, 59.0)
    """Silences before each piece of a slow body; the longest make a chunk last longer than an upload lives."""

    def __init__(self, world: World, invariants: Invariants, name: str) -> None:
        self.name = name
        self._world = world
        self._invariants = invariants
        self._require = world.trace.require
        self._rng = world.random(name)
        self._contents = make_contents(self._rng, self._rng.choice(self.sizes))
        self._begin = self._request()
        self.truth: Truth | None = None
        self._ids: set[SessionId] = set()
        """Uploads that were begun for it; without a key each begin makes one."""
        self._begins = 0
        """Begins under way."""

    def _request(self) -> BeginUpload:
        content = self._rng.choice((None, None, self._contents[RIGHT], self._contents[OTHER]))
        unknown = self.mode is Mode.APPEND and self._rng.random() < 0.3
        return BeginUpload(
            filename=f"{self.name}.bin",
            size=None if unknown else len(self._contents[RIGHT]),
            mode=self.mode,
            expected=None if content is None else sha_256(content),
            key=self._rng.choice((None, self.name)),
        )

    # --- the course ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Begin, behave badly, then do everything right and look at the result."""
        await self._pause()
        await self._begin_until_known()
        for _ in range(self._rng.randint(3, 14)):
            async with asyncio.TaskGroup() as group:
                for _ in range(self._rng.randint(1, 4)):
                    group.create_task(self._misbehave())
            await self._pause()
        await self._world.calm.wait()
        await self._get_through()
        await self._look_at_result()

    async def _begin_until_known(self) -> None:
        while self.truth is None:
            tries = self._rng.choice((1, 1, 2))
            async with asyncio.TaskGroup() as group:
                for _ in range(tries):
                    group.create_task(self._begin_once())
            await self._pause()

    async def _begin_once(self) -> None:
        self._begins += 1
        try:
            begun = await self._world.request(
                self.name, "begin", lambda server: server.uploads.begin(self._begin, caller=LOCAL)
            )
        except (HaulierError, ConnectionLost) as error:
            self._judge(error)
            return
        else:
            self._ids.add(begun.upload.id)
        finally:
            self._begins -= 1
            self._look_for_orphans()
        if self.truth is None:
            self.truth = Truth(id=begun.upload.id, mode=self.mode, contents=self._contents, chunk_size=CHUNK)
            self._world.ledger.uploads[begun.upload.id] = self.truth
        elif self._begin.key is not None:
            gone = self._row(self.truth.id).status.gone
            self._require(gone or begun.upload.id == self.truth.id, "a key began two uploads")

    def _look_for_orphans(self) -> None:
        """A begin that was refused leaves nothing, where its answer cannot have been lost."""
        if self._begins or self._world.forgetful:
            return
        rows = self._world.database._rows.sessions.values()
        # An empty append is whole with its begin: its finish is gone on with, whatever the begin was answered.
        mine = {
            row.id
            for row in rows
            if row.details.filename == self._begin.filename
            and row.status.live
            and not (row.size == 0 and row.spec.mode is Mode.APPEND)
        }
        self._require(mine <= self._ids, "a begin that was refused left a row")

    async def _misbehave(self) -> None:
        await self._pause()
        action: Callable[[], Coroutine[Any, Any, object]] = self._rng.choice(self._actions())
        await action()

    def _actions(self) -> list[Callable[[], Coroutine[Any, Any, object]]]:
        """Return what this client may do in any order, the usual things several times."""
        return [self._look, self._wait, self._watch, self._finish, self._rarely_end, self._begin_once]

    async def _get_through(self) -> None:
        """Do everything right until there is a result."""
        for _ in range(PATIENCE):
            state = await self._look()
            if state is not None and not state.upload.status.live:
                return
            if state is not None:
                await self._step_forward(state.upload)
            await asyncio.sleep(1.0)
        raise self._world.trace.violated(f"{self.name} cannot get through: {self._row(self._truth.id)}")

    async def _step_forward(self, upload: Upload) -> None:
        raise NotImplementedError

    async def _look_at_result(self) -> None:
        """Read the result again, and the record with its bytes."""
        waited = await self._wait()
        self._require(waited is not None, "a result cannot be waited for")
        row = self._row(self._truth.id)
        if row.status is not SessionStatus.COMMITTED:
            return
        record = await self._ask(
            "record",
            lambda server: server.records.get(row.details.record, caller=LOCAL),  # type: ignore[arg-type]
        )
        assert record is not None
        self._require(record.status == "completed", f"record {record.id} is {record.status}")
        data = await self._ask("read", lambda server: _read(server, record))
        self._require(data is not None and sha_256(data) == record.digest, "a record cannot be read")
        if self._rng.random() < 0.2:
            await self._ask(
                "delete", lambda server: server.records.delete(record.id, caller=LOCAL, at_once=True)
            )

    # --- asking --------------------------------------------------------------------------------------

    async def _ask(self, what: str, work: Callable[[Server], Awaitable[T]]) -> T | None:
        """Return the answer, None when it was refused or lost."""
        try:
            return await self._world.request(self.name, what, work)
        except (HaulierError, ConnectionLost) as error:
            self._judge(error)
            if isinstance(error, RequestError):
                self._judge_refusal(what.split(" ", 1)[0], error)
            return None

    def _judge(self, error: Exception) -> None:
        """What is told about the upload must be so."""
        if self.truth is None:
            return
        self._require(not isinstance(error, UploadNotFound), f"{self.truth.id} is not found")
        row = self._row(self.truth.id)
        alone = self._world.size == 1
        foreign = alone and isinstance(error, UploadBusy) and error.reason.startswith("another process")
        self._require(not foreign, "the only process stands in its own way")
        if isinstance(error, UploadGone):
            self._require(row.status.gone, f"{self.truth.id} is said to be gone, but is {row.status}")
        if isinstance(error, UploadComplete):
            committed = row.status is SessionStatus.COMMITTED
            self._require(committed, f"{self.truth.id} is said to be complete, but is {row.status}")

    def _judge_refusal(self, what: str, error: RequestError) -> None:
        """A refusal must be one that this request can get."""
        allowed = _REFUSALS.get(what, ())
        general = error.retryable or isinstance(error, UploadGone | UploadComplete)
        self._require(general or isinstance(error, allowed), f"{self.name}: {what} was refused: {error!r}")

    def _row(self, session_id: SessionId) -> Upload:
        return self._world.database._rows.sessions[session_id]

    @property
    def _truth(self) -> Truth:
        assert self.truth is not None
        return self.truth

    async def _pause(self) -> None:
        await asyncio.sleep(self._rng.choice((0.0, 0.0, 0.01, 0.4, 3.0)))

    def _delivery(self, size: int) -> Delivery:
        luck = self._rng.random()
        return Delivery(
            cut_after=self._rng.randrange(size) if size and luck < 0.2 else None,
            announced=self._rng.random() < 0.7,
            stall_s=self._rng.choice((30.0, 100.0)) if 0.92 < luck < 0.96 else 0.0,
            slow_s=self._rng.choice(self.slow_s) if luck > 0.96 else 0.0,
        )

    # --- what every upload can do --------------------------------------------------------------------

    async def _look(self) -> UploadState | None:
        return await self._ask("state", lambda server: server.uploads.state(self._truth.id, caller=LOCAL))

    async def _wait(self) -> UploadState | None:
        timeout_s, asked_at = self._rng.choice((0.0, 5.0, 40.0)), self._world.loop.time()
        try:
            state = await self._world.request(
                self.name,
                f"wait {timeout_s}",
                lambda server: server.uploads.wait(self._truth.id, caller=LOCAL, timeout_s=timeout_s),
            )
        except WaitTimeout:
            late = self._world.loop.time() - asked_at - timeout_s
            self._require(late < LATE_S, f"a wait ended {late} s after its time")
        except (HaulierError, ConnectionLost) as error:
            self._judge(error)
        else:
            ended_at = self._invariants.ended_at[self._truth.id]
            late = self._world.loop.time() - max(asked_at, ended_at)
            self._require(late < LATE_S, f"a wait was told of a result {late} s after it came")
            return state
        return None

    async def _watch(self) -> None:
        await self._ask("watch", self._watch_in)

    async def _watch_in(self, server: Server) -> None:
        """Read an event stream for a while."""
        states = self._rng.randint(1, 5)
        with suppress(TimeoutError):
            async with asyncio.timeout(30.0), aclosing(_watching(server, self._truth.id)) as watching:
                async for state in watching:
                    states -= 1
                    if not states or not state.upload.status.live:
                        return

    async def _finish(self) -> None:
        """Finish, perhaps early, perhaps twice at once, perhaps with a digest."""
        digest = self._rng.choice((None, None, *map(sha_256, self._contents)))
        async with asyncio.TaskGroup() as group:
            for _ in range(self._rng.choice((1, 1, 2))):
                group.create_task(self._finish_once(digest))

    async def _finish_once(self, digest: Digest | None) -> None:
        self._truth.finishing = True
        size = self._truth.size if self._begin.size is None else None
        state = await self._ask(
            "finish",
            lambda server: server.uploads.finish(self._truth.id, caller=LOCAL, digest=digest, size=size),
        )
        if state is not None and state.upload.status is SessionStatus.COMMITTED and digest is not None:
            self._require(state.upload.details.digest == digest, "a finish passed with a wrong digest")

    async def _rarely_end(self) -> None:
        """Abort, or be silent for longer than an upload lives."""
        luck = self._rng.random()
        if luck < 0.25:
            self._truth.aborting = True
            await self._abort()
        elif luck < 0.35:
            await asyncio.sleep(2 * TTL_S)

    async def _abort(self) -> None:
        try:
            await self._world.request(
                self.name, "abort", lambda server: server.uploads.abort(self._truth.id, caller=LOCAL)
            )
        except (HaulierError, ConnectionLost) as error:
            self._judge(error)
        else:
            freed = self._truth.id not in self._world.disk.parts
            self._require(freed or self._world.faulty, "an abort left bytes behind")


class ChunkClient(Client):
    """Sends chunks in any order, in parallel, twice, and wrong."""

    mode = Mode.CHUNKS

    def _actions(self) -> list[Callable[[], Coroutine[Any, Any, object]]]:
        return [*super()._actions(), *[self._put] * 8, self._put_wrong_length, self._put_wrong_digest]

    async def _put(self) -> None:
        """Send a chunk in one of two contents, perhaps in place of what is there."""
        if not self._truth.size:
            return
        variant = RIGHT if self._rng.random() < 0.8 else OTHER
        await self._send(self._any_index(), variant, replace=self._rng.random() < 0.2)

    def _any_index(self) -> int:
        return self._rng.randrange(-(-self._truth.size // CHUNK))

    async def _send(
        self, index: int, variant: int, *, replace: bool, delivery: Delivery | None = None
    ) -> None:
        truth, data = self._truth, self._truth.chunk(index, variant)
        delivery = delivery or self._delivery(len(data))
        digests = self._rng.choice(((), (), (sha_256(data),)))
        if delivery.cut_after is None:
            truth.sent.setdefault(index, set()).add(variant)
        truth.replacing[index] += replace
        body = SimBody(data, delivery, self._rng)
        what = f"put {index} {variant}{' in place' * replace} {delivery}"
        try:
            await self._world.request(self.name, what, _put(truth.id, index, body, digests, replace=replace))
        except (HaulierError, ConnectionLost) as error:
            self._judge(error)
            self._judge_put(index, variant, replace=replace, error=error)
        else:
            self._acknowledged(index, variant, replace=replace)

    def _acknowledged(self, index: int, variant: int, *, replace: bool) -> None:
        truth = self._truth
        if replace:
            truth.replacing[index] -= 1
        if not truth.replacing[index]:
            before = truth.accepted.get(index, variant)
            self._require(before == variant or replace, f"chunk {index} was acknowledged in two contents")
            truth.accepted[index] = variant

    def _judge_put(self, index: int, variant: int, *, replace: bool, error: Exception) -> None:
        truth = self._truth
        if isinstance(error, ConnectionLost):
            return  # a replacement may still be under way: its chunk is uncertain from here on
        if isinstance(error, ChunkConflict):
            other = any(sent != variant for sent in truth.sent[index])
            self._require(other, f"chunk {index} conflicts with nothing")
        elif isinstance(error, RequestError):
            self._judge_refusal("put", error)
        if replace and isinstance(error, ChunkConflict):
            truth.replacing[index] -= 1  # it took the way of a plain put

    async def _put_wrong_length(self) -> None:
        if not self._truth.size:
            return
        index = self._any_index()
        data = self._truth.chunk(index, WRONG)
        sent = self._rng.choice((data[:-1], data + b"!"))
        body = SimBody(sent, Delivery(announced=self._rng.random() < 0.5), self._rng)
        await self._ask("put-length", _put(self._truth.id, index, body, (), replace=False))

    async def _put_wrong_digest(self) -> None:
        if not self._truth.size:
            return
        index = self._any_index()
        data = self._truth.chunk(index, WRONG)
        body = SimBody(data, self._delivery(len(data)), self._rng)
        await self._ask("put-digest", _put(self._truth.id, index, body, (sha_256(b""),), replace=False))

    async def _step_forward(self, upload: Upload) -> None:
        """Send what is missing, or everything anew when the whole was wrong, and finish."""
        if upload.status is SessionStatus.OPEN and upload.replaceable:
            for index in range(upload.chunk_count):
                await self._send(index, RIGHT, replace=True, delivery=PROMPT)
        elif upload.status is SessionStatus.OPEN:
            for index in upload.missing_chunks(1000):
                await self._send(index, RIGHT, replace=False, delivery=PROMPT)
        await self._finish_once(self._rng.choice((None, sha_256(self._contents[RIGHT]))))


class AppendClient(Client):
    """Appends, is cut, comes back, and takes over from itself."""

    mode = Mode.APPEND
    sizes = (0, 1, 9, 37, 60, 120, 120)
    slow_s = (0.5, 2.0)

    def _actions(self) -> list[Callable[[], Coroutine[Any, Any, object]]]:
        return [*super()._actions(), *[self._append] * 8, self._append_too_much, *[self._offset] * 2]

    async def _offset(self) -> int | None:
        asked_at = self._world.loop.time()
        upload = await self._ask("offset", lambda server: server.uploads.offset(self._truth.id, caller=LOCAL))
        took = self._world.loop.time() - asked_at
        self._require(took < LATE_S, f"a running append took {took} s to let go")
        if upload is None:
            return None
        self._acknowledged(upload)
        return upload.offset if upload.status is SessionStatus.OPEN else None

    def _acknowledged(self, upload: Upload) -> None:
        """From now on the bytes up to that offset must stay what they are."""
        if upload.status.gone or upload.offset <= len(self._truth.prefix):
            return
        disk = self._world.disk
        row = self._row(upload.id)
        part = disk.parts.get(upload.id) or disk.blobs.get(row.blob_key or "")
        if part is not None and not row.status.gone:
            self._truth.prefix = bytes(part.data[: upload.offset])

    async def _append(self) -> None:
        offset = await self._offset()
        if offset is None:
            return
        if self._rng.random() < 0.1:
            offset = self._rng.randint(0, self._truth.size)
        left = self._truth.size - offset
        length = self._rng.choice((left, self._rng.randint(0, left))) if left > 0 else 0
        variant = self._rng.choice((RIGHT, RIGHT, OTHER, WRONG))
        await self._send(offset, length, variant, delivery=self._delivery(length))

    async def _append_too_much(self) -> None:
        if (offset := await self._offset()) is None or self._begin.size is None:
            return
        data = self._contents[WRONG][offset:]
        self._truth.spans.append((offset, offset + len(data), WRONG))
        body = SimBody(data + b"!!", Delivery(announced=self._rng.random() < 0.5), self._rng)
        await self._ask("append-much", _append(self._truth.id, offset, body, (), final=False))

    async def _send(self, offset: int, length: int, variant: int, *, delivery: Delivery) -> None:
        truth = self._truth
        data = truth.contents[variant][offset : offset + length]
        digests = self._digests_of(data, variant)
        whole = delivery.cut_after is None
        if (whole and variant != WRONG) or not digests:
            truth.spans.append((offset, offset + length, variant))
        final = self._begin.size is None and offset + length == truth.size and whole
        body = SimBody(data, delivery, self._rng)
        what = f"append {offset}+{length} {variant}{' strict' * bool(digests)}{' final' * final} {delivery}"
        state = await self._ask(what, _append(truth.id, offset, body, digests, final=final))
        if state is None:
            return
        end = state.upload.offset
        went = end >= offset + length or state.upload.status.gone
        self._require(went, f"an append of {length} at {offset} was acknowledged, but the offset is {end}")
        self._acknowledged(state.upload)

    def _digests_of(self, data: bytes, variant: int) -> tuple[Digest, ...]:
        if variant == WRONG:
            return (sha_256(b"something else"),)
        return self._rng.choice(((), (), (sha_256(data),)))

    async def _step_forward(self, upload: Upload) -> None:
        offset = await self._offset()
        if offset is not None and offset < self._truth.size:
            await self._send(offset, self._truth.size - offset, RIGHT, delivery=PROMPT)
        elif offset is not None:
            await self._finish_once(None)


_REFUSALS: Final[dict[str, tuple[type[RequestError], ...]]] = {
    "put": (BodyCut,),
    "put-length": (ChunkTooLong, ChunkTooShort, ChunkConflict),
    "put-digest": (DigestMismatch,),
    "append": (BodyCut, OffsetMismatch, DigestMismatch, LengthExceeded),
    "append-much": (OffsetMismatch, LengthExceeded, BodyCut, DigestMismatch),
    "finish": (ChunksMissing, DigestMismatch),
    "offset": (DigestMismatch,),
    "abort": (),
}
"""What each request may be refused with, beside being told how the upload ended."""


def _put(
    session_id: SessionId, index: int, body: SimBody, digests: tuple[Digest, ...], *, replace: bool
) -> Callable[[Server], Awaitable[None]]:
    return lambda server: server.uploads.put_chunk(
        session_id, index, body, caller=LOCAL, digests=digests, replace=replace
    )


def _append(
    session_id: SessionId, offset: int, body: SimBody, digests: tuple[Digest, ...], *, final: bool
) -> Callable[[Server], Awaitable[UploadState]]:
    return lambda server: server.uploads.append(
        session_id, offset, body, caller=LOCAL, digests=digests, final=final
    )


def _watching(server: Server, session_id: SessionId) -> Any:
    return server.uploads.watch(session_id, caller=LOCAL)


async def _read(server: Server, record: Record) -> bytes:
    _, asset = await server.records.asset(record.id, AssetKind.ORIGINAL, caller=LOCAL)
    return b"".join([piece async for piece in server.records.read(asset, 0, asset.size)])
