"""Connections on their way to a worker: none is lost, none is held open by those who gave it away."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from haulier.server.http.handover import AcceptorEnd, WorkerEnd, told_when_lost
from tests.support.engine import until


class Echo(asyncio.Protocol):
    """Answers with what it hears."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Both:
    """The two ends of a channel in one process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.theirs = theirs
        self.acceptor = AcceptorEnd(ours)
        self.worker = WorkerEnd(theirs)
        self.left = self.orphaned = 0

    def watch(self) -> None:
        self.acceptor.watch(on_ready=lambda: None, on_left=self._leave)

    def work(self) -> None:
        self.worker.open(told_when_lost(Echo, self.worker.closed), on_orphaned=self._orphan)

    def give(self) -> socket.socket:
        """Hand a connection over; return the client's end."""
        client, server = socket.socketpair()
        client.setblocking(False)
        assert self.acceptor.give(server)
        return client

    def _leave(self) -> None:
        self.left += 1

    def _orphan(self) -> None:
        self.orphaned += 1


@pytest.fixture
def both() -> Iterator[Both]:
    one = Both()
    yield one
    for end in (one.theirs, one.acceptor._channel):
        end.close()


async def said(client: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 100), 60)


async def settled() -> None:
    """Let both ends hear each other: selectors need a turn each."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_connection_that_is_handed_over_is_served(both: Both) -> None:
    both.watch()
    both.work()
    await until(lambda: both.acceptor.ready)
    with both.give() as client:
        assert both.acceptor.load == 1
        await asyncio.get_running_loop().sock_sendall(client, b"hello")
        assert await said(client) == b"hello"
        assert both.acceptor.take_back() == []
    await until(lambda: both.acceptor.load == 0)
    assert both.acceptor.given == 1
    both.acceptor.close()


async def test_what_a_dead_worker_did_not_take_comes_back(both: Both) -> None:
    both.watch()
    with both.give() as client:
        both.theirs.close()
        await until(lambda: both.left)
        (server,) = both.acceptor.take_back()
        assert both.acceptor.take_back() == []
        with server:
            server.send(b"again")
            assert await said(client) == b"again"
    assert not both.acceptor.ready
    both.acceptor.close()


async def test_a_worker_that_leaves_gives_back_and_keeps_no_copy(both: Both) -> None:
    both.watch()
    both.work()
    await until(lambda: both.acceptor.ready)
    both.worker.close()
    with both.give() as client:
        await until(lambda: both.left)
        for server in both.acceptor.take_back():
            server.close()
        assert await said(client) == b""  # only when nobody else holds it
    assert not both.acceptor.ready
    both.acceptor.close()


async def test_a_worker_learns_that_it_is_alone(both: Both) -> None:
    both.watch()
    both.work()
    await until(lambda: both.acceptor.ready)
    both.acceptor.close()
    await until(lambda: both.orphaned)
    both.worker.closed()
    await settled()
    assert both.left
    assert both.orphaned == 1


async def test_a_channel_that_is_full_takes_no_more_and_loses_nothing(both: Both) -> None:
    both.watch()
    clients = []
    try:
        while True:
            client, server = socket.socketpair()
            if not both.acceptor.give(server):
                client.close()
                server.close()
                break
            clients.append(client)
        both.work()
        for client in clients:
            client.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(client, b"x")
        assert {await said(client) for client in clients} == {b"x"}
    finally:
        for client in clients:
            client.close()
    await until(lambda: both.acceptor.load == 0)
    both.acceptor.close()


async def test_a_worker_without_descriptors_closes_the_connection_and_says_so(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.recv_fds

    def without(*arguments: int) -> tuple[bytes, list[int], int, None]:
        message, descriptors, flags, _ = real(*arguments)  # type: ignore[arg-type]
        for descriptor in descriptors:
            os.close(descriptor)
        return message, [], flags, None

    both.watch()
    both.work()
    await until(lambda: both.acceptor.ready)
    monkeypatch.setattr(socket, "recv_fds", without)
    with both.give() as client:
        assert await said(client) == b""
    await until(lambda: both.acceptor.load == 0)
    both.acceptor.close()


async def test_a_connection_that_cannot_be_served_counts_as_closed(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise ConnectionAbortedError

    both.watch()
    both.work()
    await until(lambda: both.acceptor.ready)
    monkeypatch.setattr(asyncio.get_running_loop(), "connect_accepted_socket", refuse)
    with both.give() as client, suppress(ConnectionError):
        assert await said(client) == b""
    await until(lambda: both.acceptor.load == 0)
    both.acceptor.close()
