"""The live view of a node: slots, queue and speeds, drawn for people only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from haulier.cli.display import printable

if TYPE_CHECKING:
    from rich.table import Table

    from haulier.core.transfer import Transfer
    from haulier.soulseek.node import Node

SHOWN = 20
"""Transfers that fit on a screen."""
Watch = Callable[["Node"], None]


@contextmanager
def watched() -> Iterator[Watch | None]:
    """Give what draws a node whenever it is called; None when standard error is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    # The first line is for programs, wherever standard output goes.
    with Live(
        console=Console(stderr=True), auto_refresh=False, transient=True, redirect_stdout=False
    ) as live:
        yield lambda node: live.update(table_of(node), refresh=True)


def table_of(node: "Node") -> "Table":
    """Return what a node does, as a table."""
    from rich.table import Table

    uploads, downloads = node.uploads.slots, node.downloads.slots
    online = "online" if node.link.up.is_set() else "offline"
    table = Table(
        title=f"{printable(node.settings.identity.user)}: {online}, {node.shares.files} files shared",
        caption=(
            f"uploads {uploads.held}/{node.settings.rules.slots or 'any'}, {node.uploads.waiting} wait; "
            f"downloads {downloads.held}, {len(node.downloads.live)} in all"
        ),
    )
    for heading in ("", "who", "what", "state", "done", "speed"):
        table.add_column(heading, overflow="ellipsis", no_wrap=True)
    moving = [(upload.transfer, upload.path) for upload in node.uploads.live if upload.task is not None]
    moving += [(download.transfer, download.file) for download in node.downloads.live]
    for transfer, file in moving[:SHOWN]:
        table.add_row(*_row(transfer, file))
    return table


def _row(transfer: "Transfer", file: str) -> tuple[str, ...]:
    snapshot = transfer.snapshot
    speed = "" if snapshot.speed is None else f"{snapshot.speed / 1e6:.1f} MB/s"
    arrow = "\u2191" if transfer.direction.value == "upload" else "\u2193"
    name = printable(file.rpartition("\\")[2])
    return arrow, printable(transfer.line), name, transfer.label, f"{snapshot.percent:.0f} %", speed
