"""What an answer means for whoever sends: which statuses pass, which need somebody, which are final.

Rule 1: every remote has its own table; what it does not name is final. What is listed in a table is the whole
        truth about retrying: nobody decides it elsewhere.
Rule 2: no address of a request is told: it may be a secret. The remote's own words are, up to a bound.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote_plus, urljoin, urlsplit

from haulier.body.answers import Answer
from haulier.body.connections import Origin
from haulier.core.errors import (
    InvalidRequest,
    PeerBlocked,
    PeerBusy,
    PeerError,
    PeerRefused,
    PeerUnreadable,
    RemoteSessionLost,
)
from haulier.core.retry import parse_retry_after
from haulier.core.transfer import Obstacle
from haulier.core.values import dataclass

T = TypeVar("T")

PASSING: Final = frozenset({408, 409, 423, 425, 429, 500, 502, 503, 504, 509})
"""Statuses that pass by themselves; 409, because the remote is asked where it stands before the next try."""
OBSTACLES: Final[Mapping[int, Obstacle]] = {401: Obstacle.AUTH, 507: Obstacle.QUOTA}
"""Statuses after which somebody has to act."""
MAX_DETAIL: Final = 500
"""Characters of the remote's own words that are kept."""
LEAST_SECRET: Final = 6
"""Characters of a word of an address that may be a secret; shorter ones are numbers and names, which words are full of."""
LEAST_SEGMENT: Final = 16
"""Characters of a part of a path that may be a secret; shorter ones are names, or words such as `finish`."""
OWN_VALUES: Final = frozenset(
    {"@microsoft.graph.conflictbehavior", "x-id", "x-amz-algorithm", "x-amz-expires", "x-amz-signedheaders"}
)
"""Names in the query of an address, in lower case, whose values are words of ours and no secrets."""

