"""Sessions under any sequence of steps: only the legal ones change anything, and nothing is lost."""

from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from haulier.core.errors import ChunkOutOfRange
from haulier.core.quantity import MIB
from haulier.core.session import (
    GONE,
    MAX_CHUNK,
    MAX_CHUNKS,
    MAX_CLIENT_CHUNK,
    MIN_CHUNK,
    Mode,
    Session,
    SessionId,
    SessionSpec,
    SessionStatus,
    fit_chunk_size,
)

CHUNK = 10
SIZES = st.integers(0, 45)
TIMES = st.floats(0, 1e10)
ENDS = st.sampled_from(sorted(GONE))

OPEN, FINISHING = SessionStatus.OPEN, SessionStatus.FINISHING


class SessionMachine(RuleBasedStateMachine):
    """Takes any step at any time beside a model of four plain values."""

    mode: ClassVar[Mode]

    @initialize(size=SIZES, unknown=st.booleans(), now=TIMES)
    def begin(self, size: int, unknown: bool, now: float) -> None:
        known = None if unknown and self.mode is Mode.APPEND else size
        spec = SessionSpec(
            scope="default",
            owner="local",
            request_hash="",
            mode=self.mode,
            size=known,
            chunk_size=CHUNK,
            ttl_s=60.0,
        )
        self.session = Session.begin(SessionId("s"), spec, "details", now=now)
        self.status, self.size, self.fence = OPEN, known, 0
        self.held: set[int] = set()

    def step(self, change: Callable[[], Session[str]], *, legal: bool) -> bool:
        """Take a step that must succeed, or must crash and change nothing."""
        before = self.session
        if legal:
            self.session = change()
            return True
        with pytest.raises(AssertionError):
            change()
        assert self.session is before
        return False

    @property
    def whole(self) -> bool:
        return self.size is not None and set(range(self.size)) <= self.held

    @rule(index=st.integers(-1, 5), now=TIMES)
    def accept(self, index: int, now: float) -> None:
        self._chunk(self.session.accept, index, now, self.held.update)

    @rule(index=st.integers(-1, 5), now=TIMES)
    def forget(self, index: int, now: float) -> None:
        self._chunk(self.session.forget, index, now, self.held.difference_update)

    def _chunk(
        self, change: Callable[..., Session[str]], index: int, now: float, follow: Callable[[set[int]], None]
    ) -> None:
        chunk = set(range(index * CHUNK, min(index * CHUNK + CHUNK, self.size or 0)))
        legal = self.status is OPEN and self.mode is Mode.CHUNKS
        if legal and (index < 0 or not chunk):
            with pytest.raises(ChunkOutOfRange):
                change(index, now=now)
        elif self.step(lambda: change(index, now=now), legal=legal):
            follow(chunk)
            assert self.session.expires_at == now + 60.0

    @rule(offset=SIZES, trusted=st.booleans(), now=TIMES)
    def advance(self, offset: int, trusted: bool, now: float) -> None:
        # The engine never stores past the size; a sink would have refused those bytes.
        offset = offset if self.size is None else min(offset, self.size)
        legal = self.status is OPEN and self.mode is Mode.APPEND
        if self.step(
            lambda: self.session.advance(offset, tail_trusted=trusted, boot_id="b", now=now), legal=legal
        ):
            self.held = set(range(offset))
            assert (self.session.offset, self.session.tail_trusted) == (offset, trusted)

    @rule(size=SIZES)
    def declare_size(self, size: int) -> None:
        legal = (
            self.status is OPEN and self.mode is Mode.APPEND and self.size is None and size >= len(self.held)
        )
        if self.step(lambda: self.session.declare_size(size), legal=legal):
            self.size = size

    @rule(now=TIMES)
    def lose(self, now: float) -> None:
        legal = self.status is OPEN and self.mode is Mode.CHUNKS
        if self.step(lambda: self.session.lose("lost", now=now), legal=legal):
            self.held, self.fence = set(), self.fence + 1
            assert (self.session.error, self.session.follower) == ("lost", None)

    @rule(now=TIMES)
    def claim(self, now: float) -> None:
        if self.step(lambda: self.session.claim("w", now=now), legal=self.status is OPEN):
            self.fence += 1

    @rule(now=TIMES)
    def finish(self, now: float) -> None:
        if self.step(
            lambda: self.session.finish("blob", "w", now=now), legal=self.status is OPEN and self.whole
        ):
            self.status, self.fence = FINISHING, self.fence + 1
            assert (self.session.blob_key, self.session.holder, self.session.error) == ("blob", "w", None)

    @rule()
    def take_finish(self) -> None:
        if self.step(lambda: self.session.take_finish("x"), legal=self.status is FINISHING):
            self.fence += 1

    @rule(now=TIMES)
    def commit(self, now: float) -> None:
        if self.step(lambda: self.session.commit("result", now=now), legal=self.status is FINISHING):
            self.status = SessionStatus.COMMITTED

    @rule(now=TIMES)
    def reopen(self, now: float) -> None:
        legal = self.status is FINISHING and self.mode is Mode.CHUNKS
        if self.step(lambda: self.session.reopen("wrong", now=now), legal=legal):
            self.status = OPEN
            assert self.session.replaceable

    @rule(end=ENDS, now=TIMES)
    def end(self, end: SessionStatus, now: float) -> None:
        legal = (
            self.status is OPEN
            or (self.status is FINISHING and end is SessionStatus.FAILED)
            # A result that nothing has taken may be given up.
            or (self.status is SessionStatus.COMMITTED and end is SessionStatus.ABORTED)
        )
        if self.step(lambda: self.session.end(end, error="why", now=now), legal=legal):
            self.status = end
            if self.mode is Mode.CHUNKS:
                self.held = set()

    @invariant()
    def it_stands_where_the_model_stands(self) -> None:
        session = self.session
        assert (session.status, session.size, session.fence) == (self.status, self.size, self.fence)
        assert {byte for start, stop in session.received for byte in range(start, stop)} == self.held
        assert session.complete == self.whole

    @invariant()
    def what_ended_has_no_holder_and_what_finishes_has_its_place(self) -> None:
        if not self.status.live:
            assert self.session.holder is None
        if self.status in {FINISHING, SessionStatus.COMMITTED}:
            assert self.session.blob_key == "blob"
            assert self.session.complete

    @invariant()
    def missing_chunks_are_those_with_a_missing_byte(self) -> None:
        count = self.session.chunk_count
        assert self.session.missing_chunks(100) == [
            index
            for index in range(count)
            if set(range(index * CHUNK, min(index * CHUNK + CHUNK, self.size or 0))) - self.held
        ]


