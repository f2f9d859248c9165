"""CSV, judged record by record, in flat memory.

Rule 1: the delimiter is the one of comma, semicolon, tab and bar that the first line has most of outside of
        quotes; the earlier one at a tie, the comma where there is none (one column).
Rule 2: fields are quoted as RFC 4180 has it: a quote inside is doubled, nothing follows the closing one, and a
        quote that is opened is closed. A quote inside an unquoted field is a character like others.
Rule 3: every record has as many fields as the first one. Empty lines are no records.
Rule 4: a record, with the line breaks inside its quotes, has a limit: no file makes this reader keep more.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from haulier.core.processing import MAX_PROBLEMS, ContentFault, ContentProblem

MAX_RECORD: Final = 4 * 1024 * 1024
"""Characters; forty times what Python's own reader takes for a field by default."""
DELIMITERS: Final = (",", ";", "\t", "|")

_FIELD: Final = re.compile(r'"[^"]*+(?:""[^"]*+)*+"')
_QUOTED: Final = re.compile(r'"[^"]*(?:"|\Z)')


class _TooLong(Exception):
    """A record that nobody wrote on purpose."""


class CsvReader:
    """Reads a CSV text once; what it found is in its members afterwards."""

    def __init__(self) -> None:
        self.record_count = 0
        self.problems: list[ContentProblem] = []
        self._width = 0
        self._line = 1
        self._delimiter = DELIMITERS[0]
        self._kept = 0
        self._record: list[str] = []
        """The lines of the record that is read, to find a fault's place in them."""

    def read(self, pieces: Iterable[str]) -> None:
        """Read the text to its end, or to a fault after which records cannot be told apart."""
        source = iter(pieces)
        first = next(source, "")
        csv.field_size_limit(MAX_RECORD)
        lines = self._lines(chain((first,), source))
        self._delimiter = choose_delimiter(first)
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        try:
            for record in reader:
                self._judge(record)
                self._line = reader.line_num + 1
                self._record.clear()
                self._kept = 0
        except csv.Error as error:
            self._note(f"the quotes are wrong: {error}")
        except _TooLong:
            self._record.clear()  # its beginning is the place
            self._note(f"a record of more than {MAX_RECORD} characters; is a quote not closed?")

    def _judge(self, record: list[str]) -> None:
        if not record:
            return
        self.record_count += 1
        if self.record_count == 1:
            self._width = len(record)
        elif len(record) != self._width:
            self._note(f"{len(record)} fields where the first record has {self._width}")

    def _note(self, message: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            text = "".join(self._record)
            before = text[: place_of_fault(text, self._delimiter, fields=self._width)]
            line, column = self._line + before.count("\n"), len(before) - before.rfind("\n")
            self.problems.append(ContentProblem(ContentFault.CSV_INVALID, message, line, column))

    def _lines(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield lines with their breaks; what is kept of a record not read to its end is counted."""
        waiting: list[str] = []
        for piece in pieces:
            yield from self._split(piece, waiting)
        if waiting:
            self._record.append("".join(waiting))
            yield self._record[-1]

    def _split(self, piece: str, waiting: list[str]) -> Iterator[str]:
        start = 0
        while (stop := piece.find("\n", start) + 1) > 0:
            waiting.append(piece[start:stop])
            line = "".join(waiting)
            waiting.clear()
            self._keep(stop - start)
            self._record.append(line)
            yield line
            start = stop
        if start < len(piece):
            waiting.append(piece[start:])
            self._keep(len(piece) - start)

    def _keep(self, size: int) -> None:
        self._kept += size
        if self._kept > MAX_RECORD:
            raise _TooLong


def place_of_fault(record: str, delimiter: str, *, fields: int) -> int:
    """Return where a record goes wrong: at a quote, at the first field too many, or at its end, where one is missing."""
    place = 0
    for _ in range(fields or len(record) + 1):
        if record.startswith('"', place):
            closed = _FIELD.match(record, place)
            if closed is None:
                return place
            place = closed.end()
        else:
            place = min(
                end for end in (record.find(delimiter, place), len(record.rstrip("\r\n"))) if end >= 0
            )
        if not record.startswith(delimiter, place):
            return place
        place += 1
    return place


def choose_delimiter(start: str) -> str:
    """Return the delimiter of a text that begins like that."""
    line = _QUOTED.sub("", start).partition("\n")[0]
    return max(DELIMITERS, key=line.count)
