"""Forms with files (`multipart/form-data`), read by pulling: a file is a `Body` that ends where its part does.

Rule 1: memory is flat. What is read from the connection is handed on before more is read.
Rule 2: files come in the order of their parts, each once, and the next only after the one before has ended.
Rule 3: what goes beyond a form's limits ends the form; no part of it is taken for a smaller one.

Source: RFC 7578; the WHATWG HTML standard, section "multipart form data".
"""

from collections.abc import AsyncIterator, Iterator
from typing import Final

from multipart import (
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)
from starlette.requests import Request

from haulier.core.errors import BodyCut, BodyMalformed, FileMissing, LengthExceeded, ServiceStopping
from haulier.core.ingestion import IngestionRules
from haulier.core.values import dataclass
from haulier.ports import BodyEnd, Deliver
from haulier.server.addresses import header
from haulier.server.disposition import read_extended_filename
from haulier.server.errors import FormMalformed, MediaTypeRefused
from haulier.server.http.asgi import AsgiBody, handed_over

MAX_BOUNDARY: Final = 70
"""Characters. Source: RFC 2046 section 5.1.1."""
MAX_HEADER: Final = 8 * 1024
"""Bytes of one line of a part's header: a file name of 4 KiB, each byte escaped, does not fit; none is allowed."""
MAX_HEADERS: Final = 8
"""Lines of a part's header; RFC 7578 knows three."""
MAX_PREAMBLE: Final = 64 * 1024
"""Bytes before the first part that are skipped, give or take what is read at once; browsers and curl send none."""
MAX_FIELDS: Final = 1000
"""Parts of any kind. Precedent: Django's and Starlette's limit of fields."""
MAX_FIELD: Final = 64 * 1024
"""Bytes of a part that is no file; nothing reads them."""

FORM: Final = "multipart/form-data"
_PLAIN: Final = frozenset({"", "7bit", "8bit", "binary"})
"""Values of `Content-Transfer-Encoding` under which a part's bytes are the file's. Source: RFC 2045 section 6.2."""


def boundary_of(request: Request) -> str:
    """Return what separates the parts of a request's form.

    Raises:
        MediaTypeRefused: it is no form, or it is encoded.
        FormMalformed: it does not say what separates its parts.
    """
    given = header(request.scope, b"content-type")
    kind, options = parse_options_header(given or "")
    if kind != FORM:
        raise MediaTypeRefused(FORM, given)
    coding = header(request.scope, b"content-encoding")
    if coding is not None and coding.strip().lower() != "identity":
        raise MediaTypeRefused("identity", f"{coding[:64]} (Content-Encoding)")
    boundary = str(options.get("boundary", ""))
    if not 1 <= len(boundary) <= MAX_BOUNDARY or not boundary.isascii() or not boundary.isprintable():
        raise FormMalformed(
            f"its Content-Type needs a boundary of 1 to {MAX_BOUNDARY} printable ASCII characters"
        )
    return boundary


def require_something(request: Request) -> None:
    """Check that a request brings something. Raises FileMissing: many clients send no form at all for no files."""
    scope = request.scope
    told = header(scope, b"content-type") or header(scope, b"transfer-encoding")
    if told is None and header(scope, b"content-length") in {None, "0"}:
        raise FileMissing


