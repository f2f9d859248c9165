"""The walk of a file: in by curl and by `haulier put`, listed, and out again byte for byte."""

import json
import subprocess
import unicodedata
from pathlib import Path

import pytest

from tests.support.files import MIB, make_file, sha256
from tests.support.processes import Commands, ServeProcess, serving


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_data_directory_of_any_name_has_its_database_inside(tmp_path: Path, workers: str) -> None:
    odd = tmp_path / "what?x#y%20z"
    with serving(odd, {"HAULIER_WORKERS": workers, "HAULIER_HOME": str(tmp_path / "home")}) as service:
        commands = Commands(service.url, tmp_path / "work")
        source = make_file(commands.folder / "a.bin", 1000, seed=1)
        assert commands.run("put", source).code == 0
        assert [row["filename"] for row in commands.run("ls", "--json").documents] == ["a.bin"]
    assert (odd / "haulier.db").stat().st_size > 0
    assert {path.name for path in tmp_path.iterdir()} == {odd.name, f"{odd.name}.log", "home", "work"}


def test_files_of_curl_and_put_are_listed_and_come_back_equal(
    service: ServeProcess, haulier: Commands
) -> None:
    by_curl = make_file(haulier.folder / "by curl.bin", 3 * MIB + 7, seed=1)
    small = make_file(haulier.folder / "small.bin", 1000, seed=2)
    empty = make_file(haulier.folder / "empty.bin", 0)
    large = make_file(haulier.folder / "large.bin", 200 * MIB + 11, seed=3)
    subprocess.run(
        ["curl", "-sSf", "-T", by_curl, f"{service.url}/api/files/by%20curl.bin"],
        check=True,
        capture_output=True,
    )
    assert haulier.run("put", small, empty, large).code == 0

    listed = {row["filename"]: row for row in haulier.run("ls", "--json").documents}
    assert set(listed) == {"by curl.bin", "small.bin", "empty.bin", "large.bin"}
    for source in (by_curl, small, empty, large):
        row = listed[source.name]
        assert row["status"] == "completed"
        assert row["size"] == source.stat().st_size
        assert row["digest"] == {"sha-256": sha256(source)}
        copy = haulier.folder / f"copy of {source.name}"
        fetched = haulier.run("get", row["id"], "-o", copy)
        assert (fetched.code, fetched.err) == (0, "")
        assert sha256(copy) == sha256(source)
    table = haulier.run("ls").out
    assert all(name in table for name in listed)


@pytest.mark.slow
def test_two_gigabytes_come_back_equal(haulier: Commands) -> None:
    source = make_file(haulier.folder / "huge.bin", 2048 * MIB + 1)
    put = haulier.run("put", "--json", source)
    assert put.code == 0, put.err
    assert put.documents[0]["size"] == 2048 * MIB + 1
    copy = haulier.folder / "copy.bin"
    assert haulier.run("get", put.documents[0]["id"], "-o", copy).code == 0
    assert sha256(copy) == sha256(source)


