"""What is to be uploaded, and who is told how far it is."""

from collections.abc import Mapping
from dataclasses import field
from itertools import chain

from haulier.client.values import ProgressCallback
from haulier.core.digest import DigestName
from haulier.core.errors import HaulierError
from haulier.core.progress import Progress
from haulier.core.record import AssetKind
from haulier.core.upload import check_content_type, check_filename, check_metadata, check_path, require_valid
from haulier.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the service is told about a file when its upload begins.

    Raises:
        InvalidRequest: the service would refuse it; names of files may hold what no request can carry.
    """

    filename: str
    capsule: str
    digest: DigestName
    path: str | None = None
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    derivatives: bool = True
    """Whether the service may make smaller pictures of it."""
    asset: AssetKind | None = None
    """What it becomes of a record that is made of several uploads; None: it makes its own."""
    width: int | None = None
    height: int | None = None
    """Pixels, where they are known."""

    def __post_init__(self) -> None:
        require_valid(
            chain(
                check_filename(self.filename),
                () if self.path is None else check_path(self.path),
                () if self.content_type is None else check_content_type(self.content_type),
                check_metadata(self.metadata),
            )
        )

    def document(self, *, mode: str, size: int | None) -> dict[str, object]:
        """Return the JSON of a begin; what was not given is left to the service."""
        given = {
            "filename": self.filename,
            "size": size,
            "mode": mode,
            "capsule": self.capsule,
            "digest_name": str(self.digest),
            "path": self.path,
            "content_type": self.content_type,
            "metadata": dict(self.metadata) or None,
            "derivatives": None if self.derivatives else "none",
            "lanes": None if self.asset is None else True,
            "asset": self.asset,
            "width": self.width,
            "height": self.height,
        }
        return {name: value for name, value in given.items() if value is not None or name == "size"}


class Report:
    """Tells a callback how far one file is.

    What is under way is counted by part. A part that is cut counts on until it goes anew: perhaps all of it has arrived.
    """

    def __init__(self, callback: ProgressCallback | None, size: int | None) -> None:
        self._callback = callback
        self._size = size
        self._moving: dict[int, int] = {}
        self.done = 0
        """Bytes the service has acknowledged."""

    def acknowledged(self, done: int) -> None:
        """The service holds `done` bytes for good, and nothing is on its way."""
        self._moving.clear()
        self.done = done
        self._tell(None)

    def arrived(self, part: int, size: int) -> None:
        """`part`, of `size` bytes, is acknowledged."""
        self._moving.pop(part, None)
        self.done += size
        self._tell(None)

    def moving(self, part: int, sent: int) -> None:
        """`sent` bytes of `part` have been handed to the connection."""
        self._moving[part] = sent
        self._tell(None)

    def waiting(self, error: HaulierError) -> None:
        """Nothing moves because of `error`; it will be tried again."""
        self._tell(str(error))

    def _tell(self, waiting: str | None) -> None:
        if self._callback is not None:
            moving = sum(self._moving.values())
            self._callback(Progress(done=self.done, moving=moving, size=self._size, waiting=waiting))
