"""The moment an upload, a deletion or a restore is answered, every process of the service shows it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from threading import Lock

import pytest

from tests.support.outsider import Outsider, Wire
from tests.support.postgres import fresh_database
from tests.support.processes import ServeProcess, serving, wait_until

WORKERS = 2
FINISHES = 100


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServeProcess]:
    settings = {"HAULIER_WORKERS": str(WORKERS), "HAULIER_LOG": "json"}
    with ExitStack() as stack:
        if request.param == "postgresql":
            settings["HAULIER_DATABASE_URL"] = stack.enter_context(fresh_database())
        running = stack.enter_context(serving(tmp_path_factory.mktemp("service") / "data", settings))
        wait_until(lambda: len(running.ready_workers()) == WORKERS, "all workers are ready")
        yield running


class Doors:
    """A connection to each worker; connections are shared out evenly, and the log tells whose each is."""

    def __init__(self, service: ServeProcess, stack: ExitStack) -> None:
        self._service = service
        self._stack = stack
        self.by_worker: dict[str, Wire] = {}
        names = count()
        while len(self.by_worker) < WORKERS:
            wire = stack.enter_context(Wire(service.port))
            name = f"door-{id(self)}-{next(names)}"
            assert wire.ask("GET", "/healthz", headers={"X-Request-ID": name}).status == 200
            self.by_worker.setdefault(self._worker(name), wire)

    def _worker(self, name: str) -> str:
        found: list[str] = []

        def told() -> bool:
            found[:] = [str(it["worker"]) for it in self._service.events() if it.get("request") == name]
            return bool(found)

        wait_until(told, "the request is logged")
        return found[0]


def test_a_hundred_finishes_are_listed_and_read_at_once_by_every_process(service: ServeProcess) -> None:
    outsider, lock = Outsider(service.port), Lock()
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        doors = Doors(service, stack).by_worker

        def finish_and_look(number: int) -> None:
            name, body = f"file-{number:03}.bin", b"%d" % number
            finished = outsider.ask("PUT", f"/api/files/{name}", body)
            assert finished.status == 201, finished
            record = finished.json["id"]
            # One request at a time on each of these connections; the finishes go on beside them.
            with lock:
                for worker, wire in doors.items():
                    listed = wire.ask("GET", f"/api/records?name={name}").json["items"]
                    assert [(it["id"], it["status"]) for it in listed] == [(record, "completed")], worker
                    assert wire.ask("GET", f"/api/records/{record}").json["size"] == len(body), worker
                    read = wire.ask("GET", f"/api/records/{record}/assets/original")
                    assert (read.status, read.body) == (200, body), worker

        list(pool.map(finish_and_look, range(FINISHES)))


def test_a_deletion_and_a_restore_are_seen_at_once_by_every_process(service: ServeProcess) -> None:
    outsider = Outsider(service.port)
    with ExitStack() as stack:
        doors = Doors(service, stack).by_worker
        record = outsider.ask("PUT", "/api/files/trash.bin", b"bytes").json["id"]
        target = f"/api/records/{record}"
        link = outsider.post(f"{target}/links", {}).json["url"].partition(f":{service.port}")[2]
        for deleted in (True, False, True):
            done = outsider.ask("DELETE", target) if deleted else outsider.ask("POST", f"{target}/restore")
            assert done.status < 300
            for worker, wire in doors.items():
                seen = [wire.ask("GET", it).status for it in (f"{target}/assets/original", link)]
                assert seen == ([404, 404] if deleted else [200, 200]), worker
                listed = wire.ask("GET", "/api/records?name=trash.bin").json["items"]
                assert len(listed) == (0 if deleted else 1), worker
