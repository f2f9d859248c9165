"""`haulier serve`: flags into settings, settings into a running service."""

from pathlib import Path
from typing import Annotated

import typer

from haulier.cli.outcome import exit_code, explain, load_extra, tell
from haulier.core.errors import HaulierError


def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes any free one.  [default: 8000]")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where everything is kept.  [default: .storage]")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="How many processes.  [default: 1]")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with settings.")] = None,
    no_transfers: Annotated[
        bool, typer.Option("--no-transfers", help="Leave the queue of transfers to others.")
    ] = False,
    bandwidth: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help="Bytes per second of all transfers to remotes, like 10MB or 2MiB.  [default: no bound]",
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="A web origin that may use the service.")
    ] = None,
    local_users: Annotated[
        bool, typer.Option("--local-users", help="Let this machine's other users in.")
    ] = False,
    open_: Annotated[
        bool, typer.Option("--open", help="Listen beyond this machine without asking who calls.")
    ] = False,
) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    Every option can also be set in the environment (HAULIER_PORT=9000) and, without the prefix, in the
    TOML file; a flag wins over the environment, the environment over the file.
    """
    flags = {
        "host": host,
        "port": port,
        "data_dir": data_dir,
        "workers": workers,
        "bandwidth": bandwidth,
        "cors_origin": tuple(cors_origin) if cors_origin else None,
        # A flag that is absent says nothing; only one that is there overrules the environment.
        "local_users": local_users or None,
        "open": open_ or None,
        "no_transfers": no_transfers or None,
    }
    bootstrap = load_extra("haulier.bootstrap", command="serve", extra="server")
    from haulier.config import load_settings

    try:
        code = bootstrap.run_service(load_settings(flags, config=config))
    except HaulierError as error:
        tell(explain(error))
        raise typer.Exit(exit_code(error)) from error
    raise typer.Exit(code)
