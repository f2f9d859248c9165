"""Transfers and findings as JSON, and as people read them."""

from datetime import UTC, datetime
from typing import Any

from haulier.core.transfer import Transfer
from haulier.core.transfer_document import peer_document, shown
from haulier.ports import PeerTransfer
from haulier.soulseek.download import Download
from haulier.soulseek.peer_messages import FileEntry, Folder, Found
from haulier.soulseek.upload import Upload


def transfer_document(
    transfer: Transfer, file: str, *, local: str = "", place: int | None = None, retry_of: str | None = None
) -> dict[str, Any]:
    """Return a transfer as the control API tells it: that of `/api/transfers`, and a little more."""
    queued_at = datetime.fromtimestamp(transfer.queued_at, UTC)
    return {
        **peer_document(transfer, file, local=local, place=place, retry_of=retry_of),
        "percent": round(transfer.snapshot.percent, 1),
        "file": shown(local),
        "queued_at": queued_at.isoformat().replace("+00:00", "Z"),
    }


def kept_document(kept: PeerTransfer, *, place: int | None = None) -> dict[str, Any]:
    """Return a transfer as it is kept, and its place in a queue where that is known."""
    return transfer_document(kept.transfer, kept.file, local=kept.target, place=place, retry_of=kept.retry_of)


def upload_document(upload: Upload, place: int | None) -> dict[str, Any]:
    """Return an upload that has not ended."""
    return transfer_document(upload.transfer, upload.path, place=place)


def download_document(download: Download) -> dict[str, Any]:
    """Return a download that has not ended, or has just."""
    return transfer_document(
        download.transfer,
        download.file,
        place=download.place,
        local=str(download.target),
        retry_of=download.retry_of,
    )


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
