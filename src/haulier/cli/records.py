"""`haulier ls`, `get`, `rm` and `link`: what the service holds."""

import asyncio
import shutil
import sys
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import typer

from haulier.cli.display import Bars, print_json, print_record, printable
from haulier.cli.folders import place_below
from haulier.cli.options import DEFAULT_URL, Capsule, Json, Parallel, Token, Url
from haulier.cli.outcome import DONE, FAILED, do_each, run, tell
from haulier.core.capsule import read_time
from haulier.core.errors import InvalidRequest
from haulier.core.link import Disposition
from haulier.core.record import AssetKind, RecordStatus, full_path
from haulier.core.upload import check_filename, require_valid

if TYPE_CHECKING:
    from haulier.client import Client, Record


def ls(
    prefix: Annotated[str, typer.Argument(help="Only records whose path begins so.")] = "",
    mine: Annotated[bool, typer.Option("--mine", envvar="HAULIER_MINE", help="Only your own.")] = False,
    status: Annotated[
        RecordStatus | None, typer.Option(envvar="HAULIER_STATUS", help="Only records of this status.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            envvar="HAULIER_SINCE",
            metavar="T",
            help="Only records made since this ISO 8601 time (UTC if bare).",
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    capsule: Capsule = "default",
    as_json: Json = False,
) -> None:
    """List records, newest first."""
    if since is not None:
        _require_time(since)

    async def work() -> int:
        from haulier.client import Client

        async with Client(url, token=token, capsule=capsule) as client:
            heading = None if as_json else _HEADING
            async for record in client.list(prefix, status=status, since=since, mine=mine):
                if heading is not None:
                    print(heading)
                    heading = None
                print_json(record.document) if as_json else print(_row(record))
        return DONE

    run(work())


def get(
    what: Annotated[
        str, typer.Argument(metavar="RECORD|PREFIX/", help="A record's id, or the folder of its path.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            envvar="HAULIER_OUTPUT",
            metavar="FILE|DIR|-",
            help="Where to put it; - is standard output.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", envvar="HAULIER_FORCE", help="Replace files that exist.")
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    capsule: Capsule = "default",
    parallel: Parallel = 4,
    as_json: Json = False,
) -> None:
    """Fetch a record, or all below a folder, verified; goes on where an earlier fetch stopped."""
    if output == STANDARD_OUTPUT and (as_json or what.endswith("/")):
        raise typer.BadParameter("one record's bytes alone can go there", param_hint="-o -")

    async def work() -> int:
        from haulier.client import Client

        async with Client(url, token=token, capsule=capsule, parallel=parallel) as client:
            fetch = _Fetch(client, force=force, as_json=as_json)
            if what.endswith("/"):
                folder = Path(what.rstrip("/").rsplit("/", 1)[-1] or ".") if output is None else output
                return await fetch.folder(what, folder, parallel)
            return await fetch.one(what, output)

    run(work(), interrupted="interrupted; run the same command again and it goes on where it stopped")


def rm(
    record: Annotated[str, typer.Argument(metavar="RECORD", help="The record's id.")],
    now: Annotated[
        bool, typer.Option("--now", envvar="HAULIER_NOW", help="Free the bytes at once; no way back.")
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Delete a record; until its time in the trash is over it can be restored, unless --now."""

    async def work() -> int:
        from haulier.client import Client

        async with Client(url, token=token) as client:
            await client.delete(record, now=now)
        print_json({"id": record, "deleted": True}) if as_json else print(f"deleted {printable(record)}")
        return DONE

    run(work())


def link(
    record: Annotated[str, typer.Argument(metavar="RECORD", help="The record's id.")],
    expires: Annotated[
        str,
        typer.Option(
            envvar="HAULIER_EXPIRES", metavar="T", help="How long it is good, like 90, 15m, 24h or 7d."
        ),
    ] = "24h",
    kind: Annotated[
        AssetKind, typer.Option(envvar="HAULIER_KIND", help="Which asset it opens.")
    ] = AssetKind.ORIGINAL,
    inline: Annotated[
        bool, typer.Option("--inline", envvar="HAULIER_INLINE", help="A browser shows it, if it is harmless.")
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Print a link that opens a record's bytes for whoever has it, without a token."""
    expires_in_s = _read_expiry(expires)

    async def work() -> int:
        from haulier.client import Client

        async with Client(url, token=token) as client:
            given = await client.link(
                record,
                expires_in_s=expires_in_s,
                kind=kind,
                disposition=Disposition.INLINE if inline else Disposition.ATTACHMENT,
            )
        print_json(given.document) if as_json else print(given.url)
        return DONE

    run(work())


def _read_expiry(text: str) -> float:
    try:
        return read_time("expires", text)
    except InvalidRequest as error:
        raise typer.BadParameter(error.errors[0].reason, param_hint="--expires") from error


STANDARD_OUTPUT: Final = Path("-")

_HEADING = f"{'ID':36}  {'STATUS':10}  {'SIZE':>15}  {'CREATED':20}  NAME"


def _row(record: "Record") -> str:
    size = "-" if record.size is None else record.size
    created = f"{record.created_at:%Y-%m-%dT%H:%M:%SZ}"
    name = printable(record.path or record.filename)
    return f"{printable(record.id):36}  {printable(record.status):10}  {size:>15}  {created:20}  {name}"


def _require_time(text: str) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a time like 2026-11-22 or 2026-11-22T10:00:00Z", param_hint="--since"
        ) from error


def _print_file(path: Path) -> None:
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()


class _Fetch:
    """One `haulier get`."""

    def __init__(self, client: "Client", *, force: bool, as_json: bool) -> None:
        self._client = client
        self._force = force
        self._as_json = as_json

    async def one(self, record_id: str, output: Path | None) -> int:
        """Fetch one record into a file, or into a folder under its own name."""
        record = await self._client.record(record_id)
        if output == STANDARD_OUTPUT:
            return await self._to_standard_output(record)
        target = output
        if target is None or await asyncio.to_thread(target.is_dir):
            # The name is the sender's word; only a plain name may be joined to a folder of ours.
            require_valid(check_filename(record.filename))
            target = (target or Path()) / record.filename
        with Bars(record.size) as bars:
            await self._fetch(record, target, bars)
        return DONE

    async def _to_standard_output(self, record: "Record") -> int:
        """Pass a record's bytes on once all of them are here and verified: what is printed cannot be taken back."""
        with TemporaryDirectory(prefix="haulier-") as folder, Bars(record.size) as bars:
            target = Path(folder, "bytes")
            with bars.file(record.filename) as report:
                await self._client.download(record.id, target, progress=report)
            await asyncio.to_thread(_print_file, target)
        return DONE

    async def folder(self, prefix: str, folder: Path, parallel: int) -> int:
        """Fetch the newest record of each path below `prefix`."""
        newest: dict[str, Record] = {}
        async for record in self._client.list(prefix, status=RecordStatus.COMPLETED):
            if record.path is not None and record.path.startswith(prefix):
                newest.setdefault(full_path(record.path, record.filename), record)
        if not newest:
            tell(f"there is no completed record with a path below {prefix}")
            return FAILED
        with Bars(sum(record.size or 0 for record in newest.values())) as bars:

            async def fetch_one(found: "tuple[str, Record]") -> None:
                path, record = found
                target = place_below(folder, path.removeprefix(prefix))
                await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
                await self._fetch(record, target, bars)

            return await do_each(
                list(newest.items()), fetch_one, named=lambda found: found[0], parallel=parallel
            )

    async def _fetch(self, record: "Record", target: Path, bars: Bars) -> None:
        with bars.file(target.name) as report:
            saved = await self._client.download(record.id, target, overwrite=self._force, progress=report)
        print_record(record, as_json=self._as_json, target=str(saved))
