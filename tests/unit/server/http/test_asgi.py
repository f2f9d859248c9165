"""Bodies without sockets: order, ends and cancels that a network cannot be made to show at will."""

import asyncio
from collections.abc import Awaitable, MutableMapping
from typing import Any

import pytest

from haulier.core.digest import Buffer
from haulier.ports import Body, BodyEnd
from haulier.server.http.asgi import BODY_EXTENSION, AsgiBody, FastBody, announced_length, open_body


class FakeWire:
    """A connection whose bytes the test hands in."""

    def __init__(self, ahead: bytes = b"") -> None:
        self.ahead = ahead
        self.calls: list[str] = []

    def attach(self, body: FastBody) -> Buffer:
        return self.ahead

    def detach(self, body: FastBody) -> None:
        self.calls.append("detach")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


class Store:
    """A `Deliver` that keeps pieces, at once or when the test says so."""

    def __init__(self) -> None:
        self.kept = b""
        self.pieces: list[bytes] = []
        self.gate: asyncio.Event | None = None

    def __call__(self, piece: Buffer) -> Awaitable[None] | None:
        copy = bytes(piece)
        if self.gate is None:
            self._keep(copy)
            return None
        return self._keep_later(copy, self.gate)

    async def _keep_later(self, piece: bytes, gate: asyncio.Event) -> None:
        await gate.wait()
        self._keep(piece)

    def _keep(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.kept += piece


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def scope(length: int | None = None, **more: Any) -> dict[str, Any]:
    fields = [] if length is None else [(b"content-length", str(length).encode())]
    return {"type": "http", "http_version": "1.1", "headers": fields, **more}


class TestChoice:
    def test_a_fast_body_is_taken_when_the_server_offers_it(self) -> None:
        fast = FastBody(FakeWire(), 3)
        assert open_body(scope(3, extensions={BODY_EXTENSION: fast}), _nothing) is fast

    def test_any_other_server_gets_the_ordinary_way(self) -> None:
        assert isinstance(open_body(scope(3), _nothing), AsgiBody)

    @pytest.mark.parametrize(
        ("given", "length"),
        [
            (scope(7), 7),
            (scope(0), 0),
            (scope(), 0),
            (scope(http_version="1.0"), 0),
            (scope(http_version="2"), None),
            ({"headers": [(b"transfer-encoding", b"chunked")]}, None),
        ],
    )
    def test_announced_lengths(self, given: dict[str, Any], length: int | None) -> None:
        assert announced_length(given) == length


async def _nothing() -> MutableMapping[str, Any]:
    raise AssertionError("nobody asked for a message")


class TestFastBody:
    async def test_nothing_is_asked_of_the_wire_before_receive(self) -> None:
        wire = FakeWire()
        body: Body = FastBody(wire, 3)
        assert body.length == 3
        assert wire.calls == []

    async def test_pieces_are_handed_over_within_feed(self) -> None:
        wire, store = FakeWire(b"ab"), Store()
        body = FastBody(wire, 6)
        receiving = asyncio.get_running_loop().create_task(body.receive(store))
        await settle()
        body.feed(b"cd")
        assert store.pieces == [b"ab", b"cd"]
        body.feed(b"ef")
        assert await receiving is BodyEnd.COMPLETE
        assert wire.calls[-1] == "detach"

    async def test_what_comes_while_a_piece_is_pending_waits_its_turn(self) -> None:
        wire, store = FakeWire(b"ab"), Store()
        store.gate = asyncio.Event()
        body = FastBody(wire, 8)
        receiving = asyncio.get_running_loop().create_task(body.receive(store))
        await settle()
        assert wire.calls == ["pause"]
        body.feed(b"cd")
        body.feed(b"ef")
        assert store.pieces == []
        store.gate.set()
        await settle()
        assert store.pieces == [b"ab", b"cdef"]
        assert wire.calls[-1] == "resume"
        body.feed(b"gh")
        assert await receiving is BodyEnd.COMPLETE
        assert store.kept == b"abcdefgh"

    async def test_what_deliver_raises_in_the_middle_comes_out_of_receive(self) -> None:
        wire = FakeWire()
        body = FastBody(wire, 8)

        def full(piece: Buffer) -> None:
            raise OSError(bytes(piece))

        receiving = asyncio.get_running_loop().create_task(body.receive(full))
        await settle()
        body.feed(b"ab")
        body.feed(b"cd")
        with pytest.raises(OSError, match="ab"):
            await receiving
        assert wire.calls[-1] == "detach"
        body.feed(b"ef")  # dropped

    async def test_what_an_awaitable_raises_comes_out_of_receive(self) -> None:
        async def full() -> None:
            raise OSError("no room")

        body = FastBody(FakeWire(b"ab"), 8)
        with pytest.raises(OSError, match="no room"):
            await body.receive(lambda _piece: full())

    async def test_a_cut_comes_after_what_arrived(self) -> None:
        store = Store()
        store.gate = asyncio.Event()
        body = FastBody(FakeWire(b"ab"), 8)
        receiving = asyncio.get_running_loop().create_task(body.receive(store))
        await settle()
        body.feed(b"cd")
        body.cut()
        store.gate.set()
        assert await receiving is BodyEnd.CUT
        assert store.kept == b"abcd"

    async def test_a_whole_body_is_complete_whatever_happens_then(self) -> None:
        store = Store()
        store.gate = asyncio.Event()
        body = FastBody(FakeWire(b"abcd"), 4)
        receiving = asyncio.get_running_loop().create_task(body.receive(store))
        await settle()
        body.cut()
        body.stop()
        store.gate.set()
        assert await receiving is BodyEnd.COMPLETE

    async def test_bytes_past_the_limit_are_dropped(self) -> None:
        store = Store()
        body = FastBody(FakeWire(b"abc"), 8)
        receiving = asyncio.get_running_loop().create_task(body.receive(store, limit=4))
        await settle()
        body.feed(b"def")
        assert await receiving is BodyEnd.LIMIT
        assert store.kept == b"abcd"

    async def test_a_cancel_finishes_the_write_that_began(self) -> None:
        store = Store()
        body = FastBody(FakeWire(), 8)
        receiving = asyncio.get_running_loop().create_task(body.receive(store))
        await settle()
        store.gate = asyncio.Event()
        store.gate.set()
        body.feed(b"ab")
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        assert store.kept == b"ab"


class Messages:
    """A `receive` with messages in stock, which then waits for ever."""

    def __init__(self, *messages: MutableMapping[str, Any]) -> None:
        self._messages = list(messages)

    async def __call__(self) -> MutableMapping[str, Any]:
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)


