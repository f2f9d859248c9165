"""Every statement, built once when this module is imported; the stores only fill in parameters.

Rule 1: one conditional statement for each claim, acceptance and transition; its row count, or the row that it
        returns, says whether the condition held.
Rule 2: what a partial index relies on is a literal in the statement, never a parameter (see models.py).
Rule 3: a condition on other rows than the one that is changed holds until the commit only if those are locked.
        SQLite has one writer and ignores `FOR UPDATE`; PostgreSQL looks again at a row for which it waited, but
        never at the rows beside it. So such a statement locks what it relies on, or follows one that does.
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from haulier.adapters.sql.among import among
from haulier.adapters.sql.inserts import InsertNew
from haulier.adapters.sql.models import (
    HAS_KEY,
    IS_DELETED,
    IS_ENDED,
    IS_FINISHING,
    IS_LIVE,
    IS_OPEN,
    KEY_COUNTS,
    assets,
    capsules,
    chunks,
    concat_parts,
    file_metadata,
    records,
    uploads,
)

Statement = sa.Select[Any] | sa.Insert | sa.Update | sa.Delete
"""What an executor takes; with what it returns, if it does (`UpdateBase.returning`)."""

_bind = sa.bindparam


def _all_binds(table: sa.Table, *, without: Sequence[str] = ()) -> dict[str, sa.BindParameter[Any]]:
    return {
        column.name: _bind(column.name, type_=column.type)
        for column in table.columns
        if column.name not in without
    }


def capsule_id() -> sa.ScalarSelect[Any]:
    """Return the id of the capsule with the name in the parameter `capsule`."""
    return sa.select(capsules.c.id).where(capsules.c.name == _bind("capsule")).scalar_subquery()


def _capsule_name(table: sa.Table) -> sa.Label[Any]:
    name = sa.select(capsules.c.name).where(capsules.c.id == table.c.capsule_id).correlate(table)
    return name.scalar_subquery().label("capsule")


# --- sessions ----------------------------------------------------------------------------------------

# The address is only counted: nobody reads it.
SESSION_COLUMNS: Final = (
    *(column for column in uploads.c if column.name != "address"),
    _capsule_name(uploads),
)
_THIS: Final = uploads.c.id == _bind("id")
_OPEN: Final = sa.text(IS_OPEN)
_FINISHING: Final = sa.and_(sa.text(IS_FINISHING), uploads.c.fence == _bind("fence"))
_LIVE: Final = sa.text(IS_LIVE)
_SEEN: Final[dict[str, sa.ColumnElement[Any]]] = {
    "last_seen_at": _bind("now"),
    "expires_at": _bind("now") + uploads.c.ttl_s,
}
_NEXT_FENCE: Final = {"fence": uploads.c.fence + sa.literal_column("1"), "holder": _bind("holder")}
_DETAILS: Final = (
    "protocol", "filename", "path", "content_type", "metadata", "digest_algorithm", "expected_name",
    "expected_value", "raw_metadata", "raw_concat", "promised_name", "promised_value", "digest_name", "digest_value", "record_id",
    "asset_kind", "adds_to_record", "derivatives", "width", "height", "data_url",
)  # fmt: skip


def _change(*conditions: sa.ColumnElement[Any] | sa.TextClause, **values: Any) -> sa.Update:
    return sa.update(uploads).where(_THIS, *conditions).values(**values)


def _count_live(whose: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return (
        sa.select(sa.func.count().label("live"))
        .select_from(uploads)
        .where(
            whose,
            _LIVE,
            # Nothing goes on in a partial one that is complete.
            sa.or_(
                uploads.c.concat != sa.literal_column("'partial'"),
                uploads.c.size.is_(None),
                uploads.c.offset < uploads.c.size,
            ),
        )
    )


_BEGUN: Final = [column for column in uploads.columns if column.name != "asked"]
_live_of_owner: Final = _count_live(uploads.c.owner == _bind("owner"))
_OWNER_HAS_ROOM: Final = _live_of_owner.scalar_subquery() < _bind("of_owner")
_live_of_address: Final = _count_live(uploads.c.address == _bind("counted_address"))
_ADDRESS_HAS_ROOM: Final = _live_of_address.scalar_subquery() < _bind("of_address")


def _insert_session(*conditions: sa.ColumnElement[bool]) -> InsertNew:
    values = (
        (capsule_id() if column.name == "capsule_id" else _bind(column.name, type_=column.type)).label(
            column.name
        )
        for column in _BEGUN
    )
    return InsertNew(uploads).from_select(
        [column.name for column in _BEGUN], sa.select(*values).where(*conditions)
    )


INSERT_SESSION: Final = _insert_session(_OWNER_HAS_ROOM)
INSERT_COUNTED_SESSION: Final = _insert_session(_OWNER_HAS_ROOM, _ADDRESS_HAS_ROOM)
INSERT_COMMITTED: Final = InsertNew(uploads).values(
    **_all_binds(uploads, without=["asked", "address", "capsule_id"]), capsule_id=capsule_id()
)
SESSION: Final = sa.select(*SESSION_COLUMNS).where(_THIS)
SESSION_BY_KEY: Final = sa.select(*SESSION_COLUMNS).where(
    uploads.c.capsule_id == capsule_id(),
    uploads.c.owner == _bind("owner"),
    uploads.c.idempotency_key == _bind("key"),
    sa.text(HAS_KEY),
    sa.text(KEY_COUNTS),
)
LOCK_SESSION: Final = sa.select(uploads.c.id).where(_THIS).with_for_update(key_share=True)
SEEN: Final = _change(_OPEN, **_SEEN)
REWOUND: Final = _change(_OPEN, **_SEEN, digest_holder=sa.null())
_HELD: Final = uploads.c.fence == _bind("fence")
LOST: Final = _change(
    _OPEN,
    _HELD,
    **_SEEN,
    fence=uploads.c.fence + sa.literal_column("1"),
    error=_bind("error"),
    digest_holder=sa.null(),
)
CLAIM: Final = _change(_OPEN, _HELD, **_SEEN, **_NEXT_FENCE).returning(*SESSION_COLUMNS)
ASK: Final = _change(_LIVE, _HELD, asked=_bind("fence"))
UNASK: Final = _change(_LIVE, _HELD, asked=sa.null())
RELEASE: Final = _change(_OPEN, _HELD, holder=sa.null())
_ADVANCED: Final = {
    **_SEEN,
    "offset": _bind("offset"),
    "tail_trusted": _bind("tail_trusted"),
    "boot_id": _bind("boot_id"),
    # Who has read bytes that are lost follows no more.
    "digest_holder": sa.case((uploads.c.offset <= _bind("offset"), uploads.c.digest_holder)),
}
ADVANCE: Final = _change(_OPEN, _HELD, **_ADVANCED)
ADVANCE_AND_RELEASE: Final = _change(_OPEN, _HELD, **_ADVANCED, holder=sa.null())
FOLLOW: Final = _change(
    _LIVE,
    uploads.c.digest_holder.is_not_distinct_from(_bind("instead_of", type_=sa.Text)),
    digest_holder=_bind("follower"),
)
MARKS: Final = sa.select(
    uploads.c.id,
    uploads.c.status,
    uploads.c.fence,
    uploads.c.holder,
    uploads.c.asked,
    uploads.c.digest_holder,
    uploads.c.offset,
    uploads.c.last_seen_at,
).where(among(uploads.c.id, "ids"))
DECLARE_SIZE: Final = _change(
    _OPEN, uploads.c.size.is_(None), uploads.c.offset <= _bind("size"), size=_bind("size")
)
_MADE_OF: Final = concat_parts.c.partial_id == uploads.c.id
JOIN_PART: Final = sa.insert(concat_parts).values(**_all_binds(concat_parts))
PARTIALS: Final = (
    sa.select(*SESSION_COLUMNS)
    .select_from(uploads.join(concat_parts, _MADE_OF))
    .where(concat_parts.c.final_id == _bind("id"))
    .order_by(concat_parts.c.position)
)
FINALS: Final = (
    sa.select(*SESSION_COLUMNS)
    .where(
        _LIVE,
        uploads.c.id.in_(sa.select(concat_parts.c.final_id).where(concat_parts.c.partial_id == _bind("id"))),
    )
    .order_by(uploads.c.id)
    .with_for_update(key_share=True)
)
ASSEMBLE: Final = _change(
    _OPEN,
    uploads.c.concat == sa.literal_column("'final'"),
    **_SEEN,
    size=_bind("size"),
    offset=_bind("size"),
)
_arrived: Final = sa.case(
    (uploads.c.mode == sa.literal_column("'append'"), uploads.c.offset),
    else_=sa.select(sa.func.coalesce(sa.func.sum(chunks.c.size), sa.literal_column("0")))
    .where(chunks.c.upload_id == uploads.c.id)
    .correlate(uploads)
    .scalar_subquery(),
)
START_FINISH: Final = _change(
    _OPEN,
    _arrived >= uploads.c.size,
    **_SEEN,
    **_NEXT_FENCE,
    status=sa.literal_column("'finishing'"),
    blob_key=_bind("blob_key"),
    error=sa.null(),
).returning(*SESSION_COLUMNS)
_DETACHED: Final = sa.and_(
    uploads.c.status == sa.literal_column("'committed'"), uploads.c.record_id.is_(None)
)
DETACHED: Final = (
    sa.select(*SESSION_COLUMNS)
    .where(
        sa.text(IS_ENDED),
        _DETACHED,
        uploads.c.protocol == _bind("protocol"),
        uploads.c.last_seen_at < _bind("before"),
    )
    .order_by(uploads.c.last_seen_at, uploads.c.id)
    .limit(_bind("limit"))
)
TAKE_FINISH: Final = _change(_FINISHING, **_NEXT_FENCE).returning(*SESSION_COLUMNS)
AMEND: Final = _change(_FINISHING, **{name: _bind(name) for name in _DETAILS}).returning(*SESSION_COLUMNS)
KEEP_ANSWER: Final = _change(
    final_answer=sa.func.coalesce(uploads.c.final_answer, _bind("answer", type_=sa.Text))
).returning(uploads.c.final_answer)
COMMIT: Final = _change(
    _FINISHING,
    **_SEEN,
    **{name: _bind(name) for name in _DETAILS},
    status=sa.literal_column("'committed'"),
    holder=sa.null(),
    address=sa.null(),
)
_COMMITTED: Final = (
    uploads.c.status == sa.literal_column("'committed'"),
    # After the commit nothing else of the details changes than the record that has the asset.
    uploads.c.record_id.is_not_distinct_from(_bind("had_record", type_=sa.Text)),
)
SETTLE: Final = _change(*_COMMITTED, **{name: _bind(name) for name in _DETAILS})
WITHDRAW: Final = _change(
    *_COMMITTED,
    status=sa.literal_column("'aborted'"),
    error=sa.null(),
    holder=sa.null(),
    last_seen_at=_bind("now"),
)
REOPEN: Final = _change(
    _FINISHING,
    **_SEEN,
    status=sa.literal_column("'open'"),
    error=_bind("error"),
    blob_key=sa.null(),
    holder=sa.null(),
    digest_holder=sa.null(),
)
_END: Final = {
    "status": _bind("status"),
    "error": _bind("error"),
    "holder": sa.null(),
    "address": sa.null(),
    "last_seen_at": _bind("now"),
}
END_OPEN: Final = _change(_OPEN, **_END)
END_FINISHING: Final = _change(_FINISHING, **_END)
_taken: Final = uploads.alias("taken")
ADOPT_SESSIONS: Final = (
    sa.update(uploads)
    .where(
        uploads.c.capsule_id == capsule_id(),
        uploads.c.owner == _bind("old_owner"),
        sa.not_(
            sa.exists(
                sa.select(_taken.c.id).where(
                    _taken.c.capsule_id == uploads.c.capsule_id,
                    _taken.c.owner == _bind("new_owner", type_=sa.Text),
                    _taken.c.idempotency_key == uploads.c.idempotency_key,
                    _taken.c.status.in_(
                        [sa.literal_column(f"'{status}'") for status in ("open", "finishing", "committed")]
                    ),
                )
            )
        ),
    )
    .values(owner=_bind("new_owner", type_=sa.Text))
)
HASTEN: Final = (
    sa.update(uploads)
    .where(uploads.c.owner == _bind("owner"), _OPEN)
    .values(
        expires_at=sa.case(
            (uploads.c.expires_at > _bind("now", type_=sa.Double), _bind("now", type_=sa.Double)),
            else_=uploads.c.expires_at,
        )
    )
)
_other: Final = uploads.alias("other")
_made_of_it: Final = sa.exists(
    sa.select(concat_parts.c.final_id)
    .join(_other, _other.c.id == concat_parts.c.final_id)
    .where(
        concat_parts.c.partial_id == uploads.c.id,
        _other.c.status.in_([sa.literal_column("'open'"), sa.literal_column("'finishing'")]),
    )
    .correlate(uploads)
)
_its_parts_have_time: Final = sa.exists(
    sa.select(concat_parts.c.final_id)
    .join(_other, _other.c.id == concat_parts.c.partial_id)
    .where(
        concat_parts.c.final_id == uploads.c.id,
        _other.c.status == sa.literal_column("'open'"),
        _other.c.expires_at > _bind("now"),
    )
    .correlate(uploads)
)
OVERDUE: Final = (
    sa.select(uploads.c.id)
    .where(
        _OPEN,
        uploads.c.expires_at <= _bind("now"),
        uploads.c.ttl_s <= _bind("most_ttl_s"),
        # Whoever joins a partial one notes its use first, so that it is not overdue when it is looked at again.
        sa.or_(uploads.c.concat == sa.literal_column("'none'"), sa.not_(_made_of_it | _its_parts_have_time)),
    )
    .order_by(uploads.c.expires_at, uploads.c.id)
    .limit(_bind("limit"))
)
EXPIRE: Final = _change(
    _OPEN,
    uploads.c.expires_at <= _bind("now"),
    status=sa.literal_column("'expired'"),
    error=sa.null(),
    holder=sa.null(),
    address=sa.null(),
    last_seen_at=_bind("now"),
).returning(*SESSION_COLUMNS)
BEFORE_ALL: Final = (float("-inf"), "")
"""A place before every row's."""
LIVE_SESSIONS: Final = (
    sa.select(*SESSION_COLUMNS)
    .where(
        _LIVE,
        sa.tuple_(_bind("after_at"), _bind("after_id")) < sa.tuple_(uploads.c.created_at, uploads.c.id),
    )
    .order_by(uploads.c.created_at, uploads.c.id)
    .limit(_bind("limit"))
)
UNFINISHED_SESSIONS: Final = LIVE_SESSIONS.where(
    sa.or_(
        sa.text(IS_FINISHING),
        # As `Session.due`, of an append session.
        sa.and_(
            uploads.c.mode == sa.literal_column("'append'"),
            uploads.c.offset == uploads.c.size,
            uploads.c.concat != sa.literal_column("'partial'"),
            sa.not_(uploads.c.ends_by_word),
        ),
    )
)
COUNT_LIVE: Final = _live_of_owner
COUNT_LIVE_AT_ADDRESS: Final = _live_of_address
COUNT_LIVE_IN_CAPSULE: Final = _live_of_owner.where(uploads.c.capsule_id == capsule_id())
ERASE_SESSION: Final = sa.delete(uploads).where(_THIS).returning(*SESSION_COLUMNS)
ERASE_UNUSED: Final = sa.delete(uploads).where(
    _THIS,
    _LIVE,
    uploads.c.offset == sa.literal_column("0"),
    sa.not_(sa.exists(sa.select(chunks.c.index).where(chunks.c.upload_id == _bind("id")))),
)
ENDED: Final = (
    sa.select(*SESSION_COLUMNS)
    .where(sa.text(IS_ENDED), uploads.c.last_seen_at < _bind("before"))
    .order_by(uploads.c.last_seen_at, uploads.c.id)
    .limit(_bind("limit"))
)
SESSIONS_NAME_BLOBS: Final[sa.Select[Any]] = sa.select(uploads.c.blob_key).where(
    among(uploads.c.blob_key, "blob_keys")
)

