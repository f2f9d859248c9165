"""What was made of uploads under which idempotency key; see statements.py for the rules."""

import json
from typing import Any, Final

import sqlalchemy as sa

from haulier.adapters.sql.executor import Executor
from haulier.adapters.sql.inserts import InsertNew
from haulier.adapters.sql.models import capsules, finalisations
from haulier.core.finalisation import Finalised
from haulier.core.record import RecordId

_bind = sa.bindparam
_capsule_id: Final = sa.select(capsules.c.id).where(capsules.c.name == _bind("capsule")).scalar_subquery()
_KEY: Final = (finalisations.c.capsule_id, finalisations.c.owner, finalisations.c.idempotency_key)
NOTE: Final = (
    InsertNew(finalisations, *_KEY)
    # Else SQLAlchemy would ask for the part of the key that the statement computes.
    .inline()
    .values(
        {column.name: _bind(column.name) for column in finalisations.c if column.name != "capsule_id"}
        | {"capsule_id": _capsule_id}
    )
)
FIND: Final = sa.select(
    finalisations.c.request_hash, finalisations.c.record_ids, finalisations.c.created_at
).where(
    finalisations.c.capsule_id == _capsule_id,
    finalisations.c.owner == _bind("owner"),
    finalisations.c.idempotency_key == _bind("key"),
)
FORGET: Final = sa.delete(finalisations).where(finalisations.c.created_at < _bind("before"))


class SqlFinalisationStore:
    """`FinalisationStore`; contracts as in the port."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor

    async def note(self, made: Finalised) -> bool:
        """Remember what was made under a new key; a second transaction waits for the first one's row."""
        values: dict[str, Any] = {
            "capsule": made.capsule,
            "owner": made.owner,
            "idempotency_key": made.key,
            "request_hash": made.request_hash,
            "record_ids": json.dumps(made.records, separators=(",", ":")),
            "created_at": made.created_at,
        }
        return await self._sql.count(NOTE, values) == 1

    async def find(self, capsule: str, owner: str, key: str) -> Finalised | None:
        """Return what was made under that key."""
        row = await self._sql.row(FIND, {"capsule": capsule, "owner": owner, "key": key})
        if row is None:
            return None
        return Finalised(
            capsule=capsule,
            owner=owner,
            key=key,
            request_hash=row["request_hash"],
            records=tuple(map(RecordId, json.loads(row["record_ids"]))),
            created_at=row["created_at"],
        )

    async def forget(self, *, before: float) -> int:
        """Forget what was made under keys before that time."""
        return await self._sql.count(FORGET, {"before": before})
