"""Webhooks against a real HTTP server on this machine: one that takes, fails, hangs, redirects; and across kill -9."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx2
import pytest

from haulier.adapters.signed_posts import PostFailed, SignedPost, Target, require_allowed
from haulier.adapters.webhooks import Endpoint, HttpReceiver
from haulier.core.event import EventKind, Position, Told
from haulier.core.webhook import read_webhook_secret
from haulier.engine.courier import ReceiverFailed
from haulier.testing import ManualClock
from haulier.testing.event_rows_contract import event
from tests.interop.test_feed import request
from tests.support.processes import serving

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
PATIENCE_S = 60.0


class Listener(ThreadingHTTPServer):
    """Keeps what it is sent, and answers as a test says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.connections: set[Any] = set()
        """Where requests came from."""
        self.changed = threading.Condition()
        self.answer: Callable[[int], tuple[int, dict[str, str]]] = lambda _: (204, {})
        self.says: Callable[[Any], bytes] = lambda _document: b""
        """The body of the answer to a document."""
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}/hook?x=1"

    def records(self, kind: str) -> list[str]:
        """Return the records of all events of that kind."""
        documents = [json.loads(body) for _, body in list(self.got)]
        return [each["data"]["record"] for each in documents if each["type"] == kind]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds."""
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE_S), self.got


class _Handler(BaseHTTPRequestHandler):
    server: Listener
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.changed:
            number = len(self.server.got)
            self.server.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.server.connections.add(self.client_address)
            self.server.changed.notify_all()
        status, headers = self.server.answer(number)
        if status == 0:
            self.server.released.wait(PATIENCE_S)
            return
        content = self.server.says(json.loads(body))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def listener() -> Iterator[Listener]:
    """One server a test."""
    server = Listener()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


TOLD = Told(Position(0, 17), event("r"))


async def send(listener: Listener, **options: Any) -> None:
    """Deliver one event."""
    endpoint = Endpoint(
        name="test",
        target=Target(
            url=options.pop("url", listener.url),
            keys=(KEY, KEY[::-1]),
            private=options.pop("private", True),
            timeout_s=options.pop("timeout_s", 15.0),
        ),
        kinds=frozenset(EventKind),
    )
    async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
        await HttpReceiver(endpoint, client=client, clock=ManualClock(), **options).receive(TOLD)


class TestOneDelivery:
    async def test_a_receiver_can_tell_that_it_is_ours(self, listener: Listener) -> None:
        await send(listener)
        ((headers, body),) = listener.got
        assert headers["webhook-id"] == "evt_0-17"
        assert headers["host"] == f"127.0.0.1:{listener.server_port}"
        signed = f"evt_0-17.{headers['webhook-timestamp']}.".encode() + body
        expected = [hmac.new(key, signed, hashlib.sha256).digest() for key in (KEY, KEY[::-1])]
        given = headers["webhook-signature"].split(" ")
        assert given == ["v1," + base64.b64encode(mac).decode() for mac in expected]
        document = json.loads(body)
        assert document["type"] == "record.created"
        assert document["timestamp"] == "2023-11-14T22:13:20.125Z"
        assert document["data"]["record"] == "r"

    @pytest.mark.parametrize("status", [400, 404, 410, 500, 503])
    async def test_a_failure_is_told_by_its_status(self, listener: Listener, status: int) -> None:
        listener.answer = lambda _: (status, {"Retry-After": "7"})
        with pytest.raises(ReceiverFailed, match=f"it answered {status}, a failure") as failed:
            await send(listener)
        assert failed.value.retry_after_s == 7.0

    async def test_a_redirect_is_a_failure_and_not_followed(self, listener: Listener) -> None:
        listener.answer = lambda _: (307, {"Location": listener.url})
        with pytest.raises(ReceiverFailed, match="a redirect, which is not followed"):
            await send(listener)
        assert len(listener.got) == 1

    async def test_one_that_hangs_is_given_up_in_time(self, listener: Listener) -> None:
        listener.answer = lambda _: (0, {})
        with pytest.raises(ReceiverFailed, match=r"no answer within 0\.3 s"):
            await send(listener, timeout_s=0.3)

    async def test_one_that_is_not_there_is_a_failure_without_its_address(self, listener: Listener) -> None:
        with pytest.raises(ReceiverFailed, match="cannot be reached: ConnectError"):
            await send(listener, url="http://127.0.0.1:1/secret")

    async def test_a_private_address_needs_the_operators_word(self, listener: Listener) -> None:
        with pytest.raises(ReceiverFailed, match="set private = true"):
            await send(listener, private=False)
        assert listener.got == []

    async def test_a_name_is_judged_by_the_address_that_is_called(self, listener: Listener) -> None:
        async def find(host: str, port: int) -> Any:
            assert (host, port) == ("hook.example", listener.server_port)
            return [ip_address("127.0.0.1")]

        url = f"http://hook.example:{listener.server_port}/"
        with pytest.raises(ReceiverFailed, match="not public"):
            await send(listener, url=url, private=False, find=find)
        await send(listener, url=url, find=find)

    async def test_a_request_for_one_name_never_goes_over_the_connection_of_another(
        self, listener: Listener
    ) -> None:
        async def find(host: str, port: int) -> Any:
            return [ip_address("127.0.0.1")]

        listener.answer, listener.says = lambda _: (200, {}), lambda _: b"ok"
        async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
            for host in ("a.example", "b.example", "a.example"):
                target = Target(url=f"http://{host}:{listener.server_port}/", keys=(KEY,), private=True)
                post = SignedPost(target, client=client, clock=ManualClock(), find=find)
                assert await post.send("id", b"{}", read=2) == b"ok"
        assert [headers["host"].partition(":")[0] for headers, _ in listener.got] == [
            "a.example",
            "b.example",
            "a.example",
        ]
        assert len(listener.connections) == 3

    async def test_the_next_address_is_tried_where_one_takes_no_connection(self, listener: Listener) -> None:
        async def find(host: str, port: int) -> Any:
            return [ip_address("127.0.0.2"), ip_address("127.0.0.1")]

        await send(listener, url=f"http://hook.example:{listener.server_port}/", find=find)
        assert len(listener.got) == 1

    async def test_a_refusal_of_one_address_is_not_asked_of_the_next(self, listener: Listener) -> None:
        async def find(host: str, port: int) -> Any:
            return [ip_address("127.0.0.1"), ip_address("127.0.0.1")]

        listener.answer = lambda _: (500, {})
        with pytest.raises(ReceiverFailed, match="it answered 500"):
            await send(listener, url=f"http://hook.example:{listener.server_port}/", find=find)
        assert len(listener.got) == 1
        assert listener.got[0][0]["host"] == f"hook.example:{listener.server_port}"


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("93.184.215.14", True, True),
        ("10.0.0.1", False, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("::ffff:10.0.0.1", False, True),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("224.0.0.1", False, False),
        ("0.0.0.0", False, False),
    ],
)
def test_which_addresses_may_be_called(address: str, public: bool, private: bool) -> None:
    def allowed(*, with_private: bool) -> bool:
        try:
            require_allowed(ip_address(address), private=with_private)
        except PostFailed:
            return False
        return True

    assert (allowed(with_private=False), allowed(with_private=True)) == (public, private)


def settings_of(*listeners: Listener) -> dict[str, str]:
    """Return the environment of a service that tells these."""
    webhooks = [
        {"name": f"hook-{number}", "url": listener.url, "secrets": [SECRET], "private": True}
        for number, listener in enumerate(listeners)
    ]
    return {"HAULIER_WEBHOOKS": json.dumps(webhooks)}


class TestService:
    def test_every_upload_is_told_once_by_one_of_several_workers(
        self, tmp_path: Path, listener: Listener
    ) -> None:
        settings = {**settings_of(listener), "HAULIER_WORKERS": "2"}
        with serving(tmp_path / "data", settings) as service:
            made = [
                json.loads(request(service.port, "PUT", f"/api/files/{n}", b"x"))["id"] for n in range(10)
            ]
            listener.wait_for(lambda: len(listener.records("record.completed")) >= 10)
            assert listener.records("record.completed") == made
            assert SECRET not in service.log
            assert "hook?x=1" not in service.log

    def test_nothing_is_lost_when_the_service_is_killed_while_it_delivers(
        self, tmp_path: Path, listener: Listener
    ) -> None:
        made: list[str] = []
        listener.answer = lambda number: (500, {}) if number % 3 == 1 else (204, {})
        settings = settings_of(listener)
        for turn in range(3):
            with serving(tmp_path / "data", settings) as service:  # ends by kill -9
                for number in range(4):
                    answer = request(service.port, "PUT", f"/api/files/{turn}-{number}", b"x")
                    made.append(json.loads(answer)["id"])
        listener.answer = lambda _: (204, {})
        with serving(tmp_path / "data", settings):
            listener.wait_for(lambda: set(listener.records("record.completed")) == set(made))
        ids = [headers["webhook-id"] for headers, _ in listener.got]
        assert sorted(set(ids), key=lambda text: int(text.rpartition("-")[2])) == list(dict.fromkeys(ids))

    def test_a_receiver_that_hangs_holds_up_neither_uploads_nor_others(
        self, tmp_path: Path, listener: Listener
    ) -> None:
        stuck = Listener()
        stuck.answer = lambda _: (0, {})
        with serving(tmp_path / "data", settings_of(stuck, listener)) as service:
            made = json.loads(request(service.port, "PUT", "/api/files/a", b"x"))["id"]
            listener.wait_for(lambda: listener.records("record.completed") == [made])
            stuck.wait_for(lambda: len(stuck.got) == 1)
        stuck.released.set()
        stuck.shutdown()
        stuck.server_close()


def test_the_secret_of_these_tests_is_one() -> None:
    assert read_webhook_secret(SECRET) == KEY
