"""The link to the server: logging in, staying, coming back, and asking where others are.

Rule 1: what we are is told again after each login; whoever uses the link need not know that it was lost.
Rule 2: a lost link and a full server are tried again. Any other refusal, and a login of somebody else under our
        name, end the link for good: going on would only fight over the name.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from random import SystemRandom
from typing import Any, Final

from haulier.core.errors import PeerError
from haulier.core.retry import Patience, RetryPolicy
from haulier.core.secret import Secret
from haulier.core.values import dataclass
from haulier.soulseek.bounds import Bounds
from haulier.soulseek.codec import Message
from haulier.soulseek.connection import Connection, ConnectionLost, connect
from haulier.soulseek.messages import (
    FROM_SERVER,
    OFFLINE_ADDRESS,
    TO_SERVER,
    AcknowledgePrivateMessage,
    ExcludedPhrases,
    GetPeerAddress,
    HaveNoParent,
    Login,
    LoginAnswer,
    PeerAddress,
    Ping,
    PrivateMessage,
    PrivilegedUsers,
    Relogged,
    SetStatus,
    SetWaitPort,
    SharedCounts,
    UnwatchUser,
    UserStatus,
    WatchUser,
)
from haulier.soulseek.protocol import Event

ONLINE: Final = 2
FULL: Final = "SVRFULL"
_SILENT: Final = "the server does not say where the user is"
BRIEFLY: Final = RetryPolicy(retries=5, base_s=1.0, cap_s=4.0)
"""Of a command that somebody waits for, perhaps while the server is being started: some seconds."""
RECONNECT: Final = RetryPolicy(retries=1_000_000, base_s=1.0, cap_s=60.0)
"""A server may be away for hours; somebody who shares wants to be back when it is."""


class LoginRefused(PeerError):
    """The server does not let us in, and trying again would change nothing."""

    reason: str

    def __str__(self) -> str:
        return f"the server refuses the login: {self.reason}"


class LoggedInElsewhere(PeerError):
    """Somebody has logged in under our name; the server has ended our link."""

    user: str

    def __str__(self) -> str:
        return f"{self.user} has logged in somewhere else"


class ServerUnreachable(PeerError):
    """The server was not reached as often as it was to be tried."""

    server: str
    reason: str

    def __str__(self) -> str:
        return f"{self.server} cannot be reached: {self.reason}"


class LinkDown(PeerError):
    """Our own link to the server is down, or the server is silent: it says nothing about any peer."""

    reason: str

    def __str__(self) -> str:
        return self.reason


class PeerOffline(PeerError):
    """The server knows of no address of the user."""

    user: str

    def __str__(self) -> str:
        return f"{self.user} is offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who we are, and on which server."""

    user: str
    password: Secret
    host: str
    port: int


Handler = Callable[[Any], None]


