"""`haulier soulseek`: share folders with peers and fetch from them, headless.

One module although it is long: half of it are options, and the commands are one group.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from haulier.cli.display import print_json, printable
from haulier.cli.fetch_bar import FetchBar
from haulier.cli.options import Home, Json
from haulier.cli.outcome import DONE, FAILED, REFUSED, UNREACHABLE, load_extra, run, tell
from haulier.core.errors import ConfigError, PeerRefused

if TYPE_CHECKING:
    from haulier.soulseek.node import Node, NodeSettings

LOOK_S = 0.5
"""Between two looks at a download that somebody watches."""
LONG_S = 60.0
"""Between two looks at one that nobody watches; the node answers at its end anyway."""

app = typer.Typer(no_args_is_help=True, help="Share folders with Soulseek peers, and fetch from them.")
uploads = typer.Typer(no_args_is_help=True, help="What peers want of the running node.")
downloads = typer.Typer(no_args_is_help=True, help="What the running node fetches.")
app.add_typer(uploads, name="uploads")
app.add_typer(downloads, name="downloads")

DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir", envvar="HAULIER_DATA_DIR", metavar="DIR", help="Where the node keeps what it knows."
    ),
]
User = Annotated[
    str | None, typer.Option("--user", envvar="HAULIER_USER", metavar="NAME", help="Whom to log in as.")
]
Server = Annotated[
    str | None,
    typer.Option("--server", envvar="HAULIER_SERVER", metavar="HOST:PORT", help="Where users meet."),
]
Listen = Annotated[
    str, typer.Option("--listen", envvar="HAULIER_LISTEN", metavar="HOST:PORT", help="Where peers reach us.")
]
Password = Annotated[
    str | None,
    typer.Option(
        "--password", envvar="HAULIER_SOULSEEK_PASSWORD", hidden=True, help="Better in the environment."
    ),
]
ControlAt = Annotated[
    str | None,
    typer.Option(
        "--control",
        envvar="HAULIER_CONTROL",
        metavar="HOST:PORT",
        help="Where the running node is controlled.",
    ),
]
ControlToken = Annotated[
    str | None,
    typer.Option("--control-token", envvar="HAULIER_CONTROL_TOKEN", hidden=True, help="For --control."),
]
Log = Annotated[str, typer.Option("--log", envvar="HAULIER_LOG", hidden=True, help="console or json.")]
Id = Annotated[str, typer.Argument(metavar="T", help="The transfer's id, as list shows it.")]


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
        ports = dict(map(_named_port, report_port or ()))
        _check_ipv4("host", host)
        server = Rendezvous(data_dir, report_ports=ports, log=sharing.logger(log))
        await sharing.rendezvous(server, host, port, ready=_announce("rendezvous"))
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
    advertise_port: Annotated[
        int | None,
        typer.Option(envvar="HAULIER_ADVERTISE_PORT", min=1, max=65535, metavar="N", help="Told to others."),
    ] = None,
    data_dir: DataDir = Path(".storage"),
    control: ControlAt = None,
    control_token: ControlToken = None,
    slots: Annotated[
        int, typer.Option(envvar="HAULIER_SLOTS", min=0, metavar="N", help="Uploads at once; 0: any.")
    ] = 10,
    first_come: Annotated[
        bool,
        typer.Option("--first-come", envvar="HAULIER_FIRST_COME", help="No turns of users: who asked first."),
    ] = False,
    buddy: Annotated[
        list[str] | None,
        typer.Option(
            "--buddy", envvar="HAULIER_BUDDY", metavar="NAME", help="Goes before others; may be repeated."
        ),
    ] = None,
    ban: Annotated[
        list[str] | None,
        typer.Option("--ban", envvar="HAULIER_BAN", metavar="NAME", help="Gets nothing; may be repeated."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(envvar="HAULIER_RATE", min=1, metavar="B", help="Bytes per second of all uploads."),
    ] = None,
    user_rate: Annotated[
        float | None,
        typer.Option(envvar="HAULIER_USER_RATE", min=1, metavar="B", help="Bytes per second of one user."),
    ] = None,
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
        settings = _settings(
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
        where = _address("control", control or "127.0.0.1:0")
        controlled = sharing.ControlSettings(host=where[0], port=where[1], token=control_token)
        places = sharing.Places(data_dir=data_dir, home=home)
        tell_log, ready = sharing.logger(log), _announce("share")
        with watched() as watch, _login_told():
            await sharing.share(settings, controlled, places, tell_log, ready=ready, watch=watch)
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
        node = _running(data_dir, control, control_token)
        if node is not None:
            return await _fetch_through(node, from_, file, target, as_json=as_json)
        async with _alone(user, password, server, listen, data_dir, home) as (lone, sharing):
            from haulier.soulseek.control import download_document

            download = await sharing.fetch_alone(lone, from_, file, target)

            async def look(wait_s: float) -> dict[str, Any]:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await download.ended.wait()
                return download_document(download)

            document = await sharing.while_logged_in(lone, _watch_fetch(target.name, look))
            return _print_end(document, as_json=as_json)

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
        node = _running(data_dir, control, control_token)
        if node is not None:
            parameters = {"words": query, "wait": str(wait), **({} if of is None else {"user": of})}
            async for document in node.lines("/search", parameters):
                _print_found(document, as_json=as_json)
            return DONE
        async with _alone(user, password, server, listen, data_dir, home) as (lone, sharing):
            from haulier.soulseek.views import found_documents

            async def print_all() -> None:
                async for found in lone.search(query, wait_s=wait, user=of):
                    for document in found_documents(found):
                        _print_found(document, as_json=as_json)

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
        node = _running(data_dir, control, control_token)
        if node is not None:
            async for document in node.lines("/browse", {"user": of}):
                _print_folder(document, as_json=as_json)
            return DONE
        async with _alone(user, password, server, listen, data_dir, home) as (lone, sharing):
            from haulier.soulseek.views import folder_document

            async def print_all() -> None:
                async for folder, private in await lone.browse(of):
                    _print_folder(folder_document(folder, private=private), as_json=as_json)

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
        found = await _must_run(data_dir, control, control_token).post("/rescan")
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
            listed = await _must_run(data_dir, control, control_token).get(path)
            for document in listed["items"]:
                _print_transfer(document, as_json=as_json)
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
            node = _must_run(data_dir, control, control_token)
            _print_transfer(await node.post(f"/transfers/{transfer}/{action}"), as_json=as_json)
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


# --- a node that runs, or one of our own -------------------------------------------------------------


class _RunningNode:
    """The control API of a node."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}

    def _not_reached(self, error: Exception) -> typer.Exit:
        """Tell that the node does not answer; returns what ends the command."""
        reason = str(error) or type(error).__name__
        tell(
            f"the node at {self._url} cannot be reached: {reason}; does haulier soulseek share run there, and is --control right?"
        )
        return typer.Exit(UNREACHABLE)

    async def get(self, path: str, parameters: dict[str, str] | None = None, *, wait_s: float = 30.0) -> Any:
        return await self._ask("GET", path, params=parameters, wait_s=wait_s)

    async def post(self, path: str, document: object = None) -> Any:
        return await self._ask("POST", path, json=document)

    async def _ask(self, method: str, path: str, *, wait_s: float = 30.0, **options: Any) -> Any:
        import httpx2

        try:
            async with httpx2.AsyncClient(
                base_url=self._url, headers=self._headers, timeout=wait_s
            ) as client:
                answer = await client.request(method, path, **options)
        except httpx2.TransportError as error:
            raise self._not_reached(error) from error
        _refuse(answer.status_code, answer.content)
        return answer.json()

    async def lines(self, path: str, parameters: dict[str, str]) -> AsyncIterator[dict[str, Any]]:
        import httpx2

        try:
            async with (
                httpx2.AsyncClient(base_url=self._url, headers=self._headers, timeout=400) as client,
                client.stream("GET", path, params=parameters) as answer,
            ):
                if answer.status_code != 200:
                    _refuse(answer.status_code, await answer.aread())
                async for line in answer.aiter_lines():
                    document = json.loads(line)
                    if "error" in document:
                        raise PeerRefused(502, "peer-failed", document["error"])
                    yield document
        except httpx2.TransportError as error:
            raise self._not_reached(error) from error


