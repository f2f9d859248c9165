"""A connection died silently: the next request gets the true offset at once, and nothing is lost.

Each test sends the older request through a proxy that fails as planned, to one process of a fleet, and the newer
one straight to another. Whatever the older request would still bring is rubbish, so that a byte of it anywhere
makes the record's digest wrong.
"""

from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.content import Content
from tests.support.fault_plan import Drop
from tests.support.fault_proxy import ThreadedFaultProxy, fault_proxy
from tests.support.fleet import ONE_PROCESS, TWO_SERVICES, TWO_WORKERS, Fleet, fleet
from tests.support.outsider import Outsider
from tests.support.processes import wait_until
from tests.support.raw_http import Line
from tests.support.resumable import PARTIAL, Draft
from tests.support.tus import TusClient

pytestmark = pytest.mark.slow

MIB: Final = 1024 * 1024
CONTENT: Final = Content(12 * MIB)
ARRIVED: Final = 9 * MIB + 12_345
"""What came before the drop: one checkpoint, and more that no row knows of yet."""
RUBBISH: Final = b"\xff" * 64 * 1024
"""What the older request sends when it should be silent; as much as fits between two sockets."""
PATIENCE_S: Final = 30
"""Far more than a takeover takes, far less than the minute after which a silent body counts as cut."""


@pytest.fixture(
    scope="module", params=[ONE_PROCESS, TWO_WORKERS, TWO_SERVICES], ids=lambda topology: topology.name
)
def services(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(request.param, tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture
def older(services: Fleet) -> Outsider:
    """Where the older request goes."""
    return Outsider(services.first, timeout_s=PATIENCE_S)


@pytest.fixture
def newer(services: Fleet) -> Outsider:
    """Where everything after it goes."""
    return Outsider(services.last, timeout_s=PATIENCE_S)


class Dying:
    """A request whose connection dies in the middle of its body."""

    def __init__(self, line: Line, proxy: ThreadedFaultProxy, *, chunked: bool) -> None:
        self._line = line
        self._proxy = proxy
        self._chunked = chunked

    def start(self, request: str, *fields: str) -> None:
        """Send the head, and what of the body arrives."""
        framing = "Transfer-Encoding: chunked" if self._chunked else f"Content-Length: {CONTENT.size}"
        head = "\r\n".join([f"{request} HTTP/1.1", "Host: x", framing, *fields])
        self._line.send(f"{head}\r\n\r\n".encode())
        self._send(CONTENT.range(0, ARRIVED))

    def die(self, drop: Drop) -> None:
        """Let the connection die."""
        self._proxy.drop(drop)

    def go_on(self) -> int:
        """Let a stalled connection live again and bring the rest; return its answer's status."""
        self._proxy.resume()
        self._send(CONTENT.range(ARRIVED, CONTENT.size))
        return self._line.answer().status

    def talk_in_its_grave(self) -> int:
        """Let a stalled connection live again and bring rubbish; return its answer's status."""
        self._send(RUBBISH)
        self._proxy.resume()
        return self._line.answer().status

    def _send(self, data: bytes) -> None:
        self._line.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)


@contextmanager
def dying(port: int, *, chunked: bool = False) -> Iterator[Dying]:
    with fault_proxy(port) as proxy, Line(proxy.port) as line:
        yield Dying(line, proxy, chunked=chunked)


def begin_dying(services: Fleet, dead: Dying, older: Outsider) -> str:
    """Begin an upload and let a first request bring what arrives of it; return the upload's id."""
    upload = str(older.begin(size=CONTENT.size, mode="append")["id"])
    dead.start(f"PATCH /api/uploads/{upload}", "Upload-Offset: 0")
    wait_until(lambda: size_of_part(services, upload) == ARRIVED, "all that was sent is written")
    return upload


def begin_tus_dying(services: Fleet, dead: Dying) -> str:
    """Do the same by tus."""
    upload = TusClient(services.first).create(CONTENT.size)
    dead.start(
        f"PATCH {upload}",
        "Tus-Resumable: 1.0.0",
        "Upload-Offset: 0",
        "Content-Type: application/offset+octet-stream",
    )
    name = upload.rpartition("/")[2]
    wait_until(lambda: size_of_part(services, name) == ARRIVED, "all that was sent is written")
    return upload


def size_of_part(services: Fleet, upload: str) -> int:
    """Return how far an upload's bytes go, whatever its row says."""
    part = services.part(upload)
    return part.stat().st_size if part.exists() else 0


def require_rest(newer: Outsider, upload: str) -> None:
    """Send what is missing; fail unless the record is right."""
    answer = newer.append(upload, ARRIVED, CONTENT.range(ARRIVED, CONTENT.size))
    assert (answer.status, answer.headers["upload-offset"]) == (204, str(CONTENT.size)), answer
    require_record(newer, upload)


def require_record(newer: Outsider, upload: str) -> None:
    """Wait for the end of an upload; fail unless the record is right."""
    state = newer.ask("GET", f"/api/uploads/{upload}?wait=25").json
    assert state["status"] == "committed"
    assert state["result"]["digest"] == {"sha-256": CONTENT.sha256()}
    assert newer.original_sha256(state["result"]["id"]) == (CONTENT.size, CONTENT.sha256())


DROPS = pytest.mark.parametrize("drop", Drop, ids=lambda drop: drop.name)
FRAMINGS = pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])


