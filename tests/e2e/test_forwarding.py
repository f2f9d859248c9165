"""A capsule that forwards: each completed record arrives at another service, exactly once."""

from pathlib import Path
from typing import Any

from tests.support.processes import Commands, serving, wait_until


def paths(haulier: Commands, prefix: str = "") -> list[tuple[str, int]]:
    return sorted((each["path"], each["size"]) for each in haulier.run("ls", prefix, "--json").documents)


def test_each_completed_record_goes_on_exactly_once(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "far", {"HAULIER_NO_TRANSFERS": "true"}) as far,
        serving(tmp_path / "near") as near,
    ):
        there, here = Commands(far.url, tmp_path / "there"), Commands(near.url, tmp_path / "here")
        home = str(tmp_path / "near.home")
        (here.folder / "before").write_bytes(b"before")
        assert here.run("put", "before").code == 0
        forward = here.run("capsule", "set", "default", "forward=far:in", "--data-dir", tmp_path / "near")
        assert forward.code == 0, forward.err
        (here.folder / "sub").mkdir()
        (here.folder / "sub" / "f.bin").write_bytes(bytes(3_000_000))
        (here.folder / "plain").write_bytes(b"12345")
        put = here.run("put", "-r", "sub", "plain", "--json")
        assert put.code == 0, put.err

        # The remote is set up later: until then the transfers are blocked.
        def listed() -> list[dict[str, Any]]:
            return here.run("transfers", "list", "--json", HAULIER_HOME=home).documents

        wait_until(lambda: [each["phase"] for each in listed()] == ["blocked", "blocked"], "both are blocked")
        added = here.run("remote", "add", "far", "--type", "haulier", "--url", far.url, HAULIER_HOME=home)
        assert added.code == 0
        for each in listed():
            assert here.run("transfers", "resume", each["id"], HAULIER_HOME=home).code == 0
        expected = [("in/plain", 5), ("in/sub/f.bin", 3_000_000)]
        wait_until(lambda: paths(there) == expected, "both have arrived")
        near.kill()
        near.start()
        (here.folder / "after").write_bytes(b"after!")
        assert here.run("put", "after").code == 0
        wait_until(lambda: len(paths(there)) == 3, "the third has arrived")
        assert paths(there) == [("in/after", 6), *expected]
        records = {record["id"] for record in put.documents}
        forwarded = [each["id"] for each in listed()]
        assert len(forwarded) == 3
        assert all(any(each.startswith(f"forward-{record}-") for each in forwarded) for record in records)
        shown = here.run("transfers", "list", "--live", "--json", HAULIER_HOME=home)
        assert shown.documents == []
