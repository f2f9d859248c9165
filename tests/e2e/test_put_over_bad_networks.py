"""`haulier put` over a network that fails as planned: it gets through, and what arrives is right, and there once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.fault_plan import Drop, Flow, Plan, Twin
from tests.support.fault_proxy import ThreadedFaultProxy, fault_proxy
from tests.support.files import MIB, make_file, sha256
from tests.support.fleet import BEHIND_A_PROXY
from tests.support.outsider import Outsider
from tests.support.processes import DEADLINE_S, Commands, ServeProcess, serving

pytestmark = pytest.mark.slow

CUTS: Final = 10
BETWEEN: Final = 5 * MIB
"""Bytes from one cut to the next: less than a chunk, so that some chunks are cut more than once."""
LARGE: Final = (CUTS + 2) * BETWEEN
SMALL: Final = 100_000
"""Goes in one request."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    with serving(tmp_path_factory.mktemp("service") / "data", BEHIND_A_PROXY) as running:
        yield running


@pytest.fixture
def proxy(service: ServeProcess) -> Iterator[ThreadedFaultProxy]:
    with fault_proxy(service.port) as running:
        yield running


@pytest.fixture
def haulier(proxy: ThreadedFaultProxy, tmp_path: Path) -> Commands:
    """The command, pointed at the proxy."""
    return Commands(proxy.url, tmp_path / "work")


def require_right(service: ServeProcess, record: Any, source: Path) -> None:
    """Fail unless this record has the file's bytes, and no other record has its name."""
    outsider = Outsider(service.port)
    assert record["digest"] == {"sha-256": sha256(source)}
    assert outsider.original_sha256(record["id"]) == (source.stat().st_size, sha256(source))
    assert [found["id"] for found in outsider.records() if found["filename"] == source.name] == [record["id"]]


@pytest.mark.parametrize(
    ("way", "drop"),
    [
        ("chunks", Drop.FIN),
        ("chunks", Drop.RST),
        ("standard input", Drop.FIN),
        ("standard input", Drop.RST),
        ("standard input", Drop.HALF_OPEN),
    ],
    ids=str,
)
def test_ten_cuts_in_one_upload(
    service: ServeProcess, proxy: ThreadedFaultProxy, haulier: Commands, way: str, drop: Drop
) -> None:
    source = make_file(haulier.folder / f"{way} {drop.name}.bin", LARGE)
    with source.open("rb") as stream:
        what = ["-", "--name", source.name] if way == "standard input" else [str(source)]
        running = haulier.start("put", *what, "--json", stdin=stream)
        cut_often(proxy, drop, CUTS)
        out, err = running.communicate(timeout=5 * DEADLINE_S)
    assert (running.returncode, err) == (0, b"")
    require_right(service, json.loads(out), source)


def cut_often(proxy: ThreadedFaultProxy, drop: Drop, times: int) -> None:
    """Drop all connections, each time when enough bytes have passed since the last."""
    for cut in range(times):
        proxy.drop_after((cut + 1) * BETWEEN, drop)
    assert sum(link.dropped is drop for link in proxy.links) >= times


def test_chunks_whose_connections_are_half_open_go_on_when_the_service_finds_them_silent(
    tmp_path: Path,
) -> None:
    """A second put of a chunk waits for the first, so it waits for the limit of silence: here a short one."""
    settings = {**BEHIND_A_PROXY, "HAULIER_SILENT_BODY_S": "1"}
    with serving(tmp_path / "data", settings) as service, fault_proxy(service.port) as proxy:
        haulier = Commands(proxy.url, tmp_path / "work")
        source = make_file(haulier.folder / "half open.bin", LARGE)
        running = haulier.start("put", source, "--json")
        cut_often(proxy, Drop.HALF_OPEN, 3)
        out, err = running.communicate(timeout=5 * DEADLINE_S)
        assert (running.returncode, err) == (0, b"")
        require_right(service, json.loads(out), source)


PLANS = {
    "1-byte segments": Plan(up=Flow(segment=1), down=Flow(segment=1)),
    "trickle": Plan(up=Flow(segment=1000, pause_s=0.001), down=Flow(segment=1, pause_s=0.0001)),
    "delay": Plan(up=Flow(delay_s=0.05), down=Flow(delay_s=0.05)),
    "every request twice, at once": Plan(twin=Twin.AT_ONCE),
    "every request twice, one after the other": Plan(twin=Twin.AFTER_ANSWER),
}


@pytest.mark.parametrize("how", PLANS)
def test_a_small_file_gets_through(
    service: ServeProcess, proxy: ThreadedFaultProxy, haulier: Commands, how: str
) -> None:
    source = make_file(haulier.folder / f"{how}.bin", SMALL)
    proxy.always(PLANS[how])
    done = haulier.run("put", source, "--json")
    assert (done.code, done.err) == (0, "")
    require_right(service, done.documents[0], source)


@pytest.mark.parametrize("twin", Twin, ids=lambda twin: twin.name)
@pytest.mark.parametrize("way", ["chunks", "standard input"])
def test_a_large_file_whose_requests_all_come_twice_gets_through(
    service: ServeProcess, proxy: ThreadedFaultProxy, haulier: Commands, twin: Twin, way: str
) -> None:
    source = make_file(haulier.folder / f"{way} {twin.name}.bin", 40 * MIB)
    proxy.always(Plan(twin=twin))
    if way == "chunks":
        done = haulier.run("put", source, "--json")
    else:
        done = haulier.run("put", "-", "--name", source.name, "--json", given=source.read_bytes())
    assert (done.code, done.err) == (0, "")
    require_right(service, done.documents[0], source)


@pytest.mark.parametrize("way", ["whole", "chunks"])
def test_answers_that_are_lost_again_and_again(
    service: ServeProcess, proxy: ThreadedFaultProxy, haulier: Commands, way: str
) -> None:
    """Each of the first connections dies with its first answer, of which more is heard each time."""
    source = make_file(haulier.folder / f"{way}.bin", SMALL if way == "whole" else 20 * MIB)
    proxy.plan(*(Plan(down=Flow(drop=Drop.RST, after=heard)) for heard in (0, 1, 50)))
    done = haulier.run("put", source, "--json")
    assert (done.code, done.err) == (0, "")
    require_right(service, done.documents[0], source)
    assert [link.dropped for link in proxy.links[:3]] == [Drop.RST] * 3
