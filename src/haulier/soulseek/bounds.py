"""Every time limit and size limit of the node, in one value; tests shorten it.

Times are seconds, sizes bytes, unless a name says otherwise.
"""

from haulier.core.quantity import MIB
from haulier.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is waited for, and what is kept, at most."""

    direct_connect_s: float = 10.0
    indirect_connect_s: float = 20.0
    """For the peer to come to us, after the server was asked to send it."""
    handshake_s: float = 10.0
    """For the first message of whoever connects, the login included."""
    response_s: float = 30.0
    """For the answer to an offered transfer; a person may be asked on the other side."""
    offset_s: float = 30.0
    message_write_s: float = 5.0
    server_answer_s: float = 10.0
    peer_idle_s: float = 120.0
    """A message connection that carried nothing for that long is closed; another one is quickly made."""
    replaced_s: float = 10.0
    """For which a connection that a newer one replaced is still read."""
    ping_s: float = 60.0

    stall_s: float = 60.0
    """Without any byte acknowledged."""
    rate_window_s: float = 60.0
    minimum_rate: int = 1024
    """Bytes per second over the window: less holds a slot for days."""
    linger_s: float = 5.0
    """For the downloader to close, after its kernel has everything."""

    connections: int = 1_000
    connections_per_address: int = 20
    messages_per_s: float = 50.0
    """Of one message connection; then its reading pauses."""
    unsent: int = MIB
    """Bytes that wait to be sent on one connection."""
    unexpected: int = 64 * 1024
    """Bytes that a downloader may send while it should only receive."""
    search_connections: int = 20
    """Outgoing ones at a time, for answers to searches."""

    queued_files_per_user: int = 100
    queued_bytes_per_user: int = 10_000 * 1_000_000
    queued_files: int = 200_000
    failures_per_day: int = 10
    """Of one user; then it has to wait for the day to pass."""
    offline_s: float = 7 * 86_400.0
    """After which what an absent user has queued is forgotten."""
    connect_tries: int = 3
    retry_base_s: float = 10.0
    place_poll_s: float = 300.0
    """How often a place in another's queue is asked for."""