_XML_FIELD: Final = re.compile(r"<(Code|Message)>([^<]*)</\1>")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryTable:
    """One remote's way of telling what passes."""

    passing: frozenset[int] = PASSING
    obstacles: Mapping[int, Obstacle] = field(default_factory=lambda: dict(OBSTACLES))
    lost: frozenset[int] = frozenset()
    """Statuses that mean that the session is gone, where one was asked for."""
    passing_slugs: frozenset[str] = frozenset()
    """Names of problems that pass, whatever their status."""
    obstacle_slugs: Mapping[str, Obstacle] = field(default_factory=dict)
    lost_slugs: frozenset[str] = frozenset()
    """Names of problems that mean that the session is gone, whatever their status."""
    told_apart: frozenset[str] = frozenset()
    """Names of other problems that whoever asked knows."""

    def failure(self, answer: Answer, *, of_session: bool, secrets: Collection[str] = ()) -> PeerError:
        """Return the error that an answer tells.

        Args:
            answer: any that is not the hoped-for one.
            of_session: whether the request was about a session, so that it may be what is gone.
            secrets: what its words are not told with, in whatever way they are written there: servers like to repeat the
                address that they were asked at, and what they were shown.
        """
        slug, detail = read_problem(answer, secrets, known=self._slugs())
        told = Told(answer.status_code, slug, detail, retry_after(answer))
        return self.error_of(told, of_session=of_session)

    def _slugs(self) -> Collection[str]:
        return self.passing_slugs | self.lost_slugs | self.told_apart | self.obstacle_slugs.keys()

    def error_of(self, told: "Told", *, of_session: bool) -> PeerError:
        """Return the error that is told, in whatever words."""
        known = f"{told.detail} ({told.slug}, {told.status})"
        if of_session and (told.slug in self.lost_slugs or told.status in self.lost):
            return RemoteSessionLost(known)
        obstacle = self.obstacle_slugs.get(told.slug) or self.obstacles.get(told.status)
        if obstacle is not None:
            return PeerBlocked(obstacle, known)
        if told.slug in self.passing_slugs or self.passes(told.status):
            return PeerBusy(told.status, f"{told.detail} ({told.slug})", told.retry_after_s)
        return PeerRefused(told.status, told.slug, told.detail)

    def passes(self, status: int) -> bool:
        """Whether a status passes by itself; a server's error that has no name is what 500 is.

        Source: RFC 9110 section 15.
        """
        return status in self.passing or (
            500 <= status < 600 and 500 in self.passing and _phrase(status) is None
        )


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says, whoever has read it."""

    status: int
    slug: str
    detail: str
    retry_after_s: float = 0.0


def retry_after(answer: Answer) -> float:
    """Return the seconds that an answer asks us to wait; 0 when it does not say."""
    return parse_retry_after(answer.headers.get("Retry-After"), date=answer.headers.get("Date"))


def redirected(status: int, host: str, location: str) -> PeerRefused:
    """Return the error of an answer that names another address; of it only the host is told (rule 2).

    Args:
        status: of the answer.
        host: the remote's, as it was set up.
        location: the other address, whole or relative.
    """
    try:
        other = str(Origin.of(urlsplit(urljoin(f"{host}/", location)), proxied=False))
    except (ValueError, InvalidRequest):
        other = host
    where = "to another address there" if other == host else f"to {other}"
    return PeerRefused(
        status,
        "redirected",
        f"{host} sends us on {where}, and credentials follow no redirect; "
        "if that is right, set the remote up with that address (haulier remote add)",
    )


def read_json(answer: Answer, read: Callable[[dict[str, Any]], T]) -> T:
    """Return what `read` makes of the JSON object in an answer.

    Raises:
        PeerUnreadable: it is none, or `read` misses something in it; the answer itself is not told.
    """
    try:
        text = answer.text
        document = json.loads(text)
        if not isinstance(document, dict):
            raise TypeError("it is no JSON object")
        if "\\u" in text:
            # Half a character is no text, and nothing could be asked, or kept, with it. Raises ValueError.
            json.dumps(document, ensure_ascii=False).encode()
        return read(document)
    except KeyError as error:
        raise PeerUnreadable(answer.status_code, f"the answer has no {error}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise PeerUnreadable(answer.status_code, "the answer is not what was asked for") from error


def secrets_in(url: str, credentials: Iterable[str] = (), *, hides_path: bool = False) -> Collection[str]:
    """Return what is secret of a request.

    Args:
        url: its address, of which the query is.
        credentials: what its headers show.
        hides_path: whether the path is, too: whoever knows the address of a session needs nothing else.
    """
    parts = urlsplit(url)
    pairs = [pair.partition("=") for pair in parts.query.split("&")]
    values = [value or name for name, _, value in pairs if unquote_plus(name).lower() not in OWN_VALUES]
    words = [word for shown in credentials for word in (shown, shown.rpartition(" ")[2])]
    found = {each for each in (*values, *words) if len(each) >= LEAST_SECRET} | {parts.query}
    if hides_path:
        segments = {each for each in parts.path.split("/") if len(each) >= LEAST_SEGMENT}
        found |= {url, *segments} | ({parts.path} if len(parts.path) >= LEAST_SECRET else set())
    return found - {""}


def _without(secrets: Collection[str], text: str) -> str:
    forms = {form for secret in secrets for form in _forms(secret)}
    if not forms:
        return text
    # The longest first: a shorter one may be a part of it. Percent-encoding knows no case.
    anyone = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    return re.sub(anyone, "***", text, flags=re.IGNORECASE)


def _forms(secret: str) -> set[str]:
    """Return the ways in which servers write it: as it was sent, decoded, encoded as a whole, or for HTML."""
    from html import escape  # noqa: PLC0415 - a table, as below

    plain = unquote_plus(secret)
    return {secret, plain, quote(plain, safe=""), escape(plain), escape(secret)}


def read_problem(
    answer: Answer, secrets: Collection[str] = (), *, known: Collection[str] = ()
) -> tuple[str, str]:
    """Return the name of the problem that an answer tells, and its words, without secrets. Known names are none.

    Read are RFC 9457's problem details, the errors of Microsoft Graph and of S3, and plain text.
    """
    status = answer.status_code
    text = answer.text[:65_536]
    slug, detail = _read_json(text, known) if text.lstrip().startswith("{") else _read_xml(text)
    if not detail and text and not text.lstrip().startswith(("{", "<")):
        detail = text
    told = detail or _phrase(status) or "an answer without a name"
    # Before it is cut: a half of a secret is one, too.
    name = slug if slug in known else _without(secrets, slug)
    return name or f"http-{status}", _one_line(_without(secrets, told))


def _read_json(text: str, known: Collection[str]) -> tuple[str, str]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return "", ""
    error = document.get("error")
    if isinstance(error, dict):  # Microsoft Graph
        return _read_code(error, known), str(error.get("message") or "")
    kind = str(document.get("type") or "")
    slug = kind.rsplit("/", 1)[-1] if "/" in kind else ""
    return slug, str(document.get("detail") or document.get("title") or "")


def _read_code(error: Mapping[str, Any], known: Collection[str]) -> str:
    """Return the most exact code that is known; where none is, the one that is told first.

    Source: Microsoft Graph documentation, "Error response resource type": `innererror` has more specific ones, and may be nested.
    """
    codes: list[str] = []
    within: object = error
    while isinstance(within, dict):
        codes.append(str(within.get("code") or ""))
        within = within.get("innererror") or within.get("innerError")
    return next((code for code in reversed(codes) if code in known), codes[0])


def _read_xml(text: str) -> tuple[str, str]:
    found = dict(_XML_FIELD.findall(text))
    return found.get("Code", ""), found.get("Message", "")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MAX_DETAIL]


def _phrase(status: int) -> str | None:
    """Return what a status is called; None where it has no name."""
    from http import HTTPStatus  # noqa: PLC0415 - a table that no push needs whose answers are the hoped-for ones

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return None
