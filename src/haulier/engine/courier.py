"""Brings events from the outbox to one receiver, in order, each at least once.

Rule 1: the receiver's row says how far it has come. It moves on after the receiver has taken an event, never before; so a
        crash in between brings that event again, and none is left out. What does not interest it is passed over: the database
        knows what does, and brings of all the rest the last one only, to whose place the row moves on.
Rule 2: one process delivers to a receiver at a time: the one whose name is in the row, for as long as it lives.
Rule 3: a receiver that fails is tried again, ever more rarely, and holds up nobody but itself. An event that it has not
        taken within its patience is given up, told in the log, and the next one has its turn.
Rule 4: after events of which none concerned its receiver a courier rests `REST_S`, so that many are read at once.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from haulier.core.errors import HaulierError
from haulier.core.event import EVERYTHING, Event, Interest, Position, Told
from haulier.core.retry import BACK_OFF, Chance, is_due
from haulier.core.upload import UploadDetails
from haulier.core.values import replace
from haulier.engine.holders import may_take
from haulier.engine.hooks import OnRecord
from haulier.engine.outbox import BATCH, UNSETTLED_S, Feed
from haulier.logs import get_logger
from haulier.machine import Clock
from haulier.ports import Delivery, Transaction, UnitOfWork, Workers

log = get_logger()

LOOK_S: Final = 5.0
"""How often a process that does not deliver looks whether the one that does still lives."""
REST_S: Final = 0.25
"""Seconds. An event that does concern the receiver comes at most so much later."""
GIVE_UP_S: Final = 3 * 24 * 3600.0
"""How old an event may become that somebody outside does not take: a long weekend. Precedent: Stripe tries for three
days."""


class ReceiverFailed(Exception):
    """The receiver did not take an event; a signal between a receiver and its courier, never shown."""

    def __init__(self, reason: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Receiver(Protocol):
    """Who is told events."""

    @property
    def name(self) -> str:
        """Under which its place is kept; another name is another receiver."""
        ...

    @property
    def patience_s(self) -> float | None:
        """How old an event may become before it is given up; None when none ever is."""
        ...

    @property
    def interest(self) -> Interest:
        """What it is to hear of; always the same."""
        ...

    async def receive(self, told: Told) -> None:
        """Take an event that it is interested in; perhaps one that it had before.

        Raises:
            ReceiverFailed: it did not, and shall be asked again.
        """


class HookReceiver:
    """The embedding program's `on_record` as a receiver of all events."""

    name = "on_record"
    patience_s = GIVE_UP_S
    interest = EVERYTHING

    def __init__(self, hook: OnRecord) -> None:
        self._hook = hook

    async def receive(self, told: Told) -> None:
        """Call the hook. Raises ReceiverFailed."""
        try:
            await self._hook(told.event)
        except Exception as error:
            log.exception("hook.failed", hook=self.name)
            raise ReceiverFailed(type(error).__name__) from error


