"""A foreign web site on this machine, and a real browser that visits it."""

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from tests.support.components import require

DEADLINE_S: Final = 90.0
"""How long a browser may take before a test fails; a bound against hanging, no measure of speed."""
QUIET: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
"""A browser that runs anywhere, also as root, and calls nobody by itself."""


class Site:
    """Serves one page at every path; what the page posts to `/report` is handed to the test."""

    def __init__(self, page: str) -> None:
        self.reports: queue.Queue[Any] = queue.Queue()
        reports = self.reports

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = page.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]

    @contextmanager
    def serving(self) -> Iterator["Site"]:
        """Serve for the duration of a test."""
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def visit(site: Site, url: str, profile: Path, *flags: str) -> Any:
    """Open `url` in a fresh browser; return what its page reports to `site`."""
    arguments = [require("chromium"), *QUIET, f"--user-data-dir={profile}", *flags, url]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            return site.reports.get(timeout=DEADLINE_S)
        finally:
            browser.terminate()
