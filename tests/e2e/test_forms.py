"""Forms over sockets: cut, slow, hostile, and under services that die. Whatever happens, all of a form or nothing."""

import http.client
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.data_directory import take_inventory
from tests.support.outsider import Answer, Outsider, Wire
from tests.support.processes import ServeProcess, serving, wait_until
from tests.support.real_service import FORM, form

MIB = 1024 * 1024
UPLOAD = "/api/ingestion/upload"
WHOLE = form([("a.json", b"[1]"), ("b.txt", b"text")])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """One service for all; what is refused leaves nothing behind for the next test."""
    data: Path = tmp_path_factory.mktemp("forms") / "data"
    settings = {"HAULIER_INGESTION_MAX_BYTES": str(4 * MIB)}
    with serving(data, settings) as running:
        yield running


class Visitor(Outsider):
    """One browser: all that it sends is one visitor's."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.headers = {"X-Session-ID": super().ask("GET", "/").headers["x-session-id"]}

    def ask(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        return super().ask(method, target, body, {**self.headers, **(headers or {})})


@pytest.fixture
def outsider(service: ServeProcess) -> Visitor:
    return Visitor(service.port)


def send(outsider: Visitor, body: bytes, headers: dict[str, str] | None = None) -> Answer:
    return outsider.ask("POST", UPLOAD, body, FORM if headers is None else headers)


def stored(service: ServeProcess) -> list[bytes]:
    """Return what lies in the ingestion directory."""
    place = service.data_dir / "ingestion"
    return sorted(path.read_bytes() for path in place.rglob("*") if path.is_file())


def left_in(service: ServeProcess) -> Any:
    """Return the files, rows and reservations that there are."""
    found = take_inventory(service.data_dir)
    return found.parts, found.records, found.used_bytes, found.reserved_bytes, stored(service)


@pytest.fixture
def nothing_new(service: ServeProcess) -> Iterator[None]:
    """Fail when the test leaves a file, a row or a reservation."""
    before = left_in(service)
    yield
    wait_until(lambda: bool(left_in(service) == before), "nothing is left")


def test_a_form_of_curl_is_stored(service: ServeProcess, outsider: Visitor, tmp_path: Path) -> None:
    (tmp_path / "Größe.json").write_bytes(b'{"a": 1}')
    command = ["curl", "--silent", "--form", f"file=@{tmp_path / 'Größe.json'}", f"{service.url}{UPLOAD}"]
    document = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    assert document["original_filename"] == "Größe.json"
    assert b'{"a": 1}' in stored(service)
    assert outsider.original_sha256(document["id"])[0] == 8


@pytest.mark.usefixtures("nothing_new")
class TestNothingIsLeftOf:
    @pytest.mark.parametrize("kept", [10, 100, len(WHOLE) - 4])
    def test_a_form_that_is_cut(self, service: ServeProcess, kept: int) -> None:
        with Wire(service.port) as wire:
            answered = len(service.requests("POST", UPLOAD))
            wire.start("POST", UPLOAD, len(WHOLE), FORM)
            wire.send(WHOLE[:kept])
        # Or the service has not even begun it when it is looked at what is left.
        wait_until(lambda: len(service.requests("POST", UPLOAD)) > answered, "the service has seen its end")

    def test_a_file_that_is_too_big(self, outsider: Visitor) -> None:
        answer = send(outsider, form([("a.txt", b"x"), ("b.txt", b"y" * (4 * MIB + 1))]))
        assert answer.problem == (413, "length-exceeded")

    def test_wrong_content(self, outsider: Visitor) -> None:
        answer = send(outsider, form([("a.txt", b"x"), ("b.csv", b"a,b\n1,2,3\n")]))
        assert answer.problem == (422, "content-invalid")
        assert (answer.json["filename"], answer.json["line"]) == ("b.csv", 2)

    @pytest.mark.parametrize(
        ("name", "problem"),
        [
            ("a.exe", (415, "type-not-accepted")),
            ("json", (415, "type-not-accepted")),
            ("../../etc/passwd.json", (422, "invalid-request")),
            ("a\\b.json", (422, "invalid-request")),
            ("a%0D%0Ab.json", (422, "invalid-request")),
            ("a\x00b.json", (422, "invalid-request")),
            ("a\u202egnp.json", (422, "invalid-request")),
            ("x" * 300 + ".json", (422, "invalid-request")),
        ],
    )
    def test_a_name_that_is_not_taken(self, outsider: Visitor, name: str, problem: tuple[int, str]) -> None:
        assert send(outsider, form([("good.txt", b"x"), (name, b"[1]")])).problem == problem

    @pytest.mark.parametrize(
        ("body", "headers", "problem"),
        [
            (b"", FORM, (400, "malformed-body")),
            (b"{}", {"Content-Type": "application/json"}, (415, "type-not-accepted")),
            (WHOLE, {}, (415, "type-not-accepted")),
            (WHOLE, {"Content-Type": "multipart/form-data"}, (400, "malformed-body")),
            (WHOLE, {"Content-Type": "multipart/form-data; boundary="}, (400, "malformed-body")),
            (WHOLE, {"Content-Type": f"multipart/form-data; boundary={'x' * 71}"}, (400, "malformed-body")),
            (WHOLE, {**FORM, "Content-Encoding": "gzip"}, (415, "type-not-accepted")),
            (form([]), FORM, (400, "file-empty")),
            (form([("a.json", b"")]), FORM, (400, "file-empty")),
            (form([("", b"")]), FORM, (400, "file-empty")),
            (form([("a.txt", b"x")] * 101), FORM, (400, "malformed-body")),
            (WHOLE[:-8], FORM, (400, "malformed-body")),
        ],
    )
    def test_a_hostile_form(
        self, outsider: Visitor, body: bytes, headers: dict[str, str], problem: tuple[int, str]
    ) -> None:
        assert send(outsider, body, headers).problem == problem


def test_nothing_is_left_of_a_form_that_falls_silent(tmp_path: Path) -> None:
    with serving(tmp_path / "data", {"HAULIER_SILENT_BODY_S": "2"}) as service, Wire(service.port) as wire:
        before = left_in(service)
        wire.start("POST", UPLOAD, len(WHOLE), FORM)
        wire.send(WHOLE[:100])
        with pytest.raises((http.client.HTTPException, ConnectionError, AssertionError)):
            assert wire.answer().status != 408
        wait_until(lambda: bool(left_in(service) == before), "nothing is left")


def test_a_form_that_comes_byte_by_byte_is_stored(service: ServeProcess, outsider: Visitor) -> None:
    with Wire(service.port) as wire:
        wire.start("POST", UPLOAD, len(WHOLE), {**FORM, **outsider.headers})
        for number in range(len(WHOLE)):
            wire.send(WHOLE[number : number + 1])
        answer = wire.answer()
    assert [item["original_filename"] for item in answer.json["items"]] == ["a.json", "b.txt"]
    assert outsider.ask("GET", "/api/ingestion/history?filename=b.t").json["items"][0]["size"] == 4


def test_a_directory_that_vanished_is_made_again(service: ServeProcess, outsider: Visitor) -> None:
    place = service.data_dir / "ingestion"
    place.rename(service.data_dir / "gone")
    assert send(outsider, WHOLE).status == 201
    assert stored(service) == [b"[1]", b"text"]


def test_a_bad_filter_names_its_field(outsider: Visitor) -> None:
    for query in ("limit=0", "limit=201", "page=0", "page=201", "from=yesterday", "status=odd", "cursor=x"):
        answer = outsider.ask("GET", f"/api/ingestion/history?{query}")
        assert answer.problem == (422, "invalid-request"), query
        assert [error["field"].split(".")[0] for error in answer.json["errors"]] == [query.partition("=")[0]]
    both = outsider.ask("GET", "/api/ingestion/history?page=1&cursor=x")
    assert both.problem == (422, "invalid-request")


def test_an_export_is_whole_and_starts_no_formulas(outsider: Visitor) -> None:
    assert send(outsider, form([("=1+1.txt", b"x"), ('a, "b".txt'.replace('"', "%22"), b"x")])).status == 201
    answer = outsider.ask("GET", f"/api/ingestion/history/export?format=csv&filename={quote('.txt')}")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    head, *lines = answer.body.decode().splitlines()
    assert head == "id,original_filename,stored_filename,size,status,uploaded_at,content_type,error"
    assert any(",'=1+1.txt," in line for line in lines)
    assert any(',"a, ""b"".txt",' in line for line in lines)
    rows = outsider.ask("GET", "/api/ingestion/history/export").json
    assert len(rows) >= len(lines)


def test_a_summary_counts_today(outsider: Visitor) -> None:
    assert send(outsider, WHOLE).status == 201
    document = outsider.ask("GET", "/api/ingestion/history/summary?days=1").json
    assert document["days"] == 1
    assert document["count"] == sum(document["statuses"].values()) == document["items"][0]["count"] >= 2


@pytest.mark.slow
def test_a_killed_service_leaves_nothing_of_a_form_behind(tmp_path: Path) -> None:
    settings = {"HAULIER_JANITOR_INTERVAL_S": "0.2"}
    with serving(tmp_path / "data", settings) as service:
        with Wire(service.port) as wire:
            wire.start("POST", UPLOAD, 10 * MIB, FORM)
            wire.send(form([("a.txt", b"first")])[:-20] + form([("b.txt", b"x" * MIB)])[:-20])
            incoming = service.data_dir / "incoming"
            wait_until(lambda: len(list(incoming.iterdir())) >= 1, "a part is there")
            service.kill()
        service.start()
        found = take_inventory(service.data_dir)
        assert (found.records, stored(service)) == ({}, [])
        # Nobody renews what it left, so it is over in two minutes.
        assert set(found.uploads) <= {"open", "aborted", "expired"}
