"""kill -9 at random moments: what was acknowledged stays, and nobody sends it again.

The client is an outsider that keeps its own log of acknowledgements. Moments are counted in bytes sent, from a
seed, so that they fall anywhere in heads, bodies, writes and commits; what each kill hits differs from run to run,
what must hold does not.
"""

import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from haulier.core.values import dataclass
from tests.support.content import Content
from tests.support.data_directory import Inventory, require_one_file, take_inventory
from tests.support.files import make_file
from tests.support.outsider import NO_ANSWER, Outsider, Wire, pieces_of
from tests.support.processes import DEADLINE_S, Commands, ServeProcess, serving, wait_until

pytestmark = pytest.mark.slow

KIB = 1024
MIB = 1024 * KIB
WORKERS = 8
PIECE = 64 * KIB


@dataclass(frozen=True)
class Scale:
    """How big a file, and how many kills on the way."""

    size: int
    chunk_size: int
    kills: int

    @property
    def bytes_between_kills(self) -> int:
        """So that the last kill comes before the end."""
        return self.size // (self.kills + 1)


SCALES = [
    pytest.param(Scale(64 * MIB, MIB, 12), id="64 MiB"),
    pytest.param(Scale(2048 * MIB, 8 * MIB, 200), id="2 GiB", marks=pytest.mark.long),
]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServeProcess]:
    with serving(tmp_path / "data") as running:
        yield running


class Moment:
    """Comes when so many bytes have been sent by all who send."""

    def __init__(self, after: int) -> None:
        self._left = after
        self._lock = threading.Lock()
        self.come = threading.Event()

    def sent(self, count: int) -> None:
        """Take note of bytes sent."""
        with self._lock:
            self._left -= count
            if self._left <= 0:
                self.come.set()


@dataclass
class Sender:
    """Sends the chunks of one upload, several at a time, and remembers what was acknowledged."""

    content: Content
    chunk_size: int
    upload: str
    acknowledged: set[int] = field(default_factory=set)

    def chunk(self, index: int) -> bytes:
        """Return the bytes of a chunk."""
        return self.content.range(index * self.chunk_size, (index + 1) * self.chunk_size)

    def run(self, port: int, missing: list[int], moment: Moment) -> None:
        """Send the missing chunks in no special order; return when all are in, or the service is gone."""
        assert self.acknowledged.isdisjoint(missing), "an acknowledged chunk is missing"
        todo: SimpleQueue[int] = SimpleQueue()
        for index in missing:
            todo.put(index)
        with ThreadPoolExecutor(WORKERS) as pool:
            for worker in [pool.submit(self._work, port, todo, moment) for _ in range(WORKERS)]:
                worker.result()

    def _work(self, port: int, todo: "SimpleQueue[int]", moment: Moment) -> None:
        with suppress(Empty, *NO_ANSWER), Wire(port) as wire:
            while True:
                self._send(wire, todo.get_nowait(), moment)

    def _send(self, wire: Wire, index: int, moment: Moment) -> None:
        data = self.chunk(index)
        wire.start("PUT", f"/api/uploads/{self.upload}/chunks/{index}", len(data), {})
        for piece in pieces_of(data, PIECE):
            wire.send(piece)
            moment.sent(len(piece))
        answer = wire.answer()
        assert answer.status == 204, answer
        self.acknowledged.add(index)


def kill_at(moment: Moment, kill: Callable[[], None], work: Callable[[], None]) -> None:
    """Do `work` in a thread and `kill` when its moment comes, or when it is done."""
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        working.add_done_callback(lambda _: moment.come.set())
        assert moment.come.wait(DEADLINE_S)
        kill()
        working.result(DEADLINE_S)


