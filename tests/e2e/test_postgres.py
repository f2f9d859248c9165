"""`haulier serve` on PostgreSQL: everyday use, and the database away, cut, locked and crashed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Final

import psycopg
import pytest

from tests.e2e.test_disk_faults import ready, require_bytes
from tests.support.content import Content
from tests.support.outsider import Outsider
from tests.support.postgres import Cluster, fresh_database, own_cluster
from tests.support.processes import HAULIER, Commands, ServeProcess, environment, serving, wait_until
from tests.support.raw_http import Line

pytestmark = pytest.mark.needs("postgresql")

CHUNK: Final = 256 * 1024
CONTENT: Final = Content(4 * CHUNK, seed=7)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One that tests stop and crash."""
    with own_cluster() as cluster:
        yield cluster


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    """An empty database of that cluster."""
    cluster.execute("CREATE DATABASE rows")
    try:
        yield cluster.url("rows")
    finally:
        cluster.execute("DROP DATABASE rows WITH (FORCE)")


@pytest.fixture
def service(tmp_path: Path, url: str) -> Iterator[ServeProcess]:
    with serving(tmp_path / "data", {"HAULIER_DATABASE_URL": url}) as running:
        yield running


def chunk(index: int) -> bytes:
    return CONTENT.range(index * CHUNK, (index + 1) * CHUNK)


def haulier(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [HAULIER, *arguments], env=environment(settings), capture_output=True, text=True, check=False
    )


def test_a_file_comes_in_is_listed_comes_out_and_goes(tmp_path: Path) -> None:
    with (
        fresh_database() as url,
        serving(tmp_path / "data", {"HAULIER_DATABASE_URL": url}) as service,
    ):
        commands = Commands(service.url, tmp_path / "work")
        data = CONTENT.range(0, CONTENT.size) * 20
        (commands.folder / "a.bin").write_bytes(data)
        assert commands.run("put", "a.bin").code == 0
        (listed,) = commands.run("ls", "--json").documents
        assert (listed["filename"], listed["size"], listed["status"]) == ("a.bin", len(data), "completed")
        assert commands.run("get", listed["id"], "-o", "b.bin").code == 0
        assert (commands.folder / "b.bin").read_bytes() == data
        assert commands.run("rm", listed["id"]).code == 0
        assert commands.run("ls", "--json").documents == []
        assert not (service.data_dir / "haulier.db").exists()


def test_the_doctor_says_where_the_rows_are_without_the_password(tmp_path: Path) -> None:
    with fresh_database() as url:
        secret = url.replace("haulier@", "haulier:hush@")
        told = haulier("doctor", "--data-dir", str(tmp_path / "data"), HAULIER_DATABASE_URL=secret)
        lines = [line for line in told.stdout.splitlines() if "database:" in line]
        assert [line.startswith("ok ") for line in lines] == [True]
        assert "hush" not in told.stdout + told.stderr
        assert not (tmp_path / "data").exists()


def test_the_doctor_makes_no_tables(tmp_path: Path) -> None:
    with fresh_database() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        told = haulier("doctor", "--data-dir", str(tmp_path / "data"), HAULIER_DATABASE_URL=url)
        lines = [line for line in told.stdout.splitlines() if "database:" in line]
        assert lines[0].startswith("ok ")
        assert lines[0].endswith(" has not the tables of this version; a start makes them")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,)


