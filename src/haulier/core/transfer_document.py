"""A transfer as JSON has it: for commands, for the API, and for events. One form for uploads and downloads."""

from typing import Any

from haulier.core.dispatch import Dispatch
from haulier.core.transfer import Snapshot


def transfer_document(row: Dispatch, snapshot: Snapshot, place: int | None = None) -> dict[str, Any]:
    """Return the document of a transfer to a remote.

    Args:
        row: as its journal has it.
        snapshot: how far it is; further than the row says while it runs here.
        place: in the queue, from 1; None where that is not known.
    """
    transfer = row.transfer
    return {
        "id": row.id,
        "direction": transfer.direction.value,
        "remote": row.remote,
        "target": row.target,
        "path": row.path,
        "phase": transfer.phase.value,
        "step": None if transfer.step is None else transfer.step.value,
        "outcome": None if transfer.outcome is None else transfer.outcome.value,
        "label": transfer.label,
        "priority": transfer.priority.name.lower(),
        "place": place,
        "bytes": snapshot.done,
        "size": snapshot.size,
        "speed": snapshot.speed,
        "eta_s": snapshot.eta_s,
        "attempts": transfer.attempts,
        "digest": _digest(row),
        "remote_id": None if row.stored is None else row.stored.id,
        "stored_as": None if row.stored is None else row.stored.name,
        "error": transfer.reason or row.error,
        "obstacle": None if transfer.obstacle is None else transfer.obstacle.value,
        "wanted": row.wanted.value,
        "retry_at": transfer.retry_at,
        "superseded_by": row.superseded_by,
        "retry_of": row.retry_of,
    }


def _digest(row: Dispatch) -> dict[str, str] | None:
    return None if row.sum is None else {row.sum.name: row.sum.value}
