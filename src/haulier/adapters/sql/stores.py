"""The stores of one transaction: each method is one conditional statement, judged by its answer."""

import math
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

from haulier.adapters.sql import statements as sql
from haulier.adapters.sql.access_stores import SqlCapsuleStore, SqlSignInStore, SqlTokenStore
from haulier.adapters.sql.among import array
from haulier.adapters.sql.delivery_store import SqlDeliveryStore
from haulier.adapters.sql.doomed_blobs import SqlDoomedBlobs
from haulier.adapters.sql.event_store import SqlEventStore
from haulier.adapters.sql.executor import Executor
from haulier.adapters.sql.finalisations import SqlFinalisationStore
from haulier.adapters.sql.history import SqlHistory
from haulier.adapters.sql.many import received_at_once, received_by, records_of
from haulier.adapters.sql.overview import SqlOverview
from haulier.adapters.sql.pages import Asked, read_page
from haulier.adapters.sql.processing_store import SqlProcessingStore
from haulier.adapters.sql.rows import (
    Row,
    asset_of,
    asset_parameters,
    details_parameters,
    file_of,
    file_parameters,
    in_order,
    mark_of,
    record_parameters,
    session_of,
    session_parameters,
    whole,
)
from haulier.adapters.sql.storage_mark import SqlStorageMark
from haulier.adapters.sql.visitor_store import SqlVisitorStore
from haulier.core.errors import QuotaExceeded
from haulier.core.processing import FileMetadata
from haulier.core.ranges import Ranges
from haulier.core.record import TRANSITIONS as RECORD_TRANSITIONS
from haulier.core.record import Asset, Record, RecordId, RecordStatus
from haulier.core.session import TRANSITIONS as SESSION_TRANSITIONS
from haulier.core.session import Chunk, LiveLimit, Mode, Session, SessionId, SessionStatus
from haulier.core.upload import UploadDetails
from haulier.ports import KeyTaken, Mark, Page, RecordQuery

Upload = Session[UploadDetails]


class SqlTransaction:
    """All rows, inside one transaction at a time."""

    def __init__(self, executor: Executor) -> None:
        self.sessions = SqlSessionStore(executor)
        self.records = SqlRecordStore(executor)
        self.history = SqlHistory(executor)
        self.overview = SqlOverview(executor)
        self.capsules = SqlCapsuleStore(executor)
        self.tokens = SqlTokenStore(executor)
        self.finalisations = SqlFinalisationStore(executor)
        self.doomed_blobs = SqlDoomedBlobs(executor)
        self.storage = SqlStorageMark(executor)
        self.events = SqlEventStore(executor)
        self.deliveries = SqlDeliveryStore(executor)
        self.processing = SqlProcessingStore(executor)
        self.sign_ins = SqlSignInStore(executor)
        self.visitors = SqlVisitorStore(executor)

    def begin(self) -> None:
        """Remember nothing of the transaction before this one on the same connection."""
        self.events.begin()


