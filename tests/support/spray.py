"""Many uploads sprayed at random over a fleet whose processes are killed, by an outsider who keeps a log.

Rule 1: what was acknowledged is written down here, and nobody sends it again, but for repetitions on purpose.
Rule 2: every choice comes from the seed. What a kill hits differs from run to run all the same; what must hold
        does not.
Rule 3: an answer is what was wanted, or says that trying again can help, or never comes because its process died.
        Anything else is a failure.
"""

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from typing import Any, Final

from haulier.core.values import dataclass
from tests.support.content import Content
from tests.support.fleet import Fleet
from tests.support.outsider import NO_ANSWER, Answer, Outsider

KIB: Final = 1024
CHUNK: Final = 256 * KIB
"""The smallest there is: many acceptances for few bytes."""
MOST_CHUNKS: Final = 6
OCEAN: Final = Content(1 << 40, seed=7)
"""What files are cut from: no two of them are alike, wherever they begin."""
THREADS: Final = 8
TOGETHER: Final = 16
"""Uploads whose requests are mixed."""
AGAIN: Final = frozenset({408, 423, 429, 503})
"""Statuses after which the same request may succeed."""
PATIENCE_S: Final = 60.0
"""For one request with all its repetitions."""
BACK_OFF_S: Final = 0.02


