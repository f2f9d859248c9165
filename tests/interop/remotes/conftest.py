"""What all tests of remotes share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from haulier.testing.remote_contract import Sources


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[Sources]:
    """Makes the files that are sent."""
    made = Sources(tmp_path)
    yield made
    made.close()
