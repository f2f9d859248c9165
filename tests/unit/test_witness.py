"""The witness sees who changes a record and tells nobody."""

import pytest

from haulier.core.caller import LOCAL
from haulier.core.event import EventKind
from haulier.engine.outbox import tell
from tests.support.engine import engine
from tests.support.witness import SilentChange, WitnessedWork


async def test_a_record_that_is_deleted_in_silence_is_not_deleted() -> None:
    async with engine() as one:
        upload = await one.begin(0)
        await one.uploads.finish(upload.id, caller=LOCAL)
        record = upload.details.record
        assert record is not None
        work = WitnessedWork(one.database)

        with pytest.raises(SilentChange):
            await work.write(lambda tx: tx.records.delete(record, now=1.0, keep_assets=False))

        assert work.silent == {record}
        assert (await one.records.get(record, caller=LOCAL)).deleted_at is None


async def test_a_record_whose_deletion_is_told_is_deleted() -> None:
    async with engine() as one:
        upload = await one.begin(0)
        await one.uploads.finish(upload.id, caller=LOCAL)
        record = upload.details.record
        assert record is not None
        work = WitnessedWork(one.database)

        async def trash(tx: object) -> None:
            await tx.records.delete(record, now=1.0, keep_assets=False)  # type: ignore[attr-defined]
            await tell(tx, EventKind.DELETED, record, now=1.0)  # type: ignore[arg-type]

        await work.write(trash)

        assert (await one.records.get(record, caller=LOCAL)).deleted_at == 1.0