class Form:
    """The parts of one form, one after the other."""

    def __init__(self, body: AsgiBody, boundary: str, rules: IngestionRules) -> None:
        self.rules = rules
        self._body = body
        self._received = 0
        self._begun = False
        """Whether there was a part."""
        self._parser = PushMultipartParser(
            boundary,
            max_header_size=MAX_HEADER,
            max_header_count=MAX_HEADERS,
            max_segment_count=MAX_FIELDS,
        )
        self._events: Iterator[MultipartSegment | bytes | bytearray | None] = iter(())

    async def files(self) -> AsyncIterator["FormFile"]:
        """Yield the files; each must have been received to its end before the next one is asked for.

        Raises:
            FormMalformed · LengthExceeded: more files, or longer fields, than a form may have.
            BodyCut · BodyMalformed · ServiceStopping: it ended early.
        """
        count = 0
        while (segment := await self._next_segment()) is not None:
            file = _file_of(segment, self)
            if file is None:
                await self._skip(MAX_FIELD)
            elif file.filename or await file.peek():
                count += 1
                if count > self.rules.max_files:
                    raise FormMalformed(f"it has more than {self.rules.max_files} files")
                yield file
            # else: a field of a page where no file was chosen

    async def _next_segment(self) -> MultipartSegment | None:
        event = await self.next_event()
        assert event is None or isinstance(event, MultipartSegment)
        return event

    async def _skip(self, most: int) -> None:
        size = 0
        while (piece := await self.next_event()) is not None:
            assert not isinstance(piece, MultipartSegment)
            size += len(piece)
            if size > most:
                raise LengthExceeded(most)

    async def next_event(self) -> MultipartSegment | bytes | bytearray | None:
        """Return a part's header, a piece of it, or None at its end; None between parts is the form's end.

        Raises:
            FormMalformed · BodyCut · BodyMalformed · ServiceStopping
        """
        while True:
            try:
                event = next(self._events)
            except StopIteration:
                self._require_begun()
            except MultipartError as error:
                raise _malformed(error) from error
            else:
                self._begun = True
                return event
            if self._parser.closed or await self._read():
                return None

    def _require_begun(self) -> None:
        """Check that something comes of what was read."""
        # The header of the first part is behind the preamble, and no event either until it is whole.
        if not self._begun and self._received > MAX_PREAMBLE + MAX_HEADER * MAX_HEADERS:
            raise FormMalformed(f"more than {MAX_PREAMBLE} bytes stand before its first part")

    async def _read(self) -> bool:
        """Give the parser more; True when there is nothing more and all is whole."""
        piece = await self._body.next_piece()
        if isinstance(piece, BodyEnd):
            return self._ended(piece)
        self._received += len(piece)
        if piece:
            self._events = self._parser.parse(bytes(piece))
        return False

    def _ended(self, end: BodyEnd) -> bool:
        if end is BodyEnd.COMPLETE:
            try:
                self._parser.close()
            except MultipartError as error:
                raise _malformed(error) from error
            return True
        if end is BodyEnd.STOPPED:
            raise ServiceStopping
        raise BodyMalformed(self._received) if end is BodyEnd.MALFORMED else BodyCut(self._received)

    def stop(self) -> None:
        """End the form where it is."""
        self._body.stop()


@dataclass(slots=True)
class FormFile:
    """One file of a form; a `Body`."""

    filename: str
    charset: str | None
    _form: Form
    _first: bytes | bytearray | None = None
    _over: bool = False

    @property
    def length(self) -> int | None:
        """Nobody knows before its end."""
        return None

    async def peek(self) -> bool:
        """Whether it has any bytes; they stay to be received."""
        self._first = await self._next()
        self._over = self._first is None
        return not self._over

    async def receive(self, deliver: Deliver, *, limit: int | None = None) -> BodyEnd:
        """Hand every piece to `deliver`, in order, until the part ends; to be called once.

        Raises:
            LengthExceeded: it is longer than a file of a form may be.
            FormMalformed · BodyCut · BodyMalformed · ServiceStopping: the form ended early.
        """
        received = 0
        while not self._over:
            piece = self._first if self._first is not None else await self._next()
            self._first = None
            if piece is None:
                self._over = True
                break
            most = self._form.rules.max_bytes
            if received + len(piece) > most:
                raise LengthExceeded(most, self.filename)
            room = len(piece) if limit is None else limit - received
            await handed_over(deliver, piece[:room])
            if len(piece) > room:
                return BodyEnd.LIMIT
            received += len(piece)
        return BodyEnd.COMPLETE

    def stop(self) -> None:
        """Make `receive` end early: whoever ends a file of a form ends the form."""
        self._form.stop()

    async def _next(self) -> bytes | bytearray | None:
        piece = await self._form.next_event()
        assert not isinstance(piece, MultipartSegment)
        return piece


def _file_of(segment: MultipartSegment, form: Form) -> FormFile | None:
    """Return the file that a part is; None for a field without a file name.

    Raises:
        InvalidRequest: its name cannot be read.
        MediaTypeRefused: it is encoded; its bytes are not the file's.
        FormMalformed: it has parts of its own, of which each might be a file.
    """
    name = read_extended_filename(segment.header("Content-Disposition", "")) or segment.filename
    kind = segment.header("Content-Type", "").strip().lower()
    if name is None and kind.startswith("multipart/"):  # until RFC 7578 a field's files could stand in one
        raise FormMalformed("a part has parts of its own; send each file in a part of the form")
    if name is None:
        return None
    coding = segment.header("Content-Transfer-Encoding", "").strip()
    if coding.lower() not in _PLAIN:
        raise MediaTypeRefused("binary", f"{coding[:64]} (Content-Transfer-Encoding)")
    return FormFile(name, segment.charset, form)


def _malformed(error: MultipartError) -> FormMalformed:
    """Return what the parser says, without the bytes that it adds."""
    return FormMalformed(str(error.args[0]))
