"""Local files that are sent: which revision they are, and that a changed one is never taken for it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from haulier.adapters.local_files import EDGE, SystemFiles
from haulier.core.errors import InvalidRequest, SourceChanged

FILES = SystemFiles()


async def test_an_open_file_gives_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    source = await FILES.open(str(path))
    assert (source.size, source.read(2, 5), source.read(10, 10)) == (10, b"234", b"")
    assert os.pread(source.descriptor, 3, 0) == b"012"
    assert source.fingerprint == await FILES.look(str(path))
    await source.check()
    await source.close()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="such files are Linux's")
async def test_a_file_that_tells_no_size_is_not_sent_as_an_empty_one() -> None:
    with pytest.raises(
        InvalidRequest, match="status tells a size of 0 bytes that it does not have; send a copy of it"
    ):
        await FILES.look("/proc/self/status")


async def test_a_file_that_grows_while_it_is_looked_at_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.touch()
    pread = os.pread

    def grown(descriptor: int, count: int, start: int) -> bytes:
        path.write_bytes(b"123")
        return pread(descriptor, count, start)

    monkeypatch.setattr(os, "pread", grown)
    with pytest.raises(SourceChanged, match="it had 0 bytes and has 3 now"):
        await FILES.look(str(path))


def change_size(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def change_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


def change_bytes_and_hide_it(path: Path) -> None:
    times = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replace_it(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.rename(path)


def remove_it(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_size, "it had 100 bytes and has 101 now"),
        (change_bytes, "it was written to"),
        (change_bytes_and_hide_it, "it was written to"),
        (replace_it, "another file has taken its place"),
        (remove_it, "it is gone"),
    ],
)
async def test_every_change_is_noticed(tmp_path: Path, change: Callable[[Path], None], reason: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(range(100)))
    source = await FILES.open(str(path))
    change(path)
    with pytest.raises(SourceChanged) as caught:
        await source.check()
    assert caught.value.reason == reason
    await source.close()


async def test_a_file_that_ends_early_is_no_short_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(100))
    source = await FILES.open(str(path))
    os.truncate(path, 50)
    with pytest.raises(SourceChanged, match="it ends at byte 50"):
        source.read(0, 100)
    await source.close()


async def test_the_ends_of_a_file_belong_to_its_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(3 * EDGE))
    before = await FILES.look(str(path))
    with path.open("r+b") as file:
        file.seek(3 * EDGE - 1)
        file.write(b"x")
    assert (await FILES.look(str(path))).edges != before.edges


async def test_only_files_can_be_sent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(InvalidRequest, match="is not a regular file"):
            await FILES.look(str(path))
    with pytest.raises(FileNotFoundError):
        await FILES.look(str(tmp_path / "none"))


def test_a_path_is_made_absolute_without_following_links(tmp_path: Path) -> None:
    assert FILES.absolute(f"{tmp_path}/a/../b") == f"{tmp_path}/b"
    assert FILES.absolute("x") == str(Path.cwd() / "x")
