"""SIGTERM in the middle of uploads, and a second service on the same data: nothing is lost, everything is said."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.content import Content
from tests.support.data_directory import require_one_file
from tests.support.outsider import Outsider, Wire
from tests.support.processes import DEADLINE_S, HAULIER, ServeProcess, environment, serving, wait_until

MIB = 1024 * 1024
CONTENT = Content(8 * MIB)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServeProcess]:
    with serving(tmp_path / "data") as running:
        yield running


def test_sigterm_keeps_every_byte_of_a_running_append(service: ServeProcess) -> None:
    sent = 3 * MIB + 77
    upload = Outsider(service.port).begin(size=CONTENT.size, mode="append")["id"]
    part = service.data_dir / "incoming" / upload  # made by the first byte
    with Wire(service.port) as wire:
        wire.start("PATCH", f"/api/uploads/{upload}", CONTENT.size, {"Upload-Offset": "0"})
        wire.send(CONTENT.range(0, sent))
        wait_until(lambda: part.exists() and part.stat().st_size == sent, "all that was sent is written")
        assert service.stop() == 0
        assert wire.answer().problem == (503, "service-stopping")
    service.start()
    outsider = Outsider(service.port)
    assert outsider.offset(upload) == sent
    assert outsider.append(upload, sent, CONTENT.range(sent, CONTENT.size)).status == 204
    (record,) = outsider.records()
    assert outsider.original_sha256(record["id"]) == (CONTENT.size, CONTENT.sha256())
    require_one_file(service.data_dir, CONTENT.size)


def test_sigterm_ends_a_running_chunk_without_harm_to_the_others(service: ServeProcess) -> None:
    outsider = Outsider(service.port)
    upload = outsider.begin(size=CONTENT.size, chunk_size=4 * MIB)["id"]
    assert outsider.put(upload, 1, CONTENT.range(4 * MIB, 8 * MIB)).status == 204
    with Wire(service.port) as wire:
        wire.start("PUT", f"/api/uploads/{upload}/chunks/0", 4 * MIB, {})
        wire.send(CONTENT.range(0, MIB))
        assert service.stop() == 0
    service.start()
    assert outsider.state(upload)["missing_chunks"] == [0]
    assert outsider.put(upload, 0, CONTENT.range(0, 4 * MIB)).status == 204
    assert outsider.finish(upload).status == 200
    require_one_file(service.data_dir, CONTENT.size)


def test_sigterm_ends_a_service_that_nobody_uses_with_0(service: ServeProcess) -> None:
    with Wire(service.port) as idle:  # an open connection is not work
        assert idle.ask("GET", "/healthz").status == 200
        assert service.stop() == 0


def test_a_second_service_on_the_same_data_is_refused_and_told_who_has_it(service: ServeProcess) -> None:
    second = subprocess.run(
        [HAULIER, "serve", "--port", "0", "--data-dir", service.data_dir],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=DEADLINE_S,
        check=False,
    )
    assert second.returncode == 2
    assert second.stdout == ""
    assert f"process {service.pid} serves it already" in second.stderr
    assert "--data-dir" in second.stderr
    assert "Traceback" not in second.stderr
    assert Outsider(service.port).ask("GET", "/readyz").status == 200
