"""Waiting for the one true result of a transfer.

Rule 1: whoever waits begins to listen before looking, and looks once more when the time is over: the word of a change may
        come late.
Rule 2: a journal that cannot be used for a while ends no wait; it is asked again until the wait's time is over. One that was
        removed or replaced does: what is waited for is not in it.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from haulier.core.dispatch import Dispatch, Removed
from haulier.core.errors import (
    StorageError,
    StorageUnavailable,
    TransferNotFound,
    TransferTimeout,
    was_replaced,
)
from haulier.core.transfer import Snapshot, TransferId
from haulier.engine.send_journal import SharedJournal
from haulier.engine.send_rows import require
from haulier.engine.send_watch import Watchers
from haulier.logs import get_logger
from haulier.machine import Clock

log = get_logger()

AGAIN_S: Final = 5.0
"""When a journal is asked again that could not be read."""
UNREAD: Final = "unknown"
"""The phase of a transfer whose row could not be read in time."""


class WaitingRoom:
    """Where those wait who want the results of a manager's transfers."""

    def __init__(
        self,
        journal: SharedJournal,
        watchers: Watchers,
        clock: Clock,
        *,
        unknown_s: float,
        snapshot: Callable[[Dispatch], Snapshot],
    ) -> None:
        """Take the parts.

        Args:
            journal: where results are kept.
            watchers: who wakes those who wait.
            clock: the time.
            unknown_s: how long to wait for an id that nobody has queued.
            snapshot: how far a transfer is.
        """
        self.open = False
        """Whether the journal is in use; once it is not, waits end with StorageUnavailable."""
        self._journal = journal
        self._watchers = watchers
        self._clock = clock
        self._unknown_s = unknown_s
        self._snapshot = snapshot

    async def wait(self, transfer_id: TransferId, timeout_s: float | None) -> Dispatch:
        """Return the row once it has ended.

        Raises:
            TransferNotFound · TransferRemoved · TransferTimeout
            StorageUnavailable: the manager has stopped, or was never started; or the journal was removed or replaced.
        """
        began = self._clock.monotonic()
        ends_at = None if timeout_s is None else began + timeout_s
        row = await self._wait_known(transfer_id, ends_at)
        log.info("send.wait", transfer=row.id, phase=row.transfer.phase.value)
        row = await self._wait_ended(row, ends_at)
        waited_s = round(self._clock.monotonic() - began, 3)
        log.info("send.waited", transfer=row.id, outcome=row.transfer.outcome, waited_s=waited_s)
        return row

    async def _wait_known(self, transfer_id: TransferId, ends_at: float | None) -> Dispatch:
        began = self._clock.monotonic()
        unknown_until = began + self._unknown_s
        if ends_at is not None:
            unknown_until = min(unknown_until, ends_at)
        with self._watchers.watching(transfer_id) as woken:
            while True:
                woken.clear()
                found = await self._look(transfer_id, woken, ends_at)
                if found is not None:
                    return require(found, transfer_id)
                now = self._clock.monotonic()
                if now >= unknown_until:
                    raise TransferNotFound(transfer_id, now - began)
                await wait_or_sleep(woken, self._clock, unknown_until - now)

    async def _wait_ended(self, row: Dispatch, ends_at: float | None) -> Dispatch:
        with self._watchers.watching(row.id) as woken:
            while True:
                woken.clear()
                row = require(await self._look(row.id, woken, ends_at), row.id)
                if not row.live:
                    return row
                if ends_at is None:
                    await woken.wait()
                elif (left_s := ends_at - self._clock.monotonic()) > 0:
                    await wait_or_sleep(woken, self._clock, left_s)
                else:
                    it = self._snapshot(row)
                    raise TransferTimeout(row.id, row.transfer.phase, it.done, it.size, row.error)

    async def _look(
        self, transfer_id: TransferId, woken: asyncio.Event, ends_at: float | None
    ) -> Dispatch | Removed | None:
        while self.open:
            try:
                return await self._journal.read(lambda rows: rows.find(transfer_id))
            except StorageError as error:
                if was_replaced(error):
                    raise
                log.warning("send.wait_failed", transfer=transfer_id, error=str(error))
                left_s = AGAIN_S if ends_at is None else min(AGAIN_S, ends_at - self._clock.monotonic())
                if left_s <= 0:
                    raise TransferTimeout(transfer_id, UNREAD, 0, 0, str(error)) from error
                woken.clear()
                if self.open:  # else whoever stops has woken us already
                    await wait_or_sleep(woken, self._clock, left_s)
        raise StorageUnavailable(
            "the upload manager has stopped; what it had queued goes on with the next one"
        )


async def wait_or_sleep(event: asyncio.Event, clock: Clock, seconds: float) -> None:
    """Wait for the event, for that long at most."""
    loop = asyncio.get_running_loop()
    waiting = {loop.create_task(event.wait()), loop.create_task(clock.sleep(seconds))}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
