"""What is written beside answers, and how a connection is closed."""

import asyncio
import socket

import pytest

from haulier.server.http.transport import (
    TOGETHER,
    TURN_READS,
    Exit,
    Receiver,
    final_response,
    interim_response,
    keep_in_cache,
)


class FakeTransport(asyncio.Transport):
    def __init__(self, *, half_close: bool = True) -> None:
        super().__init__()
        self.calls: list[str] = []
        self._half_close = half_close

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.calls.append(f"write {bytes(data)!r}")

    def can_write_eof(self) -> bool:
        return self._half_close

    def write_eof(self) -> None:
        self.calls.append("eof")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls


class TestFinal:
    def test_it_is_a_whole_answer_that_ends_the_connection(self) -> None:
        assert final_response(431, [(b"date", b"now"), (b"content-length", b"2")], b"{}") == (
            b"HTTP/1.1 431 Request Header Fields Too Large\r\ndate: now\r\ncontent-length: 2\r\n"
            b"connection: close\r\n\r\n{}"
        )


class TestInterim:
    def test_104_has_its_phrase(self) -> None:
        response = interim_response(104, [(b"location", b"/api/uploads/1"), (b"upload-limit", b"max-size=1")])
        assert response == (
            b"HTTP/1.1 104 Upload Resumption Supported\r\n"
            b"location: /api/uploads/1\r\nupload-limit: max-size=1\r\n\r\n"
        )

    @pytest.mark.parametrize("status", [100, 101, 200, 204, 404])
    def test_other_statuses_are_refused(self, status: int) -> None:
        with pytest.raises(ValueError, match=str(status)):
            interim_response(status, [])

    @pytest.mark.parametrize(
        "field",
        [
            (b"x", b"a\r\nset-cookie: b"),
            (b"x", b"a\nb"),
            (b"x", b"a\0"),
            (b"x y", b""),
            (b"", b""),
            (b"x:", b""),
        ],
    )
    def test_fields_that_could_end_the_head_are_refused(self, field: tuple[bytes, bytes]) -> None:
        with pytest.raises(ValueError, match="no field"):
            interim_response(104, [field])


