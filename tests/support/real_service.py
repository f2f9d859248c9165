"""The service as it is built for production, called in this process: real directories, rows and child processes."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from haulier.adapters.worker_locks import new_worker
from haulier.bootstrap import Identity, Service
from haulier.config import Settings
from haulier.core.values import dataclass
from haulier.directories import prepare_directories
from haulier.server.app import create_app
from tests.support.service import served

File = tuple[str, bytes]
"""A name and what it holds."""


@dataclass(frozen=True)
class RealService:
    """A running service."""

    client: httpx2.AsyncClient
    parts: Service
    settings: Settings

    async def upload(self, *files: File, **headers: str) -> httpx2.Response:
        """Send a form."""
        return await self.client.post(
            "/api/ingestion/upload", content=form(files), headers={**FORM, **headers}
        )

    async def history(self, **params: Any) -> Any:
        """Read a page of the history."""
        answer = await self.client.get("/api/ingestion/history", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def stored(self) -> dict[str, bytes]:
        """What lies in the ingestion directory, by name."""
        place = self.settings.ingestion_path
        return {path.name: path.read_bytes() for path in place.rglob("*") if path.is_file()}

    @property
    def parts_left(self) -> list[str]:
        """Parts of uploads that lie about."""
        return [path.name for path in (self.settings.storage_dir / "incoming").iterdir()]


BOUNDARY = "haulier-test"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def form(files: Iterable[File]) -> bytes:
    """Return a form with these files."""
    parts = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in files
    )
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def as_json(value: object) -> bytes:
    """Return a value as a JSON file."""
    return json.dumps(value).encode()


@asynccontextmanager
async def real_service(data_dir: Path, **settings: Any) -> AsyncIterator[RealService]:
    """Run a service for the duration of a test."""
    chosen = Settings(data_dir=data_dir, local_users=True, **settings)
    root = prepare_directories(chosen)
    service = Service(chosen, root, Identity(worker=new_worker()))
    app = create_app(service.services, chosen)
    async with served(app) as client, service.lifespan():
        # As a browser does first: from here on its cookie says whose all is, also of forms that are sent at once.
        assert (await client.get("/")).status_code == 200
        yield RealService(client, service, chosen)
