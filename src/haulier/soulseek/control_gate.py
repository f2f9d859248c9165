"""What each request to the control API passes: the token, and the end of the node."""

import asyncio
import hmac
from typing import Final

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LAST_ANSWERS_S: Final = 1.0
"""For answers that are under way when the node stops; some wait minutes for what happens."""


class TokenGate:
    """Lets requests through that show the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] == "http" and not self._admits(scope):
            refusal = problem(401, "unauthenticated", "show the token of control.token as a bearer token")
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)


class LastAnswers:
    """Lets no answer keep the node from ending: one that has not begun becomes a refusal, any other is cut."""

    def __init__(self, app: ASGIApp, stopping: asyncio.Event) -> None:
        self._app = app
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request for as long as there is time."""
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        # Owned here: awaited below, however this ends.
        answering = asyncio.get_running_loop().create_task(_run(self._app, scope, receive, note))
        try:
            await self._wait(answering)
        finally:
            answering.cancel()
            await asyncio.wait({answering})
        if not answering.cancelled():
            answering.result()
        elif not begun:
            await problem(503, "service-stopping", "the node stops; ask again when it runs")(
                scope, receive, send
            )

    async def _wait(self, answering: "asyncio.Task[None]") -> None:
        stopping = asyncio.get_running_loop().create_task(self._stopping.wait())
        try:
            await asyncio.wait({answering, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            await asyncio.wait({stopping})
        await asyncio.wait({answering}, timeout=LAST_ANSWERS_S)


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def problem(status: int, slug: str, detail: str) -> Response:
    """Return a problem of RFC 9457."""
    body = {"type": f"/errors/{slug}", "title": slug, "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")
