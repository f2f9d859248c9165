"""What remotes share: what each keeps of what it has begun, text that only it can read, and a secret; short bodies."""

import json
from collections.abc import Mapping
from typing import Any, Final

from haulier.core.outgoing import RemoteSession
from haulier.core.secret import Secret
from haulier.sending_ports import Cargo


def session_of(state: Mapping[str, Any], *, chunk_size: int | None, commits_itself: bool) -> RemoteSession:
    """Return the session as the journal keeps it."""
    return RemoteSession(
        state=Secret(json.dumps(state)), chunk_size=chunk_size, commits_itself=commits_itself
    )


def state_of(session: RemoteSession) -> dict[str, Any]:
    """Return what `session_of` was given."""
    state: dict[str, Any] = json.loads(session.state.reveal())
    return state


class _Held:
    """A `Source` of bytes in memory."""

    descriptor = None

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._content)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes of `[start, stop)`."""
        return self._content[start:stop]


def cargo_of(content: bytes) -> Cargo:
    """Return bytes in memory as a body."""
    return Cargo(source=_Held(content), start=0, stop=len(content))


EMPTY: Final = cargo_of(b"")
"""The body of an empty file."""
