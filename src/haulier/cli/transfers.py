"""`haulier transfers`: what is queued, and what is wanted of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from haulier.cli.journal import (
    GiveUp,
    HomeDirectory,
    JournalFile,
    RunBandwidth,
    check_rate,
    code_of,
    hindrances_told,
    is_there,
    journal_path,
    log_to_stderr,
    obstacles_told,
    open_manager,
    print_row,
    print_view,
    rate_of,
    tell_no_journal,
    tell_no_runner,
    tell_once,
    wait_there,
)
from haulier.cli.options import Json
from haulier.cli.outcome import DONE, FAILED, UNREACHABLE, exit_code, explain, run, tell, worst_code
from haulier.core.errors import HaulierError, TransferNotFound, TransferTimeout

if TYPE_CHECKING:
    from pathlib import Path

    from haulier.core.dispatch import Dispatch
    from haulier.sender import UploadManager

app = typer.Typer(
    no_args_is_help=True, help="Show transfers to remotes, wait for them, and say what is wanted of them."
)


def _complete(context: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the newest transfers that begin so, in the journal that the command would use."""
    journal, home = context.params.get("journal"), context.params.get("home")
    try:
        if not is_there(journal_path(journal, home)):
            return []
        return [each for each in asyncio.run(_ids(journal, home)) if each.startswith(incomplete)]
    except (HaulierError, OSError):
        return []  # a shell that completes shows no errors


async def _ids(journal: "Path | None", home: "Path | None") -> list[str]:
    log_to_stderr(quiet=True)
    async with open_manager(journal, home, lambda role: role.NEVER) as manager:
        views, _ = await manager.list()
        return [str(view.row.id) for view in views]


Transfer = Annotated[str, typer.Argument(metavar="T", help="The transfer's id.", autocompletion=_complete)]
Transfers = Annotated[
    list[str], typer.Argument(metavar="T", help="The transfers' ids.", autocompletion=_complete)
]


@app.command("list")
def list_transfers(
    journal: JournalFile = None,
    remote: Annotated[str | None, typer.Option(help="Only to this remote.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Only those that have not ended.")] = False,
    as_json: Json = False,
    home: HomeDirectory = None,
) -> None:
    """List transfers, newest first."""

    async def work(manager: "UploadManager") -> int:
        after: int | None = None
        while True:
            views, after = await manager.list(remote=remote, live=True if live else None, after=after)
            for view in views:
                print_view(view, as_json=as_json)
            if after is None:
                return DONE

    _look(journal, home, work, without=DONE)


@app.command()
def show(
    transfer: Transfer, journal: JournalFile = None, as_json: Json = False, home: HomeDirectory = None
) -> None:
    """Show how a transfer stands."""

    async def work(manager: "UploadManager") -> int:
        view = await manager.get(transfer)
        if view is None:
            # Says why: it was removed, or was never there.
            await manager.wait(transfer, timeout_s=0)
            return FAILED
        print_view(view, as_json=as_json)
        return DONE

    _look(journal, home, work)


@app.command()
def wait(
    transfers: Transfers,
    timeout: Annotated[
        float | None,
        typer.Option(envvar="HAULIER_TIMEOUT", min=0, metavar="S", help="Seconds; they go on after that."),
    ] = None,
    journal: JournalFile = None,
    give_up_s: GiveUp = None,
    bandwidth: RunBandwidth = None,
    as_json: Json = False,
    home: HomeDirectory = None,
) -> None:
    """Wait until transfers have ended; sends them itself when nobody else does.

    A transfer that nobody has queued yet is waited for, for 5 seconds at most.
    """
    log_to_stderr(quiet=True)

    async def work() -> int:
        from haulier.engine.send import UNKNOWN_S
        from haulier.engine.tasks import tasks

        place, codes, told, timed_out = journal_path(journal, home), set[int](), set[str](), False
        waited_s = await wait_there(place, UNKNOWN_S if timeout is None else min(timeout, UNKNOWN_S))
        if not is_there(place):
            for each in transfers:
                tell(explain(TransferNotFound(each, waited_s)))
            tell_no_journal(place)
            return FAILED
        left_s = None if timeout is None else max(0.0, timeout - waited_s)
        async with open_manager(
            journal,
            home,
            lambda role: role.WHEN_FREE,
            give_up_s=give_up_s,
            bandwidth=bandwidth,
            unknown_s=max(0.0, UNKNOWN_S - waited_s),
        ) as manager:

            async def wait_one(transfer: str) -> None:
                nonlocal timed_out
                try:
                    await obstacles.look(transfer)
                    row = await manager.wait(transfer, timeout_s=left_s)
                except HaulierError as error:
                    tell_once(explain(error), told)
                    codes.add(exit_code(error))
                    timed_out |= isinstance(error, TransferTimeout)
                    return
                print_row(row, as_json=as_json)
                codes.add(code_of(row))

            async with (
                hindrances_told(manager, place),
                obstacles_told(manager) as obstacles,
                tasks() as group,
            ):
                for each in transfers:
                    group.create_task(wait_one(each))
            if timed_out:
                await manager.stop(grace_s=0.0)  # as a push
        return worst_code(codes)

    run(work())


