"""Capsules: what their policies take, and how they are set."""

from pathlib import Path
from typing import Any

import pytest

from haulier.core.caller import Role
from haulier.core.capsule import (
    ALL_KEYS,
    KEYS,
    NO_POLICY,
    Capsule,
    CapsulePolicy,
    check_capsule_name,
    read_changes,
)
from haulier.core.digest import DigestName
from haulier.core.errors import FileEmpty, InvalidRequest, LengthExceeded, QuotaExceeded, TypeNotAccepted
from haulier.core.values import replace

SHA, BLAKE, NONE = DigestName.SHA_256, DigestName.BLAKE3, DigestName.NONE
TEAM = Capsule(name="team", owner="user:alice")


def problems_of(changes: dict[str, str], capsule: Capsule = TEAM) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as refused:
        capsule.set(changes)
    return [(problem.field, problem.reason) for problem in refused.value.errors]


@pytest.mark.parametrize("size", [10, 11, 100])
def test_sizes_within_the_bounds_are_taken(size: int) -> None:
    CapsulePolicy(min_size=10, max_size=100).require_size(size)


@pytest.mark.parametrize(("size", "error"), [(101, LengthExceeded), (0, FileEmpty), (9, InvalidRequest)])
def test_other_sizes_are_refused_by_their_kind(size: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        CapsulePolicy(min_size=10, max_size=100).require_size(size)


@pytest.mark.parametrize("size", [0, 1, 2**63 - 1])
def test_without_a_policy_every_size_is_taken(size: int) -> None:
    NO_POLICY.require_size(size)


@pytest.mark.parametrize(
    "given", ["image/png", "IMAGE/PNG", "image/svg+xml ; charset=utf-8", "text/csv", "x/zip"]
)
def test_types_match_by_pattern_whatever_their_case_and_parameters(given: str) -> None:
    CapsulePolicy(types=("image/*", "text/csv", "*/zip")).require_type(given)
    NO_POLICY.require_type(given)


@pytest.mark.parametrize("given", ["text/html", "images/png", "text/csvx", "zip/x"])
def test_other_types_are_refused_with_what_is_taken(given: str) -> None:
    with pytest.raises(TypeNotAccepted) as refused:
        CapsulePolicy(types=("image/*", "text/csv", "*/zip")).require_type(given)
    assert (refused.value.accepted, refused.value.provided) == (("image/*", "text/csv", "*/zip"), given)


@pytest.mark.parametrize(
    ("policy", "asked", "chosen"),
    [
        ({}, None, SHA),
        ({}, BLAKE, BLAKE),
        ({"digest": BLAKE}, None, BLAKE),
        ({"digest": BLAKE}, SHA, SHA),
        ({"digests": (BLAKE, NONE)}, None, BLAKE),
        ({"digests": (BLAKE, NONE)}, NONE, NONE),
        ({"digests": (BLAKE, SHA)}, None, SHA),
        ({"digests": (BLAKE, SHA), "digest": BLAKE}, None, BLAKE),
    ],
)
def test_a_digest_is_asked_for_or_the_policys_or_the_services(
    policy: dict[str, Any], asked: DigestName | None, chosen: DigestName
) -> None:
    assert CapsulePolicy(**policy).choose_digest(asked, default=SHA) is chosen


def test_a_digest_that_is_not_allowed_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidRequest, match="must be one of blake3, none"):
        CapsulePolicy(digests=(BLAKE, NONE)).choose_digest(SHA, default=SHA)


@pytest.mark.parametrize(
    ("policy", "asked", "ttl"),
    [
        ({}, None, 100.0),
        ({}, 50.0, 100.0),
        ({}, 500.0, 100.0),
        ({"ttl": 30.0}, None, 30.0),
        ({"min_ttl": 20.0}, 10.0, 20.0),
        ({"min_ttl": 20.0}, 50.0, 50.0),
        ({"max_ttl": 500.0}, 1000.0, 500.0),
        ({"max_ttl": 500.0}, 300.0, 300.0),
        ({"max_ttl": 60.0}, None, 60.0),
        ({"min_ttl": 200.0}, None, 200.0),
        ({"ttl": 30.0, "min_ttl": 10.0, "max_ttl": 60.0}, 20.0, 20.0),
    ],
)
def test_a_time_to_live_is_clamped_to_what_the_capsule_allows(
    policy: dict[str, Any], asked: float | None, ttl: float
) -> None:
    assert CapsulePolicy(**policy).fit_ttl(asked, default=100.0) == ttl


def test_room_is_judged_by_what_is_stored() -> None:
    capsule = replace(TEAM, quota=100, used=60, reserved=100)
    capsule.require_room(40)
    with pytest.raises(QuotaExceeded):
        capsule.require_room(41)
    replace(capsule, quota=None).require_room(2**62)