@DROPS
@FRAMINGS
def test_a_head_tells_the_true_offset(
    services: Fleet, older: Outsider, newer: Outsider, drop: Drop, *, chunked: bool
) -> None:
    with dying(services.first, chunked=chunked) as dead:
        upload = begin_dying(services, dead, older)
        dead.die(drop)
        assert newer.offset(upload) == ARRIVED
        require_rest(newer, upload)


@DROPS
@FRAMINGS
def test_a_patch_goes_on_at_the_true_offset(
    services: Fleet, older: Outsider, newer: Outsider, drop: Drop, *, chunked: bool
) -> None:
    with dying(services.first, chunked=chunked) as dead:
        upload = begin_dying(services, dead, older)
        dead.die(drop)
        require_rest(newer, upload)


@DROPS
def test_a_patch_elsewhere_is_told_the_true_offset(
    services: Fleet, older: Outsider, newer: Outsider, drop: Drop
) -> None:
    with dying(services.first) as dead:
        upload = begin_dying(services, dead, older)
        dead.die(drop)
        answer = newer.append(upload, 0, b"from the start")
        assert answer.problem == (409, "offset-mismatch")
        assert answer.headers["upload-offset"] == str(ARRIVED)
        require_rest(newer, upload)


@DROPS
def test_a_delete_ends_it(services: Fleet, older: Outsider, newer: Outsider, drop: Drop) -> None:
    with dying(services.first) as dead:
        upload = begin_dying(services, dead, older)
        dead.die(drop)
        assert newer.ask("DELETE", f"/api/uploads/{upload}").status == 204
        assert older.state(upload)["status"] == "aborted"
        assert not services.part(upload).exists()


@DROPS
def test_a_head_of_tus_tells_the_true_offset(services: Fleet, newer: Outsider, drop: Drop) -> None:
    tus = TusClient(services.last, timeout_s=PATIENCE_S)
    with dying(services.first) as dead:
        upload = begin_tus_dying(services, dead)
        dead.die(drop)
        assert tus.offset(upload) == ARRIVED
        assert tus.append(upload, ARRIVED, CONTENT.range(ARRIVED, CONTENT.size)) == CONTENT.size
        require_record(newer, upload.rpartition("/")[2])


@DROPS
def test_a_patch_of_tus_goes_on_at_the_true_offset(services: Fleet, newer: Outsider, drop: Drop) -> None:
    tus = TusClient(services.last, timeout_s=PATIENCE_S)
    with dying(services.first) as dead:
        upload = begin_tus_dying(services, dead)
        dead.die(drop)
        elsewhere = tus.patch(upload, 0, b"from the start")
        assert elsewhere.problem == (409, "offset-mismatch")
        assert elsewhere.headers["upload-offset"] == str(ARRIVED)
        assert tus.append(upload, ARRIVED, CONTENT.range(ARRIVED, CONTENT.size)) == CONTENT.size
        require_record(newer, upload.rpartition("/")[2])


