"""What remotes share: what each keeps of what it has begun, text that only it can read, and a secret; short bodies."""

import json
from collections.abc import Mapping
from typing import Any, Final

from haulier.core.errors import RemoteSessionLost
from haulier.core.outgoing import RemoteSession
from haulier.core.secret import Secret
from haulier.sending_ports import Cargo


class Sessions:
    """The sessions of one place, as the journal keeps them.

    A remote may be set up anew while transfers to it rest: for another service, another address, of another kind. What was begun
    elsewhere is not gone on with, and its secrets go to nobody else.

    Args:
        place: what is begun where; kept with each session.
    """

    def __init__(self, place: str) -> None:
        self._place = place

    def keep(
        self, state: Mapping[str, Any], *, chunk_size: int | None, commits_itself: bool
    ) -> RemoteSession:
        """Return the session as the journal keeps it."""
        text = json.dumps({"place": self._place, **state})
        return RemoteSession(state=Secret(text), chunk_size=chunk_size, commits_itself=commits_itself)

    def read(self, session: RemoteSession) -> dict[str, Any]:
        """Return what `keep` was given.

        Raises:
            RemoteSessionLost: it was begun elsewhere, or what the journal has of it is damaged.
        """
        try:
            state = json.loads(session.state.reveal())
        except ValueError:
            state = None
        if not isinstance(state, dict):
            raise RemoteSessionLost("what the journal has of it cannot be read")
        if state.get("place") != self._place:
            raise RemoteSessionLost("it was begun elsewhere: the remote was set up anew since then")
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
