"""The service keeps the word of its OpenAPI document, whatever it is sent.

One check is left out, that whatever fits the document's schema is accepted: JSON Schema cannot say that a
name has at most 255 bytes of UTF-8, a path is normalised, or a digest has the length of its algorithm.
"""

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

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


NEGATABLE = (
    "append",
    "begin",
    "deleteRecord",
    "deleteRecords",
    "finaliseRecord",
    "finish",
    "giveLink",
    "listRecords",
    "putChunk",
    "putFile",
    "state",
)
"""Operations of which something can be sent that does not fit the document."""


def attack(operation: Any, mode: GenerationMode) -> None:
    @settings(max_examples=25)
    @given(case=operation.as_strategy(generation_mode=mode))
    def attempt(case: Any) -> None:
        if case.operation.definition.raw["operationId"] == "followEvents":
            case.query = {**(case.query or {}), "follow": "false"}  # else it never ends
        response = case.call()
        excluded = [positive_data_acceptance]
        if response.status_code == HTTPStatus.REQUEST_URI_TOO_LONG:
            excluded.append(negative_data_rejection)  # it is a refusal too, though not in schemathesis' list
        case.validate_response(response, excluded_checks=excluded)

    attempt()


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_what_fits_the_document_is_answered_as_it_says(api: Any, name: str) -> None:
    attack(api.find_operation_by_id(name), GenerationMode.POSITIVE)


@pytest.mark.parametrize("name", NEGATABLE)
def test_what_does_not_fit_the_document_is_refused_as_it_says(api: Any, name: str) -> None:
    attack(api.find_operation_by_id(name), GenerationMode.NEGATIVE)
