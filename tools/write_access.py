"""Writes the tables of docs/reference/access.md from the table that the tests hold the service to."""

from collections.abc import Iterator, Mapping

from tests.support.access_table import IN_OPEN_MODE, OPEN_CALLERS, TOKEN_CALLERS, WITH_TOKENS, read_table
from tools.generated import ROOT, GeneratedPart

PAGE = ROOT / "docs" / "reference" / "access.md"
SCRIPT = "tools/write_access.py"


def render(table: str, callers: Mapping[str, str]) -> str:
    """Return who the callers are, and what each is answered by every call."""
    return "\n".join([*_who(callers), "", *_rows(table, callers)])


def _who(callers: Mapping[str, str]) -> Iterator[str]:
    yield "| caller | who |"
    yield "|---|---|"
    for name, text in callers.items():
        yield f"| {name} | {text} |"


def _rows(table: str, callers: Mapping[str, str]) -> Iterator[str]:
    yield f"| call | {' | '.join(callers)} |"
    yield "|---" * (len(callers) + 1) + "|"
    for row in read_table(table):
        if row.statuses.keys() != callers.keys():
            message = f"{SCRIPT}: the callers of {row.name} are not the ones that are explained"
            raise ValueError(message)
        cells = " | ".join(str(row.statuses[name]) for name in callers)
        yield f"| `{row.method} {row.path.replace(':path', '')}` | {cells} |"


PARTS = (
    GeneratedPart(PAGE, "calls with tokens", SCRIPT, lambda: render(WITH_TOKENS, TOKEN_CALLERS)),
    GeneratedPart(PAGE, "calls in open mode", SCRIPT, lambda: render(IN_OPEN_MODE, OPEN_CALLERS)),
)


if __name__ == "__main__":
    for part in PARTS:
        part.write()
