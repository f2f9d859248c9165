"""What the form endpoint takes, and the names under which it stores."""

from pathlib import PurePosixPath
from typing import Final

from haulier.core.errors import NameNotAccepted
from haulier.core.quantity import MIB
from haulier.core.values import dataclass

PROTOCOL: Final = "form"
"""By this an upload is known that began as a part of a form."""
SHELF: Final = "ingestion-"
"""How the blob keys of forms begin: a sink may keep those blobs in a place of their own."""

EXTENSIONS: Final = (
    ".json", ".csv", ".txt",
    ".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif", ".tif", ".tiff", ".heic", ".heif",
)  # fmt: skip
"""Accepted by default: what can be checked, and pictures."""
MAX_BYTES: Final = 100 * MIB
"""Of one file. A form cannot be continued, so bigger ones are better sent in chunks."""
MAX_FILES: Final = 100
"""In one form. Each is an open upload until the last one has come; as many may one owner have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestionRules:
    """Settings of the endpoint; sizes in bytes."""

    max_bytes: int = MAX_BYTES
    max_files: int = MAX_FILES
    extensions: tuple[str, ...] = EXTENSIONS

    def require_name(self, filename: str) -> None:
        """Check a file's extension, whatever its case. Raises NameNotAccepted."""
        extension = PurePosixPath(filename).suffix.lower()
        if extension not in self.extensions:
            raise NameNotAccepted(filename, self.extensions, extension)


def stored_name(blob_key: str) -> str:
    """Return the name that a stored file has for people: a UUID."""
    return blob_key.removeprefix(SHELF)
