"""Rights never exceed the role, never exceed the credential, and are exactly what both allow."""

from itertools import product

from hypothesis import example, given
from hypothesis import strategies as st

from haulier.core.access import rights_in
from haulier.core.caller import Caller, Role, Scope
from haulier.core.capsule import Capsule, CapsulePolicy
from haulier.core.session import SessionId

ME = "user:me"
OTHER = "user:other"
UPLOAD = SessionId("u1")

# The oracle: a table of what each role may do to (its own, others') things, written out beside the code.
ACTS = ("know", "begin", "see", "move", "read", "remove")
BY_ROLE: dict[str, dict[str, str]] = {
    "nobody": {"know": "", "begin": "", "see": "own", "move": "", "read": "", "remove": ""},
    "guest": {"know": "own", "begin": "own", "see": "own", "move": "own", "read": "own", "remove": "own"},
    "reader": {"know": "own", "begin": "", "see": "own", "move": "", "read": "all", "remove": ""},
    "writer": {"know": "own", "begin": "own", "see": "own", "move": "own", "read": "all", "remove": "own"},
    "owner": {"know": "own", "begin": "own", "see": "all", "move": "all", "read": "all", "remove": "all"},
}
NEEDS: dict[str, tuple[Scope, Scope]] = {
    # What the credential must be for: for one's own things, and for others'.
    "know": (Scope.READ, Scope.READ),
    "begin": (Scope.WRITE, Scope.WRITE),
    "see": (Scope.READ, Scope.OWNER),
    "move": (Scope.WRITE, Scope.OWNER),
    "read": (Scope.READ, Scope.READ),
    "remove": (Scope.WRITE, Scope.OWNER),
}
ORDER = [Scope.READ, Scope.WRITE, Scope.OWNER, Scope.OPERATOR]

callers = st.builds(
    Caller,
    owner=st.sampled_from([ME, OTHER, "local"]),
    scope=st.sampled_from(Scope),
    capsule=st.sampled_from([None, "here", "there"]),
    upload=st.sampled_from([None, UPLOAD, SessionId("u2")]),
)
capsules = st.builds(
    Capsule,
    name=st.just("here"),
    owner=st.sampled_from([ME, OTHER, "local"]),
    policy=st.builds(CapsulePolicy, admits_users=st.booleans()),
)
grants = st.none() | st.sampled_from(Role)


def standing(capsule: Capsule, granted: Role | None, principal: str) -> str:
    if capsule.owner == principal:
        return "owner"
    if granted is not None:
        return granted.value
    return "guest" if capsule.policy.admits_users and principal.startswith("user:") else "nobody"


def allowed(act: str, owner: str, *, role: str, caller: Caller) -> bool:
    own = owner == caller.owner
    reach = BY_ROLE[role][act]
    if caller.upload is not None:
        # Its owner's right to move it, and nothing else; that it is there may always be seen.
        if act == "see":
            return own
        writes = BY_ROLE[role]["begin"] == "own" and ORDER.index(caller.scope) >= 1
        return act in {"move", "know"} and own and writes
    need = NEEDS[act][0 if own else 1]
    return (reach == "all" or (reach == "own" and own)) and ORDER.index(caller.scope) >= ORDER.index(need)


def asked(act: str, owner: str, *, capsule: Capsule, granted: Role | None, caller: Caller) -> bool:
    rights = rights_in(capsule, granted, caller, operator=caller.operator)
    if rights is None:
        return False
    sees = rights.sees(caller.upload or UPLOAD, owner)
    return {
        "know": rights.known,
        "begin": rights.begins,
        "see": sees,
        "move": sees and rights.moves(owner),
        "read": rights.reads(owner),
        "remove": rights.removes(owner),
    }[act]


@given(capsule=capsules, granted=grants, caller=callers)
@example(Capsule(name="here", owner=OTHER), None, Caller(owner=ME, scope=Scope.OPERATOR))
@example(Capsule(name="here", owner=OTHER), Role.OWNER, Caller(owner=ME, scope=Scope.WRITE))
def test_rights_are_what_role_and_credential_both_allow(
    capsule: Capsule, granted: Role | None, caller: Caller
) -> None:
    role = "owner" if caller.operator else standing(capsule, granted, caller.owner)
    for act, owner in product(ACTS, (caller.owner, "user:third")):
        if act in {"know", "begin"} and owner != caller.owner:
            continue  # they are about the capsule, not about anybody's things
        expected = caller.capsule in {None, "here"} and allowed(act, owner, role=role, caller=caller)
        found = asked(act, owner, capsule=capsule, granted=granted, caller=caller)
        assert found == expected, (act, owner, role)


@given(capsule=capsules, granted=grants, caller=callers, scope=st.sampled_from(Scope))
def test_a_narrower_credential_never_opens_more(
    capsule: Capsule, granted: Role | None, caller: Caller, scope: Scope
) -> None:
    wide = Caller(owner=caller.owner, scope=max(caller.scope, scope, key=ORDER.index))
    for act, owner in product(ACTS, (ME, OTHER, "local")):
        if asked(act, owner, capsule=capsule, granted=granted, caller=caller):
            assert asked(act, owner, capsule=capsule, granted=granted, caller=wide)


@given(capsule=capsules, granted=grants, owner=st.sampled_from([ME, "local"]))
def test_an_upload_that_is_not_its_own_is_not_there_for_an_uploads_token(
    capsule: Capsule, granted: Role | None, owner: str
) -> None:
    rights = rights_in(
        capsule, granted, Caller(owner=owner, scope=Scope.WRITE, upload=UPLOAD), operator=False
    )
    assert rights is not None
    assert not rights.sees(SessionId("u2"), owner)
    assert not rights.sees(UPLOAD, OTHER)
