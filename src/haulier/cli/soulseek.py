"""`haulier soulseek`: share folders with peers and fetch from them, headless."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from haulier.cli.display import print_json
from haulier.cli.fetch_bar import FetchBar
from haulier.cli.options import Home, Json
from haulier.cli.outcome import DONE, load_extra, run, tell
from haulier.cli.soulseek_lines import print_end, print_folder, print_found, print_transfer
from haulier.cli.soulseek_node import SCAN_S, RunningNode, alone, login_told, must_run, running
from haulier.cli.soulseek_options import (
    Advertised,
    Banned,
    Buddies,
    ControlAt,
    ControlToken,
    DataDir,
    FirstCome,
    Id,
    Listen,
    Log,
    Password,
    Rate,
    Server,
    SlotCount,
    User,
    UserRate,
    address,
    announce,
    check_ipv4,
    named_port,
    settings,
)

LOOK_S = 0.5
"""Between two looks at a download that somebody watches."""
LONG_S = 60.0
"""Between two looks at one that nobody watches; the node answers at its end anyway."""

app = typer.Typer(no_args_is_help=True, help="Share folders with Soulseek peers, and fetch from them.")
uploads = typer.Typer(no_args_is_help=True, help="What peers want of the running node.")
downloads = typer.Typer(no_args_is_help=True, help="What the running node fetches.")
app.add_typer(uploads, name="uploads")
app.add_typer(downloads, name="downloads")


@app.command()
def rendezvous(
    host: Annotated[str, typer.Option(envvar="HAULIER_HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="HAULIER_PORT", min=0, max=65535, help="0 takes any free one.")
    ] = 2242,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="HAULIER_DATA_DIR", metavar="DIR", help="Where accounts are kept.  [default: in memory]"
        ),
    ] = None,
    report_port: Annotated[
        list[str] | None,
        typer.Option(
            envvar="HAULIER_REPORT_PORT",
            metavar="NAME=PORT",
            help="Tell others this port of a user, who then looks firewalled.",
        ),
    ] = None,
    log: Log = "console",
) -> None:
    """Run a small server where users of a private network meet."""
    sharing = load_extra("haulier.sharing", command="soulseek rendezvous", extra="server")
    from haulier.soulseek.rendezvous import Rendezvous

    async def work() -> int:
        ports = dict(map(named_port, report_port or ()))
        check_ipv4("host", host)
        server = Rendezvous(data_dir, report_ports=ports, log=sharing.logger(log))
        await sharing.rendezvous(server, host, port, data_dir=data_dir, ready=announce("rendezvous"))
        return DONE

    run(work())


@app.command()
def share(
    folders: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=]DIR...", help="What to share.")
    ] = None,
    user: User = None,
    server: Server = None,
    listen: Listen = "0.0.0.0:2234",
    advertise_port: Advertised = None,
    data_dir: DataDir = Path(".storage"),
    control: ControlAt = None,
    control_token: ControlToken = None,
    slots: SlotCount = 10,
    first_come: FirstCome = False,
    buddy: Buddies = None,
    ban: Banned = None,
    rate: Rate = None,
    user_rate: UserRate = None,
    password: Password = None,
    home: Home = None,
    log: Log = "console",
) -> None:
    """Share folders until SIGTERM or Ctrl-C; the other commands use this node."""
    sharing = load_extra("haulier.sharing", command="soulseek share", extra="server")
    from haulier.cli.soulseek_view import watched
    from haulier.soulseek.shares import Share
    from haulier.soulseek.upload import UploadRules

    async def work() -> int:
        how = settings(
            user,
            password,
            server,
            listen,
            advertise_port=advertise_port,
            shares=[Share.parse(folder) for folder in folders or ()],
            rules=UploadRules(
                slots=slots,
                first_come=first_come,
                buddies=frozenset(buddy or ()),
                banned=frozenset(ban or ()),
                throttles=sharing.lanes(together=rate, each=user_rate),
            ),
        )
        where = address("control", control or "127.0.0.1:0")
        controlled = sharing.ControlSettings(host=where[0], port=where[1], token=control_token)
        places = sharing.Places(data_dir=data_dir, home=home)
        tell_log, ready = sharing.logger(log), announce("share")
        with watched() as watch, login_told():
            await sharing.share(how, controlled, places, tell_log, ready=ready, watch=watch)
        return DONE

    run(work())


@app.command()
def fetch(
    from_: Annotated[str, typer.Argument(metavar="USER", help="Who has the file.")],
    file: Annotated[str, typer.Argument(metavar="VIRTUAL-PATH", help="As search and browse show it.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            envvar="HAULIER_OUTPUT",
            metavar="FILE",
            help="Where to save it.  [default: its own name, here]",
        ),
    ] = None,
    user: User = None,
    server: Server = None,
    listen: Listen = "0.0.0.0:0",
    data_dir: DataDir = Path(".storage"),
    control: ControlAt = None,
    control_token: ControlToken = None,
    password: Password = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Fetch a file from a peer, and wait for it."""

    async def work() -> int:
        from haulier.soulseek.node import default_target

        target = (output or default_target(file, Path.cwd())).absolute()
        node = running(data_dir, control, control_token)
        if node is not None:
            return await _fetch_through(node, from_, file, target, as_json=as_json)
        async with alone(user, password, server, listen, data_dir, home) as (lone, sharing):
            from haulier.soulseek.views import download_document

            download = await sharing.fetch_alone(lone, from_, file, target)

            async def look(wait_s: float) -> dict[str, Any]:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await download.ended.wait()
                return download_document(download)

            document = await sharing.while_logged_in(lone, _watch_fetch(target.name, look))
            return print_end(document, as_json=as_json)

    run(work(), interrupted="interrupted; the same command goes on where it stopped")


