"""A session: its size, its chunks, its states, and every step that is not allowed."""

from collections.abc import Callable

import pytest

from haulier.core.errors import ChunkOutOfRange, UploadBusy, UploadComplete, UploadGone
from haulier.core.quantity import MIB
from haulier.core.ranges import Ranges
from haulier.core.session import (
    GONE,
    LIVE,
    MAX_CHUNK,
    MAX_CHUNKS,
    MAX_CLIENT_CHUNK,
    MIN_CHUNK,
    TRANSITIONS,
    Mode,
    Session,
    SessionId,
    SessionSpec,
    SessionStatus,
    fit_chunk_size,
)
from haulier.core.values import replace

GIB = 1024 * MIB
TIB = 1024 * GIB
DEFAULT = 8 * MIB

CHUNKED = SessionSpec(
    scope="default",
    owner="local",
    request_hash="h",
    mode=Mode.CHUNKS,
    size=25,
    chunk_size=10,
    ttl_s=3600.0,
)
APPENDED = replace(CHUNKED, mode=Mode.APPEND)


def begin(spec: SessionSpec = CHUNKED, *, size: int | None = 25) -> Session[str]:
    return Session.begin(SessionId("s"), replace(spec, size=size), "details", now=1000.0)


def whole() -> Session[str]:
    session = begin()
    for index in range(3):
        session = session.accept(index, now=1000.0)
    return session


def finishing(session: Session[str] | None = None) -> Session[str]:
    return (session or whole()).finish("blob", "worker", now=1001.0)


def in_status(status: SessionStatus) -> Session[str]:
    return replace(whole(), status=status)


@pytest.mark.parametrize("status", sorted(set(SessionStatus) - {SessionStatus.COMMITTED}))
def test_only_a_committed_session_is_settled(status: SessionStatus) -> None:
    committed = in_status(SessionStatus.COMMITTED)
    assert committed.settle("other") == replace(committed, details="other")
    with pytest.raises(AssertionError, match=f"session s is {status}"):
        in_status(status).settle("other")


# --- chunk sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "size", "chosen"),
    [
        (None, 10 * GIB, DEFAULT),
        (None, None, DEFAULT),
        (None, 0, DEFAULT),
        (1, 10 * MIB, MIN_CHUNK),
        (300_000, 10 * MIB, 300_000),
        (64 * MIB, GIB, MAX_CLIENT_CHUNK),
        (65 * MIB, GIB, MAX_CLIENT_CHUNK),
        (None, 10_000 * DEFAULT, DEFAULT),
        (None, 10_000 * DEFAULT + 1, 9 * MIB),
        (1, 10_000 * MIN_CHUNK + 1, MIB),
        (None, 5 * TIB, 525 * MIB),
        (64 * MIB, 5 * TIB, 525 * MIB),
        (None, 10_000 * GIB, MAX_CHUNK),
        (None, 2**63 - 1, MAX_CHUNK),
    ],
)
def test_the_chunk_size_is_what_was_asked_for_within_its_limits(
    asked: int | None, size: int | None, chosen: int
) -> None:
    assert fit_chunk_size(asked, size, default=DEFAULT) == chosen


def test_the_limits_are_those_that_clients_were_told() -> None:
    assert (MIN_CHUNK, MAX_CLIENT_CHUNK, MAX_CHUNK, MAX_CHUNKS) == (
        262_144,
        67_108_864,
        1_073_741_824,
        10_000,
    )


# --- states ------------------------------------------------------------------------------------------


def test_the_state_machine_is_this_one() -> None:
    assert {status: sorted(TRANSITIONS[status]) for status in SessionStatus} == {
        "open": ["aborted", "expired", "failed", "finishing"],
        "finishing": ["committed", "failed", "open"],
        "committed": ["aborted"],
        "aborted": [],
        "expired": [],
        "failed": [],
    }


def test_a_status_is_live_or_gone_or_committed() -> None:
    assert {status for status in SessionStatus if status.live} == LIVE == {"open", "finishing"}
    assert {status for status in SessionStatus if status.gone} == GONE == {"aborted", "expired", "failed"}
    assert not SessionStatus.COMMITTED.live
    assert not SessionStatus.COMMITTED.gone


