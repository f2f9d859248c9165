"""What a remote keeps of what it has begun: text that only it can read, and a secret."""

import json
from collections.abc import Mapping
from typing import Any, Final

from haulier.core.outgoing import RemoteSession
from haulier.core.secret import Secret
from haulier.ports import Cargo


def session_of(state: Mapping[str, Any], *, chunk_size: int | None, commits_itself: bool) -> RemoteSession:
    """Return the session as the journal keeps it."""
    return RemoteSession(
        state=Secret(json.dumps(state)), chunk_size=chunk_size, commits_itself=commits_itself
    )


def state_of(session: RemoteSession) -> dict[str, Any]:
    """Return what `session_of` was given."""
    state: dict[str, Any] = json.loads(session.state.reveal())
    return state


class _Nothing:
    """The source of an empty file."""

    size = 0
    descriptor = None

    def read(self, start: int, stop: int) -> bytes:
        """Return nothing."""
        return b""


EMPTY: Final = Cargo(source=_Nothing(), start=0, stop=0)
"""The body of an empty file."""
