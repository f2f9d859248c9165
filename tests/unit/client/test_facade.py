"""What a program is told that has been given the address of something else."""

from collections.abc import Awaitable, Callable

import httpx2
import pytest

from haulier import Client
from haulier.core.errors import PeerRefused


async def listed(client: Client) -> object:
    return [record async for record in client.list()]


async def watched(client: Client) -> object:
    return [state async for state in client.events("u")]


CALLS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "record": lambda client: client.record("r"),
    "list": listed,
    "link": lambda client: client.link("r"),
    "state": lambda client: client.state("u"),
    "wait": lambda client: client.wait("u"),
    "events": watched,
    "delete": lambda client: client.delete("r"),
    "abort": lambda client: client.abort("u"),
}
ANSWERS = {
    "a page": ("text/html", b"<html>log in</html>"),
    "nothing": ("application/json", b""),
    "another document": ("application/json", b"[1]"),
    "no text": ("application/json", b'"\xff"'),
    "too deep": ("application/json", b"[" * 100_000),
    "too long a number": ("application/json", b'{"size": ' + b"9" * 5000 + b"}"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answer", ANSWERS)
async def test_success_in_the_words_of_another_program_is_no_success(call: str, answer: str) -> None:
    kind, body = ANSWERS[answer]
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers={"Content-Type": kind}, content=body)
    )
    async with Client(transport=transport) as client:
        with pytest.raises(PeerRefused) as told:
            await CALLS[call](client)
    assert told.value.slug == "unreadable-answer"


async def test_a_refusal_in_the_words_of_another_program_is_a_refusal() -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(403, content=b"[" * 100_000))
    async with Client(transport=transport) as client:
        with pytest.raises(PeerRefused, match="Forbidden"):
            await client.record("r")


async def test_a_list_that_goes_in_a_circle_comes_to_an_end() -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"items": [], "next": "same"}))
    async with Client(transport=transport) as client:
        with pytest.raises(PeerRefused, match="same one again"):
            await listed(client)
