"""A photograph and its smaller pictures, sent in parallel: lane A the original, lane B the pictures, made here.

Rule 1: both lanes settle. A failure in one neither ends nor hides the other; each asset has its own cause.
Rule 2: what has arrived is never sent again: running once more does only what failed.
Rule 3: the record is made at the end, of uploads that are committed on their own, in one call: nobody sees a half.
Rule 4: whoever gives up says so, and everything is freed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Final, Self

from haulier.client.chunks import ChunkUpload, Key
from haulier.client.order import Order, Report
from haulier.client.pictures import Made, PictureMaker
from haulier.client.resource import abandon, finish_detached
from haulier.client.source import FileSource
from haulier.client.values import Begun, ProgressCallback, Record
from haulier.client.wire import Wire
from haulier.core.digest import Digest
from haulier.core.errors import HaulierError, ImageUnusable, LaneFailed
from haulier.core.progress import Progress
from haulier.core.record import AssetKind, Lane, lane_of
from haulier.core.values import dataclass, replace
from haulier.engine.tasks import in_thread, tasks

DERIVATIVES: Final = (AssetKind.DISPLAY, AssetKind.THUMBNAIL, AssetKind.PLACEHOLDER)
PICTURE_TYPE: Final = "image/webp"


@dataclass(frozen=True, slots=True)
class Detached:
    """A committed upload that makes no record by itself."""

    upload: str
    record: str | None
    """What has taken it already, in an earlier run that could not say so any more."""


class TwoLanes:
    """One photograph on its way; enter it, `run` until nothing fails, then `finalise` or `abandon`.

    Args:
        wire: the service.
        source: the photograph; stays open meanwhile.
        order: what the original is; the pictures get their own.
        keys: an idempotency key for each asset.
        maker: makes the pictures.
        gate: bounds the bodies of all uploads.
        parallel: chunks of one upload at once.
        progress: is told how far each lane is.
    """

    def __init__(
        self,
        wire: Wire,
        source: FileSource,
        order: Order,
        *,
        keys: Mapping[AssetKind, Key],
        maker: PictureMaker,
        gate: asyncio.Semaphore,
        parallel: int,
        progress: ProgressCallback | None = None,
    ) -> None:
        self._wire = wire
        self._source = source
        self._order = order
        self._keys = keys
        self._maker = maker
        self._gate = gate
        self._parallel = parallel
        self._progress = progress
        self._begun: dict[AssetKind, Begun] = {}
        """Uploads that may have to be freed."""
        self._there: dict[AssetKind, Detached] = {}
        self._far: dict[AssetKind, Progress] = {}
        self._made: Made | None = None
        self.ended = False
        """Whether it was finalised or abandoned; else another run may go on with it."""
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        directory = await in_thread(_new_folder, undo=_remove_folder)
        self._stack.push_async_callback(in_thread, _remove_folder, directory)
        self._folder = Path(directory.name)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def run(self) -> tuple[LaneFailed, ...]:
        """Send what is not there yet; return what failed, once both lanes have settled.

        May be called again: only what failed is done. A cancel leaves what has arrived where it is.
        """
        async with tasks() as group:
            original = group.create_task(self._original())
            derivatives = group.create_task(self._derivatives())
        return (*original.result(), *derivatives.result())

    async def _original(self) -> list[LaneFailed]:
        order = replace(self._order, asset=AssetKind.ORIGINAL)
        failed = await self._settle(AssetKind.ORIGINAL, lambda: self._send(self._source, order))
        return [] if failed is None else [failed]

    async def _derivatives(self) -> list[LaneFailed]:
        missing = [kind for kind in DERIVATIVES if kind not in self._there]
        if not missing:
            return []
        try:
            made = self._made = self._made or await self._make()
        except (HaulierError, OSError) as error:
            return [LaneFailed(Lane.DERIVATIVES, kind, error) for kind in missing]
        async with tasks() as group:
            sending = [group.create_task(self._send_picture(kind, made)) for kind in missing]
        return [failed for task in sending if (failed := task.result()) is not None]

    async def _make(self) -> Made:
        made = await self._maker.make(self._source.path, self._folder)
        await asyncio.to_thread(self._source.check)  # else they may be those of another photograph
        return made

    async def _send_picture(self, kind: AssetKind, made: Made) -> LaneFailed | None:
        picture = made.pictures[kind]
        name = f"{PurePosixPath(self._order.filename).stem[:200]}.{kind}.webp"
        order = Order(
            filename=name,
            capsule=self._order.capsule,
            digest=self._order.digest,
            content_type=PICTURE_TYPE,
            asset=kind,
            width=picture.width,
            height=picture.height,
        )

        async def send() -> None:
            file = await in_thread(FileSource.open, picture.path, undo=FileSource.close)
            try:
                await self._send(file, order)
            finally:
                file.close()

        return await self._settle(kind, send)

    async def _settle(self, kind: AssetKind, send: Callable[[], Awaitable[None]]) -> LaneFailed | None:
        """Send one asset unless it is there; return what came in between."""
        if kind in self._there:
            return None
        try:
            await send()
        except (HaulierError, OSError) as error:
            return LaneFailed(lane_of(kind), kind, error)
        return None

    async def _send(self, file: FileSource, order: Order) -> None:
        kind = order.asset
        assert kind is not None

        async def end(wire: Wire, begun: Begun, *, digest: Digest | None, size: int) -> Detached:
            record = await finish_detached(wire, begun.id, digest=digest, size=size)
            return Detached(begun.id, record)

        upload = ChunkUpload(
            self._wire,
            file,
            order,
            key=self._keys[kind],
            gate=self._gate,
            parallel=self._parallel,
            report=Report(partial(self._tell, kind), file.size),
            ending=end,
        )
        try:
            self._there[kind] = await upload.run()
        finally:
            if upload.begun is not None:
                self._begun[kind] = upload.begun

    def _tell(self, kind: AssetKind, progress: Progress) -> None:
        """Tell how far the lane of an asset is, all of its assets together."""
        if self._progress is None:
            return
        self._far[kind] = progress
        lane = [far for each, far in self._far.items() if lane_of(each) is lane_of(kind)]
        self._progress(
            Progress(
                done=sum(far.done for far in lane),
                moving=sum(far.moving for far in lane),
                size=sum(far.size or 0 for far in lane),
                waiting=progress.waiting,
                lane=lane_of(kind),
            )
        )

    async def finalise(self) -> Record:
        """Make the record of everything that is there, which the original must be; may be repeated.

        Raises:
            PeerRefused, PeerUnreachable: as `Wire.call`.
        """
        original = self._there[AssetKind.ORIGINAL]
        if original.record is not None:
            # An earlier run made it and was killed before it could say so.
            self.ended = True
            return Record.parse((await self._wire.call("GET", f"/api/records/{original.record}")).content)
        assets: list[dict[str, object]] = [
            {"kind": kind, "upload": detached.upload} for kind, detached in self._there.items()
        ]
        if self._made is not None:
            sides = {"width": self._made.width, "height": self._made.height}
            assets = [{**it, **sides} if it["kind"] == AssetKind.ORIGINAL else it for it in assets]
        answer = await self._wire.call(
            "POST",
            "/api/records",
            json={"capsule": self._order.capsule, "assets": assets},
            headers={"Idempotency-Key": f"{self._keys[AssetKind.ORIGINAL].value}-record"},
        )
        self.ended = True
        return Record.parse(answer.content)

    async def abandon(self) -> None:
        """Free everything that has arrived; what cannot be freed now expires."""
        async with tasks() as group:
            for begun in self._begun.values():
                group.create_task(abandon(self._wire.bearing(begun.token), begun.id))
        self._begun.clear()
        self._there.clear()
        self.ended = True


def is_unusable(failures: tuple[LaneFailed, ...]) -> bool:
    """Whether all that failed is that no pictures can be made: trying again would not help."""
    return all(isinstance(failed.cause, ImageUnusable) for failed in failures)


def _new_folder() -> "TemporaryDirectory[str]":
    return TemporaryDirectory(prefix="haulier-")


def _remove_folder(folder: "TemporaryDirectory[str]") -> None:
    folder.cleanup()
