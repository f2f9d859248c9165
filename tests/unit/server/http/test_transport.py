"""What is written beside answers, and how a connection is closed."""

import asyncio

import pytest

from haulier.server.http.transport import Exit, interim_response, refusal


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

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls


class TestRefusal:
    def test_it_is_a_whole_answer_with_a_problem(self) -> None:
        assert refusal(431, [(b"date", b"now")]) == (
            b"HTTP/1.1 431 Request Header Fields Too Large\r\ndate: now\r\n"
            b"content-type: application/problem+json\r\ncontent-length: 82\r\nconnection: close\r\n\r\n"
            b'{"type": "about:blank", "title": "Request Header Fields Too Large", "status": 431}'
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

    def test_after_a_goodbye_nothing_is_written_and_close_asks_no_more(self) -> None:
        inner = FakeTransport()
        asked: list[str] = []
        way_out = Exit(inner, lambda: asked.append("how?"))
        way_out.write(b"bye")
        way_out.say_goodbye()
        way_out.write(b"late")
        way_out.close()
        assert way_out.is_closing()
        assert (asked, inner.calls) == ([], ["write b'bye'", "eof"])

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
