"""How answers are made that are alike everywhere."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response

CREATED: Final = 201
"""Python 3.11 goes through two functions to find a member of `HTTPStatus`: what is asked for with every answer is here."""
_NO_CONTENT: Final = 204


class Answer(Response):
    """An answer of which all is known when it is made: the fields that Starlette's would have, in the same order.

    That one looks at what it was given, and whether its length and its kind are among it. On the way of a short file that
    is as much as the rest of building the answer.
    """

    def __init__(
        self, status: int, headers: Mapping[str, str], body: bytes = b"", *, kind: bytes | None = None
    ) -> None:
        """`headers` has neither the length of `body` nor its kind."""
        fields = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
        if status != _NO_CONTENT:
            fields.append((b"content-length", b"%d" % len(body)))
        if kind is not None:
            fields.append((b"content-type", kind))
        self.status_code, self.raw_headers, self.body, self.background = status, fields, body, None


def json_answer(
    content: BaseModel | Mapping[str, Any],
    status: int = 200,
    *,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return a model, or what is one already in JSON's own words, as the answer; never from a cache."""
    if isinstance(content, BaseModel):
        body = content.model_dump_json(by_alias=True).encode()
    else:
        body = to_json(content)
    return Answer(status, {"Cache-Control": "no-store", **(headers or {})}, body, kind=b"application/json")
