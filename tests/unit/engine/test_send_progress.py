"""How far a transfer is shown to be, by the process that sends it and by all others."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

from haulier.adapters.memory.journal import MemoryJournal
from haulier.adapters.memory.remote import MemoryRemote
from haulier.core.errors import PeerRefused, PeerUnreachable, StorageUnavailable
from haulier.core.outgoing import Outgoing, RemoteSession, Stored
from haulier.core.transfer import Outcome, Phase, Priority, TransferId
from haulier.core.values import replace
from haulier.engine.send import Role, UploadManager
from haulier.engine.send_watch import Changed, Progress
from haulier.sending_ports import Cargo
from tests.support.engine import beside
from tests.support.sending import Sending, in_phase, settle

Step = Callable[[Cargo], Awaitable[None]]


def sending_by(monkeypatch: pytest.MonkeyPatch, remote: MemoryRemote, step: Step) -> None:
    """Let `step` be what happens before a chunk arrives."""
    send = remote.send

    async def slow(outgoing: Outgoing, session: RemoteSession, cargo: Cargo) -> Stored | None:
        await step(cargo)
        return await send(outgoing, session, cargo)

    monkeypatch.setattr(remote, "send", slow)


async def far(manager: UploadManager, transfer_id: str) -> int:
    view = await manager.get(transfer_id)
    assert view is not None
    return view.snapshot.done


async def test_every_process_is_shown_what_has_gone_of_a_request_that_is_not_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    others: list[UploadManager] = []
    seen: list[tuple[int, float | None, float | None]] = []

    async def step(cargo: Cargo) -> None:
        for count in (1000, 3000):
            world.clock.advance(1.0)
            cargo.moved(count)
            await settle()
            view = await others[0].get("t")
            assert view is not None
            assert view.row.transfer.done == 0
            seen.append((view.snapshot.done, view.snapshot.speed, view.snapshot.eta_s))

    sending_by(monkeypatch, world.remote, step)
    async with world.running(role=Role.NEVER) as other, world.running() as manager:
        others.append(other)
        await manager.queue(world.file("a", bytes(4200)), "any:a", id="t")
        await manager.wait("t")
    assert seen == [(1000, 1000.0, 3.2), (3000, 1200.0, 1.0)]


async def test_it_is_written_down_once_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Sending()
    commits: list[int] = []

    async def step(cargo: Cargo) -> None:
        before = world.journal.commits
        for count in range(1, 100):
            world.clock.advance(0.05)
            cargo.moved(count)
            await settle()
        commits.append(world.journal.commits - before)

    sending_by(monkeypatch, world.remote, step)
    async with world.running() as manager:
        await manager.wait(await manager.queue(world.file("a", bytes(100)), "any:a"))
    assert commits == [4]


async def test_a_note_that_takes_long_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world, gate = Sending(), asyncio.Event()
    journal = MemoryJournal(world.journal)
    write, notes = journal.write, list[object]()

    async def slow(work: Callable[..., object], *, durable: bool = True) -> object:
        if not durable and not gate.is_set():
            notes.append(work)
            await gate.wait()
        return await write(work, durable=durable)

    async def step(cargo: Cargo) -> None:
        for count in (10, 20, 30):
            world.clock.advance(1.0)
            cargo.moved(count)
            await settle()
        gate.set()

    monkeypatch.setattr(journal, "write", slow)
    sending_by(monkeypatch, world.remote, step)
    manager = world.manager(journal=journal)
    async with manager:
        row = await manager.wait(await manager.queue(world.file("a", bytes(100)), "any:a"))
        assert row.transfer.outcome is Outcome.SUCCEEDED
    assert len(notes) == 1


async def test_a_journal_that_takes_no_note_does_not_stop_what_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Sending()
    journal = MemoryJournal(world.journal)
    write, refused = journal.write, list[object]()

    async def fails_once(work: Callable[..., object], *, durable: bool = True) -> object:
        if not durable and not refused:
            refused.append(work)
            raise StorageUnavailable("disk I/O error")
        return await write(work, durable=durable)

    async def step(cargo: Cargo) -> None:
        world.clock.advance(1.0)
        cargo.moved(10)
        await settle()

    monkeypatch.setattr(journal, "write", fails_once)
    sending_by(monkeypatch, world.remote, step)
    async with world.manager(journal=journal) as manager:
        row = await manager.wait(await manager.queue(world.file("a", bytes(100)), "any:a"))
    assert row.transfer.outcome is Outcome.SUCCEEDED
    assert (len(refused), row.transfer.attempts) == (1, 1)


async def test_other_processes_are_told_figures_as_figures_and_states_as_states(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, gate = Sending(), asyncio.Event()
    told: list[object] = []

    async def step(cargo: Cargo) -> None:
        for count in (10, 20, 30):
            world.clock.advance(1.0)
            cargo.moved(count)
            await settle()
        gate.set()
        world.clock.advance(1.0)
        await settle()

    async def follow(other: UploadManager) -> None:
        async with aclosing(other.events()) as events:
            async for happening in events:
                if isinstance(happening, Progress):
                    told.append(happening.snapshot.done)
                elif isinstance(happening, Changed):
                    told.append(happening.row.transfer.phase)

    sending_by(monkeypatch, world.remote, step)
    async with world.running(role=Role.NEVER) as other, world.running() as manager:
        following = beside(follow(other))
        await settle()
        await manager.queue(world.file("a", bytes(100)), "any:a", id="t")
        await gate.wait()
        assert told[-3:] == [Phase.IN_PROGRESS, 10, 20]
        await manager.wait("t")
        world.clock.advance(1.0)
        await settle()
        assert told[-1] is Phase.ENDED
    await following


async def test_who_takes_over_tells_all_that_others_want_as_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Sending()
    gate = world.remote.gate("send")
    async with world.running() as manager, world.running(role=Role.NEVER) as other:
        queued = await manager.queue(world.file("a", bytes(100)), "any:a")
        await gate.wait_reached()
        assert manager.runs
        found: list[object] = []

        async def follow() -> None:
            found.extend([happening async for happening in manager.events()])

        following = beside(follow())
        await settle()
        await other.bump(queued)
        world.clock.advance(1.0)
        await settle()
        await other.bump(queued)
        world.clock.advance(1.0)
        await settle()
        gate.open()
        await manager.wait(queued)
    await following
    assert [it.row.transfer.phase for it in found[:2] if isinstance(it, Changed)] == [Phase.IN_PROGRESS] * 2


@pytest.mark.parametrize("by", ["the runner", "another process"])
async def test_progress_says_what_has_come_to_be_wanted_meanwhile(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Sending()
    managers: dict[str, UploadManager] = {}
    told: list[tuple[int, Priority]] = []

    async def step(cargo: Cargo) -> None:
        cargo.moved(10)
        await settle()
        await managers[by].set_priority("t", Priority.HIGH)
        world.clock.advance(0.3)
        await settle()
        cargo.moved(20)
        await settle()

    async def follow(manager: UploadManager) -> None:
        async with aclosing(manager.events()) as events:
            told.extend(
                [
                    (it.snapshot.done, it.row.transfer.priority)
                    async for it in events
                    if isinstance(it, Progress)
                ]
            )

    sending_by(monkeypatch, world.remote, step)
    async with world.running(role=Role.NEVER) as other, world.running() as manager:
        managers.update({"the runner": manager, "another process": other})
        following = beside(follow(manager))
        await settle()
        await manager.queue(world.file("a", bytes(100)), "any:a", id="t")
        await manager.wait("t")
    await following
    assert told[:2] == [(10, Priority.NORMAL), (20, Priority.HIGH)]


async def test_no_figure_falls_while_parallel_chunks_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Sending()
    seen: list[int] = []

    async def step(cargo: Cargo) -> None:
        for tenth in range(1, 11):
            world.clock.advance(0.3)
            cargo.moved(cargo.size * tenth // 10)
            await asyncio.sleep(0)

    async def look(manager: UploadManager, other: UploadManager, own: list[int], theirs: list[int]) -> None:
        while True:
            own.append(await far(manager, "t"))
            theirs.append(await far(other, "t"))
            await asyncio.sleep(0)

    async def follow(manager: UploadManager) -> None:
        async with aclosing(manager.events()) as events:
            seen.extend([it.snapshot.done async for it in events if isinstance(it, Progress)])

    sending_by(monkeypatch, world.remote, step)
    own, theirs = list[int](), list[int]()
    async with world.running(role=Role.NEVER) as other, world.running() as manager:
        following = beside(follow(manager))
        await manager.queue(world.file("a", bytes(20_000_000)), "any:a", id="t")
        looking = beside(look(manager, other, own, theirs))
        await manager.wait("t")
        looking.cancel()
    await following
    for figures in (own, theirs, seen):
        assert figures == sorted(figures)
        assert len(set(figures)) > 10


async def test_what_has_gone_is_shown_until_the_remote_says_what_it_holds_and_nothing_goes_on_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, cut = Sending(), True
    began: list[int] = []

    async def step(cargo: Cargo) -> None:
        nonlocal cut
        began.append(cargo.start)
        world.clock.advance(1.0)
        cargo.moved(60)
        await settle()
        if cut:
            cut = False
            raise PeerUnreachable("http://remote", "cut")

    sending_by(monkeypatch, world.ordered, step)
    async with world.running() as manager:
        queued = await manager.queue(world.file("a", bytes(100)), "ordered:a")
        row = await in_phase(manager, queued, Phase.WAITING_RETRY)
        assert (row.transfer.sent, row.transfer.done, await far(manager, queued)) == (60, 0, 60)
        gate = world.ordered.gate("send")
        world.clock.advance(600)
        await in_phase(manager, queued, Phase.IN_PROGRESS)
        await gate.wait_reached()
        gate.open()
        row = await manager.wait(queued)
    assert began == [0, 0]
    assert row.transfer.outcome is Outcome.SUCCEEDED
    assert world.ordered.files == {"a": [bytes(100)]}


async def test_of_one_that_fails_for_good_only_what_was_confirmed_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Sending()
    seen: list[int] = []

    async def step(cargo: Cargo) -> None:
        if cargo.start:
            cargo.moved(60)
            view = await manager.get("t")
            assert view is not None
            seen.append(view.snapshot.done)
            raise PeerRefused(403, "no", "not here")

    sending_by(monkeypatch, world.ordered, step)
    async with world.running() as manager:
        await manager.queue(world.file("a", bytes(100_000)), "ordered:a", id="t")
        row = await manager.wait("t")
        assert row.transfer.outcome is Outcome.REJECTED
        assert (seen, await far(manager, "t")) == ([65_536 + 60], 65_536)


async def test_what_an_attempt_learnt_at_its_end_is_not_undone_by_a_note_that_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, gate, reached = Sending(), asyncio.Event(), asyncio.Event()
    journal = MemoryJournal(world.journal)
    write = journal.write

    async def slow(work: Callable[..., object], *, durable: bool = True) -> object:
        if not durable:
            reached.set()
            await gate.wait()
        return await write(work, durable=durable)

    async def step(cargo: Cargo) -> None:
        world.clock.advance(1.0)
        cargo.moved(10)
        await reached.wait()
        raise PeerUnreachable("http://remote", "cut", too_slow=True)

    monkeypatch.setattr(journal, "write", slow)
    sending_by(monkeypatch, world.ordered, step)
    async with world.manager(journal=journal) as manager:
        await manager.queue(world.file("a", bytes(100_000)), "ordered:a", id="t")
        await reached.wait()
        await settle()
        gate.set()
        row = await in_phase(manager, "t", Phase.WAITING_RETRY)
        assert row.pace == 32 * 1024


async def test_nothing_is_kept_of_what_was_removed_while_its_bytes_flowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, gone = Sending(), asyncio.Event()

    async def step(cargo: Cargo) -> None:
        world.clock.advance(1.0)
        cargo.moved(10)
        await settle()
        await gone.wait()

    sending_by(monkeypatch, world.remote, step)
    async with world.running(role=Role.NEVER) as other, world.running() as manager:
        await manager.queue(world.file("a", bytes(100)), "any:a", id="t")
        await in_phase(manager, "t", Phase.IN_PROGRESS)
        for _ in range(3):
            world.clock.advance(1.0)
            await settle()
        assert list(other._flowing) == ["t"]
        await manager.remove("t")
        gone.set()
        for _ in range(3):
            world.clock.advance(1.0)
            await settle()
        assert await manager.get("t") is None
        assert not other._flowing


async def test_bytes_of_one_that_has_ended_meanwhile_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Sending()

    async def step(cargo: Cargo) -> None:
        def end(rows: object) -> None:
            row = rows.find(TransferId("t"))  # type: ignore[attr-defined]
            rows.put(  # type: ignore[attr-defined]
                row.moved(replace(row.transfer, pace=None).end(Outcome.ERRORED, now=1.0), now=1.0)
            )

        await MemoryJournal(world.journal).write(end)
        for count in (10, 20):
            world.clock.advance(1.0)
            cargo.moved(count)
            await settle()

    sending_by(monkeypatch, world.remote, step)
    async with world.running() as manager:
        await manager.queue(world.file("a", bytes(100)), "any:a", id="t")
        row = await manager.wait("t")
        await settle()
        assert (row.transfer.outcome, await far(manager, "t")) == (Outcome.ERRORED, 0)
