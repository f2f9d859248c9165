"""How loud the events of a node are."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from haulier.sharing import logger


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Take back what a start sets for its whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("event", "level"),
    [
        ("task.failed", "error"),
        ("transfers.not_kept", "error"),
        ("server.lost", "warning"),
        ("upkeep.failed", "warning"),
        ("upload.ended", "info"),
    ],
)
def test_what_is_worse_than_information_says_so(
    event: str, level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logger("json")(event, reason="x")
    assert json.loads(capsys.readouterr().err)["level"] == level