@DROPS
def test_a_delete_of_tus_ends_it(services: Fleet, newer: Outsider, drop: Drop) -> None:
    tus = TusClient(services.last, timeout_s=PATIENCE_S)
    with dying(services.first) as dead:
        upload = begin_tus_dying(services, dead)
        dead.die(drop)
        assert tus.ask("DELETE", upload).status == 204
        assert tus.head(upload).status == 410
        assert not services.part(upload.rpartition("/")[2]).exists()


def begin_draft_dying(services: Fleet, dead: Dying) -> str:
    """Do the same by the newest draft; the older request says that it brings the last bytes."""
    older = Draft(services.first)
    upload = older.begin(CONTENT.size)
    fields = {
        **older.named,
        **older.says(complete=True),
        "Upload-Offset": "0",
        "Content-Type": PARTIAL,
        "Repr-Digest": f"sha-256=:{b64encode(bytes.fromhex(CONTENT.sha256())).decode()}:",
    }
    dead.start(f"PATCH {upload}", *(f"{name}: {value}" for name, value in fields.items()))
    name = upload.rpartition("/")[2]
    wait_until(lambda: size_of_part(services, name) == ARRIVED, "all that was sent is written")
    return upload


@DROPS
def test_a_head_of_a_draft_tells_the_true_offset(services: Fleet, newer: Outsider, drop: Drop) -> None:
    draft = Draft(services.last, timeout_s=PATIENCE_S)
    with dying(services.first) as dead:
        upload = begin_draft_dying(services, dead)
        dead.die(drop)
        assert draft.offset(upload) == ARRIVED
        rest = CONTENT.range(ARRIVED, CONTENT.size)
        assert draft.patch(upload, ARRIVED, rest, complete=True).status == 201
        require_record(newer, upload.rpartition("/")[2])


@DROPS
def test_a_patch_of_a_draft_goes_on_at_the_true_offset(services: Fleet, newer: Outsider, drop: Drop) -> None:
    draft = Draft(services.last, timeout_s=PATIENCE_S)
    with dying(services.first) as dead:
        upload = begin_draft_dying(services, dead)
        dead.die(drop)
        elsewhere = draft.patch(upload, 0, b"from the start")
        assert (elsewhere.status, elsewhere.headers["upload-offset"]) == (409, str(ARRIVED))
        rest = CONTENT.range(ARRIVED, CONTENT.size)
        assert draft.patch(upload, ARRIVED, rest, complete=True).status == 201
        require_record(newer, upload.rpartition("/")[2])


@DROPS
def test_a_delete_of_a_draft_ends_it(services: Fleet, drop: Drop) -> None:
    draft = Draft(services.last, timeout_s=PATIENCE_S)
    with dying(services.first) as dead:
        upload = begin_draft_dying(services, dead)
        dead.die(drop)
        assert draft.ask("DELETE", upload).status == 204
        assert draft.head(upload).status == 410
        assert not services.part(upload.rpartition("/")[2]).exists()


def test_what_a_stalled_patch_of_tus_brings_after_a_head_is_not_kept(
    services: Fleet, newer: Outsider
) -> None:
    tus = TusClient(services.last, timeout_s=PATIENCE_S)
    with dying(services.first) as dead:
        upload = begin_tus_dying(services, dead)
        dead.die(Drop.STALL)
        assert tus.offset(upload) == ARRIVED
        assert dead.talk_in_its_grave() == 423
        assert tus.offset(upload) == ARRIVED
        assert tus.append(upload, ARRIVED, CONTENT.range(ARRIVED, CONTENT.size)) == CONTENT.size
        require_record(newer, upload.rpartition("/")[2])


