"""The command line put together.

Rule 1: a command's module is imported when the command is called; it imports Typer and the core only, and what the command
        works with when that runs. So `haulier --help` is quick, and needs no extra.
"""

import gc
import os
import sys
from typing import Annotated, ClassVar

import typer

from haulier import __version__
from haulier.cli.later import LaterGroup, Table
from haulier.machine import NEW_OBJECTS


class Commands(LaterGroup):
    """All that `haulier` can do."""

    table: ClassVar[Table] = {
        "serve": ("serve:serve", "Run the service until SIGTERM or Ctrl-C."),
        "put": ("put:put", "Send files, verified end to end."),
        "ls": ("records:ls", "List records, newest first."),
        "get": (
            "records:get",
            "Fetch a record, or all below a folder, verified; goes on where an earlier fetch stopped.",
        ),
        "rm": (
            "records:rm",
            "Delete a record; until its time in the trash is over it can be restored, unless --now.",
        ),
        "link": (
            "records:link",
            "Print a link that opens a record's bytes for whoever has it, without a token.",
        ),
        "push": ("push:push", "Queue files for a remote, and wait until they are there."),
        "watch": (
            "agent:watch",
            (
                "Queue files of a folder, and of those below it, that have been quiet for 5 seconds; until SIGTERM or "
                "Ctrl-C."
            ),
        ),
        "agent": ("agent:agent", "Run the transfer queue until SIGTERM or Ctrl-C."),
        "doctor": (
            "doctor:doctor",
            "Run the checks of 'haulier serve' without starting it; ends with 1 when something is wrong.",
        ),
        "transfers": (
            "transfers:app",
            "Show transfers to remotes, wait for them, and say what is wanted of them.",
        ),
        "remote": ("remote:app", "Set up the places that files are sent to."),
        "token": ("token:app", "Make, list and revoke the tokens that callers show."),
        "capsule": ("capsule:app", "Make capsules, share them, and set what they take."),
        "soulseek": ("soulseek:app", "Share folders with Soulseek peers, and fetch from them."),
    }


app = typer.Typer(
    name="haulier",
    cls=Commands,
    help="Moves files and never loses one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"haulier {__version__}")
        raise typer.Exit


@app.callback()
def _haulier(
    version: Annotated[  # noqa: ARG001 - its callback has answered it
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Move files and never lose one."""
    if not gc.isenabled():  # `haulier.__main__` has begun this process, and most that is needed is loaded now
        gc.freeze()
        gc.set_threshold(NEW_OBJECTS)
        gc.enable()


def main() -> None:
    """Run the command line and end the process with its exit code."""
    _replace_closed_streams()
    # Names of files are bytes: those that are not UTF-8 can be named in a message all the same.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except OSError as error:  # output that nobody takes, where no command runs: help, a version
        from haulier.cli.outcome import FAILED, explain, tell

        tell(explain(error))
        sys.exit(FAILED)


def _replace_closed_streams() -> None:
    """Let standard streams that whoever started us has closed lead nowhere.

    A file that is opened next would get such a number, and with it what other code writes there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest that is free, so this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # Standard input stays None: whoever is to read it says that it is closed.
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
