"""Queueing, and waiting for the one true result."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from haulier.adapters.memory.journal import MemoryJournal, MemoryJournalRows
from haulier.adapters.memory.remote import Accident
from haulier.core.dispatch import Dispatch
from haulier.core.errors import (
    InvalidRequest,
    PeerBusy,
    StorageUnavailable,
    TransferNotFound,
    TransferRemoved,
    TransferTimeout,
)
from haulier.core.transfer import Outcome, Phase, Priority
from haulier.engine.send import Role
from tests.support.engine import beside
from tests.support.sending import Sending, in_phase, settle

DATA = bytes(range(256)) * 1000
T = TypeVar("T")


async def test_what_was_queued_arrives() -> None:
    world = Sending()
    async with world.running() as manager:
        queued = await manager.queue(world.file("a.bin", DATA), "any:/in/b.bin")
        row = await manager.wait(queued)
    assert row.transfer.outcome is Outcome.SUCCEEDED
    assert row.transfer.label == "Completed, Succeeded"
    assert row.transfer.done == len(DATA)
    assert row.session is None
    assert world.remote.files == {"in/b.bin": [DATA]}
    assert world.remote.sessions == 0


class Counting(MemoryJournal):
    """Counts how often it is read."""

    reads = 0

    async def read(self, work: Callable[[MemoryJournalRows], T]) -> T:
        self.reads += 1
        return await super().read(work)


async def test_who_waits_reads_the_journal_for_the_end_and_not_for_each_step() -> None:
    world = Sending()
    journal = Counting(world.journal)
    async with world.manager(role=Role.NEVER, journal=journal) as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        waiting = beside(manager.wait(queued))
        await settle()
        before = journal.reads
        await manager.pause(queued)
        await manager.resume(queued)
        await settle()
        assert journal.reads == before
    with pytest.raises(StorageUnavailable):
        await waiting


async def test_an_empty_file_arrives() -> None:
    world = Sending()
    async with world.running() as manager:
        for remote in ("any", "ordered"):
            row = await manager.wait(await manager.queue(world.file("empty", b""), f"{remote}:empty"))
            assert row.transfer.outcome is Outcome.SUCCEEDED
    assert world.remote.files == world.ordered.files == {"empty": [b""]}


async def test_a_path_that_ends_with_a_slash_is_a_folder() -> None:
    world = Sending()
    async with world.running() as manager:
        for to in ("any:", "any:/", "any:/x/"):
            await manager.wait(await manager.queue(world.file("n.bin", b"1"), to))
    assert set(world.remote.files) == {"n.bin", "x/n.bin"}


async def test_waiting_before_it_is_queued_ends_with_the_result() -> None:
    world = Sending()
    async with world.running() as manager:
        waiters = [beside(manager.wait("mine")) for _ in range(10)]
        await settle()
        await manager.queue(world.file("a", DATA), "any:a", id="mine")
        rows = await asyncio.gather(*waiters)
    assert {row.transfer.outcome for row in rows} == {Outcome.SUCCEEDED}


async def test_success_is_success_long_after() -> None:
    world = Sending()
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        first = await manager.wait(queued)
        world.clock.advance(29 * 24 * 3600)
        assert await manager.wait(queued) == first
    async with world.running(role=Role.NEVER) as another:
        assert await another.wait(queued) == first


async def test_waiting_for_what_nobody_queues_ends_after_the_bound() -> None:
    world = Sending()
    async with world.running() as manager:
        waiter = beside(manager.wait("never"))
        await settle()
        world.clock.advance(4.9)
        await settle()
        assert not waiter.done()
        world.clock.advance(0.2)
        with pytest.raises(TransferNotFound) as caught:
            await waiter
    assert caught.value.transfer == "never"
    assert caught.value.waited_s == pytest.approx(5.1)


async def test_a_bound_of_nothing_looks_once() -> None:
    world = Sending()
    async with world.manager(unknown_s=0.0) as manager:
        with pytest.raises(TransferNotFound):
            await manager.wait("never")


@pytest.mark.usefixtures("impatient")
async def test_whoever_waits_for_a_removed_transfer_is_told() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        waiter = beside(manager.wait(queued))
        await gate.wait_reached()
        await manager.remove(queued)
        with pytest.raises(TransferRemoved):
            await waiter
        with pytest.raises(TransferRemoved):
            await manager.wait(queued)
        assert await manager.get(queued) is None
    assert world.remote.files == {}


async def test_a_result_can_be_removed_and_leaves_its_stone() -> None:
    world = Sending()
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await manager.wait(queued)
        await manager.remove(queued)
        with pytest.raises(TransferRemoved, match="it was removed"):
            await manager.wait(queued)
        await manager.remove(queued)
        with pytest.raises(TransferRemoved):
            await manager.cancel(queued)
        with pytest.raises(TransferNotFound):
            await manager.remove("unknown")
        with pytest.raises(TransferNotFound):
            await manager.pause("unknown")
        with pytest.raises(TransferNotFound):
            await manager.retry("unknown")


async def test_errors_that_pass_are_never_a_waiters() -> None:
    world = Sending()
    world.remote.plan("create", PeerBusy(503, "slow down"), PeerBusy(503, "slow down"))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        waiter = beside(manager.wait(queued))
        for _ in range(2):
            await in_phase(manager, queued, Phase.WAITING_RETRY)
            assert not waiter.done()
            world.clock.advance(300)
            await settle()
        assert (await waiter).transfer.outcome is Outcome.SUCCEEDED
    assert world.newest("a") == DATA


async def test_a_wait_that_is_too_short_tells_where_the_transfer_is() -> None:
    world = Sending()
    world.remote.plan("send", PeerBusy(503, "slow down"))
    gate = world.remote.gate("offset")
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        waiter = beside(manager.wait(queued, timeout_s=60))
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        world.clock.advance(61)
        with pytest.raises(TransferTimeout) as caught:
            await waiter
        assert caught.value.size == len(DATA)
        assert caught.value.last_error == "slow down (503; it can pass)"
        assert (await manager.get(queued)) is not None
        with pytest.raises(TransferTimeout):
            await manager.wait(queued, timeout_s=0)
        gate.open()
        world.clock.advance(300)
        assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("early", [True, False])
async def test_a_wait_whose_time_is_over_looks_once_more(
    early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The word of a change may come late: from another process it always does."""
    world = Sending()
    async with world.running() as manager:
        monkeypatch.setattr(manager._watchers, "wake", lambda _: None)
        if early:
            waiter = beside(manager.wait("mine", timeout_s=5))
            await settle()
            queued = await manager.queue(world.file("a", DATA), "any:a", id="mine")
        else:
            queued = await manager.queue(world.file("a", DATA), "any:a")
            waiter = beside(manager.wait(queued, timeout_s=5))
        while (view := await manager.get(queued)) is None or view.row.live:
            await settle()
        assert not waiter.done()
        world.clock.advance(6)
        assert (await waiter).transfer.outcome is Outcome.SUCCEEDED