def test_a_new_session_is_open_and_empty() -> None:
    session = begin()
    assert session.status is SessionStatus.OPEN
    assert (session.id, session.details, session.size, session.received) == ("s", "details", 25, Ranges())
    assert (session.created_at, session.last_seen_at, session.expires_at) == (1000.0, 1000.0, 4600.0)
    assert (session.fence, session.holder, session.blob_key, session.error) == (0, None, None, None)


def test_a_session_that_is_committed_at_once_is_one_that_went_all_its_way_in_one_moment() -> None:
    begun = Session.begin(SessionId("s"), APPENDED, "details", now=1000.0)
    received = begun.advance(25, tail_trusted=True, boot_id="boot", now=1000.0)
    committed = received.finish("blob", "worker", now=1000.0).commit("details", now=1000.0)
    assert committed == Session.begin_committed(
        begun.id, APPENDED, "details", blob_key="blob", now=1000.0, boot_id="boot"
    )


@pytest.mark.parametrize("spec", [CHUNKED, replace(APPENDED, size=None), replace(APPENDED, size=0)])
def test_what_comes_in_chunks_or_has_no_bytes_is_not_committed_at_once(spec: SessionSpec) -> None:
    with pytest.raises(AssertionError):
        Session.begin_committed(SessionId("s"), spec, "details", blob_key="blob", now=1000.0)


def test_an_open_session_may_be_used() -> None:
    begin().require_open()


def test_a_caller_who_comes_too_late_is_told_why() -> None:
    with pytest.raises(UploadBusy, match="being finished"):
        in_status(SessionStatus.FINISHING).require_open()
    with pytest.raises(UploadComplete) as raised:
        in_status(SessionStatus.COMMITTED).require_open(result="record 1")
    assert raised.value.record == "record 1"
    for status in GONE:
        with pytest.raises(UploadGone, match=f"is {status}: why"):
            replace(in_status(status), error="why").require_open()


Step = Callable[[Session[str]], Session[str]]
OPEN_STEPS: dict[str, Step] = {
    "accept": lambda session: session.accept(0, now=1.0),
    "forget": lambda session: session.forget(0, now=1.0),
    "claim": lambda session: session.claim("worker", now=1.0),
    "advance": lambda session: session.advance(5, tail_trusted=False, boot_id="", now=1.0),
    "declare_size": lambda session: session.declare_size(25),
    "finish": lambda session: session.finish("blob", "worker", now=1.0),
}
FINISHING_STEPS: dict[str, Step] = {
    "take_finish": lambda session: session.take_finish("worker"),
    "commit": lambda session: session.commit("details", now=1.0),
    "reopen": lambda session: session.reopen("why", now=1.0),
}


@pytest.mark.parametrize("name", OPEN_STEPS)
@pytest.mark.parametrize("status", sorted(set(SessionStatus) - {SessionStatus.OPEN}))
def test_what_needs_an_open_session_crashes_on_every_other(status: SessionStatus, name: str) -> None:
    with pytest.raises(AssertionError, match=f"session s (is|cannot go from) {status}"):
        OPEN_STEPS[name](in_status(status))


@pytest.mark.parametrize("name", FINISHING_STEPS)
@pytest.mark.parametrize("status", sorted(set(SessionStatus) - {SessionStatus.FINISHING}))
def test_what_needs_a_finishing_session_crashes_on_every_other(status: SessionStatus, name: str) -> None:
    with pytest.raises(AssertionError, match=f"session s (is|cannot go from) {status}"):
        FINISHING_STEPS[name](in_status(status))


@pytest.mark.parametrize("end", sorted(GONE))
@pytest.mark.parametrize("status", sorted(SessionStatus))
def test_only_legal_ends_are_taken(status: SessionStatus, end: SessionStatus) -> None:
    session = in_status(status)
    if end in TRANSITIONS[status]:
        ended = session.end(end, error="why", now=1002.0)
        assert ended == replace(
            session, status=end, received=Ranges(), error="why", holder=None, last_seen_at=1002.0
        )
    else:
        with pytest.raises(AssertionError, match=f"cannot go from {status} to {end}"):
            session.end(end, error="why", now=1002.0)