# --- chunks ------------------------------------------------------------------------------------------

_THIS_CHUNK: Final = sa.and_(chunks.c.upload_id == _bind("id"), chunks.c.index == _bind("index"))
CHUNK: Final = sa.select(chunks.c.size, chunks.c.xxh3).where(_THIS_CHUNK)
ACCEPT_CHUNK: Final = InsertNew(chunks).from_select(
    ["upload_id", "index", "size", "xxh3"],
    sa.select(
        uploads.c.id,
        *_all_binds(chunks, without=["upload_id"]).values(),
    )
    .where(_THIS, _OPEN, _HELD)
    .with_for_update(key_share=True),
)
PEEK_CHUNK: Final = (
    sa.select(*SESSION_COLUMNS, chunks.c.size.label("accepted_size"), chunks.c.xxh3.label("accepted_xxh3"))
    .select_from(
        uploads.outerjoin(
            chunks, sa.and_(chunks.c.upload_id == uploads.c.id, chunks.c.index == _bind("index"))
        )
    )
    .where(_THIS)
)
_seen: Final = (
    _change(_OPEN, _HELD, sa.not_(sa.exists(sa.select(chunks.c.index).where(_THIS_CHUNK))), **_SEEN)
    .returning(uploads.c.id)
    .cte("seen")
)
ACCEPT_CHUNK_AT_ONCE: Final = InsertNew(chunks).from_select(
    ["upload_id", "index", "size", "xxh3"],
    sa.select(_seen.c.id, *_all_binds(chunks, without=["upload_id"]).values()),
)
"""What `ACCEPT_CHUNK` and `SEEN` do, in one round trip: PostgreSQL only. The session's row comes first, and is locked by
that, so that whoever waited for it judges it anew."""
FORGET_CHUNK: Final = sa.delete(chunks).where(
    _THIS_CHUNK, sa.exists(sa.select(uploads.c.id).where(_THIS, _OPEN, uploads.c.error.is_not(None)))
)
FORGET_ALL_CHUNKS: Final = sa.delete(chunks).where(chunks.c.upload_id == _bind("id"))


