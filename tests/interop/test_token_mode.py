"""A real service with tokens: who it believes, how much it takes, and what it says and logs of secrets."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from haulier.core.caller import Scope
from tests.support.callers import TEAM, Person, make_team, make_token, revoke_tokens
from tests.support.outsider import Answer, Outsider, Wire
from tests.support.processes import ServeProcess, serving, wait_until
from tests.support.raw_http import Line

CLIENT = "198.51.100.7"
OTHER = "198.51.100.8"
PUBLIC = "https://files.example/up"


@contextmanager
def closed(
    folder: Path, *, admits_visitors: bool = False, **settings: str
) -> Iterator[tuple[ServeProcess, dict[str, Person]]]:
    """Run a service that knows the team."""
    people = make_team(folder / "data", admits_visitors=admits_visitors)
    with serving(
        folder / "data", {f"HAULIER_{name.upper()}": value for name, value in settings.items()}
    ) as service:
        yield service, people


def ask(
    service: ServeProcess, who: Person | None, method: str, target: str, body: bytes = b"", **fields: str
) -> Answer:
    headers: dict[str, str] = {} if who is None else who.header
    return Outsider(service.port).ask(
        method, target, body, {**headers, **{name.replace("_", "-"): value for name, value in fields.items()}}
    )


def bad(token: str) -> Person:
    return Person("nobody", token)


# --- credentials -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServeProcess, dict[str, Person]]]:
    with closed(tmp_path_factory.mktemp("team"), rate_of_failures="0") as running:
        yield running


Team = tuple[ServeProcess, dict[str, Person]]


def test_who_sends_no_token_is_asked_for_one(team: Team) -> None:
    answer = ask(team[0], None, "GET", "/api/records")
    assert answer.problem == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == 'Bearer realm="haulier"'


@pytest.mark.parametrize(
    ("field", "word"),
    [
        ("Basic YTpi", "must be Bearer"),
        ("Bearer", "must be Bearer"),
        ("Bearer a b", "must be Bearer"),
        ("Bearer caf\xe9", "must be Bearer"),
        ("Bearer " + "a" * 2000, "must be Bearer"),
        ("Bearer hl_nonsense", "token"),
        ('Bearer "', "must be Bearer"),
    ],
)
def test_what_is_no_good_token_is_told_so_and_never_repeated(team: Team, field: str, word: str) -> None:
    answer = ask(team[0], None, "GET", "/api/records", Authorization=field)
    assert answer.problem == (401, "unauthenticated")
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="haulier", error="invalid_token", error_description="')
    assert word in challenge
    assert field.partition(" ")[2] not in answer.json["detail"] or len(field) < 10


def test_a_token_whose_time_is_over_is_told_so(team: Team) -> None:
    answer = ask(team[0], team[1]["expired"], "GET", "/api/records")
    assert answer.problem == (401, "unauthenticated")
    assert "expired" in answer.json["detail"]
    assert "expired" in answer.headers["www-authenticate"]


def test_two_tokens_are_one_too_many(team: Team) -> None:
    service, people = team
    with Wire(service.port) as wire:
        connection = wire._connection
        connection.putrequest("GET", "/api/records")
        for _ in range(2):
            connection.putheader("Authorization", people["owner"].header["Authorization"])
        connection.endheaders()
        assert wire.answer().problem == (401, "unauthenticated")


def test_what_does_not_exist_is_not_told_from_what_does(team: Team) -> None:
    service, people = team
    answers = [
        ask(service, who, "GET", target)
        for who in (None, bad("hl_bad"), people["expired"])
        for target in (
            "/api/records/0",
            "/nothing",
            "/api/uploads/x",
            "/api/records",
            "//",
            "/api/operators/stats",
        )
    ]
    assert {answer.problem for answer in answers} == {(401, "unauthenticated")}


def test_a_token_that_is_revoked_counts_no_more_at_once(tmp_path: Path) -> None:
    with closed(tmp_path) as (service, people):
        assert ask(service, people["owner"], "GET", "/api/records").status == 200
        revoke_tokens(tmp_path / "data")
        assert ask(service, people["owner"], "GET", "/api/records").problem == (401, "unauthenticated")


def test_a_token_that_is_made_while_the_service_runs_counts_at_once(team: Team) -> None:
    late = make_token(team[0].data_dir, "late")
    assert ask(team[0], late, "GET", "/api/records").status == 200


def test_secrets_are_in_no_line_of_the_log(team: Team) -> None:
    service, people = team
    upload = ask(
        service,
        people["writer"],
        "POST",
        "/api/uploads",
        b'{"filename": "a", "size": 5, "capsule": "team"}',
        Content_Type="application/json",
    ).json
    own = Person("own", upload["token"])
    assert (
        ask(
            service, own, "PUT", f"/api/uploads/{upload['id']}/chunks/0?token={upload['token']}", b"hello"
        ).status
        == 204
    )
    ask(service, own, "GET", "/api/records")
    ask(service, bad("hl_some-wrong-token"), "GET", "/api/records")
    ask(service, None, "GET", f"/api/records?token={people['owner'].token}")
    secrets = [upload["token"], "some-wrong-token", *(person.token for person in people.values())]
    assert [secret for secret in secrets if secret in service.log] == []


# --- proxies and names -----------------------------------------------------------------------------


def test_links_have_the_public_address_and_problems_too(tmp_path: Path) -> None:
    with closed(tmp_path, public_url=PUBLIC) as (service, people):
        writer = people["writer"]
        answer = ask(service, writer, "PUT", f"/api/files/a?capsule={TEAM}", b"hello", Host="files.example")
        assert answer.headers["location"].startswith(f"{PUBLIC}/api/uploads/")
        assert answer.json["assets"][0]["url"].startswith(f"{PUBLIC}/api/records/")
        for host in ("files.example", "files.example:443", f"127.0.0.1:{service.port}"):
            begun = Outsider(service.port).post(
                "/api/uploads", {"filename": "a", "size": 1, "capsule": TEAM}, {**writer.header, "Host": host}
            )
            assert {link.startswith(f"{PUBLIC}/") for link in begun.json["links"].values()} == {True}
        refused = ask(service, None, "GET", "/api/records", Host="files.example")
        assert refused.json["type"] == f"{PUBLIC}/errors/unauthenticated"
        # A proxy may leave the path, or take it away.
        for target in ("/up/api/records", "/api/records"):
            assert ask(service, writer, "GET", target, Host="files.example").status == 200
        assert ask(service, None, "GET", "/up/healthz").status == 200
        assert ask(service, None, "GET", "/up/api/records").status == 401
        refused = ask(service, writer, "GET", "/api/records", Host="evil.example")
        assert refused.problem == (421, "host-refused")
        assert refused.json["type"].startswith(PUBLIC)


FORWARDED: Mapping[str, Any] = {
    "X_Forwarded_For": CLIENT, "X_Forwarded_Proto": "https", "X_Forwarded_Host": "files.example",
    "X_Forwarded_Prefix": "/in",
}  # fmt: skip


def test_a_trusted_proxy_is_believed(tmp_path: Path) -> None:
    with closed(tmp_path, trusted_proxies="127.0.0.1", allowed_host="files.example") as (service, people):
        answer = ask(service, people["writer"], "PUT", f"/api/files/a?capsule={TEAM}", b"hello", **FORWARDED)
        assert answer.headers["location"].startswith("https://files.example/in/api/uploads/")
        wrong: Any = {**FORWARDED, "X_Forwarded_Host": "evil.example"}
        assert ask(service, people["writer"], "GET", "/api/records", **wrong).problem == (421, "host-refused")


def test_nobody_else_is_believed(tmp_path: Path) -> None:
    with closed(tmp_path, trusted_proxies="192.0.2.1", allowed_host="files.example") as (service, people):
        answer = ask(service, people["writer"], "PUT", f"/api/files/a?capsule={TEAM}", b"hello", **FORWARDED)
        assert answer.headers["location"].startswith(f"{service.url}/api/uploads/")


# --- limits ----------------------------------------------------------------------------------------


def wait_of(answer: Answer) -> int:
    assert answer.problem == (429, "rate-limited")
    assert 0 < answer.json["retry_after_s"] <= int(answer.headers["retry-after"])
    return int(answer.headers["retry-after"])


def test_guessing_from_one_address_stops_and_others_go_on(tmp_path: Path) -> None:
    with closed(tmp_path, trusted_proxies="127.0.0.1", rate_of_failures="2") as (service, people):
        assert ask(service, people["owner"], "GET", "/api/records", X_Forwarded_For=CLIENT).status == 200
        guesses = [ask(service, bad("hl_x"), "GET", "/", X_Forwarded_For=CLIENT).status for _ in range(4)]
        assert guesses == [401, 401, 429, 429]
        assert 1 <= wait_of(ask(service, bad("hl_x"), "GET", "/", X_Forwarded_For=CLIENT)) <= 30
        # A good token that nobody has seen yet could be the next guess; one that was seen is none.
        assert wait_of(ask(service, people["reader"], "GET", "/", X_Forwarded_For=CLIENT))
        assert ask(service, people["owner"], "GET", "/", X_Forwarded_For=CLIENT).status == 200
        assert ask(service, people["reader"], "GET", "/", X_Forwarded_For=OTHER).status == 200
        assert ask(service, None, "GET", "/api/records", X_Forwarded_For=CLIENT).status == 401


def test_an_owner_has_a_rate(tmp_path: Path) -> None:
    with closed(tmp_path, rate_per_owner="0.01") as (service, people):
        assert ask(service, people["owner"], "GET", "/api/records").status == 200
        assert 90 <= wait_of(ask(service, people["owner"], "GET", "/api/records")) <= 100
        assert ask(service, people["reader"], "GET", "/api/records").status == 200
        assert ask(service, None, "GET", "/healthz").status == 200


def test_an_address_has_a_rate_whoever_asks(tmp_path: Path) -> None:
    with closed(tmp_path, rate_per_address="0.01", trusted_proxies="127.0.0.1") as (service, people):
        assert ask(service, None, "GET", "/api/records", X_Forwarded_For=CLIENT).status == 401
        assert wait_of(ask(service, people["owner"], "GET", "/", X_Forwarded_For=CLIENT))
        assert ask(service, people["owner"], "GET", "/", X_Forwarded_For=OTHER).status == 200


def running_bodies(service: ServeProcess, operator: Person) -> int:
    text = ask(service, operator, "GET", "/metrics").body.decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return int(float(lines["haulier_running_bodies"]))


@pytest.mark.parametrize("kind", ["owner", "address"])
def test_bodies_at_once_are_limited(tmp_path: Path, kind: str) -> None:
    limits: dict[str, Any] = {f"max_bodies_per_{kind}": "1"}
    with closed(tmp_path, **limits) as (service, people), Wire(service.port) as running:
        writer, target = people["writer"], f"/api/files/a?capsule={TEAM}"
        running.start("PUT", target, 10, writer.header)
        running.send(b"hello")
        wait_until(lambda: running_bodies(service, people["operator"]) == 1, "the first body is under way")
        with Wire(service.port) as second:
            # The refusal comes while the first body is still under way, without the second one's.
            second.start("PUT", target, 10, {**writer.header, "Expect": "100-continue"})
            refused = second.answer()
        assert wait_of(refused) == 1
        assert ask(service, writer, "GET", "/api/records").status == 200
        if kind == "owner":
            assert ask(service, people["fellow"], "PUT", target, b"hello").status == 201
        running.send(b"world")
        assert running.answer().status == 201
        assert ask(service, writer, "PUT", target, b"hello").status == 201


@pytest.mark.parametrize("kind", ["owner", "address"])
def test_streams_and_waits_at_once_are_limited(tmp_path: Path, kind: str) -> None:
    limits: dict[str, Any] = {f"max_waits_per_{kind}": "2"}
    with closed(tmp_path, **limits) as (service, people), ExitStack() as open_ones:
        writer = people["writer"]
        begun = Outsider(service.port).post(
            "/api/uploads", {"filename": "a", "size": 1, "capsule": TEAM}, writer.header
        )
        upload = f"/api/uploads/{begun.json['id']}"
        for path in ("/api/events", f"{upload}/events"):
            line = open_ones.enter_context(Line(service.port))
            fields = "".join(f"{name}: {value}\r\n" for name, value in writer.header.items())
            line.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n{fields}\r\n".encode())
            assert line.status() == 200
        for path in ("/api/events", f"{upload}/events", f"{upload}?wait=30"):
            assert wait_of(ask(service, writer, "GET", path)) == 1
        assert ask(service, writer, "GET", upload).status == 200
        if kind == "owner":
            assert ask(service, people["fellow"], "GET", "/api/events?follow=false").status == 200
        open_ones.close()

        def there_is_room() -> bool:
            return ask(service, writer, "GET", f"{upload}?wait=0.01").status == 200

        wait_until(there_is_room, "those who left have given their places back")


def test_a_user_has_fewer_live_uploads_than_the_local_owner(tmp_path: Path) -> None:
    with closed(tmp_path, max_active_sessions="2") as (service, people):
        outsider = Outsider(service.port)

        def begin(who: Person) -> Answer:
            return outsider.post("/api/uploads", {"filename": "a", "size": 1, "capsule": TEAM}, who.header)

        assert [begin(people["writer"]).status for _ in range(3)] == [201, 201, 429]
        assert begin(people["fellow"]).status == 201


FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.json"\r\n\r\n[1]\r\n--b--\r\n'
BEGINS: Mapping[str, tuple[str, str, Mapping[str, str], bytes]] = {
    "native": ("POST", "/api/uploads", {"Content-Type": "application/json"}, b'{"filename":"a","size":1}'),
    "short file": ("PUT", "/api/files/a", {}, b"x"),
    "long file": ("PUT", "/api/files/a", {}, b"x" * 100_000),
    "tus": ("POST", "/tus/", {"Tus-Resumable": "1.0.0", "Upload-Length": "1"}, b""),
    "resumable": ("POST", "/resumable/", {"Upload-Draft-Interop-Version": "8", "Upload-Complete": "?0"}, b""),
    "form": (
        "POST", f"/api/ingestion/upload?capsule={TEAM}", {"Content-Type": "multipart/form-data; boundary=b"}, FORM
    ),
}  # fmt: skip
"""Every way in which something is begun."""


def test_an_address_has_so_many_live_uploads_whoever_begins_them_and_however(tmp_path: Path) -> None:
    limits = {"max_active_sessions_per_address": "2", "trusted_proxies": "127.0.0.1"}
    with closed(tmp_path, admits_visitors=True, **limits) as (service, people):
        outsider = Outsider(service.port)

        def begin(who: Person | None, way: str, address: str) -> Answer:
            method, target, fields, body = BEGINS[way]
            sent = {**fields, "X-Forwarded-For": address, **({} if who is None else who.header)}
            return outsider.ask(method, target, body, sent)

        first = begin(people["writer"], "native", CLIENT)
        assert (first.status, begin(people["fellow"], "tus", CLIENT).status) == (201, 201)
        for way in BEGINS:
            refused = begin(people["owner"], way, CLIENT)
            assert refused.problem == (429, "quota-exceeded"), way
            told = [refused.json[name] for name in ("resource", "limit", "per")]
            assert (told, refused.headers["retry-after"]) == (["sessions", 2, "address"], "10")
        # A visitor's form too; who comes from elsewhere, and what has begun, is not stopped.
        assert begin(None, "form", CLIENT).problem == (429, "quota-exceeded")
        assert begin(None, "form", OTHER).status == 201
        assert begin(people["owner"], "long file", OTHER).status == 201
        upload, sender = f"/api/uploads/{first.json['id']}", people["writer"]
        assert ask(service, sender, "PUT", f"{upload}/chunks/0", b"x", X_Forwarded_For=CLIENT).status == 204
        finished = outsider.post(f"{upload}/finish", {}, {**sender.header, "X-Forwarded-For": CLIENT})
        assert finished.status == 200
        assert begin(people["owner"], "native", CLIENT).status == 201


# --- web pages -------------------------------------------------------------------------------------


def test_a_page_of_an_allowed_origin_may_send_its_token(tmp_path: Path) -> None:
    with closed(tmp_path, cors_origin="https://app.example") as (service, people):
        asked: Any = {
            "Access_Control_Request_Method": "PUT",
            "Access_Control_Request_Headers": "authorization",
        }
        answer = ask(service, None, "OPTIONS", "/api/files/a", Origin="https://app.example", **asked)
        assert answer.status == 204
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        refused = ask(service, None, "GET", "/api/records", Origin="https://app.example")
        assert refused.headers["access-control-allow-origin"] == "https://app.example"
        assert "WWW-Authenticate" in refused.headers["access-control-expose-headers"]
        told = ask(service, people["owner"], "GET", "/api/records", Origin="https://app.example")
        assert (told.status, told.headers["access-control-allow-origin"]) == (200, "https://app.example")
        foreign = ask(service, None, "OPTIONS", "/api/files/a", Origin="https://evil.example", **asked)
        assert not [name for name in foreign.headers if name.startswith("access-control-allow")]


def test_operators_scrape_with_their_token(tmp_path: Path) -> None:
    with closed(tmp_path) as (service, people):
        assert b"haulier_live_sessions" in ask(service, people["operator"], "GET", "/metrics").body
        assert ask(service, people["owner"], "GET", "/metrics").problem == (403, "access-denied")
        limited = make_token(service.data_dir, "operator", Scope.OWNER)
        assert ask(service, limited, "GET", "/metrics").status == 403
