"""Signatures by the service's clock, for a machine whose own is wrong: whoever is signed for goes by that one.

Rule 1: the service's time is believed only where it refuses, and only about what it refuses: its clock is no time for
        anything else here.
Rule 2: what counts is how far ahead that clock is, and how far a signature took it to be: a body that took an hour and
        is refused then says nothing, and of several that are refused together each says the same.

Source: Amazon S3 API, "Authenticating requests": a request may be 15 minutes off.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import botocore.auth

from haulier.body.answers import Answer
from haulier.core.errors import PeerBusy

REFUSING: Final = frozenset({400, 403})
"""What services say to a signature of another time; in an answer to HEAD that is all that they say."""
NEAR: Final = timedelta(minutes=2)
"""What requests take, and clocks differ by, without harm."""
MAX_NOTED: Final = 1000
"""Seconds in which something was signed that are remembered: far more than there are requests on their way."""
STAMP: Final = "%Y%m%dT%H%M%SZ"


class ClockFollowed(PeerBusy):
    """The service's clock is another than the one we signed by; from now on its is gone by."""


class ServerClock:
    """How far the clock of one service is ahead of this machine's, as far as that is known."""

    def __init__(self) -> None:
        self.ahead = timedelta()
        self._taken: dict[str, timedelta] = {}
        """How far ahead it was taken to be, by the time in a signature."""

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
            signed = (_read_stamp(request.context["timestamp"]) + self.ahead).strftime(STAMP)
            request.context["timestamp"] = signed
            self._note(signed)
            modify(request)

        return shift_and_modify

    def _note(self, signed: str) -> None:
        if len(self._taken) >= MAX_NOTED:
            del self._taken[next(iter(self._taken))]
        self._taken[signed] = self.ahead

    def check(self, answer: Answer, signed: str | None) -> None:
        """Raise ClockFollowed when an answer refuses what was signed at another time than its own.

        Args:
            answer: to a signed request.
            signed: the time in its signature.
        """
        if answer.status_code not in REFUSING or signed is None:
            return
        try:
            there = parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
        except (KeyError, ValueError, TypeError, OverflowError):
            return
        here = botocore.auth.get_current_datetime(remove_tzinfo=False).replace(microsecond=0)
        if abs(there - here - self._taken.get(signed, self.ahead)) > NEAR:
            self.ahead = there - here
            raise ClockFollowed(
                answer.status_code,
                f"this machine's clock is off by {abs(self.ahead)}; requests go by the service's",
            )


def signed_at(url: str) -> str | None:
    """Return the time of an address that is signed."""
    return parse_qs(urlsplit(url).query).get("X-Amz-Date", [None])[0]


def _read_stamp(text: str) -> datetime:
    return datetime.strptime(text, STAMP).replace(tzinfo=UTC)
