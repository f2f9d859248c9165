"""An upload's own resource, as every way of sending uses it: its state, its end, and its verified result."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import quote

import httpx2

from haulier.client.order import Order, Report
from haulier.client.values import Begun, Record, UploadState, parse_json, unreadable
from haulier.client.wire import Wire
from haulier.core.digest import Digest
from haulier.core.errors import PeerCorrupted, PeerError, PeerRefused
from haulier.core.values import dataclass

T = TypeVar("T")

LOST_SLUGS: Final = frozenset(
    # The answer to a HEAD has no body, so no slug of its own.
    {"upload-not-found", "upload-gone", "idempotency-key-reused", "http-404", "http-410"}
)
"""Problems that mean: this key leads nowhere; begin anew with another one."""
MAX_SESSIONS: Final = 3
"""Uploads begun for one call: a session that is lost (expired, aborted) is replaced, but not for ever."""
POLL_S: Final = 30
"""How long one question may wait at the service for an end; its own bound is 60."""


def upload_path(upload: str) -> str:
    """Return the path of an upload's own resource."""
    return f"/api/uploads/{quote(upload, safe='')}"


async def begin(wire: Wire, order: Order, *, mode: str, size: int | None, key: str, report: Report) -> Begun:
    """Begin an upload, or find the one that has the key.

    Raises:
        PeerUnreachable, PeerRefused: as `Wire.call`.
    """
    answer = await wire.persevere(
        lambda: wire.once(
            "POST",
            "/api/uploads",
            json=order.document(mode=mode, size=size),
            headers={"Idempotency-Key": key},
        ),
        waiting=report.waiting,
        outlast_restart=True,
    )
    return Begun.parse(answer.content)


async def begin_anew_when_lost(
    session: Callable[[], Awaitable[T]], renew: Callable[[], Awaitable[None]]
) -> T:
    """Run a session; as often as its key turns out to lead nowhere, begin another one with a new key.

    Args:
        session: the whole way from a begin to the record, with the key in use.
        renew: replaces that key.

    Raises:
        PeerRefused: `MAX_SESSIONS` of them were lost; and what else `session` raises.
    """
    for _ in range(MAX_SESSIONS - 1):
        try:
            return await session()
        except PeerRefused as error:
            if error.slug not in LOST_SLUGS:
                raise
        await renew()
    return await session()


async def ask_state(wire: Wire, upload: str, *, wait_s: int = 0) -> UploadState:
    """Ask once where an upload stands; with `wait_s`, the answer may wait for its end so long.

    Raises:
        PeerUnreachable, PeerRefused: as `Wire.once`.
    """
    params = {"wait": str(wait_s)} if wait_s else None
    answer = await wire.once("GET", upload_path(upload), params=params)
    return UploadState.parse(answer.content)


async def ask_offset(wire: Wire, upload: str) -> int:
    """Ask once where an append goes on; a request that still runs is asked to let go.

    Raises:
        PeerUnreachable, PeerRefused: as `Wire.once`.
    """
    answer = await wire.once("HEAD", upload_path(upload))
    field = answer.headers.get("Upload-Offset", "")
    if not field.isascii() or not field.isdigit():
        raise unreadable(f"Upload-Offset is {field!r}, not a number")
    return int(field)


async def append(wire: Wire, upload: str, offset: int, body: bytes) -> None:
    """Send bytes for the upload's end, once.

    Raises:
        PeerUnreachable, PeerRefused: as `Wire.once`.
    """
    await wire.once("PATCH", upload_path(upload), content=body, headers={"Upload-Offset": str(offset)})


async def abandon(wire: Wire, upload: str) -> None:
    """Try once to abort an upload that failed. Else it expires by itself, and its error matters more."""
    with suppress(PeerError):
        await wire.once("DELETE", upload_path(upload))


async def finish(wire: Wire, upload: str, *, digest: Digest | None, size: int) -> Record:
    """Ask for the end until it is there, and return the verified record.

    Raises:
        PeerRefused: chunks are missing, the upload is gone, or another final problem.
        PeerCorrupted: what arrived is not what was sent.
        PeerUnreachable: no answer, after all retries.
    """
    record = await _finish_as(read_result, wire, upload, digest=digest, size=size)
    return require_equal(record, digest=digest, size=size)


async def finish_detached(wire: Wire, upload: str, *, digest: Digest | None, size: int) -> str | None:
    """Ask for the end of an upload that makes no record; return the record that has taken it already, if one has.

    Raises: as `finish`. The service compares the digest, since there is no record to compare it with.
    """
    return (await _finish_as(_read_commit, wire, upload, digest=digest, size=size)).record


async def _finish_as(
    read: Callable[[Wire, httpx2.Response], Awaitable[T | None]],
    wire: Wire,
    upload: str,
    *,
    digest: Digest | None,
    size: int,
) -> T:
    document: dict[str, object] = {"size": size}
    if digest is not None:
        document["digest"] = {str(digest.name): digest.hex}

    async def attempt() -> T | None:
        return await read(wire, await wire.once("POST", f"{upload_path(upload)}/finish", json=document))

    result = None
    try:
        while result is None:
            result = await wire.persevere(attempt)
    except PeerRefused as error:
        raise corruption(error, upload) from error
    return result


@dataclass(frozen=True, slots=True)
class Commit:
    """An upload is committed; `record` has taken it already, if any."""

    record: str | None


async def _read_commit(wire: Wire, answer: httpx2.Response) -> Commit | None:
    document = parse_json(answer.content)
    if isinstance(document, dict) and "capsule" in document:
        return Commit(Record.read(document).id)
    state = UploadState.read(document)
    if not state.ended:
        state = await ask_state(wire, state.id, wait_s=POLL_S)
    if state.gone:
        raise PeerRefused(410, "upload-gone", f"the upload is {state.status}")
    return Commit(state.record) if state.ended else None


async def read_result(wire: Wire, answer: httpx2.Response) -> Record | None:
    """Read the answer to a finish, or to a file in one request; waits for the end when it is not yet there.

    Returns:
        The record; None when the wait was too short, or when the request must be repeated to tell its error.

    Raises:
        PeerRefused: the upload has no record any more, or another final problem.
        PeerUnreachable: as `Wire.once`.
    """
    document = parse_json(answer.content)
    if isinstance(document, dict) and "capsule" in document:
        return Record.read(document)
    state = UploadState.read(document)
    if not state.ended:
        state = await ask_state(wire, state.id, wait_s=POLL_S)
    if state.status == "committed" and state.result is None:
        raise PeerRefused(410, "upload-gone", "the upload is committed, but its record has been deleted")
    return state.result


def corruption(error: PeerRefused, upload: str) -> PeerRefused | PeerCorrupted:
    """Return the error to raise: a digest mismatch means that bytes were changed on their way."""
    if error.slug != "digest-mismatch":
        return error
    expected, actual = (str(error.fields.get(name)) for name in ("expected", "actual"))
    return PeerCorrupted(f"upload {upload}", expected, actual)


def require_done(answer: httpx2.Response) -> None:
    """Check the answer to a delete: any other success is somebody else's, who has deleted nothing.

    Raises:
        PeerRefused: it is not this service's.
    """
    if answer.status_code != HTTPStatus.NO_CONTENT:
        raise unreadable(f"a delete is answered with 204 alone, not with {answer.status_code}")


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
