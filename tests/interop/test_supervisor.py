"""The supervisor above small programs that behave as badly as workers can."""

import asyncio
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from haulier.server.http import supervisor as module
from haulier.server.http.serving import listen
from haulier.server.http.supervisor import MAX_FAILED_STARTS, Supervisor, WorkerPlace
from tests.support.engine import beside

READY = """
import signal, socket, sys, time
channel = socket.socket(fileno=int(sys.argv[1]))
"""
OBEYS = f"{READY}\nchannel.send(b'r')\nsignal.pause()"
DEAF = f"""{READY}
signal.signal(signal.SIGTERM, signal.SIG_IGN)
channel.send(b'r')
signal.pause()
signal.pause()"""
INSISTED = f"""{READY}
import os
told = []
def hear(*_):
    told.append(1)
    if len(told) == 2:
        os._exit(0)
signal.signal(signal.SIGTERM, hear)
channel.send(b'r')
while True:
    signal.pause()"""
GREETS = f"""{READY}
channel.send(b'r')
while True:
    message, descriptors, *_ = socket.recv_fds(channel, 1, 1)
    with socket.socket(fileno=descriptors[0]) as connection:
        channel.send(b't')
        connection.sendall(b'hello')
    channel.send(b'c')"""
NEVER_READY = f"{READY}\nsys.exit(7)"


class Above:
    """A supervisor of workers that run the given program, those that take their places another, and what it says."""

    def __init__(self, program: str, *, workers: int = 2, then: str | None = None) -> None:
        self.program = program
        self._workers = workers
        self._then = then
        self.places: list[WorkerPlace] = []
        self.processes: list[Process] = []
        self.ports: list[int] = []
        sockets = listen("127.0.0.1", 0)
        self.port: int = sockets[0].getsockname()[1]
        self.supervisor = Supervisor(sockets, workers=workers, spawn=self._spawn, on_ready=self.ports.append)

    async def _spawn(self, place: WorkerPlace) -> Process:
        program = self.program if self._then is None or len(self.places) < self._workers else self._then
        self.places.append(place)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(place.channel), pass_fds=(place.channel,)
        )
        self.processes.append(process)
        return process

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition; a bound against hanging, no measure of speed."""
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - other processes set no event of ours
                await asyncio.sleep(0.01)

    async def greeting(self) -> bytes:
        """Connect, and read to the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(60):
                return await reader.read()
        finally:
            writer.close()


async def test_it_says_once_that_all_are_ready() -> None:
    above = Above(OBEYS)
    running = beside(above.supervisor.run())
    await above.until(lambda: above.ports)
    assert [place.slot for place in above.places] == [0, 1]
    above.processes[0].kill()
    await above.until(lambda: len(above.places) == 3)
    assert above.places[2].slot == 0
    assert len({place.worker for place in above.places}) == 3
    await above.until(lambda: sum(it.end.ready for it in above.supervisor._workers.values()) == 2)
    assert above.ports == [above.port]
    above.supervisor._told()
    assert await running == 1  # these end by the signal, not by themselves


async def test_connections_wait_for_workers_that_are_being_replaced() -> None:
    above = Above(GREETS)
    running = beside(above.supervisor.run())
    await above.until(lambda: above.ports)
    assert {await above.greeting() for _ in range(8)} == {b"hello"}
    for process in above.processes:
        process.kill()
    assert {await above.greeting() for _ in range(4)} == {b"hello"}
    above.supervisor._told()
    await running


async def test_a_second_signal_is_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "REPEAT_S", 0.0)
    above = Above(INSISTED)
    running = beside(above.supervisor.run())
    await above.until(lambda: above.ports)
    above.supervisor._told()
    with socket.socket() as late:
        assert late.connect_ex(("127.0.0.1", above.port)) != 0
    assert not running.done()
    while not running.done():
        above.supervisor._told()
        await asyncio.sleep(0.01)
    assert await running == 0


async def test_a_worker_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KILL_AFTER_S", 0.05)
    above = Above(DEAF)
    running = beside(above.supervisor.run())
    await above.until(lambda: above.ports)
    above.supervisor._told()
    async with asyncio.timeout(60):
        assert await running == 1
    assert [process.returncode for process in above.processes] == [-9, -9]


async def test_starts_that_fail_again_and_again_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY_S", 0.001)
    above = Above(NEVER_READY)
    with capture_logs() as logs:
        async with asyncio.timeout(60):
            assert await above.supervisor.run() == 1
    assert above.ports == []
    (given_up,) = (event for event in logs if event["event"] == "workers.given_up")
    assert given_up["failed_starts"] == MAX_FAILED_STARTS
    assert "exit code 7" in given_up["reason"]


async def test_a_service_that_has_served_goes_on_trying_until_its_workers_start_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY_S", 0.001)
    above = Above(GREETS)
    running = beside(above.supervisor.run())
    await above.until(lambda: above.ports)
    above.program = NEVER_READY
    for process in list(above.processes):
        process.kill()
    await above.until(lambda: len(above.places) > 3 * MAX_FAILED_STARTS)
    waiting = beside(above.greeting())
    above.program = GREETS
    assert await waiting == b"hello"
    above.supervisor._told()
    await running


def test_the_pause_before_another_start_grows_to_its_bound() -> None:
    pauses = [module._delay_s(failed) for failed in (1, 2, 3, 6, 7, 1000, 1025)]
    assert pauses == [0.25, 0.5, 1.0, 8.0, 10.0, 10.0, 10.0]


async def test_as_many_workers_as_may_fail_in_a_row_may_each_fail_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY_S", 0.001)
    above = Above(NEVER_READY, workers=MAX_FAILED_STARTS, then=OBEYS)
    running = beside(above.supervisor.run())
    await above.until(lambda: above.ports or running.done())
    assert above.ports == [above.port]
    assert sorted(place.slot for place in above.places) == sorted(2 * [*range(MAX_FAILED_STARTS)])
    above.supervisor._told()
    await running


async def test_a_machine_that_makes_no_process_is_a_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY_S", 0.001)

    async def refuse(_: WorkerPlace) -> Process:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with capture_logs() as logs:
        supervisor = Supervisor(listen("127.0.0.1", 0), workers=1, spawn=refuse, on_ready=lambda _port: None)
        assert await supervisor.run() == 1
    assert "Resource temporarily unavailable" in str(logs)
