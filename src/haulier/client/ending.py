"""The end of an upload: finish it, wait for its result, and compare that with what was sent."""

from collections.abc import Mapping
from typing import Final

from haulier.client.values import Record, UploadState
from haulier.client.wire import Wire
from haulier.core.digest import Digest
from haulier.core.errors import PeerCorrupted, PeerRefused

POLL_S: Final = 30
"""How long one question may wait at the service for an end; its own bound is 60."""


def upload_path(upload: str) -> str:
    """Return the path of an upload's own resource."""
    return f"/api/uploads/{upload}"


async def ask_state(wire: Wire, upload: str, *, wait_s: int = 0) -> UploadState:
    """Ask once where an upload stands; with `wait_s`, the answer may wait for its end so long.

    Raises:
        PeerUnreachable, PeerRefused: as `Wire.once`.
    """
    params = {"wait": str(wait_s)} if wait_s else None
    answer = await wire.once("GET", upload_path(upload), params=params)
    return UploadState.read(answer.json())


async def finish(wire: Wire, upload: str, *, digest: Digest | None, size: int) -> Record:
    """Ask for the end until it is there, and return the verified record.

    Raises:
        PeerRefused: chunks are missing, the upload is gone, or another final problem.
        PeerCorrupted: what arrived is not what was sent.
        PeerUnreachable: no answer, after all retries.
    """
    document: dict[str, object] = {"size": size}
    if digest is not None:
        document["digest"] = {str(digest.name): digest.hex}

    async def attempt() -> Record | None:
        answer = await wire.once("POST", f"{upload_path(upload)}/finish", json=document)
        if answer.status_code != 202:
            return Record.read(answer.json())
        return (await ask_state(wire, upload, wait_s=POLL_S)).result

    record = None
    try:
        while record is None:
            record = await wire.persevere(attempt)
    except PeerRefused as error:
        raise corruption(error, upload) from error
    return require_equal(record, digest=digest, size=size)


def corruption(error: PeerRefused, upload: str) -> PeerRefused | PeerCorrupted:
    """Return the error to raise: a digest mismatch means that bytes were changed on their way."""
    if error.slug != "digest-mismatch":
        return error
    expected, actual = (str(error.fields.get(name)) for name in ("expected", "actual"))
    return PeerCorrupted(f"upload {upload}", expected, actual)


def require_equal(record: Record, *, digest: Digest | None, size: int) -> Record:
    """Return the record, if it has the size and digest of what was sent.

    Raises:
        PeerCorrupted: it has not.
    """
    if record.size != size:
        raise PeerCorrupted(f"record {record.id} (its size)", str(size), str(record.size))
    if digest is not None:
        actual = _value(record.digest, str(digest.name))
        if actual != digest.hex:
            raise PeerCorrupted(f"record {record.id}", digest.hex, str(actual))
    return record


def _value(digest: Mapping[str, str] | None, name: str) -> str | None:
    return None if digest is None else digest.get(name)
