"""What every `DeliveryStore` does, as a suite to inherit from; see `unit_of_work_contract`."""

from haulier.core.event import Position
from haulier.ports import Delivery
from haulier.testing.rows import T0, Database

HERE = Position(3, 7)
BEGUN = Delivery(receiver="r", position=HERE, fence=1, holder="w1")


class DeliveryRowsContract:
    """How far receivers of events have come."""

    async def test_a_receiver_begins_once(self, database: Database) -> None:
        """Whoever comes second gets nothing."""
        assert await database.read(lambda tx: tx.deliveries.load("r")) is None
        assert await database.write(lambda tx: tx.deliveries.begin("r", HERE, "w1")) == BEGUN
        assert await database.write(lambda tx: tx.deliveries.begin("r", Position(9, 9), "w2")) is None
        assert await database.read(lambda tx: tx.deliveries.load("r")) == BEGUN

    async def test_what_was_taken_over_moves_under_the_new_fence_only(self, database: Database) -> None:
        """The old holder changes nothing any more."""
        await database.write(lambda tx: tx.deliveries.begin("r", HERE, "w1"))
        taken = await database.write(lambda tx: tx.deliveries.take("r", 1, "w2"))
        assert taken == Delivery(receiver="r", position=HERE, fence=2, holder="w2")
        assert await database.write(lambda tx: tx.deliveries.take("r", 1, "w3")) is None
        assert not await database.write(lambda tx: tx.deliveries.advance("r", 1, Position(4, 8)))
        assert not await database.write(
            lambda tx: tx.deliveries.postpone("r", 1, failures=1, due_at=T0, error="no")
        )
        assert await database.read(lambda tx: tx.deliveries.load("r")) == taken

    async def test_failures_are_kept_until_it_moves_on(self, database: Database) -> None:
        """With when it is tried again, and why."""
        await database.write(lambda tx: tx.deliveries.begin("r", HERE, "w1"))
        await database.write(lambda tx: tx.deliveries.begin("other", HERE, "w1"))
        assert await database.write(
            lambda tx: tx.deliveries.postpone("r", 1, failures=3, due_at=T0, error="it answered 500")
        )
        assert await database.read(lambda tx: tx.deliveries.load("r")) == Delivery(
            receiver="r", position=HERE, fence=1, holder="w1", failures=3, due_at=T0, error="it answered 500"
        )
        assert await database.write(lambda tx: tx.deliveries.advance("r", 1, Position(4, 8)))
        assert await database.read(lambda tx: tx.deliveries.load("r")) == Delivery(
            receiver="r", position=Position(4, 8), fence=1, holder="w1"
        )
        other = await database.read(lambda tx: tx.deliveries.load("other"))
        assert other is not None
        assert other.position == HERE
