"""When to try again: a policy as a generator of delays.

Rule 1: delays grow exponentially and are drawn with full jitter, so that many clients of a service that
        comes back do not come back at once.
Rule 2: the budget counts failures in a row without progress; whoever makes progress starts anew.
Rule 3: what the other side asks for (`Retry-After`) is a lower bound, itself bounded.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog (full jitter); RFC 9110 section 10.2.3.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from haulier.core.values import dataclass

MAX_RETRY_AFTER_S: Final = 300.0
"""Longest that a `Retry-After` is obeyed: the upper end of our own back-off (sending to remotes)."""

_DOUBLINGS: Final = 20
"""After these every delay is at its cap, and numbers stay small."""

Chance = Callable[[], float]
"""Returns a number in [0, 1); `random.Random(seed).random` is one."""


def is_due(at: float, *, now: float) -> bool:
    """Whether a try that was put off until `at` may be made.

    Nothing is put off for longer than `MAX_RETRY_AFTER_S`. What is still further away was so by a clock that has been set
    back since, and is due.
    """
    return at <= now or at > now + MAX_RETRY_AFTER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently something is tried again. Times are seconds."""

    retries: int = 12
    """Failures in a row, without progress, after which it is given up."""
    base_s: float = 0.5
    """Upper bound of the first delay."""
    cap_s: float = 30.0
    """Upper bound of every delay."""

    def delay(self, failures: int, chance: Chance, *, at_least: float = 0.0) -> float:
        """Return how long to wait after that many failures in a row; `at_least` is what the other side asks for."""
        bound = min(self.base_s * float(1 << min(failures - 1, _DOUBLINGS)), self.cap_s)
        return max(chance() * bound, min(at_least, MAX_RETRY_AFTER_S))

    def delays(self, chance: Chance) -> Iterator[float]:
        """Yield the delay before each further try; ends when the budget is used up."""
        for failures in range(1, self.retries + 1):
            yield self.delay(failures, chance)


BACK_OFF: Final = RetryPolicy(base_s=1.0, cap_s=300.0)
"""For what is written down and tried again for hours or days: transfers, deliveries. Its owner says when it gives up, by
the time that has passed."""


class Patience:
    """One piece of work's budget: asks the policy, and starts anew after progress.

    It is the only thing here that changes; it belongs to one task.
    """

    def __init__(self, policy: RetryPolicy, chance: Chance) -> None:
        self._policy = policy
        self._chance = chance
        self._delays = policy.delays(chance)
        self._progress: object = None

    def progress(self, mark: object) -> None:
        """Start anew if `mark` (an offset, a count) differs from the last one seen."""
        if mark != self._progress:
            self._progress = mark
            self._delays = self._policy.delays(self._chance)

    def next_delay(self, *, at_least: float = 0.0) -> float | None:
        """Return how long to wait before the next try, or None when the budget is used up."""
        delay = next(self._delays, None)
        return None if delay is None else max(delay, min(at_least, MAX_RETRY_AFTER_S))


def parse_retry_after(text: str | None, *, date: str | None = None) -> float:
    """Return the seconds that a `Retry-After` field asks for; 0 when there is none or it cannot be read.

    A date is measured against the answer's own `Date` field, so that no clock of ours is needed and a
    wrong one does no harm.
    """
    if text is None:
        return 0.0
    # RFC 9110: delay-seconds is 1*DIGIT. str.isdigit alone would take other scripts' digits.
    if text.strip().isascii() and text.strip().isdigit():
        return min(float(text.strip()), MAX_RETRY_AFTER_S)
    then, now = _parse_date(text), _parse_date(date)
    if then is None or now is None:
        return 0.0
    return min(max(0.0, (then - now).total_seconds()), MAX_RETRY_AFTER_S)


def _parse_date(text: str | None) -> datetime | None:
    if text is None:
        return None
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - most of the package `email` comes with it

    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # no date; one whose numbers no machine word holds
        return None
    # "-0000" parses as a time without a zone; subtracting it from one with a zone is a TypeError.
    return date if date.tzinfo is not None else None
