"""What a `FaultProxy` does to a connection, as values."""

from enum import Enum
from typing import Final

from haulier.core.values import dataclass

READ: Final = 64 * 1024
"""Most bytes in the proxy's own hands, in each direction."""


class Drop(Enum):
    """A way in which a connection ends, or seems to live on."""

    FIN = "an orderly end for both sides; what they still send is read and forgotten"
    RST = "a reset for both sides"
    STALL = "nothing more is carried, both sides stay open; `resume` ends it, and nothing is lost"
    HALF_OPEN = (
        "the client's side is reset; the server's stays open and silent, so that it never learns of it"
    )


class Twin(Enum):
    """When the server gets everything a second time, over a connection whose answers nobody hears."""

    AT_ONCE = "beside the first"
    AFTER_ANSWER = "when it has begun to answer the first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """How the bytes of one direction travel."""

    segment: int = READ
    """Most bytes of one write; each is a TCP segment of its own, Nagle's algorithm being off."""
    pause_s: float = 0.0
    """After each write: so bytes trickle."""
    delay_s: float = 0.0
    """Between the arrival of bytes and their first write."""
    drop: Drop | None = None
    """What the first byte after `after` others brings; it is not carried itself. (STALL keeps it for later.)"""
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens to one connection; by itself, nothing."""

    up: Flow = Flow()
    """From the client to the server."""
    down: Flow = Flow()
    """From the server to the client."""
    twin: Twin | None = None


PLAIN: Final = Plan()
