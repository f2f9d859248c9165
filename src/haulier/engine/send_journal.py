"""The journal as one of the processes uses it that share it: it knows what others have written.

Rule 1: what this process writes is noted, by whichever part of it; so no part hears of it as of somebody else's.
Rule 2: whoever writes tries again by himself; that it does not work, and that it does again, is told once. A journal that
        was removed or replaced is told even when it did not work before: trying again is no use then.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from haulier.core.errors import StorageError, was_replaced
from haulier.core.transfer import TransferId
from haulier.sending_ports import Journal, JournalRows

T = TypeVar("T")

HEARD: Final = 1000
"""Changes of others that are read at once."""


class SharedJournal:
    """Reads and writes a journal that its owner opens and closes.

    Args:
        journal: what is shared.
        hindered: called when it cannot be written, with the error, and with None when it can again.
    """

    def __init__(self, journal: Journal, *, hindered: Callable[[StorageError | None], None]) -> None:
        self._journal = journal
        self._hindered = hindered
        self.error: StorageError | None = None
        """What the last write failed with."""
        self._seen = 0
        """All revisions up to this one are known here."""
        self._own: set[int] = set()
        self._others = 0

    async def begin(self) -> None:
        """Hear of what others commit from now on. Raises StorageError."""
        self._others = await self._journal.commits_of_others()
        self._seen = await self.read(lambda rows: rows.revision())
        self._own.clear()
        self.error = None

    async def read(self, work: Callable[[JournalRows], T]) -> T:
        """Run `work` on one consistent view. Raises StorageError."""
        return await self._journal.read(work)

    async def write(self, work: Callable[[JournalRows], T], *, durable: bool = True) -> T:
        """Run `work` and commit before returning. Raises StorageError."""

        def noting(rows: JournalRows) -> tuple[T, range]:
            before = rows.revision()
            result = work(rows)
            return result, range(before + 1, rows.revision() + 1)

        try:
            result, revisions = await self._journal.write(noting, durable=durable)
        except StorageError as error:
            self.note(error)
            raise
        self.note(None)
        self._own.update(revisions)
        return result

    def note(self, error: StorageError | None) -> None:
        """Take in how the last attempt to use it went, and tell it if that is news."""
        before, self.error = self.error, error
        if (before is None) is not (error is None) or was_replaced(error) > was_replaced(before):
            self._hindered(error)

    async def hear(self, tell: Callable[[TransferId], Awaitable[None]]) -> bool:
        """Tell each row that others have written since this was asked last; return whether they have written anything.

        Raises:
            StorageError
        """
        own = frozenset(self._own)
        others = await self._journal.commits_of_others()
        heard = others != self._others
        if not heard:
            self._seen = max([self._seen, *own])
        else:
            while changed := await self.read(lambda rows: rows.changed(after=self._seen, limit=HEARD)):
                for revision, transfer_id in changed:
                    if revision not in self._own:
                        await tell(transfer_id)
                    self._seen = revision
            self._others = others
        self._own.difference_update(own)
        return heard
