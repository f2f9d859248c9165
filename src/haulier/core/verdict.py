"""What becomes of a transfer when an attempt has failed: the table of retry decisions.

Which answers of a remote mean what is the remote's own knowledge; here is what follows from the meaning.
"""

import errno
from typing import Final

from haulier.core.dispatch import Dispatch, OnChange, Wanted
from haulier.core.errors import (
    HaulierError,
    InvalidRequest,
    PeerBlocked,
    PeerCorrupted,
    PeerError,
    PeerRefused,
    RemoteSessionLost,
    SourceChanged,
    StorageError,
)
from haulier.core.retry import BACK_OFF, Chance
from haulier.core.text import escaped
from haulier.core.transfer import Outcome, Phase
from haulier.core.values import replace

GIVE_UP_S: Final = 24 * 3600.0
"""Seconds of failing without any confirmed progress after which a transfer ends."""
MAX_RESTARTS: Final = 10
"""Times that a file may change while it is sent: one that always does never comes to its end."""
MAX_REASON: Final = 500
"""Characters that are kept of why something failed: what remotes say may be a page of HTML."""

ENDS: Final[dict[type[BaseException], Outcome]] = {
    PeerCorrupted: Outcome.ERRORED,
    PeerRefused: Outcome.REJECTED,
    InvalidRequest: Outcome.REJECTED,
    SourceChanged: Outcome.ABORTED,
    OSError: Outcome.ERRORED,
}
"""Errors that end a transfer, and how; a changed source does so only when it may not begin anew."""
SHORTAGES: Final = frozenset(
    {
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EINTR),
        *(errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH),
    }
)
"""Errors of the system that say nothing about the file: this machine is short of something, or the disk is away."""
PASSES: Final[tuple[type[HaulierError], ...]] = (RemoteSessionLost, StorageError)
"""Errors that can pass although they are not of the remote; of the others their own `retryable` says so."""


def may_restart(row: Dispatch, error: BaseException) -> bool:
    """Whether the transfer begins anew with the file as it is now."""
    changed = isinstance(error, SourceChanged) and row.on_change is OnChange.RESTART
    return changed and row.restarts < MAX_RESTARTS


def settle(
    row: Dispatch,
    error: BaseException,
    *,
    now: float,
    chance: Chance,
    stalled_s: float = 0.0,
    give_up_s: float = GIVE_UP_S,
) -> Dispatch:
    """Return the row of a transfer whose attempt ended with that error, after failing for `stalled_s` without progress.

    | error | what follows |
    |---|---|
    | can pass by itself | waits, longer each time; after `give_up_s` without progress it ends as timed out |
    | an obstacle (quota, credentials, conflict) | blocked until somebody resumes it, or for `give_up_s` |
    | refused, not acceptable there | rejected |
    | the file changed | begins anew with a new session; aborted where that is not allowed |
    | what is stored differs from what was sent | errored |
    | the system is short of files or memory, or a disk is away | as what can pass by itself |
    | the file cannot be read | errored |
    | anything else is a mistake of ours | errored |
    """
    failed, reason = _failed(row, error, now=now)
    if isinstance(error, PeerBlocked):
        wanted = Wanted.PAUSE if row.wanted is Wanted.RUN else row.wanted
        return replace(failed.moved(row.transfer.block(error.obstacle, reason), now=now), wanted=wanted)
    if _passes(error):
        at_least = error.retry_after_s if isinstance(error, PeerError) else 0.0
        return _back_off(failed, reason, at_least, now, chance, stalled_s, give_up_s)
    return _end(failed, error, reason, now=now)


def _passes(error: BaseException) -> bool:
    if isinstance(error, HaulierError):
        return error.retryable or isinstance(error, PASSES)
    return isinstance(error, OSError) and error.errno in SHORTAGES


def fail(row: Dispatch, error: BaseException, *, now: float) -> Dispatch:
    """Return the row of a transfer that could not even be queued: it has ended, as after an attempt that cannot pass."""
    failed, reason = _failed(row, error, now=now)
    return _end(failed, error, reason, now=now)


def stumble(
    row: Dispatch,
    error: BaseException,
    *,
    now: float,
    chance: Chance,
    stalled_s: float = 0.0,
    give_up_s: float = GIVE_UP_S,
) -> Dispatch:
    """Return the row after a mistake of ours outside of any attempt: it says nothing about the file or its remote.

    It rests as after an error that can pass, ever longer, and ends as timed out when that goes on for `give_up_s`.
    """
    if not row.live:
        return row
    if row.transfer.phase is not Phase.QUEUED:
        row = row.moved(row.transfer.requeue(), now=now)
    failed, reason = _failed(row, error, now=now)
    return _back_off(failed, reason, 0.0, now, chance, stalled_s, give_up_s)


def _end(row: Dispatch, error: BaseException, reason: str, *, now: float) -> Dispatch:
    outcome = next((ENDS[kind] for kind in ENDS if isinstance(error, kind)), Outcome.ERRORED)
    return row.moved(row.transfer.end(outcome, now=now, reason=reason), now=now)


def _failed(row: Dispatch, error: BaseException, *, now: float) -> tuple[Dispatch, str]:
    reason = _words(error)
    # No later than now: after a clock that was set back the next run would count for too long.
    stalled_at = now if row.stalled_at is None else min(row.stalled_at, now)
    return replace(row, failures=row.failures + 1, stalled_at=stalled_at, error=reason), reason


def _back_off(  # noqa: PLR0917 - private, and all of it is what the two have in common
    row: Dispatch,
    reason: str,
    at_least: float,
    now: float,
    chance: Chance,
    stalled_s: float,
    give_up_s: float,
) -> Dispatch:
    if stalled_s >= give_up_s:
        return time_out(row, now=now, give_up_s=give_up_s)
    delay_s = min(BACK_OFF.delay(row.failures, chance, at_least=at_least), give_up_s - stalled_s)
    return row.moved(row.transfer.wait_until(now + delay_s, reason), now=now)


def time_out(row: Dispatch, *, now: float, give_up_s: float = GIVE_UP_S) -> Dispatch:
    """End one that has failed, or was blocked, for too long."""
    reason = f"no progress for {give_up_s / 3600:g} hours; the last error was: {row.error}"
    return row.moved(row.transfer.end(Outcome.TIMED_OUT, now=now, reason=reason), now=now)


def _words(error: BaseException) -> str:
    # A name in it may be no UTF-8, which no journal takes; what stands for that is longer.
    return escaped(_fact(error)[:MAX_REASON])[:MAX_REASON]


def _fact(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    if isinstance(error, HaulierError):
        return str(error)
    return f"a mistake in haulier itself: {type(error).__name__}: {error}"
