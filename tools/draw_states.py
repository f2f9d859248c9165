"""Draws the state machines of the explanations from the tables that decide them, and the table of retry decisions."""

import inspect
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TypeVar

from haulier.core import record, session, transfer, verdict
from tools.generated import ROOT, GeneratedPart

S = TypeVar("S", bound=StrEnum)

PAGE = ROOT / "docs" / "explanation" / "architecture.md"
SENDING = ROOT / "docs" / "explanation" / "queueing-and-waiting.md"
SCRIPT = "tools/draw_states.py"


def draw(table: Mapping[S, frozenset[S]]) -> str:
    """Return a Mermaid diagram of the table; its first state is where everything begins."""
    return "\n".join(["```mermaid", "stateDiagram-v2", *_lines(table), "```"])


def _lines(table: Mapping[S, frozenset[S]]) -> Iterator[str]:
    yield f"    [*] --> {next(iter(table)).value}"
    for state, successors in table.items():
        # A set has no order; the table's own is the one that people wrote.
        for successor in table:
            if successor in successors:
                yield f"    {state.value} --> {successor.value}"
        if not successors:
            yield f"    {state.value} --> [*]"


def decisions() -> str:
    """Return the table of what follows from which failure, as the function that decides it says."""
    lines = (inspect.getdoc(verdict.settle) or "").splitlines()
    return "\n".join(line.replace("`give_up_s`", "24 hours") for line in lines if line.startswith("|"))


PARTS = (
    GeneratedPart(PAGE, "states of an upload", SCRIPT, lambda: draw(session.TRANSITIONS)),
    GeneratedPart(PAGE, "states of a record", SCRIPT, lambda: draw(record.TRANSITIONS)),
    GeneratedPart(PAGE, "states of a transfer", SCRIPT, lambda: draw(transfer.TRANSITIONS)),
    GeneratedPart(SENDING, "states in the journal", SCRIPT, lambda: draw(transfer.TRANSITIONS)),
    GeneratedPart(SENDING, "retry decisions", SCRIPT, decisions),
)


if __name__ == "__main__":
    for part in PARTS:
        part.write()
