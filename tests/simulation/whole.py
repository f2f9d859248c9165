"""A client that puts short files, each in one request, as `curl -T` does."""

import asyncio
from contextlib import suppress
from typing import Final

from haulier.core.caller import LOCAL
from haulier.core.digest import Digest
from haulier.core.errors import BodyCut, DigestMismatch, HaulierError, RequestError
from haulier.core.record import AssetKind, Record, RecordId
from haulier.core.session import Mode, SessionStatus
from haulier.core.upload import BeginUpload, Upload
from haulier.core.values import dataclass
from haulier.engine.whole import ReadAhead
from tests.simulation.bodies import PROMPT, Delivery, SimBody
from tests.simulation.ledger import sha_256
from tests.simulation.server import Server
from tests.simulation.world import ConnectionLost, World

PATIENCE: Final = 60
"""Attempts after which a client that does everything right gives up, and the simulation has found something."""


@dataclass(frozen=True, slots=True)
class _Put:
    """One request."""

    filename: str
    content: bytes
    expected: Digest | None
    delivery: Delivery

    async def send(self, server: Server, body: SimBody) -> Upload:
        """Do what the front end does."""
        request = BeginUpload(
            filename=self.filename, size=body.length, mode=Mode.APPEND, expected=self.expected
        )
        ahead = ReadAhead(body)
        taken = await server.uploads.take(request, ahead, caller=LOCAL)
        if taken is not None:
            return taken.upload
        upload = (await server.uploads.begin(request, caller=LOCAL)).upload
        try:
            state = await server.uploads.append(upload.id, 0, ahead, caller=LOCAL, final=True)
        except HaulierError:
            with suppress(HaulierError):  # what cannot be freed is left to the janitor
                await server.uploads.abort(upload.id, caller=LOCAL)
            raise
        return state.upload


class WholeClient:
    """Puts files until all is calm, and what it was told is there must be there."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self._world = world
        self._require = world.trace.require
        self._rng = world.random(name)
        self._kept: dict[RecordId, bytes] = {}
        """What was acknowledged."""
        self._puts = 0

    async def run(self) -> None:
        """Put files in good and bad ways, then one that must get through; read all again."""
        for _ in range(self._rng.randint(3, 14)):
            await asyncio.sleep(self._rng.choice((0.0, 0.01, 0.4, 3.0)))
            async with asyncio.TaskGroup() as group:
                for _ in range(self._rng.randint(1, 3)):
                    group.create_task(self._put(self._any()))
        await self._world.calm.wait()
        for _ in range(PATIENCE):
            if await self._put(self._next(expected=None, delivery=PROMPT)):
                break
            await asyncio.sleep(1.0)
        else:
            raise self._world.trace.violated(f"{self.name} cannot get a file through")
        for record_id, content in self._kept.items():
            await self._read_again(record_id, content)

    def _any(self) -> _Put:
        luck = self._rng.random()
        delivery = Delivery(
            cut_after=self._rng.randrange(3) if luck < 0.2 else None,
            announced=self._rng.random() < 0.9,
            stall_s=self._rng.choice((30.0, 100.0)) if luck > 0.95 else 0.0,
        )
        put = self._next(expected=None, delivery=delivery)
        expected = self._rng.choice((None, sha_256(put.content), sha_256(b"something else")))
        return _Put(put.filename, put.content, expected, delivery)

    def _next(self, *, expected: Digest | None, delivery: Delivery) -> _Put:
        self._puts += 1
        content = bytes(self._rng.randrange(256) for _ in range(self._rng.randint(3, 40)))
        return _Put(f"{self.name} {self._puts}", content, expected, delivery)

    async def _put(self, put: _Put) -> bool:
        """Return whether the file was acknowledged."""
        body = SimBody(put.content, put.delivery, self._rng)
        try:
            upload = await self._world.request(self.name, f"put {put}", lambda server: put.send(server, body))
        except RequestError as error:
            self._judge(put, error)
            return False
        except (HaulierError, ConnectionLost):
            return False
        if upload.status is not SessionStatus.COMMITTED:
            self._require(upload.status.live, f"{put} was acknowledged, and is {upload.status}")
            return False
        right = put.expected in {None, sha_256(put.content)} and put.delivery.cut_after is None
        self._require(right, f"{put} was taken")
        assert upload.details.record is not None
        self._kept[upload.details.record] = put.content
        return True

    def _judge(self, put: _Put, error: RequestError) -> None:
        """Let a file be refused only for what is wrong with it, and leave nothing that looks whole."""
        fair = error.retryable or isinstance(error, BodyCut | DigestMismatch)
        self._require(fair, f"{put} was refused: {error!r}")
        if self._world.forgetful:
            return
        rows = self._world.database._rows.sessions.values()
        whole = [row for row in rows if row.details.filename == put.filename and row.status == "committed"]
        self._require(not whole, f"{put} was refused, and is there")

    async def _read_again(self, record_id: RecordId, content: bytes) -> None:
        for _ in range(PATIENCE):
            try:
                record, data = await self._world.request(
                    self.name, f"read {record_id}", lambda server: _read(server, record_id)
                )
            except (HaulierError, ConnectionLost) as error:
                self._require(not isinstance(error, RequestError), f"{record_id} is lost: {error!r}")
                await asyncio.sleep(1.0)
                continue
            self._require(data == content, f"{record_id} has other bytes than were acknowledged")
            self._require(record.status == "completed", f"{record_id} is {record.status}")
            return
        raise self._world.trace.violated(f"{self.name} cannot read {record_id}")


async def _read(server: Server, record_id: RecordId) -> tuple[Record, bytes]:
    record, asset = await server.records.asset(record_id, AssetKind.ORIGINAL, caller=LOCAL)
    return record, b"".join([piece async for piece in server.records.read(asset, 0, asset.size)])
