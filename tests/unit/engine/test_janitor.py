"""The janitor: repairs by itself, and never takes what is still somebody's."""

import pytest

from haulier.core.caller import Scope
from haulier.core.errors import StorageUnavailable
from haulier.core.session import SessionId, SessionStatus
from haulier.engine import janitor
from haulier.engine.janitor import STRAY_AGE_S, STRAY_INTERVAL_S, JumpGuard
from haulier.testing import ManualClock
from tests.support.bodies import FakeBody
from tests.support.engine import ME, Engine, beside, engine, until

DAY_S = 24 * 3600.0
DATA = b"12345"


async def test_nothing_is_expired_in_the_first_interval_after_a_jump() -> None:
    async with engine() as one:
        await one.begin(5)
        running = beside(one.janitor.run())
        await until(lambda: one.clock.sleepers > 0)
        one.clock.step_wall(2 * DAY_S)
        one.clock.advance(60)
        await until(lambda: one.clock.sleepers > 0)
        assert one.swept == []
        running.cancel()


async def test_a_jump_forward_does_not_make_uploads_old() -> None:
    async with engine() as one:
        upload = await one.begin(5)
        running = beside(one.janitor.run())
        await until(lambda: one.clock.sleepers > 0)
        one.clock.step_wall(2 * DAY_S)
        for _ in range(5):
            one.clock.advance(60)
            await until(lambda: one.clock.sleepers > 0)
        assert (await one.state(upload.id)).status is SessionStatus.OPEN
        running.cancel()


async def test_without_a_jump_silence_expires() -> None:
    async with engine() as one:
        upload = await one.begin(5)
        running = beside(one.janitor.run())
        await until(lambda: one.clock.sleepers > 0)
        one.clock.advance(2 * DAY_S)
        await until(lambda: one.clock.sleepers > 0)
        assert (await one.state(upload.id)).status is SessionStatus.EXPIRED
        assert ("expire", 1) in one.swept
        running.cancel()


def test_the_guard_shifts_forward_jumps_takes_them_back_and_forgets() -> None:
    clock = ManualClock(1000.0)
    guard = JumpGuard(clock, longest_s=2 * DAY_S)
    clock.advance(60)
    assert not guard.look()
    clock.step_wall(4)
    assert not guard.look()
    clock.step_wall(1000)
    assert guard.look()
    assert guard.now(DAY_S) == clock.now() - 1000
    clock.step_wall(-400)
    assert guard.look()
    assert guard.now(DAY_S) == clock.now() - 600
    clock.step_wall(-5000)
    assert guard.look()
    assert guard.now(DAY_S) == clock.now()
    clock.step_wall(1000)
    assert guard.look()
    clock.advance(DAY_S + 1)
    assert not guard.look()
    assert guard.now(DAY_S) == clock.now()
    assert guard.now(2 * DAY_S) == clock.now() - 1000
    clock.advance(DAY_S)
    assert not guard.look()
    assert guard.now(2 * DAY_S) == clock.now()


def test_the_guard_goes_by_the_time_at_which_it_looked() -> None:
    """A clock that is set in the middle of a sweep is noticed by the next one only."""
    clock = ManualClock(1000.0)
    guard = JumpGuard(clock, longest_s=DAY_S)
    assert not guard.look()
    clock.step_wall(40 * DAY_S)
    assert guard.now(DAY_S) == 1000.0


async def test_a_jump_ends_no_upload_whose_capsule_lets_it_live_for_longer_than_others() -> None:
    async with engine() as one:
        usual = await one.begin(5)
        await one.accounts.set_capsule("default", {"ttl": "30d"})
        long = await one.begin(5)
        assert long.spec.ttl_s == 30 * DAY_S
        one.clock.step_wall(60 * DAY_S)
        await one.janitor.sweep()
        one.clock.advance(2 * DAY_S)
        await one.janitor.sweep()
        assert (await one.state(usual.id)).status is SessionStatus.EXPIRED
        assert (await one.state(long.id)).status is SessionStatus.OPEN
        assert await one.janitor.expire() == 0
        one.clock.advance(28 * DAY_S)
        await one.janitor.sweep()
        assert (await one.state(long.id)).status is SessionStatus.EXPIRED


async def test_what_begins_after_a_jump_ends_in_its_own_time() -> None:
    async with engine() as one:
        one.clock.step_wall(365 * DAY_S)
        await one.janitor.sweep()
        one.clock.advance(DAY_S + 1)
        later = await one.begin(5)
        one.clock.advance(DAY_S + 1)
        await one.janitor.sweep()
        assert (await one.state(later.id)).status is SessionStatus.EXPIRED


async def test_a_jump_takes_away_no_visitor_and_no_sign_in_before_its_time() -> None:
    async with engine() as one:
        made = await one.accounts.create_token("user:ada", scope=Scope.WRITE)
        await one.accounts.sign_in(made.secret.reveal())
        await one.visitors.begin(None)
        one.clock.step_wall(40 * DAY_S)
        await one.janitor.sweep()
        one.clock.advance(2 * DAY_S)
        await one.janitor.sweep()
        assert {name for name, count in one.swept if count} & {"visitors", "sign-ins"} == set()
        one.clock.advance(6 * DAY_S)
        await one.janitor.sweep()
        assert ("sign-ins", 1) in one.swept
        assert ("visitors", 1) not in one.swept
        one.clock.advance(30 * DAY_S)
        await one.janitor.sweep()
        assert ("visitors", 1) in one.swept


