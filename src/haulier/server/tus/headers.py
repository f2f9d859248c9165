"""The header fields of tus, read strictly and written as the specification wants them.

Rule 1: nothing here changes anything: a field that cannot be read is refused before an upload is touched.
Rule 2: what a client calls its file is for people; what of it cannot be text is kept raw, and used for nothing.

Source: https://tus.io/protocols/resumable-upload, version 1.0.0; the sections are named where they are followed.
"""

from email.utils import formatdate
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from haulier.core.errors import InvalidRequest
from haulier.core.session import Concat, SessionId
from haulier.core.upload import MAX_PARTIALS
from haulier.core.values import dataclass
from haulier.server.access import TUS

VERSION: Final = "1.0.0"
MEDIA_TYPE: Final = "application/offset+octet-stream"
CONCAT: Final = "Upload-Concat"
_SEPARATORS: Final = frozenset(",;|")
"""What lists are written with elsewhere, the second one in this very field. Its addresses are separated by spaces."""


@dataclass(frozen=True, slots=True)
class MadeOf:
    """What `Upload-Concat` says: whether an upload is made of others, of which, or for others."""

    concat: Concat
    partials: tuple[str, ...] = ()
    """Ids as they stand in the addresses, whether there are such uploads or not."""


_ALONE: Final = MadeOf(Concat.NONE)


def read_concat(text: str | None) -> MadeOf:
    """Read `Upload-Concat`.

    Source: "Upload-Concat": `partial`, or `final;` and addresses separated by spaces, absolute or relative.

    Raises:
        InvalidRequest: it is something else, or an address is none of an upload here.
    """
    if text is None:
        return _ALONE
    kind, semicolon, listed = text.partition(";")
    if kind == Concat.PARTIAL.value and not semicolon:
        return MadeOf(Concat.PARTIAL)
    addresses = listed.split()
    if kind != Concat.FINAL.value or not addresses:
        raise InvalidRequest.of(CONCAT, "must be 'partial', or 'final;' and the URLs of partial uploads")
    if len(addresses) > MAX_PARTIALS:
        raise InvalidRequest.of(CONCAT, f"must name at most {MAX_PARTIALS} uploads")
    return MadeOf(Concat.FINAL, tuple(map(_id_in, addresses)))


def _id_in(address: str) -> SessionId:
    """Return the upload that an address names; the host is not looked at: a proxy may have another one."""
    try:
        path = urlsplit(urljoin(f"{TUS}/", address)).path
    except ValueError:
        path = ""
    folder, _, name = path.rpartition("/")
    if not name or not folder.endswith(TUS) or _is_list(address, folder.removesuffix(TUS)):
        raise InvalidRequest.of(CONCAT, f"{address[:64]!r} is no URL of an upload here")
    return SessionId(unquote(name))


def _is_list(address: str, prefix: str) -> bool:
    """Whether it was several addresses, of which one would be read.

    Of an address of ours only the folder under which a proxy shows it may have a separator, and not where another
    address could end.
    """
    if _separators(address) > _separators(prefix):
        return True
    ends_another = f"{TUS}/" in prefix or "://" in prefix or prefix[-1:] in _SEPARATORS
    return ends_another and _separators(prefix) > 0


def _separators(text: str) -> int:
    return sum(map(text.count, _SEPARATORS))


def imf_date(time: float) -> str:
    """Return a time as HTTP writes it, rounded down. Source: RFC 9110 section 5.6.7."""
    return formatdate(int(time), usegmt=True)
