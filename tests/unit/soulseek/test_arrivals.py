"""What becomes of a connection that brings a file to nobody."""

import asyncio
from typing import Any

from haulier.soulseek.arrivals import turn_away


async def test_one_that_came_in_the_last_moment_is_let_go_of() -> None:
    loop = asyncio.get_running_loop()
    arrival, done = loop.create_future(), loop.create_future()
    connection: Any = object()
    arrival.set_result((connection, done))
    turn_away(arrival)
    assert done.done()


async def test_one_that_comes_later_finds_nobody() -> None:
    arrival: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    turn_away(arrival)
    assert arrival.cancelled()
    turn_away(arrival)
