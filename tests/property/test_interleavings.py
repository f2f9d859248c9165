"""Any order of calls over several sessions, against a model that only remembers what was answered.

Each rule starts one call or lets some of them go on; after every rule rows, bytes and model must agree. The
schedules of tests/simulation are longer and have faults; these are short, and shrink to the calls that matter.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from haulier.core.errors import (
    BodyCut,
    ChunkConflict,
    ChunksMissing,
    RequestError,
    UploadBusy,
    UploadComplete,
    UploadGone,
    UploadNotFound,
)
from haulier.core.ranges import Ranges
from haulier.core.session import SessionId, SessionStatus
from haulier.core.values import dataclass
from haulier.engine.planning import UploadLimits
from haulier.ports import BodyEnd
from tests.support.bodies import FakeBody
from tests.support.engine import ME, Engine

CHUNK = 4
TTL_S = 1000.0
TURNS = 400
"""Turns of the loop in which everything that can go on without a body or a clock has gone on."""

sizes = st.sampled_from((0, 1, 4, 10, 13))
picks = st.integers(0, 99)


@dataclass(slots=True)
class Model:
    """What the answers said about one session."""

    id: SessionId
    size: int
    accepted: dict[int, bytes] = field(default_factory=dict)
    sent: dict[int, set[bytes]] = field(default_factory=dict)
    ended: SessionStatus | None = None
    ending: set[SessionStatus] = field(default_factory=set)
    """The ends that were asked for."""

    @property
    def indexes(self) -> range:
        """Of its chunks."""
        return range(-(-self.size // CHUNK))

    def content(self, index: int, variant: int) -> bytes:
        """Return a chunk's bytes in one of two versions."""
        length = min(CHUNK, self.size - index * CHUNK)
        return bytes([16 * variant + index]) * length


