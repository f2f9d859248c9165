"""The body writer and servers that behave as servers do: on time, early, late, half, and never."""

import asyncio
import hashlib
import os
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from haulier.adapters.clock import SystemClock
from haulier.body import BodyWriter
from haulier.body.exchange import PIECE, Exchange
from haulier.body.writer import END
from haulier.core.errors import InvalidRequest, PeerUnreachable, SourceChanged
from haulier.core.values import dataclass
from haulier.engine.throttle import Bandwidth
from haulier.sending_ports import Cargo, Source
from haulier.testing.remote_contract import OpenedFile
from tests.support.components import require
from tests.support.fault_plan import Drop, Flow, Plan
from tests.support.fault_proxy import FaultProxy
from tests.support.files import MIB, make_file

OK = b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\nX-Note: kept\r\n\r\ndone"
FULL = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 4\r\n\r\nfull"


@dataclass
class Request:
    head: str
    digest: str
    size: int


@dataclass
class Seen:
    """What a server saw."""

    requests: list[Request] = field(default_factory=list)
    connections: int = 0


Way = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Seen], Awaitable[None]]


async def read_head(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")


def length_of(head: str) -> int:
    return next(int(line[16:]) for line in head.splitlines() if line.startswith("Content-Length: "))


async def read_request(reader: asyncio.StreamReader, seen: Seen) -> None:
    head = await read_head(reader)
    left, digest = length_of(head), hashlib.sha256()
    size = left
    while left:
        piece = await reader.read(min(left, MIB))
        if not piece:
            raise ConnectionResetError
        digest.update(piece)
        left -= len(piece)
    seen.requests.append(Request(head, digest.hexdigest(), size))


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
    """Read whole requests and answer them, as long as there are any."""
    while True:
        await read_request(reader, seen)
        writer.write(OK)


@asynccontextmanager
async def server(way: Way, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, Seen]]:
    seen = Seen()
    serving: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        serving.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await way(reader, writer, seen)
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield int(running.sockets[0].getsockname()[1]), seen
    finally:
        running.close()
        for task in serving:
            assert task is not None
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)  # type: ignore[arg-type]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[OpenedFile]:
    opened = OpenedFile(make_file(tmp_path / "source.bin", 6 * MIB + 7))
    yield opened
    opened.close()


@pytest.fixture
async def writer() -> AsyncIterator[BodyWriter]:
    made = BodyWriter(connections=4, silence_s=20)
    yield made
    await made.close()


def whole(source: Source, **more: object) -> Cargo:
    return Cargo(source=source, start=0, stop=source.size, **more)  # type: ignore[arg-type]


def digest(source: OpenedFile, start: int, stop: int) -> str:
    return hashlib.sha256(source.read(start, stop)).hexdigest()


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/files/a%20b?x=1"


