"""The node that runs, as commands see it, or one of a command's own."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from haulier.cli.outcome import REFUSED, UNREACHABLE, load_extra, tell
from haulier.cli.soulseek_options import address, settings
from haulier.core.errors import PeerRefused

if TYPE_CHECKING:
    import httpx2

    from haulier.soulseek.node import Node

SCAN_S = 3_600.0
"""For a scan, which looks at each file, of millions perhaps and over a network."""
LINES_S = 400.0
"""For the next line of an answer that comes as it is found: a search may be silent for five minutes."""


class RunningNode:
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

    def _client(self, wait_s: float) -> "httpx2.AsyncClient":
        import httpx2

        # It is on loopback: a proxy for the world outside would be told the token.
        return httpx2.AsyncClient(base_url=self._url, headers=self._headers, timeout=wait_s, trust_env=False)

    async def get(self, path: str, parameters: dict[str, str] | None = None, *, wait_s: float = 30.0) -> Any:
        """Return what the node answers; raises PeerRefused, and ends the command when it is not reached."""
        return await self._ask("GET", path, params=parameters, wait_s=wait_s)

    async def post(self, path: str, document: object = None, *, wait_s: float = 30.0) -> Any:
        """Return what the node answers, as `get` does."""
        return await self._ask("POST", path, json=document, wait_s=wait_s)

    async def _ask(self, method: str, path: str, *, wait_s: float = 30.0, **options: Any) -> Any:
        import httpx2

        try:
            async with self._client(wait_s) as client:
                answer = await client.request(method, path, **options)
        except httpx2.TransportError as error:
            raise self._not_reached(error) from error
        _refuse(answer.status_code, answer.content)
        return answer.json()

    async def lines(self, path: str, parameters: dict[str, str]) -> AsyncIterator[dict[str, Any]]:
        """Yield what the node answers, a document a line, as `get` does."""
        import httpx2

        try:
            async with (
                self._client(LINES_S) as client,
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


def running(data_dir: Path, control: str | None, token: str | None) -> RunningNode | None:
    """Return the node that runs in the data directory or is named, if there is one."""
    if control is not None:
        host, port = address("control", control)
        return RunningNode(f"http://{host}:{port}", token or _read(data_dir / "control.token") or "")
    from haulier.adapters.node_beside import control_url

    url = control_url(data_dir)
    return None if url is None else RunningNode(url, token or _read(data_dir / "control.token") or "")


def must_run(data_dir: Path, control: str | None, token: str | None) -> RunningNode:
    """Return the node that runs, or end the command."""
    node = running(data_dir, control, token)
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
async def alone(
    user: str | None, password: str | None, server: str | None, listen: str, data_dir: Path, home: Path | None
) -> "AsyncIterator[tuple[Node, Any]]":
    """Log in for one command; gives the node, and `haulier.sharing`."""
    sharing = load_extra("haulier.sharing", command="soulseek", extra="server")
    if user is None and server is None:
        tell(f"no node runs in {data_dir}; name its --data-dir, or log in with --user and --server")
        raise typer.Exit(UNREACHABLE)
    places = sharing.Places(data_dir=data_dir, home=home)
    from haulier.soulseek.server_link import BRIEFLY

    how = settings(user, password, server, listen, reconnect=BRIEFLY)
    with login_told():
        async with sharing.lone_node(how, places, sharing.logger("console")) as node:
            yield node, sharing


@contextmanager
def login_told() -> Iterator[None]:
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
