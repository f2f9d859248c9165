"""A real service and the installed command, for each test its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Commands, ServeProcess, serving


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServeProcess]:
    """A running service."""
    with serving(tmp_path / "data") as running:
        yield running


@pytest.fixture
def haulier(service: ServeProcess, tmp_path: Path) -> Commands:
    """The command, pointed at the service."""
    return Commands(service.url, tmp_path / "work")