class ChunkedMachine(SessionMachine):
    """Numbered pieces."""

    mode = Mode.CHUNKS


class AppendMachine(SessionMachine):
    """Bytes at the end."""

    mode = Mode.APPEND


TestChunked = ChunkedMachine.TestCase
TestAppend = AppendMachine.TestCase


@given(
    asked=st.none() | st.integers(1, 2**63 - 1),
    size=st.none() | st.integers(0, 5 * 2**40) | st.integers(0, 2**63 - 1),
    default=st.integers(MIN_CHUNK, MAX_CLIENT_CHUNK),
)
def test_a_chunk_size_fits_its_file(asked: int | None, size: int | None, default: int) -> None:
    chosen = fit_chunk_size(asked, size, default=default)
    assert MIN_CHUNK <= chosen <= MAX_CHUNK
    wanted = default if asked is None else min(max(asked, MIN_CHUNK), MAX_CLIENT_CHUNK)
    assert chosen >= wanted
    if chosen != wanted:
        # It grew, because it had to: in whole MiB, and by no MiB too many.
        assert chosen % MIB == 0
        assert size is not None
        assert size > wanted * MAX_CHUNKS
        assert size > (chosen - MIB) * MAX_CHUNKS
    if size is not None and size <= MAX_CHUNKS * MAX_CHUNK:
        assert -(-size // chosen) <= MAX_CHUNKS


@given(size=st.integers(0, 5 * 2**40), asked=st.none() | st.integers(1, 2**40), index=st.integers(0, 10_000))
def test_the_chunks_of_any_file_up_to_5_tib_tile_it(size: int, asked: int | None, index: int) -> None:
    spec = SessionSpec(
        scope="default",
        owner="local",
        request_hash="",
        mode=Mode.CHUNKS,
        size=size,
        chunk_size=fit_chunk_size(asked, size, default=8 * MIB),
        ttl_s=60.0,
    )
    session = Session.begin(SessionId("s"), spec, "details", now=0.0)
    assert session.chunk_count <= MAX_CHUNKS
    assume(index < session.chunk_count)
    start, stop = session.chunk_range(index)
    assert start == index * spec.chunk_size
    assert stop == (size if index == session.chunk_count - 1 else start + spec.chunk_size)
    assert start < stop <= size
