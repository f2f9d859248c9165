"""Links: one asset for whoever has one."""

from haulier.core.caller import Caller
from haulier.core.errors import AssetNotFound, InvalidRequest, LinkNotFound, RecordNotFound
from haulier.core.link import MAX_LINK_S, MIN_LINK_S, Disposition, Link, read_link
from haulier.core.record import Asset, AssetKind, Record, RecordId
from haulier.engine.records import RecordService
from haulier.machine import Clock


class LinkService:
    """Gives links and follows them."""

    def __init__(self, records: RecordService, clock: Clock, *, secret: bytes) -> None:
        """`secret` signs; a new one ends all links."""
        self._records = records
        self._clock = clock
        self._secret = secret

    async def give(
        self,
        record_id: RecordId,
        kind: AssetKind,
        *,
        caller: Caller,
        expires_in_s: float,
        disposition: Disposition = Disposition.ATTACHMENT,
    ) -> tuple[Link, str]:
        """Return a link to an asset that the caller may read, and its text.

        Raises:
            InvalidRequest: it would last for too long, or not at all.
            RecordNotFound · AssetNotFound
        """
        if not MIN_LINK_S <= expires_in_s <= MAX_LINK_S:
            raise InvalidRequest.of("expires_in", f"must be {MIN_LINK_S} to {MAX_LINK_S} seconds")
        await self._records.asset(record_id, kind, caller=caller)
        expires_at = int(self._clock.now() + expires_in_s)
        link = Link(record=record_id, kind=kind, expires_at=expires_at, disposition=disposition)
        return link, link.signed(self._secret)

    async def follow(self, text: str) -> tuple[Record, Asset, Disposition]:
        """Return what a link opens, for whoever has it.

        Raises:
            LinkNotFound: nobody gave it, its time is over, or what it opened is not there.
        """
        link = read_link(text, self._secret)
        if link is None or link.expired(self._clock.now()):
            raise LinkNotFound
        try:
            record, asset = await self._records.linked(link.record, link.kind)
        except (RecordNotFound, AssetNotFound) as error:
            raise LinkNotFound from error
        return record, asset, link.disposition
