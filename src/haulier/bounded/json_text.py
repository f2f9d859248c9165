"""JSON, judged while it streams past; nothing of it is kept but the brackets that are open.

Rule 1: exactly the grammar of RFC 8259 passes; of the extensions that parsers grew, none does.
Rule 2: memory is flat: a string may be as long as the file, nesting and numbers have a limit.
Rule 3: the fast lanes only skip: what a lane does not take, the states judge, token by token. Removing the
        lanes changes no verdict. (Python's decoder is one of them; what it makes is bounded by a piece.)
"""

import json
import re
from collections.abc import Callable, Mapping
from enum import IntEnum, auto
from typing import Final, NoReturn

from haulier.bounded.text import Place

MAX_DEPTH: Final = 512
"""Open brackets. Go's decoder takes 10000, Python's about 1000, serde's 128, .NET's 64."""
MAX_NUMBER: Final = 256 * 1024
"""Characters; no piece is longer, so a longer number is cut, kept, and judged here whatever the lanes take."""
MAX_MISSES: Final = 8
"""Values of a piece that may turn out not to end in it, or not to be valid; after that its lanes go slow.

Brackets that are open at the end of a piece are missed once each, and files rarely nest deeper.
"""

_SPACE: Final = r"[ \t\n\r]*"
_STRING: Final = r'"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*"'
_NUMBER: Final = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
# What follows shows that a number is whole; the last one of a piece is left to the states.
_SCALAR: Final = rf"(?:{_STRING}|(?:{_NUMBER}|true|false|null)(?=[ \t\n\r,\]}}]))"


class JsonInvalid(Exception):
    """The text is no JSON; a signal inside this package. Line and column are those of the first fault."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.line = place.line
        self.column = place.column


class _State(IntEnum):
    VALUE = auto()
    FIRST_ELEMENT = auto()
    """A value, or the end of an empty array."""
    FIRST_KEY = auto()
    """A key, or the end of an empty object."""
    KEY = auto()
    IN_KEY = auto()
    COLON = auto()
    IN_STRING = auto()
    AFTER = auto()
    """Behind a value: a comma or a closing bracket; with none open, the end."""


class _Fault(Exception):
    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


_SPACES: Final = re.compile(_SPACE)
_WORD: Final = re.compile(rf"(?:{_NUMBER}|true|false|null)(?=[ \t\n\r,\]}}])")
_WORD_CUT: Final = re.compile(r"[-+.0-9a-zA-Z]+\Z")
_IN_STRING: Final = re.compile(r'[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*')
_ESCAPE_CUT: Final = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_ELEMENT: Final = re.compile(rf"{_SPACE},{_SPACE}{_SCALAR}")
_LANES: Final[Mapping[str, re.Pattern[str]]] = {
    "[": re.compile(rf"(?:{_SPACE},{_SPACE}{_SCALAR})*"),
    "{": re.compile(rf"(?:{_SPACE},{_SPACE}{_STRING}{_SPACE}:{_SPACE}{_SCALAR})*"),
}
"""What may follow a value in an open bracket, for as long as it is not nested."""
_NESTED_NEXT: Final[Mapping[str, re.Pattern[str]]] = {
    "[": re.compile(rf"{_SPACE},{_SPACE}(?=[\[{{])"),
    "{": re.compile(rf"{_SPACE},{_SPACE}{_STRING}{_SPACE}:{_SPACE}(?=[\[{{])"),
}
_INSIDE: Final = frozenset({_State.IN_STRING, _State.IN_KEY})


def _refuse(constant: str) -> NoReturn:
    """NaN and the infinities, which Python's decoder takes."""
    raise ValueError(constant)


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)


