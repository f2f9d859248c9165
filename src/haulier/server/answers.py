"""How answers are made that are alike everywhere."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response


def json_answer(
    content: BaseModel | Mapping[str, Any],
    status: int = HTTPStatus.OK,
    *,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return a model, or what is one already in JSON's own words, as the answer; never from a cache."""
    return Response(
        content.model_dump_json(by_alias=True) if isinstance(content, BaseModel) else to_json(content),
        status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
