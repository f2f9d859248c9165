"""What a request brings: JSON read strictly, and the headers that describe raw bytes.

Rule 1: a JSON body is read only under its own media type: a web page can send forms and plain text to
        anybody without asking, JSON it cannot.
Rule 2: a body that is not the whole and plain representation is refused, never stored as if it were.
"""

from collections.abc import Collection
from typing import Final, TypeVar
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from haulier.core.digest import Digest, DigestName, format_digest_field, parse_digest_field, parse_want_digest
from haulier.core.errors import BodyCut, BodyMalformed, InvalidRequest, LengthExceeded
from haulier.core.quantity import MIB
from haulier.core.upload import MAX_SIZE
from haulier.ports import Body, BodyEnd
from haulier.server.addresses import Fields, header, joined
from haulier.server.errors import MediaTypeRefused
from haulier.server.http.asgi import open_body
from haulier.server.problems import field_problems

MAX_JSON: Final = MIB
"""Bytes. Metadata of 16 KiB and a path of 4 KiB, each byte escaped six-fold, fit eight times."""

M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request, model: type[M], *, silence_s: float, empty: M | None = None) -> M:
    """Read a JSON body.

    Args:
        request: whose body nobody has read.
        model: what it must be.
        silence_s: how long the body may be silent.
        empty: what no body at all means; None: there must be one.

    Raises:
        MediaTypeRefused: it does not say that it is JSON.
        LengthExceeded: longer than any valid one.
        InvalidRequest: not JSON, or not what `model` wants.
        BodyCut · BodyMalformed: it ended early.
    """
    body = open_body(request.scope, request.receive, silence_s=silence_s)
    if empty is not None and body.length == 0:
        return empty
    media_type = header(request.scope, b"content-type")
    if media_type is None or media_type.partition(";")[0].strip().lower() != "application/json":
        raise MediaTypeRefused("application/json", media_type)
    if body.length is not None and body.length > MAX_JSON:
        raise LengthExceeded(MAX_JSON)
    text = bytearray()
    end = await body.receive(text.extend, limit=MAX_JSON)
    if end is BodyEnd.LIMIT:
        raise LengthExceeded(MAX_JSON)
    if end is not BodyEnd.COMPLETE:
        raise BodyMalformed(len(text)) if end is BodyEnd.MALFORMED else BodyCut(len(text))
    try:
        return model.model_validate_json(bytes(text))
    except ValidationError as error:
        problems = field_problems(error.errors(include_url=False, include_input=False, include_context=False))
        raise InvalidRequest(tuple(problems)) from None


def require_plain_body(fields: Fields) -> None:
    """Refuse a body that is encoded or a part of something.

    Source: RFC 9110 section 14.5 (a PUT with Content-Range stores nonsense where it is ignored) and
    section 8.4 (415 for a content coding that is not understood).

    Raises:
        InvalidRequest: it has a Content-Range, as `curl -C` sends it.
        MediaTypeRefused: it has a Content-Encoding.
    """
    if b"content-range" in fields:
        raise InvalidRequest.of("Content-Range", "must not be sent; continue with PATCH and Upload-Offset")
    coding = joined(fields, b"content-encoding")
    if coding is not None and coding.strip().lower() != "identity":
        raise MediaTypeRefused("identity", f"{coding[:64]} (Content-Encoding)")


async def is_empty(body: Body) -> bool:
    """Whether a body that nobody has read brings nothing; one of unknown length is looked at, so it is read then."""
    if body.length is not None:
        return body.length == 0
    return await body.receive(_leave, limit=0) is not BodyEnd.LIMIT


def _leave(_piece: object) -> None:
    """Take nothing."""


def body_digests(fields: Fields) -> tuple[Digest, ...]:
    """Return what `Content-Digest` says about this body. Raises DigestMalformed."""
    text = joined(fields, b"content-digest")
    return () if text is None else parse_digest_field("Content-Digest", text)


def file_digests(fields: Fields) -> tuple[Digest, ...]:
    """Return what `Repr-Digest` says about the whole file. Raises DigestMalformed."""
    text = joined(fields, b"repr-digest")
    return () if text is None else parse_digest_field("Repr-Digest", text)


def split_promises(
    promised: Collection[Digest], name: DigestName | None, *, default: DigestName
) -> tuple[Digest | None, tuple[Digest, ...]]:
    """Choose the digest that a whole upload is judged by; the others are to be judged otherwise, or refused.

    Args:
        promised: all that the whole file must have.
        name: of the digest that its sender wants to be computed, if it says so.
        default: the one that is computed otherwise.
    """
    if not promised:
        return None, ()
    ordered = sorted(set(promised), key=lambda digest: (digest.name != (name or default), digest.name))
    if ordered and name in {None, ordered[0].name}:
        return ordered[0], tuple(ordered[1:])
    return None, tuple(ordered)


def wanted_digests(fields: Fields) -> tuple[DigestName, ...]:
    """Return what `Want-Repr-Digest` asks for. Raises DigestMalformed."""
    text = joined(fields, b"want-repr-digest")
    return () if text is None else parse_want_digest("Want-Repr-Digest", text)


def digest_header(digest: Digest | None, wanted: tuple[DigestName, ...]) -> dict[str, str]:
    """Return `Repr-Digest` where the digest that we have is one that is wanted."""
    if digest is None or digest.name not in wanted:
        return {}
    return {"Repr-Digest": format_digest_field(digest)}


def whole_number(text: str | None, *, field: str) -> int:
    """Read a non-negative decimal number.

    Raises:
        InvalidRequest: missing, not decimal, or beyond 2^63 - 1.
    """
    if text is None or not text.isascii() or not text.isdigit() or len(text) > len(str(MAX_SIZE)):
        raise InvalidRequest.of(field, "must be a non-negative decimal number")
    if int(text) > MAX_SIZE:
        raise InvalidRequest.of(field, f"must be at most {MAX_SIZE}")
    return int(text)


def last_segment(request: Request, prefix: str, *, field: str) -> str:
    """Return what follows `prefix` in the path, percent-decoded.

    Raises:
        InvalidRequest: the bytes are not UTF-8. (Frameworks replace them, and two names become one.)
    """
    raw: bytes | None = request.scope.get("raw_path")
    if raw is None:
        return str(request.scope["path"]).partition(prefix)[2]
    try:
        return unquote_to_bytes(raw.partition(prefix.encode("ascii"))[2]).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest.of(field, "must be percent-encoded UTF-8") from None
