"""The part file of a download, and when it becomes the target."""

import errno
from pathlib import Path

import pytest

from haulier.client.download import Part, expected_digest, holds, require_file_or_nothing
from haulier.client.values import Asset
from haulier.core.digest import Digest, DigestName
from haulier.core.errors import DigestMalformed, InvalidRequest

ABC = Digest(
    DigestName.SHA_256, bytes.fromhex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
)


def opened(target: Path, mark: str = "record/original") -> Part:
    return Part.open(target, mark, DigestName.SHA_256)


def asset(digest: dict[str, str] | None) -> Asset:
    return Asset(kind="original", size=3, content_type="text/plain", digest=digest, url="http://x")


def test_what_an_earlier_run_left_is_taken_over_with_its_digest(tmp_path: Path) -> None:
    first = opened(tmp_path / "a")
    first.write(b"ab")
    first.close()
    second = opened(tmp_path / "a")
    second.take_over()
    assert second.size == 2
    second.write(b"c")
    assert second.digest() == ABC
    second.close()


def test_cleared_means_from_the_start(tmp_path: Path) -> None:
    part = opened(tmp_path / "a")
    part.write(b"wrong")
    part.clear()
    part.write(b"abc")
    assert (part.size, part.digest()) == (3, ABC)
    part.publish(tmp_path / "a", overwrite=False)
    part.close()
    assert (tmp_path / "a").read_bytes() == b"abc"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_another_record_or_target_has_another_part(tmp_path: Path) -> None:
    parts = [opened(tmp_path / "a"), opened(tmp_path / "b"), opened(tmp_path / "a", "other/original")]
    assert len({part.path for part in parts}) == 3
    for part in parts:
        part.close()
    assert list(tmp_path.iterdir()) == []


def test_one_fetch_of_a_target_at_a_time(tmp_path: Path) -> None:
    part = opened(tmp_path / "a")
    with pytest.raises(InvalidRequest, match="another process"):
        opened(tmp_path / "a")
    part.close()


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_what_exists_is_replaced_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    target = tmp_path / "a"
    target.write_bytes(b"mine")
    part = opened(target)
    part.write(b"abc")
    with pytest.raises(FileExistsError):
        part.publish(target, overwrite=False)
    assert target.read_bytes() == b"mine"
    target.unlink()
    part.publish(target, overwrite=False)
    part.close()
    assert target.read_bytes() == b"abc"
    again = opened(target)
    again.write(b"new")
    again.publish(target, overwrite=True)
    again.close()
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_the_same_bytes_are_known(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert not holds(path, 3, ABC)
    path.write_bytes(b"abd")
    assert not holds(path, 3, ABC)
    path.write_bytes(b"abc")
    assert holds(path, 3, ABC)
    assert not holds(path, 4, ABC)
    assert not holds(path, 3, None)
    assert not holds(tmp_path, 3, ABC)


def test_the_services_digest_is_read_strictly() -> None:
    assert expected_digest(asset({"sha-256": ABC.hex})) == ABC
    assert expected_digest(asset(None)) is None
    for wrong in ({"sha-256": "00"}, {"sha-3": "00"}):
        with pytest.raises(DigestMalformed):
            expected_digest(asset(wrong))


def test_only_files_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "dangling").symlink_to("nowhere")
    for replaceable in ("file", "dangling", "nothing"):
        require_file_or_nothing(tmp_path / replaceable)
    (tmp_path / "stdout").symlink_to("/dev/null")
    for special in (Path("/dev/null"), tmp_path / "stdout"):
        with pytest.raises(InvalidRequest, match="not a regular file"):
            require_file_or_nothing(special)
    with pytest.raises(IsADirectoryError):
        require_file_or_nothing(tmp_path)


def test_a_folder_that_is_missing_is_named_and_not_the_part_in_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as told:
        opened(tmp_path / "missing" / "a")
    assert told.value.filename == str(tmp_path / "missing")
