"""Every endpoint against every kind of caller, over sockets; the table is tests/support/access_table.py.

A refusal must come before the body is read, so nobody is told to send one (100) who is refused for what he is.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.routing import Mount, Route

from haulier.core.values import dataclass
from tests.support.access_table import IN_OPEN_MODE, WITH_TOKENS, Row, read_table, slug_of
from tests.support.callers import TEAM, Person, make_team
from tests.support.outsider import Answer, Outsider
from tests.support.processes import ServeProcess, serving
from tests.support.raw_http import Line
from tests.support.service import MemoryService

NOBODY: Final = 65_534
BYTES: Final = b"hello"
JUDGED_BY_ITS_BODY: Final = frozenset(
    {
        "POST /api/uploads",
        "POST /api/uploads/{upload_id}/finish",
        "POST /api/records",
        "POST /api/records/delete",
        "POST /api/records/{record_id}/links",
    }
)
"""Small JSON bodies, which say what the caller asks for: who is known is judged when they have been read."""


def routes_of(routes: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in routes:
        if isinstance(route, Mount):
            yield from routes_of(route.routes, prefix + route.path)
        else:
            assert isinstance(route, Route), f"{route} is a kind of route that the table does not know"
            for method in route.methods or ():
                yield method, prefix + route.path


@pytest.mark.parametrize("table", [WITH_TOKENS, IN_OPEN_MODE])
def test_every_route_and_method_has_its_row(table: str) -> None:
    routes = list(routes_of(MemoryService().app().routes))
    rows = [(row.method, row.path) for row in read_table(table)]
    assert sorted(rows) == sorted(set(routes))


# --- what is asked ---------------------------------------------------------------------------------


@dataclass
class Asked:
    """A good request to one route, by whoever is let in."""

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    upload_token: str = ""


class World:
    """A service, and what its writer has put into it."""

    def __init__(self, service: ServeProcess, people: dict[str, Person], capsule: str) -> None:
        self.service = service
        self.people = people
        self._capsule = capsule
        self._outsider = Outsider(service.port)
        self._ways: dict[str, Callable[[], tuple[str, dict[str, str], bytes, str]]] = {
            "POST /api/uploads": lambda: ("/api/uploads", _JSON, self._begin_body("chunks"), ""),
            "PATCH /api/uploads/{upload_id}": lambda: self._append("", {"Upload-Offset": "0"}, BYTES),
            "HEAD /api/uploads/{upload_id}": lambda: self._append("", {}, b""),
            "PUT /api/uploads/{upload_id}/chunks/{index}": lambda: self._chunks("/chunks/0", {}, BYTES),
            "POST /api/uploads/{upload_id}/finish": lambda: self._full("/finish", _JSON, b"{}"),
            "GET /api/uploads/{upload_id}/events": lambda: self._ended("/events"),
            "PUT /api/files/{filename:path}": lambda: (f"/api/files/a?capsule={capsule}", {}, BYTES, ""),
            "OPTIONS /tus": lambda: ("/tus", {}, b"", ""),
            "OPTIONS /tus/": lambda: ("/tus/", {}, b"", ""),
            "OPTIONS /tus/{upload_id:path}": lambda: ("/tus/a", {}, b"", ""),
            "POST /tus": lambda: (f"/tus?capsule={capsule}", _CREATE, b"", ""),
            "POST /tus/": lambda: (f"/tus/?capsule={capsule}", _CREATE, b"", ""),
            "POST /tus/{upload_id:path}": lambda: self._tus(
                _APPEND | {"X-HTTP-Method-Override": "PATCH"}, b""
            ),
            "PATCH /tus/{upload_id:path}": lambda: self._tus(_APPEND, BYTES),
            "HEAD /tus/{upload_id:path}": lambda: self._tus(_TUS, b""),
            "DELETE /tus/{upload_id:path}": lambda: self._tus(_TUS, b""),
            "GET /tus/{upload_id:path}": self._whole_tus,
            "OPTIONS /resumable": lambda: ("/resumable", {}, b"", ""),
            "OPTIONS /resumable/": lambda: ("/resumable/", {}, b"", ""),
            "OPTIONS /resumable/{upload_id:path}": lambda: ("/resumable/a", {}, b"", ""),
            "POST /resumable": lambda: (f"/resumable?capsule={capsule}", _PART, b"", ""),
            "POST /resumable/": lambda: (f"/resumable/?capsule={capsule}", _PART, b"", ""),
            "PUT /resumable": lambda: (f"/resumable?capsule={capsule}", _WHOLE, BYTES, ""),
            "PUT /resumable/": lambda: (f"/resumable/?capsule={capsule}", _WHOLE, BYTES, ""),
            "PUT /resumable/{upload_id:path}": lambda: (
                f"/resumable/a?capsule={capsule}",
                _WHOLE,
                BYTES,
                "",
            ),
            "HEAD /resumable/{upload_id:path}": lambda: self._resumable({}, b""),
            "GET /resumable/{upload_id:path}": lambda: self._resumable({}, b""),
            "PATCH /resumable/{upload_id:path}": lambda: self._resumable(_PART_AT_0, BYTES),
            "DELETE /resumable/{upload_id:path}": lambda: self._resumable({}, b""),
            "GET /api/records": lambda: (f"/api/records?capsule={capsule}", {}, b"", ""),
            "POST /api/records": self._detached,
            # 200 for whoever is known: what each caller may not delete is a reason in the answer.
            "POST /api/records/delete": lambda: (
                "/api/records/delete",
                _JSON,
                json.dumps({"ids": [self._record()]}).encode(),
                "",
            ),
            "GET /api/events": lambda: (f"/api/events?capsule={capsule}&follow=false", {}, b"", ""),
            "POST /api/records/{record_id}/restore": self._deleted,
            "GET /page/{name}": lambda: ("/page/small.css", {}, b"", ""),
            "HEAD /page/{name}": lambda: ("/page/small.css", {}, b"", ""),
            "POST /api/records/{record_id}/links": lambda: (
                f"/api/records/{self._record()}/links",
                _JSON,
                b"{}",
                "",
            ),
            "GET /links/{link:path}": self._link,
            "HEAD /links/{link:path}": self._link,
            "POST /api/ingestion/history/{record_id}/restore": self._deleted_from_history,
            "POST /api/ingestion/upload": lambda: (
                f"/api/ingestion/upload?capsule={capsule}",
                _FORM,
                FORM,
                "",
            ),
            "GET /errors/{slug}": lambda: ("/errors/upload-busy", {}, b"", ""),
            "HEAD /errors/{slug}": lambda: ("/errors/upload-busy", {}, b"", ""),
        }

    def asked(self, row: Row) -> Asked:
        """Return a good request for that row, on things that are there for it alone."""
        way = self._ways.get(row.name)
        if way is not None:
            target, headers, body, token = way()
        elif "{upload_id}" in row.path:
            target, headers, body, token = self._chunks("", {}, b"")
        else:
            path = row.path
            if "{record_id}" in path:
                path = path.replace("{record_id}", self._record()).replace("{kind}", "original")
            target, headers, body, token = path, {}, b"", ""
        return Asked(row.method, target, headers, body, token)

    def visit(self) -> str:
        """Return the cookie of a browser that was never here before."""
        answer = self._outsider.ask("GET", "/")
        assert answer.status == 200, answer
        return str(answer.headers["set-cookie"]).partition(";")[0]

    def sign_in(self, who: str) -> str:
        """Return the cookie of a browser that is signed in as one of the people."""
        answer = self._outsider.ask("POST", "/api/session", b"", self.people[who].header)
        assert answer.status == 201, answer
        return str(answer.headers["set-cookie"]).partition(";")[0]

    def begin(self, mode: str, *, lanes: bool = False) -> Any:
        answer = self._ask("POST", "/api/uploads", self._begin_body(mode, lanes=lanes), _JSON)
        assert answer.status == 201, answer
        return answer.json

    def _begin_body(self, mode: str, *, lanes: bool = False) -> bytes:
        wanted = {
            "filename": "a",
            "size": len(BYTES),
            "mode": mode,
            "capsule": self._capsule,
            "lanes": lanes,
        }
        return json.dumps(wanted).encode()

    def _append(
        self, tail: str, headers: dict[str, str], body: bytes
    ) -> tuple[str, dict[str, str], bytes, str]:
        upload = self.begin("append")
        return f"/api/uploads/{upload['id']}{tail}", headers, body, upload["token"]

    def _tus(self, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes, str]:
        upload = self.begin("append")
        return f"/tus/{upload['id']}", headers, body, upload["token"]

    def _resumable(self, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes, str]:
        upload = self.begin("append")
        return f"/resumable/{upload['id']}", headers, body, upload["token"]

    def _whole_tus(self) -> tuple[str, dict[str, str], bytes, str]:
        target, _, _, token = self._tus({}, b"")
        assert self._ask("PATCH", target, BYTES, _APPEND).status == 204
        return target, {}, b"", token

    def _chunks(
        self, tail: str, headers: dict[str, str], body: bytes
    ) -> tuple[str, dict[str, str], bytes, str]:
        upload = self.begin("chunks")
        return f"/api/uploads/{upload['id']}{tail}", headers, body, upload["token"]

    def _full(
        self, tail: str, headers: dict[str, str], body: bytes
    ) -> tuple[str, dict[str, str], bytes, str]:
        target, _, _, token = self._chunks("", {}, b"")
        assert self._ask("PUT", f"{target}/chunks/0", BYTES).status == 204
        return f"{target}{tail}", headers, body, token

    def _ended(self, tail: str) -> tuple[str, dict[str, str], bytes, str]:
        target, _, _, token = self._full("", {}, b"")
        assert self._ask("POST", f"{target}/finish", b"{}", _JSON).status == 200
        return f"{target}{tail}", {}, b"", token

    def _record(self) -> str:
        answer = self._ask("PUT", f"/api/files/a?capsule={self._capsule}", BYTES)
        assert answer.status == 201, answer
        return str(answer.json["id"])

    def _link(self) -> tuple[str, dict[str, str], bytes, str]:
        answer = self._ask("POST", f"/api/records/{self._record()}/links", b"{}", _JSON)
        assert answer.status == 201, answer
        return "/links/" + str(answer.json["url"]).partition("/links/")[2], {}, b"", ""

    def _detached(self) -> tuple[str, dict[str, str], bytes, str]:
        upload = self.begin("chunks", lanes=True)
        target = f"/api/uploads/{upload['id']}"
        assert self._ask("PUT", f"{target}/chunks/0", BYTES).status == 204
        assert self._ask("POST", f"{target}/finish", b"{}", _JSON).status == 200
        wanted = {"capsule": self._capsule, "assets": [{"kind": "original", "upload": upload["id"]}]}
        return "/api/records", _JSON, json.dumps(wanted).encode(), upload["token"]

    def _deleted(self) -> tuple[str, dict[str, str], bytes, str]:
        record = self._record()
        assert self._ask("DELETE", f"/api/records/{record}").status == 204
        return f"/api/records/{record}/restore", {}, b"", ""

    def _deleted_from_history(self) -> tuple[str, dict[str, str], bytes, str]:
        target, headers, body, token = self._deleted()
        return target.replace("/api/records/", "/api/ingestion/history/"), headers, body, token

    def _ask(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        writer = self.people.get("writer")
        credentials = {} if writer is None else writer.header
        return self._outsider.ask(method, target, body, {**credentials, **(headers or {})})


_JSON: Final = {"Content-Type": "application/json"}
_TUS: Final = {"Tus-Resumable": "1.0.0"}
_CREATE: Final = {**_TUS, "Upload-Length": str(len(BYTES))}
_APPEND: Final = {**_TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}


_PART: Final = {"Upload-Complete": "?0"}
_WHOLE: Final = {"Upload-Complete": "?1"}
_PART_AT_0: Final = {**_PART, "Upload-Offset": "0", "Content-Type": "application/partial-upload"}
_FORM: Final = {"Content-Type": "multipart/form-data; boundary=b"}
FORM: Final = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.json"\r\n\r\n[1]\r\n--b--\r\n'


@dataclass(frozen=True)
class Told:
    """What came back: the status, the problem's slug, and whether a body was asked for first."""

    status: int
    slug: str | None
    continued: bool


