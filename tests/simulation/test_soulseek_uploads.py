"""Every way in which an upload of a node can go, with the real orchestrator in virtual time."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from haulier.adapters.memory.transfer_queue import MemoryTransferQueueStore
from haulier.core.errors import StorageUnavailable
from haulier.core.transfer import Direction, Outcome, Phase, Transfer
from haulier.ports import PeerTransfer, SharedFile
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.codec import Message
from haulier.soulseek.connection import ConnectionLost
from haulier.soulseek.ledger import Ledger
from haulier.soulseek.messages import SendUploadSpeed, UserStatus
from haulier.soulseek.offer import BadOffset, Denied, NotNow, Offer, Offers, Settled, Unreached
from haulier.soulseek.peer_links import PeerLink
from haulier.soulseek.peer_messages import (
    QueueUpload,
    TransferRequest,
    TransferResponse,
    UploadDenied,
    UploadFailed,
)
from haulier.soulseek.server_link import LinkDown, PeerOffline
from haulier.soulseek.shares import Shares
from haulier.soulseek.streaming import TooSlow
from haulier.soulseek.surroundings import Surroundings
from haulier.soulseek.tasks import Tasks
from haulier.soulseek.upload import Upload, UploadRules
from haulier.soulseek.uploads import Uploads
from tests.simulation.loop import SimLoop, new_loop

SIZE = 1_000_000
FILES = {
    f"Music\\{name}": SharedFile(share="Music", path=f"Music\\{name}", local=name, size=SIZE)
    for name in "abcd"
}
A, B, C = (f"Music\\{name}" for name in "abc")
TAKES_S = 10.0

Step = Exception | bool | float
"""How an attempt ends: with an error, or well, confirmed or not; a number of seconds in which it moves nothing."""


class World:
    """Uploads whose attempts end as a test says; an attempt takes ten seconds, unless it fails."""

    def __init__(
        self, loop: SimLoop, steps: dict[str, list[Step]], *, files: int = 100, **rules: Any
    ) -> None:
        self.loop = loop
        self.steps = steps
        self.notices: list[tuple[str, Message]] = []
        self.sent: list[Message] = []
        self.watched: set[str] = set()
        self.told: list[tuple[str, str | None]] = []
        self.began: list[str] = []
        self.files = dict(FILES)
        self.up = asyncio.Event()
        self.up.set()
        self.trusted = True
        self.index_fails = self.mistakes_allowed = False
        self.put_off = 0
        self.store = MemoryTransferQueueStore()
        nothing: Callable[..., None] = lambda *_, **__: None  # noqa: E731 - a hole to drop things into
        self.tasks = Tasks(self._log)
        self.ledger = Ledger(self.store, nothing)
        self.clock = SimpleNamespace(now=loop.time, monotonic=loop.time, sleep=asyncio.sleep)
        link = SimpleNamespace(
            watch=lambda user, _: self.watched.add(user),
            unwatch=lambda user, _: self.watched.discard(user),
            tell=self.sent.append,
            up=self.up,
            privileged=frozenset(),
        )
        around: dict[str, Any] = {
            "peers": SimpleNamespace(is_trusted=self._trusted, ask=self._hear),
            "link": link,
            "clock": self.clock,
        }
        self.uploads = Uploads(
            Surroundings(
                **around,
                ledger=self.ledger,
                bounds=Bounds(retry_base_s=10.0, queued_files_per_user=files),
                spawn=self.tasks,
                log=self._log,
            ),
            shares=cast("Shares", SimpleNamespace(find=self._find)),
            offers=cast("Offers", SimpleNamespace(make=self._make)),
            rules=UploadRules(**rules),
        )
        self.uploads.start()

    def _log(self, event: str, **fields: Any) -> None:
        assert event != "task.failed" or self.mistakes_allowed, fields
        self.put_off += event == "upload.put_off"
        if event == "upload.ended":
            self.told.append((fields["outcome"], fields["reason"]))

    async def _trusted(self, link: PeerLink) -> bool:
        return self.trusted

    async def _hear(self, user: str, *messages: Message) -> None:
        self.notices += [(user, message) for message in messages]

    async def _find(self, path: str) -> SharedFile | None:
        if self.index_fails:
            raise StorageUnavailable("the index does not answer")
        return self.files.get(path)

    async def _make(self, offer: Offer) -> bool:
        self.began.append(offer.asked)
        step = self.steps[offer.asked].pop(0) if self.steps.get(offer.asked) else True
        offer.become(offer.transfer.request())
        if isinstance(step, Exception):
            raise step
        offer.become(offer.transfer.initialize())
        offer.become(offer.transfer.begin(0, now=self.loop.time()))
        await asyncio.sleep(step if isinstance(step, float) else TAKES_S)
        offer.become(offer.transfer.confirm(SIZE, now=self.loop.time()))
        return bool(step)

    async def ask(
        self, file: str, user: str = "bob", *, old: bool = False, address: str | None = None
    ) -> list[Message]:
        """A user asks for a file; returns what it is told."""
        answers: list[Message] = []

        async def send(*messages: Message) -> None:
            answers.extend(messages)

        connection = SimpleNamespace(address=address or f"of {user}", send=send)
        link = cast("PeerLink", SimpleNamespace(user=user, connection=connection))
        if old:
            await self.uploads.take_transfer_request(link, TransferRequest(TransferRequest.ASKED, 7, file))
        else:
            await self.uploads.take_queue_upload(link, QueueUpload(file))
        return answers

    def find(self, file: str) -> Upload:
        return next(upload for upload in self.uploads.live if upload.path == file)

    async def end(self) -> None:
        await self.uploads.stop()
        await self.tasks.stop()


def play(
    scenario: Callable[[World], Any],
    steps: dict[str, list[Step]] | None = None,
    *,
    schedules: int = 5,
    **rules: Any,
) -> None:
    """Run a scenario under several schedules."""
    for seed in range(schedules):
        loop = new_loop(seed)

        async def run(loop: SimLoop = loop) -> None:
            world = World(loop, {file: list(of) for file, of in (steps or {}).items()}, **rules)
            await scenario(world)
            assert world.uploads.slots.held == 0 or world.uploads.live
            await world.end()

        try:
            loop.run_until_complete(run())
        finally:
            loop.unwind()


ENDINGS: list[tuple[Step, Outcome, str | None, Message | None]] = [
    (True, Outcome.SUCCEEDED, None, None),
    (False, Outcome.SUCCEEDED, "unconfirmed", None),
    (Settled(Outcome.CANCELLED, "Cancelled"), Outcome.CANCELLED, "Cancelled", None),
    (Settled(Outcome.SUCCEEDED, "Complete"), Outcome.SUCCEEDED, "Complete", None),
    (Settled(Outcome.REJECTED, "no"), Outcome.REJECTED, "no", None),
    (Denied("File not shared."), Outcome.ERRORED, "File not shared.", UploadDenied(A, "File not shared.")),
    (Denied("File read error."), Outcome.ERRORED, "File read error.", UploadDenied(A, "File read error.")),
    (TimeoutError(), Outcome.TIMED_OUT, "the peer did not answer in time", UploadFailed(A)),
    (TooSlow("no byte was taken"), Outcome.TIMED_OUT, "no byte was taken", UploadFailed(A)),
    (ConnectionLost("it broke"), Outcome.ERRORED, "it broke", UploadFailed(A)),
    (BadOffset(6, 5), Outcome.ERRORED, "offset 6 of a file of 5 bytes", UploadFailed(A)),
    (OSError(5, "Input/output error"), Outcome.ERRORED, "[Errno 5] Input/output error", UploadFailed(A)),
]


@pytest.mark.parametrize(("step", "outcome", "reason", "notice"), ENDINGS)
def test_an_attempt_ends_once_and_the_peer_is_told_what_it_must_know(
    step: Step, outcome: Outcome, reason: str | None, notice: Message | None
) -> None:
    async def scenario(world: World) -> None:
        await world.ask(A)
        assert world.watched == {"bob"}
        await asyncio.sleep(60.0)
        assert world.told == [(outcome.value, reason)]
        assert world.uploads.live == []
        assert world.uploads.slots.held == 0
        assert world.watched == set()
        assert world.notices == ([] if notice is None else [("bob", notice)])
        await world.ledger.flush()
        [kept] = await world.store.latest(10)
        assert (kept.transfer.outcome, kept.transfer.reason) == (outcome, reason)
        speeds = [SendUploadSpeed(100_000)] if isinstance(step, bool) else []
        assert world.sent == speeds

    play(scenario, {A: [step]})


def test_who_puts_an_offer_off_is_offered_it_again_behind_its_other_files() -> None:
    async def scenario(world: World) -> None:
        await world.ask(A)
        await world.ask(B)
        await asyncio.sleep(120.0)
        assert world.told == 2 * [("succeeded", None)]
        assert world.began == [A, B, A]

    play(scenario, {A: [NotNow()]})


def test_who_is_not_reached_is_tried_three_times_without_holding_a_slot() -> None:
    async def scenario(world: World) -> None:
        await world.ask(A)
        await asyncio.sleep(1.0)
        assert world.uploads.slots.held == 0
        assert world.find(A).transfer.attempts == 1
        await asyncio.sleep(200.0)
        assert world.began == [A, A, A]
        assert world.told == [("errored", "nobody answers")]
        assert world.notices == [("bob", UploadFailed(A))]

    play(scenario, {A: [Unreached("nobody answers")] * 3})


def test_who_is_offline_waits_until_the_server_tells_of_him() -> None:
    async def scenario(world: World) -> None:
        await world.ask(A)
        await asyncio.sleep(5_000.0)
        assert world.began == [A]
        assert world.uploads.slots.held == 0
        assert world.find(A).transfer.phase is Phase.QUEUED
        world.uploads.take_status(UserStatus("bob", 2))
        await asyncio.sleep(60.0)
        assert world.told == [("succeeded", None)]

    play(scenario, {A: [PeerOffline("bob")]})


def test_who_is_away_for_days_is_forgotten() -> None:
    async def scenario(world: World) -> None:
        world.uploads.take_status(UserStatus("bob", 0))
        await world.ask(A)
        world.uploads.take_status(UserStatus("bob", 0))
        await world.ask(B, "carol")
        await asyncio.sleep(7 * 86_400.0 - 1)
        world.uploads.sweep()
        assert len(world.uploads.live) == 1
        await asyncio.sleep(10.0)
        world.uploads.sweep()
        assert world.uploads.live == []
        assert world.told[-1] == ("timed_out", "the user was away for too long")

    play(scenario, {A: [PeerOffline("bob")]})


def test_nobody_waits_for_another_whose_slot_is_taken() -> None:
    async def scenario(world: World) -> None:
        for file in (A, B):
            await world.ask(file)
        await world.ask(C, "carol")
        await asyncio.sleep(1.0)
        assert sorted(world.began) == [A, C]
        assert world.uploads.slots.held == 2

    play(scenario)


def test_starting_passes_over_what_is_not_shared_any_more() -> None:
    async def scenario(world: World) -> None:
        world.uploads.start([_kept("Music\\gone", "bob"), _kept(A, "bob")])
        await asyncio.sleep(60.0)
        assert sorted(world.told) == [("errored", "File not shared."), ("succeeded", None)]
        assert world.notices == [("bob", UploadDenied("Music\\gone", "File not shared."))]

    play(scenario)


def test_asking_again_never_makes_a_second_upload() -> None:
    async def scenario(world: World) -> None:
        assert await world.ask(A) == []
        await asyncio.sleep(1.0)
        assert await world.ask(A) == [], "silence while it is active"
        assert await world.ask(A, old=True) == [TransferResponse(7, allowed=False, reason="Queued")]
        await asyncio.sleep(60.0)
        assert world.began == [A]
        await world.ask(A)
        await asyncio.sleep(60.0)
        assert world.began == [A, A], "what has ended may be asked for again"

    play(scenario)


def test_a_hundred_thousand_requests_for_one_file_are_one_upload() -> None:
    async def scenario(world: World) -> None:
        await world.ask(B)
        for _ in range(100_000):
            await world.ask(A)
        assert len(world.uploads.live) == 2
        await asyncio.sleep(60.0)
        assert world.began == [B, A]

    play(scenario, schedules=1)


def test_a_hundred_thousand_requests_for_different_files_hold_up_nobody_else() -> None:
    async def scenario(world: World) -> None:
        paths = [f"Music\\{number}" for number in range(100_000)]
        world.files |= {path: SharedFile(share="Music", path=path, local=path, size=SIZE) for path in paths}
        denied = [answer for path in paths for answer in await world.ask(path)]
        assert {answer.reason for answer in denied if isinstance(answer, UploadDenied)} == {"Too many files"}
        assert (len(denied), len(world.uploads.live)) == (99_900, 100)
        await world.ask(A, "carol")
        await asyncio.sleep(12.0)
        assert A in world.began
        await asyncio.sleep(2_000.0)
        assert world.uploads.live == []

    play(scenario, schedules=1)


def test_a_request_takes_the_place_of_an_upload_that_moves_nothing_any_more() -> None:
    async def scenario(world: World) -> None:
        await world.ask(A)
        await asyncio.sleep(4.0)
        assert await world.ask(A) == []
        assert world.began == [A], "it may still move"
        await asyncio.sleep(2.0)
        assert await world.ask(A) == []
        await asyncio.sleep(60.0)
        assert world.began == [A, A]
        assert world.told == [("superseded", "the peer asked again"), ("succeeded", None)]
        assert world.notices == []
        assert world.uploads.slots.held == 0

    play(scenario, {A: [1_000.0]})


def test_of_two_requests_at_once_for_a_stuck_upload_one_takes_its_place() -> None:
    async def scenario(world: World) -> None:
        assert await world.ask(A) == []
        await asyncio.sleep(6.0)
        await asyncio.gather(world.ask(A), world.ask(A))
        assert len(world.uploads.live) == 1
        await asyncio.sleep(60.0)
        assert world.began == [A, A]
        assert world.uploads.slots.held == 0

    play(scenario, {A: [1_000.0]})


def test_who_fails_ten_times_a_day_has_to_wait_for_another() -> None:
    async def scenario(world: World) -> None:
        for _ in range(10):
            assert await world.ask(A) == []
            await asyncio.sleep(1.0)
        assert await world.ask(A) == [UploadDenied(A, "Too many files")]
        assert await world.ask(A, "carol") == []
        await asyncio.sleep(86_400.0)
        assert await world.ask(A) == []

    play(scenario, {A: [ConnectionLost("again")] * 10})


def test_failures_of_what_others_asked_for_in_a_name_are_not_its_owners() -> None:
    async def scenario(world: World) -> None:
        world.trusted = False
        for _ in range(10):
            assert await world.ask(A) == []
            await asyncio.sleep(1.0)
        assert await world.ask(A) == [UploadDenied(A, "Too many files")]
        world.trusted = True
        assert await world.ask(A) == []

    play(scenario, {A: [ConnectionLost("again")] * 10})


def test_nobody_ends_an_upload_by_asking_in_anothers_name() -> None:
    async def scenario(world: World) -> None:
        await world.ask(A)
        await asyncio.sleep(6.0)
        world.trusted = False
        assert await world.ask(A) == []
        await asyncio.sleep(60.0)
        assert world.began == [A]
        assert world.told == [("succeeded", None)]

    play(scenario, {A: [10.0]})


def test_what_an_operator_decides_is_told() -> None:
    async def scenario(world: World) -> None:
        assert await world.ask(A, "mallory") == [UploadDenied(A, "Banned")]
        assert await world.ask(A) == [UploadDenied(A, "not on mondays")]
        assert await world.ask(B) == []

    def policy(user: str, file: str) -> str | None:
        return "not on mondays" if (user, file) == ("bob", A) else None

    play(scenario, banned=frozenset({"mallory"}), policy=policy)


def test_a_cancel_is_told_once_wherever_the_upload_is() -> None:
    async def scenario(world: World) -> None:
        for file in (A, B):
            await world.ask(file)
        await asyncio.sleep(1.0)
        waiting, running = world.find(B), world.find(A)
        await world.uploads.cancel(waiting)
        await world.uploads.cancel(running)
        await world.uploads.cancel(running)
        await asyncio.sleep(1.0)
        assert world.told == 2 * [("cancelled", "Cancelled")]
        assert len(world.notices) == 2
        assert set(world.notices) == {("bob", UploadDenied(file, "Cancelled")) for file in (A, B)}
        assert world.uploads.slots.held == 0

    play(scenario)


def test_a_stop_puts_back_what_runs_and_a_start_goes_on_with_it_first() -> None:
    async def scenario(world: World) -> None:
        for file in (A, B, C):
            await world.ask(file)
        await asyncio.sleep(1.0)
        assert world.began == [A]
        await world.uploads.stop()
        assert world.uploads.slots.held == 0
        assert world.uploads.live == []
        await asyncio.sleep(100.0)
        assert world.began == [A]
        await world.ledger.flush()
        world.uploads.start(await world.store.live(Direction.UPLOAD))
        await asyncio.sleep(100.0)
        assert world.began == [A, A, B, C]
        assert world.notices == []

    play(scenario)


def test_what_ran_at_a_stop_is_first_even_before_what_was_asked_for_earlier() -> None:
    async def scenario(world: World) -> None:
        for file in (A, B, C):
            await world.ask(file)
        world.uploads.bump(world.find(C))
        await asyncio.sleep(11.0)
        assert world.began == [A, C]
        await world.uploads.stop()
        await world.ledger.flush()
        world.uploads.start(await world.store.live(Direction.UPLOAD))
        await asyncio.sleep(100.0)
        assert world.began == [A, C, C, B]

    play(scenario)


def test_while_our_own_link_is_down_nobody_is_tried_and_nobody_has_failed() -> None:
    async def scenario(world: World) -> None:
        world.up.clear()
        for file in (A, B):
            await world.ask(file)
            await world.ask(file, "carol")
        await asyncio.sleep(86_400.0)
        assert world.began == []
        assert len(world.uploads.live) == 4
        world.up.set()
        world.uploads.pump()
        await asyncio.sleep(100.0)
        assert world.told == 4 * [("succeeded", None)]

    play(scenario)


def test_a_link_that_breaks_in_the_middle_ends_no_upload() -> None:
    async def scenario(world: World) -> None:
        await world.ask(A)
        await asyncio.sleep(500.0)
        assert world.began == 5 * [A]
        assert world.told == [("succeeded", None)]

    play(scenario, {A: [LinkDown("the link to the server is lost")] * 4})


def test_absences_and_postponed_offers_are_no_failures_to_connect() -> None:
    async def scenario(world: World) -> None:
        await world.ask(A)
        for _ in range(3):
            await asyncio.sleep(1_000.0)
            world.uploads.take_status(UserStatus("bob", 2))
        await asyncio.sleep(1_000.0)
        assert world.began == 5 * [A]
        assert world.told == [("succeeded", None)]

    play(scenario, {A: [PeerOffline("bob"), NotNow(), PeerOffline("bob"), Unreached("nobody answers")]})


def test_an_index_that_fails_is_asked_again_a_while_later() -> None:
    async def scenario(world: World) -> None:
        await world.ask(A)
        await world.uploads.stop()
        await world.ledger.flush()
        world.index_fails = True
        world.uploads.start(await world.store.live(Direction.UPLOAD))
        await asyncio.sleep(100.0)
        assert 2 <= world.put_off <= 10
        world.index_fails = False
        await asyncio.sleep(100.0)
        assert world.told == [("succeeded", None)]

    play(scenario)


def test_a_mistake_of_ours_ends_the_upload_and_not_the_node() -> None:
    async def scenario(world: World) -> None:
        world.mistakes_allowed = True
        await world.ask(A)
        await world.ask(B)
        await asyncio.sleep(60.0)
        assert world.told == [("errored", "an error of ours"), ("succeeded", None)]
        assert world.notices == [("bob", UploadFailed(A))]

    play(scenario, {A: [KeyError("x")]})


def test_after_a_restart_what_was_in_progress_is_first_of_its_user() -> None:
    async def scenario(world: World) -> None:
        world.uploads.start([_kept(A, "bob"), _kept(B, "bob"), _running(_kept(C, "bob"))])
        await asyncio.sleep(100.0)
        assert world.began == [C, A, B]

    play(scenario)


def test_a_restart_takes_nobodys_rank_and_gives_none_to_a_borrowed_name() -> None:
    async def scenario(world: World) -> None:
        world.up.clear()
        await world.ask(A)
        await world.ask(B, "carol")
        world.trusted = False
        await world.ask(C, "carol")
        await world.uploads.stop()
        await world.ledger.flush()
        world.uploads.start(await world.store.live(Direction.UPLOAD))
        assert [(it.path, it.trusted) for it in world.uploads.live] == [(A, True), (B, True), (C, False)]
        world.up.set()
        world.uploads.pump()
        await asyncio.sleep(100.0)
        assert world.began == [B, A, C]

    play(scenario, slots=1, buddies=frozenset({"carol"}))


def test_after_a_restart_a_user_has_no_more_waiting_than_before() -> None:
    async def scenario(world: World) -> None:
        world.up.clear()
        await world.ask(A)
        await world.ask(B)
        assert await world.ask(C) == [UploadDenied(C, "Too many files")]
        await world.uploads.stop()
        await world.ledger.flush()
        world.uploads.start(await world.store.live(Direction.UPLOAD))
        assert await world.ask(C, address="elsewhere") == [UploadDenied(C, "Too many files")]

    play(scenario, files=2)


def _kept(file: str, user: str) -> PeerTransfer:
    transfer = Transfer(
        id=cast("Any", f"{user} {file}"), direction=Direction.UPLOAD, line=user, size=SIZE, queued_at=0.0
    )
    return PeerTransfer(transfer=transfer, file=file, address=f"of {user}", target=file)


def _running(kept: PeerTransfer) -> PeerTransfer:
    begun = kept.transfer.request().initialize().begin(0, now=0.0)
    return PeerTransfer(transfer=begun, file=kept.file, address=kept.address, target=kept.target)
