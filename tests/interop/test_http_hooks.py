"""Hooks over HTTP: a real HTTP server on this machine decides, and breaks in every way; the installed service asks it."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.test_webhooks import KEY, SECRET, Listener
from tests.interop.test_webhooks import listener as listener  # noqa: PLC0414 - a fixture
from tests.support.outsider import Answer, Outsider
from tests.support.processes import ServeProcess, serving, wait_until
from tests.support.tus import TusClient

DATA = b"the bytes of a file"


@pytest.fixture(scope="module")
def gate() -> Iterator[Listener]:
    """Who is asked by the service of this module; each test says what it answers."""
    server = Listener()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def hook(on: str, url: str, **more: Any) -> dict[str, Any]:
    return {"on": on, "url": url, "secrets": [SECRET], "private": True, "fail": "closed", **more}


@pytest.fixture(scope="module")
def service(gate: Listener, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    hooks = [hook("begin", gate.url, timeout_s=5.0), hook("finish", gate.url, timeout_s=5.0, tells_path=True)]
    settings = {"HAULIER_HOOKS": json.dumps(hooks), "HAULIER_JANITOR_INTERVAL_S": "0.2"}
    with serving(tmp_path_factory.mktemp("hooks") / "data", settings) as process:
        yield process


@pytest.fixture
def outsider(service: ServeProcess, gate: Listener) -> Outsider:
    gate.says, gate.answer = lambda _: b"", lambda _: (200, {})
    gate.got.clear()
    return Outsider(service.port)


def put(outsider: Outsider, name: str = "a.bin") -> Answer:
    return outsider.ask("PUT", f"/api/files/{name}", DATA)


def says(gate: Listener, on: str, answer: Any) -> None:
    """Let one of the two hooks answer so, and the other go on."""
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    gate.says = lambda document: content if document["type"] == f"upload.{on}" else b""


def test_both_are_asked_in_words_that_are_signed(outsider: Outsider, gate: Listener) -> None:
    seen: list[bytes] = []

    def look(document: Any) -> bytes:
        if document["type"] == "upload.finish":
            seen.append(Path(document["data"]["file"]).read_bytes())
        return b"{}"

    gate.says = look
    record = put(outsider, "a.txt").json
    assert record["status"] == "completed"
    (begin_head, begin_body), (_, finish_body) = gate.got
    signed = f"{begin_head['webhook-id']}.{begin_head['webhook-timestamp']}.".encode() + begin_body
    mac = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert begin_head["webhook-signature"] == f"v1,{mac}"
    begin, finish = json.loads(begin_body), json.loads(finish_body)
    assert (begin["type"], finish["type"]) == ("upload.begin", "upload.finish")
    for document in (begin, finish):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document["timestamp"])
    assert begin["data"] == {
        "owner": "local",
        "capsule": "default",
        "record": None,
        "asset": "original",
        "filename": "a.txt",
        "path": None,
        "content_type": None,
        "metadata": {},
        "size": len(DATA),
        "digest": None,
        "protocol": "native",
    }
    data = finish["data"]
    assert (data["record"], data["size"], data["content_type"]) == (record["id"], len(DATA), "text/plain")
    assert data["digest"] == {"sha-256": hashlib.sha256(DATA).hexdigest()}
    assert seen == [DATA]


@pytest.mark.parametrize("on", ["begin", "finish"])
def test_a_refusal_reaches_the_caller_and_leaves_nothing(
    outsider: Outsider, gate: Listener, service: ServeProcess, on: str
) -> None:
    says(gate, on, {"refuse": "no viruses here"})
    records = {record["id"] for record in outsider.records()}
    answer = put(outsider)
    assert answer.problem == (422, "upload-refused")
    assert answer.json["reason"] == "no viruses here"
    later = [record for record in outsider.records() if record["id"] not in records]
    assert [record["status"] for record in later] == ([] if on == "begin" else ["failed"])
    assert list((service.data_dir / "incoming").iterdir()) == []


def test_a_begin_may_be_amended(outsider: Outsider, gate: Listener) -> None:
    says(gate, "begin", {"amend": {"path": "by/hook.bin", "metadata": {"by": "hook"}}})
    record = put(outsider).json
    assert (record["filename"], record["path"], record["metadata"]) == (
        "a.bin",
        "by/hook.bin",
        {"by": "hook"},
    )


def test_what_is_amended_is_judged_like_any_other_request(outsider: Outsider, gate: Listener) -> None:
    says(gate, "begin", {"amend": {"path": "../out"}})
    assert put(outsider).problem == (422, "invalid-request")


@pytest.mark.parametrize(
    "content",
    [
        b"not json",
        b"[]",
        b'{"refuse": ""}',
        b'{"refuse": 5}',
        b'{"allow": true}',
        b'{"amend": {"size": 1}}',
        b'{"amend": {"filename": null}}',
        b'{"amend": {"metadata": null}}',
        b" " * 70_000 + b"{}",
    ],
)
def test_an_answer_that_is_none_lets_nothing_through(
    outsider: Outsider, gate: Listener, content: bytes
) -> None:
    says(gate, "begin", content)
    answer = put(outsider)
    assert answer.problem == (503, "hook-unavailable")
    assert answer.json["hook"] == "on_begin"


@pytest.mark.parametrize("status", [204, 301, 403, 500, 0])
def test_a_bad_status_or_none_in_time_lets_nothing_through(
    outsider: Outsider, gate: Listener, status: int
) -> None:
    gate.answer = lambda _: (status, {"Location": gate.url} if status == 301 else {})
    expected = 201 if status == 204 else 503
    assert put(outsider).status == expected


def test_a_finish_that_could_not_be_asked_is_gone_on_with(outsider: Outsider, gate: Listener) -> None:
    broken = True

    def answer(number: int) -> tuple[int, dict[str, str]]:
        document = json.loads(gate.got[number][1])
        return (500 if broken and document["type"] == "upload.finish" else 200), {}

    gate.answer = answer
    upload = outsider.begin(size=len(DATA), mode="append", filename="later.bin")
    assert outsider.append(upload["id"], 0, DATA).status in {204, 503}
    assert outsider.finish(upload["id"]).problem == (503, "hook-unavailable")
    broken = False
    wait_until(lambda: outsider.state(upload["id"])["status"] == "committed", "the janitor asked again")


@pytest.mark.parametrize("way", ["put", "tus"])
def test_what_was_told_as_failed_is_not_stored_after_all(
    outsider: Outsider, gate: Listener, way: str
) -> None:
    asked: list[int] = []

    def answer(number: int) -> tuple[int, dict[str, str]]:
        if json.loads(gate.got[number][1])["type"] == "upload.finish":
            asked.append(number)
            return (500 if len(asked) == 1 else 200), {}
        return 200, {}

    def failed() -> set[str]:
        return {record["id"] for record in outsider.ask("GET", "/api/records?status=failed").json["items"]}

    gate.answer = answer
    before = outsider.ask("GET", "/api/records?status=completed").json["items"], failed()
    told = {
        "put": lambda: put(outsider, "told.bin"),
        "tus": lambda: TusClient(outsider.port).post(
            DATA,
            {"Upload-Length": str(len(DATA)), "Content-Type": "application/offset+octet-stream"},
        ),
    }[way]()
    assert told.problem == (503, "hook-unavailable")
    assert len(asked) == 1
    # It is over, and nobody tries its finish again.
    assert len(failed() - before[1]) == 1
    assert outsider.ask("GET", "/api/records?status=completed").json["items"] == before[0]


def test_a_tus_client_that_looks_after_a_finish_could_not_be_asked_waits_and_is_told_how_it_ends(
    service: ServeProcess, outsider: Outsider, gate: Listener
) -> None:
    broken = True

    def answer(number: int) -> tuple[int, dict[str, str]]:
        document = json.loads(gate.got[number][1])
        return (500 if broken and document["type"] == "upload.finish" else 200), {}

    gate.answer = answer
    tus = TusClient(service.port)
    upload = tus.create(len(DATA))
    assert tus.patch(upload, 0, DATA).problem == (503, "hook-unavailable")
    # With the end as its offset, clients would call it a success; with another status make a new upload.
    assert tus.ask("HEAD", upload).status == 423
    assert tus.patch(upload, len(DATA), b"").problem == (423, "upload-busy")
    broken = False
    says(gate, "finish", {"refuse": "it has a virus"})
    assert tus.ask("HEAD", upload).status in {410, 422}
    wait_until(lambda: tus.ask("HEAD", upload).status == 410, "it has failed")


def test_fail_open_goes_on_without_an_answer(listener: Listener, tmp_path: Path) -> None:
    listener.answer = lambda _: (500, {})
    hooks = [hook("begin", listener.url, fail="open"), hook("finish", "http://127.0.0.1:1/", fail="open")]
    with serving(tmp_path / "data", {"HAULIER_HOOKS": json.dumps(hooks)}) as service:
        assert put(Outsider(service.port)).status == 201
        assert len(listener.got) == 1
        failed = [event for event in service.events() if event.get("event") == "hook.failed"]
        assert [event["hook"] for event in failed] == ["upload.begin", "upload.finish"]
        assert listener.url not in service.log


def test_each_of_several_is_asked_in_turn(listener: Listener, tmp_path: Path) -> None:
    def add_one(document: Any) -> bytes:
        metadata = {**document["data"]["metadata"], str(len(listener.got)): "x"}
        return json.dumps({"amend": {"metadata": metadata}}).encode()

    listener.answer, listener.says = lambda _: (200, {}), add_one
    hooks = [hook("begin", listener.url), hook("begin", listener.url)]
    with serving(tmp_path / "data", {"HAULIER_HOOKS": json.dumps(hooks)}) as service:
        assert put(Outsider(service.port)).json["metadata"] == {"1": "x", "2": "x"}
