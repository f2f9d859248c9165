"""`haulier token` and `haulier capsule`: on the database, before the first start and beside a running service."""

import json
import stat
from pathlib import Path

import pytest

from haulier.core.secret import is_token
from tests.support.files import make_file
from tests.support.processes import Commands, Ran, serving

NOWHERE = "http://127.0.0.1:9"


class Operator:
    """Runs operators' commands on one data directory, and the others as somebody with a token."""

    def __init__(self, tmp_path: Path, url: str = NOWHERE) -> None:
        self.data = tmp_path / "data"
        self.commands = Commands(url, tmp_path / "work")

    def run(self, *arguments: str, **settings: str) -> Ran:
        """Run a command on the data directory."""
        return self.commands.run(*arguments, "--data-dir", str(self.data), given=None, **settings)

    def token(self, principal: str, *options: str) -> str:
        """Make a token and return its secret."""
        ran = self.run("token", "create", "--principal", principal, *options)
        assert ran.code == 0, ran.err
        return ran.out.strip()


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def test_a_token_is_made_before_the_first_start_and_shown_once(operator: Operator) -> None:
    ran = operator.run("token", "create", "--principal", "alice")
    assert ran.code == 0
    assert is_token(ran.out.strip())
    assert "shown only now" in ran.err
    assert "ends open mode" in ran.err
    assert ran.out.strip() not in ran.err
    second = operator.run("token", "create", "--principal", "user:bob", "--scope", "read")
    assert "ends open mode" not in second.err
    listed = operator.run("token", "list")
    assert [line.split()[1:3] for line in listed.out.splitlines()[1:]] == [
        ["user:alice", "write"],
        ["user:bob", "read"],
    ]
    for secret in (ran.out.strip(), second.out.strip()):
        assert secret not in listed.out + listed.err


def test_programs_read_json(operator: Operator) -> None:
    operator.run("capsule", "create", "team", "--owner", "alice")
    made = operator.run(
        "token", "create", "--principal", "alice", "--capsule", "team", "--expires-in", "60", "--json"
    )
    (document,) = made.documents
    assert is_token(document.pop("token"))
    assert document.pop("ends_open_mode") is True
    (listed,) = operator.run("token", "list", "--json").documents
    assert listed == document
    assert (listed["principal"], listed["capsule"], listed["scope"]) == ("user:alice", "team", "write")
    assert listed["expires_at"].endswith("Z")
    (revoked,) = operator.run("token", "revoke", listed["id"], "--json").documents
    assert revoked["expires_at"] < listed["expires_at"]
    (forgotten,) = operator.run("token", "forget", listed["id"], "--json").documents
    assert forgotten == {"id": listed["id"], "forgotten": True, "opens": True}


def test_the_database_that_is_made_is_its_owners_only(operator: Operator) -> None:
    operator.token("alice")
    assert stat.S_IMODE((operator.data / "haulier.db").stat().st_mode) == 0o600
    assert not (operator.data / "run").exists()