class Courier:
    """Delivers to one receiver."""

    def __init__(
        self,
        receiver: Receiver,
        *,
        work: UnitOfWork[UploadDetails],
        feed: Feed,
        workers: Workers,
        clock: Clock,
        holder: str,
        chance: Chance,
    ) -> None:
        self._receiver = receiver
        self._work = work
        self._feed = feed
        self._workers = workers
        self._clock = clock
        self._holder = holder
        self._chance = chance
        self._rests = False
        """Whether none of the events that were read last concerned the receiver."""

    async def prepare(self) -> None:
        """Give a new receiver its place: it hears of everything that is committed from now on."""
        await self._mine()

    async def run(self) -> None:
        """Deliver for ever; cancel it to end it."""
        with self._feed.reading() as woken:
            while True:
                woken.clear()
                wait_s = await self._step_or_pause()
                if self._rests:
                    await self._clock.sleep(REST_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await woken.wait()

    async def _step_or_pause(self) -> float | None:
        self._rests = False
        try:
            while (wait_s := await self.step()) == 0:
                pass
        except HaulierError as error:
            log.warning("delivery.halted", receiver=self._receiver.name, error=str(error))
            return LOOK_S
        return wait_s

    async def step(self) -> float | None:
        """Deliver some events, if one is due; return after how many seconds to go on. None: when there is a new one."""
        delivery = await self._mine()
        if delivery is None:
            return LOOK_S
        now = self._clock.now()
        if not is_due(delivery.due_at, now=now):
            return delivery.due_at - now
        interest = self._receiver.interest
        found, settled = await self._work.read(
            lambda tx: tx.events.after(delivery.position, limit=BATCH, interest=interest)
        )
        if not found:
            return None if settled else UNSETTLED_S
        return await self._deliver(delivery, found)

    async def _mine(self) -> Delivery | None:
        """Return how far the receiver has come, if this process delivers to it."""
        name = self._receiver.name
        delivery = await self._work.read(lambda tx: tx.deliveries.load(name))
        if delivery is None:
            return await self._work.write(partial(self._begin, name), durable=True)
        if delivery.holder == self._holder:
            return delivery
        if not await may_take(self._workers, self._holder, delivery.holder):
            return None
        return await self._work.write(
            lambda tx: tx.deliveries.take(name, delivery.fence, self._holder), durable=True
        )

    async def _begin(self, name: str, tx: Transaction[UploadDetails]) -> Delivery | None:
        place = await tx.events.last_settled()
        return await tx.deliveries.begin(name, place, self._holder)

    async def _deliver(self, delivery: Delivery, found: Sequence[Told]) -> float:
        """Deliver these in order, until one fails or another process has the claim."""
        passed: Position | None = None
        self._rests = True
        for told in found:
            if not self._concerns(told):
                passed = told.position
                continue
            self._rests = False
            failure = await self._try(told)
            if failure is not None:
                if passed is not None:
                    await self._advance(delivery, passed)
                return await self._postpone(delivery, told.event, failure)
            if not await self._advance(delivery, told.position, durable=True):
                return 0.0
            delivery, passed = replace(delivery, failures=0), None
        if passed is not None:
            await self._advance(delivery, passed)
        return 0.0

    def _concerns(self, told: Told) -> bool:
        """Whether the receiver is to hear of it at all."""
        if not self._receiver.interest.covers(told.event):
            return False
        patience_s = self._receiver.patience_s
        if patience_s is not None and told.event.created_at < self._clock.now() - patience_s:
            log.error("delivery.given_up", receiver=self._receiver.name, place=str(told.position))
            return False
        return True

    async def _try(self, told: Told) -> ReceiverFailed | None:
        """Let the receiver take it; return why it did not."""
        try:
            await self._receiver.receive(told)
        except ReceiverFailed as failure:
            return failure
        except Exception as error:
            log.exception("delivery.mistake", receiver=self._receiver.name)
            return ReceiverFailed(repr(error))
        return None

    async def _advance(self, delivery: Delivery, position: Position, *, durable: bool = False) -> bool:
        """Note that all up to there is done; `durable`: what was received there shall not come again after a power loss.

        Without the claim another process delivers now, from where the row stands; it will deliver these again.
        """
        return await self._work.write(
            lambda tx: tx.deliveries.advance(delivery.receiver, delivery.fence, position), durable=durable
        )

    async def _postpone(self, delivery: Delivery, event: Event, failure: ReceiverFailed) -> float:
        failures = delivery.failures + 1
        delay = BACK_OFF.delay(failures, self._chance, at_least=failure.retry_after_s)
        log.warning(
            "delivery.failed",
            receiver=self._receiver.name,
            record=event.record,
            failures=failures,
            again_in_s=round(delay, 1),
            error=str(failure),
        )
        due_at = self._clock.now() + delay
        await self._work.write(
            lambda tx: tx.deliveries.postpone(
                delivery.receiver, delivery.fence, failures=failures, due_at=due_at, error=str(failure)
            )
        )
        return delay