def test_a_folder_comes_back_with_its_tree_and_its_names(haulier: Commands) -> None:
    names = [
        "readme.txt",
        "2026/août/été.txt",
        "2026/août/日本語 файл.bin",
        "2026/emoji 🚚/a b&c?d#e%41.txt",
        "empty",
    ]
    for number, name in enumerate(names):
        path = haulier.folder / "photos" / unicodedata.normalize("NFC", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        make_file(path, number * 1000, seed=number)
    put = haulier.run("put", "-r", "photos", "--json")
    assert put.code == 0, put.err
    assert sorted(row["path"] for row in put.documents) == sorted(f"photos/{name}" for name in names)

    got = haulier.run("get", "photos/", "-o", "copy", "--json")
    assert (got.code, got.err) == (0, "")
    assert _tree(haulier.folder / "copy") == _tree(haulier.folder / "photos")
    part = haulier.run("get", "photos/2026/août/")
    assert part.code == 0
    assert _tree(haulier.folder / "août") == _tree(haulier.folder / "photos/2026/août")


def test_the_newest_record_of_a_path_is_fetched(haulier: Commands) -> None:
    folder = haulier.folder / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("old")
    assert haulier.run("put", "-r", "docs").code == 0
    (folder / "a.txt").write_text("newer")
    assert haulier.run("put", "-r", "docs").code == 0
    assert haulier.run("get", "docs/", "-o", "copy").code == 0
    assert (haulier.folder / "copy/a.txt").read_text() == "newer"


def test_a_repeated_get_of_a_folder_fetches_nothing_again(service: ServeProcess, haulier: Commands) -> None:
    folder = haulier.folder / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("text")
    assert haulier.run("put", "-r", "docs").code == 0
    assert haulier.run("get", "docs/", "-o", "copy").code == 0
    assert haulier.run("get", "docs/", "-o", "copy").code == 0
    assert len(service.requests("GET", "/assets/original$")) == 1


def test_a_record_goes_to_standard_output_and_nothing_else_does(haulier: Commands) -> None:
    (haulier.folder / "a.txt").write_text("as it is\n")
    record = haulier.run("put", "a.txt", "--json").documents[0]["id"]
    ran = haulier.run("get", record, "-o", "-")
    assert (ran.code, ran.out) == (0, "as it is\n")
    assert not (haulier.folder / "-").exists()


def test_standard_input_becomes_a_record(haulier: Commands) -> None:
    source = make_file(haulier.folder / "source.bin", 30 * MIB + 5)
    put = haulier.run("put", "-", "--name", "piped.bin", "--json", given=source.read_bytes())
    assert (put.code, put.err) == (0, "")
    (record,) = put.documents
    assert (record["filename"], record["size"]) == ("piped.bin", 30 * MIB + 5)
    assert record["digest"] == {"sha-256": sha256(source)}


def test_empty_standard_input_becomes_an_empty_record(haulier: Commands) -> None:
    put = haulier.run("put", "-", "--json", given=b"")
    assert put.code == 0
    assert (put.documents[0]["filename"], put.documents[0]["size"]) == ("stdin", 0)


def test_two_puts_of_one_file_are_two_records(haulier: Commands) -> None:
    source = make_file(haulier.folder / "twice.bin", 20 * MIB)
    first, second = haulier.run("put", source, "--json"), haulier.run("put", source, "--json")
    assert first.documents[0]["id"] != second.documents[0]["id"]
    assert len(haulier.run("ls", "--json").documents) == 2


def test_two_puts_of_one_file_at_once_both_arrive(haulier: Commands) -> None:
    source = make_file(haulier.folder / "twice.bin", 50 * MIB)
    running = [haulier.start("put", source, "--json") for _ in range(2)]
    documents = [json.loads(process.communicate()[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert documents[0]["id"] != documents[1]["id"]
    assert [document["digest"] for document in documents] == [{"sha-256": sha256(source)}] * 2


def test_plain_output_is_id_size_name(haulier: Commands) -> None:
    make_file(haulier.folder / "a.txt", 12)
    line = haulier.run("put", "a.txt").out
    record = haulier.run("ls", "--json").documents[0]["id"]
    assert line == f"{record}  12  a.txt\n"


@pytest.mark.parametrize("digest", ["sha-512", "blake3", "crc32c", "md5", "none"])
def test_every_digest_goes_both_ways(haulier: Commands, digest: str) -> None:
    small = make_file(haulier.folder / "small.bin", 1000)
    large = make_file(haulier.folder / "large.bin", 20 * MIB)
    put = haulier.run("put", small, large, "--digest", digest, "--json")
    assert put.code == 0, put.err
    for record in put.documents:
        assert list(record["digest"] or {}) == ([] if digest == "none" else [digest])
        assert haulier.run("get", record["id"], "-o", "copy.bin", "--force").code == 0
        assert sha256(haulier.folder / "copy.bin") == sha256(haulier.folder / record["filename"])


def test_lists_are_filtered(haulier: Commands) -> None:
    (haulier.folder / "docs").mkdir()
    make_file(haulier.folder / "docs/a.txt", 5)
    make_file(haulier.folder / "b.txt", 5)
    haulier.run("put", "-r", "docs", "b.txt")
    assert [row["filename"] for row in haulier.run("ls", "docs/", "--json").documents] == ["a.txt"]
    assert len(haulier.run("ls", "--status", "completed", "--since", "2020-01-01", "--json").documents) == 2
    assert haulier.run("ls", "--since", "2999-01-01T00:00:00Z", "--json").documents == []
    assert haulier.run("ls", "--status", "failed", "--json").documents == []
    assert len(haulier.run("ls", "--mine", "--json").documents) == 2


def test_lists_longer_than_a_page_are_whole(haulier: Commands) -> None:
    folder = haulier.folder / "many"
    folder.mkdir()
    for number in range(230):
        (folder / f"{number:03}.txt").write_text(str(number))
    put = haulier.run("put", "-r", "many", "--parallel", "8")
    assert put.code == 0, put.err
    paths = [row["path"] for row in haulier.run("ls", "--json").documents]
    assert sorted(paths) == [f"many/{number:03}.txt" for number in range(230)]


def test_a_removed_record_is_listed_no_more(haulier: Commands) -> None:
    make_file(haulier.folder / "a.txt", 5)
    record = haulier.run("put", "a.txt", "--json").documents[0]["id"]
    assert haulier.run("rm", record, "--json").documents == [{"id": record, "deleted": True}]
    assert haulier.run("ls", "--json").documents == []


def _tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_empty_folders_are_counted_in_the_report(haulier: Commands) -> None:
    (haulier.folder / "tree/empty").mkdir(parents=True)
    make_file(haulier.folder / "tree/file", 5)
    ran = haulier.run("put", "-r", "tree")
    assert ran.code == 0
    assert "1 empty folder was not sent" in ran.err
    (haulier.folder / "nothing").mkdir()
    nothing = haulier.run("put", "-r", "nothing")
    assert (nothing.code, nothing.out) == (0, "")
    assert "1 empty folder was not sent" in nothing.err
