"""The small files that let a killed upload go on."""

import json
import os
import stat
from pathlib import Path

import pytest

from haulier.client.resume import MAX_AGE_S, Entry, Identity
from haulier.core.values import replace

FILM = Identity(
    url="http://127.0.0.1:8000", capsule="default", path="/films/a.mkv", size=5, mtime_ns=7, inode=9
)


def opened(directory: Path, identity: Identity = FILM) -> Entry:
    entry = Entry.open(directory, identity)
    assert entry is not None
    return entry


def test_the_key_is_the_same_until_the_upload_ends(tmp_path: Path) -> None:
    first = opened(tmp_path)
    key = first.key
    first.close()
    second = opened(tmp_path)
    assert second.key == key
    second.remove()
    second.close()
    third = opened(tmp_path)
    assert third.key != key
    third.close()
    assert list(tmp_path.iterdir()) != []


@pytest.mark.parametrize(
    "other",
    [
        replace(FILM, url="http://127.0.0.1:8001"),
        replace(FILM, capsule="other"),
        replace(FILM, path="/films/b.mkv"),
        replace(FILM, size=6),
        replace(FILM, mtime_ns=8),
        replace(FILM, inode=10),
    ],
)
def test_anything_else_is_another_upload(tmp_path: Path, other: Identity) -> None:
    one, two = opened(tmp_path), opened(tmp_path, other)
    assert one.key != two.key
    one.close()
    two.close()


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first = opened(tmp_path)
    assert Entry.open(tmp_path, FILM) is None
    first.close()
    opened(tmp_path).close()


def test_a_renewed_key_is_the_one_that_is_kept(tmp_path: Path) -> None:
    entry = opened(tmp_path)
    old = entry.key
    new = entry.renew()
    assert new != old
    entry.close()
    again = opened(tmp_path)
    assert again.key == new
    again.close()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 5}', '{"key": "of another"}', "null"])
def test_a_file_that_a_crash_cut_short_gets_a_new_key(tmp_path: Path, content: str) -> None:
    (tmp_path / f"{FILM.name}.json").write_text(content)
    entry = opened(tmp_path)
    assert entry.key.startswith(f"{FILM.name}-")
    entry.close()
    assert json.loads((tmp_path / f"{FILM.name}.json").read_text())["key"] == entry.key


def test_the_key_is_one_that_the_service_takes(tmp_path: Path) -> None:
    entry = opened(tmp_path, replace(FILM, path="/films/\udcff ü"))
    assert entry.key.isascii()
    assert len(entry.key) == 65
    entry.close()


def test_others_cannot_read_it(tmp_path: Path) -> None:
    opened(tmp_path / "home").close()
    (path,) = (tmp_path / "home").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_entries_of_uploads_long_gone_are_removed(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (path,) = tmp_path.iterdir()
    old = path.stat().st_mtime - MAX_AGE_S - 60
    os.utime(path, (old, old))
    opened(tmp_path, replace(FILM, size=6)).close()
    assert not path.exists()


def test_a_symbolic_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{FILM.name}.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        Entry.open(tmp_path, FILM)
