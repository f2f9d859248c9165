"""Errors become problem details: one table, nothing forgotten, nothing told that is ours."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import haulier.core.errors as tree
import haulier.server.errors  # noqa: F401 - its leaves are part of the tree
from haulier.adapters.clock import SystemClock
from haulier.core.errors import (
    ChunksMissing,
    ConfigError,
    DirectoryNotCreatable,
    FieldProblem,
    HaulierError,
    InvalidRequest,
    OffsetMismatch,
    QuotaExceeded,
    StorageNotWritable,
    StorageUnavailable,
    UploadBusy,
    UploadComplete,
    UploadGone,
    WaitTimeout,
)
from haulier.server.errors import MethodNotAllowed, RangeNotSatisfiable
from haulier.server.metrics import Metrics
from haulier.server.problems import (
    INTERNAL,
    NEVER_BY_HTTP,
    SLUGS,
    TABLE,
    ProblemAnswers,
    problem_response,
    row_of,
)
from haulier.server.requests import RequestLog, request_info

PAGES = Path(__file__).parents[3] / "docs" / "errors"
SCOPE: Any = {
    "type": "http",
    "scheme": "http",
    "headers": [(b"host", b"localhost:8000")],
    "server": ("127.0.0.1", 8000),
}


def leaves(kind: type[HaulierError] = HaulierError) -> Iterator[type[HaulierError]]:
    # The node and the queue have errors of their own, which end where they are caught.
    below = [
        each
        for each in kind.__subclasses__()
        if each.__module__.startswith(("haulier.core", "haulier.server"))
    ]
    if not below:
        yield kind
    for each in below:
        yield from leaves(each)


def told(error: BaseException) -> tuple[dict[str, Any], Any]:
    response = problem_response(SCOPE, error, instance="urn:uuid:1")
    return json.loads(bytes(response.body)), response


def test_every_leaf_of_the_tree_has_a_row_or_a_reason_to_have_none() -> None:
    for leaf in leaves():
        assert (leaf in TABLE) != (leaf in NEVER_BY_HTTP), leaf


def test_the_families_have_no_rows() -> None:
    families = {tree.HaulierError, tree.RequestError, tree.StorageError, tree.PeerError}
    assert not families & set(TABLE)


def test_every_row_tells_fields_that_its_error_has() -> None:
    for kind, row in TABLE.items():
        assert set(row.fields) <= set(kind.field_names), kind


def test_every_slug_has_its_page_and_every_page_its_slug() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == SLUGS


def test_every_page_names_its_slug_its_status_and_its_members() -> None:
    for row in [*TABLE.values(), INTERNAL]:
        text = (PAGES / f"{row.slug}.md").read_text(encoding="utf-8")
        assert f"`{row.slug}`" in text
        assert str(row.status) in text
        for field in row.fields:
            assert f"`{'upload_status' if field == 'status' else field}`" in text, (row.slug, field)


@pytest.mark.parametrize(
    ("slug", "status"),
    [
        ("capsule-not-found", 404),
        ("access-denied", 403),
        ("not-local", 403),
        ("upload-not-found", 404),
        ("upload-gone", 410),
        ("upload-complete", 409),
        ("upload-busy", 423),
        ("chunk-conflict", 409),
        ("chunk-out-of-range", 422),
        ("chunk-too-long", 413),
        ("chunk-too-short", 400),
        ("chunks-missing", 409),
        ("offset-mismatch", 409),
        ("digest-mismatch", 422),
        ("digest-malformed", 400),
        ("idempotency-key-reused", 422),
        ("quota-exceeded", 429),
        ("storage-full", 507),
        ("storage-unavailable", 503),
        ("storage-not-writable", 503),
        ("directory-not-creatable", 500),
        ("invalid-request", 422),
        ("record-not-found", 404),
        ("unauthenticated", 401),
        ("host-refused", 421),
        ("length-exceeded", 413),
        ("type-not-accepted", 415),
    ],
)
def test_the_contract_of_slugs_and_statuses_holds(slug: str, status: int) -> None:
    assert {row.status for row in TABLE.values() if row.slug == slug} == {status}


def test_a_problem_has_the_members_of_rfc_9457_and_its_own() -> None:
    document, response = told(UploadGone("u1", "expired"))
    assert response.status_code == 410
    assert response.headers["content-type"] == "application/problem+json"
    assert document == {
        "type": "http://localhost:8000/errors/upload-gone",
        "title": "The upload ended without a result",
        "status": 410,
        "detail": "upload 'u1' is expired",
        "instance": "urn:uuid:1",
        "upload": "u1",
        "upload_status": "expired",
        "error": None,
    }


def test_missing_ranges_and_fields_are_plain_json() -> None:
    assert told(ChunksMissing(((0, 5), (7, 9))))[0]["missing"] == [[0, 5], [7, 9]]
    document, _ = told(InvalidRequest((FieldProblem("size", "must be given"),)))
    assert document["errors"] == [{"field": "size", "reason": "must be given"}]


def test_the_record_of_a_complete_upload_is_told() -> None:
    assert told(UploadComplete("u1", "r1"))[0]["record"] == "r1"


def test_a_quota_of_bytes_is_413_and_one_of_sessions_429() -> None:
    _, response = told(QuotaExceeded("sessions", 5, "address"))
    assert (response.status_code, response.headers["retry-after"]) == (429, "10")
    _, response = told(QuotaExceeded("bytes", 5, "capsule"))
    assert response.status_code == 413
    assert "retry-after" not in response.headers


@pytest.mark.parametrize(
    "error", [UploadBusy("u", "taken"), StorageUnavailable("x"), QuotaExceeded("sessions", 1, "owner")]
)
def test_what_passes_says_when_to_come_again(error: HaulierError) -> None:
    assert int(told(error)[1].headers["retry-after"]) > 0


def test_headers_of_their_own_come_with_some_problems() -> None:
    assert told(OffsetMismatch(7, 3))[1].headers["upload-offset"] == "7"
    assert told(MethodNotAllowed("PUT", ("GET", "HEAD")))[1].headers["allow"] == "GET, HEAD"
    assert told(RangeNotSatisfiable(10))[1].headers["content-range"] == "bytes */10"


@pytest.mark.parametrize(
    "error",
    [
        StorageNotWritable("/srv/secret", "permission denied"),
        DirectoryNotCreatable("/srv/secret", "x"),
        StorageUnavailable("/srv/secret/haulier.db is locked"),
        RuntimeError("/srv/secret"),
    ],
)
def test_paths_of_ours_are_never_told(error: BaseException) -> None:
    assert "secret" not in json.dumps(told(error)[0])


@pytest.mark.parametrize(
    "error", [ValueError("secret"), WaitTimeout("open", 1, 2), ConfigError("a", "b", "c")]
)
def test_what_is_not_in_the_table_is_internal(error: BaseException) -> None:
    document, response = told(error)
    assert row_of(error) is INTERNAL
    assert response.status_code == 500
    assert set(document) == {"type", "title", "status", "detail", "instance"}
    assert document["type"].endswith("/errors/internal-error")


def test_a_lone_surrogate_in_an_error_does_not_break_its_answer() -> None:
    _, response = told(InvalidRequest.of("filename", "must not contain \udc80"))
    assert rb"must not contain \udc80" in bytes(response.body)


@pytest.mark.parametrize(
    ("method", "started", "answers"),
    [("GET", False, [503]), ("GET", True, [200]), ("PUT", False, []), ("PUT", True, [200])],
)
async def test_a_request_that_the_end_of_the_server_cuts_is_told_so_where_that_is_certainly_true(
    method: str, *, started: bool, answers: list[int]
) -> None:
    """It waited for something that hangs. What it would have changed may be changed all the same."""
    reached, sent = asyncio.Event(), list[Any]()

    async def hang(_scope: Any, _receive: Any, send: Any) -> None:
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        reached.set()
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    scope = {**SCOPE, "method": method, "path": "/api/records"}
    layers = RequestLog(
        ProblemAnswers(hang, new_instance=lambda: "one"),
        clock=SystemClock(),
        metrics=Metrics(),
        new_id=lambda: "two",
    )
    running = asyncio.get_running_loop().create_task(layers(scope, receive, send))
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [message["status"] for message in sent if "status" in message] == answers
    assert started or request_info(scope).problem == "service-stopping"
    if answers == [503]:
        headers = dict(sent[0]["headers"])
        assert headers[b"retry-after"] == b"2"
        assert json.loads(sent[1]["body"])["type"].endswith("/errors/service-stopping")
