"""Connections between peers and with the server: made once, replaced, closed, and come back to."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from haulier.core.values import replace
from haulier.soulseek.codec import Message
from haulier.soulseek.connection import Connection, ConnectionLost, connect
from haulier.soulseek.messages import (
    FROM_SERVER,
    TO_SERVER,
    AcknowledgePrivateMessage,
    CannotConnect,
    CannotConnectNotice,
    CheckPrivileges,
    ConnectRequest,
    ConnectToPeer,
    FileSearch,
    GetPeerAddress,
    GetRoomList,
    GetUserStats,
    GetUserStatus,
    HaveNoParent,
    Login,
    LoginAnswer,
    PeerAddress,
    PeerInit,
    PrivateMessage,
    PrivilegedUsers,
    PrivilegesLeft,
    RoomList,
    SearchRequest,
    SendUploadSpeed,
    SetStatus,
    SetWaitPort,
    SharedCounts,
    UnwatchUser,
    UserSearch,
    UserStats,
    UserStatus,
    WatchedUser,
    WatchUser,
    WishlistInterval,
    WishlistSearch,
)
from haulier.soulseek.node import Node
from haulier.soulseek.peer_messages import (
    TO_PEER,
    FolderAnswer,
    GetFolder,
    GetPlaceInQueue,
    GetUserInfo,
    UserInfo,
)
from haulier.soulseek.rendezvous import Rendezvous
from tests.support.soulseek import DEADLINE_S, HOST, PATIENT, Network, eventually, make_file, network


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Network]:
    async with network(tmp_path) as running:
        yield running


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as ends:
        yield ends


async def link_to(node: Node, name: str, stack: AsyncExitStack) -> Connection:
    connection = await connect(*node.address, PATIENT)
    stack.callback(connection.abort)
    await connection.send(PeerInit(name, "P"))
    connection.switch(TO_PEER, TO_PEER)
    return connection


async def heard(link: Connection, kind: type[Message] | None = None) -> Message:
    """Return the next message, or the next of a kind."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            message = await link.receive()
            assert isinstance(message, Message)
            if kind is None or isinstance(message, kind):
                return message


class User:
    """A client of the server that says just what a test says."""

    def __init__(self, link: Connection) -> None:
        self.link = link

    @classmethod
    async def enter(cls, port: int, name: str, stack: AsyncExitStack, password: str = "secret") -> "User":
        link = await connect(HOST, port, PATIENT)
        stack.callback(link.abort)
        link.switch(FROM_SERVER, TO_SERVER)
        await link.send(Login.of(name, password))
        return cls(link)

    @classmethod
    async def logged_in(cls, port: int, name: str, stack: AsyncExitStack) -> "User":
        user = await cls.enter(port, name, stack)
        assert isinstance(await heard(user.link), LoginAnswer)
        return user

    async def asks(self, message: Message, kind: type[Message]) -> Message:
        await self.link.send(message)
        return await heard(self.link, kind)


