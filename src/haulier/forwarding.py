"""What a capsule's `forward=REMOTE:PATH` does: each completed record goes on to the remote, exactly once.

Rule 1: that a record is to be forwarded is in its event, written in the transaction in which it completed. The courier
        brings each event at least once; the transfer's id is made of record and remote, so a repeat changes nothing.
Rule 2: what the remote makes of it is the transfer's business: a remote that is not set up, or takes no such name, shows
        there, and holds up no other record.
Rule 3: what cannot even be queued, be it by a mistake of ours, is a transfer that has failed: it shows why, can be retried, and
        holds up no other record either. Only what can pass is tried again in its place.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from haulier.core.errors import StorageError, TransferRemoved
from haulier.core.event import EventKind, Interest, Told
from haulier.core.record import AssetKind, Record, full_path
from haulier.core.upload import UploadDetails
from haulier.engine.courier import ReceiverFailed
from haulier.engine.outbox import FORWARD
from haulier.engine.send import UploadManager
from haulier.logs import get_logger
from haulier.ports import UnitOfWork

log = get_logger()


class Forwarding:
    """A receiver of events that queues transfers."""

    name: Final = "forward"
    patience_s: Final = None
    """However long the service was off: a forward that was never queued is one that nobody ever hears of."""
    interest: Final = Interest(frozenset({EventKind.COMPLETED}), FORWARD)
    """Records that have completed in a capsule that forwards."""

    def __init__(
        self, manager: UploadManager, work: UnitOfWork[UploadDetails], path_of_blob: Callable[[str], Path]
    ) -> None:
        self._manager = manager
        self._work = work
        self._path_of_blob = path_of_blob

    async def receive(self, told: Told) -> None:
        """Queue the transfer of a record whose capsule forwards. Raises ReceiverFailed."""
        to = told.event.facts[FORWARD]
        try:
            record = await self._work.read(lambda tx: tx.records.load(told.event.record))
            await self._queue(record, to)
        except (StorageError, OSError) as error:
            raise ReceiverFailed(str(error)) from error

    async def _queue(self, record: Record | None, to: str) -> None:
        blobs = (
            [] if record is None else [it.blob_key for it in record.assets if it.kind is AssetKind.ORIGINAL]
        )
        if record is None or not blobs:
            return  # erased before its turn came: there is nothing to send
        path = self._path_of_blob(blobs[0])
        try:
            await self._manager.queue(path, target_of(record, to), id=transfer_id(record, to), later=True)
        except TransferRemoved:
            return  # somebody has said that it is not to be sent; a repeat changes nothing
        except FileNotFoundError as error:
            await self._note_failed(record, path, to, error)
        except (StorageError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - rule 3; it is logged there
            await self._note_failed(record, path, to, error)

    async def _note_failed(self, record: Record, path: Path, to: str, error: Exception) -> None:
        log.error("forward.failed", record=record.id, to=to, exc_info=error)
        try:
            await self._manager.queue_failed(path, target_of(record, to), error, id=transfer_id(record, to))
        except (StorageError, OSError):
            raise
        except Exception:
            # A mistake with the note as well: the log is all that is left, and the others go on.
            log.exception("forward.lost", record=record.id, to=to)


def target_of(record: Record, to: str) -> str:
    """Return where a record goes: below the path, under its own path and name."""
    folder = to if to.endswith((":", "/")) else f"{to}/"
    return folder + (record.filename if record.path is None else full_path(record.path, record.filename))


def transfer_id(record: Record, to: str) -> str:
    """Return the id of the one transfer of that record to that place."""
    return f"forward-{record.id}-{hashlib.sha256(to.encode()).hexdigest()[:16]}"