class ServerLink:
    """The link.

    Args:
        identity: Who logs in, and where.
        bounds: Its limits.
        handlers: By message, what to do about it; told on the event loop, between two messages.
        log: Takes events with their fields.
        came_up: Called whenever the link is there, again or at last.
    """

    def __init__(
        self,
        identity: Identity,
        bounds: Bounds,
        handlers: Mapping[type[Message], Handler],
        log: Callable[..., None],
        *,
        came_up: Callable[[], None] = lambda: None,
        reconnect: RetryPolicy = RECONNECT,
    ) -> None:
        self.identity = identity
        self.wait_port = 0
        self.privileged: frozenset[str] = frozenset()
        self.excluded_phrases: tuple[str, ...] = ()
        self._counts = (0, 0)
        self._bounds = bounds
        self._log = log
        self._came_up = came_up
        self._reconnect = reconnect
        self._watched: dict[str, set[object]] = {}
        """Users that are followed, and who follows them."""
        self._connection: Connection | None = None
        self._addresses: dict[str, asyncio.Future[PeerAddress]] = {}
        self.up = asyncio.Event()
        self._handlers: dict[type[Message], list[Handler]] = {
            PeerAddress: [self._take_address],
            PrivilegedUsers: [self._take_privileged],
            UserStatus: [self._take_status],
            ExcludedPhrases: [self._take_phrases],
            PrivateMessage: [self._take_private_message],
            Relogged: [self._take_relogged],
        }
        for kind, handler in handlers.items():
            self._handlers.setdefault(kind, []).append(handler)

    async def run(self) -> None:
        """Keep the link until cancelled.

        Raises:
            LoginRefused: the server does not let us in.
            LoggedInElsewhere: somebody else has taken the name.
            ServerUnreachable: it was tried often enough.
        """
        patience = Patience(self._reconnect, SystemRandom().random)
        logins = 0
        while True:
            try:
                await self._log_in()
                logins += 1
                patience.progress(logins)
                await self._serve()
            except (ConnectionLost, TimeoutError) as error:
                await self._bear(str(error) or "no answer in time", patience)
            finally:
                self._forget_link()

    async def _bear(self, reason: str, patience: Patience) -> None:
        """Wait before the next try, if there is to be one."""
        self._forget_link()
        self._log("server.lost", reason=reason)
        delay = patience.next_delay()
        if delay is None:
            raise ServerUnreachable(f"{self.identity.host}:{self.identity.port}", reason)
        await asyncio.sleep(delay)

    async def _log_in(self) -> None:
        # What the server passes on is others': read slowly, searches would hold up the answers that uploads wait for.
        connection = await connect(self.identity.host, self.identity.port, self._bounds, throttled=False)
        self._connection = connection
        connection.switch(FROM_SERVER, TO_SERVER)
        await connection.send(Login.of(self.identity.user, self.identity.password.reveal()))
        async with asyncio.timeout(self._bounds.handshake_s):
            answer = await connection.receive()
        if not isinstance(answer, LoginAnswer):
            raise ConnectionLost("the server does not answer the login")
        if not answer.accepted and answer.text == FULL:
            raise ConnectionLost("the server is full")
        if not answer.accepted:
            raise LoginRefused(answer.text)

    async def _serve(self) -> None:
        connection = self._connection
        assert connection is not None
        await connection.send(
            SetWaitPort(self.wait_port),
            SetStatus(ONLINE),
            SharedCounts(*self._counts),
            HaveNoParent(wanted=False),
        )
        await connection.send(*(WatchUser(user) for user in sorted(self._watched)))
        self.up.set()
        self._log("server.up", user=self.identity.user)
        self._came_up()
        while True:
            message = await self._receive(connection)
            for handler in self._handlers.get(type(message), ()):  # type: ignore[arg-type]
                handler(message)

    async def _receive(self, connection: Connection) -> Event:
        """Return the next message; a link that is silent is shown that we are there."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._bounds.ping_s):
                    return await connection.receive()
            await connection.send(Ping())

    def _forget_link(self) -> None:
        connection, self._connection = self._connection, None
        self.up.clear()
        if connection is not None:
            connection.close()
        for waiting in self._addresses.values():
            if not waiting.done():
                waiting.set_exception(LinkDown("the link to the server is lost"))
                waiting.exception()  # whoever asked may have gone
        self._addresses.clear()

    def tell(self, message: Message) -> None:
        """Send a message if the link is up; what has to be known after a login is told then anyway."""
        if self._connection is not None and self.up.is_set():
            self._connection.send_nowait(message)

    def share(self, folders: int, files: int) -> None:
        """Tell how much we share, now and after each login."""
        self._counts = (folders, files)
        self.tell(SharedCounts(folders, files))

    def watch(self, user: str, watcher: object) -> None:
        """Follow whether a user is there; how it is now is told at once, and after each login."""
        if user not in self._watched:
            self.tell(WatchUser(user))
        self._watched.setdefault(user, set()).add(watcher)

    def unwatch(self, user: str, watcher: object) -> None:
        """Follow no more for this watcher; harmless when it did not."""
        watchers = self._watched.get(user)
        if watchers is None:
            return
        watchers.discard(watcher)
        if not watchers:
            del self._watched[user]
            self.tell(UnwatchUser(user))

    async def locate(self, user: str) -> PeerAddress:
        """Return where a user is; those who ask at a time share one question.

        Raises:
            PeerOffline: the user is not there.
            LinkDown: the link is down, or the server does not answer.
        """
        if not self.up.is_set():
            raise LinkDown("the link to the server is down")
        waiting = self._addresses.get(user)
        if waiting is None:
            waiting = self._addresses[user] = asyncio.get_running_loop().create_future()
            self.tell(GetPeerAddress(user))
        try:
            async with asyncio.timeout(self._bounds.server_answer_s):
                address = await asyncio.shield(waiting)
        except TimeoutError as error:
            if self._addresses.get(user) is waiting:
                del self._addresses[user]
                # Others have asked a little later: for them this is an answer, too, and never a cancel.
                waiting.set_exception(LinkDown(_SILENT))
                waiting.exception()
            raise LinkDown(_SILENT) from error
        if address.ip == OFFLINE_ADDRESS:
            raise PeerOffline(user)
        return address

    # --- what the server says ------------------------------------------------------------------------

    def _take_address(self, address: PeerAddress) -> None:
        waiting = self._addresses.pop(address.user, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(address)

    def _take_privileged(self, users: PrivilegedUsers) -> None:
        self.privileged = frozenset(users.users)

    def _take_status(self, status: UserStatus) -> None:
        """Privileges come and go after the list of the login."""
        if status.privileged != (status.user in self.privileged):
            self.privileged ^= {status.user}

    def _take_phrases(self, phrases: ExcludedPhrases) -> None:
        self.excluded_phrases = tuple(phrase.lower() for phrase in phrases.phrases if phrase)

    def _take_private_message(self, message: PrivateMessage) -> None:
        self._log("message.received", user=message.user, size=len(message.text))
        self.tell(AcknowledgePrivateMessage(message.id))

    def _take_relogged(self, relogged: Relogged) -> None:  # noqa: ARG002 - it says nothing more
        raise LoggedInElsewhere(self.identity.user)
