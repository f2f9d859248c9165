"""Refusals that only HTTP knows; they are part of the tree of `core/errors.py`, below its `RequestError`.

```
RequestError
├── HostRefused             421: the name in Host is not ours (DNS rebinding)
├── NotLocal                403: open mode is for this machine, and the request may come from elsewhere
├── RateLimited             429: more requests, bodies or wrong tokens than one caller may send
├── RouteNotFound           404: no such address
├── MethodNotAllowed        405
├── MediaTypeRefused        415
└── RangeNotSatisfiable     416
```
"""

from dataclasses import dataclass
from typing import ClassVar

from haulier.core.errors import RequestError


@dataclass(eq=False)
class HostRefused(RequestError):
    """`Host` is not this service's own name and port."""

    host: str
    cure: str

    def __str__(self) -> str:
        return f"this service does not answer to the name {self.host!r}; {self.cure}"


@dataclass(eq=False)
class NotLocal(RequestError):
    """A rule of open mode refuses the request. `flag` is the option that allows it."""

    rule: str
    flag: str
    reason: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.flag} allows it"


@dataclass(eq=False)
class RateLimited(RequestError):
    """Too much at once, or too often. `limit` says what there is too much of, `retry_after_s` when there is room."""

    limit: str
    retry_after_s: float
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"{self.limit}; try again in {self.retry_after_s:.1f} s"


@dataclass(eq=False)
class RouteNotFound(RequestError):
    """Nothing lives at this path."""

    path: str

    def __str__(self) -> str:
        return f"there is nothing at {self.path}"


@dataclass(eq=False)
class MethodNotAllowed(RequestError):
    """The path exists, but not with this method."""

    method: str
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.method} is not possible here; {', '.join(self.allowed)} is"


@dataclass(eq=False)
class MediaTypeRefused(RequestError):
    """The body's media type is not the one that is read here."""

    expected: str
    provided: str | None

    def __str__(self) -> str:
        return f"the body must be {self.expected}, not {self.provided or 'of unknown type'}"


@dataclass(eq=False)
class RangeNotSatisfiable(RequestError):
    """The range starts behind the end."""

    size: int

    def __str__(self) -> str:
        return f"the range is outside of the {self.size} bytes that there are"
