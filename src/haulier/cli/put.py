"""`haulier put`: files, folders and standard input to a service."""

import asyncio
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from haulier.cli.display import Bars, Report, print_record
from haulier.cli.folders import Item, Selection, collect
from haulier.cli.options import DEFAULT_URL, Capsule, Home, Json, Parallel, Token, Url
from haulier.cli.outcome import do_each, run, tell, tell_failed, worst_code
from haulier.cli.standard_input import read_descriptor
from haulier.core.digest import DigestName
from haulier.core.errors import InvalidRequest, LanesFailed
from haulier.core.values import dataclass

if TYPE_CHECKING:
    from haulier.client import Client, Record


class Derivatives(StrEnum):
    """Who makes smaller pictures of a picture."""

    SERVER = "server"
    LOCAL = "local"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Upload:
    """What is the same for every file."""

    digest: DigestName
    derivatives: Derivatives


STDIN = Path("-")
STDIN_HINT = "interrupted; nothing was kept, standard input cannot be read again"


def put(
    # Not judged here: one that may not be read keeps no other from being sent.
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", readable=False, help="What to send; - is standard input.")
    ],
    recursive: Annotated[
        bool,
        typer.Option(
            "-r",
            "--recursive",
            envvar="HAULIER_RECURSIVE",
            help="Send folders, and keep their relative paths.",
        ),
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    capsule: Capsule = "default",
    parallel: Parallel = 4,
    digest: Annotated[
        DigestName,
        typer.Option(envvar="HAULIER_DIGEST", help="What both sides compute and compare."),
    ] = DigestName.SHA_256,
    derivatives: Annotated[
        Derivatives, typer.Option(envvar="HAULIER_DERIVATIVES", help="Who makes small pictures of pictures.")
    ] = Derivatives.SERVER,
    name: Annotated[
        str, typer.Option(envvar="HAULIER_NAME", metavar="NAME", help="What standard input is called.")
    ] = "stdin",
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Send files, verified end to end.

    Prints 'id  size  name' for each. A file whose sending was interrupted, even by kill -9, goes on where it
    stopped when the same command is run again.
    """
    if STDIN in files and len(files) > 1:
        raise typer.BadParameter("- stands alone: standard input is one stream", param_hint="FILE")
    if files == [STDIN] and sys.stdin is None:
        raise typer.BadParameter("- is standard input, and that is closed", param_hint="FILE")
    found = Selection([]) if files == [STDIN] else _collect(files, recursive=recursive)
    items = found.items

    upload = Upload(digest, derivatives)

    async def work() -> int:
        from haulier.client import Client

        async with Client(url, token=token, capsule=capsule, parallel=parallel, home=home) as client:
            if files == [STDIN]:
                return await _put_stdin(client, name, upload, as_json=as_json)
            codes = {tell_failed(str(it.source), it.error) for it in found.left_out}
            codes.add(await _put_all(client, items, upload, as_json=as_json, parallel=parallel))
            _tell_empty(found.empty)
            return worst_code(codes)

    run(work(), interrupted=_hint(items) if items else STDIN_HINT)


def _tell_empty(count: int) -> None:
    if count:
        folders = "1 empty folder was" if count == 1 else f"{count} empty folders were"
        tell(f"{folders} not sent: a service keeps files, and folders only as parts of their paths")


def _collect(files: list[Path], *, recursive: bool) -> Selection:
    try:
        return collect(files, recursive=recursive)
    except InvalidRequest as error:
        raise typer.BadParameter(error.errors[0].reason, param_hint="FILE") from error


def _hint(items: list[Item]) -> str:
    hint = "interrupted; run the same command again and it goes on where it stopped"
    return hint if len(items) == 1 else f"{hint}; leave out the files printed above, they are done"


async def _put_stdin(client: "Client", name: str, upload: Upload, *, as_json: bool) -> int:
    with Bars(None) as bars, bars.file(name) as report:
        record = await client.upload(
            read_descriptor(sys.stdin.fileno()),
            filename=name,
            digest=upload.digest,
            derivatives=upload.derivatives.value,
            progress=report,
        )
    print_record(record, as_json=as_json)
    return 0


async def _put_all(
    client: "Client", items: list[Item], upload: Upload, *, as_json: bool, parallel: int
) -> int:
    with Bars(await asyncio.to_thread(_total, items)) as bars:

        async def put_one(item: Item) -> None:
            with bars.file(item.path or item.source.name) as report:
                record = await _put(client, item, upload, report, as_json=as_json)
            print_record(record, as_json=as_json)

        return await do_each(items, put_one, named=lambda item: str(item.source), parallel=parallel)


async def _put(client: "Client", item: Item, upload: Upload, report: Report, *, as_json: bool) -> "Record":
    try:
        return await client.upload(
            item.source,
            path=item.path,
            digest=upload.digest,
            derivatives=upload.derivatives.value,
            progress=report,
        )
    except LanesFailed as error:
        if error.record is not None:
            print_record(cast("Record", error.record), as_json=as_json)
        raise


def _total(items: list[Item]) -> int:
    total = 0
    for item in items:
        # Only for the bar; a file that cannot be read is told when its turn comes.
        with suppress(OSError):
            total += item.source.stat().st_size
    return total