class TestBody:
    async def test_the_bytes_arrive_and_the_answer_is_read(
        self, writer: BodyWriter, source: OpenedFile
    ) -> None:
        async with server(answering) as (port, seen):
            answer = await writer.send("PUT", url(port), headers={"X-One": "1"}, cargo=whole(source))
        assert (answer.status_code, answer.text, answer.headers["x-note"]) == (201, "done", "kept")
        assert seen.requests[0].digest == digest(source, 0, source.size)
        head = seen.requests[0].head
        assert head.startswith("PUT /files/a%20b?x=1 HTTP/1.1\r\n")
        assert f"Host: 127.0.0.1:{port}\r\n" in head
        assert "X-One: 1\r\n" in head
        assert f"Content-Length: {6 * MIB + 7}\r\n" in head

    async def test_a_part_of_the_file_is_sent(self, writer: BodyWriter, source: OpenedFile) -> None:
        async with server(answering) as (port, seen):
            cargo = Cargo(source=source, start=MIB + 1, stop=3 * MIB)
            await writer.send("PATCH", url(port), headers={}, cargo=cargo)
        assert seen.requests[0].size == 2 * MIB - 1
        assert seen.requests[0].digest == digest(source, MIB + 1, 3 * MIB)

    async def test_a_body_of_no_bytes_is_sent(self, writer: BodyWriter, source: OpenedFile) -> None:
        async with server(answering) as (port, seen):
            cargo = Cargo(source=source, start=0, stop=0)
            answer = await writer.send("PUT", url(port), headers={}, cargo=cargo)
        assert answer.status_code == 201
        assert seen.requests[0].size == 0

    async def test_bytes_that_are_no_file_are_sent(self, writer: BodyWriter, source: OpenedFile) -> None:
        class InMemory:
            size = source.size
            descriptor = None
            read = staticmethod(source.read)

        async with server(answering) as (port, seen):
            await writer.send("PUT", url(port), headers={}, cargo=whole(InMemory()))
        assert seen.requests[0].digest == digest(source, 0, source.size)

    @pytest.mark.parametrize("size", [1, END, END + 1, 6 * MIB + 7])
    @pytest.mark.parametrize("bound", [None, 100 * MIB])
    async def test_the_last_bytes_wait_until_they_may_go(
        self, writer: BodyWriter, source: OpenedFile, size: int, bound: int | None
    ) -> None:
        arrived, may_go, all_but_the_last = bytearray(), asyncio.Event(), asyncio.Event()
        before = size - min(size, END)
        if before == 0:
            # Then not even the head goes.
            all_but_the_last.set()

        async def reading(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_head(reader)
            while len(arrived) < size:
                if len(arrived) >= before:
                    all_but_the_last.set()
                arrived.extend(await reader.read(MIB))
            out.write(OK)

        async def before_end() -> None:
            await may_go.wait()

        async def let_go() -> None:
            await all_but_the_last.wait()
            await asyncio.sleep(0.1)  # what went all the same would have arrived by now
            assert len(arrived) == before
            may_go.set()

        throttle = Bandwidth(SystemClock(), bound)
        cargo = Cargo(
            source=source,
            start=source.size - size,
            stop=source.size,
            throttle=throttle,
            before_end=before_end,
        )
        async with server(reading) as (port, _), asyncio.TaskGroup() as group:
            group.create_task(let_go())
            assert (await writer.send("PUT", url(port), headers={}, cargo=cargo)).status_code == 201
        assert arrived == source.read(source.size - size, source.size)

    async def test_progress_is_told_on_the_loop_and_ends_with_all_bytes(
        self, writer: BodyWriter, source: OpenedFile
    ) -> None:
        moved: list[int] = []
        async with server(answering) as (port, _):
            await writer.send("PUT", url(port), headers={}, cargo=whole(source, moved=moved.append))
        assert moved == sorted(moved)
        assert moved[-1] == source.size

    async def test_progress_does_not_wake_the_loop_for_every_megabyte(
        self, writer: BodyWriter, source: OpenedFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("haulier.body.exchange.time", SimpleNamespace(monotonic=lambda: 7.0))
        moved: list[int] = []
        async with server(answering) as (port, _):
            await writer.send("PUT", url(port), headers={}, cargo=whole(source, moved=moved.append))
        assert (len(moved), moved[-1]) == (2, source.size), "the first, and the end"

    async def test_a_kept_connection_carries_the_next_request(
        self, writer: BodyWriter, source: OpenedFile
    ) -> None:
        async with server(answering) as (port, seen):
            for _ in range(3):
                await writer.send("PUT", url(port), headers={}, cargo=Cargo(source=source, start=0, stop=9))
        assert (seen.connections, len(seen.requests)) == (1, 3)

    async def test_a_kept_connection_that_the_server_left_is_not_used(
        self, writer: BodyWriter, source: OpenedFile
    ) -> None:
        async def one(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_request(reader, seen)
            out.write(OK)
            out.close()
            await out.wait_closed()
            left.set()

        left = asyncio.Event()
        async with server(one) as (port, seen):
            for _ in range(2):
                answer = await writer.send("PUT", url(port), headers={}, cargo=whole(source))
                assert answer.status_code == 201
                await left.wait()  # before it, the request would meet the server's end
                left.clear()
        assert seen.connections == 2

    async def test_a_server_that_ends_each_connection_at_its_second_request_gets_new_ones(
        self, writer: BodyWriter, source: OpenedFile
    ) -> None:
        """It says nothing of that, and waits until it is asked: whoever asks twice would never get an answer."""

        async def once(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_request(reader, seen)
            out.write(OK)
            await reader.read(1)

        async with server(once) as (port, seen):
            await writer.send("PUT", url(port), headers={}, cargo=whole(source))
            with pytest.raises(PeerUnreachable):
                await writer.send("PUT", url(port), headers={}, cargo=whole(source))
            for _ in range(3):
                answer = await writer.send("PUT", url(port), headers={}, cargo=whole(source))
                assert answer.status_code == 201
        assert seen.connections == 4

    async def test_a_kept_connection_that_nobody_asks_for_is_closed(
        self, writer: BodyWriter, source: OpenedFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def until_its_end(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_request(reader, seen)
            out.write(OK)
            assert await reader.read() == b""
            ended.set()

        monkeypatch.setattr("haulier.body.connections.IDLE_S", 0.2)
        ended = asyncio.Event()
        async with server(until_its_end) as (port, _):
            await writer.send("PUT", url(port), headers={}, cargo=whole(source))
            await asyncio.wait_for(ended.wait(), 20)

    async def test_more_requests_than_connections_wait(self, source: OpenedFile) -> None:
        most, now = 0, 0

        async def counting(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            nonlocal most, now
            while True:
                await read_request(reader, seen)
                now += 1
                most = max(most, now)
                await asyncio.sleep(0.01)
                now -= 1
                out.write(OK)

        narrow = BodyWriter(connections=2)
        async with server(counting) as (port, seen), asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(narrow.send("PUT", url(port), headers={}, cargo=whole(source)))
        await narrow.close()
        assert (most, len(seen.requests)) == (2, 6)

    async def test_interim_answers_are_passed_over(self, writer: BodyWriter, source: OpenedFile) -> None:
        async def interim(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            out.write(
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 104 Upload Resumption Supported\r\nA: b\r\n\r\n"
            )
            await answering(reader, out, seen)

        async with server(interim) as (port, _):
            answer = await writer.send("PUT", url(port), headers={}, cargo=whole(source))
        assert answer.status_code == 201

    async def test_interim_answers_without_end_are_none(self, writer: BodyWriter, source: OpenedFile) -> None:
        async def interim(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_request(reader, seen)
            while True:
                out.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)
                await out.drain()

        async with server(interim) as (port, _):
            with pytest.raises(PeerUnreachable, match="everything but an answer"):
                await writer.send("PUT", url(port), headers={}, cargo=whole(source))

    async def test_a_chunked_answer_is_read(self, writer: BodyWriter, source: OpenedFile) -> None:
        async def chunked(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_request(reader, seen)
            out.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            await out.drain()
            out.write(b"2\r\nde\r\n0\r\n\r\n")
            await out.drain()
            await reader.read()

        async with server(chunked) as (port, _):
            answer = await writer.send("PUT", url(port), headers={}, cargo=whole(source))
        assert answer.content == b"abcde"

    @pytest.mark.parametrize("status", ["200 OK", "507 Insufficient Storage"])
    async def test_an_endless_answer_ends_and_is_believed_if_it_refuses(
        self, writer: BodyWriter, source: OpenedFile, status: str
    ) -> None:
        async def endless(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_request(reader, seen)
            out.write(f"HTTP/1.1 {status}\r\nContent-Length: 99999999999\r\n\r\n".encode("ascii"))
            while True:
                out.write(b"x" * 65_536)
                await out.drain()

        async with server(endless) as (port, _):
            sending = writer.send("PUT", url(port), headers={}, cargo=whole(source))
            if status.startswith("200"):
                with pytest.raises(PeerUnreachable, match="longer than 1048576 bytes"):
                    await sending
                return
            answer = await sending
        assert (answer.status_code, len(answer.content)) == (507, MIB)


class TestEarlyAnswers:
    async def test_a_refusal_is_read_while_sending_and_ends_it(
        self, writer: BodyWriter, tmp_path: Path
    ) -> None:
        large = OpenedFile(make_file(tmp_path / "large.bin", 64 * MIB))
        taken = 0

        async def refusing(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            nonlocal taken
            await read_head(reader)
            out.write(FULL)
            while piece := await reader.read(MIB):
                taken += len(piece)

        async with server(refusing) as (port, seen):
            answer = await writer.send("PUT", url(port), headers={}, cargo=whole(large))
            assert (answer.status_code, answer.text) == (507, "full")
            again = await writer.send("PUT", url(port), headers={}, cargo=whole(large))
            assert again.status_code == 507
            assert seen.connections == 2
        assert taken < 2 * 64 * MIB
        large.close()

    async def test_a_refusal_before_a_reset_is_read(self, writer: BodyWriter, tmp_path: Path) -> None:
        large = OpenedFile(make_file(tmp_path / "large.bin", 32 * MIB))

        async def closing(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_head(reader)
            out.write(FULL)
            await out.drain()  # closed with unread bytes: a reset follows the answer

        answers = 0
        async with server(closing) as (port, _):
            for _ in range(5):
                try:
                    answer = await writer.send("PUT", url(port), headers={}, cargo=whole(large))
                except PeerUnreachable:
                    continue  # the kernel of the other side threw the answer away; whoever asks learns why
                answers += answer.status_code == 507
        assert answers
        large.close()

    async def test_a_refusal_whose_text_is_cut_is_a_refusal(
        self, writer: BodyWriter, source: OpenedFile
    ) -> None:
        async def half(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_request(reader, seen)
            out.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 100\r\n\r\nhalf")

        async with server(half) as (port, _):
            answer = await writer.send("PUT", url(port), headers={}, cargo=whole(source))
        assert (answer.status_code, answer.text) == (413, "half")

    def test_a_refusal_before_the_last_bytes_are_out_ends_the_connection(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            content = bytes(PIECE)
            exchange = Exchange(
                ours,
                ("PUT", "/", [("Host", "here")]),
                Cargo(
                    source=SimpleNamespace(descriptor=None, read=lambda start, stop: content[start:stop]),
                    start=0,
                    stop=PIECE,
                ),
                url="http://here",
                silence_s=20,
                told=lambda _: None,
            )
            theirs.sendall(FULL)
            assert exchange.advance(None)
            answer = exchange.answer()
            taken = len(theirs.recv(2 * PIECE))
        assert taken < PIECE, "all of it was out"
        assert (answer.status_code, answer.keeps_alive) == (507, False)

    async def test_an_early_success_waits_until_all_bytes_are_out(
        self, writer: BodyWriter, source: OpenedFile
    ) -> None:
        read = asyncio.Event()

        async def early(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            out.write(OK)
            await out.drain()
            await read_request(reader, seen)
            read.set()
            await reader.read()

        async with server(early) as (port, seen):
            answer = await writer.send("PUT", url(port), headers={}, cargo=whole(source))
            assert answer.status_code == 201
            await read.wait()
        assert seen.requests[0].size == source.size

    async def test_an_early_success_of_a_server_that_leaves_is_none(
        self, writer: BodyWriter, tmp_path: Path
    ) -> None:
        large = OpenedFile(make_file(tmp_path / "large.bin", 64 * MIB))  # more than the kernels hold

        async def leaving(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_head(reader)
            out.write(OK)

        async with server(leaving) as (port, _):
            with pytest.raises(PeerUnreachable):
                await writer.send("PUT", url(port), headers={}, cargo=whole(large))
        large.close()


class TestBrokenConnections:
    async def test_nobody_listens(self, writer: BodyWriter, source: OpenedFile) -> None:
        async with server(answering) as (port, _):
            pass
        with pytest.raises(PeerUnreachable, match=f"http://127.0.0.1:{port} cannot be reached"):
            await writer.send("PUT", url(port), headers={}, cargo=whole(source))

    @pytest.mark.parametrize("how", [Drop.FIN, Drop.RST, Drop.HALF_OPEN])
    async def test_a_cut_in_the_body_is_told(self, writer: BodyWriter, source: OpenedFile, how: Drop) -> None:
        async with server(answering) as (port, seen), FaultProxy(port) as proxy:
            proxy.plan(Plan(up=Flow(drop=how, after=MIB)))
            with pytest.raises(PeerUnreachable):
                await writer.send("PUT", url(proxy.port), headers={}, cargo=whole(source))
            answer = await writer.send("PUT", url(proxy.port), headers={}, cargo=whole(source))
        assert answer.status_code == 201
        assert [request.digest for request in seen.requests] == [digest(source, 0, source.size)]

    @pytest.mark.parametrize(
        ("after", "told"),
        [
            (0, "it closed the connection without an answer$"),
            (10, "it closed the connection without an answer$"),
            (len(OK) - 1, "without sending complete message body"),
        ],
    )
    async def test_an_answer_that_is_cut_is_told(
        self, writer: BodyWriter, source: OpenedFile, after: int, told: str
    ) -> None:
        async with server(answering) as (port, seen), FaultProxy(port) as proxy:
            proxy.plan(Plan(down=Flow(drop=Drop.FIN, after=after)))
            with pytest.raises(PeerUnreachable, match=told):
                await writer.send("PUT", url(proxy.port), headers={}, cargo=whole(source))
        assert len(seen.requests) == 1

    async def test_single_bytes_are_put_together(self, writer: BodyWriter, source: OpenedFile) -> None:
        async with server(answering) as (port, _), FaultProxy(port) as proxy:
            proxy.plan(Plan(down=Flow(segment=1)))
            answer = await writer.send("PUT", url(proxy.port), headers={}, cargo=whole(source))
        assert (answer.status_code, answer.text) == (201, "done")

    @pytest.mark.parametrize("reads", [True, False], ids=["after the body", "in the body"])
    async def test_silence_has_an_end(self, tmp_path: Path, reads: bool) -> None:
        large = OpenedFile(make_file(tmp_path / "large.bin", 32 * MIB))
        over = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            if reads:
                await read_request(reader, seen)
            await over.wait()

        hasty = BodyWriter(connections=1, silence_s=0.3)
        async with server(silent) as (port, _):
            with pytest.raises(PeerUnreachable, match="silent") as told:
                await hasty.send("PUT", url(port), headers={}, cargo=whole(large))
            over.set()
        assert told.value.too_slow
        await hasty.close()
        large.close()

    async def test_a_refusal_whose_text_never_ends_is_a_refusal(self, source: OpenedFile) -> None:
        over = asyncio.Event()

        async def half(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_request(reader, seen)
            out.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 100\r\n\r\nhalf")
            await over.wait()

        hasty = BodyWriter(connections=1, silence_s=0.3)
        async with server(half) as (port, _):
            answer = await hasty.send("PUT", url(port), headers={}, cargo=whole(source))
            over.set()
        assert (answer.status_code, answer.text, answer.keeps_alive) == (413, "half", False)
        await hasty.close()

    async def test_what_is_no_http_is_told(self, writer: BodyWriter, source: OpenedFile) -> None:
        async def other(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_request(reader, seen)
            out.write(b"220 mail.example ESMTP\r\n")

        async with server(other) as (port, _):
            with pytest.raises(PeerUnreachable):
                await writer.send("PUT", url(port), headers={}, cargo=whole(source))

    async def test_a_cancel_closes_the_connection_and_nothing_more_is_sent(
        self, writer: BodyWriter, tmp_path: Path
    ) -> None:
        large = OpenedFile(make_file(tmp_path / "large.bin", 64 * MIB))
        reached, ended = asyncio.Event(), asyncio.Event()
        taken = 0

        async def slow(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            nonlocal taken
            await read_head(reader)
            reached.set()
            with suppress(ConnectionError):
                while piece := await reader.read(MIB):
                    taken += len(piece)
                    await asyncio.sleep(0)
            ended.set()

        async with server(slow) as (port, _):
            sending = asyncio.get_running_loop().create_task(
                writer.send("PUT", url(port), headers={}, cargo=whole(large))
            )
            await reached.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await ended.wait()
        assert taken < 64 * MIB
        large.close()


class TestSources:
    async def test_a_source_that_became_shorter_is_told_and_the_connection_is_closed(
        self, writer: BodyWriter, source: OpenedFile
    ) -> None:
        cargo = whole(source)
        os.truncate(source.path, MIB)
        async with server(answering) as (port, seen):
            with pytest.raises(SourceChanged, match=str(source.path)):
                await writer.send("PUT", url(port), headers={}, cargo=cargo)
        assert seen.requests == []

    async def test_a_source_that_cannot_be_read_is_told(self, writer: BodyWriter, source: OpenedFile) -> None:
        class Broken:
            size = source.size
            descriptor = None

            def read(self, start: int, stop: int) -> bytes:
                if start:
                    raise OSError(5, "Input/output error")
                return source.read(start, stop)

        async with server(answering) as (port, _):
            with pytest.raises(OSError, match="Input/output error"):
                await writer.send("PUT", url(port), headers={}, cargo=whole(Broken()))

    @pytest.mark.parametrize(
        ("address", "headers"),
        [
            ("ftp://127.0.0.1/x", {}),
            ("http:///x", {}),
            ("http://127.0.0.1:99999/", {}),
            ("http://127.0.0.1:{port}/", {"X": "a\r\nEvil: 1"}),
            ("http://127.0.0.1:{port}/", {"X": "☃"}),
            ("http://127.0.0.1:{port}/a b", {}),
        ],
    )
    async def test_what_http_cannot_carry_is_refused(
        self, writer: BodyWriter, source: OpenedFile, address: str, headers: dict[str, str]
    ) -> None:
        async with server(answering) as (port, _):
            with pytest.raises(InvalidRequest) as told:
                await writer.send(
                    "PUT", address.replace("{port}", str(port)), headers=headers, cargo=whole(source)
                )
        assert ("the header 'X'" in str(told.value)) is bool(headers)
        assert not [value for value in headers.values() if value in str(told.value)]
        assert "Evil" not in str(told.value)


class CountingBandwidth(Bandwidth):
    """Knows what was asked of it."""

    taken = 0
    largest = 0

    async def take(self, count: int) -> None:
        await super().take(count)
        self.taken += count
        self.largest = max(self.largest, count)


async def go_on() -> None:
    """Let the end go at once."""


class TestBandwidth:
    async def test_a_bound_is_kept_and_the_bytes_are_whole(
        self, writer: BodyWriter, source: OpenedFile
    ) -> None:
        bound = CountingBandwidth(SystemClock(), 30 * MIB)
        async with server(answering) as (port, seen):
            await writer.send("PUT", url(port), headers={}, cargo=whole(source, throttle=bound))
        assert seen.requests[0].digest == digest(source, 0, source.size)
        assert bound.taken == source.size
        assert bound.largest <= 256 * 1024

    @pytest.mark.parametrize("before_end", [None, go_on])
    async def test_a_bound_that_is_set_while_bytes_flow_is_obeyed_and_lifted(
        self, writer: BodyWriter, tmp_path: Path, before_end: Callable[[], Awaitable[None]] | None
    ) -> None:
        large = OpenedFile(make_file(tmp_path / "large.bin", 64 * MIB))
        bound = CountingBandwidth(SystemClock())

        async def reading(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            head = await read_head(reader)
            bound.change(2 * MIB)
            left = length_of(head)
            while left:
                left -= len(await reader.read(MIB))
                # Megabytes may lie in the kernel's buffers by now: only what was asked for shows that the bound is seen.
                if bound.taken:
                    bound.change(None)
            out.write(OK)

        async with server(reading) as (port, _):
            cargo = whole(large, throttle=bound, before_end=before_end)
            answer = await writer.send("PUT", url(port), headers={}, cargo=cargo)
        assert answer.status_code == 201
        assert 0 < bound.taken < large.size
        large.close()

    async def test_a_refusal_is_read_under_a_bound(self, writer: BodyWriter, source: OpenedFile) -> None:
        async def refusing(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_head(reader)
            out.write(FULL)
            await reader.read(-1)

        bound = Bandwidth(SystemClock(), MIB)
        async with server(refusing) as (port, _):
            answer = await writer.send("PUT", url(port), headers={}, cargo=whole(source, throttle=bound))
        assert answer.status_code == 507


@dataclass
class Certificates:
    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *(require("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", key, "-out", certificate, "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    return Certificates(serving, ssl.create_default_context(cafile=str(certificate)))


class TestTls:
    @pytest.fixture
    async def writer(self, certificates: Certificates) -> AsyncIterator[BodyWriter]:
        made = BodyWriter(connections=2, tls=certificates.client, silence_s=20)
        yield made
        await made.close()

    async def test_the_bytes_arrive_and_the_connection_is_kept(
        self, writer: BodyWriter, source: OpenedFile, certificates: Certificates
    ) -> None:
        async with server(answering, certificates.server) as (port, seen):
            for _ in range(2):
                answer = await writer.send(
                    "PUT", f"https://127.0.0.1:{port}/", headers={}, cargo=whole(source)
                )
                assert (answer.status_code, answer.text) == (201, "done")
        assert [request.digest for request in seen.requests] == [digest(source, 0, source.size)] * 2
        assert seen.connections == 1

    async def test_a_refusal_is_read_while_sending(
        self, writer: BodyWriter, source: OpenedFile, certificates: Certificates
    ) -> None:
        async def refusing(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_head(reader)
            out.write(FULL)
            await reader.read(-1)

        async with server(refusing, certificates.server) as (port, _):
            answer = await writer.send("PUT", f"https://127.0.0.1:{port}/", headers={}, cargo=whole(source))
        assert answer.status_code == 507

    async def test_a_cut_is_told(
        self, writer: BodyWriter, source: OpenedFile, certificates: Certificates
    ) -> None:
        async with server(answering, certificates.server) as (port, _), FaultProxy(port) as proxy:
            proxy.plan(Plan(up=Flow(drop=Drop.RST, after=MIB)))
            with pytest.raises(PeerUnreachable):
                await writer.send("PUT", f"https://127.0.0.1:{proxy.port}/", headers={}, cargo=whole(source))

    async def test_a_certificate_that_nobody_trusts_is_told_before_anything_is_sent(
        self, source: OpenedFile, certificates: Certificates
    ) -> None:
        careful = BodyWriter(connections=1)
        async with server(answering, certificates.server) as (port, seen):
            with pytest.raises(PeerUnreachable, match="certificate"):
                await careful.send("PUT", f"https://127.0.0.1:{port}/", headers={}, cargo=whole(source))
        await careful.close()
        assert seen.requests == []

    async def test_a_server_that_speaks_no_tls_is_told(self, writer: BodyWriter, source: OpenedFile) -> None:
        async def plain(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            out.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await reader.read(1)

        async with server(plain) as (port, _):
            with pytest.raises(PeerUnreachable):
                await writer.send("PUT", f"https://127.0.0.1:{port}/", headers={}, cargo=whole(source))


class TestProxies:
    """A proxy named by the environment stands between us and every host but this machine."""

    @pytest.fixture(autouse=True)
    def _names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)

    async def test_plain_requests_name_the_whole_address(
        self, writer: BodyWriter, source: OpenedFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with server(answering) as (port, seen):
            monkeypatch.setenv("http_proxy", f"http://me:s%20t@127.0.0.1:{port}")
            answer = await writer.send("PUT", "http://files.example/a?b", headers={}, cargo=whole(source))
        assert answer.status_code == 201
        head = seen.requests[0].head
        assert head.startswith("PUT http://files.example/a?b HTTP/1.1\r\nHost: files.example\r\n")
        assert "Proxy-Authorization: Basic bWU6cyB0\r\n" in head

    async def test_encrypted_requests_go_through_a_tunnel(
        self,
        writer: BodyWriter,
        source: OpenedFile,
        certificates: Certificates,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asked: list[str] = []
        async with server(answering, certificates.server) as (secure_port, seen):

            async def proxy(reader: asyncio.StreamReader, out: asyncio.StreamWriter, _: Seen) -> None:
                asked.append(await read_head(reader))
                out.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                there_in, there_out = await asyncio.open_connection("127.0.0.1", secure_port)
                try:
                    await asyncio.gather(_pipe(reader, there_out), _pipe(there_in, out))
                finally:
                    there_out.close()

            async with server(proxy) as (port, _):
                monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
                trusting = BodyWriter(connections=1, tls=_named(certificates.client))
                answer = await trusting.send(
                    "PUT", "https://files.example/a", headers={}, cargo=whole(source)
                )
                await trusting.close()
        assert answer.status_code == 201
        assert asked[0].startswith("CONNECT files.example:443 HTTP/1.1\r\n")
        assert seen.requests[0].digest == digest(source, 0, source.size)

    async def test_a_proxy_that_refuses_is_told(
        self, writer: BodyWriter, source: OpenedFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def refusing(reader: asyncio.StreamReader, out: asyncio.StreamWriter, seen: Seen) -> None:
            await read_head(reader)
            out.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

        async with server(refusing) as (port, _):
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
            with pytest.raises(PeerUnreachable, match="407"):
                await writer.send("PUT", "https://files.example/a", headers={}, cargo=whole(source))

    async def test_this_machine_is_reached_without_one(
        self, writer: BodyWriter, source: OpenedFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with server(answering) as (port, seen):
            monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
            await writer.send("PUT", url(port), headers={}, cargo=whole(source))
        assert seen.requests[0].head.startswith("PUT /files")

    @pytest.mark.parametrize(
        "named", ["socks5://me:secret@127.0.0.1:9", "https://127.0.0.1:9", "http://", "ftp://x"]
    )
    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_a_proxy_of_another_kind_is_refused_with_the_cure(
        self, writer: BodyWriter, source: OpenedFile, monkeypatch: pytest.MonkeyPatch, named: str, scheme: str
    ) -> None:
        monkeypatch.setenv("all_proxy", named)
        with pytest.raises(InvalidRequest, match=r"proxy: .*only http://HOST:PORT.*NO_PROXY") as told:
            await writer.send("PUT", f"{scheme}://files.example/a", headers={}, cargo=whole(source))
        assert "secret" not in str(told.value)

    async def test_a_proxy_without_a_scheme_is_plain(
        self, writer: BodyWriter, source: OpenedFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with server(answering) as (port, seen):
            monkeypatch.setenv("http_proxy", f"127.0.0.1:{port}")
            await writer.send("PUT", "http://[fd00::1]:81/a", headers={}, cargo=whole(source))
        assert seen.requests[0].head.startswith(
            "PUT http://[fd00::1]:81/a HTTP/1.1\r\nHost: [fd00::1]:81\r\n"
        )

    @pytest.mark.parametrize("named", ["files.example", ".example", "files.example:8080", "*"])
    async def test_a_host_that_is_exempt_is_asked_itself(
        self, writer: BodyWriter, source: OpenedFile, monkeypatch: pytest.MonkeyPatch, named: str
    ) -> None:
        async with server(answering) as (port, seen):
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", named)
            with addresses(port, "127.0.0.1"):
                await writer.send("PUT", "http://files.example:8080/a", headers={}, cargo=whole(source))
        assert seen.requests[0].head.startswith("PUT /a HTTP/1.1")


@contextmanager
def addresses(port: int, *hosts: str) -> Iterator[None]:
    """Whatever name is asked for has these addresses, in this order."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port)) for host in hosts]

    async def answer(*_: object, **__: object) -> Any:
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "getaddrinfo", answer)
        yield


@contextmanager
def silent(host: str, port: int) -> Iterator[None]:
    """Something listens there whose queue is full: whoever connects hears nothing."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((host, port))
        listening.listen(0)
        for _ in range(4):
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex((host, port))
        yield


class TestAddresses:
    async def test_for_a_host_that_is_an_address_nobody_is_asked(
        self, writer: BodyWriter, source: OpenedFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def asked(*_: object, **__: object) -> Any:
            raise AssertionError

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", asked)
        async with server(answering) as (port, _):
            assert (await writer.send("PUT", url(port), headers={}, cargo=whole(source))).status_code == 201

    async def test_a_silent_address_does_not_hold_up_the_next_one(
        self, writer: BodyWriter, source: OpenedFile
    ) -> None:
        async with server(answering) as (port, seen):
            with silent("127.0.0.2", port), addresses(port, "127.0.0.2", "127.0.0.1"):
                answer = await writer.send(
                    "PUT", f"http://two.example:{port}/", headers={}, cargo=whole(source)
                )
        assert (answer.status_code, len(seen.requests)) == (201, 1)

    async def test_the_error_of_the_last_address_is_told(
        self, writer: BodyWriter, source: OpenedFile
    ) -> None:
        with addresses(9, "127.0.0.2", "127.0.0.3"), pytest.raises(PeerUnreachable, match=r"127\.0\.0\.3"):
            await writer.send("PUT", "http://two.example:9/", headers={}, cargo=whole(source))

    async def test_a_name_without_addresses_is_told(self, writer: BodyWriter, source: OpenedFile) -> None:
        with addresses(9), pytest.raises(PeerUnreachable, match="no address"):
            await writer.send("PUT", "http://two.example:9/", headers={}, cargo=whole(source))


async def _pipe(reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65_536):
        out.write(piece)
        await out.drain()
    out.close()


def _named(context: ssl.SSLContext) -> ssl.SSLContext:
    """The certificate is for this machine, and the test's name is another."""
    context.check_hostname = False
    return context
