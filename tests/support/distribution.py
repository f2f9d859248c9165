"""How all tests but those of units are shared out among workers: `--dist loadfile`, only finer.

Rule 1: what a file starts once for all its tests is started once: such a file stays on one worker. Every other test is
        independent and goes to whoever is free; tests that rely on what a module keeps need a fixture of that module.
Rule 2: what takes long goes first (whole files, then what is marked `slow`), so that at the end nobody waits for one
        worker who has it all.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

ONCE: Final = re.compile(r'@pytest\.fixture\([^@]*?scope="module"')


class FineScheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Shares out whole files where their tests share a service, else test by test."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid, self.config.rootpath)

    def remove_node(self, node: WorkerController) -> str | None:
        """Give the others what a crashed worker had left; return the test it crashed in, if it was in one."""
        units = self.assigned_work.pop(node)
        crashed = next((test for unit in units.values() for test, ran in unit.items() if not ran), None)
        if crashed is not None:
            units[self._split_scope(crashed)][crashed] = True
        self.workqueue.update((name, unit) for name, unit in units.items() if not all(unit.values()))
        for other in self.nodes:
            self._reschedule(other)
        return crashed

    def _reschedule(self, node: WorkerController) -> None:
        """Give a worker that knows its tests enough to begin with, or tell it that nothing more comes."""
        if node not in self.registered_collections:
            return
        super()._reschedule(node)
        while not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)


def unit_of(nodeid: str, root: Path) -> str:
    """Return the name of what a test is shared out with: its file's, or its own."""
    file = nodeid.partition("::")[0]
    return file if shares_services(root / file) else nodeid


@cache
def shares_services(file: Path) -> bool:
    """Whether a file starts something once for all its tests."""
    return ONCE.search(file.read_text()) is not None


def slow_first(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Return the tests in an order in which what is shared out alone and takes long comes before the rest."""
    return sorted(
        items, key=lambda item: item.get_closest_marker("slow") is None or shares_services(item.path)
    )