@dataclass
class File:
    """One file on its way, and all that was acknowledged of it."""

    number: int
    start: int
    size: int
    way: str
    """`chunks`, `append` or `whole`."""
    expected: bool
    """Whether the service is told the digest beforehand."""
    upload: str | None = None
    chunks: set[int] = field(default_factory=set)
    """Acknowledged indexes."""
    offset: int = 0
    """Acknowledged bytes of an append."""
    record: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        return f"{self.number}.bin"

    @property
    def key(self) -> dict[str, str]:
        """The header that makes its begin repeatable."""
        return {"Idempotency-Key": f"file {self.number}"}

    @property
    def indexes(self) -> range:
        """Its chunks."""
        return range(-(-self.size // CHUNK))

    def bytes(self, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes `[start, stop)`."""
        stop = self.size if stop is None else min(stop, self.size)
        return OCEAN.range(self.start + start, self.start + stop)

    def sha256(self) -> str:
        return hashlib.sha256(self.bytes()).hexdigest()


def make_files(count: int, chance: random.Random) -> list[File]:
    """Return so many, of all kinds."""
    ways = ["chunks"] * 7 + ["append"] * 2 + ["whole"]
    return [
        File(
            number=number,
            start=chance.randrange(1 << 39),
            size=chance.choice([chance.randrange(1, MOST_CHUNKS * CHUNK), chance.randrange(3) * CHUNK]),
            way=chance.choice(ways),
            expected=chance.random() < 0.5,
        )
        for number in range(count)
    ]


def tasks_of(files: list[File], chance: random.Random) -> Iterator[tuple[File, int]]:
    """Yield what is to be sent, a few files mixed at a time: all of one, or one chunk of it."""
    for first in range(0, len(files), TOGETHER):
        mixed = [
            (file, index)
            for file in files[first : first + TOGETHER]
            for index in (file.indexes if file.way == "chunks" and file.size else (0,))
        ]
        chance.shuffle(mixed)
        yield from mixed


class Moment:
    """Comes when so many tasks are done, or when no more will be."""

    def __init__(self, after: int) -> None:
        self._left = after
        self._lock = threading.Lock()
        self.come = threading.Event()

    def done(self) -> None:
        """One more is."""
        with self._lock:
            self._left -= 1
            if self._left <= 0:
                self.come.set()


class Spray:
    """A run: files that are sent to all processes of a fleet at random."""

    def __init__(self, services: Fleet, *, seed: int, files: int) -> None:
        self._services = services
        self._chance = random.Random(seed)
        self._files = make_files(files, self._chance)
        self._seed = seed

    def run(self, *, kills: int) -> None:
        """Send everything, and kill a process so often while that goes on."""
        tasks = list(tasks_of(self._files, self._chance))
        share = -(-len(tasks) // (kills + 1))
        for first in range(0, len(tasks), share):
            self._send(tasks[first : first + share], kill=first + share < len(tasks))

    def _send(self, tasks: list[tuple[File, int]], *, kill: bool) -> None:
        """Send a share; a process is killed in the middle of it, and is back at its end."""
        moment = Moment(self._chance.randrange(len(tasks)) if kill else len(tasks))
        with ThreadPoolExecutor(THREADS) as senders:
            sent = [senders.submit(self._task, file, index, moment) for file, index in tasks]
            while not moment.come.wait(0.1) and not all(future.done() for future in sent):
                pass  # a task that failed counts for nothing
            if kill:
                self._services.kill_one(self._chance)
            for future in sent:
                future.result()

    def _task(self, file: File, index: int, moment: Moment) -> None:
        chance = random.Random(f"{self._seed} {file.number} {index}")
        Sender(self._services.ports, file, chance).send(index)
        moment.done()

    def require_all_right(self) -> None:
        """Fail unless every file is there, once, as it was sent, and nothing else is."""
        outsider = Outsider(self._services.last)
        records = {record["id"]: record for record in all_records(outsider)}
        assert {file.record for file in self._files} == set(records)
        assert len(records) == len(self._files)
        for file in self._files:
            record = records[str(file.record)]
            found = (record["filename"], record["size"], record["status"], record["digest"]["sha-256"])
            assert found == (file.name, file.size, "completed", file.sha256())
            outsider = Outsider(self._chance.choice(self._services.ports))
            assert outsider.original_sha256(record["id"]) == (file.size, file.sha256())
        self._require_right_sums(outsider)

    def _require_right_sums(self, outsider: Outsider) -> None:
        stats = outsider.ask("GET", "/api/operators/stats").json
        assert sum(stats["sessions"].values()) == 0, stats
        assert stats["records"]["completed"] == sum(stats["records"].values()) == len(self._files), stats
        (capsule,) = stats["capsules"]
        total = sum(file.size for file in self._files)
        assert (capsule["used_bytes"], capsule["reserved_bytes"]) == (total, 0), stats
        blobs = sum(path.is_file() for path in (self._services.storage / "objects").rglob("*"))
        assert blobs == len(self._files)


def all_records(outsider: Outsider) -> Iterator[Any]:
    """Yield every record, page by page."""
    cursor = ""
    while cursor is not None:
        page = outsider.ask("GET", f"/api/records?limit=100{cursor and f'&cursor={cursor}'}").json
        yield from page["items"]
        cursor = page["next"]


class Sender:
    """Sends one file, or one chunk of it, each request to any process, until it is acknowledged."""

    def __init__(self, ports: list[int], file: File, chance: random.Random) -> None:
        self._ports = ports
        self._file = file
        self._chance = chance

    def send(self, index: int) -> None:
        """Do one task."""
        if self._file.way == "whole":
            self._send_whole()
            return
        self._begin()
        if self._file.way == "append":
            self._append_all()
        elif self._file.size:
            self._put(index)
        if self._file.way == "chunks" and self._file.chunks == set(self._file.indexes):
            self._finish()

    def _begin(self) -> None:
        file = self._file
        with file.lock:
            if file.upload is not None:
                return
            wanted = {"filename": file.name, "size": file.size, "chunk_size": CHUNK}
            wanted["mode"] = file.way
            if file.expected:
                wanted["digest"] = {"sha-256": file.sha256()}
            file.upload = self._begun(wanted)
            # Whoever is not sure asks again, of anybody.
            assert self._chance.random() < 0.7 or self._begun(wanted) == file.upload

    def _begun(self, wanted: dict[str, Any]) -> str:
        answer = self._persist(
            {200, 201}, lambda outsider: outsider.post("/api/uploads", wanted, self._file.key)
        )
        return str(answer.json["id"])

    def _put(self, index: int) -> None:
        file, upload = self._file, str(self._file.upload)
        data = file.bytes(index * CHUNK, (index + 1) * CHUNK)
        self._persist({204}, lambda outsider: outsider.put(upload, index, data))
        with file.lock:
            file.chunks.add(index)
        if self._chance.random() < 0.1:
            self._require_chunks()
        if self._chance.random() < 0.05:  # a repetition; the upload may be complete meanwhile
            self._persist({204, 409}, lambda outsider: outsider.put(upload, index, data))

    def _require_chunks(self) -> None:
        """Look anywhere: what was acknowledged before must be there."""
        with self._file.lock:
            acknowledged = set(self._file.chunks)
        state = self._ask("GET", f"/api/uploads/{self._file.upload}").json
        there = {
            index for first, stop in state["received"] for index in range(first // CHUNK, -(-stop // CHUNK))
        }
        assert state["status"] in {"finishing", "committed"} or acknowledged <= there, state

    def _finish(self) -> None:
        """Make it a record, and make sure that everybody says the same."""
        self._keep(self._ended())
        if self._chance.random() < 0.3:
            self._keep(self._ended())

    def _ended(self) -> Any:
        target = f"/api/uploads/{self._file.upload}"
        answer = self._persist({200, 202}, lambda outsider: outsider.post(f"{target}/finish", {}))
        return answer.json if answer.status == 200 else self._waited()

    def _waited(self) -> Any:
        state = {"status": "finishing"}
        while state["status"] in {"open", "finishing"}:
            state = self._ask("GET", f"/api/uploads/{self._file.upload}?wait=5").json
        assert state["status"] == "committed", state
        return state["result"]

    def _keep(self, record: Any) -> None:
        file = self._file
        with file.lock:
            assert file.record in {None, record["id"]}, "an upload has two records"
            file.record = record["id"]
        assert record["digest"] == {"sha-256": file.sha256()}

    def _append_all(self) -> None:
        file, complete = self._file, self._file.size == 0
        while not complete:
            head = self._persist(
                {200, 409}, lambda outsider: outsider.ask("HEAD", f"/api/uploads/{file.upload}")
            )
            if head.status == 409:  # the answer that said so was lost
                break
            offset = int(head.headers["upload-offset"])
            assert file.offset <= offset <= file.size, "acknowledged bytes are missing"
            complete = offset == file.size or self._append_once(offset)
        self._keep(self._waited())

    def _append_once(self, offset: int) -> bool:
        """Send some more; return whether that is known to have been the last byte."""
        file = self._file
        data = file.bytes(offset, offset + self._chance.choice([CHUNK, 3 * CHUNK, file.size]))
        try:
            outsider = Outsider(self._chance.choice(self._ports))
            answer = outsider.append(str(file.upload), offset, data)
        except NO_ANSWER:
            time.sleep(BACK_OFF_S)
            return False
        assert answer.status in {204, *AGAIN}, answer
        if answer.status == 204:
            file.offset = offset + len(data)
            assert answer.headers["upload-offset"] == str(file.offset)
        return answer.status == 204 and file.offset == file.size

    def _send_whole(self) -> None:
        file, data = self._file, self._file.bytes()
        answer = self._persist(
            {200, 201, 202, 409},
            lambda outsider: outsider.ask("PUT", f"/api/files/{file.name}", data, file.key),
        )
        if answer.status in {200, 201}:
            self._keep(answer.json)
            return
        if answer.status == 409:  # of a request that was cut, something is there
            assert answer.problem == (409, "offset-mismatch")
        file.upload = answer.headers["location"].rpartition("/")[2]
        if answer.status == 409:
            self._append_all()
        else:
            self._keep(self._waited())

    def _ask(self, method: str, target: str) -> Answer:
        return self._persist({200}, lambda outsider: outsider.ask(method, target))

    def _persist(self, wanted: set[int], request: Callable[[Outsider], Answer]) -> Answer:
        """Repeat a request, anywhere, until it is answered as wanted."""
        deadline = time.monotonic() + PATIENCE_S
        told: object = None
        while time.monotonic() < deadline:
            try:
                answer = request(Outsider(self._chance.choice(self._ports)))
            except NO_ANSWER as error:
                told = error
            else:
                if answer.status in wanted:
                    return answer
                assert answer.status in AGAIN, (self._file, answer)
                told = answer
            time.sleep(BACK_OFF_S)
        raise AssertionError(f"no luck with {self._file}: {told}")
