"""A link given by the command opens the bytes for curl, and is dead when the record is deleted."""

import subprocess

from tests.support.processes import Commands, ServeProcess


def test_a_link_opens_the_record_until_that_is_deleted(service: ServeProcess, haulier: Commands) -> None:
    (haulier.folder / "a b.txt").write_text("as it is\n")
    record = haulier.run("put", "a b.txt", "--json").documents[0]["id"]
    given = haulier.run("link", record, "--expires", "10m")
    assert (given.code, given.err) == (0, "")
    url = given.out.strip()
    assert url.startswith(f"{service.url}/links/{record}.original.")
    inbox = haulier.folder / "inbox"
    inbox.mkdir()
    fetched = subprocess.run(["curl", "-sSfOJ", url], check=True, capture_output=True, cwd=inbox)
    assert fetched.stderr == b""
    assert (inbox / "a b.txt").read_text() == "as it is\n"
    assert haulier.run("rm", record).code == 0
    dead = subprocess.run(
        ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url], check=True, capture_output=True
    )
    assert dead.stdout == b"404"


def test_a_link_tells_what_it_is_as_json(haulier: Commands) -> None:
    (haulier.folder / "a.txt").write_text("text")
    record = haulier.run("put", "a.txt", "--json").documents[0]["id"]
    (given,) = haulier.run("link", record, "--inline", "--json").documents
    assert (given["record"], given["kind"], given["disposition"]) == (record, "original", "inline")
    assert given["url"]


def test_what_cannot_be_linked_is_told(haulier: Commands) -> None:
    unknown = haulier.run("link", "nope")
    assert unknown.code == 1
    assert "there is no record 'nope'" in unknown.err
    for expires in ("soon", "2000d"):
        assert haulier.run("link", "nope", "--expires", expires).code == 2
