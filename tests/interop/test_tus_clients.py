"""Foreign tus clients against a running service: each of their ways, and each over a network that cuts.

A cut comes after every `BETWEEN` bytes of a connection, so a client needs `CUTS` of them and goes on after each.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.components import require
from tests.support.fault_plan import PLAIN, Drop, Flow, Plan
from tests.support.fault_proxy import ThreadedFaultProxy, fault_proxy
from tests.support.files import MIB, make_file, sha256
from tests.support.fleet import BEHIND_A_PROXY
from tests.support.processes import DEADLINE_S, ServeProcess, environment, serving
from tests.support.tus import TusClient

NODE: Final = Path(__file__).parent / "node"
CUTS: Final = 10
BETWEEN: Final = 512 * 1024
SIZE: Final = CUTS * BETWEEN + 12_345


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    with serving(tmp_path_factory.mktemp("service") / "data", BEHIND_A_PROXY) as running:
        yield running


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_file(tmp_path_factory.mktemp("source") / "file.bin", SIZE)


@pytest.fixture
def proxy(service: ServeProcess) -> Iterator[ThreadedFaultProxy]:
    with fault_proxy(service.port) as running:
        yield running


def run(command: list[str | Path], task: dict[str, Any], *, code: int = 0) -> str:
    """Run a client's program; return what it prints."""
    done = subprocess.run(
        [*command, json.dumps(task)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env=environment(),
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def tus_js(task: dict[str, Any], *, code: int = 0) -> Any:
    """Run tus-js-client."""
    node = require("node")
    if not (NODE / "node_modules").is_dir():
        require("npm packages of tests/interop/node")
    return json.loads(run([node, NODE / "client.js"], task, code=code))


def tuspy(task: dict[str, Any]) -> str:
    """Run tuspy; return the upload's URL."""
    return run([sys.executable, "-m", "tests.interop.clients.tuspy"], task).strip()


def aiotus(task: dict[str, Any]) -> Any:
    """Run aiotus."""
    return json.loads(run([sys.executable, "-m", "tests.interop.clients.aiotus"], task))


def upload_of(url: str) -> str:
    """Return the path of an upload's URL."""
    return "/" + url.split("/", 3)[3]


def require_right(service: ServeProcess, url: str, *sources: Path) -> None:
    """Fail unless the upload became a record of these files, one behind the other."""
    tus = TusClient(service.port)
    upload = upload_of(url)
    state = tus.outsider.ask("GET", f"/api/uploads/{upload.rpartition('/')[2]}?wait=50").json
    assert state["status"] == "committed", state
    record = state["result"]
    assert (record["filename"], record["content_type"]) == ("file.bin", "application/x-test")
    size = sum(source.stat().st_size for source in sources)
    whole = sha256(sources[0]) if len(sources) == 1 else sha256_of(*sources)
    assert (record["size"], record["digest"]) == (size, {"sha-256": whole})
    assert tus.outsider.original_sha256(record["id"]) == (size, whole)


def sha256_of(*sources: Path) -> str:
    whole = sources[0].with_name("whole.bin")
    whole.write_bytes(b"".join(source.read_bytes() for source in sources))
    return sha256(whole)


def cut(proxy: ThreadedFaultProxy, drop: Drop) -> None:
    """Let every connection be cut after so many bytes."""
    proxy.always(Plan(up=Flow(drop=drop, after=BETWEEN)))


def cuts(proxy: ThreadedFaultProxy) -> int:
    """Return how many connections were cut."""
    return sum(link.up >= BETWEEN for link in proxy.links)


DROPS = pytest.mark.parametrize("drop", [Drop.FIN, Drop.RST], ids=lambda drop: drop.name)


class TestTusJsClient:
    """tus-js-client from npm, in Node: what browsers use."""

    def test_one_request(self, service: ServeProcess, source: Path) -> None:
        told = tus_js({"endpoint": f"{service.url}/tus/", "file": str(source)})
        assert told["requests"] == [["POST", None, 201], ["PATCH", None, 204]]
        require_right(service, told["url"], source)

    @pytest.mark.parametrize(
        ("options", "requests"),
        [
            ({"chunkSize": 2 * MIB}, [["POST", None, 201], *[["PATCH", None, 204]] * 3]),
            ({"uploadDataDuringCreation": True}, [["POST", None, 201]]),
            (
                {"uploadDataDuringCreation": True, "chunkSize": 3 * MIB},
                [["POST", None, 201], ["PATCH", None, 204]],
            ),
            ({"overridePatchMethod": True}, [["POST", None, 201], ["POST", "PATCH", 204]]),
            (
                {"uploadLengthDeferred": True, "chunkSize": 3 * MIB},
                [["POST", None, 201], ["PATCH", None, 204], ["PATCH", None, 204]],
            ),
        ],
        ids=[
            "chunked",
            "creation with upload",
            "creation with upload, chunked",
            "method override",
            "deferred",
        ],
    )
    def test_its_ways(
        self, service: ServeProcess, source: Path, options: dict[str, Any], requests: list[Any]
    ) -> None:
        told = tus_js({"endpoint": f"{service.url}/tus/", "file": str(source), "options": options})
        assert told["requests"] == requests
        require_right(service, told["url"], source)

    def test_an_empty_file(self, service: ServeProcess, tmp_path: Path) -> None:
        source = make_file(tmp_path / "empty.bin", 0)
        told = tus_js({"endpoint": f"{service.url}/tus/", "file": str(source)})
        require_right(service, told["url"], source)

    def test_parallel_uploads(self, service: ServeProcess, source: Path) -> None:
        options = {"parallelUploads": 3}
        told = tus_js({"endpoint": f"{service.url}/tus/", "file": str(source), "options": options})
        assert sorted(told["requests"]) == [["PATCH", None, 204]] * 3 + [["POST", None, 201]] * 4
        require_right(service, told["url"], source)

    @pytest.mark.parametrize("parallel", [1, 3])
    def test_another_process_goes_on_by_the_fingerprint(
        self, service: ServeProcess, source: Path, tmp_path: Path, parallel: int
    ) -> None:
        task = {
            "endpoint": f"{service.url}/tus/",
            "file": str(source),
            "storage": str(tmp_path / "storage.json"),
            "options": {"chunkSize": MIB // 2, "parallelUploads": parallel},
        }
        first = tus_js({**task, "stopAfter": 2 * MIB})
        assert first["stopped"]
        second = tus_js(task)
        assert "HEAD" in {request[0] for request in second["requests"]}
        assert [request[0] for request in second["requests"]].count("POST") == (0 if parallel == 1 else 1)
        require_right(service, second["url"], source)

    def test_terminate(self, service: ServeProcess, source: Path) -> None:
        task = {
            "endpoint": f"{service.url}/tus/",
            "file": str(source),
            "stopAfter": 2 * MIB,
            "terminate": True,
            "options": {"chunkSize": MIB},
        }
        told = tus_js(task)
        assert told["requests"][-1] == ["DELETE", None, 204]
        assert TusClient(service.port).head(upload_of(told["url"])).status == 410

    @DROPS
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"chunkSize": MIB},
            {"parallelUploads": 2},
            {"overridePatchMethod": True},
            # Whoever is cut before the answer to a creation knows no upload: its bytes have to come through at once.
            {"uploadDataDuringCreation": True, "chunkSize": BETWEEN // 2},
        ],
        ids=["one request", "chunked", "parallel", "method override", "creation with upload"],
    )
    def test_ten_cuts(
        self,
        service: ServeProcess,
        proxy: ThreadedFaultProxy,
        source: Path,
        drop: Drop,
        options: dict[str, Any],
    ) -> None:
        cut(proxy, drop)
        told = tus_js({"endpoint": f"{proxy.url}/tus/", "file": str(source), "options": options})
        assert cuts(proxy) >= CUTS
        require_right(service, told["url"], source)


class TestTuspy:
    """tuspy from PyPI."""

    @pytest.mark.parametrize("chunk", [SIZE, MIB])
    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_whole_and_chunked(
        self, service: ServeProcess, source: Path, chunk: int, asynchronous: bool
    ) -> None:
        task = {"endpoint": f"{service.url}/tus/", "file": str(source), "chunk": chunk}
        require_right(service, tuspy({**task, "asynchronous": asynchronous}), source)

    def test_with_checksums(self, service: ServeProcess, source: Path) -> None:
        task = {"endpoint": f"{service.url}/tus/", "file": str(source), "chunk": MIB, "checksum": True}
        require_right(service, tuspy(task), source)

    def test_another_process_goes_on_by_the_fingerprint(
        self, service: ServeProcess, source: Path, tmp_path: Path
    ) -> None:
        task = {
            "endpoint": f"{service.url}/tus/",
            "file": str(source),
            "chunk": MIB,
            "store": str(tmp_path / "storage.json"),
        }
        first = tuspy({**task, "stop_at": 2 * MIB})
        assert TusClient(service.port).offset(upload_of(first)) == 2 * MIB
        assert tuspy(task) == first
        require_right(service, first, source)

    @DROPS
    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_ten_cuts(
        self, service: ServeProcess, proxy: ThreadedFaultProxy, source: Path, drop: Drop, asynchronous: bool
    ) -> None:
        cut(proxy, drop)
        task = {"endpoint": f"{proxy.url}/tus/", "file": str(source), "asynchronous": asynchronous}
        url = tuspy(task)
        assert cuts(proxy) >= CUTS
        require_right(service, url, source)

    def test_ten_cuts_with_checksums(
        self, service: ServeProcess, proxy: ThreadedFaultProxy, source: Path
    ) -> None:
        # Of a request with a checksum nothing counts when it is cut. Each request has a connection of its own: the
        # creation, then a PATCH that is cut and a HEAD, ten times.
        broken = Plan(up=Flow(drop=Drop.FIN, after=BETWEEN))
        proxy.plan(PLAIN, *[broken, PLAIN] * CUTS)
        task = {"endpoint": f"{proxy.url}/tus/", "file": str(source), "chunk": 2 * MIB, "checksum": True}
        url = tuspy(task)
        assert cuts(proxy) >= CUTS
        require_right(service, url, source)


class TestAiotus:
    """aiotus from PyPI."""

    def test_one_file_and_its_metadata(self, service: ServeProcess, source: Path) -> None:
        told = aiotus({"endpoint": f"{service.url}/tus/", "files": [str(source)]})
        require_right(service, told["url"], source)
        names = {"filename": b"file.bin", "filetype": b"application/x-test"}
        assert told["metadata"] == {
            **{key: base64.b64encode(value).decode() for key, value in names.items()},
            "flag": None,
        }

    def test_parallel_concatenation(self, service: ServeProcess, source: Path, tmp_path: Path) -> None:
        sources = [source, make_file(tmp_path / "second.bin", MIB + 1), source]
        told = aiotus({"endpoint": f"{service.url}/tus/", "files": list(map(str, sources))})
        require_right(service, told["url"], *sources)

    @DROPS
    @pytest.mark.parametrize("count", [1, 2])
    def test_ten_cuts(
        self,
        service: ServeProcess,
        proxy: ThreadedFaultProxy,
        source: Path,
        drop: Drop,
        count: int,
    ) -> None:
        cut(proxy, drop)
        told = aiotus({"endpoint": f"{proxy.url}/tus/", "files": [str(source)] * count})
        assert cuts(proxy) >= CUTS * count
        require_right(service, told["url"], *[source] * count)


class TestTusJsClientOnTheDrafts:
    """Both of its protocols of the IETF's drafts."""

    @pytest.mark.parametrize("protocol", ["ietf-draft-03", "ietf-draft-05"])
    @pytest.mark.parametrize("options", [{}, {"chunkSize": 2 * MIB}], ids=["one request", "chunked"])
    def test_its_ways(
        self, service: ServeProcess, source: Path, protocol: str, options: dict[str, Any]
    ) -> None:
        options = {**options, "protocol": protocol}
        told = tus_js({"endpoint": f"{service.url}/resumable/", "file": str(source), "options": options})
        require_sent(service, told["url"], source)

    @DROPS
    @pytest.mark.parametrize("protocol", ["ietf-draft-03", "ietf-draft-05"])
    @pytest.mark.parametrize("chunk", [{}, {"chunkSize": MIB}], ids=["one request", "chunked"])
    def test_ten_cuts(
        self,
        service: ServeProcess,
        proxy: ThreadedFaultProxy,
        source: Path,
        drop: Drop,
        protocol: str,
        chunk: dict[str, Any],
    ) -> None:
        cut(proxy, drop)
        options = {**chunk, "protocol": protocol}
        told = tus_js({"endpoint": f"{proxy.url}/resumable/", "file": str(source), "options": options})
        assert cuts(proxy) >= CUTS
        require_sent(service, told["url"], source)


class TestCurlOnTheDrafts:
    """curl from Debian, which knows nothing of them: it is told each field."""

    def test_one_request_named_by_its_address(self, service: ServeProcess, source: Path) -> None:
        answer = curl("-T", source, "-H", "Upload-Complete: ?1", f"{service.url}/resumable/file.bin")
        assert answer["status"] == 201
        require_sent(service, answer["location"], source)

    @DROPS
    def test_ten_cuts(
        self, service: ServeProcess, proxy: ThreadedFaultProxy, source: Path, drop: Drop, tmp_path: Path
    ) -> None:
        begun = curl(
            "-X",
            "POST",
            "-H",
            "Upload-Complete: ?0",
            "-H",
            f"Upload-Length: {SIZE}",
            f"{service.url}/resumable/",
        )
        url, offset = begun["location"], 0
        through = url.replace(service.url, proxy.url)
        cut(proxy, drop)
        rest = tmp_path / "rest.bin"
        while offset < SIZE:
            rest.write_bytes(source.read_bytes()[offset:])
            sent = ["-H", f"Upload-Offset: {offset}", "-H", "Content-Type: application/partial-upload"]
            curl("-X", "PATCH", "-T", rest, "-H", "Upload-Complete: ?1", *sent, through)
            found = curl("-I", url)
            # A cut may come before the service has seen the request: nothing is lost by it, and nothing won.
            assert int(found["upload-offset"]) >= offset
            offset = int(found["upload-offset"])
            assert len(proxy.links) < 10 * CUTS, "the upload comes to no end"
        assert cuts(proxy) >= CUTS
        require_sent(service, url, source)


def curl(*arguments: str | Path) -> dict[str, Any]:
    """Run curl; return the final answer's status and its fields, or what stands for none."""
    known = ["-sS", "-D", "-", "-o", "/dev/null", "-H", "Upload-Draft-Interop-Version: 8", "-H", "Expect:"]
    command = [require("curl"), *known, "--max-time", str(int(DEADLINE_S)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    heads = [head for head in done.stdout.replace("\r", "").split("\n\n") if head]
    answer: dict[str, Any] = {"status": 0}
    for line in heads[-1].split("\n") if heads else ():
        name, colon, value = line.partition(": ")
        if colon:
            answer[name.lower()] = value
        elif line.startswith("HTTP/"):
            answer["status"] = int(line.split()[1])
    return answer


def require_sent(service: ServeProcess, url: str, source: Path) -> None:
    """Fail unless the upload at `/resumable/` became a record of this file."""
    outsider = TusClient(service.port).outsider
    state = outsider.ask("GET", f"/api/uploads/{url.rpartition('/')[2]}?wait=50").json
    assert state["status"] == "committed", state
    whole = sha256(source)
    assert state["result"]["digest"] == {"sha-256": whole}
    assert outsider.original_sha256(state["result"]["id"]) == (SIZE, whole)
