"""The directories of a service, made ready before anything is started."""

from pathlib import Path

from haulier.adapters.disk.directories import prepare_shelf, prepare_tree
from haulier.config import Settings


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