def _refuse(status: int, content: bytes) -> None:
    if status < 400:
        return
    try:
        problem = json.loads(content)
    except ValueError:
        problem = {}
    raise PeerRefused(
        status, problem.get("title", "internal-error"), problem.get("detail", "the node failed")
    )


def _running(data_dir: Path, control: str | None, token: str | None) -> _RunningNode | None:
    """Return the node that runs in the data directory or is named, if there is one."""
    if control is not None:
        host, port = _address("control", control)
        return _RunningNode(f"http://{host}:{port}", token or _read(data_dir / "control.token") or "")
    from haulier.adapters.node_beside import control_url

    url = control_url(data_dir)
    return None if url is None else _RunningNode(url, token or _read(data_dir / "control.token") or "")


def _must_run(data_dir: Path, control: str | None, token: str | None) -> _RunningNode:
    node = _running(data_dir, control, token)
    if node is None:
        tell(f"no node runs in {data_dir}; start one with haulier soulseek share, or name its --data-dir")
        raise typer.Exit(UNREACHABLE)
    return node


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


@asynccontextmanager
async def _alone(
    user: str | None, password: str | None, server: str | None, listen: str, data_dir: Path, home: Path | None
) -> "AsyncIterator[tuple[Node, Any]]":
    sharing = load_extra("haulier.sharing", command="soulseek", extra="server")
    if user is None and server is None:
        tell(f"no node runs in {data_dir}; name its --data-dir, or log in with --user and --server")
        raise typer.Exit(UNREACHABLE)
    places = sharing.Places(data_dir=data_dir, home=home)
    from haulier.soulseek.server_link import BRIEFLY

    settings = _settings(user, password, server, listen, reconnect=BRIEFLY)
    with _login_told():
        async with sharing.lone_node(settings, places, sharing.logger("console")) as node:
            yield node, sharing


