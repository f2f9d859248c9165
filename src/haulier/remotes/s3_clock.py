"""Signatures by the service's clock, for a machine whose own is wrong: whoever is signed for goes by that one.

Rule 1: the service's time is believed only where it refuses, and only about what it refuses: its clock is no time for
        anything else here.
Rule 2: what a signature said is compared with the answer's `Date`, not what the clock says now; so a body that took
        an hour, and is refused then, is corrected by the next refusal.

Source: Amazon S3 API, "Authenticating requests": a request may be 15 minutes off.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from haulier.body.answers import Answer
from haulier.core.errors import PeerBusy

REFUSING: Final = frozenset({400, 403})
"""What services say to a signature of another time; in an answer to HEAD that is all that they say."""
NEAR: Final = timedelta(minutes=2)
"""What requests take, and clocks differ by, without harm."""
STAMP: Final = "%Y%m%dT%H%M%SZ"


class ClockFollowed(PeerBusy):
    """The service's clock is another than the one we signed by; from now on its is gone by."""


class ServerClock:
    """How far the clock of one service is ahead of this machine's, as far as that is known."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def follow_in(self, client: Any) -> None:
        """Let a client of botocore sign by this clock. It has no word for that; a test holds it to what this relies on."""
        signer = client._request_signer  # noqa: SLF001 - as above
        making = signer.get_auth_instance

        async def make(*arguments: Any, **options: Any) -> Any:
            auth = await making(*arguments, **options)
            auth._modify_request_before_signing = self._shifting(auth._modify_request_before_signing)  # noqa: SLF001
            return auth

        signer.get_auth_instance = make

    def _shifting(self, modify: Callable[[Any], None]) -> Callable[[Any], None]:
        def shift_and_modify(request: Any) -> None:
            here = _read_stamp(request.context["timestamp"])
            request.context["timestamp"] = (here + self.ahead).strftime(STAMP)
            modify(request)

        return shift_and_modify

    def check(self, answer: Answer, signed: str | None) -> None:
        """Raise ClockFollowed when an answer refuses what was signed at another time than its own.

        Args:
            answer: to a signed request.
            signed: the time in its signature.
        """
        if answer.status_code not in REFUSING or signed is None:
            return
        try:
            off = parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC) - _read_stamp(signed)
        except (KeyError, ValueError, TypeError, OverflowError):
            return
        if abs(off) > NEAR:
            self.ahead += off
            raise ClockFollowed(
                answer.status_code,
                f"this machine's clock is off by {abs(self.ahead)}; requests go by the service's",
            )


def signed_at(url: str) -> str | None:
    """Return the time of an address that is signed."""
    return parse_qs(urlsplit(url).query).get("X-Amz-Date", [None])[0]


def _read_stamp(text: str) -> datetime:
    return datetime.strptime(text, STAMP).replace(tzinfo=UTC)
