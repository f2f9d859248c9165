"""Takeover: what a connection that dies silently costs the next request, by kind of death, protocol and server."""

import argparse
import statistics
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from benchmarks.harness import MIB, Verdict, conclude
from benchmarks.p1 import Start
from benchmarks.programs import RAM_DISK, seaweedfs, tus_node, tuspyserver, workspace
from tests.support.content import Content
from tests.support.fault_plan import Drop
from tests.support.fault_proxy import fault_proxy
from tests.support.fleet import ONE_PROCESS, TWO_SERVICES, TWO_WORKERS, fleet
from tests.support.outsider import NO_ANSWER, Outsider
from tests.support.raw_http import Line
from tests.support.resumable import PARTIAL, Draft
from tests.support.tus import TusClient

T = TypeVar("T")

ROUNDS = 5
SIZE = 64 * MIB
"""Of which a little less than half arrives before the death: past the last row that was written about it."""
NEXT = 1024
"""The next bytes that are sent."""
PATIENCE_S = 30.0
"""Of a client; a server that has not answered well by then is said to take at least that long."""
STORED_S = 5.0
"""How long is waited for what was sent to be stored; some servers keep a part of it to themselves."""
TOPOLOGIES = (ONE_PROCESS, TWO_WORKERS, TWO_SERVICES)
SILENT = {Drop.FIN: "FIN", Drop.RST: "RST", Drop.STALL: "silence", Drop.HALF_OPEN: "half-open"}


class Face(Protocol):
    """A protocol of a server, as a client speaks it."""

    name: str

    def create(self, size: int) -> tuple[int, str, list[str]]:
        """Create an upload; return the port, the path and the fields of a PATCH at its start."""
        ...

    def stored(self) -> int:
        """Return how much of the newest upload is stored."""
        ...

    def offset(self) -> int | None:
        """Ask another process for the offset, once; None when it does not say."""
        ...

    def append(self, offset: int, data: bytes) -> bool:
        """Bring the next bytes, once; return whether they were taken."""
        ...

    def end(self) -> None:
        """Give the upload up."""


class Native:
    """Our own API."""

    def __init__(self, first: int, last: int, part: Callable[[str], Path], where: str) -> None:
        self.name = f"haulier, native, {where}"
        self._first, self._newer, self._part = first, Outsider(last), part
        self._upload = ""

    def create(self, size: int) -> tuple[int, str, list[str]]:
        """Begin an append upload."""
        self._upload = str(Outsider(self._first).begin(size=size, mode="append")["id"])
        return self._first, f"/api/uploads/{self._upload}", ["Upload-Offset: 0"]

    def stored(self) -> int:
        """Look at the part."""
        return _size(self._part(self._upload))

    def offset(self) -> int:
        """Ask with HEAD."""
        return self._newer.offset(self._upload)

    def append(self, offset: int, data: bytes) -> bool:
        """PATCH."""
        return self._newer.append(self._upload, offset, data).status == 204

    def end(self) -> None:
        """DELETE."""
        self._newer.ask("DELETE", f"/api/uploads/{self._upload}")


class Tus:
    """tus, of whatever server."""

    def __init__(
        self, name: str, first: int, last: int, stored: Callable[[str], int], *, target: str = "/tus/"
    ) -> None:
        self.name = name
        self._first, self._stored, self._target = first, stored, target
        self._newer = TusClient(last, timeout_s=PATIENCE_S)
        self._upload = ""

    def create(self, size: int) -> tuple[int, str, list[str]]:
        """POST."""
        # Without a filetype tuspyserver tells no offset.
        metadata = f"filename ZmlsZQ==,filetype {b64encode(b'application/octet-stream').decode()}"
        fields = {"Upload-Length": str(size), "Upload-Metadata": metadata}
        answer = TusClient(self._first).post(fields=fields, target=self._target)
        assert answer.status == 201, answer
        self._upload = urlsplit(answer.headers["location"]).path  # some send no more than that
        fields = {
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": "0",
            "Content-Type": "application/offset+octet-stream",
        }
        return self._first, self._upload, [f"{name}: {value}" for name, value in fields.items()]

    def stored(self) -> int:
        """Look at the disk."""
        return self._stored(self._upload.rpartition("/")[2])

    def offset(self) -> int | None:
        """Ask with HEAD."""
        answer = self._newer.head(self._upload)
        return int(answer.headers["upload-offset"]) if answer.status in {200, 204} else None

    def append(self, offset: int, data: bytes) -> bool:
        """PATCH."""
        return self._newer.patch(self._upload, offset, data).status == 204

    def end(self) -> None:
        """DELETE."""
        self._newer.ask("DELETE", self._upload)