# Gaps and islands: neighbours have the same difference between index and rank, so each run is one row.
def _runs_of_chunks(*of: sa.ColumnElement[Any], where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    rank = sa.func.row_number().over(partition_by=of or None, order_by=chunks.c.index)
    ranked = sa.select(*of, chunks.c.index, (chunks.c.index - rank).label("island")).where(where)
    rows = ranked.subquery("ranked")
    names = [rows.c[column.name] for column in of if column.name is not None]
    first = sa.func.min(rows.c.index).label("first")
    return (
        sa.select(*names, first, sa.func.max(rows.c.index).label("last"))
        .group_by(*names, rows.c.island)
        .order_by(*names, sa.text("first"))
    )


RUNS_OF_CHUNKS: Final = _runs_of_chunks(where=chunks.c.upload_id == _bind("id"))
RUNS_OF_MANY: Final = _runs_of_chunks(chunks.c.upload_id, where=among(chunks.c.upload_id, "ids"))

# --- records -----------------------------------------------------------------------------------------

RECORD_COLUMNS: Final = (*records.c, _capsule_name(records))
_THIS_RECORD: Final = records.c.id == _bind("id")
_UPLOADING: Final = records.c.status == sa.literal_column("'uploading'")
_HAS_ASSETS: Final = sa.exists(sa.select(assets.c.kind).where(assets.c.record_id == records.c.id))
_HAS_ORIGINAL: Final = sa.exists(
    sa.select(assets.c.kind).where(
        assets.c.record_id == records.c.id, assets.c.kind == sa.literal_column("'original'")
    )
)
INSERT_RECORD: Final = sa.insert(records).values(
    **_all_binds(records, without=["capsule_id"]), capsule_id=capsule_id()
)
RECORD: Final = sa.select(*RECORD_COLUMNS).where(_THIS_RECORD)
LOCK_RECORD: Final = sa.select(records.c.id).where(_THIS_RECORD).with_for_update(key_share=True)
COMPLETE_RECORD: Final = (
    sa.update(records)
    .where(_THIS_RECORD, _UPLOADING, sa.not_(_HAS_ORIGINAL))
    .values(
        status=_bind("status"),
        size=_bind("size"),
        digest_name=_bind("digest_name"),
        digest_value=_bind("digest_value"),
        uploaded_at=_bind("now"),
        finished_at=_bind("finished_at"),
    )
)
END_RECORD: Final = (
    sa.update(records)
    .where(_THIS_RECORD, _UPLOADING)
    .values(status=_bind("status"), error=_bind("error"), finished_at=_bind("now"))
)
ADOPT_RECORDS: Final = (
    sa.update(records)
    .where(
        records.c.id.in_(
            sa.select(records.c.id)
            .where(records.c.owner == _bind("old_owner"), records.c.capsule_id == capsule_id())
            .limit(_bind("limit"))
        )
    )
    .values(owner=_bind("new_owner"))
    .returning(records.c.id)
)
DELETE_RECORD: Final = (
    sa.update(records)
    .where(_THIS_RECORD, sa.not_(_UPLOADING), records.c.deleted_at.is_(None))
    .values(deleted_at=_bind("now"), keeps_assets=_bind("keeps_assets"))
)
KEEP_NO_MORE: Final = (
    sa.update(records)
    .where(_THIS_RECORD, records.c.deleted_at.is_not(None), records.c.keeps_assets)
    .values(deleted_at=_bind("now"), keeps_assets=sa.false())
)
RESTORE_RECORD: Final = (
    sa.update(records)
    .where(
        _THIS_RECORD,
        records.c.deleted_at.is_not(None),
        # What never had an original has nothing to miss.
        sa.or_(records.c.uploaded_at.is_(None), _HAS_ASSETS),
    )
    .values(deleted_at=sa.null(), keeps_assets=sa.false())
)
DELETED_RECORDS: Final = (
    sa.select(*RECORD_COLUMNS)
    .where(
        sa.text(IS_DELETED),
        records.c.deleted_at < _bind("before"),
        sa.not_(records.c.keeps_assets),
        _HAS_ASSETS,
    )
    .order_by(records.c.deleted_at, records.c.id)
    .limit(_bind("limit"))
)
ERASE_RECORD: Final = sa.delete(records).where(_THIS_RECORD)

# Texts of policies are JSON without blanks. Inside another string of theirs the quotes have backslashes, so only
# the key itself fits.
ADMITS_USERS: Final = capsules.c.policy.like(sa.literal_column("""'%"admits!_users":true%'"""), escape="!")
ADMITS_VISITORS: Final = capsules.c.policy.like(
    sa.literal_column("""'%"admits!_visitors":true%'"""), escape="!"
)


def show_records(chosen: sa.Subquery) -> sa.Select[Any]:
    """Return the records whose keys were chosen, newest first."""
    return (
        sa.select(*RECORD_COLUMNS)
        .select_from(chosen.join(records, records.c.id == chosen.c.id))
        .order_by(chosen.c.created_at.desc(), chosen.c.id.desc())
    )


DESCRIBE: Final = sa.insert(file_metadata).values(**_all_binds(file_metadata))
DESCRIPTION: Final = sa.select(file_metadata).where(file_metadata.c.record_id == _bind("id"))

# --- assets ------------------------------------------------------------------------------------------

INSERT_ASSET: Final = sa.insert(assets).values(**_all_binds(assets))
ADD_ASSET: Final = InsertNew(assets, assets.c.record_id, assets.c.kind).from_select(
    [column.name for column in assets.columns],
    sa.select(records.c.id, *_all_binds(assets, without=["record_id"]).values()).where(
        records.c.id == _bind("record_id"),
        # What has lost its bytes for good does not come back with a part of them.
        sa.or_(records.c.deleted_at.is_(None), _HAS_ASSETS),
    ),
)
ASSETS: Final = sa.select(assets).where(among(assets.c.record_id, "record_ids"))
DROP_ASSETS: Final = (
    sa.delete(assets)
    .where(
        assets.c.record_id == _bind("record_id"),
        sa.exists(
            sa.select(records.c.id).where(
                records.c.id == _bind("record_id"),
                records.c.deleted_at < _bind("before"),
                sa.not_(records.c.keeps_assets),
            )
        ),
    )
    .returning(*assets.c)
)
ASSETS_NAME_BLOBS: Final[sa.Select[Any]] = sa.select(assets.c.blob_key).where(
    among(assets.c.blob_key, "blob_keys")
)
