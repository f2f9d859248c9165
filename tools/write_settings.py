"""Writes the table of docs/reference/settings.md from the settings that the service reads.

Rule 1: name, flag, default and what is expected come from the code; what a setting does is told here, and a
        setting without words here is an error.
"""

import inspect
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from haulier.cli.serve import serve
from haulier.config import PREFIX, Settings
from tools.generated import ROOT, GeneratedPart

PAGE = ROOT / "docs" / "reference" / "settings.md"
SCRIPT = "tools/write_settings.py"

MEANING = {
    "host": "Where to listen. Anything but a loopback address is refused without `open`.",
    "port": "The TCP port. `0` takes any free one; the first line of output names it.",
    "data_dir": "Where files, rows and the secret are kept; see [data directory](data-directory.md).",
    "workers": "How many processes serve; see [run several workers](../howto/run-several-workers.md).",
    "cors_origin": "Web origins whose pages may call the service; see "
    "[use from a web page](../howto/use-from-a-web-page.md).",
    "local_users": "Whether other users of this machine may call. Only Linux can tell users apart.",
    "open": "Listen beyond this machine without asking who calls; see [open mode](../explanation/open-mode.md).",
    "require_tokens": "Serve nobody without a token, even while there are none. Tokens in the database, `public_url` and "
    "`trusted_proxies` say the same.",
    "allowed_host": "More names that callers may use in `Host` where tokens are required; one without a port is good with "
    "every port.",
    "no_transfers": "Leave the journal of transfers to other processes; the service shows it all the same.",
    "interim_responses": "Whether uploads that can be resumed are told so while they run, by status 104. Turn it off behind "
    "nginx, which takes that for the answer or waits for ever.",
    "database_url": "Another place for the rows: an SQLite file (three slashes begin a relative path, four an absolute "
    "one; `%3F`, `%23` and `%25` are `?`, `#` and `%`), or [a PostgreSQL database](../howto/run-on-postgresql.md). "
    "Unset: `haulier.db` in the data directory.",
    "storage_url": "Another place for the bytes. Unset: the data directory.",
    "public_url": "The address that callers use, maybe with a path; links are built from it. Requires tokens.",
    "trusted_proxies": "Whose `X-Forwarded-*` and `Forwarded` are believed; see "
    "[open the service to others](../howto/open-the-service-to-others.md). Requires tokens.",
    "webhooks": "Who is told what happens to records; see [receive webhooks](../howto/receive-webhooks.md). In the "
    "environment as JSON, in TOML as `[[webhooks]]`.",
    "hooks": "Who is asked whether an upload may begin, or become a record; see "
    "[add your own rules](../howto/add-rules-with-hooks.md#over-http). In the environment as JSON, in TOML as `[[hooks]]`.",
    "image_processes": "How many processes make smaller pictures, shared out among the workers, of which each has at least "
    "one; see [opening files](../explanation/opening-files.md). They need the extra `images`, and up to 2 GiB each.",
    "jobs": "Where background work runs; there is one answer.",
    "durability": "What an accepted chunk survives; see [durability](../explanation/durability.md).",
    "digest": "The whole-file digest of uploads that name none; see [digests](../explanation/digests.md).",
    "log": "How log lines look on standard error.",
    "home": "Where remotes and the journal of transfers are, and where the commands that send files keep what lets them go on.",
    "journal": "The journal of transfers to remotes; `journal.db` under `home` where nothing is said. The service runs it, "
    "unless another process does or `no_transfers` is set; see [queueing](../explanation/queueing-and-waiting.md).",
    "transfer_give_up_s": "How long a transfer may go without progress, tried again or blocked, before it ends as timed out.",
    "bandwidth": "What all transfers to remotes that the service runs may send in a second, together. `10M` is refused: some "
    "mean bytes by it, some bits.",
    "session_ttl_s": "How long an upload lives after its last activity.",
    "visitor_ttl_s": "How long a browser is known after it was last seen.",
    "max_active_sessions": "How many uploads of one owner may be open or finishing at once. Unset: 100, and "
    "10000 in open mode.",
    "max_active_sessions_per_address": "The same for one address, whoever its uploads belong to, in all processes together. "
    "Where tokens are required, or with `open`; see [open the service to others](../howto/open-the-service-to-others.md#limits).",
    "rate_per_owner": "How often one owner may ask, with two seconds' worth at once. Where tokens are required, or with "
    "`open`.",
    "rate_per_address": "The same for one address (an IPv6 client counts by its /64).",
    "rate_of_failures": "How many wrong tokens may come from one address, with a minute's worth at once.",
    "max_bodies_per_owner": "How many requests with a body one owner may have under way. Where tokens are required, or with "
    "`open`.",
    "max_bodies_per_address": "The same for one address.",
    "max_waits_per_owner": "How many event streams, and requests with `wait`, one owner may have under way. Where tokens are "
    "required, or with `open`.",
    "max_waits_per_address": "The same for one address.",
    "min_body_speed": "A body that is slower over a minute counts as cut.",
    "max_upload_bytes": "The largest upload.",
    "ingestion_max_bytes": "The largest file of a form.",
    "ingestion_dir": "Where files that come by forms are kept; see [upload by form](../howto/upload-by-form.md). It must be "
    "inside the data directory (with `storage_url`: inside that one), and on the same file system.",
    "ingestion_extensions": "Extensions of files that forms may bring; what is in them is checked too.",
    "min_free_bytes": "What must stay free on the file system beyond the size that an upload declares.",
    "janitor_interval_s": "How often the janitor looks for what to redo, expire and remove.",
    "retention_s": "How long the state of an ended upload can still be asked for.",
    "events_for_s": "How long a reader of [events](../explanation/events.md) may be away and still miss none.",
    "trash_for_s": "How long a deleted record can be restored.",
    "chunk_size": "The chunk size of uploads that ask for none.",
    "silent_body_s": "How long a request's body may be silent before it counts as cut.",
}


def table() -> str:
    """Return the table of all settings."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "| key | environment | flag | default | expected | what it does |"
    yield "|---|---|---|---|---|---|"
    flags = {name.rstrip("_") for name in inspect.signature(serve).parameters}
    unknown = MEANING.keys() ^ Settings.model_fields.keys()
    if unknown:
        message = f"{SCRIPT} and haulier.config disagree about {', '.join(sorted(unknown))}"
        raise ValueError(message)
    for name, field in Settings.model_fields.items():
        flag = f"`--{name.replace('_', '-')}`" if name in flags else ""
        yield (
            f"| `{name}` | `{PREFIX}{name.upper()}` | {flag} | {_shown(field.default)} | {field.description} "
            f"| {MEANING[name]} |"
        )


def _shown(default: object) -> str:
    match default:
        case None | ():
            return ""
        case bool():
            return f"`{str(default).lower()}`"
        case float() if default.is_integer():
            return f"`{int(default)}`"
        case tuple():
            return f"`{', '.join(map(str, default))}`"
        case StrEnum() | Path() | str() | int() | float():
            return f"`{default}`"
        case _:
            message = f"no way to show {default!r}"
            raise TypeError(message)


PARTS = (GeneratedPart(PAGE, "all settings", SCRIPT, table),)


if __name__ == "__main__":
    for part in PARTS:
        part.write()
