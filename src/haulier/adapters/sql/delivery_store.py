"""How far each receiver of events has come, on SQL; contracts as in the port."""

from typing import Any, Final

import sqlalchemy as sa

from haulier.adapters.sql.executor import Executor
from haulier.adapters.sql.inserts import InsertNew
from haulier.adapters.sql.models import deliveries
from haulier.adapters.sql.rows import Row
from haulier.core.event import Position
from haulier.ports import Delivery

_bind = sa.bindparam
_THIS: Final = deliveries.c.receiver == _bind("receiver")
_HELD: Final = deliveries.c.fence == _bind("fence")
DELIVERY: Final[sa.Select[Any]] = sa.select(deliveries).where(_THIS)
BEGIN: Final = InsertNew(deliveries).values({
    column.name: _bind(column.name, type_=column.type) for column in deliveries.columns
})  # fmt: skip
TAKE: Final = (
    sa.update(deliveries)
    .where(_THIS, _HELD)
    .values(fence=deliveries.c.fence + sa.literal_column("1"), holder=_bind("holder"))
    .returning(*deliveries.c)
)
ADVANCE: Final = (
    sa.update(deliveries)
    .where(_THIS, _HELD)
    .values(
        xid=_bind("xid"),
        seq=_bind("seq"),
        failures=sa.literal_column("0"),
        due_at=sa.literal_column("0"),
        error=sa.null(),
    )
)
POSTPONE: Final = (
    sa.update(deliveries)
    .where(_THIS, _HELD)
    .values(failures=_bind("failures"), due_at=_bind("due_at"), error=_bind("error"))
)


class SqlDeliveryStore:
    """`DeliveryStore`."""

    def __init__(self, executor: Executor) -> None:
        self._sql = executor

    async def load(self, receiver: str) -> Delivery | None:
        """Return how far the receiver has come."""
        return _delivery(await self._sql.row(DELIVERY, {"receiver": receiver}))

    async def begin(self, receiver: str, position: Position, holder: str) -> Delivery | None:
        """Add a receiver that is not known."""
        row = {
            "receiver": receiver,
            "xid": position.transaction,
            "seq": position.number,
            "fence": 1,
            "holder": holder,
            "failures": 0,
            "due_at": 0.0,
            "error": None,
        }
        return _delivery(row) if await self._sql.count(BEGIN, row) else None

    async def take(self, receiver: str, fence: int, holder: str) -> Delivery | None:
        """Make `holder` the one that delivers, under a new fence."""
        return _delivery(await self._sql.row(TAKE, {"receiver": receiver, "fence": fence, "holder": holder}))

    async def advance(self, receiver: str, fence: int, position: Position) -> bool:
        """Move on, under the fence."""
        place = {"xid": position.transaction, "seq": position.number}
        return await self._sql.count(ADVANCE, {"receiver": receiver, "fence": fence, **place}) == 1

    async def postpone(self, receiver: str, fence: int, *, failures: int, due_at: float, error: str) -> bool:
        """Note a failure, under the fence."""
        values = {"failures": failures, "due_at": due_at, "error": error}
        return await self._sql.count(POSTPONE, {"receiver": receiver, "fence": fence, **values}) == 1


def _delivery(row: Row | None) -> Delivery | None:
    if row is None:
        return None
    return Delivery(
        receiver=row["receiver"],
        position=Position(row["xid"], row["seq"]),
        fence=row["fence"],
        holder=row["holder"],
        failures=row["failures"],
        due_at=row["due_at"],
        error=row["error"],
    )
