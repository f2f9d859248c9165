"""Files that have secrets."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from haulier.private_files import replace_private


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets.json"


def names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


def test_a_file_is_made_and_replaced_for_its_owner_alone(path: Path) -> None:
    old = os.umask(0)
    try:
        replace_private(path, "first, which is longer")
        replace_private(path, "söcond")
    finally:
        os.umask(old)
    assert path.read_text(encoding="utf-8") == "söcond"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(path.parent) == [path.name]


def test_who_reads_has_the_old_file_or_the_new_one(path: Path) -> None:
    replace_private(path, "first")
    with path.open() as reader:
        replace_private(path, "second")
        assert reader.read() == "first"


def test_what_a_crash_has_left_is_taken_away(path: Path) -> None:
    left = path.with_name(f".{path.name}.new")
    left.write_text("a much longer text, half written")
    left.chmod(0o644)
    replace_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(path.parent) == [path.name]


@pytest.mark.parametrize("call", ["fsync", "ftruncate"])
def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    replace_private(path, "first")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left"):
            replace_private(path, "second")
    assert path.read_text() == "first"
    assert names(path.parent) == [path.name]


def test_a_link_in_the_place_of_the_next_file_is_not_followed(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_text("theirs")
    path.with_name(f".{path.name}.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        replace_private(path, "secret")
    assert victim.read_text() == "theirs"


def test_many_at_once_leave_one_whole_file(path: Path) -> None:
    texts = [str(number) * 20_000 for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            list(threads.map(lambda text: replace_private(path, text), texts))
            assert path.read_text() in texts
    assert names(path.parent) == [path.name]
