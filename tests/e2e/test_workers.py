"""`haulier serve --workers N`: one service made of several processes, any of which may die at any moment."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.support.content import Content
from tests.support.data_directory import require_one_file
from tests.support.outsider import Outsider, Wire
from tests.support.process_state import is_running
from tests.support.processes import ServeProcess, serving, wait_until

MIB = 1024 * 1024
CONTENT = Content(8 * MIB)
WORKERS = 2


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServeProcess]:
    with serving(tmp_path / "data", {"HAULIER_WORKERS": str(WORKERS)}) as running:
        yield running


def worker_of(service: ServeProcess, wire: Wire, name: str) -> str:
    """Return the id of the worker that serves a connection, by the log line of a request with that id."""
    assert wire.ask("GET", "/healthz", headers={"X-Request-ID": name}).status == 200
    lines: list[str] = []

    def told() -> bool:
        lines[:] = [str(event["worker"]) for event in service.events() if event.get("request") == name]
        return bool(lines)

    wait_until(told, "the request is logged")
    (worker,) = lines
    return worker


def written(service: ServeProcess, uploads: list[str]) -> dict[str, int]:
    """Return the sizes of the parts that there are."""
    parts = {upload: service.data_dir / "incoming" / upload for upload in uploads}
    return {upload: part.stat().st_size for upload, part in parts.items() if part.exists()}


def all_ready(service: ServeProcess) -> bool:
    return len(service.ready_workers()) == WORKERS


def metric(service: ServeProcess, name: str) -> float:
    text = Outsider(service.port).ask("GET", "/metrics").body.decode()
    (line,) = (line for line in text.splitlines() if line.startswith(name + " "))
    return float(line.rpartition(" ")[2])


class TestStart:
    def test_it_is_ready_when_every_worker_is(self, service: ServeProcess) -> None:
        assert len(service.workers) == WORKERS
        assert all_ready(service)

    def test_connections_are_shared_out_evenly(self, service: ServeProcess) -> None:
        with ExitStack() as open_wires:
            wires = [open_wires.enter_context(Wire(service.port)) for _ in range(4 * WORKERS)]
            workers = Counter(worker_of(service, wire, f"c{number}") for number, wire in enumerate(wires))
        assert set(workers.values()) == {4}
        assert set(workers) == set(service.ready_workers())

    def test_every_worker_has_its_lock_in_the_storage_and_none_is_left(self, service: ServeProcess) -> None:
        run = service.data_dir / "run"
        assert {path.stem for path in run.glob("*.lock")} == {*service.ready_workers(), "service"}
        for pid in service.ready_workers().values():
            os.kill(pid, signal.SIGKILL)
        service.kill()
        service.start()
        assert {path.stem for path in run.glob("*.lock")} == {*service.ready_workers(), "service"}
        assert service.stop() == 0
        assert {path.stem for path in run.glob("*.lock")} == {"service"}


class TestDeath:
    def test_what_a_killed_worker_received_is_there_and_it_is_replaced(self, service: ServeProcess) -> None:
        outsider, sent = Outsider(service.port), 3 * MIB + 77
        upload = outsider.begin(size=CONTENT.size, mode="append")["id"]
        with Wire(service.port) as wire:
            worker = worker_of(service, wire, "victim")
            wire.start("PATCH", f"/api/uploads/{upload}", CONTENT.size, {"Upload-Offset": "0"})
            wire.send(CONTENT.range(0, sent))
            wait_until(lambda: outsider.state(upload)["received_bytes"] == sent, "it is accepted")
            os.kill(service.ready_workers()[worker], signal.SIGKILL)
            assert outsider.offset(upload) == sent
        assert outsider.append(upload, sent, CONTENT.range(sent, CONTENT.size)).status == 204
        (record,) = outsider.records()
        assert outsider.original_sha256(record["id"]) == (CONTENT.size, CONTENT.sha256())
        wait_until(lambda: all_ready(service), "the dead worker is replaced")
        assert worker not in service.ready_workers()
        require_one_file(service.data_dir, CONTENT.size)

    def test_while_all_workers_are_dead_connections_wait(self, service: ServeProcess) -> None:
        for pid in service.workers:
            os.kill(pid, signal.SIGSTOP)
        for pid in service.workers:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: [event for event in service.events() if event["event"] == "worker.died"] != [], "")
        assert Outsider(service.port).ask("GET", "/healthz").status == 200

    def test_workers_die_with_their_supervisor(self, service: ServeProcess) -> None:
        upload = Outsider(service.port).begin(size=CONTENT.size, mode="append")["id"]
        workers = service.workers
        with Wire(service.port) as wire:
            wire.start("PATCH", f"/api/uploads/{upload}", CONTENT.size, {"Upload-Offset": "0"})
            wire.send(CONTENT.range(0, MIB))
            wait_until(
                lambda: Outsider(service.port).state(upload)["received_bytes"] == MIB, "it is accepted"
            )
            service.kill()
        wait_until(lambda: not any(is_running(pid) for pid in workers), "the workers are gone")
        service.start()
        assert Outsider(service.port).offset(upload) == MIB

    def test_a_worker_that_is_told_to_end_saves_its_body_and_is_replaced(self, service: ServeProcess) -> None:
        outsider = Outsider(service.port)
        upload = outsider.begin(size=CONTENT.size, mode="append")["id"]
        part = service.data_dir / "incoming" / upload
        with Wire(service.port) as wire:
            worker = worker_of(service, wire, "one")
            wire.start("PATCH", f"/api/uploads/{upload}", CONTENT.size, {"Upload-Offset": "0"})
            wire.send(CONTENT.range(0, MIB))
            wait_until(lambda: part.exists() and part.stat().st_size == MIB, "all that was sent is written")
            os.kill(service.ready_workers()[worker], signal.SIGTERM)
            assert wire.answer().problem == (503, "service-stopping")
        assert outsider.offset(upload) == MIB
        wait_until(lambda: worker not in service.ready_workers() and all_ready(service), "it is replaced")
        assert service.stop() == 0

    def test_a_worker_that_cannot_start_says_why_and_does_once_it_can_while_the_other_serves(
        self, service: ServeProcess
    ) -> None:
        secret = service.data_dir / "secret.key"
        secret.chmod(0o644)
        os.kill(service.workers[0], signal.SIGKILL)

        def refusals() -> list[str]:
            return [event["error"] for event in service.events() if event["event"] == "worker.refused"]

        wait_until(lambda: len(refusals()) >= 2, "it was tried again")
        assert "0600" in refusals()[0]
        assert Outsider(service.port).ask("PUT", "/api/files/a.bin", b"bytes").status == 201
        secret.chmod(0o600)
        wait_until(lambda: all_ready(service), "it is replaced")
        assert service.stop() == 0


class TestStop:
    def test_sigterm_saves_the_bodies_of_every_worker(self, service: ServeProcess) -> None:
        outsider = Outsider(service.port)
        with ExitStack() as open_wires:
            wires, uploads = [], []
            for number in range(2 * WORKERS):
                upload = outsider.begin(size=CONTENT.size, mode="append")["id"]
                wire = open_wires.enter_context(Wire(service.port))
                wire.start("PATCH", f"/api/uploads/{upload}", CONTENT.size, {"Upload-Offset": "0"})
                wire.send(CONTENT.range(0, MIB + number))
                wires.append(wire)
                uploads.append(upload)
            sizes = {upload: MIB + number for number, upload in enumerate(uploads)}
            wait_until(lambda: written(service, uploads) == sizes, "all that was sent is written")
            assert service.stop() == 0
            assert {wire.answer().problem for wire in wires} == {(503, "service-stopping")}
        service.start()
        offsets = [Outsider(service.port).offset(upload) for upload in uploads]
        assert offsets == [MIB + number for number in range(2 * WORKERS)]

    def test_ctrl_c_ends_the_whole_group_with_0(self, tmp_path: Path) -> None:
        settings = {"HAULIER_WORKERS": str(WORKERS)}
        with serving(tmp_path / "data", settings, start_new_session=True) as running:
            os.killpg(running.pid, signal.SIGINT)
            assert running.wait() == 0
            assert "Traceback" not in running.log


class TestMetrics:
    def test_any_worker_answers_for_all_and_for_the_dead(self, service: ServeProcess) -> None:
        def put(number: int) -> int:
            return Outsider(service.port).ask("PUT", f"/api/files/f{number}", b"hello").status

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(put, range(20))) == [201] * 20
        served = Counter(event["worker"] for event in service.requests("PUT", "/api/files/"))
        assert set(served) == set(service.ready_workers())
        os.kill(service.workers[0], signal.SIGKILL)
        for _ in range(2 * WORKERS):
            assert metric(service, "haulier_uploads_begun_total") == 20
        wait_until(lambda: all_ready(service), "the dead worker is replaced")
        assert put(20) == 201
        for _ in range(2 * WORKERS):
            assert metric(service, "haulier_uploads_begun_total") == 21
            assert metric(service, 'haulier_uploads_ended_total{status="committed"}') == 21
            assert metric(service, "haulier_accepted_bytes_total") == 21 * 5
            assert metric(service, "haulier_running_bodies") == 0
            assert metric(service, "haulier_live_sessions") == 0

    def test_counts_begin_anew_with_the_service(self, service: ServeProcess) -> None:
        assert Outsider(service.port).ask("PUT", "/api/files/f", b"hello").status == 201
        assert service.stop() == 0
        service.start()
        assert metric(service, "haulier_uploads_begun_total") == 0


class TestOneDatabase:
    def test_three_workers_that_write_at_once_only_wait_for_each_other(self, tmp_path: Path) -> None:
        clients, files = 12, 15

        def put(port: int, client: int) -> list[int]:
            with Wire(port) as wire:
                names = [f"/api/files/{client}-{number}" for number in range(files)]
                return [wire.ask("PUT", name, b"hello").status for name in names]

        with (
            serving(tmp_path / "data", {"HAULIER_WORKERS": "3"}) as running,
            ThreadPoolExecutor(clients) as pool,
        ):
            everybody = pool.map(partial(put, running.port), range(clients))
            assert [status for statuses in everybody for status in statuses] == [201] * clients * files

            def served() -> Counter[str]:
                return Counter(event["worker"] for event in running.requests("PUT", "/api/files/"))

            # A line is written when its answer is on its way.
            wait_until(lambda: served().total() == clients * files, "every request is in the log")
            assert sorted(served().values()) == [files * clients // 3] * 3
            records = Outsider(running.port).records()
            assert len({record["id"] for record in records}) == clients * files
            assert running.stop() == 0


class TestOperators:
    def test_any_worker_shows_what_another_one_holds(self, service: ServeProcess) -> None:
        outsider = Outsider(service.port)
        upload = outsider.begin(size=CONTENT.size, mode="append")["id"]
        with Wire(service.port) as holder, Wire(service.port) as other:
            worker, looker = worker_of(service, holder, "holder"), worker_of(service, other, "other")
            assert worker != looker
            holder.start("PATCH", f"/api/uploads/{upload}", CONTENT.size, {"Upload-Offset": "0"})
            holder.send(CONTENT.range(0, MIB))

            def shown() -> dict[str, object]:
                (item,) = other.ask("GET", "/api/operators/sessions").json["items"]
                return {name: item[name] for name in ("id", "holder", "received_bytes")}

            wanted = {"id": upload, "holder": worker, "received_bytes": MIB}
            wait_until(lambda: shown() == wanted, "what is received is accepted")
            assert other.ask("GET", "/api/operators/stats").json["workers"] == WORKERS
            assert metric(service, "haulier_running_bodies") == 1

    def test_expiry_spares_what_another_worker_holds(self, tmp_path: Path) -> None:
        settings = {"HAULIER_WORKERS": str(WORKERS), "HAULIER_SESSION_TTL_S": "5"}
        with serving(tmp_path / "data", settings) as running:
            outsider = Outsider(running.port)
            held = outsider.begin(size=CONTENT.size, mode="append")["id"]
            with Wire(running.port) as holder, Wire(running.port) as other:
                assert worker_of(running, holder, "holder") != worker_of(running, other, "other")
                holder.start("PATCH", f"/api/uploads/{held}", CONTENT.size, {"Upload-Offset": "0"})
                holder.send(CONTENT.range(0, MIB))
                left = outsider.begin(size=1)["id"]
                # Long enough that the held one, whose body is silent, is older than its time to live as well.
                wait_until(lambda: expired(other) > 0, "what nobody holds expires")
                assert outsider.state(left)["status"] == "expired"
                assert outsider.state(held)["status"] == "open"


def expired(wire: Wire) -> int:
    """Expire now; return how many uploads that were."""
    return int(wire.ask("POST", "/api/operators/expire").json["expired"])
