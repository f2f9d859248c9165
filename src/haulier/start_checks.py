"""The checks of a start, run without starting.

Rule 1: each is run on its own, so that all faults show at once.
Rule 2: what a start would make is not made: whoever looks at the wrong place leaves nothing there. A directory that is there is
        proved writable by a file that is taken away again.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from haulier.adapters.disk.directories import look_at_shelf, look_at_tree
from haulier.adapters.service_files import find_secret, require_unserved
from haulier.adapters.sql.database import open_database
from haulier.config import Settings
from haulier.core.errors import HaulierError
from haulier.core.values import dataclass
from haulier.directories import require_own_storage
from haulier.server.http.serving import listen


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One start-up check: what was looked at, and what was found, with the cure when it is wrong."""

    name: str
    ok: bool
    detail: str


def check_service(settings: Settings) -> Sequence[Check]:
    """Run every check of a start, without starting; each on its own, so that all faults show at once."""
    checks: Sequence[tuple[str, Callable[[], str]]] = (
        ("data directory", lambda: _check_tree(settings, settings.root, setting="data_dir")),
        ("storage directory", lambda: _check_tree(settings, settings.storage_dir, setting="storage_url")),
        ("ingestion directory", lambda: _check_shelf(settings)),
        ("single service", lambda: _check_single(settings.root)),
        ("secret", lambda: _check_secret(settings)),
        ("database", lambda: _check_database(settings)),
        ("port", lambda: _check_port(settings)),
    )
    return [_checked(name, look) for name, look in checks]


def _checked(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, ok=True, detail=look())
    except (HaulierError, OSError) as error:
        return Check(name=name, ok=False, detail=str(error))


def _check_tree(settings: Settings, directory: Path, *, setting: str) -> str:
    there = look_at_tree(directory, setting=setting, min_free=settings.min_free_bytes)
    return _told(directory.resolve(), "writable", there=there)


def _check_shelf(settings: Settings) -> str:
    there = look_at_shelf(settings.storage_dir, settings.ingestion_path)
    return _told((settings.storage_dir / settings.ingestion_path).resolve(), "writable", there=there)


def _told(place: Path | str, state: str, *, there: bool) -> str:
    return f"{place} is {state}" if there else f"{place} is not there, or not whole; a start makes it"


def _check_secret(settings: Settings) -> str:
    secret = find_secret(settings.storage_dir, setting=settings.storage_setting)
    if secret is None:
        return "there is none; a start makes it"
    return f"{len(secret)} bytes, readable by its owner only"


def _check_single(root: Path) -> str:
    require_unserved(root)
    return "no other process serves this directory"


def _check_database(settings: Settings) -> str:
    async def look() -> str:
        database = open_database(settings.database)
        if not await database.is_current():
            return f"{settings.database_place} has not the tables of this version; a start makes them"
        async with database:
            await database.read(lambda tx: tx.capsules.exists("default"))
            # Looking claims nothing: who looks without the settings of the service must not decide for it.
            await require_own_storage(settings, database, claim=False)
        return f"{settings.database_place} answers"

    if not settings.on_postgres and settings.database_file.parent != settings.root:
        settings.database_file.parent.stat()  # nobody makes that one
    return asyncio.run(look())


def _check_port(settings: Settings) -> str:
    for bound in listen(settings.host, settings.port):
        bound.close()
    return f"{settings.host} port {settings.port} is free"