def test_capsules_are_made_shared_and_set(operator: Operator) -> None:
    assert operator.run("capsule", "create", "team", "--owner", "alice").code == 0
    assert operator.run("capsule", "grant", "team", "bob", "reader").code == 0
    assert operator.run("capsule", "grant", "team", "bob", "writer").code == 0
    ran = operator.run("capsule", "set", "team", "quota=1MiB", "types=image/*", "forward=archive:in/")
    assert ran.code == 0
    assert "types=image/*" in ran.out
    team = {it["name"]: it for it in operator.run("capsule", "list", "--json").documents}["team"]
    assert team == {
        "name": "team",
        "owner": "user:alice",
        "quota": 2**20,
        "used": 0,
        "reserved": 0,
        "policy": {"types": ["image/*"], "forward": "archive:in/"},
        "grants": {"user:bob": "writer"},
    }
    assert (
        operator.run("capsule", "ungrant", "team", "bob").out
        == "user:bob has no role any more in capsule team\n"
    )
    shown = operator.run("capsule", "list").out
    assert "team  owner user:alice  0 bytes used, 0 reserved, quota 1048576" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["token", "create"], 2, "--principal"),
        (["token", "create", "--principal", "a b"], 2, "--principal"),
        (["token", "create", "--principal", "a", "--scope", "all"], 2, "--scope"),
        (["token", "create", "--principal", "a", "--expires-in", "0"], 2, "expires_in"),
        (["token", "create", "--principal", "a", "--expires-in", "inf"], 2, "expires_in"),
        (
            ["token", "create", "--principal", "a", "--scope", "operator", "--capsule", "default"],
            2,
            "capsule",
        ),
        (["token", "create", "--principal", "a", "--capsule", "none"], 1, "no capsule 'none'"),
        (["token", "revoke", "none"], 1, "no token 'none'"),
        (["token", "forget", "none"], 1, "no token 'none'"),
        (["capsule", "create", "a/b", "--owner", "a"], 2, "name"),
        (["capsule", "create", "default", "--owner", "a"], 1, "already"),
        (["capsule", "grant", "none", "a", "reader"], 1, "no capsule 'none'"),
        (["capsule", "grant", "default", "a", "boss"], 2, "boss"),
        (["capsule", "ungrant", "none", "a"], 1, "no capsule 'none'"),
        (["capsule", "set", "none", "quota=5"], 1, "no capsule 'none'"),
        (["capsule", "set", "default", "qouta=5"], 2, "did you mean quota?"),
        (["capsule", "set", "default", "quota"], 2, "key=value"),
        (["capsule", "set", "default", "quota=much"], 2, "quota"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    operator: Operator, arguments: list[str], code: int, words: str
) -> None:
    ran = operator.run(*arguments, COLUMNS="200", HAULIER_LOG="json")
    assert ran.code == code, ran.err
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""


def test_a_broken_database_is_told_in_a_sentence(operator: Operator) -> None:
    operator.data.mkdir()
    (operator.data / "haulier.db").write_bytes(b"x" * 5000)
    ran = operator.run("token", "list")
    assert ran.code == 1
    assert "not a database" in ran.err
    assert "Traceback" not in ran.err


def test_options_come_from_the_environment_too(operator: Operator) -> None:
    ran = operator.commands.run(
        "token",
        "create",
        HAULIER_DATA_DIR=str(operator.data),
        HAULIER_PRINCIPAL="alice",
        HAULIER_SCOPE="owner",
        HAULIER_EXPIRES_IN="60",
        HAULIER_JSON="true",
    )
    assert ran.code == 0, ran.err
    assert (ran.documents[0]["principal"], ran.documents[0]["scope"]) == ("user:alice", "owner")


def test_a_running_service_follows_what_operators_do(tmp_path: Path) -> None:
    alice = Operator(tmp_path).token("alice", "--scope", "owner")
    with serving(tmp_path / "data") as service:
        operator = Operator(tmp_path, service.url)
        make_file(operator.commands.folder / "a.bin", 1000)

        def put(token: str, *options: str) -> Ran:
            return operator.commands.run("put", "a.bin", *options, HAULIER_TOKEN=token)

        assert operator.commands.run("ls").code == 4
        assert put(alice).code == 0
        bob = operator.token("bob")
        assert operator.run("capsule", "create", "team", "--owner", "alice").code == 0
        assert put(alice, "--capsule", "team").code == 0
        assert "capsule-not-found" in put(bob, "--capsule", "team").err
        operator.run("capsule", "grant", "team", "bob", "reader")
        denied = put(bob, "--capsule", "team")
        assert (denied.code, "access-denied" in denied.err) == (4, True)
        operator.run("capsule", "grant", "team", "bob", "writer")
        assert put(bob, "--capsule", "team").code == 0
        operator.run("capsule", "set", "team", "quota=2500")
        full = put(bob, "--capsule", "team")
        assert (full.code, "quota-exceeded" in full.err) == (4, True)
        seen = operator.commands.run("ls", "--json", "--capsule", "default", HAULIER_TOKEN=bob)
        assert seen.documents == []
        tokens = operator.run("token", "list", "--json").documents
        operator.run("token", "revoke", next(it["id"] for it in tokens if it["principal"] == "user:bob"))
        revoked = put(bob)
        assert (revoked.code, "expired or was revoked" in revoked.err) == (4, True)
        for secret in (alice, bob):
            assert secret not in service.log
            assert secret not in json.dumps(tokens)