def test_a_capsules_owner_is_one_whatever_was_granted() -> None:
    assert TEAM.role_of("user:alice", Role.READER) is Role.OWNER
    assert TEAM.role_of("user:bob", Role.READER) is Role.READER
    assert TEAM.role_of("user:bob", None) is None


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("min_size", "0", 0),
        ("max_size", "500000", 500_000),
        ("max_size", "10MB", 10_000_000),
        ("max_size", "5gib", 5 * 2**30),
        ("types", "image/*, TEXT/CSV,image/*", ("image/*", "text/csv")),
        ("types", "*/*", ("*/*",)),
        ("ttl", "90", 90.0),
        ("ttl", "1.5m", 90.0),
        ("ttl", "24h", 86_400.0),
        ("max_ttl", "365d", 365 * 86_400.0),
        ("digests", "BLAKE3,sha-256", (BLAKE, SHA)),
        ("digest", "none", NONE),
        ("admits_users", "TRUE", True),
        ("admits_visitors", "true", True),
        ("forward", "archive:2026/in/", "archive:2026/in/"),
    ],
)
def test_a_key_is_set_and_taken_back(key: str, text: str, value: object) -> None:
    changed = TEAM.set({key: text})
    assert getattr(changed.policy, key) == value
    assert CapsulePolicy.of(changed.policy.document()) == changed.policy
    assert changed.set({key: ""}) == TEAM


def test_quota_and_owner_are_set_beside_the_policy() -> None:
    changed = TEAM.set({"quota": "1KiB", "owner": "bob", "digest": "md5"})
    assert (changed.quota, changed.owner, changed.policy.digest) == (1024, "user:bob", DigestName.MD5)
    assert changed.set({"quota": "", "digest": ""}) == replace(TEAM, owner="user:bob")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("quota", "-1"),
        ("quota", "lots"),
        ("quota", "9000000000GiB"),
        ("owner", "a b"),
        ("max_size", "10M"),
        ("max_size", "1e9"),
        ("types", "image"),
        ("types", "image/*,,text/csv"),
        ("types", ",".join(f"a/{n}" for n in range(101))),
        ("ttl", "0"),
        ("ttl", "366d"),
        ("ttl", "soon"),
        ("digests", "sha-256,crc"),
        ("digest", "sha256sum"),
        ("admits_users", "yes"),
        ("forward", "somewhere"),
        ("forward", ":path"),
        ("forward", "a:\n"),
        ("forward", "a:" + "x" * 4096),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_under_its_key(key: str, text: str) -> None:
    ((field, reason),) = problems_of({key: text})
    assert field == key
    assert reason


def test_all_bad_values_are_told_at_once() -> None:
    assert [field for field, _ in problems_of({"quota": "x", "ttl": "x", "max_size": "5"})] == [
        "quota",
        "ttl",
    ]


def test_an_unknown_key_names_its_neighbour_or_all() -> None:
    assert problems_of({"max_sise": "5"}) == [("max_sise", "there is no such key; did you mean max_size?")]
    ((_, reason),) = problems_of({"xyz": "5"})
    assert reason == f"there is no such key; the keys are {', '.join(ALL_KEYS)}"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"min_size": "2", "max_size": "1"}, "min_size"),
        ({"min_ttl": "2", "max_ttl": "1"}, "min_ttl"),
        ({"ttl": "5", "max_ttl": "4"}, "ttl"),
        ({"ttl": "5", "min_ttl": "6"}, "ttl"),
        ({"digest": "md5", "digests": "sha-256"}, "digest"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(changes: dict[str, str], field: str) -> None:
    assert field in [name for name, _ in problems_of(changes)]


def test_a_policy_that_says_nothing_is_an_empty_document() -> None:
    assert NO_POLICY.document() == {}
    assert CapsulePolicy.of({}) == NO_POLICY
    assert set(KEYS) == set(CapsulePolicy.__slots__)


def test_every_key_is_in_the_reference() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "capsules.md"
    text = page.read_text(encoding="utf-8")
    assert [key for key in ALL_KEYS if f"`{key}`" not in text] == []


def test_changes_are_split_at_the_first_sign_of_equality() -> None:
    assert read_changes(["a=1", "b=x=y", "c=", "a=2"]) == {"a": "2", "b": "x=y", "c": ""}
    with pytest.raises(InvalidRequest) as refused:
        read_changes(["quota", "=5", "ttl=1"])
    assert [problem.field for problem in refused.value.errors] == ["quota", ""]


@pytest.mark.parametrize("name", ["a", "team-1", "A.b_c", "9" * 64])
def test_names_of_capsules_are_plain(name: str) -> None:
    assert list(check_capsule_name(name)) == []


@pytest.mark.parametrize("name", ["", ".", "-a", "a b", "a/b", "a:b", "ä", "9" * 65, "a\n"])
def test_other_names_are_refused(name: str) -> None:
    assert [problem.field for problem in check_capsule_name(name)] == ["name"]
