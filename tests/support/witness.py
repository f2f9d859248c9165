"""A database that refuses to let anything happen to a record in silence."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from haulier.core.event import Event
from haulier.core.upload import UploadDetails
from haulier.ports import Transaction, UnitOfWork

T = TypeVar("T")

WRITERS: Final = frozenset(
    {"insert", "complete", "add_asset", "end", "delete", "restore", "drop_assets", "take", "settle", "adopt"}
)
"""What changes a record that others know of; `erase` takes back one that nobody was told of."""


class SilentChange(AssertionError):
    """A transaction changed records and wrote no event about them."""


class WitnessedWork:
    """A `UnitOfWork` whose every write that changes a record has to write an event about it; else it fails.

    So whoever adds a writer of records and forgets `tell` sees it in the first test that runs that writer.
    """

    def __init__(self, work: UnitOfWork[UploadDetails]) -> None:
        self._work = work
        self.silent: set[str] = set()
        """Records that were to be changed in silence, also where nobody saw the error."""

    async def read(self, work: Callable[[Transaction[UploadDetails]], Awaitable[T]]) -> T:
        """Run `work` on one consistent view."""
        return await self._work.read(work)

    async def write(
        self,
        work: Callable[[Transaction[UploadDetails]], Awaitable[T]],
        *,
        durable: bool = False,
        frees: bool = False,
    ) -> T:
        """Run `work`; it commits only if it tells of every record that it changes."""

        async def witnessed(tx: Transaction[UploadDetails]) -> T:
            seen: Any = _Witness(tx)
            result = await work(seen)
            if silent := seen.changed - seen.told:
                self.silent |= silent
                raise SilentChange(f"no event tells of records {sorted(silent)}; call engine.outbox.tell")
            return result

        return await self._work.write(witnessed, durable=durable, frees=frees)


class _Witness:
    """A transaction that remembers which records it changed, and of which it told."""

    def __init__(self, tx: Transaction[UploadDetails]) -> None:
        self._tx = tx
        self.changed: set[str] = set()
        self.told: set[str] = set()
        self.records = _Records(tx.records, self.changed)
        self.events = _Events(tx.events, self.told)
        self.processing = _Records(tx.processing, self.changed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)


class _Records:
    def __init__(self, records: Any, changed: set[str]) -> None:
        self._records = records
        self._changed = changed

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._records, name)
        if name not in WRITERS:
            return real

        async def call(subject: Any, *args: Any, **options: Any) -> Any:
            result = await real(subject, *args, **options)
            if name == "adopt":
                self._changed.update(result)
            elif name == "insert":
                self._changed.update(record.id for record in (subject, *args))
            elif result:
                self._changed.add(subject)
            return result

        return call


class _Events:
    def __init__(self, events: Any, told: set[str]) -> None:
        self._events = events
        self._told = told

    async def append(self, *events: Event) -> None:
        await self._events.append(*events)
        self._told.update(event.record for event in events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._events, name)