def test_a_second_service_without_the_storage_of_the_first_does_not_start(
    service: ServeProcess, url: str, tmp_path: Path
) -> None:
    """To it every worker of the first would look dead, and what that has received would not be there."""
    outsider = Outsider(service.port)
    upload = outsider.begin(size=CONTENT.size, chunk_size=CHUNK)["id"]
    assert outsider.put(upload, 0, chunk(0)).status == 204
    told = haulier("serve", "--port", "0", "--data-dir", str(tmp_path / "other"), HAULIER_DATABASE_URL=url)
    assert (told.returncode, told.stdout) == (2, "")
    assert "give all services that share it the same storage_url" in told.stderr
    assert "Traceback" not in told.stderr
    assert outsider.state(upload)["received"] == [[0, CHUNK]]


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_a_database_that_is_not_there_is_told_in_a_sentence(tmp_path: Path, command: str) -> None:
    url = "postgresql://u:hush@/rows?host=/nowhere"
    told = haulier(command, "--data-dir", str(tmp_path / "data"), HAULIER_DATABASE_URL=url)
    # Not 2, after which systemd would leave it alone: a database may only be later than its service.
    assert told.returncode == {"serve": 3, "doctor": 1}[command]
    words = told.stderr.splitlines()[-1] if command == "serve" else told.stdout
    assert "PostgreSQL" in words
    assert "/nowhere" in words
    assert "hush" not in told.stdout + told.stderr
    assert "Traceback" not in told.stdout + told.stderr


def test_uploads_go_on_where_they_were_after_the_database_was_away(
    service: ServeProcess, cluster: Cluster
) -> None:
    outsider = Outsider(service.port)
    upload = outsider.begin(size=CONTENT.size, chunk_size=CHUNK)["id"]
    assert outsider.put(upload, 0, chunk(0)).status == 204
    cluster.stop("immediate")
    try:
        refused = outsider.put(upload, 1, chunk(1))
        assert refused.problem == (503, "storage-unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        unready = ready(outsider)
        assert unready.status == 503
        # Asked for two seconds, while transactions go on trying for ten.
        assert unready.json["reasons"] == ["the database does not answer: TimeoutError"]
        assert outsider.ask("GET", "/healthz").status == 200
    finally:
        cluster.start()
    assert outsider.state(upload)["received"] == [[0, CHUNK]]
    for index in (1, 2, 3):
        assert outsider.put(upload, index, chunk(index)).status == 204
    require_bytes(outsider, outsider.finish(upload).json["id"], CONTENT)


def test_a_crash_of_the_database_in_the_middle_is_not_noticed_by_who_sends(
    service: ServeProcess, cluster: Cluster, tmp_path: Path
) -> None:
    commands = Commands(service.url, tmp_path / "work")
    names = [f"{number}.bin" for number in range(30)]
    for number, name in enumerate(names):
        (commands.folder / name).write_bytes(Content(300_000, seed=number).range(0, 300_000))
    codes: list[int] = []
    sending = Thread(target=lambda: codes.append(commands.run("put", *names).code))
    sending.start()
    for done in (5, 15):
        wait_until(partial(_have_come, service, done), "some files are there")
        cluster.restart("immediate")
    sending.join()
    assert codes == [0]
    listed = commands.run("ls", "--json").documents
    assert sorted(row["filename"] for row in listed) == sorted(names)
    assert {row["status"] for row in listed} == {"completed"}


def _have_come(service: ServeProcess, count: int) -> bool:
    return [event.get("event") for event in service.events()].count("session.committed") >= count


def test_a_worker_that_dies_while_the_database_is_away_is_replaced_when_it_is_back(
    tmp_path: Path, url: str, cluster: Cluster
) -> None:
    with serving(tmp_path / "data", {"HAULIER_DATABASE_URL": url, "HAULIER_WORKERS": "2"}) as service:
        cluster.stop("immediate")
        try:
            os.kill(service.workers[0], signal.SIGKILL)
            wait_until(lambda: len(_refusals(service)) >= 2, "it was tried again")
        finally:
            cluster.start()
        assert "PostgreSQL" in _refusals(service)[0]
        assert "Traceback" not in service.log
        wait_until(lambda: len(service.ready_workers()) == 2, "it is replaced")
        require_bytes(Outsider(service.port), _sent(service), CONTENT)
        assert service.stop() == 0


def _refusals(service: ServeProcess) -> list[str]:
    return [event["error"] for event in service.events() if event.get("event") == "worker.refused"]


def _sent(service: ServeProcess) -> str:
    answer = Outsider(service.port).ask("PUT", "/api/files/a.bin", CONTENT.range(0, CONTENT.size))
    assert answer.status == 201, answer
    return str(answer.json["id"])


def test_connections_that_are_cut_are_not_noticed(service: ServeProcess, cluster: Cluster) -> None:
    outsider = Outsider(service.port)
    upload = outsider.begin(size=CONTENT.size, chunk_size=CHUNK)["id"]
    for index in range(4):
        cluster.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'rows'"
            " AND backend_type = 'client backend'"
        )
        assert outsider.put(upload, index, chunk(index)).status == 204
    require_bytes(outsider, outsider.finish(upload).json["id"], CONTENT)