class TestMessageConnections:
    async def test_however_many_want_one_it_is_made_once(self, net: Network) -> None:
        alice, bob = await net.node("alice"), await net.node("bob")
        links = await asyncio.gather(*(bob.peers.reach("alice") for _ in range(20)))
        assert len(set(map(id, links))) == 1
        await eventually(lambda: alice.peers.count == 1, "one is left of the two ways")

    async def test_one_that_is_replaced_is_still_read_for_a_while(
        self, net: Network, stack: AsyncExitStack
    ) -> None:
        alice = await net.node("alice", bounds=replace(PATIENT, replaced_s=1.0))
        older, newer = await link_to(alice, "bob", stack), await link_to(alice, "bob", stack)
        await newer.send(GetUserInfo())
        assert isinstance(await heard(newer), UserInfo)
        await older.send(GetUserInfo())
        assert isinstance(await heard(older), UserInfo)
        with pytest.raises(ConnectionLost):
            await heard(older)
        await newer.send(GetUserInfo())
        assert isinstance(await heard(newer), UserInfo)

    async def test_one_that_was_replaced_stands_again_when_the_newer_one_breaks(
        self, net: Network, stack: AsyncExitStack
    ) -> None:
        alice = await net.node("alice")
        older, newer = await link_to(alice, "bob", stack), await link_to(alice, "bob", stack)
        await eventually(lambda: alice.peers.count == 2, "both are there")
        newer.abort()
        await eventually(lambda: alice.peers.count == 1, "one is gone")
        [link] = [it for it in alice.peers._links if it.user == "bob"]
        assert link.closing is not None
        assert link.closing.cancelled()
        await older.send(GetUserInfo())
        assert isinstance(await heard(older), UserInfo)

    async def test_one_that_is_idle_is_closed(self, net: Network, stack: AsyncExitStack) -> None:
        alice = await net.node("alice", bounds=replace(PATIENT, peer_idle_s=0.3))
        link = await link_to(alice, "bob", stack)
        with pytest.raises(ConnectionLost):
            await heard(link)
        await eventually(lambda: alice.peers.count == 0, "it is counted out")

    async def test_one_that_says_too_much_is_read_more_slowly(
        self, net: Network, stack: AsyncExitStack
    ) -> None:
        alice = await net.node("alice", bounds=replace(PATIENT, messages_per_s=100.0))
        link = await link_to(alice, "bob", stack)
        began = asyncio.get_running_loop().time()
        await link.send(*(GetUserInfo() for _ in range(100)))
        for _ in range(100):
            await heard(link)
        # The first fifty come at once; never faster than the rate is the rule, not a measure of speed.
        assert asyncio.get_running_loop().time() - began >= 0.45

    async def test_one_that_says_too_much_of_what_nobody_knows_is_read_more_slowly_too(
        self, net: Network, stack: AsyncExitStack
    ) -> None:
        alice = await net.node("alice", bounds=replace(PATIENT, messages_per_s=100.0))
        link = await link_to(alice, "bob", stack)
        unknown = bytes.fromhex("04000000 0f270000")
        began = asyncio.get_running_loop().time()
        await link.send_raw(100 * unknown)
        await link.send(GetUserInfo())
        assert isinstance(await heard(link), UserInfo)
        assert asyncio.get_running_loop().time() - began >= 0.45

    async def test_one_for_the_search_tree_is_closed(self, net: Network, stack: AsyncExitStack) -> None:
        alice = await net.node("alice")
        connection = await connect(*alice.address, PATIENT)
        stack.callback(connection.abort)
        await connection.send(PeerInit("bob", "D"))
        async with asyncio.timeout(DEADLINE_S):
            assert await connection.read_some() == b""

    async def test_folders_and_places_are_answered(
        self, net: Network, stack: AsyncExitStack, tmp_path: Path
    ) -> None:
        make_file(tmp_path / "Music" / "Band" / "song.bin", 5)
        alice = await net.node("alice", tmp_path / "Music")
        link = await link_to(alice, "bob", stack)
        await link.send(GetPlaceInQueue("Music\\Band\\song.bin"), GetFolder(9, "Music"))
        answer = await heard(link)
        assert isinstance(answer, FolderAnswer)
        contents = answer.unpack()
        assert (contents.token, contents.folder) == (9, "Music")
        assert [(it.path, [entry.name for entry in it.files]) for it in contents.folders] == [
            ("Music\\Band", ["song.bin"])
        ]


class TestTheLink:
    async def test_it_comes_back_and_tells_all_again(self, tmp_path: Path) -> None:
        make_file(tmp_path / "Music" / "song.bin", 5)
        async with network(tmp_path) as net:
            alice = await net.node("alice", tmp_path / "Music")
            told: list[UserStatus] = []
            alice.uploads.take_status = told.append  # type: ignore[assignment, method-assign] # to watch it
            alice.link.watch("bob", self)
            await net.server.stop()
            await eventually(lambda: not alice.link.up.is_set(), "the link is lost")
            again = Rendezvous()
            await again.start(HOST, net.port)
            try:
                await eventually(alice.link.up.is_set, "the link is back")
                await net.node("bob")
                await eventually(lambda: UserStatus("bob", 2) in told, "bob's coming was told")
                async with AsyncExitStack() as stack:
                    carol = await User.logged_in(net.port, "carol", stack)
                    stats = await carol.asks(GetUserStats("alice"), UserStats)
                    assert stats == UserStats("alice", 0, 0, 0, 1, 1)
                    address = await carol.asks(GetPeerAddress("alice"), PeerAddress)
                    assert address == PeerAddress("alice", HOST, alice.address[1])
            finally:
                await again.stop()