async def test_one_path_with_three_contents_in_a_row_ends_with_the_newest() -> None:
    world = Sending()
    async with world.running() as manager:
        contents = (b"1" * 900_000, b"2" * 900_000, b"3" * 900_000)
        ids = [await manager.queue(world.file("a", content), "any:a") for content in contents]
        rows = [await manager.wait(each) for each in ids]
    assert [row.transfer.outcome for row in rows] == [
        Outcome.SUPERSEDED,
        Outcome.SUPERSEDED,
        Outcome.SUCCEEDED,
    ]
    assert [row.superseded_by for row in rows] == [ids[1], ids[2], None]
    assert world.newest("a") == b"3" * 900_000


async def test_a_third_content_takes_the_place_of_the_second_while_the_first_commits() -> None:
    world = Sending()
    gate = world.remote.gate("commit")
    async with world.running() as manager:
        first = await manager.queue(world.file("a", b"1"), "any:a")
        await gate.wait_reached()
        second = await manager.queue(world.file("a", b"22"), "any:a")
        third = await manager.queue(world.file("a", b"333"), "any:a")
        row = await manager.wait(second)
        assert (row.transfer.outcome, row.superseded_by) == (Outcome.SUPERSEDED, third)
        assert world.remote.calls.count("create") == 1
        gate.open()
        assert (await manager.wait(first)).transfer.outcome is Outcome.SUCCEEDED
        assert (await manager.wait(third)).transfer.outcome is Outcome.SUCCEEDED
    assert world.remote.files == {"a": [b"1", b"333"]}


