"""A transfer as JSON has it: for commands, for the API, and for events. One form for uploads and downloads."""

from typing import Any

from haulier.core.dispatch import Dispatch, Wanted
from haulier.core.transfer import Direction, Phase, Snapshot, Transfer


def transfer_document(row: Dispatch, snapshot: Snapshot, place: int | None = None) -> dict[str, Any]:
    """Return the document of a transfer to a remote.

    Args:
        row: as its journal has it.
        snapshot: how far it is; further than the row says while it runs here.
        place: in the queue, from 1; None where that is not known.
    """
    return {
        **_document(row.transfer, snapshot, place),
        "remote": row.remote,
        "target": row.target,
        "path": row.path,
        "digest": _digest(row),
        "remote_id": None if row.stored is None else row.stored.id,
        "stored_as": None if row.stored is None else row.stored.name,
        "error": row.transfer.reason or row.error,
        "wanted": row.wanted.value,
        "superseded_by": row.superseded_by,
        "retry_of": row.retry_of,
    }


def peer_document(
    transfer: Transfer, file: str, *, local: str = "", place: int | None = None, retry_of: str | None = None
) -> dict[str, Any]:
    """Return the document of an upload to a peer or a download from one.

    Args:
        transfer: whose line is the peer.
        file: its path at whoever has it.
        local: where a download is saved.
        place: in the queue, from 1; None where that is not known.
        retry_of: the ended download that this one is another try of.
    """
    paused = transfer.phase is Phase.PAUSED
    return {
        **_document(transfer, transfer.snapshot, place),
        "remote": shown(transfer.line),
        "target": shown(file),
        "path": shown(local) if transfer.direction is Direction.DOWNLOAD else "",
        "digest": None,
        "remote_id": None,
        "stored_as": None,
        "error": None if transfer.reason is None else shown(transfer.reason),
        "wanted": (Wanted.PAUSE if paused else Wanted.RUN).value,
        "superseded_by": None,
        "retry_of": retry_of,
    }


def shown(text: str) -> str:
    """Return text that JSON can carry: bytes that are no UTF-8 are read as what old clients mean by them."""
    raw = text.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _document(transfer: Transfer, snapshot: Snapshot, place: int | None) -> dict[str, Any]:
    return {
        "id": transfer.id,
        "direction": transfer.direction.value,
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
        "obstacle": None if transfer.obstacle is None else transfer.obstacle.value,
        "retry_at": transfer.retry_at,
    }


def _digest(row: Dispatch) -> dict[str, str] | None:
    return None if row.sum is None else {row.sum.name: row.sum.value}
