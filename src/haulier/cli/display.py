"""What is shown while files move, and how names and records are printed.

Rule 1: names come from strangers: no control character of theirs reaches a terminal.
Rule 2: results go to stdout, everything else to stderr; bars are drawn for people only.
"""

import json
import sys
import unicodedata
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import rich.progress

    from haulier.client import Progress, Record


def printable(name: str) -> str:
    """Return the name with control and direction characters replaced."""
    # Cc and Cf hold escape sequences, line breaks and bidi overrides; Cs cannot be printed at all.
    return "".join(
        "\ufffd" if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else character
        for character in name
    )


def print_record(record: "Record", *, as_json: bool, target: str | None = None) -> None:
    """Print one record as a line: JSON as the service sent it, or `id  size  name`."""
    if as_json:
        print_json(record.document if target is None else {**record.document, "target": target})
        return
    size = "-" if record.size is None else record.size
    print(f"{record.id}  {size}  {printable(record.path or record.filename)}", flush=True)


def print_json(document: object) -> None:
    """Print one JSON object as a line."""
    print(json.dumps(document, ensure_ascii=False, separators=(",", ":")), flush=True)


Report = Callable[["Progress"], None]


class Bars(AbstractContextManager["Bars"]):
    """A bar for each file that moves, and one for all of them; silent when stderr is not a terminal.

    Args:
        total: bytes of all files; None when unknown.
    """

    def __init__(self, total: int | None) -> None:
        # Who is no person is shown none, and does not wait for the library that draws them.
        self._bars = _drawn_bars() if sys.stderr.isatty() else None
        self._total = total
        self._all = None if self._bars is None else self._bars.add_task("total", total=total)

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    @property
    def drawn(self) -> bool:
        """Whether anybody sees them."""
        return self._bars is not None

    def grow(self, size: int) -> None:
        """One more file comes, of so many bytes."""
        self._total = (self._total or 0) + size
        if self._bars is not None:
            assert self._all is not None
            self._bars.update(self._all, total=self._total)

    def file(self, name: str) -> "FileBar":
        """Return the bar of one file."""
        return FileBar(self, printable(name))


def _drawn_bars() -> "rich.progress.Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # Rich would send what we print to the bars' console, and so results to stderr. On one terminal
        # that is what keeps lines and bars apart; anywhere else it would steal the results.
        redirect_stdout=sys.stdout.isatty(),
    )


class FileBar(AbstractContextManager[Report]):
    """One file's bar: enter it for the callback that moves it, leave it when the file is done."""

    def __init__(self, bars: Bars, name: str) -> None:
        self._bars = bars._bars  # noqa: SLF001 - two halves of one thing
        self._all = bars._all  # noqa: SLF001 - as above
        self._name = name
        self._moved = 0
        self._lanes: dict[str | None, Progress] = {}
        """How far each of two lanes is; most files have one without a name."""

    def __enter__(self) -> Report:
        if self._bars is None:
            return lambda _: None
        self._task = self._bars.add_task(self._name, total=None)
        return self._report

    def __exit__(self, *exception: object) -> None:
        if self._bars is not None:
            self._bars.remove_task(self._task)

    def _report(self, progress: "Progress") -> None:
        assert self._bars is not None
        assert self._all is not None
        self._lanes[progress.lane] = progress
        moved = sum(lane.done + lane.moving for lane in self._lanes.values())
        sizes = [lane.size for lane in self._lanes.values()]
        # May be negative: what a cut lost is sent again.
        self._bars.advance(self._all, moved - self._moved)
        self._moved = moved
        why = "" if progress.waiting is None else f"  (waiting: {printable(progress.waiting)})"
        total = None if None in sizes else sum(size or 0 for size in sizes)
        self._bars.update(self._task, completed=moved, total=total, description=f"{self._name}{why}")