def received_chunks(state: Any, scale: Scale) -> set[int]:
    """Return the indexes that a state says are there; only whole chunks can be."""
    indexes: set[int] = set()
    for first, stop in state["received"]:
        assert first % scale.chunk_size == 0
        assert stop % scale.chunk_size == 0 or stop == scale.size
        indexes.update(range(first // scale.chunk_size, -(-stop // scale.chunk_size)))
    return indexes


@pytest.mark.parametrize("scale", SCALES)
def test_acknowledged_chunks_survive_kill_9_and_are_never_sent_again(
    service: ServeProcess, scale: Scale
) -> None:
    chance, content = random.Random(1), Content(scale.size)
    begun = Outsider(service.port).begin(size=scale.size, chunk_size=scale.chunk_size)
    assert begun["chunk_size"] == scale.chunk_size
    sender = Sender(content, scale.chunk_size, begun["id"])
    every = set(range(begun["chunk_count"]))

    for _ in range(scale.kills):
        missing = sorted(every - received_chunks(Outsider(service.port).state(sender.upload), scale))
        chance.shuffle(missing)
        moment = Moment(chance.randrange(2 * scale.bytes_between_kills))
        kill_at(moment, service.kill, lambda: sender.run(service.port, missing, moment))  # noqa: B023 - joined
        service.start()
        state = Outsider(service.port).state(sender.upload)
        assert state["status"] == "open"
        assert sender.acknowledged <= received_chunks(state, scale)

    missing = sorted(every - received_chunks(Outsider(service.port).state(sender.upload), scale))
    sender.run(service.port, missing, Moment(scale.size))
    require_right_record(service, Outsider(service.port).finish(sender.upload).json, content)


def require_right_record(service: ServeProcess, record: Any, content: Content) -> None:
    """Fail unless that record is complete, its bytes are right, and it is all there is."""
    outsider = Outsider(service.port)
    if "result" in record:  # a finish that takes long answers with the state
        wait_until(lambda: outsider.state(record["id"])["status"] == "committed", "it is committed")
        record = outsider.state(record["id"])["result"]
    assert record["status"] == "completed"
    assert record["digest"] == {"sha-256": content.sha256()}
    assert outsider.original_sha256(record["id"]) == (content.size, content.sha256())
    assert [found["id"] for found in outsider.records()] == [record["id"]]
    require_one_file(service.data_dir, content.size)


@dataclass
class Appender:
    """Sends one upload's bytes at its end, and remembers how much was acknowledged."""

    content: Content
    upload: str
    acknowledged: int = 0

    def run(self, port: int, offset: int, length: int, moment: Moment) -> None:
        """Send `length` bytes from `offset` on, which was acknowledged, in one request."""
        self.acknowledged = offset
        with suppress(*NO_ANSWER):
            self._send(port, offset, length, moment)

    def _send(self, port: int, offset: int, length: int, moment: Moment) -> None:
        with Wire(port) as wire:
            wire.start("PATCH", f"/api/uploads/{self.upload}", length, {"Upload-Offset": str(offset)})
            for block in self.content.pieces(offset, offset + length):
                for piece in pieces_of(block, PIECE):
                    wire.send(piece)
                    moment.sent(len(piece))
            answer = wire.answer()
        assert (answer.status, answer.headers["upload-offset"]) == (204, str(offset + length)), answer
        self.acknowledged = offset + length


@pytest.mark.parametrize("scale", SCALES)
def test_an_offset_never_falls_behind_what_was_acknowledged(service: ServeProcess, scale: Scale) -> None:
    chance, content = random.Random(2), Content(scale.size)
    upload = Outsider(service.port).begin(size=scale.size, mode="append")["id"]
    appender = Appender(content, upload)

    for _ in range(scale.kills):
        offset = Outsider(service.port).offset(upload)
        # Some requests end before the kill, and are acknowledged; the others are cut by it.
        # The last byte would end the upload, and comes after the last kill.
        length = min(scale.size - 1 - offset, chance.randrange(4 * scale.bytes_between_kills))
        moment = Moment(chance.randrange(2 * scale.bytes_between_kills))
        kill_at(moment, service.kill, lambda: appender.run(service.port, offset, length, moment))  # noqa: B023
        service.start()
        assert Outsider(service.port).offset(upload) >= appender.acknowledged

    offset = Outsider(service.port).offset(upload)
    appender.run(service.port, offset, scale.size - offset, Moment(scale.size))
    assert appender.acknowledged == scale.size
    (record,) = Outsider(service.port).records()
    require_right_record(service, record, content)


def test_bytes_after_the_last_checkpoint_of_a_killed_service_are_kept(service: ServeProcess) -> None:
    """A kill does not empty the page cache, so what the process had written is still there."""
    content = Content(40 * MIB)
    upload = Outsider(service.port).begin(size=content.size, mode="append")["id"]
    part = service.data_dir / "incoming" / upload
    with Wire(service.port) as wire:
        wire.start("PATCH", f"/api/uploads/{upload}", content.size, {"Upload-Offset": "0"})
        wire.send(content.range(0, 9 * MIB))
        # The first checkpoint says that this request's bytes may be believed; then some more come.
        wait_until(lambda: Outsider(service.port).state(upload)["received_bytes"] >= 8 * MIB, "it is saved")
        wire.send(content.range(9 * MIB, 12 * MIB + 12_345))
        wait_until(lambda: part.stat().st_size == 12 * MIB + 12_345, "all that was sent is written")
        service.kill()
    service.start()
    assert Outsider(service.port).offset(upload) == 12 * MIB + 12_345
    rest = content.range(12 * MIB + 12_345, content.size)
    assert Outsider(service.port).append(upload, 12 * MIB + 12_345, rest).status == 204
    (record,) = Outsider(service.port).records()
    require_right_record(service, record, content)


BOTH_SCALES = [
    pytest.param(Scale(512 * MIB, 8 * MIB, 6), id="512 MiB"),
    pytest.param(Scale(2048 * MIB, 8 * MIB, 40), id="2 GiB", marks=pytest.mark.long),
]


class Putting:
    """`haulier put`, which may be killed and run again."""

    def __init__(self, commands: Commands, source: Path) -> None:
        self._commands = commands
        self._source = source
        self._process = self._run()

    def _run(self) -> "subprocess.Popen[bytes]":
        return self._commands.start("put", self._source, "--parallel", str(WORKERS), "--json")

    def kill(self) -> None:
        """Kill and reap it; harmless when it has ended."""
        self._process.kill()
        self._process.communicate()

    def run_again(self) -> None:
        """Run the same command once more, after a kill."""
        self._process = self._run()

    def result(self) -> tuple[int, bytes, bytes]:
        """Wait for its end; return its code and both outputs."""
        out, err = self._process.communicate(timeout=5 * DEADLINE_S)
        return self._process.returncode, out, err


@pytest.mark.parametrize("scale", BOTH_SCALES)
def test_a_put_with_8_parallel_chunks_survives_kill_9_of_the_service_and_of_itself(
    service: ServeProcess, tmp_path: Path, scale: Scale
) -> None:
    chance, content = random.Random(3), Content(scale.size)
    commands = Commands(service.url, tmp_path / "work")
    putting = Putting(commands, make_file(commands.folder / "large.bin", scale.size))
    # Each kill comes while chunks are missing; how many more arrive before it, chance decides.
    # Never before the first: a service that has never answered is not waited for, by a second client neither.
    moments = sorted(chance.choices(range(1, scale.size // scale.chunk_size - 2 * WORKERS), k=scale.kills))
    kills = 0
    try:
        for moment in moments:
            if not await_chunks(service, moment):
                break
            victims = chance.choice([("service",), ("client",), ("client", "service")])
            if "client" in victims:
                putting.kill()
            if "service" in victims:
                service.kill()
                service.start()
            if "client" in victims:
                begun = len(service.requests("POST", "^/api/uploads$"))
                putting.run_again()
                wait_until(
                    partial(has_begun_more, service, begun), "it has been answered, and waits for the service"
                )
            kills += 1
        code, out, err = putting.result()
    finally:
        putting.kill()
    assert kills > 0
    assert code == 0, err
    assert b'"completed"' in out
    (record,) = Outsider(service.port).records()
    require_right_record(service, record, content)


def has_begun_more(service: ServeProcess, than: int) -> bool:
    return len(service.requests("POST", "^/api/uploads$")) > than


def await_chunks(service: ServeProcess, wanted: int) -> bool:
    """Wait until so many chunks are accepted; return whether there is more to come."""

    def look() -> bool:
        found = take_inventory(service.data_dir)
        return found.chunks >= wanted or ended(found)

    wait_until(look, f"{wanted} chunks are accepted")
    return not ended(take_inventory(service.data_dir))


def ended(found: Inventory) -> bool:
    return "committed" in found.uploads or "finishing" in found.uploads
