"""The interop versions of the IETF's drafts, and all in which they differ.

Rule 1: whoever needs to know what a version does reads `VERSIONS`; nothing else compares numbers.
Rule 2: who names no version, or one that is not here, is answered as by the newest, and gets no 104: "Server
        implementations MUST NOT send a 104 (Upload Resumption Supported) informational response when the interop version
        [...] is missing or mismatching".

Source: draft-ietf-httpbis-resumable-upload-01 (version 3), -02 (4), -03 (5), -04 and -05 (6), -06 to -08 (7), from -09
on (8), section "Draft Version Identification".
"""

from collections.abc import Mapping
from typing import Final

from starlette.types import Scope

from haulier.core.errors import InvalidRequest
from haulier.core.values import dataclass
from haulier.server.addresses import header
from haulier.server.interim import SPOKEN, spoken_version
from haulier.server.resumable.fields import read_boolean

MEDIA_TYPE: Final = "application/partial-upload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What one interop version of the draft wants."""

    dialect: str
    """How problems are told; see `haulier.server.problems`."""
    completeness: str = "Upload-Complete"
    """The field that says whether this was all."""
    means_incomplete: bool = False
    """Whether its truth is that something is missing."""
    complete_unless_said: bool = False
    """Whether an append that does not say is the last one."""
    progress: bool = True
    """Whether 104 also tells how far the upload has come."""
    media_type: str | None = MEDIA_TYPE
    """What an append must be; None: anything."""
    lifetime: str | None = "max-age"
    """The name of the remaining seconds in `Upload-Limit`; None: the version has no such field."""
    appended: int = 204
    """The status of an append that was not the last one."""
    bare_questions: bool = False
    """Whether HEAD and DELETE must be refused when they have fields about the upload's state."""
    tells_end: bool = True
    """Whether a refusal of the whole file, which has come, has the field that says that it is complete."""
    forgets: bool = False
    """Whether what ended without a result is unknown: HEAD, PATCH and DELETE are answered with 404."""

    def reads_complete(self, scope: Scope) -> bool | None:
        """Return whether a request says that it brings the last bytes; None when it does not say.

        Source: "Upload-Complete": other values MUST cause the entire header field to be ignored.
        """
        said = read_boolean(header(scope, self.completeness.lower().encode("ascii")))
        return None if said is None else said is not self.means_incomplete

    def require_complete(self, scope: Scope, *, otherwise: bool | None = None) -> bool:
        """As `reads_complete`, for a request that must say, unless there is something that its silence means.

        Raises:
            InvalidRequest: to take a part for the whole would lose the rest.
        """
        said = self.reads_complete(scope)
        said = otherwise if said is None else said
        if said is None:
            raise InvalidRequest.of(self.completeness, "must be ?0 or ?1")
        return said

    def tell_complete(self, complete: bool) -> dict[str, str]:  # noqa: FBT001 - what it tells is its name
        """Return the field that says whether the upload is complete."""
        return {self.completeness: "?1" if complete is not self.means_incomplete else "?0"}


_UNTIL_5: Final = {
    "dialect": "resumable-3",
    "complete_unless_said": True,
    "media_type": None,
    "lifetime": None,
    "appended": 201,
    "bare_questions": True,
    "tells_end": False,
    "forgets": True,
}
_BY_NUMBER: Final = {  # each has to stand in `SPOKEN`, too: a test holds them together
    3: Version(
        completeness="Upload-Incomplete",
        means_incomplete=True,
        progress=False,
        **_UNTIL_5,  # type: ignore[arg-type]  # by name, from a dictionary
    ),
    4: Version(progress=False, **_UNTIL_5),  # type: ignore[arg-type]  # the same
    5: Version(**_UNTIL_5),  # type: ignore[arg-type]  # the same
    6: Version(dialect="resumable-6", lifetime="expires"),
    7: Version(dialect="resumable-7"),
    8: Version(dialect="resumable-7"),
}
VERSIONS: Final[Mapping[int, Version]] = {number: _BY_NUMBER[number] for number in SPOKEN.values()}
NEWEST: Final = VERSIONS[max(VERSIONS)]


def version_of(scope: Scope) -> Version:
    """Return the version by which a request is answered (Rule 2)."""
    number = spoken_version(scope)
    return NEWEST if number is None else VERSIONS[number]