class TestExit:
    def test_close_asks_how(self) -> None:
        inner = FakeTransport()
        asked: list[str] = []
        way_out = Exit(inner, lambda: asked.append("how?"))
        way_out.close()
        assert (asked, inner.calls) == (["how?"], [])

    async def test_what_is_written_in_one_turn_is_sent_together(self) -> None:
        inner = FakeTransport()
        way_out = Exit(inner, lambda: None)
        way_out.write(b"head ")
        way_out.write(b"body")
        assert inner.calls == []
        await asyncio.sleep(0)
        way_out.write(b"next")
        await asyncio.sleep(0)
        assert inner.calls == ["write b'head body'", "write b'next'"]

    async def test_what_is_long_or_may_change_is_sent_at_once_behind_what_waits(self) -> None:
        inner = FakeTransport()
        way_out = Exit(inner, lambda: None)
        way_out.write(b"head")
        way_out.write(bytes(TOGETHER + 1))
        assert inner.calls == ["write b'head'", f"write {bytes(TOGETHER + 1)!r}"]
        way_out.write(memoryview(b"view"))
        assert inner.calls[2:] == ["write b'view'"]

    async def test_no_more_waits_than_its_bound_however_often_one_turn_writes(self) -> None:
        inner = FakeTransport()
        way_out = Exit(inner, lambda: None)
        for _ in range(3):
            way_out.write(bytes(TOGETHER // 2))
        assert inner.calls == [f"write {bytes(TOGETHER)!r}", f"write {bytes(TOGETHER // 2)!r}"]

    async def test_what_waits_is_sent_before_the_connection_is_closed(self) -> None:
        inner = FakeTransport()
        way_out = Exit(inner, lambda: None)
        way_out.write(b"bye")
        way_out.close_now()
        await asyncio.sleep(0)
        assert inner.calls == ["write b'bye'", "close"]

    async def test_an_aborted_or_lost_connection_is_not_written_to(self) -> None:
        inner, lost = FakeTransport(), FakeTransport()
        way_out = Exit(inner, lambda: None)
        way_out.write(b"never")
        way_out.abort()
        Exit(lost, lambda: None).write(b"never")
        lost.close()
        await asyncio.sleep(0)
        assert (inner.calls, lost.calls) == (["abort"], ["close"])

    async def test_after_a_goodbye_nothing_is_written_and_close_asks_no_more(self) -> None:
        inner = FakeTransport()
        asked: list[str] = []
        way_out = Exit(inner, lambda: asked.append("how?"))
        way_out.write(b"bye")
        way_out.say_goodbye()
        way_out.write(b"late")
        way_out.close()
        assert way_out.is_closing()
        assert (asked, inner.calls) == ([], ["write b'bye'", "eof"])

    def test_one_that_is_lost_is_closing_and_asks_nobody(self) -> None:
        inner, asked = FakeTransport(), list[str]()
        exit_ = Exit(inner, lambda: asked.append("how"))
        exit_.lost()
        exit_.write(bytearray(b"late"))
        exit_.close()
        assert (exit_.is_closing(), inner.calls, asked) == (True, [], [])

    def test_tls_has_no_half_close(self) -> None:
        inner = FakeTransport(half_close=False)
        way_out = Exit(inner, lambda: None)
        way_out.say_goodbye()
        assert inner.calls == []
        assert way_out.is_closing()

    def test_a_closed_transport_is_neither_paused_nor_resumed(self) -> None:
        inner = FakeTransport()
        way_out = Exit(inner, lambda: None)
        way_out.close_now()
        way_out.pause_reading()
        way_out.resume_reading()
        assert inner.calls == ["close"]


class Listener:
    """What a connection is told, counted."""

    def __init__(self) -> None:
        self.received = 0

    def bytes_received(self, view: memoryview) -> None:
        self.received += len(view)

    def eof_received(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class TestTurns:
    async def test_who_sends_without_end_lets_the_others_have_their_turn(self) -> None:
        inner, listener = FakeTransport(), Listener()
        receiver = Receiver(listener, Exit(inner, lambda: None), memoryview(bytearray(4)))
        for _ in range(TURN_READS):
            assert inner.calls == []
            receiver.buffer_updated(4)
        assert inner.calls == ["pause"]
        await asyncio.sleep(0)
        assert inner.calls == ["pause", "resume"]
        assert listener.received == 4 * TURN_READS

    async def test_who_sends_in_small_pieces_never_waits(self) -> None:
        inner = FakeTransport()
        receiver = Receiver(Listener(), Exit(inner, lambda: None), memoryview(bytearray(4)))
        for _ in range(TURN_READS):
            receiver.buffer_updated(4)
            receiver.buffer_updated(3)
        assert inner.calls == []

    async def test_after_the_turn_of_the_others_a_paused_connection_stays_paused(self) -> None:
        inner = FakeTransport()
        way_out = Exit(inner, lambda: None)
        way_out.let_others_run()
        way_out.pause_reading()
        await asyncio.sleep(0)
        assert "resume" not in inner.calls
        way_out.resume_reading()
        assert inner.calls[-1] == "resume"

    async def test_resuming_does_not_cut_the_turn_of_the_others_short(self) -> None:
        inner = FakeTransport()
        way_out = Exit(inner, lambda: None)
        way_out.let_others_run()
        way_out.resume_reading()
        assert "resume" not in inner.calls


def test_only_a_client_on_this_machine_gets_a_small_window() -> None:
    class Known(FakeTransport):
        def __init__(self, peer: object, connection: socket.socket) -> None:
            super().__init__()
            self._known = {"peername": peer, "socket": connection}

        def get_extra_info(self, name: str, default: object = None) -> object:
            return self._known.get(name, default)

    with socket.socket() as connection:
        before = connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        for peer in (("192.0.2.1", 5), ("2001:db8::1", 5, 0, 0), "", None):
            keep_in_cache(Known(peer, connection))
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == before
        keep_in_cache(Known(("127.0.0.1", 5), connection))
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) != before
