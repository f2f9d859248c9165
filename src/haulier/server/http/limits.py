"""What one connection may take."""

from typing import Final

from haulier.core.values import dataclass
from haulier.server.errors import HeadTooLarge
from haulier.server.http.asgi import BODY_SILENCE_S
from haulier.server.http.refusals import refuse_target

BODY_WINDOW_S: Final = 60.0
"""Over which the speed of a body is judged: as long as a body may be silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What one connection may take; sizes in bytes, times in seconds."""

    target_bytes: int = 32 * 1024
    """Request target. The longest path and file name, percent-encoded, take 13 KiB; Apache and nginx stop at 8 KiB."""
    head_bytes: int = 64 * 1024
    """Request line, fields and trailers together; uvicorn's limit for h11, twice nginx's."""
    head_fields: int = 100
    """Fields and trailers together; Apache's LimitRequestFields."""
    head_s: float = 30.0
    """From the first byte of a head to its end; between Apache's 20 to 40 s."""
    keep_alive_s: float = 65.0
    """Between two requests; longer than the 60 s after which common balancers reuse no connection."""
    body_silence_s: float = BODY_SILENCE_S
    body_speed: int = 0
    """Bytes a second that a body brings at least, over every `body_window_s`; 0 is no limit. Kestrel's is 240."""
    body_window_s: float = BODY_WINDOW_S
    """Who pauses and catches up is not slow."""
    drain_bytes: int = 256 * 1024
    """The rest of a body that is read and thrown away so that its connection lives on; one buffer."""
    linger_silence_s: float = 5.0
    """A client that sends nothing for so long has read the answer; nginx's lingering_timeout."""
    linger_s: float = 30.0
    """The longest goodbye; nginx's lingering_time."""


class BodyMeter:
    """Judges the speed of a body, window by window; what the service itself holds up is not the sender's fault."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._arrived = 0
        self._since = 0.0
        self._held_s = 0.0

    def begin(self, now: float, *, held_s: float) -> None:
        """A window begins. `held_s`: for how long reading was held up in the life of the connection."""
        self._arrived, self._since, self._held_s = 0, now, held_s

    def count(self, size: int) -> None:
        """Bytes arrived."""
        self._arrived += size

    def too_slow(self, now: float, *, held_s: float) -> bool:
        """Whether a window is over in which too little came; the next one begins when one is over."""
        free_s = now - self._since - (held_s - self._held_s)
        if not self._limits.body_speed or free_s < self._limits.body_window_s:
            return False
        arrived = self._arrived
        self.begin(now, held_s=held_s)
        return arrived < self._limits.body_speed * free_s


class HeadMeter:
    """Counts what a connection makes us keep before the application sees it."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._bytes = 0
        self._fields = 0
        self._reported = False
        self._unreported_bytes = 0

    def begin(self) -> None:
        """A request begins."""
        self._bytes = self._fields = 0
        self._reported = True

    def count(self, size: int, *, fields: int = 0) -> None:
        """Take note of a whole field.

        Raises:
            HeadTooLarge: one byte or field too many.
        """
        self._bytes += size
        self._fields += fields
        if self._bytes > self._limits.head_bytes or self._fields > self._limits.head_fields:
            raise self._too_large()

    def count_target(self, before: bytes, piece: bytes) -> None:
        """Take note of one more piece of the request target.

        Raises:
            InvalidRequest · TargetTooLong: one byte too many.
        """
        if len(before) + len(piece) > self._limits.target_bytes:
            raise refuse_target(before + piece, self._limits.target_bytes)
        self.count(len(piece))

    def reported(self) -> None:
        """Take note that the parser found the end of a head, or some body."""
        self._reported = True

    def fed(self, size: int) -> None:
        """Take note of what the parser was fed, after its reports.

        It reports fields when they are whole; endless ones, and chunk extensions, are counted here.

        Raises:
            HeadTooLarge: too much without a report.
        """
        self._unreported_bytes = 0 if self._reported else self._unreported_bytes + size
        self._reported = False
        if self._unreported_bytes > self._limits.head_bytes:
            raise self._too_large()

    def _too_large(self) -> HeadTooLarge:
        return HeadTooLarge(self._limits.head_bytes, self._limits.head_fields)
