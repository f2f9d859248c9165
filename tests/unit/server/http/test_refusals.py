"""What cannot become a request is answered with a problem like any other."""

import json

import pytest

from haulier.core.errors import RequestError
from haulier.server.errors import CodingNotSupported, HeadTimeout, HeadTooLarge, RequestMalformed
from haulier.server.http.refusals import refusal, refuse_target


@pytest.mark.parametrize(
    ("error", "status", "slug", "members"),
    [
        (RequestMalformed(), 400, "malformed-request", {}),
        (HeadTimeout(30.0), 408, "request-timeout", {"limit_s": 30.0}),
        (refuse_target(b"/api/records?x", 10), 414, "target-too-long", {"limit": 10}),
        (HeadTooLarge(10, 2), 431, "head-too-large", {"limit": 10, "limit_fields": 2}),
        (CodingNotSupported("chunked"), 501, "coding-not-supported", {"expected": "chunked"}),
    ],
)
def test_every_refusal_has_its_page_and_says_what_was_wrong(
    error: RequestError, status: int, slug: str, members: dict[str, object]
) -> None:
    answer = refusal(error, ("127.0.0.1", 8000), [(b"date", b"now")], instance="urn:uuid:1")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert {b"date: now", b"connection: close", b"content-type: application/problem+json"} <= set(
        head.split(b"\r\n")
    )
    document = json.loads(body)
    assert document["type"] == f"http://127.0.0.1:8000/errors/{slug}"
    assert (document["status"], document["detail"]) == (status, str(error))
    assert document["instance"] == "urn:uuid:1"
    assert members.items() <= document.items()


def test_a_refusal_that_is_worth_trying_again_says_when() -> None:
    assert b"\r\nretry-after: 1\r\n" in refusal(HeadTimeout(30.0), None, [], instance="")
