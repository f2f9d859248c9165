"""A real service and the installed command, for each test its own."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Commands, ServeProcess, serving

# A shell starts what runs in the background deaf to Ctrl-C, and every program that is started from there inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServeProcess]:
    """A running service."""
    with serving(tmp_path / "data") as running:
        yield running


@pytest.fixture
def haulier(service: ServeProcess, tmp_path: Path) -> Commands:
    """The command, pointed at the service."""
    return Commands(service.url, tmp_path / "work")