@contextmanager
def _login_told() -> Iterator[None]:
    """Tell why the server does not have us, and end with the number of it."""
    from haulier.soulseek.server_link import LoginRefused, ServerUnreachable

    try:
        yield
    except ServerUnreachable as error:
        tell(f"{error}; is the server running there, and is --server right?")
        raise typer.Exit(UNREACHABLE) from error
    except LoginRefused as error:
        tell(f"{error}; check --user and HAULIER_SOULSEEK_PASSWORD")
        raise typer.Exit(REFUSED) from error


def _settings(
    user: str | None, password: str | None, server: str | None, listen: str, **more: Any
) -> "NodeSettings":
    from haulier.core.secret import Secret
    from haulier.soulseek.node import NodeSettings
    from haulier.soulseek.server_link import Identity

    if user is None:
        raise ConfigError("user", "", "say whom to log in as, with --user NAME")
    if server is None:
        raise ConfigError("server", "", "say where users meet, with --server HOST:PORT")
    if not password:
        raise ConfigError("soulseek_password", "", "give it in the environment: HAULIER_SOULSEEK_PASSWORD")
    where, here = _address("server", server), _address("listen", listen)
    _check_ipv4("listen", here[0])
    identity = Identity(user=user, password=Secret(password), host=where[0], port=where[1])
    return NodeSettings(identity=identity, host=here[0], port=here[1], **more)


def _address(setting: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not int(port) < 65536:
        raise ConfigError(setting, text, "expected HOST:PORT")
    return host.strip("[]"), int(port)


def _check_ipv4(setting: str, host: str) -> None:
    """Raise ConfigError for an address that the protocol has no room for."""
    if ":" in host:
        raise ConfigError(
            setting, host, "peers tell each other IPv4 addresses; listen on one, like 127.0.0.1"
        )


def _named_port(text: str) -> tuple[str, int]:
    name, equals, port = text.rpartition("=")
    if not equals or not name or not port.isdecimal() or not int(port) < 65536:
        raise ConfigError("report_port", text, "expected NAME=PORT")
    return name, int(port)


def _announce(command: str) -> Callable[[str], None]:
    def announce(address: str) -> None:
        print(f"haulier soulseek {command} ready on {address}", flush=True)

    return announce


# --- what is shown -----------------------------------------------------------------------------------


async def _fetch_through(node: _RunningNode, user: str, file: str, target: Path, *, as_json: bool) -> int:
    begun = await node.post("/downloads", {"user": user, "file": file, "target": str(target)})

    async def look(wait_s: float) -> dict[str, Any]:
        path, parameters = f"/transfers/{begun['id']}", {"wait": f"{wait_s:g}"}
        document: dict[str, Any] = await node.get(path, parameters, wait_s=wait_s + 30)
        return document

    return _print_end(await _watch_fetch(target.name, look), as_json=as_json)


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


def _print_end(document: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        print_json(document)
    elif document["outcome"] == "succeeded":
        print(printable(document["file"]))
    if document["outcome"] == "succeeded":
        return DONE
    tell(f"{document['target']}: {document['label']}: {document['error'] or 'no reason was given'}")
    return REFUSED if document["outcome"] == "rejected" else FAILED


def _print_transfer(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    place = "" if document["place"] is None else f"  place {document['place']}"
    print(
        f"{document['id']}  {document['label']}  {document['percent']:.0f} %{place}  "
        f"{printable(document['remote'])}  {printable(document['target'])}"
    )


def _print_found(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        print(f"{printable(document['user'])}  {document['size']}  {printable(document['file'])}", flush=True)


def _print_folder(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    for line in _lines_of(document):
        print(printable(line))


def _lines_of(document: dict[str, Any]) -> Iterator[str]:
    for file in document["files"]:
        yield f"{file['size']}  {document['folder']}\\{file['file']}"
