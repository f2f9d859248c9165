"""Short files, begun, stored and committed in one step; and what of them goes the ordinary way."""

import asyncio
import hashlib
from typing import Any

import pytest

from haulier.core.caller import Caller, Role, Scope
from haulier.core.digest import Buffer, Digest, DigestName
from haulier.core.errors import (
    AccessDenied,
    CapsuleNotFound,
    DigestMismatch,
    InvalidRequest,
    QuotaExceeded,
    RequestError,
    ServiceStopping,
    StorageFull,
    StorageUnavailable,
    TypeNotAccepted,
)
from haulier.core.event import START, EventKind
from haulier.core.record import RecordId, RecordStatus
from haulier.core.session import Concat, Mode, Session, SessionStatus
from haulier.core.upload import BeginUpload, Upload
from haulier.core.values import replace
from haulier.engine import gate
from haulier.engine.body_checks import BodyCheck, Scan
from haulier.engine.context import SessionLimits
from haulier.engine.hooks import Hooks
from haulier.engine.planning import UploadLimits
from haulier.engine.policy import TakenUpload, UploadPolicy
from haulier.engine.whole import MOST, ReadAhead
from haulier.ports import BodyEnd
from haulier.testing.rows import upload
from tests.support.bodies import FakeBody
from tests.support.engine import ME, Engine, count_reads, count_writes, engine
from tests.support.fake_pictures import FakePictures

HELLO = b"hello world"
SHA_256 = Digest(DigestName.SHA_256, hashlib.sha256(HELLO).digest())
MD5 = Digest(DigestName.MD5, hashlib.md5(HELLO).digest())
WRONG = Digest(DigestName.SHA_256, bytes(32))


async def take(one: Engine, body: FakeBody | ReadAhead | None = None, **how: Any) -> Upload | None:
    taken = await take_with_record(one, body, **how)
    return None if taken is None else taken.upload


async def take_with_record(
    one: Engine,
    body: FakeBody | ReadAhead | None = None,
    *,
    caller: Caller = ME,
    digests: tuple[Digest, ...] = (),
    check: BodyCheck | None = None,
    **request: Any,
) -> TakenUpload | None:
    given = body or FakeBody(HELLO)
    ahead = given if isinstance(given, ReadAhead) else ReadAhead(given)
    asked = BeginUpload(**{"filename": "a.txt", "size": given.length, "mode": Mode.APPEND, **request})
    return await one.uploads.take(asked, ahead, caller=caller, digests=digests, check=check)


async def send(one: Engine, *, caller: Caller = ME, **request: Any) -> Upload:
    """Do what the front ends do: what is not taken in one step is begun, and then received."""
    body = ReadAhead(FakeBody(HELLO))
    taken = await take(one, body, caller=caller, **request)
    if taken is not None:
        return taken
    asked = BeginUpload(**{"filename": "a.txt", "size": len(HELLO), "mode": Mode.APPEND, **request})
    upload = (await one.uploads.begin(asked, caller=caller)).upload
    return (await one.uploads.append(upload.id, 0, body, caller=caller, final=True)).upload


async def events(one: Engine) -> list[tuple[EventKind, object]]:
    found, _ = await one.database.read(lambda tx: tx.events.after(START, limit=10))
    return [(told.event.kind, told.event.facts["status"]) for told in found]


def nothing_is_left(one: Engine) -> bool:
    return not one.disk.blobs and not one.disk.parts


