"""What answers in a remote's place, or of one gone mad: sign-in pages, endless bodies, addresses elsewhere."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import field
from typing import TypeVar

import pytest

from haulier.body.exchange import MAX_ANSWER
from haulier.core.errors import PeerBusy, PeerError, PeerRefused, PeerUnreachable, PeerUnreadable
from haulier.core.outgoing import RemoteSession
from haulier.core.secret import Secret
from haulier.core.values import dataclass, replace
from haulier.remotes.haulier import HaulierRemote
from haulier.remotes.onedrive import OneDriveRemote
from haulier.remotes.s3 import S3Remote
from haulier.remotes.tus import TusRemote
from haulier.sending_ports import Remote
from haulier.testing.remote_contract import Sources, delivery_of

MIB = 1024 * 1024
BEGUN = {
    "id": "u",
    "token": "t",
    "chunk_size": MIB,
    "uploadUrl": "http://127.0.0.1:{port}/session",
    "file": {},
}
PAGE = "<html><body>Please accept our terms to use this network.</body></html>"


@dataclass
class Host:
    """Answers every request by what a test says, and keeps their heads."""

    answer: Callable[[str, int], bytes]
    port: int = 0
    heads: list[str] = field(default_factory=list)
    after: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None
    serving: list[asyncio.Task[None] | None] = field(default_factory=list)
    listener: asyncio.Server | None = None

    def leave_after(self, answer: bytes) -> None:
        """Give one more answer, and be gone."""

        async def leave(writer: asyncio.StreamWriter) -> None:
            assert self.listener is not None
            self.listener.close()
            for other in self.serving:
                if other is not None and other is not asyncio.current_task():
                    other.cancel()
            writer.close()

        self.answer, self.after = lambda *_: answer, leave

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                self.heads.append(head)
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                await reader.readexactly(int(fields.get("content-length", "0")))
                writer.write(self.answer(head.split(" ", 1)[0], self.port))
                if self.after is not None:
                    await self.after(writer)
        writer.close()


@asynccontextmanager
async def host(
    answer: Callable[[str, int], bytes],
    after: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Host]:
    made = Host(answer, after=after)
    made.listener = running = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = running.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        running.close()
        for task in made.serving:
            assert task is not None
            task.cancel()
        await asyncio.gather(*made.serving, return_exceptions=True)  # type: ignore[arg-type]


def said(status: str, body: str = "", **headers: str) -> bytes:
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n{body}".encode("latin-1")


async def token(renew: bool) -> str:
    return "good"


MAKERS: dict[str, Callable[[str], Remote]] = {
    "haulier": lambda url: HaulierRemote(url, token=Secret("hl_secret")),
    "tus": lambda url: TusRemote(url, token=Secret("hl_secret")),
    "s3": lambda url: S3Remote(url, bucket="b", keys=(Secret("key"), Secret("secret"))),
    "onedrive": lambda url: OneDriveRemote(token, base_url=url),
}


R = TypeVar("R", bound=Remote)


class Closing:
    """Closes the remotes of a test."""

    def __init__(self) -> None:
        self._remotes: list[Remote] = []

    def __call__(self, remote: R) -> R:
        self._remotes.append(remote)
        return remote

    async def close(self) -> None:
        for remote in self._remotes:
            await remote.close()


@pytest.fixture
async def closing() -> AsyncIterator[Closing]:
    made = Closing()
    yield made
    await made.close()


@pytest.fixture(params=MAKERS)
def maker(request: pytest.FixtureRequest) -> Callable[[str], Remote]:
    return MAKERS[request.param]


@pytest.mark.parametrize("page", [PAGE, "{}", "[]", '"x"', "[" * 30_000], ids=range(5))
async def test_a_page_in_the_place_of_an_answer_can_pass(
    maker: Callable[[str], Remote], page: str, sources: Sources, closing: Closing
) -> None:
    async with host(lambda method, _: said("201 Created" if method == "POST" else "200 OK", page)) as portal:
        remote = closing(maker(portal.url))
        if isinstance(remote, S3Remote | OneDriveRemote):
            portal.answer = lambda *_: said("200 OK", page)
        # So large that an upload is begun.
        outgoing = delivery_of(remote, sources, bytes(17 * MIB)).outgoing
        with pytest.raises((PeerUnreadable, PeerBusy)) as told:
            await remote.create(outgoing)
    # botocore takes some pages for failures of the service, which pass as well.
    assert isinstance(told.value, PeerUnreadable) or isinstance(remote, S3Remote)
    assert told.value.retryable
    assert "terms" not in str(told.value)


@pytest.mark.parametrize("length", [0, -1, 2**63, "x", None])
async def test_a_length_of_chunks_that_is_none_can_pass(
    sources: Sources, closing: Closing, length: object
) -> None:
    """The journal would put the row aside, or refuse it."""
    begun = json.dumps(BEGUN | {"chunk_size": length})
    async with host(lambda *_: said("201 Created", begun)) as service:
        remote = closing(HaulierRemote(service.url))
        with pytest.raises(PeerUnreadable):
            await remote.create(delivery_of(remote, sources, b"1").outgoing)


@pytest.mark.parametrize("kind", ["haulier", "onedrive"])
async def test_a_page_in_the_place_of_a_state_can_pass(kind: str, sources: Sources, closing: Closing) -> None:
    def begin(method: str, port: int) -> bytes:
        return said("200 OK", json.dumps(BEGUN).replace("{port}", str(port)))

    async with host(begin) as portal:
        remote = closing(MAKERS[kind](portal.url))
        delivery = delivery_of(remote, sources, bytes(17 * MIB))
        session = await remote.create(delivery.outgoing)
        portal.answer = lambda *_: said("200 OK", PAGE)
        with pytest.raises(PeerUnreadable):
            await remote.offset(delivery.outgoing, session)
        with pytest.raises(PeerUnreadable):
            await remote.commit(delivery.outgoing, session, None)


CREATED = said(
    "201 Created", Location="/u", Tus_Version="1.0.0", Tus_Extension="creation,creation-with-upload"
)
GOES_ON = {
    "haulier": (said("202 Accepted", '{"status": "finishing"}'), "commit"),
    "tus in one request": (CREATED, "send"),
}
"""The answer to the request that may make the file, after which more has to be asked; and the call that it belongs to."""


@pytest.mark.parametrize("kind", GOES_ON)
async def test_a_remote_that_is_gone_after_it_has_answered_may_have_the_file(
    kind: str, sources: Sources, closing: Closing
) -> None:
    def begin(method: str, port: int) -> bytes:
        if kind.startswith("tus"):
            return CREATED
        return said("200 OK", json.dumps(BEGUN).replace("{port}", str(port)))

    async with host(begin) as server:
        makers = MAKERS | {"tus in one request": lambda url: TusRemote(url, one_request=True)}
        remote = closing(makers[kind](server.url))
        delivery = delivery_of(remote, sources, bytes(3 if kind.startswith("tus") else MIB))
        session = await remote.create(delivery.outgoing)
        answer, call = GOES_ON[kind]
        server.leave_after(answer)
        asking = (
            remote.commit(delivery.outgoing, session, None)
            if call == "commit"
            else delivery.send(session, 0, delivery.outgoing.size)
        )
        with pytest.raises(PeerUnreachable) as told:
            await asking
        assert told.value.sent


@pytest.mark.parametrize(
    "status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 There"]
)
async def test_a_redirect_is_not_followed_and_its_host_is_told_with_the_cure(
    maker: Callable[[str], Remote], status: str, sources: Sources, closing: Closing
) -> None:
    async with host(lambda *_: said("200 OK")) as other:
        place = f"http://localhost:{other.port}"
        async with host(lambda *_: said(status, Location=f"{place}/very-secret")) as here:
            remote = closing(maker(here.url))
            for size in (1, 17 * MIB):
                delivery = delivery_of(remote, sources, bytes(size))
                with pytest.raises(
                    PeerRefused, match=f"sends us on to {place}, .*haulier remote add"
                ) as told:
                    await delivery.send(await remote.create(delivery.outgoing), 0, size)
                assert "very-secret" not in str(told.value)
        assert other.heads == []


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable", "520 What"])
async def test_a_tus_server_that_is_too_busy_to_say_what_it_can_is_asked_again(
    status: str, sources: Sources, closing: Closing
) -> None:
    busy = said(status, Retry_After="7")
    async with host(lambda *_: busy) as server:
        remote = closing(MAKERS["tus"](server.url))
        delivery = delivery_of(remote, sources, b"123")
        for _ in range(2):
            with pytest.raises(PeerBusy) as told:
                await remote.create(delivery.outgoing)
            assert told.value.retry_after_s == 7
        server.answer = lambda *_: said(
            "201 Created", Location="/u", Tus_Version="1.0.0", Tus_Extension="creation"
        )
        await remote.create(delivery.outgoing)
    assert [head.split()[0] for head in server.heads] == ["OPTIONS", "OPTIONS", "OPTIONS", "POST"]


async def endless(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


# Short requests to S3 are botocore's.
@pytest.mark.parametrize("kind", ["haulier", "tus", "onedrive"])
async def test_an_endless_answer_to_a_short_request_ends(kind: str, closing: Closing) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
    async with host(lambda *_: head, after=endless) as mad:
        remote = closing(MAKERS[kind](mad.url))
        with pytest.raises(PeerUnreachable, match=f"longer than {MAX_ANSWER} bytes"):
            await remote.probe()


async def test_an_endless_refusal_of_a_short_request_is_a_refusal(closing: Closing) -> None:
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 99999999999\r\n\r\n"
    async with host(lambda *_: head, after=endless) as mad:
        remote = closing(HaulierRemote(mad.url))
        with pytest.raises(PeerRefused) as told:
            await remote.probe()
    assert told.value.status == 403


class TestOtherHosts:
    """A server names the address of an upload; what is secret goes to the host that was set up, only."""

    @pytest.fixture
    def remote_of(self) -> Callable[[str], TusRemote]:
        return lambda url: TusRemote(url, headers={"X-Key": Secret("k")}, token=Secret("hl_secret"))

    async def test_credentials_never_go_to_a_host_that_the_server_names(
        self, remote_of: Callable[[str], TusRemote], sources: Sources, closing: Closing
    ) -> None:
        async with host(lambda *_: said("204 No Content", Upload_Offset="0")) as thief:
            place = f"{thief.url}/files/1"
            async with host(lambda *_: said("201 Created", Location=place)) as server:
                remote = closing(remote_of(server.url))
                delivery = delivery_of(remote, sources, b"data")
                with pytest.raises(PeerRefused) as told:
                    await remote.create(delivery.outgoing)
                assert told.value.slug == "other-host"
                # Nor by a session that an older version has kept.
                other = await _session_at(place, sources, closing)
                state = {**json.loads(other.state.reveal()), "place": f"tus {server.url}"}
                kept = replace(other, state=Secret(json.dumps(state)))
                for step in (
                    lambda: remote.offset(delivery.outgoing, kept),
                    lambda: delivery.send(kept, 0, 4),
                    lambda: remote.cancel(delivery.outgoing, kept),
                ):
                    with pytest.raises(PeerRefused):
                        await step()
        assert thief.heads == []

    async def test_a_server_may_name_its_own_host_in_any_form(
        self, remote_of: Callable[[str], TusRemote], sources: Sources, closing: Closing
    ) -> None:
        places = ["/files/1", "1", "//127.0.0.1:{port}/files/1", "http://127.0.0.1:{port}/files/1"]
        for place in places:
            async with host(
                lambda _, port, place=place: said(  # type: ignore[misc]
                    "201 Created", Location=place.replace("{port}", str(port))
                )
            ) as server:
                remote = closing(remote_of(f"{server.url}/files/"))
                delivery = delivery_of(remote, sources, b"data")
                session = await remote.create(delivery.outgoing)
                assert json.loads(session.state.reveal())["url"] == f"{server.url}/files/1"

    @pytest.mark.parametrize("place", ["ftp://127.0.0.1/x", "http://["])
    async def test_what_is_no_address_is_refused(
        self, place: str, sources: Sources, closing: Closing
    ) -> None:
        async with host(lambda *_: said("201 Created", Location=place)) as server:
            remote = closing(TusRemote(server.url))
            with pytest.raises(PeerError):
                await remote.create(delivery_of(remote, sources, b"data").outgoing)

    async def test_without_credentials_another_host_may_take_the_file(
        self, sources: Sources, closing: Closing
    ) -> None:
        async with host(lambda *_: said("204 No Content", Upload_Offset="4")) as other:
            place = f"{other.url}/files/1"
            async with host(lambda *_: said("201 Created", Location=place)) as server:
                remote = closing(TusRemote(server.url))
                delivery = delivery_of(remote, sources, b"data")
                session = await remote.create(delivery.outgoing)
                stored = await delivery.send(session, 0, 4)
        assert stored is not None
        assert stored.id == place


async def _session_at(place: str, sources: Sources, closing: Closing) -> RemoteSession:
    """Return a session with that address, as a server of that host would have begun it."""
    async with host(lambda *_: said("201 Created", Location=place)) as server:
        remote = closing(TusRemote(server.url))
        return await remote.create(delivery_of(remote, sources, b"data").outgoing)


async def test_a_file_that_a_server_took_in_part_is_asked_for_and_continued(
    sources: Sources, closing: Closing
) -> None:
    """The file goes with the creation of its upload; the server keeps two bytes of it, and is asked before more."""
    answers = {
        "OPTIONS": said("204 No Content", Tus_Extension="creation,creation-with-upload"),
        "POST": said("201 Created", Location="/files/1", Upload_Offset="2"),
        "HEAD": said("200 OK", Upload_Offset="2", Upload_Length="5"),
        "PATCH": said("204 No Content", Upload_Offset="5"),
    }
    async with host(lambda method, _: answers[method]) as server:
        remote = closing(TusRemote(server.url, one_request=True))
        delivery = delivery_of(remote, sources, b"abcde")
        session = await remote.create(delivery.outgoing)
        with pytest.raises(PeerBusy):
            await delivery.send(session, 0, 5)
        assert (await remote.offset(delivery.outgoing, session)).ranges.prefix == 2
        stored = await delivery.send(session, 0, 5)
    assert stored is not None
    assert stored.id == f"{server.url}/files/1"
    said_by_us = [head.split(" ", 1)[0] for head in server.heads]
    assert said_by_us == ["OPTIONS", "POST", "HEAD", "HEAD", "PATCH"]
    assert "upload-offset: 2" in server.heads[-1].lower()
    assert "content-length: 3" in server.heads[-1].lower()


@pytest.mark.parametrize("after", ["7", "Sat, 28 Nov 2026 10:00:07 GMT"], ids=["seconds", "a date"])
async def test_s3_is_let_rest_for_as_long_as_it_asks(after: str, closing: Closing) -> None:
    busy = said("503 Slow Down", Retry_After=after, Date="Sat, 28 Nov 2026 10:00:00 GMT")
    async with host(lambda *_: busy) as server:
        with pytest.raises(PeerBusy) as told:
            await closing(MAKERS["s3"](server.url)).probe()
    assert told.value.retry_after_s == 7.0
