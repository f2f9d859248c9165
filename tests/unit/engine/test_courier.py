"""Events on their way to one receiver."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from haulier.core.errors import StorageUnavailable, TransferNotFound
from haulier.core.event import Event, EventKind, Interest, Position, Told
from haulier.core.values import replace
from haulier.engine.courier import (
    GIVE_UP_S,
    LOOK_S,
    REST_S,
    Courier,
    HookReceiver,
    Receiver,
    ReceiverFailed,
)
from haulier.ports import Delivery
from haulier.testing.event_rows_contract import append, event
from tests.support.engine import Engine, beside, count_writes, engine, until


class FakeReceiver:
    """Takes events, or fails as often as a test wants."""

    name = "webhook test"
    patience_s: float | None = GIVE_UP_S
    interest = Interest(frozenset({EventKind.CREATED}))

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.failures = 0
        self.retry_after_s = 0.0
        self.after: Callable[[], None] = lambda: None

    async def receive(self, told: Told) -> None:
        """Take it."""
        if self.failures:
            self.failures -= 1
            raise ReceiverFailed("no", retry_after_s=self.retry_after_s)
        self.taken.append(told.event.record)
        self.after()


def courier(one: Engine, receiver: Receiver) -> Courier:
    return Courier(
        receiver,
        work=one.database,
        feed=one.feed,
        workers=one.workers,
        clock=one.clock,
        holder=one.holder,
        chance=lambda: 0.5,
    )


async def place(one: Engine) -> Delivery:
    row = await one.database.read(lambda tx: tx.deliveries.load(FakeReceiver.name))
    assert row is not None
    return row


async def begun(one: Engine, receiver: FakeReceiver) -> Courier:
    """Return a courier whose receiver has its place."""
    it = courier(one, receiver)
    await it.prepare()
    return it


def now(one: Engine, name: str) -> Any:
    return event(name, at=one.clock.now())


def other(one: Engine) -> Any:
    """Return an event in which the receiver is not interested."""
    return replace(now(one, "x"), kind=EventKind.UPDATED)


async def test_a_new_receiver_hears_of_what_happens_from_now_on() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        await append(one.database, now(one, "before"))
        it = await begun(one, receiver)
        await append(one.database, now(one, "a"), now(one, "b"))
        assert [await it.step() for _ in range(2)] == [0.0, None]
        assert receiver.taken == ["a", "b"]
        assert (await place(one)).position == Position(0, 3)


async def test_what_it_does_not_want_is_passed_over() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        it = await begun(one, receiver)
        await append(one.database, other(one))
        assert await it.step() == 0.0
        assert (receiver.taken, (await place(one)).position) == ([], Position(0, 1))


async def test_many_that_it_does_not_want_are_passed_over_in_one_step() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        it = await begun(one, receiver)
        many = [other(one) for _ in range(400)]
        await append(one.database, *many, now(one, "a"), *many)
        writes = count_writes(one)
        assert [await it.step() for _ in range(2)] == [0.0, None]
        assert receiver.taken == ["a"]
        assert (await place(one)).position == Position(0, 801)
        # What was taken must not come again; what nobody wanted may be passed over again.
        assert writes == [{"durable": True}, {"durable": False}]


async def test_one_that_fails_is_tried_again_and_not_what_was_given_up_before_it() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        it = await begun(one, receiver)
        old = event("old", at=one.clock.now() - GIVE_UP_S - 1)
        await append(one.database, now(one, "a"), old, now(one, "b"), now(one, "c"))
        receiver.after = lambda: setattr(receiver, "failures", 1 if receiver.taken == ["a"] else 0)
        assert await it.step() == 0.5
        row = await place(one)
        assert (receiver.taken, row.position, row.failures) == (["a"], Position(0, 2), 1)
        one.clock.advance(0.5)
        assert [await it.step() for _ in range(2)] == [0.0, None]
        assert receiver.taken == ["a", "b", "c"]


async def test_failures_count_anew_after_one_that_was_taken() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        it = await begun(one, receiver)
        await append(one.database, now(one, "a"), now(one, "b"))
        receiver.failures = 1
        assert await it.step() == 0.5
        one.clock.advance(0.5)
        receiver.after = lambda: setattr(receiver, "failures", 1)
        assert await it.step() == 0.5
        assert (receiver.taken, (await place(one)).failures) == (["a"], 1)


async def test_who_has_lost_its_claim_delivers_no_more() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        it = await begun(one, receiver)
        await append(one.database, now(one, "a"), now(one, "b"))
        one.before_write(lambda: one.database.write(lambda tx: tx.deliveries.take(receiver.name, 1, "other")))
        assert await it.step() == 0.0
        assert (receiver.taken, (await place(one)).position) == (["a"], Position(0, 0))


async def test_failures_are_waited_out_ever_longer_and_then_forgotten() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        it = await begun(one, receiver)
        await append(one.database, now(one, "a"))
        receiver.failures = 12
        delays = []
        for _ in range(12):
            delay = await it.step()
            assert delay is not None
            delays.append(delay)
            assert await it.step() == delay
            one.clock.advance(delay)
        assert delays == [0.5, 1, 2, 4, 8, 16, 32, 64, 128, 150, 150, 150]
        row = await place(one)
        assert (row.failures, row.error) == (12, "no")
        assert await it.step() == 0.0
        assert receiver.taken == ["a"]
        assert (await place(one)).failures == 0


async def test_a_receiver_that_names_a_time_is_left_alone_that_long() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        it = await begun(one, receiver)
        await append(one.database, now(one, "a"))
        receiver.failures, receiver.retry_after_s = 1, 70.0
        assert await it.step() == 70.0


async def test_a_clock_that_was_set_back_holds_nothing_up_for_longer_than_a_delay() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        it = await begun(one, receiver)
        await append(one.database, now(one, "a"))
        receiver.failures = 1
        await it.step()
        one.clock.step_wall(-1e6)
        assert await it.step() == 0.0
        assert receiver.taken == ["a"]


async def test_an_event_that_is_never_taken_is_given_up_and_the_next_one_has_its_turn() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        it = await begun(one, receiver)
        await append(one.database, now(one, "a"))
        receiver.failures = 1
        await it.step()
        one.clock.advance(GIVE_UP_S + 1)
        await append(one.database, now(one, "b"))
        assert [await it.step() for _ in range(2)] == [0.0, None]
        assert receiver.taken == ["b"]


async def test_a_receiver_without_end_of_patience_gets_what_is_older_than_any_weekend() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        receiver.patience_s = None
        it = await begun(one, receiver)
        await append(one.database, now(one, "a"))
        one.clock.advance(10 * GIVE_UP_S)
        assert [await it.step() for _ in range(2)] == [0.0, None]
        assert receiver.taken == ["a"]


async def test_a_mistake_in_a_receiver_is_a_failure_like_any_other() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        it = await begun(one, receiver)
        await append(one.database, now(one, "a"), now(one, "b"))
        mistakes = [KeyError("ours"), TransferNotFound("x", 0.0)]

        def fail() -> None:
            if mistakes:
                raise mistakes.pop(0)

        receiver.after = fail
        assert await it.step() == 0.5
        row = await place(one)
        assert (row.failures, row.error) == (1, "KeyError('ours')")
        one.clock.advance(0.5)
        assert await it.step() == 1.0
        one.clock.advance(1.0)
        assert [await it.step() for _ in range(2)] == [0.0, None]
        assert receiver.taken == ["a", "a", "a", "b"]


async def test_one_process_delivers_until_it_is_dead_and_then_another() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        await begun(one, receiver)
        neighbour = one.neighbour()
        second = courier(neighbour, receiver)
        await append(one.database, now(one, "a"))
        assert await second.step() == LOOK_S
        assert receiver.taken == []
        await one.die()
        assert await second.step() == 0.0
        assert receiver.taken == ["a"]
        row = await place(neighbour)
        assert (row.holder, row.fence) == (neighbour.holder, 2)
        await neighbour.background.stop(grace_s=0)


async def test_a_crash_before_the_place_is_noted_brings_the_event_again_and_loses_none() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        it = await begun(one, receiver)
        await append(one.database, now(one, "a"), now(one, "b"))
        receiver.after = lambda: one.database.fail_next(StorageUnavailable("killed"))
        with pytest.raises(StorageUnavailable):
            await it.step()
        receiver.after = lambda: None
        assert [await it.step() for _ in range(2)] == [0.0, None]
        assert receiver.taken == ["a", "a", "b"]


async def test_of_two_that_begin_at_once_one_delivers() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        beside_it = courier(one, receiver)
        one.before_write(beside_it.step)
        assert await courier(one, receiver).step() == LOOK_S


async def test_the_hook_of_a_program_is_told_each_event_until_it_takes_it() -> None:
    heard: list[str] = []

    async def on_record(told: Event) -> None:
        heard.append(told.record)
        if len(heard) == 1:
            raise ZeroDivisionError

    async with engine() as one:
        it = courier(one, HookReceiver(on_record))
        await it.prepare()
        await append(one.database, now(one, "a"), now(one, "b"))
        assert await it.step() == 0.5
        one.clock.advance(0.5)
        assert [await it.step() for _ in range(2)] == [0.0, None]
        assert heard == ["a", "a", "b"]


async def test_a_courier_waits_for_events_and_for_the_database() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        running = beside(courier(one, receiver).run())
        for _ in range(20):
            await asyncio.sleep(0)
        await append(one.database, now(one, "a"))
        one.database.fail_next(StorageUnavailable("no"))
        one.feed.told()
        for _ in range(20):
            await asyncio.sleep(0)
        one.feed.told()
        await until(lambda: receiver.taken == ["a"])
        running.cancel()
        await asyncio.wait({running})


async def test_a_courier_rests_after_events_that_were_not_for_its_receiver() -> None:
    async with engine() as one:
        receiver = FakeReceiver()
        it, sleepers = await begun(one, receiver), one.clock.sleepers
        running = beside(it.run())
        await append(one.database, other(one))
        one.feed.told()
        await until(lambda: one.clock.sleepers > sleepers)
        writes = count_writes(one)
        await append(one.database, other(one))
        await append(one.database, now(one, "a"))
        one.feed.told()
        for _ in range(20):
            await asyncio.sleep(0)
        assert receiver.taken == []
        one.clock.advance(REST_S)
        await until(lambda: receiver.taken == ["a"])
        assert [how for how in writes if how] == [{"durable": True}]
        running.cancel()
        await asyncio.wait({running})
