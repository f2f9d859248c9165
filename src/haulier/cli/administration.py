"""How operators' commands run: on the database, with or without a running service."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from haulier.cli.outcome import DONE, USAGE, load_extra, run, tell
from haulier.core.caller import read_principal
from haulier.core.errors import InvalidRequest

if TYPE_CHECKING:
    from haulier.engine.accounts import Accounts

DataDir = Annotated[
    Path | None, typer.Option(help="The service's data directory.  [default: .storage]", show_default=False)
]


def administer(
    command: str, data_dir: Path | None, work: Callable[["Accounts"], Awaitable[None]]
) -> NoReturn:
    """Run `work` on the accounts and end the command."""
    administration = load_extra("haulier.administration", command=command, extra="server")
    from haulier.config import load_settings

    async def administered() -> int:
        try:
            async with administration.open_accounts(load_settings({"data_dir": data_dir})) as accounts:
                await work(accounts)
        except InvalidRequest as error:
            tell(str(error))
            return USAGE
        return DONE

    run(administered())


def as_principal(name: str) -> str:
    """Read a principal from the command line."""
    try:
        return read_principal(name)
    except InvalidRequest as error:
        raise typer.BadParameter(error.errors[0].reason) from error


Principal = Annotated[
    str,
    typer.Argument(metavar="PRINCIPAL", callback=as_principal, help="A user's name, as NAME or user:NAME."),
]


def moment(seconds: float | None, *, otherwise: str) -> str:
    """Return a time as ISO 8601 in UTC; one that no calendar has is told as none."""
    try:
        return otherwise if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError):  # of a token that an earlier version made without a bound
        return otherwise