async def test_the_same_content_again_is_the_same_transfer_under_both_ids() -> None:
    world = Sending()
    gate = world.remote.gate("create")
    async with world.running() as manager:
        path = world.file("a", DATA)
        early = beside(manager.wait("second"))
        first = await manager.queue(path, "any:a", id="first", priority=Priority.LOW)
        assert await manager.queue(path, "any:a", id="second", priority=Priority.HIGH) == "first"
        assert await manager.queue(path, "any:a", id="second") == "first"
        view = await manager.get("second")
        assert view is not None
        assert view.row.transfer.priority is Priority.HIGH
        gate.open()
        assert (await early).id == first
        assert (await manager.wait("second")).id == first
    assert world.remote.files == {"a": [DATA]}


async def test_queueing_again_under_a_known_id_changes_nothing() -> None:
    world = Sending()
    async with world.running() as manager:
        path = world.file("a", DATA)
        await manager.wait(await manager.queue(path, "any:a", id="mine"))
        assert await manager.queue(path, "any:a", id="mine") == "mine"
    assert world.remote.files == {"a": [DATA]}


@pytest.mark.parametrize(("data", "to"), [(DATA, "any:b"), (DATA, "ordered:a"), (b"other", "any:a")])
async def test_an_id_of_another_transfer_is_refused_and_nothing_looks_as_if_it_were_sent(
    data: bytes, to: str
) -> None:
    world = Sending()
    async with world.running() as manager:
        path = world.file("a", DATA)
        await manager.wait(await manager.queue(path, "any:a", id="mine"))
        if data != DATA:
            world.file("a", data)
        with pytest.raises(
            InvalidRequest, match="'mine' names another transfer, of /a as it was then to any:a"
        ) as told:
            await manager.queue(path, to, id="mine")
        assert [each.field for each in told.value.errors] == ["id"]
    assert (world.remote.files, world.ordered.files) == ({"a": [DATA]}, {})


async def test_an_id_that_was_removed_is_refused() -> None:
    world = Sending()
    async with world.running() as manager:
        path = world.file("a", DATA)
        await manager.wait(await manager.queue(path, "any:a", id="mine"))
        await manager.remove("mine")
        with pytest.raises(TransferRemoved):
            await manager.queue(path, "any:a", id="mine")


async def test_what_could_not_be_queued_keeps_its_result_when_it_is_queued_under_its_id() -> None:
    world = Sending()
    async with world.running() as manager:
        await manager.queue_failed("/a", "any:a", FileNotFoundError(2, "gone", "/a"), id="mine")
        assert await manager.queue(world.file("a", DATA), "any:a", id="mine") == "mine"
        assert (await manager.wait("mine")).transfer.outcome is Outcome.ERRORED


async def test_two_hundred_queued_and_awaited_at_once_all_arrive() -> None:
    world = Sending()
    async with world.running() as manager:

        async def send(number: int) -> Dispatch:
            queued = await manager.queue(world.file(f"f{number}", b"%d" % number), f"any:f{number}")
            return await manager.wait(queued)

        rows = await asyncio.gather(*(send(number) for number in range(200)))
    assert {row.transfer.outcome for row in rows} == {Outcome.SUCCEEDED}
    assert world.remote.files == {f"f{number}": [b"%d" % number] for number in range(200)}


