"""What bounds the sending commands: a bandwidth that was set, a journal without room, and what they load to start."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fault_proxy import ThreadedFaultProxy, fault_proxy
from tests.support.processes import Commands, ServeProcess, serving, wait_until
from tests.support.small_disk import small_disk

BIG = 8_000_000
BOUNDED = 1_000_000
"""Bytes: far more than a bound of 10 kB a second lets through while a test looks, and far less than passes without one."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    with serving(
        tmp_path_factory.mktemp("service") / "data", {"HAULIER_NO_TRANSFERS": "true", "HAULIER_OPEN": "true"}
    ) as running:
        yield running


@pytest.fixture
def proxy(service: ServeProcess) -> Iterator[ThreadedFaultProxy]:
    with fault_proxy(service.port) as made:
        yield made


@pytest.fixture
def haulier(service: ServeProcess, proxy: ThreadedFaultProxy, tmp_path: Path) -> Commands:
    commands = Commands(service.url, tmp_path / "work")
    added = commands.run("remote", "add", "there", "--type", "haulier", "--url", proxy.url)
    assert added.code == 0, added.err
    (commands.folder / "files").mkdir()
    (commands.folder / "files" / "big").write_bytes(bytes(BIG))
    return commands


def passed(proxy: ThreadedFaultProxy) -> int:
    return sum(link.up for link in proxy.links)


# --- bandwidth -----------------------------------------------------------------------------------------

PUSH = ("push", "files/big", "--to", "there:big", "--id", "mine")
BOUND = ("--bandwidth", "10kB")


@pytest.mark.parametrize(
    ("queued", "runner"),
    [
        ((), (*PUSH, *BOUND)),
        ((*PUSH, "--no-wait"), ("agent", *BOUND)),
        ((*PUSH, "--no-wait"), ("transfers", "wait", "mine", *BOUND)),
        ((), ("watch", "files", "--to", "there:watched/", *BOUND)),
        ((*PUSH, "--no-wait"), ("serve", "--port", "0", "--data-dir", "own", *BOUND)),
    ],
    ids=["push", "agent", "wait", "watch", "serve"],
)
def test_whoever_runs_the_journal_sends_no_more_than_its_bound(
    haulier: Commands, proxy: ThreadedFaultProxy, queued: tuple[str, ...], runner: tuple[str, ...]
) -> None:
    if queued:
        assert haulier.run(*queued).code == 3
    running = haulier.start(*runner)
    try:
        proxy.wait(up=12_000)  # some of it is sent
        assert haulier.run("transfers", "list").out.count("InProgress") == 1
        assert 12_000 <= passed(proxy) < BOUNDED
    finally:
        running.terminate()
        running.communicate(timeout=60)


def test_the_bound_comes_from_the_environment_and_nothing_is_bounded_without_one(
    haulier: Commands, proxy: ThreadedFaultProxy
) -> None:
    late = haulier.run(*PUSH, "--timeout", "1", HAULIER_BANDWIDTH="10kB")
    assert late.code == 3
    assert passed(proxy) < BOUNDED
    assert haulier.run(*PUSH, HAULIER_BANDWIDTH="0").code == 0
    assert passed(proxy) > BIG


@pytest.mark.parametrize(
    "runner", [PUSH, ("agent",), ("serve", "--data-dir", "own")], ids=["push", "agent", "serve"]
)
def test_a_bound_that_can_be_read_in_two_ways_is_refused_with_an_example(
    haulier: Commands, runner: tuple[str, ...]
) -> None:
    refused = haulier.run(*runner, "--bandwidth", "10M")
    assert refused.code == 2
    words = " ".join(refused.err.replace("\u2502", " ").split())
    assert "--bandwidth" in words
    assert "bytes per second like 500kB, 10MB or 2MiB" in words


# --- a journal without room ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["words", "json"])
def test_a_push_whose_journal_is_full_says_so_once_with_the_cure_and_goes_on_by_itself(
    haulier: Commands, tmp_path: Path, form: tuple[str, ...]
) -> None:
    with small_disk(tmp_path / "small", 2_000_000) as disk:
        journal = disk.path / "journal.db"
        command = ("push", "files/big", "--to", "there:full/", "--journal", str(journal))
        told = tmp_path / "told"
        with told.open("wb") as err:
            push = haulier.start(*command, "--bandwidth", "4MB", *form, stderr=err)
            wait_until(journal.exists, "the journal is there")
            wait_until(lambda: b"InProgress" in _listed(haulier, journal), "it is sent")
            with disk.filled():
                wait_until(lambda: b"free space on its disk" in told.read_bytes(), "it says so")
            out, _ = push.communicate(timeout=120)
    assert push.returncode == 0
    lines = told.read_text().splitlines()
    assert [line.partition(": no room")[0] for line in lines if "cannot be written" in line] == [
        f"haulier: the journal {journal} cannot be written"
    ]
    assert lines[-1] == f"haulier: the journal {journal} can be written again; what waited goes on"
    assert b"ucceeded" in out


def _listed(haulier: Commands, journal: Path) -> bytes:
    return haulier.run("transfers", "list", "--journal", journal).out.encode()


# --- what is loaded ------------------------------------------------------------------------------------

NEEDLESS = (
    "aiobotocore",
    "email",
    "encodings.idna",
    "haulier.config",
    "haulier.ports",
    "http",
    "httpx2",
    "pydantic",
    "rich",
    "sqlalchemy",
    "starlette",
    "structlog",
    "uvicorn",
)
OF_SERVICES = (
    "blake3",
    "google_crc32c",
    "haulier.core.digest",
    "haulier.core.record",
    "haulier.core.session",
    "haulier.core.upload",
)
"""What only whoever speaks to a service of ours works with."""
LOADED = f"""
import sys
from haulier.__main__ import main
sys.argv = ["haulier", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    code = ended.code
print([name for name in {(*NEEDLESS, *OF_SERVICES)} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(("kind", "expected"), [("tus", ()), ("haulier", OF_SERVICES)])
def test_a_push_loads_nothing_that_it_has_no_work_for(
    haulier: Commands, service: ServeProcess, tmp_path: Path, kind: str, expected: tuple[str, ...]
) -> None:
    url = f"{service.url}/tus/" if kind == "tus" else service.url
    assert haulier.run("remote", "add", kind, "--type", kind, "--url", url).code == 0
    (tmp_path / "small").write_bytes(b"12345")
    environment = haulier.environment
    for arguments in (["push", str(tmp_path / "small"), "--to", f"{kind}:{kind}.bin"], ["transfers", "list"]):
        ran = subprocess.run(
            [sys.executable, "-c", LOADED, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        loaded = set(ast.literal_eval(ran.stderr))
        assert (ran.returncode, loaded - set(expected)) == (0, set())
        assert "ucceeded" in ran.stdout
