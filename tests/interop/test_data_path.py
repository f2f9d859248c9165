"""Bodies through real sockets: the fast way and the ordinary one keep the same promises.

Every test of a body runs both ways, and on both event loops.
"""

import hashlib
import random
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.components import require
from tests.support.raw_http import DEADLINE_S, Line, Served, served

KIB = 1024
MIB = 1024 * KIB
HUGE = 64 * MIB
"""More than any buffer on the way holds."""


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    with served("tests.support.body_server", "--loop", request.param) as running:
        yield running


@pytest.fixture(params=["fast", "messages"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name).translate({ord(c): "-" for c in "[]/+?&=% \r\n"})


def some_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


SIZES = [0, 1, 255 * KIB, 256 * KIB, 256 * KIB + 1, 5 * MIB]


class TestExactBytes:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("deliver", ["at-once", "later"])
    def test_all_bytes_arrive_once_and_in_order(
        self, server: Served, way: str, size: int, deliver: str
    ) -> None:
        data = some_bytes(size)
        with server.line() as line:
            line.put(f"/?way={way}&deliver={deliver}", data)
            result = line.answer().json
        assert (result["end"], result["size"], result["length"]) == ("COMPLETE", size, size)
        assert result["sha256"] == digest(data)
        assert result["kind"] == ("FastBody" if way == "fast" else "AsgiBody")

    @pytest.mark.parametrize("size", SIZES)
    def test_chunked_bodies_have_no_announced_length(self, server: Served, size: int) -> None:
        data = some_bytes(size)
        pieces = [data[at : at + 100_000] for at in range(0, size, 100_000)]
        with server.line() as line:
            line.send(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(*pieces))
            result = line.answer().json
        assert (result["end"], result["size"], result["length"]) == ("COMPLETE", size, None)
        assert result["sha256"] == digest(data)

    def test_requests_in_segments_of_one_byte_are_read(self, server: Served, way: str) -> None:
        data = some_bytes(300)
        request = f"PUT /?way={way} HTTP/1.1\r\nContent-Length: 300\r\n\r\n".encode() + data
        with server.line() as line:
            for byte in request * 2:
                line.send(bytes([byte]))
            answers = [line.answer().json, line.answer().json]
        assert [answer["sha256"] for answer in answers] == [digest(data)] * 2

    def test_requests_behind_a_body_are_answered_in_order(self, server: Served, way: str) -> None:
        bodies = [some_bytes(size, seed) for seed, size in enumerate([3 * MIB, 0, 1, 70_000, 600_000, 10])]
        requests = b"".join(
            f"PUT /?way={way} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            for body in bodies
        )
        with server.line() as line:
            sender = threading.Thread(target=line.send, args=(requests,))
            sender.start()
            answers = [line.answer().json for _ in bodies]
            sender.join(DEADLINE_S)
        assert [answer["sha256"] for answer in answers] == [digest(body) for body in bodies]

    def test_connections_that_share_the_buffer_never_mix(self, server: Served, way: str) -> None:
        bodies = [some_bytes(400_000 + seed, seed) for seed in range(40)]
        lines = [server.line() for _ in bodies]
        for line, body in zip(lines, bodies, strict=True):
            line.put(f"/?way={way}", length=len(body))
        for at in range(0, 400_040, 10_007):
            for line, body in zip(lines, bodies, strict=True):
                line.send(body[at : at + 10_007])
        answers = [line.answer().json["sha256"] for line in lines]
        for line in lines:
            line.socket.close()
        assert answers == [digest(body) for body in bodies]

    def test_http_1_0_is_answered_and_closed(self, server: Served, way: str) -> None:
        with server.line() as line:
            line.send(f"PUT /?way={way} HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc".encode())
            assert line.answer().json["size"] == 3
            assert line.ended()

    def test_head_has_no_body_and_keeps_the_connection(self, server: Served) -> None:
        with server.line() as line:
            line.send(b"HEAD / HTTP/1.1\r\n\r\n")
            status, headers = line._head()
            assert (status, "content-length" in headers) == (200, True)
            line.put("/", b"abc")
            assert line.answer().json["size"] == 3


class TestContinue:
    def test_a_pending_100_is_sent_when_the_body_is_wanted(self, server: Served, way: str) -> None:
        with server.line() as line:
            line.put(f"/?way={way}", length=3, fields="Expect: 100-continue\r\n")
            assert line.answer().status == 100
            line.send(b"abc")
            assert line.answer().json["sha256"] == digest(b"abc")
            line.put(f"/?way={way}", b"more")
            assert line.answer().json["sha256"] == digest(b"more")

    def test_an_early_refusal_comes_instead_of_100(self, server: Served) -> None:
        with server.line() as line:
            line.put("/?unread=413", length=3, fields="Expect: 100-continue\r\n")
            answer = line.answer()
            assert (answer.status, answer.headers["connection"]) == (413, "close")

    def test_no_100_to_a_client_that_did_not_wait(self, server: Served, way: str) -> None:
        with server.line() as line:
            line.put(f"/?way={way}", b"abc", fields="Expect: 100-continue\r\n")
            answer = line.answer()
            if answer.status == 100:  # uvicorn's ordinary way sends it to everybody
                assert way == "messages"
                answer = line.answer()
            assert answer.json["size"] == 3


class TestCuts:
    @pytest.mark.parametrize("end", ["fin", "rst"])
    @pytest.mark.parametrize("deliver", ["at-once", "later"])
    @pytest.mark.parametrize("sent", [0, 1, 2 * MIB])
    def test_what_arrived_before_a_cut_is_delivered(
        self, server: Served, way: str, name: str, end: str, deliver: str, sent: int
    ) -> None:
        data = some_bytes(sent)
        line = server.line()
        line.put(f"/?way={way}&id={name}&deliver={deliver}", length=HUGE)
        line.send(data)
        server.wait_until(f"/size?id={name}", sent)
        line.socket.close() if end == "fin" else line.reset()
        result = server.ask(f"/results?id={name}")
        assert (result["end"], result["sha256"]) == ("CUT", digest(data))

    def test_bytes_and_their_cut_in_one_read_are_both_seen(self, server: Served, way: str, name: str) -> None:
        data = some_bytes(50_000)
        for attempt in range(20):
            with server.line() as line:
                line.put(f"/?way={way}&id={name}{attempt}", length=HUGE)
                line.send(data)
            result = server.ask(f"/results?id={name}{attempt}")
            assert (result["end"], result["sha256"]) == ("CUT", digest(data))

    def test_a_cut_while_a_piece_is_being_stored_keeps_it(self, server: Served, way: str, name: str) -> None:
        data = some_bytes(100_000)
        with server.line() as line:
            line.put(f"/?way={way}&id={name}&deliver=gated", length=HUGE)
            line.send(data[:10])
            server.wait_until(f"/size?id={name}", 0)
            line.send(data[10:])
        server.ask(f"/open?id={name}")
        result = server.ask(f"/results?id={name}")
        assert result["end"] == "CUT"
        assert digest(data[: result["size"]]) == result["sha256"]

    def test_a_whole_body_is_complete_though_its_sender_left(
        self, server: Served, way: str, name: str
    ) -> None:
        data = some_bytes(300_000)
        with server.line() as line:
            line.put(f"/?way={way}&id={name}", data)
        result = server.ask(f"/results?id={name}")
        assert (result["end"], result["sha256"]) == ("COMPLETE", digest(data))

    def test_a_cut_chunked_body_is_cut(self, server: Served, name: str) -> None:
        with server.line() as line:
            line.send(f"PUT /?id={name} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".encode())
            server.wait_until(f"/size?id={name}", 3)
        assert server.ask(f"/results?id={name}")["end"] == "CUT"

    @pytest.mark.parametrize(
        "framing", ["zz\r\n", "-1\r\n", "3\r\nabcd\r\n", "ffffffffffffffffff\r\n", "0x3\r\nabc\r\n"]
    )
    def test_a_bad_chunk_ends_the_body_as_malformed_and_is_answered(
        self, server: Served, name: str, framing: str
    ) -> None:
        with server.line() as line:
            line.send(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + framing.encode())
            answer = line.answer()
            assert (answer.json["end"], answer.headers["connection"]) == ("MALFORMED", "close")
            assert answer.json["size"] in {3, 6}
            assert line.ended()

    def test_silent_bodies_are_cut_and_answered(self, way: str) -> None:
        with served("tests.support.body_server", "--silence-s", "0.2") as server, server.line() as line:
            line.put(f"/?way={way}", length=HUGE)
            line.send(b"abc")
            answer = line.answer()
            assert (answer.json["end"], answer.json["size"], answer.headers["connection"]) == (
                "CUT",
                3,
                "close",
            )

    def test_bodies_that_trickle_are_cut_and_answered(self, way: str) -> None:
        options = ("--silence-s", "30", "--body-speed", "1000000", "--body-window-s", "0.2")
        with served("tests.support.body_server", *options) as server, server.line() as line:
            line.put(f"/?way={way}", length=HUGE)
            answered = False
            while not answered:  # never silent for long, and always too slow
                line.send(b"abc")
                answered = line.readable(0.05)
            answer = line.answer()
            assert (answer.json["end"], answer.headers["connection"]) == ("CUT", "close")
            assert answer.json["size"] >= 3

    def test_a_trickle_in_chunks_is_cut_too(self, way: str) -> None:
        options = ("--silence-s", "30", "--body-speed", "1000000", "--body-window-s", "0.2")
        with served("tests.support.body_server", *options) as server, server.line() as line:
            line.send(f"PUT /?way={way} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            while not line.readable(0.05):
                line.send(b"1\r\na\r\n")
            assert line.answer().json["end"] == "CUT"

    def test_what_we_hold_up_is_not_too_slow(self, way: str, name: str) -> None:
        options = ("--body-speed", "1000000", "--body-window-s", "0.2")
        with served("tests.support.body_server", *options) as server, server.line() as line:
            line.put(f"/?way={way}&id={name}&deliver=gated", some_bytes(2_000_000))
            with server.line() as other:  # its own window ends after ours would have
                other.put("/", length=HUGE)
                assert other.answer().json["end"] == "CUT"
            server.ask(f"/open?id={name}")
            assert line.answer().json["end"] == "COMPLETE"

    def test_a_body_that_we_do_not_read_is_not_silent(self, way: str, name: str) -> None:
        with served("tests.support.body_server", "--silence-s", "0.2") as server, server.line() as line:
            line.put(f"/?way={way}&id={name}&deliver=gated", some_bytes(200_000))
            with server.line() as other:  # its own silence ends after ours would have
                other.put("/", length=HUGE)
                assert other.answer().json["end"] == "CUT"
            server.ask(f"/open?id={name}")
            assert line.answer().json["end"] == "COMPLETE"


class TestStop:
    @pytest.mark.parametrize("deliver", ["at-once", "later"])
    def test_stopping_within_delivery_ends_the_body(self, server: Served, way: str, deliver: str) -> None:
        with server.line() as line:
            line.put(f"/?way={way}&stop_after=1000&deliver={deliver}", length=HUGE)
            line.send(some_bytes(2000))
            answer = line.answer()
        assert (answer.json["end"], answer.headers["connection"]) == ("STOPPED", "close")
        assert answer.json["size"] in {1000, 2000}

    def test_stopping_from_outside_ends_a_quiet_body(self, server: Served, way: str, name: str) -> None:
        with server.line() as line:
            line.put(f"/?way={way}&id={name}", length=HUGE)
            line.send(b"abc")
            server.wait_until(f"/size?id={name}", 3)
            server.ask(f"/stop?id={name}")
            assert line.answer().json["end"] == "STOPPED"
        server.ask(f"/stop?id={name}")  # harmless when it has ended

    def test_a_body_stopped_before_is_not_read(self, server: Served, way: str) -> None:
        with server.line() as line:
            line.put(f"/?way={way}&stop_first=1", b"abc")
            answer = line.answer()
            assert (answer.json["end"], answer.json["size"]) == ("STOPPED", 0)
            line.put(f"/?way={way}", b"abc")
            assert line.answer().json["end"] == "COMPLETE"

    def test_sigterm_lets_running_bodies_go_and_answers_them(self, way: str, name: str) -> None:
        with served("tests.support.body_server") as server, server.line() as line:
            line.put(f"/?way={way}&id={name}", length=HUGE)
            line.send(b"abc")
            server.wait_until(f"/size?id={name}", 3)
            server.process.terminate()
            answer = line.answer()
            assert (answer.json["end"], answer.json["size"]) == ("STOPPED", 3)
            line.socket.close()
            assert server.process.wait(DEADLINE_S) == 0


class TestLimits:
    @pytest.mark.parametrize("deliver", ["at-once", "later"])
    def test_exactly_the_limit_is_delivered(self, server: Served, way: str, deliver: str) -> None:
        data = some_bytes(300_000)
        with server.line() as line:
            line.put(f"/?way={way}&limit=299999&deliver={deliver}", data)
            answer = line.answer()
        assert (answer.json["end"], answer.json["sha256"]) == ("LIMIT", digest(data[:299_999]))

    def test_a_body_as_long_as_the_limit_is_complete(self, server: Served, way: str) -> None:
        with server.line() as line:
            line.put(f"/?way={way}&limit=3", b"abc")
            assert line.answer().json["end"] == "COMPLETE"
            line.put(f"/?way={way}&limit=0", b"")
            assert line.answer().json["end"] == "COMPLETE"
            line.put(f"/?way={way}&limit=0", b"a")
            assert (line.answer().json["end"]) == "LIMIT"

    def test_chunked_bodies_are_limited_too(self, server: Served) -> None:
        with server.line() as line:
            line.send(
                b"PUT /?limit=5 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc", b"def")
            )
            answer = line.answer()
        assert (answer.json["end"], answer.json["sha256"]) == ("LIMIT", digest(b"abcde"))


class TestEarlyAnswers:
    """RFC 9112 section 9.6: whoever is answered can read the answer."""

    @pytest.mark.parametrize(
        "query", ["unread=413", "fail_after=1000000", "limit=1000000", "stop_after=1000000"]
    )
    def test_they_are_readable_by_who_sends_on(self, server: Served, way: str, query: str) -> None:
        data = bytes(HUGE)
        with server.line() as line:
            line.put(f"/?way={way}&{query}", length=4 * HUGE)
            sender = threading.Thread(target=_send_on, args=(line, data))
            sender.start()
            answer = line.answer()
            assert answer.headers["connection"] == "close"
            assert line.ended()
            line.socket.close()
            sender.join(DEADLINE_S)

    @pytest.mark.parametrize("query", ["unread=413", "fail_after=10", "limit=10", "stop_first=1"])
    def test_the_rest_of_a_short_body_is_read_and_the_connection_kept(
        self, server: Served, way: str, query: str
    ) -> None:
        data = some_bytes(100_000)
        with server.line() as line:
            line.put(f"/?way={way}&{query}", length=len(data))
            line.send(data[:50])
            assert line.answer().headers.get("connection") is None
            line.send(data[50:])
            line.put(f"/?way={way}", b"next")
            assert line.answer().json["sha256"] == digest(b"next")

    @pytest.mark.parametrize("query", ["unread=413", "unread=200"])
    def test_a_chunked_body_that_nobody_reads_ends_the_connection(self, server: Served, query: str) -> None:
        with server.line() as line:
            line.send(f"PUT /?{query} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab".encode())
            answer = line.answer()
            assert (str(answer.status), answer.headers["connection"]) == (query[-3:], "close")
            assert line.ended()

    @pytest.mark.parametrize("limit", ["--linger-silence-s", "--linger-s"])
    def test_goodbyes_end(self, way: str, limit: str) -> None:
        with served("tests.support.body_server", limit, "0.2") as server:
            before = server.sockets()
            with server.line() as line:
                line.put(f"/?way={way}&unread=413", length=HUGE)
                assert line.answer().status == 413
                assert line.ended()
                sender = threading.Thread(target=_send_on, args=(line, bytes(MIB)))
                if limit == "--linger-s":
                    sender.start()
                    sender.join(DEADLINE_S)
                server.wait_for_sockets(before)

    def test_curl_reads_an_early_answer(self, server: Served, way: str, tmp_path: Path) -> None:
        big = tmp_path / "big"
        with big.open("wb") as file:
            file.truncate(4 * HUGE)
        for query in ("unread=413", "fail_after=1000000"):
            target = f"http://127.0.0.1:{server.port}/?way={way}&{query}"
            for fields in ([], ["-H", "Expect:"]):
                out = curl(
                    *fields, "-T", str(big), "-w", "%{http_code}", "-o", str(tmp_path / "answer"), target
                )
                assert out == ("413" if "unread" in query else "507")


def _send_on(line: Line, data: bytes) -> None:
    try:
        while True:
            line.send(data)
    except OSError:
        return


def curl(*arguments: str) -> str:
    done = subprocess.run(
        [require("curl"), "-s", "-m", "60", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done
    return done.stdout


@pytest.mark.needs("curl")
class TestCurl:
    """curl waits a second for a 100 that does not come, and offers HTTP/2 on request."""

    @pytest.mark.parametrize(
        "options", [[], ["--http2"], ["--http1.0"], ["-H", "Transfer-Encoding: chunked"]]
    )
    def test_uploads_are_whole(self, server: Served, way: str, tmp_path: Path, options: list[str]) -> None:
        data = some_bytes(3 * MIB)
        (tmp_path / "file").write_bytes(data)
        url = f"http://127.0.0.1:{server.port}/?way={way}"
        assert digest(data) in curl(*options, "-T", str(tmp_path / "file"), url)

    def test_a_100_is_sent_before_curl_gives_up_waiting(
        self, server: Served, way: str, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(bytes(2 * MIB))
        url = f"http://127.0.0.1:{server.port}/?way={way}"
        trace = curl("-v", "--stderr", "-", "--expect100-timeout", "50", "-T", str(tmp_path / "file"), url)
        assert "100 Continue" in trace

    def test_one_connection_serves_many_uploads(self, server: Served, way: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(bytes(MIB))
        url = f"http://127.0.0.1:{server.port}/?way={way}"
        arguments = [part for _ in range(5) for part in ("-T", str(tmp_path / "file"), url)]
        out = curl("-w", "%{num_connects}\n", "-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null",
                   "-o", "/dev/null", "-o", "/dev/null", *arguments)  # fmt: skip
        assert out.split() == ["1", "0", "0", "0", "0"]


class TestBackPressure:
    def test_reading_pauses_while_a_piece_is_being_stored(self, server: Served, way: str, name: str) -> None:
        data = some_bytes(8 * MIB)
        with server.line() as line:
            line.put(f"/?way={way}&id={name}&deliver=gated", length=HUGE)
            line.socket.setblocking(False)
            sent = _send_until_full(line.socket, HUGE, data)
            line.socket.setblocking(True)
            line.socket.settimeout(DEADLINE_S)
            assert sent < HUGE
            server.ask(f"/open?id={name}")
            at = sent
            while at < HUGE:
                at += line.socket.send(_slice(data, at, min(HUGE, at + MIB)))
            result = line.answer().json
        assert (result["end"], result["size"]) == ("COMPLETE", HUGE)
        assert result["sha256"] == digest(data * (HUGE // len(data)))

    def test_a_slow_consumer_gets_all(self, server: Served, way: str) -> None:
        data = some_bytes(20 * MIB)
        with server.line() as line:
            line.put(f"/?way={way}&deliver=later", data)
            assert line.answer().json["sha256"] == digest(data)


def _slice(data: bytes, start: int, stop: int) -> bytes:
    at = start % len(data)
    return data[at : at + stop - start]


def _send_until_full(connection: socket.socket, most: int, data: bytes) -> int:
    """Send until the kernel takes no more for a while that is long for loopback."""
    sent = 0
    while sent < most and select.select([], [connection], [], 0.5)[1]:
        sent += connection.send(_slice(data, sent, min(most, sent + MIB)))
    return sent


class TestTrailers:
    """A trailer is never a header (RFC 9110 section 6.5.1)."""

    TRAILERS = (
        ("authorization", "Bearer stolen"),
        ("cookie", "session=stolen"),
        ("x-forwarded-for", "10.0.0.1"),
    )

    @pytest.mark.parametrize("segments", ["one", "bytes"])
    def test_trailers_never_become_headers(self, server: Served, segments: str) -> None:
        trailers = "".join(f"{name}: {value}\r\n" for name, value in self.TRAILERS)
        request = (
            b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
            + trailers.encode()
            + b"\r\n"
        )
        with server.line() as line:
            for piece in [request] if segments == "one" else [bytes([byte]) for byte in request]:
                line.send(piece)
            result = line.answer().json
            assert (result["end"], result["size"]) == ("COMPLETE", 3)
            assert result["headers"] == [["host", "x"], ["transfer-encoding", "chunked"]]
            assert result["trailers"] == [list(field) for field in self.TRAILERS]
            line.put("/", b"abc")
            assert line.answer().json["trailers"] == []

    @pytest.mark.parametrize("trailer", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
    def test_a_trailer_cannot_change_the_framing(self, server: Served, trailer: bytes) -> None:
        head = b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
        with server.line() as line:
            line.send(head + trailer + b"\r\nPUT / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            answer = line.answer()
            assert answer.json["headers"] == [["host", "x"], ["transfer-encoding", "chunked"]]
            assert (answer.json["end"], answer.headers["connection"]) == ("MALFORMED", "close")

    def test_endless_trailers_end_the_body_as_malformed(self, server: Served) -> None:
        with server.line() as line:
            line.send(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: ")
            sender = threading.Thread(target=_send_on, args=(line, b"a" * 10_000))
            sender.start()
            answer = line.answer()
            line.socket.close()
            sender.join(DEADLINE_S)
        assert (answer.json["end"], answer.headers["connection"]) == ("MALFORMED", "close")

    def test_too_many_trailers_end_the_body_as_malformed(self, server: Served) -> None:
        with server.line() as line:
            line.send(
                b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 101 + b"\r\n"
            )
            assert line.answer().json["end"] == "MALFORMED"


class TestInterim:
    def test_a_104_comes_before_the_answer(self, server: Served) -> None:
        with server.line() as line:
            line.put("/?interim=104", b"abc")
            first, second = line.answer(), line.answer()
        assert (first.status, first.headers) == (104, {"upload-offset": "7"})
        assert second.json["size"] == 3

    def test_http_1_0_has_no_interim_responses(self, server: Served) -> None:
        with server.line() as line:
            line.send(b"PUT /?interim=104 HTTP/1.0\r\n\r\n")
            assert line.answer().status == 500


REFUSED = {
    "both lengths": (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400),
    "both lengths, the other way": (b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", 400),
    "two content lengths": (b"Content-Length: 3\r\nContent-Length: 4\r\n", 400),
    "two equal content lengths": (b"Content-Length: 3\r\nContent-Length: 3\r\n", 400),
    "a list of lengths": (b"Content-Length: 3, 3\r\n", 400),
    "a signed length": (b"Content-Length: +3\r\n", 400),
    "a negative length": (b"Content-Length: -3\r\n", 400),
    "a hexadecimal length": (b"Content-Length: 0x3\r\n", 400),
    "an endless length": (b"Content-Length: 99999999999999999999999999\r\n", 400),
    "no length": (b"Content-Length:\r\n", 400),
    "a space before the colon": (b"Content-Length : 3\r\n", 400),
    "a folded field": (b"X: a\r\n b\r\nContent-Length: 3\r\n", 400),
    "an unknown coding": (b"Transfer-Encoding: xchunked\r\n", 501),
    "a coding after chunked": (b"Transfer-Encoding: chunked, identity\r\n", 400),
    "a coding that we cannot undo": (b"Transfer-Encoding: gzip, chunked\r\n", 501),
    "a nul in a value": (b"X: a\0b\r\nContent-Length: 3\r\n", 400),
    "a bare line feed": (b"X: a\nContent-Length: 3\r\n", 400),
    "too many fields": (b"X: a\r\n" * 101, 431),
    "a long field": (b"X: " + b"a" * 65_536 + b"\r\n", 431),
}


class TestRefusals:
    """RFC 9112 section 6: what two readers could understand differently is refused, and the connection ends."""

    @pytest.mark.parametrize("case", REFUSED)
    def test_ambiguous_requests_are_refused(self, server: Served, case: str) -> None:
        fields, status = REFUSED[case]
        with server.line() as line:
            line.send(b"PUT / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\nabcGET / HTTP/1.1\r\n\r\n")
            answer = line.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            slug = {400: "malformed-request", 431: "head-too-large", 501: "coding-not-supported"}[status]
            assert answer.json["type"] == f"http://127.0.0.1:{server.port}/errors/{slug}"
            assert (answer.json["status"], bool(answer.json["detail"])) == (status, True)
            assert line.ended()

    @pytest.mark.parametrize("version", ["0.9", "1.2", "2.0"])
    def test_other_versions_than_1_0_and_1_1_are_refused(self, server: Served, version: str) -> None:
        with server.line() as line:
            line.send(f"PUT / HTTP/{version}\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".encode())
            assert line.answer().status == 400
            assert line.ended()

    def test_transfer_codings_of_http_1_0_are_refused(self, server: Served) -> None:
        with server.line() as line:
            line.send(b"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc"))
            assert line.answer().status == 400
            assert line.ended()

    @pytest.mark.parametrize(
        "endless", [b"GET /" + b"a" * 200_000, b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000]
    )
    def test_endless_heads_are_refused(self, server: Served, endless: bytes) -> None:
        with server.line() as line:
            sender = threading.Thread(target=_send_slowly, args=(line, endless))
            sender.start()
            assert line.answer().status in {414, 431}
            line.socket.close()
            sender.join(DEADLINE_S)

    @pytest.mark.parametrize("size", [32_768, 65_536, 190_000])
    def test_a_target_beyond_its_limit_is_refused_by_name(self, server: Served, size: int) -> None:
        """RFC 9112 section 3 wants 414; a file name is a field of ours, refused like any other."""
        for target, status, slug in (
            ("/api/files/", 422, "invalid-request"),
            ("/api/records?name=", 414, "target-too-long"),
        ):
            with server.line() as line:
                line.put(target + "a" * size, b"abc")
                answer = line.answer()
                assert (answer.status, answer.headers["connection"]) == (status, "close")
                assert answer.json["type"].endswith(f"/errors/{slug}")
                assert "32768 bytes" in answer.json["detail"]
                assert line.ended()

    def test_a_target_up_to_its_limit_is_heard(self, server: Served) -> None:
        with server.line() as line:
            line.put("/?x=" + "a" * (32_768 - 4), b"abc")
            assert line.answer().json["size"] == 3

    def test_rubbish_behind_a_request_does_not_disturb_its_answer(
        self, server: Served, way: str, name: str
    ) -> None:
        with server.line() as line:
            line.put(f"/?way={way}&id={name}&deliver=gated", b"abc")
            line.send(b"\0rubbish\r\n\r\n")
            server.ask(f"/open?id={name}")
            assert line.answer().json["sha256"] == digest(b"abc")
            # Read before the answer, the rubbish only ends the connection; read after it, it is a request.
            assert line.statuses_to_the_end() in ([], [400])

    def test_upgrades_are_ignored(self, server: Served, way: str) -> None:
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"
        with server.line() as line:
            for body in (b"abc", b"", some_bytes(500_000)):
                line.put(f"/?way={way}", body, fields=upgrade)
                assert line.answer().json["sha256"] == digest(body)
            line.send(f"PUT / HTTP/1.1\r\n{upgrade}Transfer-Encoding: chunked\r\n\r\n".encode())
            line.send(chunked(b"abc", b"def"))
            assert line.answer().json["sha256"] == digest(b"abcdef")

    def test_connect_is_refused(self, server: Served) -> None:
        with server.line() as line:
            line.send(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n")
            assert line.answer().status == 400
            assert line.ended()

    def test_unfinished_heads_are_given_up(self) -> None:
        with served("tests.support.body_server", "--head-s", "0.2") as server, server.line() as line:
            line.put("/", b"abc")
            assert line.answer().status == 200
            line.send(b"GET / HTTP/1.1\r\nHo")
            assert line.answer().status == 408
            assert line.ended()

    def test_idle_connections_are_closed(self) -> None:
        with served("tests.support.body_server", "--keep-alive-s", "0.2") as server, server.line() as line:
            line.put("/", b"abc")
            assert line.answer().status == 200
            assert line.ended()


def _send_slowly(line: Line, data: bytes) -> None:
    try:
        for at in range(0, len(data), 1000):
            line.send(data[at : at + 1000])
    except OSError:
        return
