"""A local file while it is sent."""

import os
from pathlib import Path

import pytest

from haulier.client.source import FileSource
from haulier.core.errors import InvalidRequest, SourceChanged


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.write_bytes(b"0123456789")
    return made


def test_any_range_is_read(path: Path) -> None:
    source = FileSource.open(path)
    assert source.size == 10
    assert source.read(0, 10) == b"0123456789"
    assert source.read(3, 5) == b"34"
    assert source.read(4, 4) == b""
    source.close()


def test_an_unchanged_file_passes(path: Path) -> None:
    source = FileSource.open(path)
    source.check()
    source.close()


def test_a_shorter_file_is_a_changed_one(path: Path) -> None:
    source = FileSource.open(path)
    path.write_bytes(b"012")
    with pytest.raises(SourceChanged, match="ends at byte 3"):
        source.read(0, 10)
    with pytest.raises(SourceChanged, match="had 10 bytes and has 3"):
        source.check()
    source.close()


def test_a_file_written_to_is_a_changed_one(path: Path) -> None:
    source = FileSource.open(path)
    os.utime(path, ns=(5, 5))
    with pytest.raises(SourceChanged, match="written to"):
        source.check()
    source.close()


def test_another_file_in_its_place_is_a_changed_one(path: Path) -> None:
    source = FileSource.open(path)
    other = path.with_name("other")
    other.write_bytes(b"0123456789")
    other.rename(path)
    with pytest.raises(SourceChanged, match="taken its place"):
        source.check()
    source.close()


def test_a_file_that_is_gone_is_a_changed_one(path: Path) -> None:
    source = FileSource.open(path)
    path.unlink()
    with pytest.raises(SourceChanged, match="gone"):
        source.check()
    source.close()


def test_folders_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(InvalidRequest, match="regular file"):
            FileSource.open(name)


@pytest.mark.parametrize(
    ("name", "size"), [("/proc/self/status", 0), ("/sys/kernel/mm/transparent_hugepage/enabled", 4096)]
)
def test_files_that_the_kernel_makes_while_they_are_read_are_refused(name: str, size: int) -> None:
    if not Path(name).exists():
        pytest.skip(f"there is no {name} here")
    with pytest.raises(InvalidRequest, match=f"tells a size of {size} bytes that it does not have"):
        FileSource.open(Path(name))


def test_an_empty_file_is_sent_as_one(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    source = FileSource.open(tmp_path / "empty")
    assert (source.size, source.read(0, 0)) == (0, b"")
    source.close()
