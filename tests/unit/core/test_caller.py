"""Callers: scopes and roles in their order, and the names that principals may have."""

import pytest

from haulier.core.caller import LOCAL, MAX_NAME, Caller, Scope, read_principal
from haulier.core.errors import InvalidRequest
from haulier.core.session import SessionId


def test_each_scope_includes_those_before_it() -> None:
    scopes = [Scope.READ, Scope.WRITE, Scope.OWNER, Scope.OPERATOR]
    included = [[wide.includes(narrow) for narrow in scopes] for wide in scopes]
    assert included == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]


def test_only_an_unlimited_credential_makes_an_operator() -> None:
    assert LOCAL.operator
    assert Caller(owner="user:x", scope=Scope.OPERATOR).operator
    assert not Caller(owner="user:x", scope=Scope.OWNER).operator
    assert not Caller(owner="user:x", scope=Scope.OPERATOR, capsule="team").operator
    assert not Caller(owner="user:x", scope=Scope.OPERATOR, upload=SessionId("u")).operator


def test_a_credential_covers_its_capsule_or_all() -> None:
    assert Caller(owner="user:x").covers("team")
    assert Caller(owner="user:x", capsule="team").covers("team")
    assert not Caller(owner="user:x", capsule="team").covers("default")


@pytest.mark.parametrize("name", ["alice", "user:alice"])
def test_a_principal_is_written_with_or_without_its_kind(name: str) -> None:
    assert read_principal(name) == "user:alice"


@pytest.mark.parametrize("name", ["a", "A.b-c_d+e@x.example", "9", "a" * MAX_NAME])
def test_names_are_ascii_letters_digits_and_a_few_signs(name: str) -> None:
    assert read_principal(name) == f"user:{name}"


@pytest.mark.parametrize(
    "name",
    ["", "user:", "user:user:x", "visitor:x", ".a", "a b", "a/b", "a\n", "ä", "a" * (MAX_NAME + 1), "@"],
)
def test_what_is_no_name_is_refused_with_the_field(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_principal(name, field="owner")
    assert refused.value.errors[0].field == "owner"
