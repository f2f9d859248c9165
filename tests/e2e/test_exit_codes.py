"""Every way a command ends has its number and one sentence; never a traceback."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.files import MIB, make_file
from tests.support.processes import HAULIER, Commands, ServeProcess, serving


def test_a_service_that_is_not_there_is_3(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: nobody else gets the port
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        haulier = Commands(url, tmp_path / "work")
        make_file(haulier.folder / "a.txt", 5)
        for arguments in (["put", "a.txt"], ["ls"], ["get", "x"], ["rm", "x"]):
            ran = haulier.run(*arguments)
            assert ran.code == 3
            assert ran.err.startswith(f"haulier: {url} cannot be reached")
            assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["put"], "Missing argument"),
        (["put", "folder"], "-r"),
        (["put", "a.txt", "--digest", "sha-3"], "--digest"),
        (["put", "-", "a.txt"], "stands alone"),
        (["put", "a.txt", "--parallel", "0"], "--parallel"),
        (["put", "a.txt", "--url", "ftp://example"], "http://"),
        (["ls", "--since", "yesterday"], "--since"),
        (["ls", "--status", "odd"], "--status"),
        (["get"], "Missing argument"),
        (["get", "x", "-o", "-", "--json"], "-o -"),
        (["get", "folder/", "-o", "-"], "-o -"),
        (["nonsense"], "nonsense"),
        (["serve", "--port", "70000"], "--port"),
        (["serve", "--workers", "0"], "--workers"),
        (["serve", "--host", "0.0.0.0"], "--open"),
    ],
)
def test_usage_is_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    haulier = Commands("http://127.0.0.1:9", tmp_path / "work")
    (haulier.folder / "folder").mkdir()
    make_file(haulier.folder / "a.txt", 5)
    ran = haulier.run(*arguments, COLUMNS="200")
    assert ran.code == 2, ran.err
    assert words in ran.err
    assert "Traceback" not in ran.err


def test_what_is_missing_is_1(haulier: Commands) -> None:
    missing = haulier.run("put", "missing.txt")
    assert (missing.code, missing.err) == (
        1,
        "haulier: missing.txt: No such file or directory\n",
    )
    for arguments in (["get", "0"], ["rm", "0"], ["get", "nowhere/"]):
        ran = haulier.run(*arguments)
        assert ran.code == 1
        assert ran.err.startswith("haulier: ")
        assert ran.err.count("\n") == 1


def test_a_circle_of_links_keeps_no_file_of_its_folder_from_arriving(haulier: Commands) -> None:
    (haulier.folder / "tree/inner").mkdir(parents=True)
    make_file(haulier.folder / "tree/good.txt", 5)
    (haulier.folder / "tree/inner/up").symlink_to("..")
    (haulier.folder / "tree/loop").symlink_to("loop")
    ran = haulier.run("put", "-r", "tree")
    assert ran.code == 1
    assert sorted(ran.err.splitlines()) == [
        "haulier: tree/inner/up: path: it is a link to a folder above it",
        "haulier: tree/loop: Too many levels of symbolic links",
    ]
    assert "good.txt" in ran.out


def test_one_bad_file_keeps_no_other_from_arriving(haulier: Commands) -> None:
    make_file(haulier.folder / "good.txt", 5)
    ran = haulier.run("put", "missing.txt", "good.txt")
    assert ran.code == 1
    assert [row["filename"] for row in haulier.run("ls", "--json").documents] == ["good.txt"]


ALL_RIGHTS = "-dac_override,-dac_read_search"
"""Rights of root to read what nobody may; without them root is anybody."""


@pytest.mark.parametrize("arguments", [["put"], ["push", "--to", "here:"]])
def test_a_file_that_may_not_be_read_keeps_no_other_from_arriving(
    haulier: Commands, arguments: list[str]
) -> None:
    drop = ["setpriv", "--bounding-set", ALL_RIGHTS, "--inh-caps", ALL_RIGHTS] if os.geteuid() == 0 else []
    if drop and shutil.which("setpriv") is None:
        pytest.skip("root reads every file, and there is no setpriv")
    url = haulier.environment["HAULIER_URL"]
    haulier.run("remote", "add", "here", "--type", "haulier", "--url", url)
    make_file(haulier.folder / "good", 5)
    make_file(haulier.folder / "locked", 5).chmod(0)
    ran = subprocess.run(
        [*drop, HAULIER, *arguments, "locked", "good"],
        cwd=haulier.folder,
        env=haulier.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 1, ran.stderr
    assert b"locked: Permission denied" in ran.stderr
    assert b"good" in ran.stdout


def test_a_name_that_no_request_can_carry_is_told_and_keeps_no_other_from_arriving(
    haulier: Commands,
) -> None:
    (haulier.folder / os.fsdecode(b"latin\xe9.bin")).write_bytes(b"x")
    (haulier.folder / "two\nlines\x1b[31m").write_bytes(b"x")
    for number in range(8):
        (haulier.folder / f"good{number}").write_bytes(b"x")
    ran = haulier.run("put", *sorted(haulier.folder.iterdir(), reverse=True))
    assert (ran.code, len(ran.out.splitlines())) == (1, 8)
    assert "Traceback" not in ran.err
    assert "\x1b" not in ran.err
    assert len(ran.err.splitlines()) == 2


def test_an_argument_that_no_request_can_carry_is_2(haulier: Commands) -> None:
    for command in ("ls", "get", "rm"):
        ran = haulier.run(command, os.fsdecode(b"latin\xe9"))
        assert (ran.code, "is not UTF-8" in ran.err) == (2, True), ran.err


def test_an_id_is_never_read_as_an_address(haulier: Commands) -> None:
    (haulier.folder / "a.bin").write_bytes(b"x")
    record = haulier.run("put", "a.bin", "--json").documents[0]["id"]
    for wrong in (f"{record}?now=true", f"../records/{record}", f"{record}/", f"{record}#"):
        ran = haulier.run("rm", wrong)
        assert (ran.code, "record-not-found" in ran.err or "route-not-found" in ran.err) == (1, True), ran.err
    assert [row["id"] for row in haulier.run("ls", "--json").documents] == [record]


def test_what_exists_is_not_replaced_unless_forced(haulier: Commands) -> None:
    make_file(haulier.folder / "a.txt", 5)
    record = haulier.run("put", "a.txt", "--json").documents[0]["id"]
    (haulier.folder / "a.txt").write_text("mine")
    refused = haulier.run("get", record)
    assert refused.code == 1
    assert "--force" in refused.err
    assert (haulier.folder / "a.txt").read_text() == "mine"
    assert haulier.run("get", record, "--force").code == 0
    assert (haulier.folder / "a.txt").stat().st_size == 5


def test_a_device_is_never_replaced(haulier: Commands) -> None:
    (haulier.folder / "a.txt").write_bytes(b"x")
    record = haulier.run("put", "a.txt", "--json").documents[0]["id"]
    (haulier.folder / "link").symlink_to("/dev/null")
    ran = haulier.run("get", record, "-o", "link", "--force")
    assert (ran.code, ran.err) == (1, "haulier: target: link is not a regular file\n")
    assert (haulier.folder / "link").is_symlink()


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["put", "--help"], ["doctor"]], ids=" ".join
)
def test_output_that_nobody_takes_is_1(tmp_path: Path, arguments: list[str]) -> None:
    words = " ".join(arguments)
    ran = Commands("http://127.0.0.1:9", tmp_path / "work").shell(f"haulier {words} > /dev/full")
    assert (ran.code, ran.err.splitlines()[-1]) == (1, "haulier: No space left on device")
    assert "Traceback" not in ran.err


def test_standard_input_that_is_closed_or_has_no_name_is_told(haulier: Commands) -> None:
    closed = haulier.shell("haulier put - <&-")
    assert (closed.code, "is closed" in closed.err, "Traceback" in closed.err) == (2, True, False), closed.err
    nameless = haulier.shell("haulier put - --name '' < /dev/null")
    assert (nameless.code, nameless.err) == (1, "haulier: filename: must not be empty, '.' or '..'\n")


def test_output_that_is_closed_keeps_nothing_from_being_sent(haulier: Commands) -> None:
    for number, closed in enumerate((">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-")):
        name = f"{number}.bin"
        (haulier.folder / name).write_text(closed)
        assert haulier.shell(f"haulier put {name} {closed}").code == 0
    assert haulier.shell("haulier put missing 2>&-").code == 1
    listed = haulier.run("ls", "--json").documents
    assert sorted(each["filename"] for each in listed) == ["0.bin", "1.bin", "2.bin", "3.bin"]


def test_what_exceeds_a_quota_is_4(tmp_path: Path) -> None:
    with serving(tmp_path / "data", {"HAULIER_MAX_UPLOAD_BYTES": str(10 * MIB)}) as service:
        haulier = Commands(service.url, tmp_path / "work")
        make_file(haulier.folder / "large.bin", 11 * MIB)
        ran = haulier.run("put", "large.bin")
        assert ran.code == 4, ran.err
        assert ran.err.count("\n") == 1
        piped = haulier.run("put", "-", given=b"x" * (11 * MIB))
        assert piped.code == 4, piped.err


def test_a_full_disk_is_1_and_says_so(tmp_path: Path) -> None:
    with serving(tmp_path / "data", {"HAULIER_MIN_FREE_BYTES": str(2**60)}) as service:
        haulier = Commands(service.url, tmp_path / "work")
        for size in (5, 9 * MIB):
            make_file(haulier.folder / "a.bin", size)
            ran = haulier.run("put", "a.bin")
            assert ran.code == 1, ran.err
            assert "storage-full" in ran.err


def test_doctor_tells_what_is_right_and_what_is_wrong(tmp_path: Path) -> None:
    haulier = Commands("http://127.0.0.1:9", tmp_path / "work")
    right = haulier.run("doctor", "--data-dir", "data", HAULIER_PORT="0")
    assert right.code == 0, right.out + right.err
    assert all(line.startswith("ok ") for line in right.out.splitlines())
    (haulier.folder / "file").write_text("no folder")
    wrong = haulier.run("doctor", "--data-dir", "file", HAULIER_PORT="0")
    assert wrong.code == 1
    assert any(line.startswith("WRONG") for line in wrong.out.splitlines())


def test_doctor_names_a_service_that_runs_on_the_directory(service: ServeProcess, haulier: Commands) -> None:
    ran = haulier.run("doctor", "--data-dir", haulier.folder.parent / "data", HAULIER_PORT=str(service.port))
    assert ran.code == 1
    assert "Traceback" not in ran.err
