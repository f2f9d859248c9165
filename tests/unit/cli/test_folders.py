"""Which files are sent under which paths, and where they come to lie."""

import os
from pathlib import Path

import pytest

from haulier.cli.folders import Item, Selection, collect, place_below
from haulier.core.errors import InvalidRequest
from haulier.core.record import full_path


def test_files_named_by_themselves_have_no_path(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    assert collect([path], recursive=False) == Selection([Item(path, None)])


def test_a_folder_needs_r(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="-r"):
        collect([tmp_path], recursive=False)


def test_a_folders_own_name_begins_the_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "top"
    (folder / "b").mkdir(parents=True)
    (folder / "b/two").touch()
    (folder / "a").touch()
    paths = ["top/a", "top/b/two"]
    assert [item.path for item in collect([folder], recursive=True).items] == paths
    monkeypatch.chdir(folder)
    assert [item.path for item in collect([Path()], recursive=True).items] == paths


def test_links_to_folders_are_followed_and_circles_told(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    (tmp_path / "top/link").symlink_to(tmp_path / "other")
    assert [item.path for item in collect([tmp_path / "top"], recursive=True).items] == ["top/link/file"]
    (tmp_path / "other/back").symlink_to(tmp_path / "top")
    found = collect([tmp_path / "top"], recursive=True)
    assert [item.path for item in found.items] == ["top/link/file"]
    assert [(it.source, str(it.error)) for it in found.left_out] == [
        (tmp_path / "top/link/back", "path: it is a link to a folder above it")
    ]


def test_a_link_to_itself_is_told_when_its_turn_comes(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top/file").touch()
    (tmp_path / "top/loop").symlink_to("loop")
    found = collect([tmp_path / "top"], recursive=True)
    assert [item.path for item in found.items] == ["top/file", "top/loop"]


def test_a_name_that_cannot_be_looked_at_keeps_no_other_from_being_sent(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / ("x" * 300)
    good.touch()
    found = collect([bad, good], recursive=False)
    assert [item.source for item in found.items] == [good]
    assert [(it.source, isinstance(it.error, OSError)) for it in found.left_out] == [(bad, True)]


def test_a_link_to_nothing_is_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top/link").symlink_to("nowhere")
    assert [item.path for item in collect([tmp_path / "top"], recursive=True).items] == ["top/link"]


def test_names_are_normalised_and_never_fall_together(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top/u\u0308").touch()
    assert [item.path for item in collect([tmp_path / "top"], recursive=True).items] == ["top/\u00fc"]
    (tmp_path / "top/\u00fc").touch()
    with pytest.raises(InvalidRequest, match="both get the path"):
        collect([tmp_path / "top"], recursive=True)


def test_two_folders_of_one_name_never_fall_together(tmp_path: Path) -> None:
    for name in ("x/top", "y/top"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a").touch()
    with pytest.raises(InvalidRequest, match="both get the path"):
        collect([tmp_path / "x/top", tmp_path / "y/top"], recursive=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_told_and_the_rest_found(tmp_path: Path) -> None:
    (tmp_path / "top/closed").mkdir(parents=True, mode=0o000)
    (tmp_path / "top/file").touch()
    found = collect([tmp_path / "top"], recursive=True)
    assert [item.path for item in found.items] == ["top/file"]
    assert [type(it.error) for it in found.left_out] == [PermissionError]


@pytest.mark.parametrize(
    ("path", "filename", "whole"),
    [
        ("docs/a.txt", "a.txt", "docs/a.txt"),
        ("docs", "a.txt", "docs/a.txt"),
        ("docs/", "a.txt", "docs/a.txt"),
        ("a.txt", "a.txt", "a.txt"),
        ("a.txt/", "a.txt", "a.txt/a.txt"),
        ("d/\u00fc", "u\u0308", "d/\u00fc"),
    ],
)
def test_paths_with_and_without_the_file_name_come_to_one(path: str, filename: str, whole: str) -> None:
    assert full_path(path, filename) == whole


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a//b", "a\\b", "a/\x00", "", "a/."])
def test_no_path_leads_out_of_the_folder(path: str) -> None:
    with pytest.raises(InvalidRequest):
        place_below(Path("out"), path)


def test_a_path_becomes_a_place() -> None:
    assert place_below(Path("out"), "a/b c") == Path("out/a/b c")


def test_folders_with_nothing_in_them_are_counted(tmp_path: Path) -> None:
    (tmp_path / "top/empty").mkdir(parents=True)
    (tmp_path / "top/full/empty").mkdir(parents=True)
    (tmp_path / "top/full/file").touch()
    found = collect([tmp_path / "top"], recursive=True)
    assert ([item.path for item in found.items], found.empty) == (["top/full/file"], 2)
    assert collect([tmp_path / "top/empty"], recursive=True) == Selection([], 1)