def part(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


class TestAsgiBody:
    async def test_a_message_may_have_neither_body_nor_more(self) -> None:
        body = AsgiBody(scope(), Messages({"type": "http.request"}))
        assert await body.receive(Store()) is BodyEnd.COMPLETE

    async def test_an_end_before_the_announced_length_is_a_cut(self) -> None:
        # What plain uvicorn does with a body behind `Upgrade: h2c`.
        body = AsgiBody(scope(3), Messages(part(b"", more=False)))
        assert await body.receive(Store()) is BodyEnd.CUT

    async def test_a_disconnect_is_a_cut(self) -> None:
        store = Store()
        body = AsgiBody(scope(3), Messages(part(b"ab"), {"type": "http.disconnect"}))
        assert await body.receive(store) is BodyEnd.CUT
        assert store.kept == b"ab"

    async def test_silence_is_a_cut(self) -> None:
        assert await AsgiBody(scope(3), Messages(), silence_s=0.0).receive(Store()) is BodyEnd.CUT

    async def test_stop_ends_a_wait(self) -> None:
        body = AsgiBody(scope(3), Messages(part(b"ab")))
        receiving = asyncio.get_running_loop().create_task(body.receive(Store()))
        await settle()
        body.stop()
        body.stop()
        assert await receiving is BodyEnd.STOPPED
        body.stop()

    @pytest.mark.parametrize("turns", range(4))
    async def test_stop_may_be_repeated_while_the_wait_is_ending(self, turns: int) -> None:
        body = AsgiBody(scope(3), Messages(part(b"ab")))
        receiving = asyncio.get_running_loop().create_task(body.receive(Store()))
        await settle()
        body.stop()
        for _ in range(turns):
            await asyncio.sleep(0)
        body.stop()
        assert await receiving is BodyEnd.STOPPED

    async def test_the_limit_splits_a_message(self) -> None:
        store = Store()
        body = AsgiBody(scope(), Messages(part(b"abc"), part(b"def", more=False)))
        assert await body.receive(store, limit=4) is BodyEnd.LIMIT
        assert store.pieces == [b"abc", b"d"]

    async def test_pieces_wait_for_the_one_before(self) -> None:
        store = Store()
        store.gate = asyncio.Event()
        body = AsgiBody(scope(4), Messages(part(b"ab"), part(b"cd", more=False)))
        receiving = asyncio.get_running_loop().create_task(body.receive(store))
        await settle()
        assert store.pieces == []
        store.gate.set()
        assert await receiving is BodyEnd.COMPLETE
        assert store.pieces == [b"ab", b"cd"]