@app.command(context_settings={"ignore_unknown_options": True})
def search(
    words: Annotated[
        list[str], typer.Argument(metavar="WORDS", help="What paths must have; -WORD: must not.")
    ],
    wait: Annotated[
        float,
        typer.Option(
            envvar="HAULIER_WAIT", min=0, max=300, metavar="S", help="How long answers are waited for."
        ),
    ] = 10.0,
    of: Annotated[
        str | None, typer.Option("--of", envvar="HAULIER_OF", metavar="USER", help="Ask only this one.")
    ] = None,
    user: User = None,
    server: Server = None,
    listen: Listen = "0.0.0.0:0",
    data_dir: DataDir = Path(".storage"),
    control: ControlAt = None,
    control_token: ControlToken = None,
    password: Password = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Search what others share."""

    async def work() -> int:
        query = " ".join(words)
        node = running(data_dir, control, control_token)
        if node is not None:
            parameters = {"words": query, "wait": str(wait), **({} if of is None else {"user": of})}
            async for document in node.lines("/search", parameters):
                print_found(document, as_json=as_json)
            return DONE
        async with alone(user, password, server, listen, data_dir, home) as (lone, sharing):
            from haulier.soulseek.views import found_documents

            async def print_all() -> None:
                async for found in lone.inquiries.search(query, wait_s=wait, user=of):
                    for document in found_documents(found):
                        print_found(document, as_json=as_json)

            await sharing.while_logged_in(lone, print_all())
        return DONE

    run(work())


@app.command()
def browse(
    of: Annotated[str, typer.Argument(metavar="USER", help="Whose files to list.")],
    user: User = None,
    server: Server = None,
    listen: Listen = "0.0.0.0:0",
    data_dir: DataDir = Path(".storage"),
    control: ControlAt = None,
    control_token: ControlToken = None,
    password: Password = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List all that a peer shares."""

    async def work() -> int:
        node = running(data_dir, control, control_token)
        if node is not None:
            async for document in node.lines("/browse", {"user": of}):
                print_folder(document, as_json=as_json)
            return DONE
        async with alone(user, password, server, listen, data_dir, home) as (lone, sharing):
            from haulier.soulseek.views import folder_document

            async def print_all() -> None:
                async for folder, private in await lone.inquiries.browse(of):
                    print_folder(folder_document(folder, private=private), as_json=as_json)

            await sharing.while_logged_in(lone, print_all())
        return DONE

    run(work())


@app.command()
def rescan(
    data_dir: DataDir = Path(".storage"),
    control: ControlAt = None,
    control_token: ControlToken = None,
    as_json: Json = False,
) -> None:
    """Look at the shared folders again."""

    async def work() -> int:
        found = await must_run(data_dir, control, control_token).post("/rescan", wait_s=SCAN_S)
        print_json(found) if as_json else print(f"{found['files']} files in {found['folders']} folders")
        return DONE

    run(work())


def _list_command(path: str) -> Callable[..., None]:
    def list_(
        data_dir: DataDir = Path(".storage"),
        control: ControlAt = None,
        control_token: ControlToken = None,
        as_json: Json = False,
    ) -> None:
        """List those that live, then those that have ended."""

        async def work() -> int:
            listed = await must_run(data_dir, control, control_token).get(path)
            for document in listed["items"]:
                print_transfer(document, as_json=as_json)
            if listed["left_out"]:
                tell(f"{listed['left_out']} more wait; of each kind a thousand are shown")
            return DONE

        run(work())

    return list_


def _act_command(action: str, help_: str) -> Callable[..., None]:
    def act(
        transfer: Id,
        data_dir: DataDir = Path(".storage"),
        control: ControlAt = None,
        control_token: ControlToken = None,
        as_json: Json = False,
    ) -> None:
        async def work() -> int:
            node = must_run(data_dir, control, control_token)
            print_transfer(await node.post(f"/transfers/{transfer}/{action}"), as_json=as_json)
            return DONE

        run(work())

    act.__doc__ = help_
    return act


uploads.command("list")(_list_command("/uploads"))
uploads.command("cancel")(_act_command("cancel", "End an upload; its peer is told not to ask again."))
uploads.command("bump")(_act_command("bump", "Make an upload the next one of its user."))
downloads.command("list")(_list_command("/downloads"))
downloads.command("pause")(_act_command("pause", "Let a download rest; what is there of it stays."))
downloads.command("resume")(_act_command("resume", "Go on with a download."))
downloads.command("cancel")(_act_command("cancel", "End a download and remove what is there of it."))
downloads.command("retry")(_act_command("retry", "Begin an ended download anew."))


async def _fetch_through(node: RunningNode, user: str, file: str, target: Path, *, as_json: bool) -> int:
    begun = await node.post("/downloads", {"user": user, "file": file, "target": str(target)})

    async def look(wait_s: float) -> dict[str, Any]:
        path, parameters = f"/transfers/{begun['id']}", {"wait": f"{wait_s:g}"}
        document: dict[str, Any] = await node.get(path, parameters, wait_s=wait_s + 30)
        return document

    return print_end(await _watch_fetch(target.name, look), as_json=as_json)


async def _watch_fetch(name: str, look: Callable[[float], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """Wait for the end of a download, and show people how far it is; returns the end.

    Args:
        name: What is shown.
        look: Takes seconds to wait for the end; returns how the download stands.
    """
    with FetchBar(name) as bar:
        document = await look(0.0)
        while document["outcome"] is None:
            bar.show(document)
            document = await look(LOOK_S if bar.shown else LONG_S)
    return document