@pytest.mark.parametrize("status", sorted(set(SessionStatus) - GONE))
def test_a_result_is_no_end_without_a_result(status: SessionStatus) -> None:
    with pytest.raises(ValueError, match="not an end without a result"):
        begin().end(status, error=None, now=1001.0)


@pytest.mark.parametrize("name", ["accept", "forget"])
def test_an_append_takes_no_chunks(name: str) -> None:
    with pytest.raises(AssertionError, match="session s takes append, not chunks"):
        OPEN_STEPS[name](begin(APPENDED))


@pytest.mark.parametrize("name", ["advance", "declare_size"])
def test_chunks_take_no_append(name: str) -> None:
    with pytest.raises(AssertionError, match="session s takes chunks, not append"):
        OPEN_STEPS[name](begin())


# --- chunks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "count"), [(None, 0), (0, 0), (1, 1), (10, 1), (11, 2), (25, 3), (30, 3), (31, 4)]
)
def test_the_last_chunk_may_be_short_and_an_empty_file_has_none(size: int | None, count: int) -> None:
    assert begin(size=size).chunk_count == count


def test_chunks_lie_side_by_side() -> None:
    assert [begin().chunk_range(index) for index in range(3)] == [(0, 10), (10, 20), (20, 25)]


@pytest.mark.parametrize(("size", "index"), [(25, 3), (25, -1), (0, 0), (None, 0), (25, 2**62)])
def test_an_index_outside_is_refused(size: int | None, index: int) -> None:
    session = begin(size=size)
    with pytest.raises(ChunkOutOfRange) as caught:
        session.chunk_range(index)
    assert (caught.value.index, caught.value.chunk_count) == (index, session.chunk_count)


def test_chunks_may_come_in_any_order() -> None:
    session = begin().accept(2, now=1001.0)
    assert session.received.pairs == ((20, 25),)
    assert session.missing_chunks(10) == [0, 1]
    session = session.accept(0, now=1002.0)
    assert session.received.pairs == ((0, 10), (20, 25))
    assert (session.complete, session.missing_chunks(10)) == (False, [1])
    session = session.accept(1, now=1003.0)
    assert session.received.pairs == ((0, 25),)
    assert (session.complete, session.missing_chunks(10)) == (True, [])


def test_only_so_many_missing_chunks_are_listed() -> None:
    session = begin(size=100).accept(1, now=1001.0).accept(4, now=1001.0)
    assert session.missing_chunks(100) == [0, 2, 3, 5, 6, 7, 8, 9]
    assert session.missing_chunks(3) == [0, 2, 3]
    assert session.missing_chunks(4) == [0, 2, 3, 5]
    assert session.missing_chunks(1) == [0]
    assert session.missing_chunks(0) == []


def test_the_chunks_of_the_largest_file_are_listed_without_counting_them_all() -> None:
    assert begin(size=2**63 - 1).missing_chunks(3) == [0, 1, 2]


def test_no_chunk_is_missing_of_an_unknown_size() -> None:
    assert begin(APPENDED, size=None).missing_chunks(10) == []


def test_accepting_a_chunk_twice_changes_only_the_times() -> None:
    once = begin().accept(1, now=1001.0)
    assert once.accept(1, now=1002.0) == once.seen(1002.0)


def test_accepting_is_activity() -> None:
    session = begin().accept(1, now=1500.0)
    assert (session.last_seen_at, session.expires_at) == (1500.0, 5100.0)


def test_a_forgotten_chunk_is_missing_again() -> None:
    session = whole().forget(1, now=1500.0)
    assert session.received.pairs == ((0, 10), (20, 25))
    assert session.missing_chunks(10) == [1]
    assert (session.last_seen_at, session.expires_at) == (1500.0, 5100.0)


# --- appends -----------------------------------------------------------------------------------------


