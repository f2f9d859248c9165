"""Who may do what with uploads and records: on the real engine, by owners, grants, scopes and upload tokens."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from haulier.adapters.access import GrantedAccess
from haulier.core.caller import LOCAL, Caller, Role, Scope
from haulier.core.errors import (
    AccessDenied,
    CapsuleNotFound,
    InvalidRequest,
    QuotaExceeded,
    RecordNotFound,
    RequestError,
    Unauthenticated,
    UploadComplete,
    UploadNotFound,
)
from haulier.core.record import AssetKind, RecordId
from haulier.core.session import Mode, SessionId, SessionStatus
from haulier.core.upload import BeginUpload, Upload
from haulier.core.values import dataclass, replace
from haulier.engine.accounts import Accounts
from haulier.engine.gate import UploadGate
from haulier.engine.planning import UploadLimits
from haulier.engine.whole import ReadAhead
from haulier.ports import RecordQuery
from haulier.testing import SeededIdentifiers
from tests.support.bodies import FakeBody
from tests.support.engine import CHUNK, Engine, beside, engine

DATA = b"12345"


def user(name: str, scope: Scope = Scope.WRITE, *, capsule: str | None = None) -> Caller:
    return Caller(owner=f"user:{name}", scope=scope, capsule=capsule)


OWNER = user("owner", Scope.OWNER)
WRITER = user("writer")
READER = user("reader", Scope.OWNER)
STRANGER = user("stranger", Scope.OWNER)
OPERATOR = user("operator", Scope.OPERATOR)


@dataclass
class Team:
    """An engine with the capsule `team`: an owner, a writer, a reader, an operator; and strangers."""

    engine: Engine
    accounts: Accounts

    async def begin(self, caller: Caller, *, capsule: str = "team", **request: Any) -> Upload:
        asked = BeginUpload(**{"filename": "a.bin", "size": len(DATA), "capsule": capsule, **request})
        return (await self.engine.uploads.begin(asked, caller=caller)).upload

    async def commit(self, caller: Caller, **request: Any) -> Upload:
        upload = await self.begin(caller, **request)
        await self.engine.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=caller)
        return (await self.engine.uploads.finish(upload.id, caller=caller)).upload

    async def record(self, caller: Caller, **request: Any) -> RecordId:
        record = (await self.commit(caller, **request)).details.record
        assert record is not None
        return record

    async def token_caller(self, caller: Caller, **request: Any) -> tuple[Upload, Caller]:
        asked = BeginUpload(**{"filename": "a.bin", "size": len(DATA), "capsule": "team", **request})
        begun = await self.engine.uploads.begin(asked, caller=caller)
        return begun.upload, await self.engine.uploads.caller_of_token(begun.upload.id, begun.token)

    async def listed(self, caller: Caller, **query: Any) -> list[RecordId]:
        page = await self.engine.records.list(RecordQuery(**query), caller=caller)
        return [record.id for record in page.items]


@pytest.fixture
async def team() -> AsyncIterator[Team]:
    async with engine(limits=UploadLimits(chunk_size=CHUNK, max_live_of_user=3)) as one:
        accounts = Accounts(one.database, one.clock, SeededIdentifiers(one.clock, 7))
        await accounts.create_capsule("team", owner=OWNER.owner)
        await accounts.grant("team", WRITER.owner, Role.WRITER)
        await accounts.grant("team", READER.owner, Role.READER)
        await accounts.create_token(OPERATOR.owner, scope=Scope.OPERATOR)
        yield Team(one, accounts)


# --- addresses ---------------------------------------------------------------------------------------


def at(caller: Caller, address: str) -> Caller:
    return replace(caller, address=address)


async def test_an_address_has_so_many_live_uploads_whoever_they_belong_to() -> None:
    limits = UploadLimits(chunk_size=CHUNK, max_live_of_user=3, max_live_of_address=2)
    async with engine(limits=limits) as one:
        ann, bob = at(user("ann"), "192.0.2.1"), at(user("bob"), "192.0.2.1")

        async def begin(caller: Caller, **request: Any) -> Upload:
            asked = BeginUpload(filename="a.bin", size=len(DATA), **request)
            return (await one.uploads.begin(asked, caller=caller)).upload

        first = await begin(ann, key="k")
        await begin(bob)
        for caller in (ann, bob):
            with pytest.raises(QuotaExceeded) as refused:
                await begin(caller)
            assert (refused.value.limit, refused.value.per) == (2, "address")
        # What is there goes on, and whoever comes from elsewhere begins.
        assert (await begin(ann, key="k")).id == first.id
        await one.uploads.put_chunk(first.id, 0, FakeBody(DATA), caller=ann)
        await begin(at(user("ann"), "192.0.2.2"))
        await begin(user("bob"))
        await one.uploads.finish(first.id, caller=ann)
        await begin(bob)


async def test_an_address_without_room_keeps_no_short_file_either() -> None:
    async with engine(limits=UploadLimits(max_live_of_address=1)) as one:
        ann = at(user("ann"), "192.0.2.1")
        asked = BeginUpload(filename="a.bin", size=len(DATA), mode=Mode.APPEND)
        assert await one.uploads.take(asked, ReadAhead(FakeBody(DATA)), caller=ann)
        await one.uploads.begin(asked, caller=ann)
        assert await one.uploads.take(asked, ReadAhead(FakeBody(DATA)), caller=ann) is None
        assert len(one.disk.blobs) == 1


async def test_short_files_count_for_the_address_that_they_come_from_whoever_was_let_in_first() -> None:
    async with engine(limits=UploadLimits(max_live_of_address=1)) as one:
        here, there = at(user("ann"), "192.0.2.1"), at(user("ann"), "192.0.2.2")
        asked = BeginUpload(filename="a.bin", size=len(DATA), mode=Mode.APPEND)
        assert await one.uploads.take(asked, ReadAhead(FakeBody(DATA)), caller=here)
        await one.uploads.begin(asked, caller=there)
        assert await one.uploads.take(asked, ReadAhead(FakeBody(DATA)), caller=there) is None
        assert await one.uploads.take(asked, ReadAhead(FakeBody(DATA)), caller=here)


async def test_no_limit_of_an_address_is_no_limit() -> None:
    async with engine(limits=UploadLimits(max_live_of_address=0)) as one:
        for _ in range(3):
            asked = BeginUpload(filename="a.bin", size=len(DATA))
            await one.uploads.begin(asked, caller=at(user("ann"), "192.0.2.1"))


async def test_what_is_kept_of_an_address_does_not_tell_it() -> None:
    async with engine() as one, engine() as same:
        gates = [
            UploadGate(it.database, GrantedAccess(it.clock), secret)
            for it, secret in ((one, b"a" * 32), (same, b"b" * 32))
        ]
        first, second = (gate.hidden_address("192.0.2.1") for gate in gates)
        assert first == gates[0].hidden_address("192.0.2.1")
        assert len({first, second, gates[0].hidden_address("192.0.2.2")}) == 3
        assert len(first) == 43  # a whole HMAC-SHA-256


# --- begin -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caller", "error"),
    [
        (OWNER, None),
        (WRITER, None),
        (OPERATOR, None),
        (LOCAL, None),
        (user("owner"), None),
        (READER, AccessDenied),
        (user("owner", Scope.READ), AccessDenied),
        (user("writer", Scope.READ), AccessDenied),
        (STRANGER, CapsuleNotFound),
        (user("writer", capsule="default"), CapsuleNotFound),
        (user("operator", Scope.OWNER), CapsuleNotFound),
    ],
)
async def test_begin_needs_a_role_and_a_scope_that_write(
    team: Team, caller: Caller, error: type[RequestError] | None
) -> None:
    if error is None:
        assert (await team.begin(caller)).spec.owner == caller.owner
        return
    with pytest.raises(error):
        await team.begin(caller)
    assert await team.engine.uploads.probe() == []


@pytest.mark.parametrize("name", ["", "none", "a/b", "nul\0", "\ud800", "x" * 300])
async def test_names_that_no_capsule_has_are_not_found_by_anybody(team: Team, name: str) -> None:
    for caller in (OPERATOR, STRANGER):
        with pytest.raises(CapsuleNotFound):
            await team.begin(caller, capsule=name)
        with pytest.raises(CapsuleNotFound):
            await team.engine.uploads.count_active_for(name, caller=caller)
    with pytest.raises(CapsuleNotFound):
        await team.listed(STRANGER, capsule="nul\0")


async def test_everybody_with_a_token_puts_into_default_and_sees_their_own(team: Team) -> None:
    mine = await team.record(STRANGER, capsule="default")
    theirs = await team.record(WRITER, capsule="default")
    assert await team.listed(STRANGER) == [mine]
    assert await team.listed(STRANGER, capsule="default") == [mine]
    with pytest.raises(RecordNotFound):
        await team.engine.records.get(theirs, caller=STRANGER)
    await team.engine.records.delete(mine, caller=STRANGER)
    with pytest.raises(AccessDenied):
        await team.begin(user("stranger", Scope.READ), capsule="default")
    await team.accounts.set_capsule("default", {"admits_users": ""})
    with pytest.raises(CapsuleNotFound):
        await team.begin(STRANGER, capsule="default")


async def test_a_grant_decides_alone_where_everybody_is_admitted(team: Team) -> None:
    await team.accounts.grant("default", STRANGER.owner, Role.READER)
    with pytest.raises(AccessDenied):
        await team.begin(STRANGER, capsule="default")


async def test_a_user_has_fewer_live_uploads_than_the_local_owner(team: Team) -> None:
    for _ in range(3):
        await team.begin(WRITER)
    with pytest.raises(QuotaExceeded) as refused:
        await team.begin(WRITER)
    assert (refused.value.resource, refused.value.limit) == ("sessions", 3)
    await team.begin(OWNER)
    for _ in range(5):
        await team.begin(LOCAL)


async def test_an_asset_is_added_by_who_may_change_the_record(team: Team) -> None:
    record = await team.record(WRITER)
    with pytest.raises(AccessDenied):
        await team.begin(READER, record=record, asset=AssetKind.DISPLAY)
    await team.accounts.grant("team", STRANGER.owner, Role.WRITER)
    with pytest.raises(AccessDenied):
        await team.begin(STRANGER, record=record, asset=AssetKind.DISPLAY)
    for caller in (WRITER, OWNER, OPERATOR):
        upload = await team.begin(caller, record=record, asset=AssetKind.DISPLAY)
        await team.engine.uploads.abort(upload.id, caller=caller)
    with pytest.raises(InvalidRequest):
        await team.begin(WRITER, capsule="default", record=record, asset=AssetKind.DISPLAY)
    with pytest.raises(RecordNotFound):
        await team.begin(STRANGER, capsule="default", record=record, asset=AssetKind.DISPLAY)


# --- uploads -----------------------------------------------------------------------------------------


def calls_on(one: Engine, upload: SessionId, caller: Caller) -> dict[str, Any]:
    """Return every call on one upload."""
    body = FakeBody(DATA)
    return {
        "state": lambda: one.uploads.state(upload, caller=caller),
        "wait": lambda: one.uploads.wait(upload, caller=caller, timeout_s=0),
        "put": lambda: one.uploads.put_chunk(upload, 0, body, caller=caller),
        "append": lambda: one.uploads.append(upload, 0, body, caller=caller),
        "offset": lambda: one.uploads.offset(upload, caller=caller),
        "finish": lambda: one.uploads.finish(upload, caller=caller),
        "abort": lambda: one.uploads.abort(upload, caller=caller),
    }


@pytest.mark.parametrize(
    "caller",
    [
        STRANGER,
        READER,
        user("writer2"),
        user("owner", Scope.WRITE),
        user("writer", capsule="default"),
        Caller(owner=WRITER.owner, scope=Scope.WRITE, upload=SessionId("another")),
    ],
)
async def test_others_uploads_are_not_there(team: Team, caller: Caller) -> None:
    await team.accounts.grant("team", "user:writer2", Role.WRITER)
    upload = await team.begin(WRITER)
    for name, call in calls_on(team.engine, upload.id, caller).items():
        with pytest.raises(UploadNotFound):
            await call()
        assert (await team.engine.state(upload.id)) == upload, name
    with pytest.raises(UploadNotFound):
        await anext(team.engine.uploads.watch(upload.id, caller=caller))


@pytest.mark.parametrize("caller", [OWNER, OPERATOR, LOCAL])
async def test_the_capsules_owner_and_operators_see_and_end_everybodys_uploads(
    team: Team, caller: Caller
) -> None:
    upload = await team.begin(WRITER)
    assert (await team.engine.uploads.state(upload.id, caller=caller)).upload.id == upload.id
    await team.engine.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=caller)
    await team.engine.uploads.abort(upload.id, caller=caller)
    assert (await team.engine.state(upload.id)).status is SessionStatus.ABORTED


async def test_a_reading_credential_sees_its_own_uploads_and_moves_none(team: Team) -> None:
    caller = user("writer", Scope.READ)
    upload = await team.begin(WRITER, mode=Mode.APPEND)
    calls = calls_on(team.engine, upload.id, caller)
    assert (await calls.pop("state")()).upload == upload
    calls.pop("wait")
    for call in calls.values():
        with pytest.raises(AccessDenied):
            await call()
    assert await team.engine.state(upload.id) == upload


async def test_where_an_ended_upload_stopped_is_told_to_who_may_read(team: Team) -> None:
    upload = await team.begin(WRITER, mode=Mode.APPEND)
    done = await team.engine.uploads.append(upload.id, 0, FakeBody(DATA), caller=WRITER)
    assert done.upload.status is SessionStatus.COMMITTED
    await team.accounts.ungrant("team", WRITER.owner)
    assert (await team.engine.uploads.offset(upload.id, caller=WRITER)).offset == len(DATA)


async def test_ones_own_uploads_are_counted_and_found_where_one_is_known(team: Team) -> None:
    uploads = team.engine.uploads
    upload = await team.begin(WRITER, key="k")
    found = await uploads.find_pending("team", "k", caller=WRITER)
    assert found is not None
    assert found.id == upload.id
    assert await uploads.count_active_for("team", caller=WRITER) == 1
    assert await uploads.count_active_for(None, caller=WRITER) == 1
    assert await uploads.count_active_for("team", caller=READER) == 0
    for call in (
        uploads.find_pending("team", "k", caller=STRANGER),
        uploads.count_active_for("none", caller=WRITER),
    ):
        with pytest.raises(CapsuleNotFound):
            await call
    for caller in (user("writer", capsule="team"), Caller(owner=WRITER.owner, upload=upload.id)):
        with pytest.raises(AccessDenied):
            await uploads.count_active_for(None, caller=caller)


# --- tokens of uploads -------------------------------------------------------------------------------


async def test_an_uploads_token_opens_that_upload_and_nothing_else(team: Team) -> None:
    upload, caller = await team.token_caller(WRITER)
    other = await team.begin(WRITER)
    record = await team.record(WRITER)
    assert caller == Caller(owner=WRITER.owner, scope=Scope.WRITE, upload=upload.id)
    await team.engine.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=caller)
    done = (await team.engine.uploads.finish(upload.id, caller=caller)).upload
    assert done.status is SessionStatus.COMMITTED
    assert done.details.record is not None
    with pytest.raises(UploadNotFound):
        await team.engine.uploads.state(other.id, caller=caller)
    for denied in (
        team.begin(caller),
        team.listed(caller),
        team.engine.uploads.find_pending("team", "k", caller=caller),
    ):
        with pytest.raises(AccessDenied):
            await denied
    for missing in (record, done.details.record):
        with pytest.raises(RecordNotFound):
            await team.engine.records.get(missing, caller=caller)


async def test_what_an_uploads_token_made_is_in_the_uploads_own_state(team: Team) -> None:
    upload, caller = await team.token_caller(WRITER)
    assert await team.engine.records.result_of(upload) is None
    await team.engine.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=caller)
    done = (await team.engine.uploads.finish(upload.id, caller=caller)).upload
    result = await team.engine.records.result_of(done)
    assert result is not None
    assert result.id == done.details.record
    await team.engine.records.delete(result.id, caller=WRITER, at_once=True)
    assert await team.engine.records.result_of(done) is None


async def test_an_uploads_token_reads_only_after_the_end(team: Team) -> None:
    upload, caller = await team.token_caller(WRITER)
    await team.engine.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=caller)
    await team.engine.uploads.finish(upload.id, caller=caller)
    assert (await team.engine.uploads.state(upload.id, caller=caller)).upload.status.live is False
    with pytest.raises(UploadComplete):
        await team.engine.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=caller)
    with pytest.raises(UploadComplete):
        await team.engine.uploads.abort(upload.id, caller=caller)


async def test_an_uploads_token_is_gone_with_its_row(team: Team) -> None:
    uploads = team.engine.uploads
    asked = BeginUpload(filename="a.bin", size=5, capsule="team")
    begun = await uploads.begin(asked, caller=WRITER)
    second = await uploads.begin(asked, caller=WRITER)
    for upload, token in (
        (begun.upload.id, second.token),
        (begun.upload.id, begun.token[:-1]),
        (begun.upload.id, ""),
        (begun.upload.id, "\udc80é"),
        (SessionId("none"), begun.token),
    ):
        with pytest.raises(Unauthenticated):
            await uploads.caller_of_token(upload, token)
    await uploads.abort(begun.upload.id, caller=WRITER)
    assert (await uploads.caller_of_token(begun.upload.id, begun.token)).upload == begun.upload.id
    await uploads.purge(before=team.engine.clock.now() + 1)
    with pytest.raises(Unauthenticated):
        await uploads.caller_of_token(begun.upload.id, begun.token)


async def test_an_upload_goes_on_by_its_own_token_when_its_callers_are_gone(team: Team) -> None:
    made = await team.accounts.create_token(WRITER.owner, scope=Scope.WRITE, expires_in_s=10)
    caller = await team.accounts.find(made.secret.reveal())
    upload, own = await team.token_caller(caller)
    team.engine.clock.advance(20)
    with pytest.raises(Unauthenticated):
        await team.accounts.find(made.secret.reveal())
    await team.engine.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=own)
    done = (await team.engine.uploads.finish(upload.id, caller=own)).upload
    assert done.status is SessionStatus.COMMITTED


# --- permission at completion ------------------------------------------------------------------------


async def test_a_finish_is_denied_when_the_grant_was_taken_away(team: Team) -> None:
    upload, own = await team.token_caller(WRITER)
    await team.engine.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=WRITER)
    before = await team.engine.state(upload.id)
    await team.accounts.ungrant("team", WRITER.owner)
    for caller in (WRITER, own):
        with pytest.raises(AccessDenied):
            await team.engine.uploads.finish(upload.id, caller=caller)
    assert await team.engine.state(upload.id) == before
    assert (await team.engine.uploads.state(upload.id, caller=WRITER)).upload == before
    await team.accounts.grant("team", WRITER.owner, Role.WRITER)
    done = (await team.engine.uploads.finish(upload.id, caller=WRITER)).upload
    assert done.status is SessionStatus.COMMITTED


async def test_a_finish_by_the_capsules_owner_is_the_writers_and_denied_with_the_writers_grant(
    team: Team,
) -> None:
    upload = await team.begin(WRITER)
    await team.engine.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=WRITER)
    await team.accounts.grant("team", WRITER.owner, Role.READER)
    with pytest.raises(AccessDenied):
        await team.engine.uploads.finish(upload.id, caller=OWNER)
    assert (await team.engine.state(upload.id)).status is SessionStatus.OPEN


async def test_an_append_whose_grant_goes_while_it_runs_is_kept_open(team: Team) -> None:
    upload = await team.begin(WRITER, mode=Mode.APPEND)
    body = FakeBody(b"123", b"45", held=True)
    running = beside(team.engine.uploads.append(upload.id, 0, body, caller=WRITER))
    await body.reached.wait()
    await team.accounts.ungrant("team", WRITER.owner)
    body.release()
    with pytest.raises(AccessDenied):
        await running
    kept = await team.engine.state(upload.id)
    assert kept.status is SessionStatus.OPEN
    await team.accounts.grant("team", WRITER.owner, Role.WRITER)
    done = await team.engine.uploads.offset(
        upload.id, caller=WRITER
    )  # all its bytes have come: nothing is missing
    assert done.status is SessionStatus.COMMITTED
    assert await team.engine.content(done) == DATA


async def test_what_may_not_be_completed_is_left_to_expire(team: Team) -> None:
    upload = await team.begin(WRITER, mode=Mode.APPEND)
    await team.engine.uploads.append(upload.id, 0, FakeBody(DATA[:4]), caller=WRITER)
    team.engine.disk.parts[upload.id].data.extend(DATA[4:])  # a crash came before their row
    await team.accounts.ungrant("team", WRITER.owner)
    with pytest.raises(AccessDenied):
        await team.engine.uploads.offset(upload.id, caller=OWNER)
    left = await team.engine.state(upload.id)
    assert (left.status, left.offset) == (SessionStatus.OPEN, len(DATA))
    team.engine.clock.advance(team.engine.limits.ttl_s - 1)
    await team.engine.uploads.redo()
    team.engine.clock.advance(2)
    assert await team.engine.uploads.expire() == 1


async def test_what_an_operator_began_is_completed_while_there_is_an_operators_token(team: Team) -> None:
    upload, own = await team.token_caller(OPERATOR)
    await team.engine.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=own)
    (token,) = await team.accounts.list_tokens()
    other, _ = await team.token_caller(OPERATOR)
    done = (await team.engine.uploads.finish(upload.id, caller=own)).upload
    assert done.status is SessionStatus.COMMITTED
    await team.engine.uploads.put_chunk(other.id, 0, FakeBody(DATA), caller=OPERATOR)
    await team.accounts.revoke_token(token.id)
    with pytest.raises(AccessDenied):
        await team.engine.uploads.finish(other.id, caller=OPERATOR)


async def test_what_open_mode_began_is_completed_with_tokens_too(team: Team) -> None:
    upload, own = await team.token_caller(LOCAL)
    await team.engine.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=own)
    done = (await team.engine.uploads.finish(upload.id, caller=own)).upload
    assert done.status is SessionStatus.COMMITTED


# --- records -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", [READER, WRITER, OWNER, OPERATOR, LOCAL, user("reader", Scope.READ)])
async def test_whoever_has_a_role_reads_and_lists_every_record(team: Team, caller: Caller) -> None:
    record = await team.record(WRITER)
    assert (await team.engine.records.get(record, caller=caller)).id == record
    assert await team.listed(caller) == [record]
    assert await team.listed(caller, capsule="team") == [record]
    found, asset = await team.engine.records.asset(record, AssetKind.ORIGINAL, caller=caller)
    assert (found.id, asset.size) == (record, len(DATA))


@pytest.mark.parametrize("caller", [STRANGER, user("writer", capsule="default")])
async def test_records_are_not_there_for_who_has_no_role(team: Team, caller: Caller) -> None:
    record = await team.record(WRITER)
    for call in (
        team.engine.records.get(record, caller=caller),
        team.engine.records.asset(record, AssetKind.ORIGINAL, caller=caller),
        team.engine.records.delete(record, caller=caller),
        team.engine.records.restore(record, caller=caller),
    ):
        with pytest.raises(RecordNotFound):
            await call
    assert await team.listed(caller) == []
    with pytest.raises(CapsuleNotFound):
        await team.listed(caller, capsule="team")


async def test_a_list_of_all_capsules_is_of_those_that_may_be_read(team: Team) -> None:
    await team.accounts.create_capsule("other", owner="user:else")
    hers = await team.record(Caller(owner="user:else", scope=Scope.OWNER), capsule="other")
    ours = await team.record(OWNER)
    assert await team.listed(READER) == [ours]
    assert await team.listed(user("reader", capsule="team")) == [ours]
    assert set(await team.listed(OPERATOR)) == {hers, ours}
    assert await team.listed(READER, owner="user:else") == []


@pytest.mark.parametrize(
    ("caller", "allowed"),
    [
        (WRITER, True),
        (OWNER, True),
        (OPERATOR, True),
        (LOCAL, True),
        (READER, False),
        (user("writer", Scope.READ), False),
        (user("owner"), False),
        (user("writer2", Scope.OWNER), False),
    ],
)
async def test_a_record_is_deleted_and_restored_by_its_owner_and_the_capsules(
    team: Team, caller: Caller, allowed: bool
) -> None:
    await team.accounts.grant("team", "user:writer2", Role.WRITER)
    record = await team.record(WRITER)
    if not allowed:
        for call in (
            team.engine.records.delete(record, caller=caller),
            team.engine.records.restore(record, caller=caller),
        ):
            with pytest.raises(AccessDenied):
                await call
        return
    await team.engine.records.delete(record, caller=caller)
    assert (await team.engine.records.get(record, caller=READER)).deleted_at is not None
    assert (await team.engine.records.restore(record, caller=caller)).deleted_at is None
