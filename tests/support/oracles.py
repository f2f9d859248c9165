"""What must hold for every text a parser may ever get; Hypothesis and the fuzzer ask the same questions.

Each `check_...` takes any text, lets the parser refuse it with the one error it promises, and asserts that
whatever it takes is safe. Every other exception is a bug and comes out.
"""

import asyncio
import base64
import math
import re
import unicodedata
import zlib
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from haulier.core.digest import (
    Digest,
    DigestName,
    format_digest_field,
    new_hasher,
    parse_digest_field,
    parse_digest_name,
    parse_want_digest,
)
from haulier.core.errors import DigestMalformed, InvalidRequest, LengthExceeded, Unauthenticated
from haulier.core.ingestion import IngestionRules
from haulier.core.retry import MAX_RETRY_AFTER_S, parse_retry_after
from haulier.core.session import Concat
from haulier.core.upload import (
    MAX_PARTIALS,
    check_content_type,
    check_filename,
    check_key,
    check_metadata,
    check_path,
)
from haulier.server.bearer import bearer_token
from haulier.server.content import Span, choose_span
from haulier.server.errors import FormMalformed, HostRefused, RangeNotSatisfiable
from haulier.server.forms import Form
from haulier.server.hosts import HostRules
from haulier.server.http.asgi import AsgiBody
from haulier.server.metadata import describe, read_metadata
from haulier.server.proxies import TrustedProxies
from haulier.server.records import read_cursor, write_cursor
from haulier.server.tus.checksums import read_checksum
from haulier.server.tus.headers import read_concat
from haulier.soulseek.codec import MalformedMessage, Table
from haulier.soulseek.messages import FROM_SERVER, INIT, TO_SERVER
from haulier.soulseek.peer_messages import TO_PEER, FolderAnswer, SearchAnswer, ShareList
from haulier.soulseek.protocol import Event, Frames, Unreadable

VALUED = sorted(set(DigestName) - {DigestName.NONE})
"""Digests that have a value."""
LENGTHS = {name: len(new_hasher(name).digest()) for name in VALUED}

# Written out again, and differently from the source: two spellings of one rule rarely share a mistake.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)  # controls, line breaks, bidi overrides and isolates, lone surrogates
_LONGEST_REFUSAL = 1000
"""Characters. A refusal goes into an answer and a log line: of its input it shows 80 characters at most, each
of which may be written as an escape of 10."""


def _require_short(error: Exception) -> None:
    assert len(str(error)) <= _LONGEST_REFUSAL, len(str(error))


def check_forms(text: str) -> None:
    """Bodies of forms, whatever their pieces: read or refused, and the files are the same however they were cut."""
    data = b"--b\r\n" + text.encode("utf-8", "surrogateescape")
    assert _form_of(data, len(data)) == _form_of(data, 3)


