"""The command line put together.

Rule 1: this module and those of the commands import Typer and the core only; a command imports what it works
        with when it runs, so that `haulier --help` is quick and needs no extra.
"""

import sys
from typing import Annotated

import typer

from haulier import __version__
from haulier.cli import (
    agent,
    capsule,
    doctor,
    push,
    put,
    records,
    remote,
    serve,
    soulseek,
    token,
    transfers,
)

app = typer.Typer(
    name="haulier",
    help="Moves files and never loses one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("put")(put.put)
app.command("ls")(records.ls)
app.command("get")(records.get)
app.command("rm")(records.rm)
app.command("link")(records.link)
app.command("push")(push.push)
app.command("watch")(agent.watch)
app.command("agent")(agent.agent)
app.command("doctor")(doctor.doctor)
app.add_typer(transfers.app, name="transfers")
app.add_typer(remote.app, name="remote")
app.add_typer(token.app, name="token")
app.add_typer(capsule.app, name="capsule")
app.add_typer(soulseek.app, name="soulseek")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"haulier {__version__}")
        raise typer.Exit


@app.callback()
def _haulier(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Move files and never lose one."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    # Names of files are bytes: those that are not UTF-8 can be named in a message all the same.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    app()
