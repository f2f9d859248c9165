"""Writes the list of problems in docs/README.md from the table that answers them."""

from collections.abc import Iterator

from haulier.server.problems import INTERNAL, TABLE
from tools.generated import ROOT, GeneratedPart

PAGE = ROOT / "docs" / "README.md"
SCRIPT = "tools/list_errors.py"


def table() -> str:
    """Return the table of all problems, by status."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "| status | problem | title |"
    yield "|---|---|---|"
    for row in sorted((*TABLE.values(), INTERNAL), key=lambda row: (row.status, row.slug)):
        yield f"| {row.status} | [{row.slug}](errors/{row.slug}.md) | {row.title} |"


PARTS = (GeneratedPart(PAGE, "all problems", SCRIPT, table),)


if __name__ == "__main__":
    for part in PARTS:
        part.write()