class TestTaken:
    async def test_a_short_file_is_a_committed_upload_with_a_completed_record(self) -> None:
        async with engine() as one:
            upload = await take(one, FakeBody(HELLO[:4], HELLO[4:]))
            assert upload is not None
            state = await one.uploads.state(upload.id, caller=ME)
            assert state.upload == upload
            assert (upload.status, upload.size, upload.offset) == (SessionStatus.COMMITTED, 11, 11)
            assert (upload.details.digest, state.verified_bytes) == (SHA_256, 11)
            assert await one.content(upload) == HELLO
            record = await one.records.get(RecordId(upload.details.record or ""), caller=ME)
            assert (record.status, record.size, record.digest) == (RecordStatus.COMPLETED, 11, SHA_256)
            assert (record.filename, record.content_type) == ("a.txt", "text/plain")
            assert [asset.blob_key for asset in record.assets] == [upload.blob_key]
            assert record.finished_at == record.uploaded_at == record.created_at == one.clock.now()
            assert (one.counts.uploads, one.counts.bytes, one.counts.ends) == (
                1,
                11,
                [SessionStatus.COMMITTED],
            )
            assert not one.disk.parts

    async def test_nobody_needs_to_be_told(self) -> None:
        async with engine(observed=False) as one:
            upload = await take(one)
            assert upload is not None
            assert upload.status is SessionStatus.COMMITTED

    async def test_it_is_one_transaction(self) -> None:
        async with engine() as one:
            writes = count_writes(one)
            await take(one)
            assert [how["durable"] for how in writes] == [True]

    async def test_its_events_are_those_of_any_upload(self) -> None:
        async with engine() as one:
            await take(one)
            short = await events(one)
        async with engine() as one:
            upload = await one.begin_append(11)
            await one.uploads.append(upload.id, 0, FakeBody(HELLO), caller=ME, final=True)
            assert await events(one) == short
        assert short == [(EventKind.CREATED, "uploading"), (EventKind.COMPLETED, "completed")]

    async def test_the_capsule_counts_its_bytes(self) -> None:
        async with engine() as one:
            await take(one)
            capsule = await one.database.read(lambda tx: tx.capsules.load("default"))
            assert capsule is not None
            assert (capsule.used, capsule.reserved) == (11, 0)

    @pytest.mark.parametrize("name", [DigestName.BLAKE3, DigestName.MD5, DigestName.CRC32C])
    async def test_the_digest_is_the_one_that_was_asked_for(self, name: DigestName) -> None:
        async with engine() as one:
            upload = await take(one, digest_name=name)
            assert upload is not None
            assert upload.details.digest is not None
            assert upload.details.digest.name is name

    async def test_without_a_digest_there_is_none(self) -> None:
        async with engine() as one:
            upload = await take(one, digest_name=DigestName.NONE)
            assert upload is not None
            state = await one.uploads.state(upload.id, caller=ME)
            assert (upload.details.digest, state.verified_bytes) == (None, 0)

    @pytest.mark.parametrize(
        ("name", "digest"), [(DigestName.NONE, SHA_256), (DigestName.SHA_256, SHA_256), (DigestName.MD5, MD5)]
    )
    def test_a_promise_is_kept_whatever_digest_the_capsule_wants(
        self, name: DigestName, digest: Digest
    ) -> None:
        details = replace(upload("a").details, digest_name=name, expected=SHA_256)
        assert UploadPolicy.judge(details, HELLO) == replace(details, digest=digest)
        with pytest.raises(DigestMismatch):
            UploadPolicy.judge(replace(details, expected=WRONG), HELLO)

    async def test_a_picture_is_left_to_be_processed(self) -> None:
        async with engine(pictures=FakePictures()) as one:
            upload = await take(one, filename="a.png")
            assert upload is not None
            assert (await events(one))[:2] == [
                (EventKind.CREATED, "uploading"),
                (EventKind.UPDATED, "uploaded"),
            ]
            record_id = RecordId(upload.details.record or "")
            await one.pass_time_until(lambda: not one.jobs.knows(record_id))
            record = await one.records.get(record_id, caller=ME)
            assert len(record.assets) == 4

    async def test_whatever_judges_a_body_sees_all_of_it(self) -> None:
        async with engine() as one:
            right, wrong = Sum(sum(HELLO)), Sum(0)
            assert await take(one, check=right) is not None
            assert await take(one, check=wrong) is None


