"""What people see: the built page, or a small one where it was not built, and what each problem means.

Rule 1: on the small pages whatever a client once sent is escaped; their policy forbids scripts, images and requests
        altogether.
Rule 2: the pages of problems are docs/errors, the same files that the documentation has.
"""

from collections.abc import Iterable
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from markdown_it import MarkdownIt
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from haulier.core.instants import iso_time
from haulier.core.record import Record
from haulier.ports import RecordQuery
from haulier.server.access import caller_of
from haulier.server.addresses import base_url
from haulier.server.errors import RouteNotFound
from haulier.server.page import CONTENT_TYPES, FILES, PageFile
from haulier.server.problems import SLUGS
from haulier.server.services import Services

RECENT: Final = 20
"""Files on the page: what fits on a screen."""

SMALL_STYLE: Final = "small.css"
SMALL_POLICY: Final = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_PACKAGED: Final = Path(__file__).parent / "error_pages"
_CHECKOUT: Final = Path(__file__).parents[3] / "docs" / "errors"
"""Where the pages of problems are: in a wheel, else in the checkout that runs without being built."""


class HomeRoutes:
    """`/`, the files of pages, and `/errors/{slug}`."""

    def __init__(self, services: Services) -> None:
        self._records = services.records
        self._page = services.page

    def install(self, app: FastAPI) -> None:
        """Add the routes; they are for people, so they are not in the OpenAPI document."""
        app.add_route("/", self.home, methods=["GET"], include_in_schema=False)
        app.add_route(f"/{FILES}/{{name}}", self.page_file, methods=["GET"], include_in_schema=False)
        app.add_route("/errors/{slug}", self.problem, methods=["GET"], include_in_schema=False)

    async def home(self, request: Request) -> Response:
        """Show the page; without it how to send a file, and what came in last."""
        if self._page is not None:
            return self._page.document(request.headers)
        page = await self._records.list(RecordQuery(limit=RECENT), caller=caller_of(request))
        base = base_url(request.scope)
        body = (
            "<h1>Haulier</h1><p>Moves files and never loses one.</p>"
            f"<h2>Send a file</h2>{_examples(base)}<h2>Recent files</h2>{_table(page.items, base)}{_BUILD}"
        )
        return _page("Haulier", body, base)

    async def page_file(self, request: Request) -> Response:
        """Return a file of the page."""
        name: str = request.path_params["name"]
        if name == SMALL_STYLE:
            return _style().answer(request.headers, {"Cache-Control": "max-age=3600"})
        found = None if self._page is None else self._page.file(name, request.headers)
        if found is None:
            raise RouteNotFound(request.scope["path"])
        return found

    async def problem(self, request: Request) -> Response:
        """Show what a problem means."""
        slug = request.path_params["slug"]
        if slug not in SLUGS:
            raise RouteNotFound(request.scope["path"])
        return _page(slug, _problem_html(slug), base_url(request.scope), up="../")


_BUILD: Final = (
    "<h2>The whole page</h2><p>This small page stands in for one with an upload form, live lists and pictures. "
    "It is built by <code>make serve</code> where Node.js 20.19 or newer is installed.</p>"
)


def _examples(base: str) -> str:
    url = escape(base)
    return (
        f"<pre><code>curl -T photo.jpg {url}/api/files/</code></pre>"
        "<p>Big files, bad networks: in chunks that survive cuts.</p>"
        f"<pre><code>haulier put --url {url} film.mkv</code></pre>"
        "<p>See what is here, and fetch it again.</p>"
        f"<pre><code>curl {url}/api/records\ncurl -OJ {url}/api/records/RECORD/assets/original</code></pre>"
    )


def _table(records: Iterable[Record], base: str) -> str:
    rows = "".join(_row(record, base) for record in records)
    if not rows:
        return "<p>None yet.</p>"
    head = "<tr><th>Name</th><th>Status</th><th class=number>Bytes</th><th>Time (UTC)</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _row(record: Record, base: str) -> str:
    name = escape(record.filename)
    if record.assets:
        name = f'<a href="{escape(base)}/api/records/{escape(record.id)}/assets/original">{name}</a>'
    size = "" if record.size is None else str(record.size)
    time = iso_time(record.created_at)[:19].replace("T", " ")
    return (
        f"<tr><td>{name}</td><td>{record.status.value}</td><td class=number>{size}</td><td>{time}</td></tr>"
    )


@cache
def _style() -> PageFile:
    """Return the style sheet of the small pages."""
    return PageFile(files("haulier.server").joinpath(SMALL_STYLE).read_bytes(), CONTENT_TYPES[".css"])


@cache
def _problem_html(slug: str) -> str:
    folder = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    text = (folder / f"{slug}.md").read_text(encoding="utf-8")
    # "js-default" escapes HTML; the pages are ours, and stay so whatever is written into them.
    return str(MarkdownIt("js-default").render(text))


def _page(title: str, body: str, base: str, *, up: str = "") -> Response:
    url = escape(base)
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="stylesheet" href="{up}{FILES}/{SMALL_STYLE}"></head>'
        f"<body><main>{body}</main>"
        f'<nav><a href="{url}/">Start</a><a href="{url}/api/records">Records</a>'
        f'<a href="{url}/openapi.json">OpenAPI</a><a href="{url}/metrics">Metrics</a>'
        f'<a href="{url}/readyz">Readiness</a></nav></body></html>'
    )
    headers = {
        "Content-Security-Policy": SMALL_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(html, headers=headers)