@DROPS
def test_the_same_put_again_is_told_where_to_go_on(
    services: Fleet, older: Outsider, newer: Outsider, drop: Drop
) -> None:
    key = f"one request, {drop.name}"
    with dying(services.first) as dead:
        dead.start("PUT /api/files/file.bin", f"Idempotency-Key: {key}")
        (upload,) = (found.name for found in wait_for_parts(services))
        wait_until(lambda: size_of_part(services, upload) == ARRIVED, "all that was sent is written")
        dead.die(drop)
        again = newer.ask(
            "PUT", "/api/files/file.bin", CONTENT.range(0, CONTENT.size), {"Idempotency-Key": key}
        )
        assert again.problem == (409, "offset-mismatch")
        assert again.headers["upload-offset"] == str(ARRIVED)
        assert again.headers["location"].endswith(f"/api/uploads/{upload}")
        require_rest(newer, upload)


def wait_for_parts(services: Fleet) -> list[Path]:
    """Wait until there is one; return all."""
    incoming = services.storage / "incoming"
    wait_until(lambda: any(incoming.iterdir()), "the part is there")
    return list(incoming.iterdir())


@FRAMINGS
def test_what_a_stalled_connection_brings_after_a_head_is_not_kept(
    services: Fleet, older: Outsider, newer: Outsider, *, chunked: bool
) -> None:
    with dying(services.first, chunked=chunked) as dead:
        upload = begin_dying(services, dead, older)
        dead.die(Drop.STALL)
        assert newer.offset(upload) == ARRIVED
        assert dead.talk_in_its_grave() == 423
        assert (newer.offset(upload), size_of_part(services, upload)) == (ARRIVED, ARRIVED)
        require_rest(newer, upload)


def test_what_a_stalled_connection_brings_after_the_end_is_not_kept(
    services: Fleet, older: Outsider, newer: Outsider
) -> None:
    with dying(services.first) as dead:
        upload = begin_dying(services, dead, older)
        dead.die(Drop.STALL)
        require_rest(newer, upload)
        assert dead.talk_in_its_grave() in {409, 423}
        require_record(newer, upload)


def test_what_a_stalled_connection_brings_after_a_delete_is_not_kept(
    services: Fleet, older: Outsider, newer: Outsider
) -> None:
    with dying(services.first) as dead:
        upload = begin_dying(services, dead, older)
        dead.die(Drop.STALL)
        assert newer.ask("DELETE", f"/api/uploads/{upload}").status == 204
        assert dead.talk_in_its_grave() in {410, 423}
        assert not services.part(upload).exists()


def test_of_many_newer_requests_the_last_one_wins_and_nothing_is_lost(
    services: Fleet, older: Outsider, newer: Outsider
) -> None:
    """A client that loses its patience again and again, on a line that stalls again and again."""
    upload, arrived = str(older.begin(size=CONTENT.size, mode="append")["id"]), 0
    with ExitStack() as graves:
        for number in range(8):
            outsider = (older, newer)[number % 2]
            assert outsider.offset(upload) == arrived
            proxy = graves.enter_context(fault_proxy(outsider.port))
            line = graves.enter_context(Line(proxy.port))
            line.send(
                f"PATCH /api/uploads/{upload} HTTP/1.1\r\nHost: x\r\nUpload-Offset: {arrived}\r\n"
                f"Content-Length: {CONTENT.size - arrived}\r\n\r\n".encode()
            )
            line.send(CONTENT.range(arrived, arrived + MIB + number))
            arrived += MIB + number
            wait_until(lambda: size_of_part(services, upload) == arrived, "all that was sent is written")  # noqa: B023
            proxy.drop(Drop.STALL)
        rest = CONTENT.range(arrived, CONTENT.size)
        assert newer.append(upload, arrived, rest).status == 204
        require_record(newer, upload)


def test_looking_at_an_upload_disturbs_nobody(services: Fleet, older: Outsider, newer: Outsider) -> None:
    with dying(services.first) as running:
        upload = begin_dying(services, running, older)
        running.die(Drop.STALL)
        for outsider in (older, newer):
            assert outsider.state(upload)["status"] == "open"
            assert outsider.ask("GET", f"/api/uploads/{upload}?wait=0.1").status == 200
        assert running.go_on() == 204
        require_record(newer, upload)