class TestTogether:
    async def test_files_that_come_at_the_same_time_share_a_transaction(self) -> None:
        async with engine() as one:
            writes = count_writes(one)
            brought = (take_with_record(one, FakeBody(bytes(n))) for n in range(1, 11))
            together = await asyncio.gather(*brought)
            assert len(writes) < 4
            assert all(how == {"durable": True} for how in writes)
            for size, taken in enumerate(together, 1):
                assert taken is not None
                assert await one.state(taken.upload.id) == taken.upload
                assert await one.records.get(taken.record.id, caller=ME) == taken.record
                assert taken.upload.size == size
            capsule = await one.database.read(lambda tx: tx.capsules.load("default"))
            assert capsule is not None
            assert (capsule.used, capsule.reserved) == (55, 0)
            assert [kind for kind, _ in await events(one)] == [EventKind.CREATED, EventKind.COMPLETED] * 5

    async def test_one_look_at_the_capsule_serves_all_that_come_after_it(self) -> None:
        async with engine() as one:
            reads = count_reads(one)
            await take(one)
            await asyncio.gather(*(take(one) for _ in range(5)))
            assert len(reads) == 1

    async def test_so_many_looks_are_remembered_and_no_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gate, "KNOWN", 2)
        callers = [Caller(owner=f"user:{name}", scope=Scope.OPERATOR) for name in ("ann", "bob", "eve")]
        async with engine() as one:
            reads = count_reads(one)
            for caller in callers:
                assert await take(one, caller=caller)
            assert await take(one, caller=callers[2])
            assert len(reads) == 3
            assert await take(one, caller=callers[0])
            assert len(reads) == 4

    async def test_each_caller_and_each_capsule_is_looked_at_by_itself(self) -> None:
        eve = Caller(owner="user:eve", scope=Scope.WRITE)
        async with engine() as one:
            await one.accounts.create_capsule("attic", owner="user:bob")
            taking = (
                take(one),
                take(one, caller=eve, capsule="attic"),
                take(one, capsule="attic"),
                take(one),
            )
            outcomes = await asyncio.gather(*taking, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [
                Session,
                CapsuleNotFound,
                Session,
                Session,
            ]

    async def test_what_changes_is_seen_by_the_next_file(self) -> None:
        async with engine() as one:
            await take(one)
            await one.accounts.set_capsule("default", {"types": "image/*"})
            with pytest.raises(TypeNotAccepted):
                await send(one)
            await one.accounts.set_capsule("default", {"types": "text/*"})
            assert await take(one) is not None
            await one.accounts.set_capsule("default", {"types": ""})
            assert await take(one) is None
            reads = count_reads(one)
            assert await take(one) is not None  # by a new look
            assert await take(one) is not None
            assert len(reads) == 1

    async def test_files_that_come_together_by_what_is_out_of_date_forget_it_once(self) -> None:
        async with engine() as one:
            await take(one)
            await one.accounts.set_capsule("default", {"types": "text/*"})
            assert await asyncio.gather(*(take(one) for _ in range(3))) == [None] * 3
            reads = count_reads(one)
            assert await take(one) is not None
            assert len(reads) == 1

    async def test_a_refusal_that_says_nothing_about_the_capsule_needs_no_new_look(self) -> None:
        async with engine() as one:
            await take(one)
            reads = count_reads(one)
            assert await take(one, expected=WRONG) is None
            await one.accounts.set_capsule("default", {"quota": "12"})
            assert await take(one) is None
            assert await take(one) is None
            assert len(reads) == 0

    async def test_a_capsule_that_takes_more_by_now_refuses_nobody_for_what_it_took_before(self) -> None:
        async with engine() as one:
            await one.accounts.set_capsule("default", {"types": "image/*, text/*"})
            assert await take(one)
            await one.accounts.set_capsule("default", {"types": ""})
            assert (await send(one, filename="a.bin")).status is SessionStatus.COMMITTED

    @pytest.mark.parametrize("admits", ["admits_users", "admits_visitors"])
    async def test_who_is_not_admitted_any_more_brings_nothing_new(self, admits: str) -> None:
        owner = {"admits_users": "user:ann", "admits_visitors": "visitor:ann"}[admits]
        guest = Caller(owner=owner, scope=Scope.WRITE)
        async with engine() as one:
            await one.accounts.create_capsule("attic", owner="user:bob")
            await one.accounts.set_capsule("attic", {admits: "true"})
            assert await take(one, caller=guest, capsule="attic")
            await one.accounts.set_capsule("attic", {admits: "false"})
            assert await take(one, caller=guest, capsule="attic") is None
            with pytest.raises(RequestError):
                await send(one, caller=guest, capsule="attic")
            assert len(one.disk.blobs) == 1

    async def test_a_quota_keeps_out_only_what_does_not_fit(self) -> None:
        async with engine() as one:
            await one.accounts.set_capsule("default", {"quota": "35"})
            outcomes = await asyncio.gather(*(take(one) for _ in range(5)), return_exceptions=True)
            assert sum(isinstance(outcome, Session) for outcome in outcomes) == 3
            assert outcomes.count(None) == 2
            assert len(one.disk.blobs) == 3

    async def test_a_right_that_ends_keeps_out_only_its_owner(self) -> None:
        people = {name: Caller(owner=f"user:{name}", scope=Scope.WRITE) for name in ("ann", "eve")}
        async with engine() as one:
            await one.accounts.create_capsule("attic", owner="user:bob")
            for who in people.values():
                await one.accounts.grant("attic", who.owner, Role.WRITER)
            one.before_sink("store", lambda: one.accounts.grant("attic", "user:ann", Role.READER))
            taking = (take(one, caller=who, capsule="attic") for who in people.values())
            anns, eves = await asyncio.gather(*taking)
            assert anns is None
            assert isinstance(eves, Session)

    async def test_those_whose_answer_was_lost_are_all_told_and_all_stay(self) -> None:
        async with engine() as one:
            one.database.lose_next_answer()
            outcomes = await asyncio.gather(*(take(one) for _ in range(5)), return_exceptions=True)
            assert StorageUnavailable in {type(outcome) for outcome in outcomes}
            keys = set(one.disk.blobs)
            assert len(keys) == 5
            assert await one.database.read(lambda tx: tx.sessions.blob_keys(keys)) == keys


class Sum:
    """A check by a sum, of the bytes as they pass and of those that are scanned."""

    strict = True

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.seen = 0

    def update(self, piece: Buffer) -> None:
        self.seen += sum(piece)

    async def verify(self, scan: Scan) -> None:
        scanned = bytearray()
        await scan(scanned.extend)
        if not self.seen == sum(scanned) == self.expected:
            raise InvalidRequest.of("sum", "is another")


class TestRefused:
    async def test_a_full_quota_leaves_nothing(self) -> None:
        async with engine() as one:
            await one.accounts.set_capsule("default", {"quota": "10"})
            assert await take(one) is None
            assert nothing_is_left(one)
            with pytest.raises(QuotaExceeded):
                await send(one)
            assert await events(one) == []

    async def test_too_many_live_uploads_leave_nothing(self) -> None:
        async with engine(limits=UploadLimits(sessions=SessionLimits(max_live=1))) as one:
            await one.begin_append(5)
            assert await take(one) is None
            assert not one.disk.blobs
            with pytest.raises(QuotaExceeded):
                await send(one)

    async def test_a_right_that_ends_while_the_body_comes_does_not_count(self) -> None:
        ann = Caller(owner="user:ann", scope=Scope.WRITE)
        async with engine() as one:
            await one.accounts.create_capsule("attic", owner="user:bob")
            await one.accounts.grant("attic", "user:ann", Role.WRITER)
            one.before_sink("store", lambda: one.accounts.grant("attic", "user:ann", Role.READER))
            assert await take(one, caller=ann, capsule="attic") is None
            assert nothing_is_left(one)
            with pytest.raises(AccessDenied):
                await send(one, caller=ann, capsule="attic")

    async def test_a_full_disk_leaves_nothing(self) -> None:
        async with engine() as one:
            one.sink.fail_next("store", StorageFull(11, 0))
            with pytest.raises(StorageFull):
                await take(one)
            assert nothing_is_left(one)
            assert await events(one) == []

    async def test_a_blob_whose_answer_was_lost_stays(self) -> None:
        async with engine() as one:
            one.database.lose_next_answer()
            with pytest.raises(StorageUnavailable):
                await take(one)
            [blob_key] = one.disk.blobs
            assert await one.database.read(lambda tx: tx.sessions.blob_keys([blob_key])) == {blob_key}

    async def test_a_service_that_stops_takes_none_and_lets_running_ones_end(self) -> None:
        async with engine() as one:
            body = FakeBody(HELLO[:4], HELLO[4:], held=True)
            async with asyncio.TaskGroup() as group:
                taking = group.create_task(take(one, body))
                await body.reached.wait()
                await one.uploads.stop()
            assert taking.result() is None
            with pytest.raises(ServiceStopping):
                await take(one)
            assert nothing_is_left(one)


class TestTheOrdinaryWay:
    @pytest.mark.parametrize(
        "request_",
        [
            {"key": "k"},
            {"mode": Mode.CHUNKS},
            {"concat": Concat.PARTIAL},
            {"lanes": True},
            {"size": 12},
        ],
    )
    async def test_what_somebody_may_come_back_for_is_begun(self, request_: dict[str, Any]) -> None:
        async with engine() as one:
            body = FakeBody(HELLO)
            assert await take(one, body, **request_) is None
            assert body.receives == 0

    @pytest.mark.parametrize(
        "body",
        [FakeBody(), FakeBody(HELLO, announced=False), FakeBody(bytes(MOST + 1))],
        ids=["empty", "of unknown length", "long"],
    )
    async def test_bodies_that_are_not_short_are_not_read_ahead(self, body: FakeBody) -> None:
        async with engine() as one:
            assert await take(one, body) is None
            assert body.receives == 0

    async def test_the_longest_short_one_is_taken(self) -> None:
        async with engine() as one:
            upload = await take(one, FakeBody(bytes(MOST)))
            assert upload is not None
            assert upload.size == MOST

    async def test_who_asks_the_embedding_program_begins_first(self) -> None:
        async def approve(*_: object) -> None:
            raise AssertionError("not asked on this way")

        async with engine(hooks=Hooks(on_finish=approve)) as one:
            assert await take(one) is None

    @pytest.mark.parametrize("promise", [{"expected": WRONG}, {"digests": (WRONG,)}])
    async def test_a_wrong_digest_is_told_by_an_upload_that_failed(self, promise: dict[str, Any]) -> None:
        async with engine() as one:
            body = ReadAhead(FakeBody(HELLO))
            assert await take(one, body, **promise) is None
            assert nothing_is_left(one)
            upload = await one.begin_append(11, expected=WRONG)
            with pytest.raises(DigestMismatch):
                await one.uploads.append(upload.id, 0, body, caller=ME, final=True)
            assert (await one.state(upload.id)).status is SessionStatus.FAILED

    async def test_a_cut_body_is_kept_as_far_as_it_came(self) -> None:
        async with engine() as one:
            body = ReadAhead(FakeBody(HELLO[:4], end=BodyEnd.CUT, length=11))
            assert await take(one, body) is None
            got = bytearray()
            assert await body.receive(got.extend) is BodyEnd.CUT
            assert got == HELLO[:4]


class TestReadAhead:
    async def test_unread_it_is_the_body_itself(self) -> None:
        body = ReadAhead(FakeBody(HELLO[:4], HELLO[4:]))
        got: list[bytes] = []
        assert await body.receive(lambda piece: got.append(bytes(piece))) is BodyEnd.COMPLETE
        assert got == [HELLO[:4], HELLO[4:]]

    async def test_what_was_read_is_handed_over_once_more_up_to_the_limit(self) -> None:
        body = ReadAhead(FakeBody(HELLO))
        assert await body.whole() == HELLO
        got = bytearray()

        async def later(piece: bytes) -> None:
            await asyncio.sleep(0)
            got.extend(piece)

        assert await body.receive(lambda piece: later(bytes(piece)), limit=4) is BodyEnd.LIMIT
        assert got == HELLO[:4]

    async def test_nothing_read_hands_nothing_over(self) -> None:
        body = ReadAhead(FakeBody(end=BodyEnd.CUT, length=11))
        assert await body.whole() is None
        got = bytearray()
        assert await body.receive(got.extend) is BodyEnd.CUT
        assert got == b""
