"""`haulier token`: who may call the service, and with what."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from haulier.cli.administration import DataDir, administer, as_principal, moment
from haulier.cli.display import print_json, printable
from haulier.cli.options import Json
from haulier.cli.outcome import tell
from haulier.core.caller import Scope
from haulier.core.token import Token

if TYPE_CHECKING:
    from haulier.engine.accounts import Accounts

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the tokens that callers show.")


@app.command()
def create(
    principal: Annotated[
        str,
        typer.Option(
            envvar="HAULIER_PRINCIPAL",
            metavar="P",
            callback=as_principal,
            help="Whose token it is: NAME or user:NAME.",
        ),
    ],
    capsule: Annotated[
        str | None,
        typer.Option(
            envvar="HAULIER_CAPSULE", metavar="C", help="Only for this capsule.  [default: every one]"
        ),
    ] = None,
    scope: Annotated[
        Scope,
        typer.Option(
            envvar="HAULIER_SCOPE", help="The most that it lets its bearer do; each includes those before."
        ),
    ] = Scope.WRITE,
    expires_in: Annotated[
        float | None,
        typer.Option(
            envvar="HAULIER_EXPIRES_IN", metavar="S", help="Seconds it counts.  [default: until revoked]"
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a token. Its secret is printed once, on standard output, and never again.

    The first token ends open mode: from its next start on the service asks everybody who calls.
    """

    async def work(accounts: "Accounts") -> None:
        made = await accounts.create_token(principal, scope=scope, capsule=capsule, expires_in_s=expires_in)
        secret = made.secret.reveal()
        if as_json:
            print_json({**_document(made.token), "token": secret, "ends_open_mode": made.first})
            return
        print(secret, flush=True)
        tell(f"token {made.token.id} for {_words(made.token)}; its secret is shown only now, keep it safe")
        if made.first:
            tell(
                "this is the first token: it ends open mode when the service is started the next time, "
                "and from then on every caller needs one"
            )

    administer("token", data_dir, work)


@app.command("list")
def list_tokens(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List all tokens, oldest first, with those that count no more; never their secrets."""

    async def work(accounts: "Accounts") -> None:
        tokens = await accounts.list_tokens()
        if tokens and not as_json:
            print(_HEADING)
        for token in tokens:
            print_json(_document(token)) if as_json else print(_row(token))

    administer("token", data_dir, work)


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The token's id, as 'list' shows it.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Let a token count no more, at once; a running service needs no restart.

    Uploads that were begun with it go on, as long as its principal may write to their capsule.
    """

    async def work(accounts: "Accounts") -> None:
        token = await accounts.revoke_token(token_id)
        print_json(_document(token)) if as_json else print(f"revoked {token.id} ({_words(token)})")

    administer("token", data_dir, work)


@app.command()
def forget(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a token that counts no more.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Remove a token that was revoked or has expired from the list.

    A service that has no token at all, not even one that counts no more, is in open mode again from its next
    start on.
    """

    async def work(accounts: "Accounts") -> None:
        opens = await accounts.forget_token(token_id)
        if as_json:
            print_json({"id": token_id, "forgotten": True, "opens": opens})
            return
        print(f"forgot {printable(token_id)}")
        if opens:
            tell("this was the last token: the service is in open mode when it is started the next time")

    administer("token", data_dir, work)


_HEADING = (
    f"{'ID':36}  {'PRINCIPAL':20}  {'SCOPE':8}  {'CAPSULE':16}  {'CREATED':20}  {'EXPIRES':20}  LAST USED"
)


def _row(token: Token) -> str:
    created, used = moment(token.created_at, otherwise="-"), moment(token.last_used_at, otherwise="never")
    expires = moment(token.expires_at, otherwise="never")
    capsule = token.capsule or "every one"
    return f"{token.id:36}  {token.principal:20}  {token.scope:8}  {capsule:16}  {created:20}  {expires:20}  {used}"


def _words(token: Token) -> str:
    where = f"capsule {token.capsule}" if token.capsule else "every capsule"
    until = (
        "until it is revoked"
        if token.expires_at is None
        else f"until {moment(token.expires_at, otherwise='')}"
    )
    return f"{token.principal}, scope {token.scope}, {where}, {until}"


def _document(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "principal": token.principal,
        "scope": token.scope,
        "capsule": token.capsule,
        "created_at": _json_time(token.created_at),
        "expires_at": _json_time(token.expires_at),
        "last_used_at": _json_time(token.last_used_at),
    }


def _json_time(seconds: float | None) -> str | None:
    return moment(seconds, otherwise="") or None