def test_an_append_goes_on_at_the_offset() -> None:
    session = begin(APPENDED)
    assert session.offset == 0
    session = session.advance(7, tail_trusted=True, boot_id="b1", now=1001.0)
    assert (session.offset, session.received.pairs) == (7, ((0, 7),))
    assert (session.tail_trusted, session.boot_id, session.last_seen_at) == (True, "b1", 1001.0)
    assert not session.complete
    assert session.advance(25, tail_trusted=False, boot_id="b1", now=1002.0).complete


def test_a_lost_tail_moves_the_offset_back() -> None:
    session = begin(APPENDED).advance(7, tail_trusted=True, boot_id="b1", now=1001.0)
    assert session.advance(3, tail_trusted=False, boot_id="b2", now=1002.0).offset == 3
    assert session.advance(0, tail_trusted=False, boot_id="b2", now=1002.0).received == Ranges()


def test_every_claim_has_a_higher_fence() -> None:
    first = begin(APPENDED).claim("one", now=1001.0)
    second = first.claim("two", now=1002.0)
    assert (first.fence, first.holder, second.fence, second.holder) == (1, "one", 2, "two")
    assert second.expires_at == 4602.0


def test_an_unknown_size_is_declared_once() -> None:
    session = begin(APPENDED, size=None).advance(7, tail_trusted=False, boot_id="", now=1001.0)
    assert not session.complete
    declared = session.declare_size(7)
    assert (declared.size, declared.spec.size, declared.complete) == (7, None, True)
    with pytest.raises(AssertionError, match="has its size already"):
        declared.declare_size(8)


def test_a_size_below_the_offset_is_no_size() -> None:
    session = begin(APPENDED, size=None).advance(7, tail_trusted=False, boot_id="", now=1001.0)
    with pytest.raises(AssertionError, match="has more than 6 bytes"):
        session.declare_size(6)


# --- ends --------------------------------------------------------------------------------------------


def test_a_session_with_gaps_does_not_finish() -> None:
    for session in (begin().accept(2, now=1.0), begin(APPENDED, size=None)):
        with pytest.raises(AssertionError, match="is not complete"):
            session.finish("blob", "worker", now=1001.0)


def test_an_empty_file_is_complete_from_the_start() -> None:
    assert begin(size=0).complete
    assert finishing(begin(size=0)).status is SessionStatus.FINISHING


def test_finishing_writes_down_where_the_bytes_will_be() -> None:
    session = finishing()
    assert session.status is SessionStatus.FINISHING
    assert (session.blob_key, session.holder, session.fence, session.last_seen_at) == (
        "blob",
        "worker",
        1,
        1001.0,
    )


def test_whoever_goes_on_has_a_higher_fence() -> None:
    taken = finishing().take_finish("other")
    assert taken == replace(finishing(), fence=2, holder="other")


def test_a_commit_keeps_the_result_and_lets_go() -> None:
    committed = finishing().commit("result", now=1002.0)
    assert committed == replace(
        finishing(),
        status=SessionStatus.COMMITTED,
        details="result",
        holder=None,
        last_seen_at=1002.0,
        expires_at=4602.0,
    )


def test_after_a_wrong_digest_chunks_may_be_replaced_until_the_next_finish() -> None:
    assert not whole().replaceable
    assert not finishing().replaceable
    session = finishing().reopen("wrong digest", now=1002.0)
    assert session.replaceable
    assert (session.status, session.error, session.blob_key, session.holder) == (
        SessionStatus.OPEN, "wrong digest", None, None,
    )  # fmt: skip
    assert session.received == whole().received
    again = finishing(session.forget(1, now=1003.0).accept(1, now=1004.0))
    assert (again.fence, again.error, again.replaceable) == (2, None, False)


def test_an_append_is_never_opened_again() -> None:
    session = begin(APPENDED).advance(25, tail_trusted=False, boot_id="", now=1001.0)
    with pytest.raises(AssertionError, match="takes append, not chunks"):
        finishing(session).reopen("wrong digest", now=1002.0)
