"""The page for people, as Vite built it from `web/`: one document, and the files that it names.

Rule 1: all of it is read once, at the start: a document and files of two builds do not fit each other.
Rule 2: the names of files follow from what is in them, so browsers may keep them for good; the document they may not.
Rule 3: the policy allows nothing but what came from here, and no code within the document.
"""

import gzip
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from starlette.datastructures import Headers
from starlette.responses import Response

from haulier.core.values import dataclass

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
CONTENT_TYPES: Final = MappingProxyType(
    {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
)
"""What Vite writes beside the document."""
FILES: Final = "page"
"""The folder of the files, within the build and in their addresses."""

_PACKAGED: Final = Path(__file__).parent / "page_build"
_CHECKOUT: Final = Path(__file__).parents[3] / "web" / "dist"
"""Where the build is: in a wheel, else in the checkout where `make serve` built it."""


@dataclass(frozen=True)
class PageFile:
    """One file of the build."""

    body: bytes
    content_type: str

    @cached_property
    def packed(self) -> bytes:
        """The same, smaller; made when the first browser asks."""
        return gzip.compress(self.body, mtime=0)

    def answer(self, headers: Headers, more: Mapping[str, str]) -> Response:
        """Return the response, packed where the browser takes that."""
        packed = "gzip" in headers.get("accept-encoding", "")
        added = {"Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff", **more}
        if packed:
            added["Content-Encoding"] = "gzip"
        return Response(self.packed if packed else self.body, headers=added, media_type=self.content_type)


class BuiltPage:
    """The build, in memory."""

    def __init__(self, document: PageFile, files: dict[str, PageFile]) -> None:
        self._document = document
        self._files = files

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return the build of a folder; None when there is none."""
        try:
            document = PageFile((folder / "index.html").read_bytes(), "text/html; charset=utf-8")
        except FileNotFoundError:
            return None
        found = (folder / FILES).iterdir()
        files = {
            path.name: PageFile(path.read_bytes(), CONTENT_TYPES[path.suffix])
            for path in found
            if path.suffix in CONTENT_TYPES
        }
        return cls(document, files)

    def document(self, headers: Headers) -> Response:
        """Return the page."""
        return self._document.answer(
            headers,
            {
                "Content-Security-Policy": POLICY,
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-store",
            },
        )

    def file(self, name: str, headers: Headers) -> Response | None:
        """Return a file of the page; None when it has no such file."""
        found = self._files.get(name)
        if found is None:
            return None
        return found.answer(headers, {"Cache-Control": "public, max-age=31536000, immutable"})


def installed_page() -> BuiltPage | None:
    """Return the page that came with this installation or was built in this checkout."""
    return BuiltPage.read(_PACKAGED) or BuiltPage.read(_CHECKOUT)
