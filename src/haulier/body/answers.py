"""Answers to requests that this package has sent, as values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from haulier.core.values import dataclass

Fields = Sequence[tuple[str, str]]

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Headers(Mapping[str, str]):
    """The fields of an answer; names in any case, several of one name as one list."""

    def __init__(self, fields: Fields) -> None:
        self._values: dict[str, str] = {}
        for name, value in fields:
            known = self._values.get(name.lower())
            self._values[name.lower()] = value if known is None else f"{known}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the other side said."""

    status_code: int
    headers: Headers
    content: bytes = b""
    keeps_alive: bool = False
    """Whether the connection can carry another request."""

    @property
    def text(self) -> str:
        """The content as UTF-8, which all that we talk to write; what is none is replaced."""
        return self.content.decode("utf-8", "replace")

    @property
    def is_redirect(self) -> bool:
        """Whether it names another address."""
        return self.status_code in REDIRECTS and "location" in self.headers