@pytest.mark.parametrize(
    ("to", "transfer_id", "field"),
    [
        ("any", None, "to"),
        (":x", None, "to"),
        ("nowhere:x", None, "to"),
        ("any:a", "", "id"),
        ("any:a", "x" * 129, "id"),
        ("any:a", "a b", "id"),
        ("any:a", "a/b", "id"),
        ("any:a", "..", "id"),
        ("any:a//b", None, "target"),
        ("any:a\udcff", None, "to"),
    ],
)
async def test_what_cannot_be_sent_is_refused_with_its_reason(
    to: str, transfer_id: str | None, field: str
) -> None:
    world = Sending()
    async with world.running() as manager:
        with pytest.raises(InvalidRequest) as caught:
            await manager.queue(world.file("a", DATA), to, id=transfer_id)
        assert [problem.field for problem in caught.value.errors] == [field]
        assert await manager.list() == ([], None)


async def test_a_local_name_that_is_no_text_is_refused_written_out() -> None:
    world = Sending()
    async with world.running() as manager:
        with pytest.raises(InvalidRequest, match=r"path: '/caf\\xe9/a' is not UTF-8"):
            await manager.queue(world.file("caf\udce9/a", DATA), "any:a")
        assert await manager.list() == ([], None)


async def test_a_missing_file_is_refused_when_it_is_queued() -> None:
    world = Sending()
    async with world.running() as manager:
        with pytest.raises(FileNotFoundError):
            await manager.queue("/none", "any:a")
        world.file("folder/a", DATA)
        with pytest.raises(InvalidRequest):
            await manager.queue("/folder", "any:a")


async def test_a_retry_is_a_new_transfer_of_the_file_as_it_is_now() -> None:
    world = Sending()
    async with world.running() as manager:
        path = world.file("a", b"old")
        first = await manager.wait(await manager.queue(path, "any:a"))
        world.file("a", b"new")
        again = await manager.wait(await manager.retry(first.id))
        assert again.retry_of == first.id
        assert await manager.wait(first.id) == first
        gate = world.remote.gate("create")
        running = await manager.queue(world.file("b", b"b"), "any:b")
        with pytest.raises(InvalidRequest, match="has not ended"):
            await manager.retry(running)
        gate.open()
    assert world.remote.files["a"] == [b"old", b"new"]


async def test_a_list_comes_in_pages_the_newest_first() -> None:
    world = Sending()
    async with world.running() as manager:
        ids = [await manager.queue(world.file(f"f{n}", b"x"), f"any:f{n}") for n in range(5)]
        for each in ids:
            await manager.wait(each)
        first, after = await manager.list(limit=3)
        second, end = await manager.list(limit=3, after=after)
        assert [view.row.id for view in [*first, *second]] == ids[::-1]
        assert end is None
        assert await manager.list(live=True) == ([], None)
        assert await manager.list(remote="ordered") == ([], None)


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_page_without_rows_is_a_mistake(limit: int) -> None:
    async with Sending().running() as manager:
        with pytest.raises(InvalidRequest, match="limit: must be a number of rows from 1 on"):
            await manager.list(limit=limit)


async def test_an_answer_to_commit_that_was_lost_makes_no_second_version() -> None:
    world = Sending()
    world.remote.plan("commit", Accident(error=PeerBusy(504, "the gateway gave up"), done=True))
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", DATA), "any:a")
        await in_phase(manager, queued, Phase.WAITING_RETRY)
        world.clock.advance(300)
        assert (await manager.wait(queued)).transfer.outcome is Outcome.SUCCEEDED
    assert world.remote.files == {"a": [DATA]}
    assert world.remote.sent_bytes == len(DATA)
