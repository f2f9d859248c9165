"""What operators' commands work on: the accounts of a data directory, beside a service or before its first start.

Rule 1: nothing here starts a service, takes its place or needs it to run; the database orders who writes.
Rule 2: what is made is made as the service makes it, so that it finds its directory as it expects it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from haulier.adapters.clock import SystemClock, SystemIdentifiers
from haulier.adapters.disk.directories import prepare_tree
from haulier.adapters.sql.database import open_database
from haulier.config import Settings
from haulier.engine.accounts import Accounts
from haulier.server.logs import configure_logging


@asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncIterator[Accounts]:
    """Open the database, making or migrating it where that is due.

    Raises:
        ConfigError: it cannot be used, or a newer version wrote it.
        StorageError
    """
    configure_logging(settings.log)
    if settings.database_url is None:
        prepare_tree(settings.root, min_free=0)
    clock = SystemClock()
    async with open_database(settings.database) as database:
        yield Accounts(database, clock, SystemIdentifiers(clock))