class SqlSessionStore:
    """`SessionStore` for uploads; contracts as in the port. The scope of a session is its capsule."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor

    async def insert(self, session: Upload, *, limit: LiveLimit) -> None:
        """Add an open session, unless its key is taken or there are too many."""
        spec = session.spec
        _require_new(session, SessionStatus.OPEN)
        # Rows that others are about to add count too, and cannot be locked: they are not there yet. The owner's
        # always first, so that nobody waits in a circle.
        await self._sql.exclude(f"live sessions of {spec.owner}")
        if limit.address is not None:
            await self._sql.exclude(f"live sessions from {limit.address}")
        statement = sql.INSERT_SESSION if limit.address is None else sql.INSERT_COUNTED_SESSION
        if await self._sql.count(statement, {**session_parameters(session), **_counted(limit)}):
            return
        if spec.key is not None and await self.find(spec.scope, spec.owner, spec.key) is not None:
            raise KeyTaken
        await self._require_room(spec.owner, limit)
        message = f"there is a session {session.id} already"
        raise AssertionError(message)

    async def insert_committed(self, sessions: Sequence[Upload], *, limit: LiveLimit) -> None:
        """Add sessions that are committed, unless there are too many live ones."""
        for session in sessions:
            _require_new(session, SessionStatus.COMMITTED)
        # Nobody is excluded: what is not live is not counted, so these are in nobody's way.
        await self._require_room(sessions[0].spec.owner, limit)
        added = await self._sql.count_all(sql.INSERT_COMMITTED, [session_parameters(it) for it in sessions])
        if added != len(sessions):
            message = f"there is one of the sessions {[it.id for it in sessions]} already"
            raise AssertionError(message)

    async def _require_room(self, owner: str, limit: LiveLimit) -> None:
        if await self.count_live(None, owner) >= limit.of_owner:
            raise QuotaExceeded("sessions", limit.of_owner, "owner")
        if limit.address is not None:
            row = await self._sql.row(sql.COUNT_LIVE_AT_ADDRESS, {"counted_address": limit.address})
            if row is not None and row["live"] >= limit.of_address:
                raise QuotaExceeded("sessions", limit.of_address, "address")

    async def load(self, session_id: SessionId) -> Upload | None:
        """Return the session with all it has received."""
        row = await self._sql.row(sql.SESSION, {"id": session_id})
        return None if row is None else session_of(row, await self._received(row))

    async def peek(self, session_id: SessionId) -> Upload | None:
        """Return the session, in mode chunks without `received`."""
        row = await self._sql.row(sql.SESSION, {"id": session_id})
        return None if row is None else _without_chunks(row)

    async def peek_chunk(self, session_id: SessionId, index: int) -> tuple[Upload, Chunk | None] | None:
        """As `peek`, with an accepted chunk."""
        row = await self._sql.row(sql.PEEK_CHUNK, {"id": session_id, "index": index})
        if row is None:
            return None
        size, fingerprint = row["accepted_size"], row["accepted_xxh3"]
        chunk = None if size is None else Chunk(index=index, size=size, fingerprint=fingerprint)
        return _without_chunks(row), chunk

    async def find(self, scope: str, owner: str, key: str) -> Upload | None:
        """Return the live or committed session with that idempotency key."""
        row = await self._sql.row(sql.SESSION_BY_KEY, {"capsule": scope, "owner": owner, "key": key})
        return None if row is None else session_of(row, await self._received(row))

    async def chunk(self, session_id: SessionId, index: int) -> Chunk | None:
        """Return an accepted chunk."""
        row = await self._sql.row(sql.CHUNK, {"id": session_id, "index": index})
        return None if row is None else Chunk(index=index, size=row["size"], fingerprint=row["xxh3"])

    async def accept_chunk(self, session_id: SessionId, fence: int, chunk: Chunk, *, now: float) -> bool:
        """Accept the chunk of an open session under that fence, unless its index is."""
        values = {"index": chunk.index, "size": chunk.size, "xxh3": chunk.fingerprint}
        if self._sql.dialect == "postgresql":
            return await self._held(sql.ACCEPT_CHUNK_AT_ONCE, session_id, fence=fence, now=now, **values)
        accepted = await self._held(sql.ACCEPT_CHUNK, session_id, fence=fence, **values)
        return accepted and await self.touch(session_id, now=now)

    async def forget_chunk(self, session_id: SessionId, index: int, *, now: float) -> bool:
        """Drop an accepted chunk of a session whose chunks may be replaced."""
        await self._sql.row(sql.LOCK_SESSION, {"id": session_id})
        dropped = await self._sql.count(sql.FORGET_CHUNK, {"id": session_id, "index": index})
        return dropped == 1 and await self._held(sql.REWOUND, session_id, now=now)

    async def lose_chunks(self, session_id: SessionId, fence: int, error: str | None, *, now: float) -> bool:
        """Drop all accepted chunks of an open session under that fence."""
        # The row first: whoever accepts a chunk waits for it, and finds another fence.
        if not await self._held(sql.LOST, session_id, fence=fence, error=error, now=now):
            return False
        await self._sql.count(sql.FORGET_ALL_CHUNKS, {"id": session_id})
        return True

    async def claim(
        self, session_id: SessionId, fence: int, holder: str | None, *, now: float
    ) -> Upload | None:
        """Make `holder` the one that appends, under a new fence."""
        values = {"id": session_id, "fence": fence, "holder": holder, "now": now}
        row = await self._sql.row(sql.CLAIM, values)
        return None if row is None else session_of(row, await self._received(row))

    async def ask(self, session_id: SessionId, fence: int) -> bool:
        """Note that the holder of that fence is asked."""
        return await self._held(sql.ASK, session_id, fence=fence)

    async def unask(self, session_id: SessionId, fence: int) -> bool:
        """Note that the holder of that fence tried, and could not."""
        return await self._held(sql.UNASK, session_id, fence=fence)

    async def release(self, session_id: SessionId, fence: int) -> bool:
        """Let nobody append any more, under the fence."""
        return await self._held(sql.RELEASE, session_id, fence=fence)

    async def advance(
        self,
        session_id: SessionId,
        fence: int,
        offset: int,
        *,
        tail_trusted: bool,
        boot_id: str,
        now: float,
        release: bool = False,
    ) -> bool:
        """Store the offset, under the fence."""
        statement = sql.ADVANCE_AND_RELEASE if release else sql.ADVANCE
        values = {"offset": offset, "tail_trusted": tail_trusted, "boot_id": boot_id}
        return await self._held(statement, session_id, fence=fence, now=now, **values)

    async def follow(self, session_id: SessionId, follower: str, *, instead_of: str | None) -> bool:
        """Make `follower` the one that follows a live session's bytes."""
        return await self._held(sql.FOLLOW, session_id, follower=follower, instead_of=instead_of)

    async def marks(self, session_ids: Collection[SessionId]) -> Mapping[SessionId, Mark]:
        """Return what tells the change of each of these sessions."""
        rows = await self._sql.rows(sql.MARKS, {"ids": array(session_ids)})
        return {SessionId(row["id"]): mark_of(row) for row in rows}

    async def declare_size(self, session_id: SessionId, size: int) -> bool:
        """Set an unknown size that is not below the offset."""
        return await self._held(sql.DECLARE_SIZE, session_id, size=size)

    async def join(self, final_id: SessionId, partial_ids: Sequence[SessionId]) -> None:
        """Make a new final session of these."""
        for position, partial_id in enumerate(partial_ids):
            values = {"final_id": final_id, "position": position, "partial_id": partial_id}
            await self._sql.count(sql.JOIN_PART, values)

    async def partials(self, final_id: SessionId) -> Sequence[Upload]:
        """Return what a final session is made of."""
        return [_without_chunks(row) for row in await self._sql.rows(sql.PARTIALS, {"id": final_id})]

    async def finals(self, partial_id: SessionId) -> Sequence[Upload]:
        """Return the live final sessions that are made of this one, and lock them."""
        return [_without_chunks(row) for row in await self._sql.rows(sql.FINALS, {"id": partial_id})]

    async def assemble(self, final_id: SessionId, size: int, *, now: float) -> bool:
        """Note that all is there."""
        return await self._held(sql.ASSEMBLE, final_id, size=size, now=now)

    async def start_finish(
        self, session_id: SessionId, blob_key: str, holder: str, *, now: float
    ) -> Upload | None:
        """Move a complete session to finishing."""
        await self._sql.row(sql.LOCK_SESSION, {"id": session_id})
        values = {"id": session_id, "blob_key": blob_key, "holder": holder, "now": now}
        row = await self._sql.row(sql.START_FINISH, values)
        return None if row is None else session_of(row, whole(row["size"]))

    async def amend(self, session_id: SessionId, fence: int, details: UploadDetails) -> Upload | None:
        """Replace the details, under the fence."""
        row = await self._sql.row(
            sql.AMEND, {"id": session_id, "fence": fence, **details_parameters(details)}
        )
        return None if row is None else session_of(row, whole(row["size"]))

    async def keep_answer(self, session_id: SessionId, answer: str) -> str | None:
        """Set the answer, unless there is one."""
        row = await self._sql.row(sql.KEEP_ANSWER, {"id": session_id, "answer": answer})
        return None if row is None else row["final_answer"]

    async def take_finish(self, session_id: SessionId, fence: int, holder: str) -> Upload | None:
        """Let `holder` go on with finishing."""
        row = await self._sql.row(sql.TAKE_FINISH, {"id": session_id, "fence": fence, "holder": holder})
        return None if row is None else session_of(row, whole(row["size"]))

    async def commit(self, session_id: SessionId, fence: int, details: UploadDetails, *, now: float) -> bool:
        """Move to committed and forget the chunks."""
        held = await self._held(sql.COMMIT, session_id, fence=fence, now=now, **details_parameters(details))
        if held:
            await self._sql.count(sql.FORGET_ALL_CHUNKS, {"id": session_id})
        return held

    async def settle(
        self, session_id: SessionId, details: UploadDetails, *, instead_of: UploadDetails
    ) -> bool:
        """Replace the details of a committed session whose asset is still that record's, or still nobody's."""
        values = {"had_record": instead_of.record, **details_parameters(details)}
        return await self._held(sql.SETTLE, session_id, **values)

    async def withdraw(self, session_id: SessionId, details: UploadDetails, *, now: float) -> bool:
        """Move a committed session to aborted whose asset is still that record's, or still nobody's."""
        return await self._held(sql.WITHDRAW, session_id, had_record=details.record, now=now)

    async def detached(self, protocol: str, *, before: float, limit: int) -> Sequence[Upload]:
        """Return committed sessions that no record has, longest unseen first."""
        rows = await self._sql.rows(sql.DETACHED, {"protocol": protocol, "before": before, "limit": limit})
        return [_without_chunks(row) for row in rows]

    async def reopen(self, session_id: SessionId, fence: int, error: str, *, now: float) -> bool:
        """Move back to open, with `error`."""
        return await self._held(sql.REOPEN, session_id, fence=fence, error=error, now=now)

    async def end(
        self,
        session_id: SessionId,
        fence: int | None,
        status: SessionStatus,
        *,
        error: str | None,
        now: float,
    ) -> bool:
        """End an open session, or with a fence a finishing one, without a result."""
        before = SessionStatus.OPEN if fence is None else SessionStatus.FINISHING
        if not status.gone or status not in SESSION_TRANSITIONS[before]:
            message = f"session {session_id} cannot go from {before} to {status}"
            raise AssertionError(message)
        statement = sql.END_OPEN if fence is None else sql.END_FINISHING
        values = {"fence": fence, "status": status.value, "error": error, "now": now}
        held = await self._held(statement, session_id, **values)
        if held:
            await self._sql.count(sql.FORGET_ALL_CHUNKS, {"id": session_id})
        return held

    async def touch(self, session_id: SessionId, *, now: float) -> bool:
        """Note the activity of an open session."""
        return await self._held(sql.SEEN, session_id, now=now)

    async def adopt(self, scope: str, owner: str, by: str) -> int:
        """Give the owner's sessions in that capsule to `by`, but those whose key it uses itself."""
        return await self._sql.count(
            sql.ADOPT_SESSIONS, {"capsule": scope, "old_owner": owner, "new_owner": by}
        )

    async def hasten(self, owner: str, *, now: float) -> int:
        """Let the time of the owner's open sessions be over."""
        return await self._sql.count(sql.HASTEN, {"owner": owner, "now": now})

    async def expire(
        self, *, now: float, held: Collection[SessionId], limit: int, most_ttl_s: float = float("inf")
    ) -> Sequence[Upload]:
        """Expire the longest overdue open sessions that nobody holds."""
        # Enough candidates even if every held one is among them; each is judged again by its own statement.
        overdue = await self._sql.rows(
            sql.OVERDUE, {"now": now, "most_ttl_s": most_ttl_s, "limit": limit + len(held)}
        )
        chosen = [row["id"] for row in overdue if row["id"] not in held][:limit]
        rows = [await self._sql.row(sql.EXPIRE, {"id": session_id, "now": now}) for session_id in chosen]
        expired = [_without_chunks(row) for row in rows if row is not None]
        for session in expired:
            await self._sql.count(sql.FORGET_ALL_CHUNKS, {"id": session.id})
        return expired

    async def live(self, *, after: tuple[float, str] | None, limit: int) -> Sequence[Upload]:
        """Return a page of live sessions, oldest first, in mode chunks without `received`."""
        return await self._page(sql.LIVE_SESSIONS, after, limit)

    async def unfinished(self, *, after: tuple[float, str] | None, limit: int) -> Sequence[Upload]:
        """Return a page of those that are finishing, or append sessions whose finish is due."""
        return await self._page(sql.UNFINISHED_SESSIONS, after, limit)

    async def _page(
        self, statement: sql.Statement, after: tuple[float, str] | None, limit: int
    ) -> Sequence[Upload]:
        after_at, after_id = after or sql.BEFORE_ALL
        rows = await self._sql.rows(statement, {"after_at": after_at, "after_id": after_id, "limit": limit})
        return [_without_chunks(row) for row in rows]

    async def count_live(self, scope: str | None, owner: str) -> int:
        """Count live sessions, in all scopes without `scope`."""
        if scope is None:
            row = await self._sql.row(sql.COUNT_LIVE, {"owner": owner})
        else:
            row = await self._sql.row(sql.COUNT_LIVE_IN_CAPSULE, {"owner": owner, "capsule": scope})
        return 0 if row is None else int(row["live"])

    async def erase(self, session_id: SessionId) -> bool:
        """Remove a live row for which nothing was received."""
        await self._sql.row(sql.LOCK_SESSION, {"id": session_id})
        return await self._held(sql.ERASE_UNUSED, session_id)

    async def purge(self, *, before: float, limit: int) -> Sequence[Upload]:
        """Remove the sessions that ended longest ago."""
        rows = await self._sql.rows(sql.ENDED, {"before": before, "limit": limit})
        # What has ended stays so, but another process may be purging too: each row is one's only. And a record may
        # have taken a detached asset since: the row as it was removed tells.
        erased = [await self._sql.row(sql.ERASE_SESSION, {"id": row["id"]}) for row in rows]
        return [_without_chunks(row) for row in erased if row is not None]

    async def blob_keys(self, keys: Collection[str]) -> set[str]:
        """Return those of `keys` that a session names."""
        return await _named(self._sql, sql.SESSIONS_NAME_BLOBS, keys)

    async def _held(self, statement: sql.Statement, session_id: SessionId, **values: Any) -> bool:
        return await self._sql.count(statement, {"id": session_id, **values}) == 1

    async def _received(self, row: Row) -> Ranges:
        if (received := received_at_once(row)) is not None:
            return received
        return received_by(row, await self._sql.rows(sql.RUNS_OF_CHUNKS, {"id": row["id"]}))


