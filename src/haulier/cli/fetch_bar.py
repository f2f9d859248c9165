"""How far a download from a peer is, drawn for people only."""

import sys
from contextlib import AbstractContextManager
from typing import Any, Self

from haulier.cli.display import printable


class FetchBar(AbstractContextManager["FetchBar"]):
    """One bar, with the place in the peer's queue while it waits there; silent when stderr is not a terminal."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        self.shown = sys.stderr.isatty()
        self._name = printable(name)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            console=Console(stderr=True),
            disable=not self.shown,
            transient=True,
            redirect_stdout=False,
        )
        self._task = self._bars.add_task(self._name, total=None)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def show(self, document: dict[str, Any]) -> None:
        """Show how a download stands, as the control API tells it."""
        place = "" if document["place"] is None else f", place {document['place']}"
        why = "" if document["error"] is None else f": {printable(document['error'])}"
        self._bars.update(
            self._task,
            completed=document["bytes"],
            total=document["size"] or None,
            description=f"{self._name}  ({document['label']}{place}{why})",
        )