def _wish(name: str, words: str, wish: "Callable[[UploadManager, str], Awaitable[Dispatch]]") -> None:
    """Add the command that writes down what is wanted of a transfer."""

    def command(
        transfer: Transfer, journal: JournalFile = None, as_json: Json = False, home: HomeDirectory = None
    ) -> None:
        async def work(manager: "UploadManager") -> int:
            row = await wish(manager, transfer)
            print_row(row, as_json=as_json)
            if row.live and await manager.holder() is None:
                return tell_no_runner()
            return DONE

        _look(journal, home, work)

    command.__doc__ = words
    app.command(name)(command)


_wish("pause", "Let a transfer rest until it is resumed.", lambda manager, it: manager.pause(it))
_wish("resume", "Let a transfer go on that is paused or blocked.", lambda manager, it: manager.resume(it))
_wish("cancel", "Give a transfer up.", lambda manager, it: manager.cancel(it))
_wish("bump", "Make a transfer the first of its priority.", lambda manager, it: manager.bump(it))


@app.command()
def retry(
    transfer: Transfer, journal: JournalFile = None, as_json: Json = False, home: HomeDirectory = None
) -> None:
    """Queue a new transfer of the same file to the same place; the old result stays."""

    async def work(manager: "UploadManager") -> int:
        view = await manager.get(await manager.retry(transfer))
        if view is not None:
            print_view(view, as_json=as_json)
        return tell_no_runner() if await manager.holder() is None else DONE

    _look(journal, home, work)


@app.command()
def remove(
    transfer: Transfer, journal: JournalFile = None, as_json: Json = False, home: HomeDirectory = None
) -> None:
    """Give a transfer up if it has not ended, and forget it."""

    async def work(manager: "UploadManager") -> int:
        from haulier.cli.display import print_json, printable

        await manager.remove(transfer)
        left = await manager.get(transfer)
        print_json({"id": transfer, "removed": left is None}) if as_json else print(
            f"removed {printable(transfer)}"
        )
        return tell_no_runner() if left is not None and await manager.holder() is None else DONE

    _look(journal, home, work)


@app.command()
def bandwidth(
    rate: Annotated[str, typer.Argument(metavar="RATE", help="Like 500kB, 10MB or 2MiB; 0 for no bound.")],
    journal: JournalFile = None,
    as_json: Json = False,
    home: HomeDirectory = None,
) -> None:
    """Bound the bytes per second of all transfers together, of whoever runs the journal now."""
    bound = rate_of(check_rate(rate))

    async def work(manager: "UploadManager") -> int:
        from haulier.cli.display import print_json

        if await manager.holder() is None:
            return tell_no_runner()
        await manager.ask_bandwidth(bound)
        print_json({"bandwidth": bound}) if as_json else print(
            "no bound from now on" if bound is None else f"{bound} bytes per second from now on"
        )
        return DONE

    _look(journal, home, work, without=UNREACHABLE)


def _look(
    journal: "Path | None",
    home: "Path | None",
    work: "Callable[[UploadManager], Awaitable[int]]",
    *,
    without: int = FAILED,
) -> None:
    """Run a command that leaves the running to others, and makes no journal; `without` one it ends with that."""
    log_to_stderr(quiet=True)

    async def looking() -> int:
        place = journal_path(journal, home)
        if not is_there(place):
            tell_no_journal(place)
            return without
        async with open_manager(journal, home, lambda role: role.NEVER) as manager:
            return await work(manager)

    run(looking())
