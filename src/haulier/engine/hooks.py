"""What an embedding program may say at the turning points of an upload.

Rule 1: a hook is asked after the caller's own rights were judged, and never instead of them.
Rule 2: a hook refuses by `UploadRefused` only. Anything else that it raises is a fault: the step is not done, its caller
        is told to try again, and so does the service by itself. Bytes are never let through because a hook broke.
Rule 3: a hook may be asked twice about the same upload, since a step that a crash cut is gone on with from its start.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from haulier.core.caller import Caller
from haulier.core.errors import HaulierError, HookUnavailable
from haulier.core.event import Event
from haulier.core.upload import BeginUpload, Upload, UploadDetails
from haulier.core.values import dataclass
from haulier.logs import get_logger

T = TypeVar("T")

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedUpload:
    """An upload whose bytes are all here and have the right digest; nobody can read them yet."""

    upload: Upload
    details: UploadDetails
    """With the digest that was computed."""
    size: int
    read: Callable[[], AsyncIterator[bytes]]
    """Yields the stored bytes from the beginning; may be called several times."""


OnBegin = Callable[[BeginUpload, Caller], Awaitable[BeginUpload | None]]
"""Sees who begins what. Returns what shall be begun instead (None: the same), or raises UploadRefused. What it returns
is judged like any other request; the idempotency key stays."""
OnFinish = Callable[[FinishedUpload], Awaitable[None]]
"""Sees the stored bytes before the record is complete. Raises UploadRefused: the upload fails and its bytes go."""

OnRecord = Callable[[Event], Awaitable[None]]
"""Hears what happened to a record, after its commit; in order, each event at least once, across crashes. While it raises,
the same event is brought to it again, ever more rarely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What an embedding program gives; None: nothing is asked."""

    on_begin: OnBegin | None = None
    on_finish: OnFinish | None = None
    on_record: OnRecord | None = None


NO_HOOKS: Final = Hooks()


async def ask(name: str, answer: Awaitable[T]) -> T:
    """Return what a hook answers.

    Raises:
        UploadRefused: it refuses.
        HookUnavailable: it is broken.
    """
    try:
        return await answer
    except HaulierError:
        raise
    except Exception as error:
        log.exception("hook.failed", hook=name)
        raise HookUnavailable(name) from error