def _form_of(data: bytes, size: int) -> list[tuple[str, bytes]] | None:
    """Return the files of a form that comes in pieces of that size; None when it is refused."""
    pieces = iter([data[at : at + size] for at in range(0, len(data), size)])

    async def receive() -> dict[str, Any]:
        piece = next(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def read() -> list[tuple[str, bytes]]:
        files = []
        async for file in form.files():
            content = bytearray()
            await file.receive(content.extend)
            files.append((file.filename, bytes(content)))
        return files

    body = AsgiBody({"headers": [(b"transfer-encoding", b"chunked")]}, receive)
    form = Form(body, "b", IngestionRules(max_bytes=1000, max_files=3))
    try:
        return asyncio.run(read())
    except (FormMalformed, LengthExceeded):
        return None


def check_digest_field(text: str) -> None:
    """`Content-Digest`, `Repr-Digest`: whole digests, each name once, and they survive being written."""
    try:
        digests = parse_digest_field("Repr-Digest", text)
    except DigestMalformed as error:
        _require_short(error)
        return
    assert len({digest.name for digest in digests}) == len(digests)
    for digest in digests:
        assert len(digest.value) == LENGTHS[digest.name]
    written = ", ".join(map(format_digest_field, digests))
    assert parse_digest_field("Repr-Digest", written) == digests


def check_want_digest(text: str) -> None:
    """`Want-Repr-Digest`: names that have a value, each once."""
    try:
        wanted = parse_want_digest("Want-Repr-Digest", text)
    except DigestMalformed as error:
        _require_short(error)
        return
    assert len(set(wanted)) == len(wanted)
    assert set(wanted) <= set(VALUED)


def check_digest_name(text: str) -> None:
    """A name is ASCII and ours; hex is exactly the digest's."""
    try:
        name = parse_digest_name(text, field="digest")
        assert text.lower() == name
        assert text.isascii()
    except DigestMalformed as error:
        _require_short(error)
    for name in DigestName:
        try:
            digest = Digest.from_hex(name, text, field="digest")
        except DigestMalformed as error:
            _require_short(error)
        else:
            assert digest.hex == text.lower()
            assert len(digest.value) == LENGTHS[name]


def check_names(text: str) -> None:
    """A file name or path that is taken can be shown, logged, sent in a header and cut at its slashes."""
    if not [*check_filename(text)]:
        assert 1 <= len(text.encode()) <= 255
        assert text not in {".", ".."}
        assert not set(text) & set("/\\")
        assert _UNSAFE.search(text) is None
    if not [*check_path(text)]:
        assert 1 <= len(text.encode()) <= 4096
        assert "\\" not in text
        assert not set(text.split("/")) & {"", ".", ".."}
        assert _UNSAFE.search(text) is None
        assert unicodedata.normalize("NFC", text) == text
    for problem in (*check_filename(text), *check_path(text)):
        assert len(problem.reason) <= _LONGEST_REFUSAL


def check_media_type(text: str) -> None:
    """A media type that is taken is one line of ASCII with a type and a subtype."""
    if [*check_content_type(text)]:
        return
    assert 3 <= len(text) <= 255
    assert text.isascii()
    assert text.replace("\t", " ").isprintable()
    essence = text.partition(";")[0].rstrip(" \t")
    assert re.fullmatch(r"[!-~]+/[!-~]+", essence)
    assert essence.count("/") == 1


def check_free_text(text: str) -> None:
    """Metadata that is taken can be stored; an idempotency key that is taken can be a header."""
    for metadata in ({"key": text}, {text: "value"}):
        if not [*check_metadata(metadata)]:
            assert "\0" not in text
            assert len(text.encode()) <= 16 * 1024
    if not [*check_key(text)]:
        assert re.fullmatch(r"[ -~]{1,255}", text)


def check_retry_after(text: str) -> None:
    """`Retry-After` is a wait within bounds, whatever the other side says."""
    for date in (None, text, "Sun, 22 Nov 2026 10:00:00 GMT"):
        assert 0.0 <= parse_retry_after(text, date=date) <= MAX_RETRY_AFTER_S
    assert 0.0 <= parse_retry_after("Sun, 22 Nov 2026 10:00:00 GMT", date=text) <= MAX_RETRY_AFTER_S


def check_byte_range(text: str) -> None:
    """`Range` gives bytes that are there, or all of them, or an error that names the size."""
    for size in (0, 1, 1000, 2**63 - 1):
        span = _span(size, text)
        if span.partial:
            assert 0 <= span.start < span.stop <= size
        else:
            assert span == Span(0, size, size, partial=False)


def _span(size: int, text: str) -> Span:
    try:
        return choose_span(size, text, if_range=None, tag='"t"')
    except RangeNotSatisfiable as error:
        return Span(0, error.size, error.size, partial=False)


def check_cursor(text: str) -> None:
    """A cursor that is taken is a time and an id that a database can compare."""
    try:
        created_at, record_id = read_cursor(text)
    except InvalidRequest as error:
        _require_short(error)
        return
    assert math.isfinite(created_at)
    record_id.encode()
    assert "\0" not in record_id
    assert read_cursor(write_cursor((created_at, record_id))) == (created_at, record_id)


def _request(*fields: tuple[bytes, str]) -> dict[str, Any]:
    headers = [(name, text.encode("utf-8", "surrogatepass")) for name, text in fields]
    return {
        "type": "http",
        "scheme": "http",
        "path": "/",
        "headers": headers,
        "server": ("127.0.0.1", 8000),
        "client": ("10.0.0.1", 1),
    }


def _require_quotable(error: Unauthenticated) -> None:
    assert error.given
    assert error.reason.isascii()
    assert '"' not in error.reason
    assert len(error.reason) < 200


def check_authorization(text: str) -> None:
    """A token that is read is one short ASCII word; a refusal can stand between quotes in a header."""
    try:
        token = bearer_token(_request((b"authorization", text)))
    except Unauthenticated as error:
        _require_quotable(error)
        return
    said = text.strip(" \t")  # white space around a field's value is no part of it
    assert said.lower().startswith("bearer ")
    assert said.endswith(token)
    assert 0 < len(token) < 512
    assert token.isascii()
    assert token.isprintable()
    assert not set(' "\\,;') & set(token)


def check_forwarded(text: str) -> None:
    """What a trusted proxy says is an address, a scheme that we speak and a name, or nothing; no proxy of ours is the
    client while another address is named behind it.
    """
    proxies = TrustedProxies.of(["10.0.0.0/8"])
    for fields in (
        [(b"forwarded", text)],
        [(b"x-forwarded-for", text)],
        [(b"x-forwarded-for", "192.0.2.1"), (b"x-forwarded-proto", text), (b"x-forwarded-host", text)],
        [(b"x-forwarded-for", text), (b"forwarded", text)],
    ):
        hop = proxies.resolve(_request(*fields))
        if hop is not None:
            assert str(ip_address(hop.client)) == hop.client
            assert hop.scheme in {None, "http", "https"}
            assert hop.host is None or "," not in hop.host  # the guard judges the name


def check_host(text: str) -> None:
    """Only the names that were given are ours, however they are written."""
    rules = HostRules(given=frozenset({("files.example", None), ("b", 80)}), addresses=True, cure="")
    try:
        rules.require(_request((b"host", text)))
    except HostRefused:
        return
    # White space around a field's value is no part of it.
    named = text.strip(" \t").lower()
    assert re.fullmatch(r"files\.example(:[0-9]{1,5})?|b:0*80|(127\.0\.0\.1|\[::1\]|localhost):0*8000", named)


def check_soulseek_frames(text: str) -> None:
    """Whatever a peer or server sends: messages that can be written again, or one refusal; all is bounded."""
    data = text.encode("latin-1", "replace")
    for table in (FROM_SERVER, TO_SERVER, INIT, TO_PEER):
        frames = Frames(table, table)
        for at in range(0, len(data), 7):
            frames.receive_data(data[at : at + 7])
            for event in frames.events():
                _require_readable(table, event)
            assert len(frames._buffer) <= len(data)
        if frames.fault is not None:
            _require_short(frames.fault)
            assert len(frames._buffer) == 0


def _require_readable(table: Table, event: Event) -> None:
    if isinstance(event, Unreadable):
        assert event.code in table
        return
    written = table.encode(event)
    again = Frames(table, table)
    again.receive_data(written)
    assert list(again.events()) == [event]


def check_soulseek_packed(text: str) -> None:
    """Whatever is in a compressed message: its content, or one refusal."""
    data = text.encode("latin-1", "replace")
    for packed in (data, zlib.compress(data)):
        for unpack in (SearchAnswer(packed).unpack, FolderAnswer(packed).unpack, ShareList(packed).folders):
            try:
                content = unpack()
                list(content) if isinstance(content, Iterator) else None
            except MalformedMessage as error:
                _require_short(error)


def check_tus_metadata(text: str) -> None:
    """`Upload-Metadata`: unique keys with bytes, which come back when they are written; what is told of the file is text."""
    try:
        metadata = read_metadata(text)
    except InvalidRequest as error:
        _require_short(error)
        return
    assert all(key and not set(key) & {" ", ","} for key in metadata)
    written = ",".join(f"{key} {base64.b64encode(value).decode()}" for key, value in metadata.items())
    assert read_metadata(written) == metadata
    described = describe(metadata)
    assert described.filename
    for told in (described.filename, described.path or "", *described.texts.values()):
        told.encode()
        assert "\0" not in told
    if described.content_type is not None:
        assert not [*check_content_type(described.content_type)]


def check_tus_concat(text: str) -> None:
    """`Upload-Concat`: nothing, or one to a thousand names in which no address is left."""
    try:
        made_of = read_concat(text)
    except InvalidRequest as error:
        _require_short(error)
        return
    if made_of.concat is Concat.PARTIAL:
        assert text == "partial"
    else:
        assert text.startswith("final;")
        assert 1 <= len(made_of.partials) <= MAX_PARTIALS
        assert len(made_of.partials) == len(text[6:].split())
        assert all(made_of.partials)


def check_tus_checksum(text: str) -> None:
    """`Upload-Checksum`: the bytes of an algorithm of lower case."""
    try:
        checksum = read_checksum(text)
    except InvalidRequest as error:
        _require_short(error)
        return
    lengths = {"sha1": 20, "sha256": 32, "sha512": 64, "md5": 16, "crc32": 4}
    assert len(checksum.value) == lengths[checksum.algorithm]
    written = f"{checksum.algorithm} {base64.b64encode(checksum.value).decode()}"
    assert read_checksum(written) == checksum
