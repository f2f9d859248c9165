import errno
import logging
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from haulier.adapters.disk.directories import (
    make_directory,
    prepare_shelf,
    prepare_tree,
    require_inside,
)
from haulier.adapters.disk.system_calls import OfdLocks, StrPath, SystemCalls
from haulier.core.errors import ConfigError, DirectoryNotCreatable, StorageFull
from tests.support.faulty_calls import FaultyCalls


@pytest.fixture
def calls() -> FaultyCalls:
    return FaultyCalls()


def modes(*paths: Path) -> list[str]:
    return [f"{path.stat().st_mode & 0o777:o}" for path in paths]


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_tree_is_made_nested_and_each_creation_is_logged(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b" / "data"
    with capture_logs() as logs:
        assert prepare_tree(root) == root
    assert tree(root) == ["incoming", "lost+found", "objects"]
    assert modes(root.parent, root, *root.iterdir()) == ["755"] * 5
    assert [(entry["event"], entry["path"]) for entry in logs] == [
        ("directory.created", str(path))
        for path in (
            tmp_path / "a",
            tmp_path / "a" / "b",
            root,
            root / "incoming",
            root / "objects",
            root / "lost+found",
        )
    ]


def test_preparing_again_changes_and_logs_nothing(tmp_path: Path) -> None:
    prepare_tree(tmp_path)
    (tmp_path / "incoming" / "part").write_text("kept")
    with capture_logs() as logs:
        prepare_tree(tmp_path)
    assert logs == []
    assert tree(tmp_path) == ["incoming", "incoming/part", "lost+found", "objects"]


def test_a_relative_root_is_made_where_the_process_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert prepare_tree(Path("nested/.storage")) == tmp_path / "nested" / ".storage"
    assert (tmp_path / "nested" / ".storage" / "incoming").is_dir()


def test_a_root_that_is_a_link_is_resolved(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert prepare_tree(tmp_path / "link") == tmp_path / "real"


def test_a_directory_that_shuts_us_out_is_mended(tmp_path: Path) -> None:
    prepare_tree(tmp_path)
    (tmp_path / "incoming").chmod(0o400)
    with capture_logs() as logs:
        prepare_tree(tmp_path)
    assert modes(tmp_path / "incoming") == ["755"]
    assert [(entry["event"], entry["mode"]) for entry in logs] == [("directory.mended", "0400")]


def test_a_directory_that_shuts_out_others_stays_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    prepare_tree(tmp_path)
    assert modes(tmp_path) == ["700"]


def test_a_file_in_the_way_is_named_with_the_setting(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.write_text("not a directory")
    with pytest.raises(ConfigError) as caught:
        prepare_tree(root, setting="HAULIER_DATA_DIR")
    assert (caught.value.setting, caught.value.value) == ("HAULIER_DATA_DIR", str(root))
    assert "expected a directory" in str(caught.value)
    assert str(root) in str(caught.value)


@pytest.mark.parametrize("name", ["incoming", "objects", "lost+found"])
def test_a_tree_that_leads_out_of_its_root_is_refused(tmp_path: Path, name: str) -> None:
    root, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / name).symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="outside"):
        prepare_tree(root)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("path", ["..", "../elsewhere", "a/../../elsewhere", "/etc", "link/x"])
def test_a_path_outside_of_the_root_is_refused_resolved(tmp_path: Path, path: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(DirectoryNotCreatable):
        require_inside(Path(path), root)


@pytest.mark.parametrize("path", [".", "a", "a/b", "a/../b", "link/x"])
def test_a_path_inside_of_the_root_is_returned_resolved(tmp_path: Path, path: str) -> None:
    root = tmp_path / "data"
    (root / "a").mkdir(parents=True)
    (root / "link").symlink_to(root / "a")
    expected = {".": root, "a": root / "a", "a/b": root / "a" / "b", "a/../b": root / "b"}
    assert require_inside(Path(path), root) == expected.get(path, root / "a" / "x")
    assert require_inside(root / path, root) == expected.get(path, root / "a" / "x")


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("open", errno.EROFS),
        ("pwrite", errno.ENOSPC),
        ("sync", errno.EIO),
        ("link", errno.EPERM),
        ("link", errno.EOPNOTSUPP),
        ("unlink", errno.EACCES),
        ("make_directory", errno.EACCES),
        ("sync_directory", errno.EIO),
        ("free_bytes", errno.EIO),
    ],
)
def test_a_directory_that_cannot_do_what_uploads_need_stops_the_start(
    tmp_path: Path, calls: FaultyCalls, operation: str, code: int
) -> None:
    calls.fail(operation, code)
    with pytest.raises(ConfigError) as caught:
        prepare_tree(tmp_path / "data", calls=calls)
    assert "hard links" in caught.value.expected
    prepare_tree(tmp_path / "data", calls=calls)  # what the failed probe left does not disturb the next
    assert tree(tmp_path / "data") == ["incoming", "lost+found", "objects"]


