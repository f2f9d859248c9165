"""How answers are made that are alike everywhere."""

from http import HTTPStatus

from pydantic import BaseModel
from starlette.responses import Response


def json_answer(
    model: BaseModel, status: int = HTTPStatus.OK, *, headers: dict[str, str] | None = None
) -> Response:
    """Return a model as the answer; never from a cache."""
    return Response(
        model.model_dump_json(by_alias=True),
        status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
