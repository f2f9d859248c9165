"""A server of ours with an application that does to its bodies what the query says.

Run as `python -m tests.support.body_server [--loop asyncio] [--silence-s S] ...`; prints its port.
Query: `id` (under which `/results` keeps what happened), `way` (fast | messages), `limit`, `deliver`
(at-once | later | gated), `fail_after`, `stop_after`, `stop_first`, `unread`, `interim`, `slow`.
"""

import argparse
import asyncio
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Awaitable
from typing import Any
from urllib.parse import parse_qsl

from haulier.ports import Body, Deliver
from haulier.server.http.asgi import INTERIM_EXTENSION, TRAILERS_EXTENSION, AsgiBody, open_body
from haulier.server.http.limits import ConnectionLimits


class Bucket:
    """Receives pieces the way the query says, and checks that they come one at a time."""

    def __init__(self, query: dict[str, str], body: Body, gate: asyncio.Event) -> None:
        self.size = 0
        self.hash = hashlib.sha256()
        self.pieces = 0
        self._query = query
        self._body = body
        self._gate = gate
        self._busy = False

    def deliver(self, piece: Any) -> Awaitable[None] | None:
        assert not self._busy, "two pieces at a time"
        self.pieces += 1
        if self._query.get("deliver", "at-once") == "at-once":
            self._take(piece)
            return None
        self._busy = True
        return self._take_later(bytes(piece))

    async def _take_later(self, piece: bytes) -> None:
        if self._query["deliver"] == "gated":
            await self._gate.wait()
        else:
            await asyncio.sleep(0)
        self._busy = False
        self._take(piece)

    def _take(self, piece: Any) -> None:
        fail_after = self._query.get("fail_after")
        if fail_after is not None and self.size + len(piece) > int(fail_after):
            raise OSError("no room")
        self.size += len(piece)
        self.hash.update(piece)
        stop_after = self._query.get("stop_after")
        if stop_after is not None and self.size >= int(stop_after):
            self._body.stop()


class Application:
    """The ASGI application."""

    def __init__(self) -> None:
        self.results: dict[str, dict[str, Any]] = {}
        self.changed = asyncio.Condition()
        self.gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.bodies: dict[str, tuple[Body, Bucket]] = {}
        self.handlers = {
            "/results": self._result,
            "/open": self._open,
            "/stop": self._stop,
            "/size": self._size,
            "/known": self._known,
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        query = dict(parse_qsl(scope["query_string"].decode()))
        handler = self.handlers.get(scope["path"])
        if handler is not None:
            await _answer(send, 200, await handler(query))
        elif "unread" in query:
            await _answer(send, int(query["unread"]), {"read": 0})
        else:
            await self._take(scope, receive, send, query)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _take(self, scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
        if "interim" in query:
            scope["extensions"][INTERIM_EXTENSION](int(query["interim"]), [(b"upload-offset", b"7")])
        name = query.get("id", "")
        body = AsgiBody(scope, receive) if query.get("way") == "messages" else open_body(scope, receive)
        bucket = Bucket(query, body, self.gates[name])
        self.bodies[name] = (body, bucket)
        status, end = await self._receive(body, bucket.deliver, query)
        result = {
            "end": end,
            "size": bucket.size,
            "sha256": bucket.hash.hexdigest(),
            "pieces": bucket.pieces,
            "length": body.length,
            "kind": type(body).__name__,
            "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
            "trailers": [[n.decode(), v.decode()] for n, v in scope["extensions"][TRAILERS_EXTENSION]],
        }
        async with self.changed:
            self.results[name] = result
            self.changed.notify_all()
        await _answer(send, status, result)

    async def _receive(self, body: Body, deliver: Deliver, query: dict[str, str]) -> tuple[int, str]:
        if "stop_first" in query:
            body.stop()
        limit = int(query["limit"]) if "limit" in query else None
        try:
            end = await body.receive(deliver, limit=limit)
        except OSError as error:
            return 507, str(error)
        return 200, end.name

    async def _result(self, query: dict[str, str]) -> Any:
        async with self.changed:
            await self.changed.wait_for(lambda: query["id"] in self.results)
        return self.results[query["id"]]

    async def _open(self, query: dict[str, str]) -> Any:
        self.gates[query["id"]].set()

    async def _stop(self, query: dict[str, str]) -> Any:
        self.bodies[query["id"]][0].stop()

    async def _size(self, query: dict[str, str]) -> Any:
        return self.bodies[query["id"]][1].size if query["id"] in self.bodies else 0

    async def _known(self, query: dict[str, str]) -> Any:
        return query["id"] in self.bodies

    async def stop_all(self) -> None:
        """Ask every body to let go, as the engine does."""
        for body, _ in self.bodies.values():
            body.stop()


async def _answer(send: Any, status: int, value: Any) -> None:
    text = json.dumps(value).encode()
    headers = [(b"content-length", str(len(text)).encode()), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def main() -> int:
    """Serve until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", default="uvloop")
    parser.add_argument("--silence-s", type=float, default=60.0)
    parser.add_argument("--body-speed", type=int, default=0)
    parser.add_argument("--body-window-s", type=float, default=60.0)
    parser.add_argument("--head-s", type=float, default=30.0)
    parser.add_argument("--keep-alive-s", type=float, default=65.0)
    parser.add_argument("--linger-silence-s", type=float, default=5.0)
    parser.add_argument("--linger-s", type=float, default=30.0)
    options = parser.parse_args()
    if options.loop == "asyncio":
        sys.modules["uvloop"] = None  # type: ignore[assignment] # uvicorn then takes asyncio's own
    from haulier.server.http.serving import serve

    application = Application()
    limits = ConnectionLimits(
        body_silence_s=options.silence_s,
        body_speed=options.body_speed,
        body_window_s=options.body_window_s,
        head_s=options.head_s,
        keep_alive_s=options.keep_alive_s,
        linger_s=options.linger_s,
        linger_silence_s=options.linger_silence_s,
    )
    return serve(
        application,
        host="127.0.0.1",
        port=0,
        limits=limits,
        on_ready=lambda port: print(port, flush=True),
        on_stopping=application.stop_all,
    )


if __name__ == "__main__":
    sys.exit(main())