def test_a_directory_that_refuses_files_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SystemCalls, "may_write", lambda _, path: path.name != "incoming")
    with pytest.raises(ConfigError, match="incoming is not writable"):
        prepare_tree(tmp_path)


def test_a_probe_that_another_process_holds_stops_the_start(tmp_path: Path) -> None:
    locks = OfdLocks()

    class Meddling(SystemCalls):
        def open(self, path: StrPath, flags: int) -> int:
            descriptor = super().open(path, flags)
            if Path(path).name.startswith(".probe"):
                self.other = super().open(path, flags)
                locks.take(self.other, 0, None)
            return descriptor

    calls = Meddling()
    with pytest.raises(ConfigError, match="another process"):
        prepare_tree(tmp_path, calls=calls)
    os.close(calls.other)


def test_two_starts_on_one_directory_do_not_disturb_each_other(tmp_path: Path) -> None:
    """As of two containers, where both processes have the id 1."""

    class Meanwhile(SystemCalls):
        def link(self, source: Path, target: Path) -> None:
            prepare_tree(tmp_path)
            prepare_shelf(tmp_path, Path("shelf"))
            super().link(source, target)

    prepare_tree(tmp_path, calls=Meanwhile())
    prepare_shelf(tmp_path, Path("shelf"), calls=Meanwhile())
    assert tree(tmp_path) == ["incoming", "lost+found", "objects", "shelf"]


def test_what_a_start_that_was_killed_has_left_is_removed(tmp_path: Path) -> None:
    prepare_tree(tmp_path)
    for name in ("incoming/.probe-1", "objects/.probe-1", "incoming/.probe-2", "incoming/part"):
        (tmp_path / name).touch()
        if not name.endswith("2"):
            os.utime(tmp_path / name, (0, 0))
    prepare_tree(tmp_path)
    assert tree(tmp_path) == ["incoming", "incoming/.probe-2", "incoming/part", "lost+found", "objects"]


def test_little_room_is_a_warning_only(tmp_path: Path) -> None:
    prepare_tree(tmp_path)
    with capture_logs() as logs:
        prepare_tree(tmp_path, min_free=2**62)
    assert [(entry["event"], entry["needed"]) for entry in logs] == [("storage.low", 2**62)]
    assert logs[0]["available"] > 0


def test_a_directory_that_somebody_else_makes_in_this_moment_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_twice(_: SystemCalls, path: Path) -> None:
        path.mkdir()
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(SystemCalls, "make_directory", make_twice)
    with capture_logs() as logs:
        make_directory(tmp_path / "data", SystemCalls())
    assert logs == []
    assert (tmp_path / "data").is_dir()


def test_a_disk_that_is_full_when_a_directory_is_made_says_so(tmp_path: Path, calls: FaultyCalls) -> None:
    calls.fail("make_directory", errno.ENOSPC)
    with pytest.raises(StorageFull):
        make_directory(tmp_path / "data", calls)


def test_a_directory_that_was_expected_to_be_missing_is_no_news(tmp_path: Path, calls: FaultyCalls) -> None:
    with capture_logs() as logs:
        make_directory(tmp_path / "data", calls, expected=True)
    assert [entry["log_level"] for entry in logs] == [logging.getLevelName(logging.DEBUG).lower()]
    assert calls.names() == ["make_directory"]
