"""Links: how long they may last, and what is left of one whose record is gone."""

import pytest

from haulier.core.errors import InvalidRequest, LinkNotFound, RecordNotFound
from haulier.core.link import MAX_LINK_S, Link
from haulier.core.record import AssetKind, RecordId
from haulier.engine.links import LinkService
from tests.support.bodies import FakeBody
from tests.support.engine import ME, Engine, engine

NOWHERE = RecordId("019aa0b4-5a3c-7c1e-9d43-0f6a5f3a2b11")


async def brought(one: Engine) -> RecordId:
    upload = await one.begin(5)
    await one.uploads.put_chunk(upload.id, 0, FakeBody(b"12345"), caller=ME)
    await one.uploads.finish(upload.id, caller=ME)
    assert upload.details.record is not None
    return upload.details.record


async def test_a_link_opens_the_asset_without_a_caller() -> None:
    async with engine() as one:
        links = LinkService(one.records, one.clock, secret=b"key")
        record_id = await brought(one)
        link, text = await links.give(record_id, AssetKind.ORIGINAL, caller=ME, expires_in_s=60)
        record, asset, disposition = await links.follow(text)
        assert (record.id, asset.size, disposition) == (record_id, 5, link.disposition)


@pytest.mark.parametrize("expires_in_s", [0.9, MAX_LINK_S + 1, float("nan")])
async def test_a_link_cannot_last_for_any_other_time(expires_in_s: float) -> None:
    async with engine() as one:
        links = LinkService(one.records, one.clock, secret=b"key")
        with pytest.raises(InvalidRequest):
            await links.give(NOWHERE, AssetKind.ORIGINAL, caller=ME, expires_in_s=expires_in_s)


async def test_a_link_to_nothing_is_neither_given_nor_followed() -> None:
    async with engine() as one:
        links = LinkService(one.records, one.clock, secret=b"key")
        with pytest.raises(RecordNotFound):
            await links.give(NOWHERE, AssetKind.ORIGINAL, caller=ME, expires_in_s=60)
        expires_at = int(one.clock.now() + 60)
        for record in (NOWHERE, await brought(one)):
            link = Link(record=record, kind=AssetKind.THUMBNAIL, expires_at=expires_at)
            with pytest.raises(LinkNotFound):
                await links.follow(link.signed(b"key"))