def test_a_row_that_stays_locked_is_503_with_retry_after(service: ServeProcess, url: str) -> None:
    outsider = Outsider(service.port)
    upload = outsider.begin(size=CONTENT.size, chunk_size=CHUNK)["id"]
    with psycopg.connect(url) as other:
        other.execute("SELECT 1 FROM uploads FOR UPDATE")
        refused = outsider.put(upload, 0, chunk(0))
        assert refused.problem == (503, "storage-unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        assert outsider.state(upload)["received"] == []
    assert outsider.put(upload, 0, chunk(0)).status == 204


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_while_the_database_hangs_keeps_what_has_come_and_ends_in_time(
    tmp_path: Path, url: str, cluster: Cluster, workers: str
) -> None:
    settings = {"HAULIER_DATABASE_URL": url, "HAULIER_WORKERS": workers}
    with serving(tmp_path / "data", settings) as service, Line(service.port) as line:
        outsider = Outsider(service.port)
        upload = f"/api/uploads/{outsider.begin(size=CONTENT.size, mode='append')['id']}"
        line.send(
            f"PATCH {upload} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nUpload-Offset: 0\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {CONTENT.size}\r\n\r\n".encode()
        )
        line.send(CONTENT.range(0, 3 * CHUNK))
        wait_until(partial(_have_arrived, service, 3 * CHUNK), "the bytes are in their file")
        with cluster.hung():
            # Ten seconds and what a busy machine adds; three parts with ten each would take thirty.
            assert service.stop(within_s=20.0) == 0
        assert line.answer().status == 503
        service.start()
        assert outsider.ask("HEAD", upload).headers["upload-offset"] == str(3 * CHUNK)
        rest = {"Upload-Offset": str(3 * CHUNK), "Content-Type": "application/octet-stream"}
        assert outsider.ask("PATCH", upload, chunk(3), rest).status == 204
        require_bytes(outsider, outsider.state(upload.rpartition("/")[2])["record"], CONTENT)


def _have_arrived(service: ServeProcess, size: int) -> bool:
    return size in {file.stat().st_size for file in (service.data_dir / "incoming").iterdir()}


HOUR_S: Final = 3600


@pytest.mark.parametrize("skew_s", [-26 * HOUR_S, 26 * HOUR_S])
def test_a_service_whose_clock_is_wrong_ends_no_uploads_and_loses_none(
    service: ServeProcess, url: str, tmp_path: Path, skew_s: int
) -> None:
    """Neither the others' by its own clock, nor its own by the others'."""
    lying = f"import time; real = time.time; time.time = lambda: real() + {skew_s}; import haulier.__main__ as it; it.main()"
    settings = {"HAULIER_DATABASE_URL": url, "HAULIER_STORAGE_URL": f"file://{service.data_dir}"}
    with serving(tmp_path / "wrong", settings, command=(sys.executable, "-c", lying)) as wrong:
        right, other = Outsider(service.port), Outsider(wrong.port)
        uploads = [who.begin(size=CONTENT.size, chunk_size=CHUNK)["id"] for who in (right, other)]
        for who, upload in zip((right, other), uploads, strict=True):
            assert who.put(upload, 0, chunk(0)).status == 204
        for who in (right, other):
            expired = who.post("/api/operators/expire", {})
            assert (expired.status, expired.json) == (200, {"expired": 0})
        for who, upload in zip((other, right), uploads, strict=True):
            for index in (1, 2, 3):
                assert who.put(upload, index, chunk(index)).status == 204
            require_bytes(who, who.finish(upload).json["id"], CONTENT)
        assert "clock.differs" in [event.get("event") for event in wrong.events()]
