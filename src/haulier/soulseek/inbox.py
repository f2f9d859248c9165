"""What a peer has said about a file that we want, until somebody looks at it.

Rule 1: a peer that says more than anybody can look at says nothing new; but its newest offer is never among what is
        dropped, since it waits for an answer.
"""

import asyncio
from collections import deque
from typing import Final

from haulier.core.values import dataclass
from haulier.soulseek.peer_links import PeerLink
from haulier.soulseek.peer_messages import PlaceInQueue, TransferRequest, UploadDenied, UploadFailed

MOST: Final = 16
"""Answers that are kept; an honest peer gives one or two at a time."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Our question is gone: with its connection, or with another download that took its answer."""


@dataclass(frozen=True, slots=True)
class Offered:
    """The peer would send the file now."""

    request: TransferRequest
    link: PeerLink
    """Over which it was said."""


Answer = UploadDenied | UploadFailed | PlaceInQueue


class Inbox:
    """Answers in their order, and behind them the newest offer."""

    def __init__(self) -> None:
        self._answers: deque[Answer | Lost] = deque()
        self._offer: Offered | None = None
        self._came = asyncio.Event()

    @property
    def has_offer(self) -> bool:
        """Whether an offer is there that nobody has answered."""
        return self._offer is not None

    def put(self, answer: Answer | Lost) -> None:
        """Keep an answer, if there is room."""
        if len(self._answers) < MOST:
            self._answers.append(answer)
            self._came.set()

    def put_offer(self, offer: Offered) -> Offered | None:
        """Keep an offer in the place of an older one; returns that, which is to be answered now."""
        older, self._offer = self._offer, offer
        self._came.set()
        return older

    def take_offer(self) -> Offered | None:
        """Return the offer that nobody has answered; it is no longer here."""
        offer, self._offer = self._offer, None
        return offer

    def take_answers(self) -> list[Answer | Lost]:
        """Return all answers; they are no longer here."""
        answers, self._answers = list(self._answers), deque()
        return answers

    async def wait(self) -> Answer | Lost | Offered:
        """Return the next that was said, and wait for it."""
        while True:
            if self._answers:
                return self._answers.popleft()
            offer = self.take_offer()
            if offer is not None:
                return offer
            self._came.clear()
            await self._came.wait()