class TestTheServer:
    async def test_names_and_passwords(self, net: Network, stack: AsyncExitStack) -> None:
        for name, password, reason in (
            ("", "x", "INVALIDUSERNAME"),
            ("n" * 31, "x", "INVALIDUSERNAME"),
            (" space", "x", "INVALIDUSERNAME"),
            ("\u00fcmlaut", "x", "INVALIDUSERNAME"),
            ("empty", "", "EMPTYPASSWORD"),
        ):
            user = await User.enter(net.port, name, stack, password)
            assert await heard(user.link) == LoginAnswer(False, reason)
        old = await connect(HOST, net.port, PATIENT)
        stack.callback(old.abort)
        old.switch(FROM_SERVER, TO_SERVER)
        await old.send(replace(Login.of("bob", "secret"), minor=0))
        assert await heard(old) == LoginAnswer(False, "INVALIDVERSION")

    async def test_accounts_outlive_the_server_and_passwords_are_not_kept(
        self, tmp_path: Path, stack: AsyncExitStack
    ) -> None:
        for password, accepted in (("first", True), ("second", False), ("first", True)):
            server = Rendezvous(tmp_path / "data")
            _, port = await server.start(HOST, 0)
            user = await User.enter(port, "bob", stack, password)
            answer = await heard(user.link, LoginAnswer)
            assert isinstance(answer, LoginAnswer)
            assert answer.accepted is accepted
            await server.stop()
        accounts = tmp_path / "data" / "accounts.jsonl"
        assert b"first" not in accounts.read_bytes()
        assert accounts.stat().st_mode & 0o777 == 0o600

    async def test_one_that_is_full_says_so(self, tmp_path: Path, stack: AsyncExitStack) -> None:
        async with network(tmp_path, bounds=replace(PATIENT, connections=1)) as net:
            await User.logged_in(net.port, "bob", stack)
            second = await User.enter(net.port, "carol", stack)
            assert await heard(second.link) == LoginAnswer(False, "SVRFULL")

    async def test_who_is_watched_is_told_of(self, net: Network, stack: AsyncExitStack) -> None:
        bob = await User.logged_in(net.port, "bob", stack)
        assert await bob.asks(WatchUser("carol"), WatchedUser) == WatchedUser("carol", False)
        carol = await User.logged_in(net.port, "carol", stack)
        assert await heard(bob.link, UserStatus) == UserStatus("carol", 2)
        await carol.link.send(SetStatus(1), SharedCounts(3, 4), SendUploadSpeed(1000), SendUploadSpeed(3000))
        assert await heard(bob.link, UserStatus) == UserStatus("carol", 1)
        assert await bob.asks(WatchUser("carol"), WatchedUser) == WatchedUser(
            "carol", True, 1, 2000, 2, 0, 4, 3, ""
        )
        assert await bob.asks(GetUserStatus("carol"), UserStatus) == UserStatus("carol", 1)
        carol.link.close()
        assert await heard(bob.link, UserStatus) == UserStatus("carol", 0)
        assert await bob.asks(WatchUser("carol"), WatchedUser) == WatchedUser("carol", True, 0)
        await bob.link.send(UnwatchUser("carol"))

    async def test_connections_are_asked_for_through_it(self, net: Network, stack: AsyncExitStack) -> None:
        bob, carol = (
            await User.logged_in(net.port, "bob", stack),
            await User.logged_in(net.port, "carol", stack),
        )
        await bob.link.send(SetWaitPort(4711), ConnectToPeer(7, "carol", "F"))
        assert await heard(carol.link, ConnectRequest) == ConnectRequest("bob", "F", HOST, 4711, 7)
        await carol.link.send(CannotConnect(7, "bob"))
        assert await heard(bob.link, CannotConnectNotice) == CannotConnectNotice(7)
        assert await bob.asks(ConnectToPeer(8, "nobody", "P"), CannotConnectNotice) == CannotConnectNotice(8)
        assert await carol.asks(GetPeerAddress("bob"), PeerAddress) == PeerAddress("bob", HOST, 4711)
        assert await carol.asks(GetPeerAddress("nobody"), PeerAddress) == PeerAddress("nobody", "0.0.0.0", 0)

    async def test_searches_reach_those_who_share(self, net: Network, stack: AsyncExitStack) -> None:
        bob, carol = (
            await User.logged_in(net.port, "bob", stack),
            await User.logged_in(net.port, "carol", stack),
        )
        await carol.link.send(SharedCounts(1, 1))
        await carol.asks(GetRoomList(), RoomList)
        for ask in (FileSearch(5, "one"), WishlistSearch(5, "one"), UserSearch("carol", 5, "one")):
            await bob.link.send(ask)
            assert await heard(carol.link, SearchRequest) == SearchRequest("bob", 5, "one")

    async def test_a_search_that_nobody_types_reaches_nobody(
        self, net: Network, stack: AsyncExitStack
    ) -> None:
        bob, carol = (
            await User.logged_in(net.port, "bob", stack),
            await User.logged_in(net.port, "carol", stack),
        )
        await carol.link.send(SharedCounts(1, 1))
        await carol.asks(GetRoomList(), RoomList)
        for ask in (FileSearch, WishlistSearch, partial(UserSearch, "carol")):
            await bob.link.send(ask(5, "a" * 1_001), ask(6, "a" * 1_000))
            assert await heard(carol.link, SearchRequest) == SearchRequest("bob", 6, "a" * 1_000)

    async def test_what_it_has_nothing_of(self, net: Network, stack: AsyncExitStack) -> None:
        bob = await User.logged_in(net.port, "bob", stack)
        assert await heard(bob.link, WishlistInterval) == WishlistInterval(120)
        assert await bob.asks(GetRoomList(), RoomList) == RoomList()
        assert await bob.asks(CheckPrivileges(), PrivilegesLeft) == PrivilegesLeft(0)
        assert await bob.asks(GetUserStats("nobody"), UserStats) == UserStats("nobody", 0, 0, 0, 0, 0)

    async def test_codes_that_it_does_not_know_are_passed_over(
        self, net: Network, stack: AsyncExitStack
    ) -> None:
        bob = await User.logged_in(net.port, "bob", stack)
        for code in (71, 100, 126, 127, 141, 1003, 9999):
            await bob.link.send_raw((9).to_bytes(4, "little") + code.to_bytes(4, "little") + b"\1\0\0\0\0")
        assert await bob.asks(CheckPrivileges(), PrivilegesLeft) == PrivilegesLeft(0)

    async def test_who_says_nothing_is_left(self, tmp_path: Path, stack: AsyncExitStack) -> None:
        async with network(tmp_path, bounds=replace(PATIENT, handshake_s=0.2)) as net:
            silent = await connect(HOST, net.port, PATIENT)
            stack.callback(silent.abort)
            async with asyncio.timeout(DEADLINE_S):
                assert await silent.read_some() == b""


