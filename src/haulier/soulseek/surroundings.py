"""What all transfers of a node stand on."""

from collections.abc import Callable

from haulier.core.values import dataclass
from haulier.machine import Clock
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.ledger import Ledger
from haulier.soulseek.peers import Peers
from haulier.soulseek.server_link import ServerLink
from haulier.soulseek.tasks import Spawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The parts of a node that its uploads and downloads share."""

    peers: Peers
    link: ServerLink
    ledger: Ledger
    bounds: Bounds
    clock: Clock
    spawn: Spawn
    """Starts a task that lives no longer than the node."""
    log: Callable[..., None]
    """Takes events with their fields."""
