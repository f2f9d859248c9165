"""A sender that kills itself, by SIGKILL, at the N-th transaction of its journal: before its commit, or right after it.

`python -m tests.support.crashing_sender JOURNAL SETTINGS FILE TARGET N before|after replace|fail|rename`, the remote's settings as
JSON; prints `done` when it came to its end alive.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from haulier import UploadManager
from haulier.adapters.clock import SystemClock
from haulier.adapters.journal import SqliteJournal
from haulier.core.dispatch import Dispatch, Removed
from haulier.core.outgoing import IfExists
from haulier.core.secret import Secret
from haulier.core.transfer import TransferId
from haulier.core.values import replace
from haulier.remotes.catalogue import RemoteSettings, make_remote
from haulier.sending_ports import Remote


def remote_of(settings: str) -> Remote:
    """Return the remote that settings describe."""
    told: dict[str, Any] = json.loads(settings)
    secrets = {name: Secret(value) for name, value in told.pop("secrets", {}).items()}
    return make_remote(RemoteSettings(name="there", secrets=secrets, **told))


class CrashingJournal(SqliteJournal):
    """Dies at a transaction that changes something of one transfer.

    Notes of how much has gone are no such changes: there is one a second, so their number is a matter of the machine.
    """

    def __init__(self, path: Path, transfer: TransferId, at: int, when: str) -> None:
        super().__init__(path, SystemClock())
        self._transfer = transfer
        self._left = at
        self._when = when

    def _write_rows(self, work: Any, *, durable: bool) -> Any:
        def counting(rows: Any) -> Any:
            before = self._state(rows)
            result = work(rows)
            self._changed = self._state(rows) != before
            if self._changed:
                self._left -= 1
                if self._left == 0 and self._when == "before":
                    os.kill(os.getpid(), signal.SIGKILL)
            return result

        result = super()._write_rows(counting, durable=durable)
        if self._left == 0 and self._changed:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def _state(self, rows: Any) -> Dispatch | Removed | None:
        found: Dispatch | Removed | None = rows.find(self._transfer)
        if not isinstance(found, Dispatch):
            return found
        return replace(found, transfer=replace(found.transfer, sent=0, speed=None))


async def main() -> None:
    journal, settings, file, target, at, when, way = sys.argv[1:]
    remote = remote_of(settings)
    crashing = CrashingJournal(Path(journal), TransferId(target), int(at), when)
    async with UploadManager(crashing, {"there": remote}) as manager:
        queued = await manager.queue(file, f"there:{target}", id=target, if_exists=IfExists(way))
        await manager.wait(queued)
    await remote.close()
    print("done")


if __name__ == "__main__":
    asyncio.run(main())
