"""`haulier serve` on adapters that meet with accidents: `python -m tests.support.unlucky_service DIRECTORY serve ...`.

Rule 1: the service's own code knows nothing of this: derived adapters take the place of those that `bootstrap`
        picks, and do what they are derived from.
Rule 2: points are named by the ports and by the system calls: `before-` and `after-` a call of the disk; `in-` a
        transaction that called a method of a session store (all done, nothing committed), and `after-` it.

SIGUSR1 writes the number of running tasks to `tasks` in the directory.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from haulier import bootstrap
from haulier.__main__ import main
from haulier.adapters.disk import DiskSink
from haulier.adapters.disk.system_calls import SystemCalls
from haulier.adapters.disk.writer import DiskTools
from haulier.adapters.sql.sqlite.database import SqliteDatabase
from haulier.adapters.sql.stores import SqlTransaction
from tests.support.accidents import Accidents

T = TypeVar("T")
Work = Callable[[SqlTransaction], Awaitable[T]]


class UnluckyCalls(SystemCalls):
    """System calls with a point before and after each."""

    def __init__(self, accidents: Accidents) -> None:
        self._accidents = accidents

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_"):
            return found

        def call(*arguments: Any) -> Any:
            point = _point(name, *arguments)
            self._accidents.reach(f"before-{point}")
            result = found(*arguments)
            self._accidents.reach(f"after-{point}")
            return result

        return call


def _point(name: str, *arguments: Any) -> str:
    # A blob's own directory is synced once: when the blob is in it.
    if name == "sync_directory" and Path(arguments[0]).parents[1].name == "objects":
        return "sync_blob_directory"
    return name


class _Listening:
    """A store that notes which of its methods are called."""

    def __init__(self, store: object, called: list[str]) -> None:
        self._store = store
        self._called = called

    def __getattr__(self, name: str) -> Any:
        self._called.append(name)
        return getattr(self._store, name)


class _ListeningTransaction:
    """A transaction whose stores of sessions and records listen."""

    def __init__(self, transaction: SqlTransaction, called: list[str]) -> None:
        self.sessions = _Listening(transaction.sessions, called)
        self.records = _Listening(transaction.records, called)
        self._transaction = transaction

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)


class UnluckyDatabase(SqliteDatabase):
    """The database with a point inside and after each writing transaction."""

    def __init__(self, accidents: Accidents, path: Path) -> None:
        super().__init__(path)
        self._accidents = accidents

    async def open(self) -> None:
        """Open it, and listen to SIGUSR1."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._tell_tasks)
        await super().open()

    def _tell_tasks(self) -> None:
        whole = self._accidents.directory / ".tasks"
        whole.write_text(str(len(asyncio.all_tasks())))
        whole.rename(self._accidents.directory / "tasks")

    async def write(self, work: Work[T], *, durable: bool = False, frees: bool = False) -> T:
        """Run `work`, if nothing happens."""
        called: list[str] = []

        async def listen(transaction: SqlTransaction) -> T:
            result = await work(cast("SqlTransaction", _ListeningTransaction(transaction, called)))
            self._reach("in", called)
            return result

        result = await super().write(listen, durable=durable, frees=frees)
        self._reach("after", called)
        return result

    def _reach(self, when: str, called: list[str]) -> None:
        for name in called:
            self._accidents.reach(f"{when}-{name}")


def run(accidents: Accidents) -> None:
    """Run the command line of this process, with accidents."""
    unlucky = {
        "DiskSink": partial(DiskSink, tools=DiskTools(calls=UnluckyCalls(accidents))),
        "open_database": partial(UnluckyDatabase, accidents),
    }
    assert unlucky.keys() <= vars(bootstrap).keys(), "bootstrap picks other adapters now"
    vars(bootstrap).update(unlucky)
    main()


if __name__ == "__main__":
    run(Accidents(Path(sys.argv.pop(1))))