class Resumable:
    """The newest interop version of the IETF's draft."""

    def __init__(self, first: int, last: int, part: Callable[[str], Path], where: str) -> None:
        self.name = f"haulier, IETF draft, {where}"
        self._older, self._newer, self._part = Draft(first), Draft(last, timeout_s=PATIENCE_S), part
        self._upload = ""

    def create(self, size: int) -> tuple[int, str, list[str]]:
        """POST, carefully."""
        self._upload = self._older.begin(size)
        fields = {
            **self._older.named,
            **self._older.says(complete=True),
            "Upload-Offset": "0",
            "Content-Type": PARTIAL,
        }
        return self._older.port, self._upload, [f"{name}: {value}" for name, value in fields.items()]

    def stored(self) -> int:
        """Look at the part."""
        return _size(self._part(self._upload.rpartition("/")[2]))

    def offset(self) -> int:
        """Ask with HEAD."""
        return self._newer.offset(self._upload)

    def append(self, offset: int, data: bytes) -> bool:
        """PATCH."""
        return self._newer.patch(self._upload, offset, data).status == 204

    def end(self) -> None:
        """DELETE."""
        self._newer.ask("DELETE", self._upload)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@dataclass(frozen=True, slots=True)
class Takeover:
    """One death: what it cost."""

    lost_bytes: int
    head_s: float
    next_s: float


def once(face: Face, drop: Drop, size: int) -> Takeover:
    """Let a request die, and ask to go on."""
    content, arrived = Content(size), size * 7 // 16
    port, path, fields = face.create(size)
    with fault_proxy(port) as proxy, Line(proxy.port) as line:
        head = [f"PATCH {path} HTTP/1.1", "Host: x", f"Content-Length: {size}", *fields]
        line.send("\r\n".join([*head, "", ""]).encode())
        for piece in content.pieces(0, arrived):
            line.send(piece)
        patiently(lambda: face.stored() >= arrived, STORED_S)
        proxy.drop(drop)
        died = time.perf_counter()
        offset = patiently(face.offset, PATIENCE_S)
        head_s = time.perf_counter() - died
        lost = arrived - (offset or 0)

        def go_on() -> bool:
            nonlocal offset
            if offset is not None and face.append(offset, content.range(offset, offset + NEXT)):
                return True
            offset = face.offset()
            return False

        patiently(go_on, PATIENCE_S)
        next_s = time.perf_counter() - died
    face.end()
    return Takeover(lost, head_s, next_s)


def patiently(ask: Callable[[], T | None], patience_s: float) -> T | None:
    """Ask until the answer is good, or so long."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            answer = ask()
        except NO_ANSWER:
            continue
        if answer not in {None, False}:
            return answer
        time.sleep(0.01)
    return None


def measure(face: Face, *, rounds: int, size: int) -> Iterable[tuple[object, ...]]:
    for drop, name in SILENT.items():
        print(f"{face.name}: {name}", file=sys.stderr)
        found = [once(face, drop, size) for _ in range(rounds)]
        yield (
            name,
            face.name,
            max(each.lost_bytes for each in found),
            statistics.median(each.head_s for each in found),
            max(each.head_s for each in found),
            statistics.median(each.next_s for each in found),
        )


def run_ours(*, rounds: int, size: int) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for topology in TOPOLOGIES:
        with (
            tempfile.TemporaryDirectory(prefix="haulier-bench-", dir=RAM_DISK) as folder,
            fleet(topology, Path(folder)) as services,
        ):
            native = Native(services.first, services.last, services.part, topology.name)
            tus = Tus(
                f"haulier, tus, {topology.name}",
                services.first,
                services.last,
                lambda name: _size(services.part(name)),
            )
            drafts = Resumable(services.first, services.last, services.part, topology.name)
            for face in (native, tus, drafts):
                rows.extend(measure(face, rounds=rounds, size=size))
    return rows


def run_peers(*, rounds: int, size: int) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    peers: dict[str, Start] = {
        "/files": tus_node,
        "/files/": tuspyserver,
        "/.tus/takeover/file": seaweedfs,  # of which nobody sees on disk what is stored: it gets `STORED_S`
    }
    for target, start in peers.items():
        with workspace() as folder, start(folder) as program:
            face = Tus(
                program.name,
                program.port,
                program.port,
                lambda name: _size(program.directory / name),
                target=target,
            )
            rows.extend(measure(face, rounds=rounds, size=size))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peer-rounds", type=int, default=1, help="others may need half a minute for each")
    parser.add_argument("--mib", type=int, default=SIZE // MIB, help="size of an upload")
    options = parser.parse_args()
    rows = run_ours(rounds=options.rounds, size=options.mib * MIB)
    lost = max(int(str(row[2])) for row in rows)
    peers = run_peers(rounds=options.peer_rounds, size=options.mib * MIB)
    return conclude(
        Verdict(
            id="takeover",
            title=f"a connection dies in the middle of {options.mib} MiB, another process goes on",
            # A lost byte is never good enough.
            ratio=max(float(str(row[4])) for row in rows) if not lost else float("inf"),
            bar=1.0,
            aim=0.2,
            columns=(
                "drop",
                "server",
                "bytes lost",
                "HEAD: s",
                "slowest HEAD: s",
                "next byte accepted: s",
            ),
            rows=(*rows, *peers),
            notes=f"Medians of {options.rounds} rounds (others: {options.peer_rounds}). The ratio is our slowest HEAD of all "
            f"to one second. {PATIENCE_S:g} s and more: the client gave up. SeaweedFS shows nobody what it has stored: it "
            f"got {STORED_S:g} s for it, and what it had not taken by then counts as lost.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
