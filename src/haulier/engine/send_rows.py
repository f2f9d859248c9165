"""What is done with the rows of a journal, each in one transaction."""

from collections.abc import Callable, Sequence

from haulier.core.dispatch import Dispatch, Removed, Wanted, enqueue, is_repeat
from haulier.core.errors import InvalidRequest, TransferNotFound, TransferRemoved
from haulier.core.transfer import TransferId
from haulier.core.values import replace
from haulier.sending_ports import JournalRows, Waiting

Change = Callable[[Dispatch], Dispatch]
"""What is to become of a row, as the journal has it."""


def insert(new: Dispatch, rows: JournalRows) -> tuple[TransferId, list[Dispatch]]:
    """Write a new transfer down, or let it join; return its id and the rows that were written.

    Raises:
        TransferRemoved: one of that id was there; nothing would be sent.
        InvalidRequest: the id names another transfer.
    """
    found = rows.find(new.id)
    if found is not None:
        known = require(found, new.id)
        if not is_repeat(new, known):
            raise InvalidRequest.of(
                "id",
                f"{new.id!r} names another transfer, of {known.path} as it was then to {known.remote}:{known.target}; "
                "choose another id",
            )
        return known.id, []
    queued, changed = enqueue(new, rows.live_of(new.remote, new.target))
    for row in changed:
        rows.put(row)
    if queued != new.id:
        rows.join(new.id, queued)
    return queued, changed


def insert_ended(new: Dispatch, rows: JournalRows) -> bool:
    """Write a transfer down that has ended already; return whether its id was not known."""
    if rows.find(new.id) is not None:
        return False
    rows.put(new)
    return True


def change_row(
    transfer_id: TransferId, change: Change, rows: JournalRows
) -> tuple[Dispatch | Removed | None, bool]:
    """Change a row, as one of its owners; return it, and whether anything has changed."""
    row = rows.find(transfer_id)
    if not isinstance(row, Dispatch):
        return row, False
    new = change(row)
    if new is not row:
        rows.put(new)
    return new, new is not row


def remove(transfer_id: TransferId, now: float, rows: JournalRows) -> Dispatch | Removed | None:
    """Forget a transfer that has ended, or have its runner do so once it has; return what is left of it."""
    row = rows.find(transfer_id)
    if not isinstance(row, Dispatch):
        return row
    if row.live:
        wanted = row.want(Wanted.REMOVE)
        rows.put(wanted)
        return wanted
    gone = Removed(id=row.id, removed_at=now)
    rows.remove(gone)
    return gone


def require(found: Dispatch | Removed | None, transfer_id: TransferId) -> Dispatch:
    """Return the row that was found under that id. Raises TransferNotFound · TransferRemoved."""
    if found is None:
        raise TransferNotFound(transfer_id, 0.0)
    if isinstance(found, Removed):
        raise TransferRemoved(found.id, found.reason)
    return found


def read_waiting(after: int | None, limit: int, rows: JournalRows) -> Sequence[Waiting]:
    """Return the next live rows."""
    return rows.waiting(after=after, limit=limit)


def save_row(
    mine: Dispatch, change: Change, now: float, rows: JournalRows
) -> tuple[Dispatch, Dispatch | Removed]:
    """Change a row, as its runner; return it, and what is left of it when it was to be forgotten.

    A transfer ends once: what the journal has as ended, or as removed, stays so. The runner may not know that yet, when it
    was stopped while that very row was being written.
    """
    theirs = rows.find(mine.id)
    if isinstance(theirs, Removed):
        return replace(mine, wanted=Wanted.REMOVE), theirs
    if theirs is not None and not theirs.live:
        return theirs, remove_if_wanted(rows, theirs, now=now)
    row = change(mine if theirs is None else mine.merged(theirs))
    rows.put(row)
    return row, remove_if_wanted(rows, row, now=now)


def remove_if_wanted(rows: JournalRows, row: Dispatch, *, now: float) -> Dispatch | Removed:
    """Forget a row that has ended, if that is wanted; return what is left of it."""
    if row.live or row.wanted is not Wanted.REMOVE:
        return row
    gone = Removed(id=row.id, removed_at=now)
    rows.remove(gone)
    return gone
