"""Transfers and findings of `haulier soulseek` as lines, for people and for programs."""

from collections.abc import Iterator
from typing import Any

from haulier.cli.display import print_json, printable
from haulier.cli.outcome import DONE, FAILED, REFUSED, tell


def print_end(document: dict[str, Any], *, as_json: bool) -> int:
    """Print how a download has ended; returns the command's exit code."""
    if as_json:
        print_json(document)
    elif document["outcome"] == "succeeded":
        print(printable(document["file"]))
    if document["outcome"] == "succeeded":
        return DONE
    tell(f"{document['target']}: {document['label']}: {document['error'] or 'no reason was given'}")
    return REFUSED if document["outcome"] == "rejected" else FAILED


def print_transfer(document: dict[str, Any], *, as_json: bool) -> None:
    """Print a transfer."""
    if as_json:
        print_json(document)
        return
    place = "" if document["place"] is None else f"  place {document['place']}"
    print(
        f"{document['id']}  {document['label']}  {document['percent']:.0f} %{place}  "
        f"{printable(document['remote'])}  {printable(document['target'])}"
    )


def print_found(document: dict[str, Any], *, as_json: bool) -> None:
    """Print a file that was found."""
    if as_json:
        print_json(document)
    else:
        print(f"{printable(document['user'])}  {document['size']}  {printable(document['file'])}", flush=True)


def print_folder(document: dict[str, Any], *, as_json: bool) -> None:
    """Print a folder of a peer."""
    if as_json:
        print_json(document)
        return
    for line in _lines_of(document):
        print(printable(line))


def _lines_of(document: dict[str, Any]) -> Iterator[str]:
    for file in document["files"]:
        yield f"{file['size']}  {document['folder']}\\{file['file']}"
