"""Parts of documents that are written from the code, so that they cannot say anything else.

Rule 1: a generated part stands between two comments that name it; what is around it is written by people.
Rule 2: one function makes the part, whoever asks: the script that writes it, and `check_docs.py`, which compares.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class GeneratedPart:
    """One part of one page."""

    page: Path
    name: str
    script: str
    """Which script writes it, for the comment and for whoever has to run it."""
    render: Callable[[], str]
    """Returns the part without its comments, with no line end at its ends."""

    @property
    def module(self) -> str:
        """What to give to `python -m`."""
        return self.script.removesuffix(".py").replace("/", ".")

    def is_current(self) -> bool:
        """Whether the page says what the code says."""
        text = self.page.read_text(encoding="utf-8")
        return text == self._with_part(text)

    def write(self) -> None:
        """Put the part into its page."""
        text = self.page.read_text(encoding="utf-8")
        self.page.write_text(self._with_part(text), encoding="utf-8")

    def _with_part(self, text: str) -> str:
        first = f"<!-- {self.name}: written by {self.script} -->\n"
        last = f"<!-- end of {self.name} -->"
        before, opening, rest = text.partition(first)
        _, closing, after = rest.partition(last)
        if not opening or not closing:
            message = f"{self.page.relative_to(ROOT)} has no part between {first.strip()} and {last}"
            raise ValueError(message)
        return f"{before}{first}\n{self.render()}\n\n{last}{after}"