class Interleavings(RuleBasedStateMachine):
    """Sessions that are written, finished, aborted and expired in any order, some calls at once."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.engine = self._run(self._make())
        self.models: list[Model] = []
        self.calls: list[asyncio.Task[Any]] = []
        self.bodies: list[FakeBody] = []

    async def _make(self) -> Engine:
        return Engine(limits=UploadLimits(chunk_size=CHUNK, ttl_s=TTL_S))

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self.calls.append(self.loop.create_task(work))
        self._run(_turn(1))

    def teardown(self) -> None:
        """Let every call end, finish or abort what is open, and look for leaks."""
        try:
            self.release_everything()
            for model in self.models:
                self._run(self._abort(model))
            self.settle()
            self.nothing_is_left_over()
        finally:
            self._run(self.engine.background.stop(grace_s=0))
            self.loop.close()

    # --- calls ---------------------------------------------------------------------------------------

    @initialize(size=sizes)
    def begin_first(self, size: int) -> None:
        """Have one session at least."""
        self.begin(size)

    @rule(size=sizes)
    @precondition(lambda self: len(self.models) < 4)
    def begin(self, size: int) -> None:
        """Begin one more session."""
        upload = self._run(self.engine.begin(size))
        self.models.append(Model(upload.id, size))

    @rule(
        which=picks, index=picks, variant=st.sampled_from((0, 0, 0, 1)), held=st.booleans(), cut=st.booleans()
    )
    def put(self, which: int, index: int, variant: int, held: bool, cut: bool) -> None:
        """Send a chunk; a held one stays in flight, a cut one never becomes whole."""
        model = self.models[which % len(self.models)]
        if not model.indexes:
            return
        index %= len(model.indexes)
        data = model.content(index, variant)
        body = FakeBody(data[:1], data[1:], held=held, end=BodyEnd.CUT if cut else BodyEnd.COMPLETE)
        self.bodies.append(body)
        if not cut:
            model.sent.setdefault(index, set()).add(data)
        self._start(self._put(model, index, data, body))

    async def _put(self, model: Model, index: int, data: bytes, body: FakeBody) -> None:
        with self.judging(model, ChunkConflict, BodyCut):
            await self.engine.uploads.put_chunk(model.id, index, body, caller=ME)
            assert model.accepted.setdefault(index, data) == data

    @rule(which=picks)
    def finish(self, which: int) -> None:
        """Ask for the end, early or not."""
        self._start(self._finish(self.models[which % len(self.models)]))

    async def _finish(self, model: Model) -> None:
        model.ending.add(SessionStatus.COMMITTED)
        with self.judging(model, ChunksMissing):
            state = await self.engine.uploads.finish(model.id, caller=ME)
            assert state.upload.status is SessionStatus.COMMITTED

    @rule(which=picks)
    def abort(self, which: int) -> None:
        """Give up."""
        self._start(self._abort(self.models[which % len(self.models)]))

    async def _abort(self, model: Model) -> None:
        model.ending.add(SessionStatus.ABORTED)
        with self.judging(model):
            await self.engine.uploads.abort(model.id, caller=ME)
            assert model.id not in self.engine.disk.parts

    @rule(which=picks, timeout_s=st.just(0.0))
    def wait(self, which: int, timeout_s: float) -> None:
        """Ask for a result that is there already."""
        model = self.models[which % len(self.models)]
        if model.ended is not None:
            state = self._run(self.engine.uploads.wait(model.id, caller=ME, timeout_s=timeout_s))
            assert state.upload.status is model.ended

    # --- time ----------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((1.0, TTL_S / 2, TTL_S)))
    def time_passes(self, seconds: float) -> None:
        """Move both clocks."""
        self.engine.clock.advance(seconds)

    @rule(seconds=st.sampled_from((-50_000.0, -10.0, 10.0)))
    def the_wall_is_set(self, seconds: float) -> None:
        """Set the wall clock."""
        self.engine.clock.step_wall(seconds)

    @rule()
    def expire(self) -> None:
        """Sweep by what the janitor believes the time is."""
        for model in self.models:
            model.ending.add(SessionStatus.EXPIRED)
        self._start(self.engine.janitor.sweep())

    @rule(turns=st.integers(1, 6))
    def go_on(self, turns: int) -> None:
        """Let calls run a little."""
        self._run(_turn(turns))

    @rule(which=picks)
    @precondition(lambda self: self.bodies)
    def release(self, which: int) -> None:
        """Let the rest of a held body come."""
        self.bodies.pop(which % len(self.bodies)).release()
        self._run(_turn(1))

    @rule()
    def release_everything(self) -> None:
        """Let every call come to its end."""
        while self.bodies:
            self.bodies.pop().release()
        self.settle()

    def settle(self) -> None:
        """Run until every call has ended; an unexpected error comes out here."""
        self._run(_turn(TURNS))
        while not all(call.done() for call in self.calls) and (pause := self.engine.clock.next_wake_s):
            # A finish that met a range on its way out looks again after a pause, by this clock.
            self.engine.clock.advance(pause)
            self._run(_turn(TURNS))
        if self.calls:
            self._run(asyncio.wait(self.calls, timeout=60))
        for call in self.calls:
            assert call.done(), "a call never ends"
            call.result()
        self.calls.clear()
        self._run(_turn(TURNS))

    # --- what must hold ------------------------------------------------------------------------------

    def judging(self, model: Model, *allowed: type[RequestError]) -> "_Judge":
        """Accept the refusals that this call can get, if they are true."""
        return _Judge(self, model, allowed)

    def row(self, model: Model) -> Any:
        """Return the stored session; a live id is always found."""
        return self.engine.database._rows.sessions[model.id]

    @invariant()
    def rows_agree_with_bytes_and_answers(self) -> None:
        """Nothing acknowledged is lost, nothing else is counted, and only what was asked for ends an upload."""
        for call in self.calls:
            if call.done():
                call.result()
        for model in self.models:
            self._check(model)

    def _check(self, model: Model) -> None:
        row = self.row(model)
        if not row.status.live:
            assert model.ended in {None, row.status}, "a result changed"
            assert row.status in model.ending
            model.ended = row.status
        if row.status is SessionStatus.COMMITTED:
            self._check_content(model, bytes(self.engine.disk.blobs[row.blob_key].data), model.indexes)
        elif row.status is SessionStatus.OPEN:
            chunks = self.engine.database._rows.chunks.get(model.id, {})
            assert row.received == Ranges.of(row.chunk_range(index) for index in chunks)
            assert set(chunks) >= set(model.accepted)
            self._check_content(model, bytes(self.engine.disk.parts[model.id].data), chunks)

    def _check_content(self, model: Model, data: bytes, indexes: Any) -> None:
        for index in indexes:
            stored = data[index * CHUNK : (index + 1) * CHUNK]
            allowed = {model.accepted[index]} if index in model.accepted else model.sent[index]
            assert stored in allowed

    def nothing_is_left_over(self) -> None:
        """All have ended: no part, claim, writer or memory stays, and the capsule adds up."""
        one = self.engine
        rows = one.database._rows
        assert one.disk.parts == {}
        assert one.claims._places == {}
        assert one.disk.ranges._claims == {}
        assert one.uploads._sessions._context.remembered() == set()
        used = sum(asset.size for record in rows.records.values() for asset in record.assets)
        assert (rows.capsules["default"].reserved, rows.capsules["default"].used) == (0, used)


class _Judge:
    """Takes the refusals that were to be expected."""

    def __init__(self, machine: Interleavings, model: Model, allowed: tuple[type[RequestError], ...]) -> None:
        self._machine = machine
        self._model = model
        self._allowed = (*allowed, UploadBusy, UploadGone, UploadComplete)

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        assert not isinstance(error, UploadNotFound), "a known id is not found"
        if isinstance(error, UploadGone):
            assert self._machine.row(self._model).status.gone
        if isinstance(error, UploadComplete):
            assert self._machine.row(self._model).status is SessionStatus.COMMITTED
        return isinstance(error, self._allowed)


async def _turn(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


TestInterleavings = pytest.mark.filterwarnings("error")(Interleavings.TestCase)
TestInterleavings.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
