"""The upload manager on this machine's adapters: what `from haulier import UploadManager` gives, and commands use."""

import random
from os import PathLike
from pathlib import Path

from haulier.adapters.clock import SystemClock, SystemIdentifiers
from haulier.adapters.journal import SqliteJournal
from haulier.adapters.local_files import SystemFiles
from haulier.engine import send
from haulier.engine.send import UNKNOWN_S, Role
from haulier.engine.send_runner import SendLimits
from haulier.machine import Clock
from haulier.sending_ports import Journal, Remotes


class UploadManager(send.UploadManager):
    """Queues local files for remotes, starts them in fair order, survives restarts, and lets anyone wait for the result.

    ```python
    async with UploadManager("journal.db", remotes) as manager:
        transfer_id = await manager.queue("photo.jpg", "photos:/2026/", priority=Priority.HIGH)
        result = await manager.wait(transfer_id, timeout_s=600)
    ```
    """

    def __init__(
        self,
        journal: "str | PathLike[str] | Journal",
        remotes: Remotes,
        *,
        limits: SendLimits | None = None,
        role: Role = Role.WHEN_FREE,
        unknown_s: float = UNKNOWN_S,
        clock: Clock | None = None,
    ) -> None:
        """Take the parts; nothing runs and no file is open before `start`.

        Args:
            journal: a file, made when it is missing; several processes may share it.
            remotes: where files can be sent: a mapping of names, or whatever has `get`.
            limits: how many run at once, and how long results are kept.
            role: whether this process runs the journal.
            unknown_s: how long `wait` waits for an id that nobody has queued; 0 looks once.
            clock: the time; the machine's by default.
        """
        clock = clock or SystemClock()
        super().__init__(
            SqliteJournal(Path(journal), clock) if isinstance(journal, str | PathLike) else journal,
            remotes,
            files=SystemFiles(),
            clock=clock,
            ids=SystemIdentifiers(clock),
            chance=random.random,
            limits=limits,
            role=role,
            unknown_s=unknown_s,
        )