def _require_new(session: Upload, status: SessionStatus) -> None:
    if session.status is not status or session.spec.scope != session.details.capsule:
        message = f"session {session.id} is not new, or its scope is not its capsule"
        raise AssertionError(message)


def _counted(limit: LiveLimit) -> Mapping[str, Any]:
    """Return by what a new session is counted, and what of that its row keeps."""
    return {
        "of_owner": limit.of_owner,
        "of_address": limit.of_address,
        "counted_address": limit.address,
        "address": limit.address,
    }


def _without_chunks(row: Row) -> Upload:
    return session_of(row, whole(row["offset"]) if row["mode"] == Mode.APPEND else Ranges())


class SqlRecordStore:
    """`RecordStore`; contracts as in the port."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor

    async def insert(self, *records: Record) -> None:
        """Add records, with the assets that they have."""
        # SQLite's full-text table writes all that it holds whenever a time of creation, its row id, is before the last one.
        by_time = sorted(records, key=attrgetter("created_at"))
        await self._sql.count_all(sql.INSERT_RECORD, [record_parameters(record) for record in by_time])
        assets = [asset_parameters(record.id, asset) for record in records for asset in record.assets]
        if assets:
            await self._sql.count_all(sql.INSERT_ASSET, assets)

    async def load(self, record_id: RecordId) -> Record | None:
        """Return the record with its assets."""
        row = await self._sql.row(sql.RECORD, {"id": record_id})
        return None if row is None else (await records_of(self._sql, [row]))[0]

    async def complete(self, record_id: RecordId, original: Asset, *, now: float, more: bool = False) -> bool:
        """Complete an uploading record that has no original yet, or leave it to be processed."""
        asset = asset_parameters(record_id, original)
        status = RecordStatus.UPLOADED if more else RecordStatus.COMPLETED
        moved = {"id": record_id, "status": status.value, "now": now, "finished_at": None if more else now}
        completed = await self._sql.count(sql.COMPLETE_RECORD, {**asset, **moved})
        if completed:
            await self._sql.count(sql.INSERT_ASSET, asset)
        return completed == 1

    async def add_asset(self, record_id: RecordId, asset: Asset) -> bool:
        """Add an asset of a kind that the record lacks."""
        # Those that it has may be dropped right now.
        await self._sql.row(sql.LOCK_RECORD, {"id": record_id})
        return await self._sql.count(sql.ADD_ASSET, asset_parameters(record_id, asset)) == 1

    async def end(self, record_id: RecordId, status: RecordStatus, *, error: str | None, now: float) -> bool:
        """End an uploading record without an original."""
        if status not in RECORD_TRANSITIONS[RecordStatus.UPLOADING]:
            message = f"record {record_id} cannot go from {RecordStatus.UPLOADING} to {status}"
            raise AssertionError(message)
        values = {"id": record_id, "status": status.value, "error": error, "now": now}
        return await self._sql.count(sql.END_RECORD, values) == 1

    async def list(self, query: RecordQuery) -> Page[Record]:
        """Return a page, newest first."""
        asked = Asked.by(
            self._sql,
            query,
            name=query.name,
            ids=array(query.ids) if query.ids else None,
            owner=query.owner,
            capsule=query.capsule,
            kind=query.kind,
            visible_to=query.visible_to,
        )
        page = await read_page(self._sql, asked, sql.show_records)
        return Page(items=await records_of(self._sql, page.items), next=page.next)

    async def adopt(self, capsule: str, owner: str, by: str, *, limit: int) -> Sequence[RecordId]:
        """Give records in that capsule from one owner to another."""
        values = {"capsule": capsule, "old_owner": owner, "new_owner": by, "limit": limit}
        return [RecordId(row["id"]) for row in await self._sql.rows(sql.ADOPT_RECORDS, values)]

    async def delete(self, record_id: RecordId, *, now: float, keep_assets: bool) -> bool:
        """Mark a record that has ended as deleted."""
        values = {"id": record_id, "now": now, "keeps_assets": keep_assets}
        if await self._sql.count(sql.DELETE_RECORD, values) == 1:
            return True
        if not keep_assets:
            await self._sql.count(sql.KEEP_NO_MORE, {"id": record_id, "now": now})
        return False

    async def restore(self, record_id: RecordId) -> bool:
        """Clear the mark, while there is something to come back to."""
        await self._sql.row(sql.LOCK_RECORD, {"id": record_id})
        return await self._sql.count(sql.RESTORE_RECORD, {"id": record_id}) == 1

    async def deleted_before(self, before: float, *, limit: int) -> Sequence[Record]:
        """Return the records deleted longest ago whose assets are to be removed."""
        rows = await self._sql.rows(sql.DELETED_RECORDS, {"before": before, "limit": limit})
        return await records_of(self._sql, rows)

    async def erase(self, record_id: RecordId) -> None:
        """Remove the row and its assets' rows."""
        await self._sql.count(sql.ERASE_RECORD, {"id": record_id})

    async def drop_assets(self, record_id: RecordId, *, deleted_before: float = math.inf) -> Sequence[Asset]:
        """Remove the assets' rows of a deleted record that does not keep them."""
        await self._sql.row(sql.LOCK_RECORD, {"id": record_id})
        dropped = await self._sql.rows(sql.DROP_ASSETS, {"record_id": record_id, "before": deleted_before})
        return in_order(asset_of(row) for row in dropped)

    async def blob_keys(self, keys: Collection[str]) -> set[str]:
        """Return those of `keys` that an asset names."""
        return await _named(self._sql, sql.ASSETS_NAME_BLOBS, keys)

    async def describe(self, record_id: RecordId, metadata: FileMetadata) -> None:
        """Keep what a record's original holds."""
        await self._sql.count(sql.DESCRIBE, file_parameters(record_id, metadata))

    async def description(self, record_id: RecordId) -> FileMetadata | None:
        """Return what was kept."""
        row = await self._sql.row(sql.DESCRIPTION, {"id": record_id})
        return None if row is None else file_of(row)


async def _named(executor: Executor, statement: sql.Statement, keys: Collection[str]) -> set[str]:
    return {row["blob_key"] for row in await executor.rows(statement, {"blob_keys": array(keys)})}
