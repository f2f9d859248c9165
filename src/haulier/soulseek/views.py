"""Transfers and findings as JSON, and as people read them."""

from datetime import UTC, datetime
from typing import Any

from haulier.core.transfer import Transfer
from haulier.ports import PeerTransfer
from haulier.soulseek.peer_messages import FileEntry, Folder, Found


def transfer_document(
    transfer: Transfer, file: str, *, place: int | None = None, target: str = ""
) -> dict[str, Any]:
    """Return a transfer as the control API tells it; its members are those of `/api/transfers`."""
    snapshot = transfer.snapshot
    return {
        "id": transfer.id,
        "direction": transfer.direction.value,
        "remote": shown(transfer.line),
        "target": shown(file),
        "phase": transfer.phase.value,
        "outcome": transfer.outcome.value if transfer.outcome is not None else None,
        "label": transfer.label,
        "bytes": snapshot.done,
        "size": snapshot.size,
        "percent": round(snapshot.percent, 1),
        "speed": snapshot.speed,
        "eta_s": snapshot.eta_s,
        "attempts": transfer.attempts,
        "digest": None,
        "remote_id": None,
        "error": transfer.reason,
        "superseded_by": None,
        "retry_of": None,
        "place": place,
        "file": shown(target),
        "queued_at": datetime.fromtimestamp(transfer.queued_at, UTC).isoformat().replace("+00:00", "Z"),
    }


def kept_document(kept: PeerTransfer) -> dict[str, Any]:
    """Return a transfer as it is kept."""
    return transfer_document(kept.transfer, kept.file, target=kept.target)


def found_documents(found: Found) -> list[dict[str, Any]]:
    """Return what a peer has found, a document a file."""
    return [
        {
            "user": shown(found.user),
            "slot_free": found.slot_free,
            "speed": found.speed,
            "queue": found.queue_length,
            "private": private,
            **_entry(entry),
        }
        for files, private in ((found.files, False), (found.private, True))
        for entry in files
    ]


def folder_document(folder: Folder, *, private: bool) -> dict[str, Any]:
    """Return a folder of a peer."""
    return {
        "folder": shown(folder.path),
        "private": private,
        "files": [_entry(entry) for entry in folder.files],
    }


def _entry(entry: FileEntry) -> dict[str, Any]:
    return {
        "file": shown(entry.name),
        "size": entry.size,
        "attributes": {str(it.code): it.value for it in entry.attributes},
    }


def shown(text: str) -> str:
    """Return text that JSON can carry: bytes that are no UTF-8 are read as what old clients mean by them."""
    raw = text.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
