"""The directories of a service, made ready before anything is started.

Rule 1: rows and bytes belong together. Whoever has the rows and other bytes would take every worker of the others for
        dead, whose lock files it does not see, and uploads under way for lost.
"""

from pathlib import Path

from haulier.adapters.disk.directories import prepare_shelf, prepare_tree
from haulier.adapters.service_files import STORAGE_ID, make_storage_id, read_storage_id
from haulier.adapters.sql.database import SqlDatabase
from haulier.config import Settings
from haulier.core.errors import ConfigError


def prepare_directories(settings: Settings) -> Path:
    """Make all directories ready before anything is started; return the data directory.

    Raises:
        ConfigError: one of them cannot be used.
    """
    root = prepare_tree(settings.root, min_free=settings.min_free_bytes)
    if settings.storage_dir != settings.root:
        prepare_tree(settings.storage_dir, setting=settings.storage_setting, min_free=settings.min_free_bytes)
    prepare_shelf(settings.storage_dir, settings.ingestion_path)
    return root


async def require_own_storage(settings: Settings, database: SqlDatabase, *, claim: bool) -> None:
    """Refuse a storage directory that is another than the one of the rows (Rule 1).

    `claim`: rows that belong to none yet belong to this one from here on.

    Raises:
        ConfigError: it is another one, or its id cannot be read or made.
        StorageError
    """
    storage, setting = settings.storage_dir, settings.storage_setting
    noted = await database.read(lambda tx: tx.storage.noted())
    if noted is None and not claim:
        return
    if noted is None:
        made = make_storage_id(storage, setting=setting)
        noted = await database.write(lambda tx: tx.storage.note(made), durable=True)
    if noted != read_storage_id(storage, setting=setting):
        raise ConfigError(
            setting,
            str(storage),
            f"expected the directory that has the files of {settings.database_place}; give all services that share "
            f"it the same storage_url. If these are its files, moved or restored, put {noted} into "
            f"{storage / STORAGE_ID}",
        )