class JsonScanner:
    """Give it a text in pieces with `feed`, then call `finish`; either raises `JsonInvalid`."""

    def __init__(self) -> None:
        self._state = _State.VALUE
        self._open: list[str] = []
        self._rest = ""
        self._place = Place()
        self._array = False
        self._misses = 0
        self._elements = 0
        self._steps: Mapping[_State, Callable[[str, int], int | None]] = {
            _State.VALUE: self._value,
            _State.FIRST_ELEMENT: self._first_element,
            _State.FIRST_KEY: self._first_key,
            _State.KEY: self._key,
            _State.IN_KEY: self._in_string,
            _State.COLON: self._colon,
            _State.IN_STRING: self._in_string,
            _State.AFTER: self._after,
        }

    @property
    def record_count(self) -> int:
        """Elements of an array, 1 for any other value; known after `finish`."""
        return self._elements if self._array else 1

    def feed(self, piece: str) -> None:
        """Judge the next piece.

        Raises:
            JsonInvalid: no continuation makes this JSON.
        """
        text = self._rest + piece
        self._misses = 0
        try:
            position = self._scan(text)
        except _Fault as fault:
            self._place.pass_over(text[: fault.position])
            raise JsonInvalid(str(fault), self._place) from None
        self._place.pass_over(text[:position])
        self._rest = text[position:]

    def finish(self) -> None:
        """Judge the end.

        Raises:
            JsonInvalid: the text is cut off, or empty.
        """
        end = Place(self._place.line, self._place.column)
        end.pass_over(self._rest)
        if self._state in _INSIDE:
            raise JsonInvalid("the text ends inside of a string", end)
        self.feed("\n")  # shows that a number at the end is whole
        if self._state is _State.VALUE and not self._open and not self._rest.strip():
            raise JsonInvalid("there is no value", Place())
        if self._state is not _State.AFTER or self._open:
            raise JsonInvalid("the text ends before its value does", end)

    def _scan(self, text: str) -> int:
        """Return the position up to which the text is judged."""
        position = 0
        while True:
            if self._state not in _INSIDE:
                match = _SPACES.match(text, position)
                position = match.end() if match else position
            if position == len(text):
                return position
            following = self._steps[self._state](text, position)
            if following is None:
                return position
            position = following

    def _value(self, text: str, position: int) -> int | None:
        character = text[position]
        if character in "{[":
            self._count()
            end = self._whole(text, position) if self._open else None
            if end is not None:
                self._state = _State.AFTER
                return end
            self._push(character, position)
            return position + 1
        if character == '"':
            self._count()
            self._state = _State.IN_STRING
            return position + 1
        return self._word(text, position)

    def _word(self, text: str, position: int) -> int | None:
        match = _WORD.match(text, position)
        if match is None:
            if _WORD_CUT.match(text, position) and len(text) - position <= MAX_NUMBER:
                return None
            raise _Fault("a value is expected here", position)
        if match.end() - position > MAX_NUMBER:
            raise _Fault(f"a number of more than {MAX_NUMBER} characters", position)
        self._count()
        self._state = _State.AFTER
        return match.end()

    def _first_element(self, text: str, position: int) -> int | None:
        return self._close(position) if text[position] == "]" else self._value(text, position)

    def _first_key(self, text: str, position: int) -> int | None:
        return self._close(position) if text[position] == "}" else self._key(text, position)

    def _key(self, text: str, position: int) -> int:
        if text[position] != '"':
            raise _Fault("a key in double quotes is expected here", position)
        self._state = _State.IN_KEY
        return position + 1

    def _colon(self, text: str, position: int) -> int:
        if text[position] != ":":
            raise _Fault("a colon is expected here", position)
        self._state = _State.VALUE
        return position + 1

    def _in_string(self, text: str, position: int) -> int | None:
        match = _IN_STRING.match(text, position)
        if match and match.end() > position:
            return match.end()  # what was passed is not looked at again, however the piece ends
        if text[position] == '"':
            self._state = _State.COLON if self._state is _State.IN_KEY else _State.AFTER
            return position + 1
        if _ESCAPE_CUT.match(text, position):
            return None
        what = (
            "an escape that JSON does not have"
            if text[position] == "\\"
            else "a control character in a string"
        )
        raise _Fault(what, position)

    def _after(self, text: str, position: int) -> int:
        if not self._open:
            raise _Fault("there is more after the end of the value", position)
        bracket = self._open[-1]
        position = self._lane(bracket, text, position)
        match = _SPACES.match(text, position)
        position = match.end() if match else position
        if position == len(text):
            return position
        if text[position] == ",":
            self._state = _State.VALUE if bracket == "[" else _State.KEY
            return position + 1
        if text[position] == ("]" if bracket == "[" else "}"):
            return self._close(position)
        closing = "]" if bracket == "[" else "}"
        raise _Fault(f"a comma or {closing} is expected here", position)

    def _lane(self, bracket: str, text: str, position: int) -> int:
        """Pass over what follows in a bracket, for as long as it is whole in this piece."""
        counting = bracket == "[" and len(self._open) == 1
        while True:
            match = _LANES[bracket].match(text, position)
            end = match.end() if match else position
            if counting and end > position:
                # One more character than was taken: it shows that the last number is whole.
                self._elements += len(_ELEMENT.findall(text, position, end + 1))
            match = _NESTED_NEXT[bracket].match(text, end)
            nested = self._whole(text, match.end()) if match else None
            if nested is None:
                return end
            self._elements += counting
            position = nested

    def _whole(self, text: str, position: int) -> int | None:
        """Return where a bracket's value ends; None: not in this piece, or the states should look at it."""
        if self._misses == MAX_MISSES:
            return None
        try:
            _, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            self._misses += 1
            return None
        brackets = text.count("[", position, end) + text.count("{", position, end)
        # Each may be inside of the one before; that many are only allowed where none of them is too deep.
        return end if brackets <= MAX_DEPTH - len(self._open) else None

    def _push(self, bracket: str, position: int) -> None:
        if len(self._open) == MAX_DEPTH:
            raise _Fault(f"nested more than {MAX_DEPTH} deep", position)
        if not self._open:
            self._array = bracket == "["
        self._open.append(bracket)
        self._state = _State.FIRST_ELEMENT if bracket == "[" else _State.FIRST_KEY

    def _close(self, position: int) -> int:
        self._open.pop()
        self._state = _State.AFTER
        return position + 1

    def _count(self) -> None:
        if self._open == ["["]:
            self._elements += 1
