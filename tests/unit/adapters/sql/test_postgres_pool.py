"""Who is lent a connection when the server gives no more of them."""

import asyncio
from typing import cast

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from haulier.adapters.sql.postgres.connection import Connection
from haulier.adapters.sql.postgres.pool import Pool


class _Info:
    transaction_status = TransactionStatus.IDLE


class _Lent:
    """As much of a connection as a pool looks at."""

    def __init__(self) -> None:
        self.info = _Info()
        self.closed = False

    def lose(self) -> None:
        """Be in no state in which another could have it."""
        self.info.transaction_status = TransactionStatus.UNKNOWN

    async def close(self) -> None:
        self.closed = True


class _Server:
    """Gives `limit` connections, and refuses the next; one that `forgets` gives others for those that were closed."""

    def __init__(self, limit: int, *, forgets: bool = False) -> None:
        self.limit = limit
        self.forgets = forgets
        self.given: list[_Lent] = []

    async def connect(self) -> Connection:
        if sum(not (each.closed and self.forgets) for each in self.given) == self.limit:
            raise psycopg.OperationalError("sorry, too many clients already")
        self.given.append(_Lent())
        return cast("Connection", self.given[-1])


class _Borrower:
    """A task that borrows, writes its name down when it has one, and returns it when it is told to."""

    def __init__(self, pool: Pool, name: str, served: list[str]) -> None:
        self.enough = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._borrow(pool, name, served))

    async def _borrow(self, pool: Pool, name: str, served: list[str]) -> None:
        async with pool.lend():
            served.append(name)
            await self.enough.wait()


async def _come(pool: Pool, name: str, served: list[str]) -> _Borrower:
    """Let one come, and get what it gets or stand in line."""
    borrower = _Borrower(pool, name, served)
    await _settle()
    return borrower


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_whoever_waits_is_served_before_whoever_comes_when_one_returns() -> None:
    pool = Pool(_Server(1).connect, size=10)
    served: list[str] = []
    borrowers = [await _come(pool, name, served) for name in "abc"]
    assert served == ["a"]

    # The one that comes back is asked for in the moment in which it is there.
    async def return_it_and_come_again() -> None:
        borrowers[0].enough.set()
        await borrowers[0].task
        async with pool.lend():
            served.append("late")

    again = asyncio.get_running_loop().create_task(return_it_and_come_again())
    await _settle()
    assert served == ["a", "b"]
    borrowers[1].enough.set()
    await _settle()
    assert served == ["a", "b", "c"]
    borrowers[2].enough.set()
    await again
    assert served == ["a", "b", "c", "late"]


@pytest.mark.parametrize("handed", [False, True], ids=["while it waits", "when it was handed one"])
async def test_whoever_gives_up_waiting_loses_no_connection(*, handed: bool) -> None:
    pool = Pool(_Server(1).connect, size=10)
    served: list[str] = []
    borrowers = [await _come(pool, name, served) for name in "abc"]
    borrowers[0].enough.set()
    if handed:
        # Its first step returns the connection; the next in line has it, and has not run yet.
        await asyncio.sleep(0)
    borrowers[1].task.cancel()
    await _settle()
    assert served == ["a", "c"]
    borrowers[2].enough.set()
    await borrowers[2].task
    async with pool.lend():
        served.append("last")
    assert served == ["a", "c", "last"]


async def test_nobody_waits_when_all_that_were_out_are_lost() -> None:
    server = _Server(2)
    pool = Pool(server.connect, size=10)
    served: list[str] = []
    borrowers = [await _come(pool, name, served) for name in "abcd"]
    for lent, borrower in zip(server.given, borrowers, strict=False):
        lent.lose()
        borrower.enough.set()
    await _settle()
    assert [lent.closed for lent in server.given] == [True, True]
    for borrower in borrowers[2:]:
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            await borrower.task
    assert served == ["a", "b"]


async def test_who_waited_for_one_that_was_lost_has_the_one_that_the_server_gives_now() -> None:
    server = _Server(1, forgets=True)
    pool = Pool(server.connect, size=10)
    served: list[str] = []
    borrowers = [await _come(pool, name, served) for name in "abc"]
    server.given[0].lose()
    borrowers[0].enough.set()
    await _settle()
    # Those that it has no room for even so go on waiting.
    assert served == ["a", "b"]
    borrowers[1].enough.set()
    await _settle()
    assert served == ["a", "b", "c"]
    borrowers[2].enough.set()
    for borrower in borrowers:
        await borrower.task
