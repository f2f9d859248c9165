"""Answers to short requests, read up to a bound: whoever is in a service's place may be endless."""

import httpx2


async def read_answer(incoming: httpx2.Response, *, at_most: int) -> tuple[httpx2.Response, bool]:
    """Return an answer with as much of its body as may be read, and whether that is all of it."""
    body = bytearray()
    async for piece in incoming.aiter_bytes():
        body += piece
        if len(body) > at_most:
            break
    # The body is not encoded any more, and perhaps shorter.
    fields = [
        (name, value)
        for name, value in incoming.headers.multi_items()
        if name.lower() not in {"content-encoding", "content-length", "transfer-encoding"}
    ]
    answer = httpx2.Response(incoming.status_code, headers=fields, content=bytes(body[:at_most]))
    return answer, len(body) <= at_most