def ask(line: Line, asked: Asked, headers: dict[str, str], *, keep_body: bool) -> Told:
    """Send a request. `keep_body`: wait for 100 before its body is sent, as careful clients do."""
    fields = {**asked.headers, "Connection": "close", **headers}
    if asked.body or asked.method in {"PUT", "PATCH", "POST"}:
        fields["Content-Length"] = str(len(asked.body))
    if keep_body and asked.body:
        fields["Expect"] = "100-continue"
    head = [
        f"{asked.method} {asked.target} HTTP/1.1",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    line.send("\r\n".join([*head, "", ""]).encode() + (b"" if "Expect" in fields else asked.body))
    status, continued = line.status(), False
    if status == 100:
        continued = True
        line.send(asked.body)
        status = line.status()
    text = line.rest()
    is_problem = status >= 400 and asked.method != "HEAD"
    return Told(status, json.loads(text)["type"].rpartition("/")[2] if is_problem else None, continued)


def expected(row: Row, who: str, mode: str) -> Told:
    status = row.statuses[who]
    refused = status >= 400
    guarded = status in {401, 421} or who == "page" or (mode == "open" and who != "visitor")
    continued = not refused or (row.name in JUDGED_BY_ITS_BODY and not guarded)
    slug = slug_of(row, who, status, mode) if refused and row.method != "HEAD" else None
    return Told(status, slug, continued and has_body(row))


def has_body(row: Row) -> bool:
    return (
        row.method in {"PUT", "PATCH"}
        or row.name in JUDGED_BY_ITS_BODY
        or row.name == "POST /api/ingestion/upload"
    )


# --- with tokens -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A service with tokens; limits that one writer's many uploads do not reach."""
    data: Path = tmp_path_factory.mktemp("closed") / "data"
    people = make_team(data, admits_visitors=True)
    # Bad tokens come by the hundred here, all from one address.
    limits = {"HAULIER_MAX_ACTIVE_SESSIONS": "10000", "HAULIER_RATE_OF_FAILURES": "0"}
    with serving(data, limits) as service:
        yield World(service, people, TEAM)


@pytest.mark.parametrize("row", read_table(WITH_TOKENS), ids=lambda row: row.name)
def test_with_tokens_each_caller_gets_what_the_table_says(closed: World, row: Row) -> None:
    found, wanted = {}, {who: expected(row, who, "token") for who in row.statuses}
    other = closed.begin("chunks")["token"]
    signed_in = closed.sign_in("owner")
    for who in row.statuses:
        asked = closed.asked(row)
        tokens = {"own": asked.upload_token or other, "other": other}
        tokens |= {name: person.token for name, person in closed.people.items()}
        headers = {"Host": f"127.0.0.1:{closed.service.port}"}
        if who == "visitor":
            headers["Cookie"] = closed.visit()
        elif who == "page":
            headers |= {"Cookie": signed_in, "Origin": "https://evil.example"}
        elif who != "nobody":
            headers["Authorization"] = f"Bearer {tokens[who]}"
        with Line(closed.service.port) as line:
            found[who] = ask(line, asked, headers, keep_body=True)
    assert found == wanted


@pytest.mark.parametrize("row", read_table(WITH_TOKENS), ids=lambda row: row.name)
def test_with_tokens_a_rebound_name_reaches_nothing(closed: World, row: Row) -> None:
    asked = closed.asked(row)
    headers = {"Host": f"evil.example:{closed.service.port}", **closed.people["operator"].header}
    with Line(closed.service.port) as line:
        told = ask(line, asked, headers, keep_body=True)
    if row.path in {"/healthz", "/readyz"}:
        assert told.status == 200
    else:
        assert (told.status, told.continued) == (421, False)


# --- in open mode ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A service without tokens."""
    with serving(tmp_path_factory.mktemp("opened") / "data") as service:
        yield World(service, {}, "default")


@contextmanager
def connected(port: int, who: str) -> Iterator[Line]:
    """Connect, as another user of this machine where that is asked for."""
    if who == "neighbour":
        os.seteuid(NOBODY)
    try:
        line = Line(port)
    finally:
        if who == "neighbour":
            os.seteuid(0)
    with line:
        yield line


@pytest.mark.parametrize("who", ["self", "page", "rebound", "neighbour", "visitor"])
@pytest.mark.parametrize("row", read_table(IN_OPEN_MODE), ids=lambda row: row.name)
def test_in_open_mode_each_caller_gets_what_the_table_says(opened: World, row: Row, who: str) -> None:
    if who == "neighbour" and os.geteuid() != 0:
        pytest.skip("only root can be somebody else for a moment")
    own = f"127.0.0.1:{opened.service.port}"
    headers = {"Host": f"evil.example:{opened.service.port}" if who == "rebound" else own}
    if who == "page":
        headers |= {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    if who == "visitor":
        headers["Cookie"] = opened.visit()
    asked = opened.asked(row)
    with connected(opened.service.port, who) as line:
        assert ask(line, asked, headers, keep_body=True) == expected(row, who, "open")
