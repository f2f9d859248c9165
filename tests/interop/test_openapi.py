"""The service keeps the word of its OpenAPI document, whatever it is sent.

One check is left out, that whatever fits the document's schema is accepted: JSON Schema cannot say that a
name has at most 255 bytes of UTF-8, a path is normalised, or a digest has the length of its algorithm.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from haulier.server.openapi import PROBLEMS
from tests.support.processes import ServeProcess, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """One service for all that is tried; whatever is sent must leave it usable."""
    data: Path = tmp_path_factory.mktemp("fuzz") / "data"
    with serving(data) as running:
        yield running


@pytest.fixture(scope="module")
def api(service: ServeProcess) -> Any:
    """The document as the running service tells it."""
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_an_operation_keeps_its_word(api: Any, name: str) -> None:
    @settings(max_examples=25)
    @given(case=api.find_operation_by_id(name).as_strategy())
    def attempt(case: Any) -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    attempt()
