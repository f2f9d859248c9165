"""A file as text: decoded piece by piece, in flat memory.

Rule 1: a byte order mark decides the encoding, else what the sender declares, else it is UTF-8.
        Source: WHATWG Encoding, section 6, decode.
Rule 2: every line break, of whatever system, is one line feed to whoever reads on.
Rule 3: text has no NUL character.
"""

import codecs
import io
import os
from collections.abc import Iterator
from typing import Final

from haulier.core.processing import MAX_PREVIEW, ContentFault
from haulier.core.values import dataclass

PIECE: Final = 256 * 1024
"""Bytes read at a time."""
UTF_8: Final = "utf-8"

# The longer marks first: that of UTF-32 little-endian starts like that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARABLE: Final = frozenset(
    {"ascii", UTF_8, "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"}
    | {f"iso8859-{part}" for part in range(1, 17) if part != 12}
    | {f"cp{page}" for page in (437, 850, 852, 866, 932, 949, *range(1250, 1259))}
    | {"koi8-r", "koi8-u", "mac-roman", "shift_jis", "euc_jp", "iso2022_jp", "euc_kr", "gb2312", "gbk"}
    | {"gb18030", "big5"}
)
"""By Python's names. A list, because some of Python's codecs unpack or interpret what they decode."""


class NotText(Exception):
    """The file does not decode; a signal inside this package. Line and column are those of the first bad byte."""

    def __init__(self, fault: ContentFault, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.fault = fault
        self.line = line
        self.column = column


@dataclass(slots=True)
class Place:
    """Where in a text somebody is; both counted from 1, columns in characters."""

    line: int = 1
    column: int = 1

    def pass_over(self, text: str) -> None:
        """Move behind `text`."""
        breaks = text.count("\n")
        self.line += breaks
        self.column = len(text) - text.rfind("\n") if breaks else self.column + len(text)


def choose_encoding(head: bytes, declared: str | None) -> str | None:
    """Return the encoding of a text that starts with `head`; None: what is declared is not known here."""
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if marked is not None or declared is None:
        return marked or UTF_8
    try:
        name = codecs.lookup(declared).name
    except (LookupError, ValueError):
        return None
    return name if name in _DECLARABLE else None


class Text:
    """The text of an open file, and what is noticed while it is read through, once."""

    def __init__(self, source: int, encoding: str) -> None:
        self._source = source
        self._encoding = encoding
        self._decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
        self._end = Place()
        self._preview: list[str] = []
        self._previewed = 0

    @property
    def encoding(self) -> str:
        """Its name, without the byte order mark."""
        return UTF_8 if self._encoding == "utf-8-sig" else self._encoding

    @property
    def line_count(self) -> int:
        """Lines so far; a last one without a line break counts."""
        return self._end.line - (self._end.column == 1)

    @property
    def preview(self) -> str:
        """Its beginning."""
        return "".join(self._preview)

    def pieces(self) -> Iterator[str]:
        """Yield the text in pieces that are not empty.

        Raises:
            NotText: from here on it does not decode.
        """
        offset = 0
        while data := os.pread(self._source, PIECE, offset):
            offset += len(data)
            if text := self._decode(data, final=False):
                yield text
        if text := self._decode(b"", final=True):
            yield text
        if self._decoder.getstate()[0]:
            # Python's decoder of marked UTF-8 takes the beginning of a mark for one, also at the very end.
            message = f"this is not {self.encoding}: unexpected end of data"
            raise NotText(ContentFault.UNDECODABLE, message, self._end.line, self._end.column)

    def _decode(self, data: bytes, *, final: bool) -> str:
        try:
            text: str = self._decoder.decode(data, final)
        except UnicodeDecodeError as error:
            # What it had kept back of the piece before is in its object, so this decodes.
            good = error.object[: error.start].decode(self._encoding, errors="ignore")
            self._note(good)
            message = f"this is not {self.encoding}: {error.reason}"
            raise NotText(ContentFault.UNDECODABLE, message, self._end.line, self._end.column) from error
        nul = text.find("\0")
        self._note(text if nul < 0 else text[:nul])
        if nul >= 0:
            message = "a NUL character: this is no text"
            raise NotText(ContentFault.BINARY, message, self._end.line, self._end.column)
        return text

    def _note(self, text: str) -> None:
        self._end.pass_over(text)
        if self._previewed < MAX_PREVIEW:
            self._preview.append(text[: MAX_PREVIEW - self._previewed])
            self._previewed += len(self._preview[-1])
