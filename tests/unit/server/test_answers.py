"""Answers that are made in fewer steps are the framework's own."""

from typing import Any

import pytest
from starlette.responses import Response

from haulier.server.answers import Answer, json_answer

LOCATION = {"Location": "/\u00e9", "Upload-Offset": "5"}


async def sent_by(response: Response) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await response({"type": "http"}, None, send)  # type: ignore[arg-type]  # nothing is received
    return sent


@pytest.mark.parametrize("status", [200, 201, 204, 404])
async def test_an_answer_without_a_body_has_the_fields_of_the_framework_s(status: int) -> None:
    assert await sent_by(Answer(status, LOCATION)) == await sent_by(Response(None, status, LOCATION))


async def test_json_has_the_fields_of_the_framework_s() -> None:
    headers = {"Cache-Control": "no-store", **LOCATION}
    theirs = Response(b'{"a":1}', 202, headers, media_type="application/json")
    assert await sent_by(json_answer({"a": 1}, 202, headers=LOCATION)) == await sent_by(theirs)
