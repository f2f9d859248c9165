"""What a request of a resumable upload brings: its body, and what it says of it and of the file, read and checked.

Nothing here touches an upload: a request that is refused here has changed nothing.
"""

from typing import Final

from starlette.requests import Request

from haulier.core.digest import Digest, DigestName, new_hasher, parse_digest_name
from haulier.core.errors import DigestMalformed, LengthInconsistent
from haulier.core.session import Mode
from haulier.core.upload import BeginUpload, check_filename, require_valid
from haulier.core.values import dataclass, replace
from haulier.ports import Body
from haulier.server.access import RESUMABLE
from haulier.server.addresses import fields_of, header
from haulier.server.bodies import (
    body_digests,
    file_digests,
    is_empty,
    last_segment,
    require_plain_body,
    split_promises,
)
from haulier.server.disposition import read_filename
from haulier.server.errors import MediaTypeRefused
from haulier.server.http.asgi import open_body
from haulier.server.inputs import idempotency_key, query_of
from haulier.server.metadata import UNNAMED, Described, describe, read_metadata
from haulier.server.resumable.fields import read_integer
from haulier.server.resumable.versions import MEDIA_TYPE, Version

PROTOCOL: Final = "resumable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A request that brings bytes, read and checked except for its body."""

    request: Request
    version: Version
    body: Body
    offset: int
    complete: bool
    """Whether the last byte of the upload is in it, by its sender's word."""
    length: int | None
    """Of the whole upload, likewise."""
    digests: tuple[Digest, ...]
    """What this body must have."""

    @classmethod
    def read(
        cls, request: Request, version: Version, *, offset: int, complete: bool, silence_s: float
    ) -> "Delivery":
        """Read what is said about a body, which may be silent for `silence_s` seconds at most.

        Raises:
            InvalidRequest · MediaTypeRefused · DigestMalformed · LengthInconsistent
        """
        require_plain_body(fields_of(request.scope))
        body = open_body(request.scope, request.receive, silence_s=silence_s)
        return cls(
            request=request,
            version=version,
            body=body,
            offset=offset,
            complete=complete,
            length=_told_length(request, body, offset, complete=complete),
            digests=body_digests(fields_of(request.scope)),
        )

    @property
    def empty(self) -> bool:
        """Whether it brings nothing."""
        return self.body.length == 0

    def judged_by(self, others: tuple[Digest, ...]) -> "Delivery":
        """Let the body be judged by what else the file must have: that is one thing where it is the whole file.

        Raises:
            DigestMalformed: it is a part, of which nobody could say later whether the rest kept that promise.
        """
        if others and not (self.complete and self.offset == 0):
            reason = "must be one digest, the one that is computed, for an upload in several requests"
            raise DigestMalformed("Repr-Digest", reason)
        return replace(self, digests=(*self.digests, *others))

    async def require_empty(self) -> None:
        """Check the body of an upload that is complete before it has come.

        Raises:
            LengthInconsistent · DigestMismatch
        """
        if not await is_empty(self.body):
            raise LengthInconsistent(0, self.body.length or 1)
        for digest in self.digests:
            digest.require(new_hasher(digest.name).digest())


def read_creation(
    request: Request, length: int | None, *, default: DigestName
) -> tuple[BeginUpload, tuple[Digest, ...]]:
    """Return what a creation asks for, and what else its file must have than the digest that is computed.

    Args:
        request: the creation.
        length: of the whole upload, where it is known.
        default: the digest that is computed when none is named.

    Raises:
        InvalidRequest · DigestMalformed
    """
    query = query_of(request)
    described = _described(request)
    named = query.get("digest")
    name = None if named is None else parse_digest_name(named, field="digest")
    expected, others = split_promises(file_digests(fields_of(request.scope)), name, default=default)
    begin = BeginUpload(
        filename=described.filename,
        # An empty file has no last byte whose sender could be waited for.
        size=length,
        ends_by_word=length != 0,
        mode=Mode.APPEND,
        capsule=query.get("capsule", "default"),
        path=query.get("path", described.path),
        content_type=described.content_type,
        metadata=described.texts,
        raw_metadata=header(request.scope, b"upload-metadata"),
        digest_name=name,
        expected=expected,
        key=idempotency_key(fields_of(request.scope)),
        protocol=PROTOCOL,
    )
    return begin, others


def require_media_type(request: Request, version: Version) -> None:
    """Check that an append is one by its media type, where the version wants that. Raises MediaTypeRefused."""
    media_type = header(request.scope, b"content-type")
    if version.media_type not in {None, _essence(media_type)}:
        raise MediaTypeRefused(version.media_type or "", media_type)


def _essence(media_type: str | None) -> str:
    """Return a media type without its parameters."""
    return (media_type or "").partition(";")[0].strip().lower()


def _described(request: Request) -> Described:
    """Return what is said about the file: by the address, by `Content-Disposition`, or by tus' metadata.

    Raises:
        InvalidRequest
    """
    told = describe(read_metadata(header(request.scope, b"upload-metadata")))
    in_address = ""
    if request.method == "PUT":
        in_address = last_segment(request, f"{RESUMABLE}/", field="filename")
    in_query = query_of(request).get("filename")
    in_field = read_filename(header(request.scope, b"content-disposition"))
    named = None if told.filename == UNNAMED else told.filename
    filename = in_address or in_query or in_field or named or UNNAMED
    require_valid(check_filename(filename))
    content_type = header(request.scope, b"content-type")
    if _essence(content_type) == MEDIA_TYPE:  # of the request, not of the file
        content_type = None
    return Described(
        filename=filename,
        path=told.path,
        content_type=told.content_type or content_type,
        texts=told.texts,
    )


def _told_length(request: Request, body: Body, offset: int, *, complete: bool) -> int | None:
    """Return how long the upload will be, by the word of this request; None when it does not say.

    Source: "Length": where a request says it twice, both MUST match.

    Raises:
        LengthInconsistent
    """
    said = read_integer(header(request.scope, b"upload-length"))
    counted = offset + body.length if complete and body.length is not None else None
    if said is not None and counted is not None and said != counted:
        raise LengthInconsistent(said, counted)
    return counted if said is None else said
