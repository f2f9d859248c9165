"""SIGTERM while a request is held up by whoever was asked about it: nobody is told that a file is not stored which then is."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.test_webhooks import SECRET, Listener
from tests.support.data_directory import take_inventory
from tests.support.outsider import NO_ANSWER, Answer, Outsider
from tests.support.processes import ServeProcess, serving
from tests.support.resumable import Draft
from tests.support.tus import MEDIA_TYPE, TusClient

DATA = b"bytes that come in one request\n"
Send = Callable[[int], Answer]


@pytest.fixture
def gate() -> Iterator[Listener]:
    """Who is asked at every begin and finish, and does not answer at a finish."""
    server = Listener()
    hang(server, "upload.finish")
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def hang(gate: Listener, at: str) -> None:
    """Let it answer all but one of its questions."""
    gate.answer = lambda number: (0 if asked(gate)[number] == at else 200, {})


def asked(gate: Listener) -> list[str]:
    """Return what it was asked."""
    return [json.loads(body)["type"] for _, body in list(gate.got)]


@pytest.fixture(params=[1, 2], ids=["alone", "two-workers"])
def service(request: pytest.FixtureRequest, gate: Listener, tmp_path: Path) -> Iterator[ServeProcess]:
    hook = {"url": gate.url, "secrets": [SECRET], "private": True, "fail": "closed", "timeout_s": 20.0}
    settings = {
        "HAULIER_HOOKS": json.dumps([{**hook, "on": on} for on in ("begin", "finish")]),
        "HAULIER_WORKERS": str(request.param),
    }
    with serving(tmp_path / "data", settings) as running:
        yield running


class Held:
    """A request that is held up."""

    def __init__(
        self, gate: Listener, service: ServeProcess, send: Send, *, at: str = "upload.finish"
    ) -> None:
        self.answer: Answer | None = None
        self._sending = threading.Thread(target=self._send, args=(send, service.port))
        self._sending.start()
        gate.wait_for(lambda: at in asked(gate))

    def _send(self, send: Send, port: int) -> None:
        with contextlib.suppress(*NO_ANSWER):
            self.answer = send(port)

    def end(self) -> Answer | None:
        """Wait for its answer; None: it got none."""
        self._sending.join()
        return self.answer


def stop_and_release(service: ServeProcess, gate: Listener, held: Held) -> Answer | None:
    """Stop the service under the request, and start it again where all is well; return what the request was told."""
    assert service.stop() == 0
    answer = held.end()
    assert "Traceback" not in service.log, service.log
    gate.answer = lambda _: (200, {})
    service.start()
    return answer


def put(port: int) -> Answer:
    return Outsider(port).ask("PUT", "/api/files/a.txt", DATA)


def put_with_a_key(port: int) -> Answer:
    return Outsider(port).ask("PUT", "/api/files/a.txt", DATA, {"Idempotency-Key": "one"})


def put_nothing(port: int) -> Answer:
    return Outsider(port).ask("PUT", "/api/files/a.txt")


def form(port: int) -> Answer:
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    return Outsider(port).ask("POST", "/api/ingestion/upload", head + DATA + b"\r\n--x--\r\n", kind)


def tus_creation(port: int) -> Answer:
    return TusClient(port).post(DATA, {**MEDIA_TYPE, "Upload-Length": str(len(DATA))})


def completed(service: ServeProcess) -> list[Any]:
    return [record for record in Outsider(service.port).records() if record["status"] == "completed"]


@pytest.mark.parametrize("send", [put, put_nothing, form, tus_creation])
def test_what_nobody_can_ask_for_is_told_as_failed_and_is_not_stored_later(
    service: ServeProcess, gate: Listener, send: Send
) -> None:
    answer = stop_and_release(service, gate, Held(gate, service, send))
    assert answer is not None
    assert answer.problem == (503, "service-stopping")
    assert send(service.port).status == 201
    assert len(completed(service)) == 1
    found = take_inventory(service.data_dir)
    assert (len(found.named_blobs), found.uploads) == (1, {"failed": 1, "committed": 1})
    assert (found.parts, found.blobs.keys() - found.named_blobs) == (frozenset(), set())


def test_who_hangs_where_nobody_can_know_the_end_is_told_nothing(
    service: ServeProcess, gate: Listener
) -> None:
    hang(gate, "upload.begin")
    assert stop_and_release(service, gate, Held(gate, service, put, at="upload.begin")) is None
    assert put(service.port).status == 201
    assert take_inventory(service.data_dir).uploads == {"committed": 1}


def test_an_upload_with_a_key_is_finished_after_the_restart(service: ServeProcess, gate: Listener) -> None:
    answer = stop_and_release(service, gate, Held(gate, service, put_with_a_key))
    assert answer is not None
    assert answer.problem == (503, "service-stopping")
    assert put_with_a_key(service.port).status == 200
    assert len(completed(service)) == 1


def test_the_last_patch_of_tus_is_finished_after_the_restart(service: ServeProcess, gate: Listener) -> None:
    upload = TusClient(service.port).create(len(DATA))
    held = Held(gate, service, lambda port: TusClient(port).patch(upload, 0, DATA))
    answer = stop_and_release(service, gate, held)
    assert answer is not None
    assert answer.problem == (503, "service-stopping")
    tus = TusClient(service.port)
    assert tus.offset(upload) == len(DATA)
    assert tus.content(upload) == DATA
    assert len(completed(service)) == 1


def test_a_resumable_upload_is_finished_after_the_restart(service: ServeProcess, gate: Listener) -> None:
    upload = Draft(service.port).begin(len(DATA))
    held = Held(gate, service, lambda port: Draft(port).patch(upload, 0, DATA, complete=True))
    answer = stop_and_release(service, gate, held)
    assert answer is not None
    assert answer.problem == (503, "service-stopping")
    head = Draft(service.port).head(upload)
    assert (head.headers["upload-offset"], head.headers["upload-complete"]) == (str(len(DATA)), "?1")
    assert len(completed(service)) == 1