async def test_a_jump_in_the_middle_of_a_sweep_empties_no_trash() -> None:
    async with engine() as one:
        upload = await one.begin(len(DATA))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
        await one.uploads.finish(upload.id, caller=ME)
        record_id = upload.details.record
        assert record_id is not None
        await one.records.delete(record_id, caller=ME)

        async def jump(**_: object) -> int:
            one.clock.step_wall(40 * DAY_S)
            return 0

        one.janitor._sessions.expire = jump  # type: ignore[method-assign]
        await one.janitor.sweep()
        assert (await one.records.restore(record_id, caller=ME)).id == record_id


async def test_a_step_that_fails_is_counted_and_the_others_go_on() -> None:
    async with engine() as one:
        await one.begin(5)
        one.clock.advance(2 * DAY_S)
        one.database.fail_next(StorageUnavailable("no"))
        await one.janitor.sweep()
        assert ("redo-failed", 1) in one.swept
        assert ("expire", 1) in one.swept


async def test_a_step_that_crashes_is_counted_and_the_others_go_on() -> None:
    async with engine() as one:
        await one.begin(5)
        one.clock.advance(2 * DAY_S)
        one.database.fail_next(ZeroDivisionError("a mistake of ours"))
        await one.janitor.sweep()
        assert ("redo-failed", 1) in one.swept
        assert ("expire", 1) in one.swept


async def test_trash_and_retention_are_emptied() -> None:
    async with engine() as one:
        upload = await one.begin(len(DATA))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
        await one.uploads.finish(upload.id, caller=ME)
        assert upload.details.record is not None
        await one.records.delete(upload.details.record, caller=ME)
        one.clock.advance(DAY_S + 1)
        await one.janitor.sweep()
        assert one.disk.blobs == {}
        one.clock.advance(30 * DAY_S)
        await one.janitor.sweep()
        assert ("trash", 1) in one.swept
        assert ("retention", 1) in one.swept


async def test_a_blob_that_was_to_be_removed_is_never_set_aside() -> None:
    async with engine() as one:
        upload = await one.begin(len(DATA))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
        await one.uploads.finish(upload.id, caller=ME)
        assert upload.details.record is not None
        await one.records.delete(upload.details.record, caller=ME)
        one.clock.advance(31 * DAY_S)
        for _ in range(2):  # of the purge, and of the second try in the same round
            one.sink.fail_next("delete", StorageUnavailable("busy"))
        await one.janitor.sweep()
        assert len(one.disk.blobs) == 1
        assert one.disk.lost_and_found == {}
        await one.janitor.sweep()
        assert (one.disk.blobs, one.disk.lost_and_found) == ({}, {})
        assert ("erase", 1) in one.swept


async def stray(one: Engine, key: str) -> None:
    writer = await one.sink.open(key, 0, None)
    written = writer.write(b"stray")
    assert written is None
    await writer.close()


async def test_a_file_is_no_stray_by_another_machines_clock() -> None:
    """There are seconds between a file and the row that names it, however late it is elsewhere."""
    async with engine() as one:
        one.janitor._file_clock = ManualClock(one.clock.now())
        await stray(one, "young")
        one.clock.advance(2 * STRAY_AGE_S)
        await one.janitor.sweep()
        assert list(one.disk.parts) == ["young"]
        assert one.disk.lost_and_found == {}


async def test_old_parts_of_nobody_are_set_aside_and_young_ones_are_not() -> None:
    async with engine() as one:
        await stray(one, "old")
        one.clock.advance(STRAY_AGE_S + 1)
        await stray(one, "young")
        await one.janitor.sweep()
        assert list(one.disk.parts) == ["young"]
        assert list(one.disk.lost_and_found.values()) == [b"stray"]
        assert ("parts", 1) in one.swept


async def test_parts_of_ended_uploads_are_removed_and_of_live_ones_kept() -> None:
    async with engine() as one:
        live, ended = await one.begin(5), await one.begin(5)
        await one.uploads.abort(ended.id, caller=ME)
        await stray(one, ended.id)
        await one.janitor.sweep()
        assert list(one.disk.parts) == [live.id]
        assert one.disk.lost_and_found == {}


async def test_old_blobs_of_nobody_are_set_aside_and_named_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(janitor, "STRAY_BATCH", 1)
    async with engine() as one:
        upload = await one.begin(len(DATA))
        await one.uploads.put_chunk(upload.id, 0, FakeBody(DATA), caller=ME)
        done = (await one.uploads.finish(upload.id, caller=ME)).upload
        await stray(one, "a")
        await one.sink.commit("a", "f" * 32, size=5)
        await one.sink.discard("a")
        one.clock.advance(STRAY_AGE_S + 1)
        await one.janitor.sweep()
        assert list(one.disk.blobs) == [done.blob_key]
        assert len(one.disk.lost_and_found) == 1
        monkeypatch.setattr(janitor, "STRAY_BATCH", 500)
        one.clock.advance(STRAY_INTERVAL_S)
        await one.janitor.sweep()
        assert list(one.disk.blobs) == [done.blob_key]


async def test_strays_are_looked_for_at_intervals() -> None:
    async with engine() as one:
        await one.janitor.sweep()
        await stray(one, SessionId("old"))
        one.clock.advance(STRAY_AGE_S + 1)
        one.janitor._next_strays = one.clock.monotonic() + 1
        await one.janitor.sweep()
        assert list(one.disk.parts) == ["old"]
