"""Sample rows, and the shortest ways to put them into a database and to see them again."""

from typing import Any, Final

from haulier.core.digest import Digest, DigestName
from haulier.core.quantity import MIB
from haulier.core.record import Asset, AssetKind, Record, RecordId
from haulier.core.session import Chunk, LiveLimit, Mode, Session, SessionId, SessionSpec
from haulier.core.upload import UploadDetails
from haulier.core.values import replace
from haulier.ports import UnitOfWork

Upload = Session[UploadDetails]
Database = UnitOfWork[UploadDetails]

T0: Final = 1_700_000_000.125
MORE: Final = "..."
"""After the ids of a page that has a next one."""
"""When samples begin; not a whole second, so that rounding shows."""
TTL_S: Final = 60.0
NO_LIMIT: Final = LiveLimit(of_owner=1000)
SHA_256: Final = Digest(DigestName.SHA_256, bytes(range(32)))
MD5: Final = Digest(DigestName.MD5, bytes(range(16)))


def upload(name: str, *, begun_at: float = T0, **fields: Any) -> Upload:
    """Return a new session of three chunks, the last one short.

    Args:
        name: its id.
        begun_at: seconds since the epoch.
        fields: of `SessionSpec` and `UploadDetails`, other than these; `scope` is also the capsule.
    """
    spec = {
        "scope": "default",
        "owner": "local",
        "request_hash": "hash",
        "mode": Mode.CHUNKS,
        "size": 2 * MIB + 5,
        "chunk_size": MIB,
        "ttl_s": TTL_S,
    }
    details = {"protocol": "native", "filename": "a.bin", "digest_name": DigestName.SHA_256, "record": None}
    for field, value in fields.items():
        (spec if field in SessionSpec.__slots__ else details)[field] = value
    return Session.begin(
        SessionId(name),
        SessionSpec(**spec),  # type: ignore[arg-type]  # by name, from a dictionary
        UploadDetails(capsule=str(spec["scope"]), **details),  # type: ignore[arg-type]  # the same
        now=begun_at,
    )


def chunk(index: int, size: int = MIB, *, fill: bytes = b"x") -> Chunk:
    """Return an accepted chunk."""
    return Chunk(index=index, size=size, fingerprint=fill * 16)


def record(name: str, *, begun_at: float = T0, **fields: Any) -> Record:
    """Return a new record; `fields` replace what it has otherwise."""
    defaults: dict[str, Any] = {
        "capsule": "default",
        "owner": "local",
        "filename": "a.bin",
        "content_type": "application/octet-stream",
        "size": 5,
    }
    return Record(id=RecordId(name), created_at=begun_at, **defaults | fields)


def asset(blob_key: str, kind: AssetKind = AssetKind.ORIGINAL, *, size: int = 5) -> Asset:
    """Return an asset with a digest."""
    return Asset(kind=kind, blob_key=blob_key, size=size, digest=SHA_256, content_type="image/png")


async def add_upload(database: Database, session: Upload, *, chunks: int = 0) -> Upload:
    """Insert a session and accept its first chunks, all at its beginning."""

    async def work(tx: Any) -> None:
        await tx.sessions.insert(session, limit=NO_LIMIT)
        for index in range(chunks):
            start, stop = session.chunk_range(index)
            await tx.sessions.accept_chunk(session.id, 0, chunk(index, stop - start), now=session.created_at)

    await database.write(work)
    return session


def whole(name: str, **fields: Any) -> Upload:
    """Return a session of a short file that was committed at once, as its own blob; `fields` as of `upload`."""
    begun = upload(name, **{"mode": Mode.APPEND, "size": 5, **fields})
    received = begun.advance(begun.spec.size or 0, tail_trusted=True, boot_id="boot", now=begun.created_at)
    finishing = received.finish(f"blob of {name}", "worker", now=begun.created_at)
    return finishing.commit(replace(begun.details, digest=SHA_256), now=begun.created_at + 1)


async def add_whole(database: Database, *sessions: Upload, limit: LiveLimit = NO_LIMIT) -> None:
    """Insert sessions that are committed at once, in one step."""
    await database.write(lambda tx: tx.sessions.insert_committed(sessions, limit=limit))


async def add_finishing(database: Database, session: Upload, *, blob_key: str = "blob") -> Upload:
    """Insert a session with all of its chunks and start to finish it, a second after its beginning."""
    await add_upload(database, session, chunks=session.chunk_count)
    finishing = await database.write(
        lambda tx: tx.sessions.start_finish(session.id, blob_key, "worker", now=session.created_at + 1)
    )
    assert finishing is not None
    return finishing


async def add_committed(database: Database, session: Upload, *, blob_key: str = "blob") -> Upload:
    """Insert a session and bring it to its result, two seconds after its beginning."""
    finishing = await add_finishing(database, session, blob_key=blob_key)
    now = session.created_at + 2
    assert await database.write(
        lambda tx: tx.sessions.commit(session.id, finishing.fence, session.details, now=now)
    )
    return finishing.commit(session.details, now=now)


async def see(database: Database, session: Upload | str) -> Upload | None:
    """Load a session, by itself or by its id."""
    session_id = SessionId(session) if isinstance(session, str) else session.id
    return await database.read(lambda tx: tx.sessions.load(session_id))


async def add_record(database: Database, row: Record, *, original: str | None = None) -> Record:
    """Insert a record; with the blob key of an `original`, complete it at its beginning."""

    async def work(tx: Any) -> None:
        await tx.records.insert(row)
        if original is not None:
            await tx.records.complete(row.id, asset(original), now=row.created_at)

    await database.write(work)
    return row


async def see_record(database: Database, record_id: str) -> Record | None:
    """Load a record by its id."""
    return await database.read(lambda tx: tx.records.load(RecordId(record_id)))