class TestAddressesThatManyShare:
    async def test_one_that_rests_makes_room_for_the_next(
        self, net: Network, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("haulier.soulseek.peer_links.RESTS_AFTER_S", 0.0)
        alice = await net.node("alice", bounds=replace(PATIENT, connections_per_address=2))
        links = []
        for name in ("ann", "bob", "cid"):
            links.append(await link_to(alice, name, stack))
            await links[-1].send(GetUserInfo())
            assert isinstance(await heard(links[-1]), UserInfo)
        with pytest.raises(ConnectionLost):
            await heard(links[0])
        for link in links[1:]:
            await link.send(GetUserInfo())
            assert isinstance(await heard(link), UserInfo)

    async def test_one_that_does_not_rest_makes_none(self, net: Network, stack: AsyncExitStack) -> None:
        alice = await net.node("alice", bounds=replace(PATIENT, connections_per_address=1))
        first = await link_to(alice, "ann", stack)
        await first.send(GetUserInfo())
        assert isinstance(await heard(first), UserInfo)
        second = await link_to(alice, "bob", stack)
        with pytest.raises(ConnectionLost):
            await heard(second)
        await first.send(GetUserInfo())
        assert isinstance(await heard(first), UserInfo)

    async def test_those_that_somebody_there_has_us_open_count_as_well(
        self, net: Network, stack: AsyncExitStack
    ) -> None:
        alice = await net.node("alice", bounds=replace(PATIENT, connections_per_address=2))
        silent = stack.enter_context(socket.create_server((HOST, 0)))
        ann = await User.logged_in(net.port, "ann", stack)
        await ann.link.send(SetWaitPort(silent.getsockname()[1]))
        await ann.link.send(*(ConnectToPeer(token, "alice", "F") for token in range(1, 6)))
        refused = [await heard(ann.link, CannotConnectNotice) for _ in range(3)]
        assert refused == [CannotConnectNotice(token) for token in (3, 4, 5)]
        assert alice.peers.count == 2
        link = await link_to(alice, "bob", stack)  # which have room of their own
        await link.send(GetUserInfo())
        assert isinstance(await heard(link), UserInfo)

    async def test_those_that_we_open_need_no_room(self, net: Network, stack: AsyncExitStack) -> None:
        alice = await net.node("alice", bounds=replace(PATIENT, connections_per_address=1))
        await net.node("bob")
        await link_to(alice, "ann", stack)
        await eventually(lambda: alice.peers.count == 1, "it is there")
        assert (await alice.peers.reach("bob")).user == "bob"


class TestTrust:
    async def test_a_link_to_the_server_that_is_down_says_nothing_about_a_peer(self, net: Network) -> None:
        alice, bob = await net.node("alice"), await net.node("bob")
        await bob.peers.reach("alice")
        await eventually(lambda: bool(list(alice.peers._links)), "it is there")
        [link] = [it for it in alice.peers._links if it.user == "bob"]
        link.solicited = False
        alice.link.up.clear()
        assert not await alice.peers.is_trusted(link)
        alice.link.up.set()
        assert await alice.peers.is_trusted(link)


class Server:
    """A server that says just what a test says, to one client."""

    def __init__(self) -> None:
        self.clients: asyncio.Queue[Connection] = asyncio.Queue()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Connection(reader, writer, PATIENT)
        link.switch(TO_SERVER, FROM_SERVER)
        assert isinstance(await link.receive(), Login)
        await link.send(LoginAnswer(True, ""))
        self.clients.put_nowait(link)


@pytest.fixture
async def server(net: Network) -> AsyncIterator[Server]:
    """Take the place of the rendezvous."""
    script = Server()
    listening = await asyncio.start_server(script.accept, HOST, 0)
    net.port = listening.sockets[0].getsockname()[1]
    yield script
    listening.close()


class TestOtherServers:
    async def test_a_private_message_is_acknowledged_and_its_text_kept_nowhere(
        self, net: Network, server: Server
    ) -> None:
        await net.node("alice")
        link = await server.clients.get()
        await link.send(PrivateMessage(9, 1, "bob", "some words"))
        assert await heard(link, AcknowledgePrivateMessage) == AcknowledgePrivateMessage(9)
        assert ("message.received", "bob") in net.told("user")
        assert "some words" not in repr(net.events)
        link.abort()

    async def test_after_a_login_it_is_told_what_we_are(self, net: Network, server: Server) -> None:
        alice = await net.node("alice")
        link = await server.clients.get()
        told = [await heard(link) for _ in range(4)]
        assert told == [
            SetWaitPort(alice.address[1]),
            SetStatus(2),
            SharedCounts(0, 0),
            HaveNoParent(wanted=False),
        ]
        link.abort()

    async def test_privileges_come_and_go(self, net: Network, server: Server) -> None:
        alice = await net.node("alice")
        link = await server.clients.get()
        favoured: list[frozenset[str]] = []
        alice.uploads.favour = lambda: favoured.append(alice.link.privileged)  # type: ignore[method-assign] # to watch it
        await link.send(PrivilegedUsers(("ann",)), UserStatus("bob", 2, privileged=True))
        await link.send(UserStatus("ann", 2), UserStatus("cid", 2))
        await eventually(lambda: len(favoured) == 3, "each change was told")
        assert favoured == [frozenset({"ann"}), frozenset({"ann", "bob"}), frozenset({"bob"})]
        link.abort()
