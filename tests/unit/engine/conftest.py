"""What tests of the engine share."""

import pytest


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cancels does not wait for what a gate holds back."""
    monkeypatch.setattr("haulier.engine.send_runner.ANSWER_S", 0.01)
