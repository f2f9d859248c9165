"""`haulier capsule`: separate named spaces, who may use them, and what they take."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from haulier.cli.administration import DataDir, Principal, administer, as_principal
from haulier.cli.display import print_json, printable
from haulier.cli.options import Json
from haulier.core.caller import Role
from haulier.core.capsule import Capsule, read_changes

if TYPE_CHECKING:
    from haulier.engine.accounts import Accounts

app = typer.Typer(no_args_is_help=True, help="Make capsules, share them, and set what they take.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The capsule.")]


@app.command()
def create(
    name: Name,
    owner: Annotated[
        str,
        typer.Option(
            envvar="HAULIER_OWNER", metavar="P", callback=as_principal, help="Who owns it: NAME or user:NAME."
        ),
    ],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a capsule. Nobody but its owner, and operators, knows of it until it is granted."""

    async def work(accounts: "Accounts") -> None:
        _show(await accounts.create_capsule(name, owner=owner), {}, as_json=as_json)

    administer("capsule", data_dir, work)


@app.command()
def grant(
    name: Name,
    principal: Principal,
    role: Annotated[Role, typer.Argument(help="reader < writer < owner; replaces the role it had.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Give a principal a role in a capsule; counts from the next request on."""

    async def work(accounts: "Accounts") -> None:
        await accounts.grant(name, principal, role)
        if as_json:
            print_json({"capsule": name, "principal": principal, "role": role})
        else:
            print(f"{principal} is {role} of capsule {name}")

    administer("capsule", data_dir, work)


@app.command()
def ungrant(name: Name, principal: Principal, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Take a principal's role in a capsule away; what it has under way there cannot be completed any more."""

    async def work(accounts: "Accounts") -> None:
        had = await accounts.ungrant(name, principal)
        if as_json:
            print_json({"capsule": name, "principal": principal, "role": None})
        else:
            print(f"{principal} {'has no role any more' if had else 'had no role'} in capsule {name}")

    administer("capsule", data_dir, work)


@app.command("set")
def set_keys(
    name: Name,
    changes: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="As 'quota=50GiB'; 'quota=' takes it back.")
    ],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Set what a capsule takes.

    Keys: quota, owner; min_size, max_size (500000, 10MB, 5GiB); types (image/*,application/pdf); ttl, min_ttl,
    max_ttl (90, 15m, 24h, 7d); digests, digest (sha-256,blake3); admits_users, admits_visitors (true, false);
    forward (REMOTE:PATH: each completed record is sent on).
    """

    async def work(accounts: "Accounts") -> None:
        changed = await accounts.set_capsule(name, read_changes(changes))
        found = await accounts.list_capsules()
        _show(changed, next(grants for capsule, grants in found if capsule.name == name), as_json=as_json)

    administer("capsule", data_dir, work)


@app.command("list")
def list_capsules(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List all capsules with what they hold, their grants and what is set on them."""

    async def work(accounts: "Accounts") -> None:
        for capsule, grants in await accounts.list_capsules():
            _show(capsule, grants, as_json=as_json)

    administer("capsule", data_dir, work)


def _show(capsule: Capsule, grants: Mapping[str, Role], *, as_json: bool) -> None:
    if as_json:
        print_json(_document(capsule, grants))
        return
    quota = "no quota" if capsule.quota is None else f"quota {capsule.quota}"
    held = f"{capsule.used} bytes used, {capsule.reserved} reserved, {quota}"
    print(f"{capsule.name}  owner {capsule.owner}  {held}")
    for principal, role in grants.items():
        print(f"  {role} {principal}")
    for key, value in capsule.policy.document().items():
        print(f"  {key}={printable(_written(value))}")


def _written(value: object) -> str:
    """Return a setting as it is written on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _document(capsule: Capsule, grants: Mapping[str, Role]) -> dict[str, Any]:
    return {
        "name": capsule.name,
        "owner": capsule.owner,
        "quota": capsule.quota,
        "used": capsule.used,
        "reserved": capsule.reserved,
        "policy": capsule.policy.document(),
        "grants": dict(grants),
    }
