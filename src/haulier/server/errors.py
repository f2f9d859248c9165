"""Refusals that only HTTP knows; they are part of the tree of `core/errors.py`, below its `RequestError`.

```
RequestError
├── HostRefused             421: the name in Host is not ours (DNS rebinding)
├── NotLocal                403: open mode is for this machine, and the request may come from elsewhere
├── OriginRefused           403: a foreign page asks, and a cookie says who calls
├── RefusedByHost           the program that serves us says so, by a status of its own
├── RateLimited             429: more requests, bodies or wrong tokens than one caller may send
├── TusVersionRefused       412: another version of tus than we speak
├── RouteNotFound           404: no such address
├── MethodNotAllowed        405
├── MediaTypeRefused        415
├── FormMalformed           400: no multipart form, or one beyond the limits
├── PreconditionFailed      412: the file is another one than the request is for
├── RangeNotSatisfiable     416
└── of the server below, before there is a request:
    ├── RequestMalformed        400: no HTTP/1.1, or more than one reading of it
    ├── HeadTimeout             408: a head that is not whole in time
    ├── TargetTooLong           414
    ├── HeadTooLarge            431: header fields, trailers or chunk extensions beyond the limits
    └── CodingNotSupported      501: a transfer coding other than chunked
```
"""

from typing import ClassVar

from haulier.core.errors import RequestError


class HostRefused(RequestError):
    """`Host` is not this service's own name and port."""

    host: str
    cure: str

    def __str__(self) -> str:
        return f"this service does not answer to the name {self.host!r}; {self.cure}"


class NotLocal(RequestError):
    """A rule of open mode refuses the request. `flag` is the option that allows it."""

    rule: str
    flag: str
    reason: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.flag} allows it"


class FormMalformed(RequestError):
    """A form that breaks the rules of multipart, or goes beyond what a form may have."""

    reason: str

    def __str__(self) -> str:
        return f"the form cannot be read: {self.reason}"


class OriginRefused(RequestError):
    """A page of another origin asks in the name of whoever its browser's cookie names."""

    origin: str

    def __str__(self) -> str:
        return f"a page of {self.origin!r} asks, and only a cookie says who calls; --cors-origin allows it"


class RefusedByHost(RequestError):
    """The program that embeds the service refuses the caller. `status` is what it answers with."""

    status: int
    detail: str

    def __str__(self) -> str:
        return self.detail


class RateLimited(RequestError):
    """Too much at once, or too often. `limit` says what there is too much of, `retry_after_s` when there is room."""

    limit: str
    retry_after_s: float
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"{self.limit}; try again in {self.retry_after_s:.1f} s"


class TusVersionRefused(RequestError):
    """The request is of another version of tus, or does not say of which; nothing was done."""

    supported: str
    provided: str | None

    def __str__(self) -> str:
        given = "is missing" if self.provided is None else f"is {self.provided!r}"
        return f"Tus-Resumable {given}; send {self.supported}"


class RouteNotFound(RequestError):
    """Nothing lives at this path."""

    path: str

    def __str__(self) -> str:
        return f"there is nothing at {self.path}"


class MethodNotAllowed(RequestError):
    """The path exists, but not with this method."""

    method: str
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.method} is not possible here; {', '.join(self.allowed)} is"


class MediaTypeRefused(RequestError):
    """The body's media type is not the one that is read here."""

    expected: str
    provided: str | None

    def __str__(self) -> str:
        return f"the body must be {self.expected}, not {self.provided or 'of unknown type'}"


class PreconditionFailed(RequestError):
    """`If-Match` does not name the file that there is."""

    etag: str

    def __str__(self) -> str:
        return f"the file that is here has the entity tag {self.etag}, which If-Match does not name"


class RangeNotSatisfiable(RequestError):
    """The range starts behind the end."""

    size: int

    def __str__(self) -> str:
        return f"the range is outside of the {self.size} bytes that there are"


class RequestMalformed(RequestError):
    """The bytes are no request of HTTP/1.1, or could be read as more than one."""

    def __str__(self) -> str:
        return "what came cannot be read as one request of HTTP/1.1, and in one way only"


class HeadTimeout(RequestError):
    """The head of a request was not whole in time."""

    limit_s: float
    retryable: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"the request line and the header fields did not come whole within {self.limit_s:g} seconds"


class TargetTooLong(RequestError):
    """The request target has more bytes than are read. `limit` in bytes."""

    limit: int

    def __str__(self) -> str:
        return f"the request target, path and query together, must be at most {self.limit} bytes"


class HeadTooLarge(RequestError):
    """More header fields, trailers or chunk extensions than are read. `limit` in bytes, of all together."""

    limit: int
    limit_fields: int

    def __str__(self) -> str:
        return (
            f"request line and header fields, or trailers and chunk extensions, must be at most {self.limit} bytes "
            f"and {self.limit_fields} fields"
        )


class CodingNotSupported(RequestError):
    """A body in a transfer coding that is not read. `expected` is the one that is."""

    expected: str

    def __str__(self) -> str:
        return f"the only transfer coding that is read is {self.expected}; send the body with it, or with its length"
