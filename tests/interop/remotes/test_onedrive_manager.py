"""OneDrive through the upload manager: whatever is lost on the way, and whoever else writes there, ours arrives, once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import field
from functools import cache
from pathlib import Path
from random import Random

import pytest

from haulier.adapters.local_files import SystemFiles
from haulier.adapters.memory.journal import MemoryJournal, MemoryJournalFile
from haulier.core.dispatch import Dispatch
from haulier.core.outgoing import IfExists, VerifyPolicy
from haulier.core.transfer import Obstacle, Outcome, Phase
from haulier.core.values import dataclass
from haulier.engine.send import UploadManager
from haulier.engine.send_runner import SendLimits
from haulier.engine.slots import SlotLimits
from haulier.remotes.onedrive import OneDriveRemote
from haulier.testing import ManualClock, SeededIdentifiers
from tests.support.onedrive import DRIVE, TOKEN, Drive, Fault, standing_in
from tests.support.sending import SOON_S, in_phase

SMALL = 1000
LARGE = 10 * 1024 * 1024 + 5
"""Two fragments."""
ONE_FRAGMENT = 4_500_000
SIZES = pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
WAYS = pytest.mark.parametrize("way", list(IfExists))
LOST = pytest.mark.parametrize("kept", [False, True], ids=["request", "answer"])
"""What of the last request is lost."""


@dataclass
class World:
    """A manager's world with a drive in it."""

    drive: Drive
    url: str
    folder: Path
    """Of what is sent; the body writer takes files on a disk."""
    tokens: list[str] = field(default_factory=lambda: [TOKEN])
    """The last one is good for who is signed in; each renewal takes one away, up to it."""
    drive_id: str | None = DRIVE
    limits: SendLimits = field(default_factory=SendLimits)
    clock: ManualClock = field(default_factory=ManualClock)
    journal: MemoryJournalFile = field(default_factory=MemoryJournalFile)
    renewals: int = 0

    def __post_init__(self) -> None:
        self.ids = SeededIdentifiers(self.clock)

    async def token(self, renew: bool) -> str:
        if renew:
            self.renewals += 1
            if len(self.tokens) > 1:
                del self.tokens[0]
        return self.tokens[0]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[UploadManager]:
        """A process of its own."""
        policy = self.limits.policies.get("drive", VerifyPolicy())
        remote = OneDriveRemote(
            self.token,
            drive_id=self.drive_id,
            base_url=f"{self.url}/v1.0",
            rewritten=policy.extensions,
            hash_wait_s=0,
        )
        manager = UploadManager(
            MemoryJournal(self.journal),
            {"drive": remote},
            files=SystemFiles(),
            clock=self.clock,
            ids=self.ids,
            chance=lambda: 0.0,
            limits=self.limits,
        )
        try:
            async with asyncio.timeout(SOON_S), manager:
                yield manager
        finally:
            await remote.close()

    def file(self, name: str, data: bytes) -> str:
        """Write a file and return its path."""
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    async def send(self, data: bytes, *, name: str = "x.bin", way: IfExists = IfExists.REPLACE) -> Dispatch:
        """Send one file to its end."""
        async with self.running() as manager:
            return await self.queued(manager, data, name=name, way=way)

    async def queued(
        self, manager: UploadManager, data: bytes, *, name: str = "x.bin", way: IfExists = IfExists.REPLACE
    ) -> Dispatch:
        path = self.file("source", data)
        return await manager.wait(await manager.queue(path, f"drive:{name}", if_exists=way))

    def lose(self, size: int, *, kept: bool, **more: object) -> None:
        """Lose the request that makes a file, or its answer."""
        pattern, nth = ("/content", 1) if size == SMALL else ("/upload/", 2)
        self.drive.faults.append(Fault("PUT", pattern, 504, nth=nth, after=kept, **more))  # type: ignore[arg-type]

    @property
    def files(self) -> dict[str, list[bytes]]:
        """All that was ever sent, by name."""
        return {item.name: item.contents for item in self.drive.items.values() if item.data is not None}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with standing_in() as (drive, url):
        yield World(drive, url, tmp_path)


@cache
def content(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


class TestLostAnswers:
    @SIZES
    @WAYS
    @LOST
    @pytest.mark.parametrize("skew", [-3600, 3600])
    async def test_a_free_name_gets_one_file(
        self, world: World, size: int, way: IfExists, *, kept: bool, skew: int
    ) -> None:
        world.drive.now = world.clock.now() + skew
        world.lose(size, kept=kept)
        ended = await world.send(content(size), way=way)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files == {"x.bin": [content(size)]}

    @SIZES
    @LOST
    @pytest.mark.parametrize("ctags", [True, False])
    @pytest.mark.parametrize("skew", [-3600, 3600])
    async def test_an_older_file_of_the_same_size_gets_one_version(
        self, world: World, size: int, *, kept: bool, ctags: bool, skew: int
    ) -> None:
        world.drive.ctags = ctags
        world.drive.now = world.clock.now() + skew
        world.drive.write("x.bin", content(size, 2))
        world.lose(size, kept=kept)
        ended = await world.send(content(size))
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files == {"x.bin": [content(size, 2), content(size)]}

    @SIZES
    @LOST
    async def test_a_name_beside_one_that_is_taken_gets_one_file(
        self, world: World, size: int, *, kept: bool
    ) -> None:
        world.drive.write("x.bin", content(size, 2))
        world.lose(size, kept=kept)
        ended = await world.send(content(size), way=IfExists.RENAME)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert ended.stored is not None
        assert ended.stored.name == "x 1.bin"
        assert world.files == {"x.bin": [content(size, 2)], "x 1.bin": [content(size)]}

    @SIZES
    async def test_a_name_that_is_taken_is_refused_before_anything_is_sent(
        self, world: World, size: int
    ) -> None:
        world.drive.write("x.bin", content(size))
        ended = await world.send(content(size), way=IfExists.FAIL)
        assert ended.transfer.outcome is Outcome.REJECTED
        assert "target-exists" in str(ended.error)
        assert {method for method, _, _ in world.drive.requests} == {"GET"}

    @LOST
    @WAYS
    async def test_an_empty_file_is_made_once(self, world: World, way: IfExists, *, kept: bool) -> None:
        world.lose(SMALL, kept=kept)
        ended = await world.send(b"", way=way)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files == {"x.bin": [b""]}

    @SIZES
    @WAYS
    async def test_answers_that_are_lost_again_and_again_make_one_file(
        self, world: World, size: int, way: IfExists
    ) -> None:
        world.lose(size, kept=True)
        world.drive.faults += [Fault("GET", "x", 503) for _ in range(3)]
        ended = await world.send(content(size), way=way)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files == {"x.bin": [content(size)]}

    @SIZES
    @WAYS
    @LOST
    async def test_a_drive_that_tells_no_hash_gets_one_file(
        self, world: World, size: int, way: IfExists, *, kept: bool
    ) -> None:
        world.drive.hashes = -1
        world.lose(size, kept=kept)
        ended = await world.send(content(size), way=way)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files == {"x.bin": [content(size)]}

    @SIZES
    async def test_a_hash_that_comes_late_is_waited_for(self, world: World, size: int) -> None:
        world.drive.hashes = 3
        world.lose(size, kept=True)
        ended = await world.send(content(size))
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files == {"x.bin": [content(size)]}

    @SIZES
    @WAYS
    @pytest.mark.parametrize("policy", ["size", "off"])
    async def test_where_no_hash_is_wanted_it_gets_one_file(
        self, world: World, size: int, way: IfExists, policy: str
    ) -> None:
        world.limits = SendLimits(policies={"drive": VerifyPolicy.parse(policy)})
        world.lose(size, kept=True)
        ended = await world.send(content(size), way=way)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files == {"x.bin": [content(size)]}

    @SIZES
    @WAYS
    async def test_a_file_that_is_rewritten_on_arrival_is_known_where_that_was_said(
        self, world: World, size: int, way: IfExists
    ) -> None:
        world.limits = SendLimits(policies={"drive": VerifyPolicy.parse("tolerate:docx")})

        def rewrite() -> None:
            item = world.drive.path("x.docx")
            assert item is not None
            assert item.data is not None
            item.rewrite(item.data + b"<properties/>")

        nth = 1 if size == SMALL else 2
        world.drive.faults.append(Fault("PUT", "/upload/", 504, nth=nth, after=True, meanwhile=rewrite))
        ended = await world.send(content(size), name="x.docx", way=way)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files == {"x.docx": [content(size)]}
        assert ended.sum is not None
        assert ended.stored is not None
        assert ended.stored.checksum is not None
        assert ended.sum != ended.stored.checksum

    @WAYS
    @pytest.mark.parametrize("status", [302, 401, 404])
    async def test_content_that_cannot_be_read_proves_nothing_and_ends_nothing_as_stored(
        self, world: World, way: IfExists, status: int
    ) -> None:
        """On a drive without hashes ours is sent again, beside itself where that is wanted; better than not at all."""
        world.drive.hashes = -1
        world.lose(SMALL, kept=True)
        world.drive.faults.append(Fault("GET", "/download/", status, always=True))
        ended = await world.send(content(SMALL), way=way)
        if way is IfExists.FAIL:
            assert ended.transfer.outcome is Outcome.REJECTED
        else:
            assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.drive.read("x.bin") == content(SMALL)


class TestOthers:
    """Somebody else writes a file of the same size to the same place, in just that moment."""

    @SIZES
    @LOST
    @pytest.mark.parametrize("hashes", [0, -1], ids=["hashes", "no hashes"])
    async def test_ours_is_sent_again_to_replace_it(
        self, world: World, size: int, *, kept: bool, hashes: int
    ) -> None:
        world.drive.hashes = hashes
        world.lose(size, kept=kept, meanwhile=lambda: world.drive.write("x.bin", content(size, 2)))
        ended = await world.send(content(size))
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files["x.bin"][-2:] == [content(size, 2), content(size)]

    @SIZES
    @LOST
    @pytest.mark.parametrize("hashes", [0, -1], ids=["hashes", "no hashes"])
    async def test_it_is_told_where_it_must_not_be_replaced(
        self, world: World, size: int, *, kept: bool, hashes: int
    ) -> None:
        world.drive.hashes = hashes
        world.lose(size, kept=kept, meanwhile=lambda: world.drive.write("x.bin", content(size, 2)))
        ended = await world.send(content(size), way=IfExists.FAIL)
        assert ended.transfer.outcome is Outcome.REJECTED
        assert "target-exists" in str(ended.error)
        assert world.drive.read("x.bin") == content(size, 2)

    @SIZES
    @LOST
    @pytest.mark.parametrize("hashes", [0, -1], ids=["hashes", "no hashes"])
    async def test_ours_is_put_beside_it_where_that_is_wanted(
        self, world: World, size: int, *, kept: bool, hashes: int
    ) -> None:
        world.drive.hashes = hashes
        world.drive.write("x.bin", b"first")
        world.lose(size, kept=kept, meanwhile=lambda: world.drive.write("x 1.bin", content(size, 2)))
        ended = await world.send(content(size), way=IfExists.RENAME)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert ended.stored is not None
        assert ended.stored.name == "x 2.bin"
        assert world.drive.read("x 1.bin") == content(size, 2)
        assert world.drive.read("x 2.bin") == content(size)

    @SIZES
    @WAYS
    @pytest.mark.parametrize("other", [0, 2000])
    async def test_one_that_comes_before_the_last_byte_is_dealt_with_as_one_that_was_there(
        self, world: World, size: int, way: IfExists, other: int
    ) -> None:
        """Nothing is lost here: the last request meets a name that was free when it began."""
        pattern, nth = ("/content", 1) if size == SMALL else ("/upload/", 2)
        theirs = content(other, 2)
        world.drive.faults.append(
            Fault("PUT", pattern, None, nth=nth, meanwhile=lambda: world.drive.write("x.bin", theirs))
        )
        ended = await world.send(content(size), way=way)
        if way is IfExists.FAIL:
            assert ended.transfer.outcome is Outcome.REJECTED
            assert world.files == {"x.bin": [theirs]}
            return
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        beside = {"x.bin": [theirs], "x 1.bin": [content(size)]}
        assert world.files == (beside if way is IfExists.RENAME else {"x.bin": [theirs, content(size)]})

    @SIZES
    @pytest.mark.parametrize("hashes", [0, -1], ids=["hashes", "no hashes"])
    async def test_one_that_comes_before_anything_was_sent_is_not_ours(
        self, world: World, size: int, hashes: int
    ) -> None:
        world.drive.hashes = hashes
        world.drive.faults.append(
            Fault("PUT", "/content" if size == SMALL else "/upload/", 503, retry_after="60")
        )
        async with world.running() as manager:
            queued = await manager.queue(world.file("a", content(size)), "drive:x.bin")
            await in_phase(manager, queued, Phase.WAITING_RETRY)
            await manager.pause(queued)
            # All sessions expire meanwhile.
            world.drive.now += 3601
            world.drive.write("x.bin", content(size, 2))
            world.clock.advance(3601)
            await manager.resume(queued)
            ended = await manager.wait(queued)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files == {"x.bin": [content(size, 2), content(size)]}

    async def test_properties_that_somebody_changes_are_no_new_content(self, world: World) -> None:
        item = world.drive.write("x.bin", content(SMALL, 2))

        def touch() -> None:
            item.etag += 1

        world.lose(SMALL, kept=False, meanwhile=touch)
        ended = await world.send(content(SMALL))
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files == {"x.bin": [content(SMALL, 2), content(SMALL)]}

    @WAYS
    @SIZES
    async def test_a_folder_of_that_name_is_never_replaced(
        self, world: World, way: IfExists, size: int
    ) -> None:
        world.drive.write("x.bin/inside", b"1")
        ended = await world.send(content(size), way=way)
        if way is IfExists.RENAME:
            assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
            assert world.drive.read("x 1.bin") == content(size)
        else:
            assert ended.transfer.outcome is Outcome.REJECTED
            assert "there is a folder x.bin" in str(ended.error)
        assert world.drive.read("x.bin/inside") == b"1"


class TestFreeNames:
    @pytest.mark.parametrize(
        ("taken", "chosen"),
        [([1, 2, 4], 3), ([1, 2, 3, 5, 6, 7, 8], 4), (range(1, 9), 9), (range(1, 40), 40)],
        ids=["gap", "late gap", "first few", "many"],
    )
    async def test_the_next_free_one_is_chosen(self, world: World, taken: list[int], chosen: int) -> None:
        for name in ("x.bin", *(f"x {number}.bin" for number in taken)):
            world.drive.write(name, b"theirs")
        ended = await world.send(content(SMALL), way=IfExists.RENAME)
        assert ended.stored is not None, ended.error
        assert ended.stored.name == f"x {chosen}.bin"

    async def test_one_that_is_too_long_is_refused_before_anything_is_sent(self, world: World) -> None:
        name = "/".join(["f" * 199, "g" * 200])
        world.drive.write(name, b"theirs")
        ended = await world.send(content(SMALL), name=name, way=IfExists.RENAME)
        assert "at most 400 characters" in str(ended.error)
        assert not [path for method, path, _ in world.drive.requests if method in {"PUT", "POST"}]


class TestSequences:
    @SIZES
    async def test_second_content_of_the_same_size_arrives_after_pause_and_resume(
        self, world: World, size: int
    ) -> None:
        first = await world.send(content(size))
        assert first.transfer.outcome is Outcome.SUCCEEDED
        world.drive.faults.append(
            Fault("PUT", "/content" if size == SMALL else "/upload/", 503, retry_after="60")
        )
        async with world.running() as manager:
            queued = await manager.queue(world.file("b", content(size, 2)), "drive:x.bin")
            await in_phase(manager, queued, Phase.WAITING_RETRY)
            await manager.pause(queued)
        world.clock.advance(60)
        async with world.running() as manager:
            await manager.resume(queued)
            ended = await manager.wait(queued)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files == {"x.bin": [content(size), content(size, 2)]}

    @SIZES
    @WAYS
    async def test_a_process_that_ends_after_the_answer_was_lost_leaves_the_next_one_to_find_the_file(
        self, world: World, size: int, way: IfExists
    ) -> None:
        world.lose(size, kept=True)
        world.drive.faults.append(Fault("GET", "", 503, nth=2, retry_after="60"))
        async with world.running() as manager:
            queued = await manager.queue(world.file("a", content(size)), "drive:x.bin", if_exists=way)
            await in_phase(manager, queued, Phase.WAITING_RETRY)
        world.clock.advance(60)
        async with world.running() as manager:
            ended = await manager.wait(queued)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files == {"x.bin": [content(size)]}

    async def test_few_names_are_asked_for_where_hundreds_are_taken(self, world: World) -> None:
        world.drive.write("x.bin", b"")
        for number in range(1, 301):
            world.drive.write(f"x {number}.bin", b"")
        ended = await world.send(content(SMALL), way=IfExists.RENAME)
        assert ended.stored is not None
        assert ended.stored.name == "x 301.bin"
        # The name itself, eight in order, 16 to 512 by doubling, eight halvings; the file, and a look at it.
        assert len(world.drive.requests) <= 1 + 8 + 6 + 8 + 2

    async def test_targets_that_differ_in_case_alone_go_one_after_the_other_in_order(
        self, world: World
    ) -> None:
        world.limits = SendLimits(slots=SlotLimits(total=5, per_line=5, reserved=0))
        async with world.running() as manager:
            queued = [
                await manager.queue(world.file(name, content(LARGE, seed)), f"drive:{name}")
                for seed, name in enumerate(["Photo.JPG", "photo.jpg", "PHOTO.jpg"])
            ]
            ended = [await manager.wait(each) for each in queued]
        assert [each.transfer.outcome for each in ended] == [Outcome.SUCCEEDED] * 3
        assert world.files == {"Photo.JPG": [content(LARGE, seed) for seed in range(3)]}


class TestShutOut:
    """A session that lets us in no more, though its address was good when it was made."""

    async def test_it_is_asked_and_gone_on_with_when_it_does(self, world: World) -> None:
        world.drive.faults.append(Fault("PUT", "/upload/", 401, nth=2))
        ended = await world.send(content(LARGE))
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert (world.renewals, world.files) == (0, {"x.bin": [content(LARGE)]})
        assert len(world.drive.sessions) == 1

    async def test_it_is_begun_anew_with_a_new_token_before_anybody_is_asked(self, world: World) -> None:
        world.drive.tokens = {"old", "new"}
        world.tokens = ["old", "new"]
        world.drive.faults += [Fault("PUT", "/upload/", 401, nth=2), Fault("GET", "/upload/", 401)]
        ended = await world.send(content(LARGE))
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert (world.renewals, world.files) == (1, {"x.bin": [content(LARGE)]})
        assert [it.state for it in world.drive.sessions.values()] == ["cancelled", "complete"]

    async def test_a_file_that_its_last_fragment_has_made_is_found_nevertheless(self, world: World) -> None:
        world.lose(LARGE, kept=True)
        world.drive.faults.append(Fault("GET", "/upload/", 401))
        ended = await world.send(content(LARGE))
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert (world.renewals, world.files) == (0, {"x.bin": [content(LARGE)]})

    @pytest.mark.parametrize("from_nth", [1, 2])
    async def test_when_the_new_one_does_not_either_somebody_has_to_sign_in(
        self, world: World, from_nth: int
    ) -> None:
        """Also when each of them takes a fragment before that: nothing is sent for ever."""
        world.drive.deny = from_nth
        async with world.running() as manager:
            queued = await manager.queue(world.file("a", content(LARGE)), "drive:x.bin")
            row = await in_phase(manager, queued, Phase.BLOCKED)
            assert row.transfer.obstacle is Obstacle.AUTH
            # Asked once, then begun anew once.
            assert (world.renewals, len(world.drive.sessions)) == (1, 2)
            world.drive.deny = None
            await manager.resume(queued)
            ended = await manager.wait(queued)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files == {"x.bin": [content(LARGE)]}


class TestAccounts:
    """A remote without a drive_id sends to whoever is signed in."""

    @pytest.fixture
    def other(self, world: World) -> Drive:
        world.drive_id = None
        other = Drive("d2")
        other.tokens = {"other"}
        world.drive.beside.append(other)
        return other

    @SIZES
    async def test_what_was_begun_as_one_is_sent_anew_as_another(
        self, world: World, other: Drive, size: int
    ) -> None:
        pattern, nth = ("/content", 1) if size == SMALL else ("/upload/", 2)
        world.drive.faults.append(Fault("PUT", pattern, 503, nth=nth, retry_after="60"))
        async with world.running() as manager:
            queued = await manager.queue(world.file("a", content(size)), "drive:x.bin")
            await in_phase(manager, queued, Phase.WAITING_RETRY)
            world.tokens = ["other"]
            world.clock.advance(60)
            ended = await manager.wait(queued)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert other.read("x.bin") == content(size)
        assert world.files == {}

    async def test_what_was_begun_as_one_can_be_given_up_as_another(self, world: World, other: Drive) -> None:
        world.drive.faults.append(Fault("PUT", "/upload/", 503, retry_after="60"))
        async with world.running() as manager:
            queued = await manager.queue(world.file("a", content(LARGE)), "drive:x.bin")
            await in_phase(manager, queued, Phase.WAITING_RETRY)
            world.tokens = ["other"]
            ended = await manager.cancel(queued)
        assert ended.transfer.outcome is Outcome.CANCELLED
        assert [session.state for session in world.drive.sessions.values()] == ["cancelled"]
        assert other.requests == []

    @pytest.mark.parametrize("hidden", [False, True], ids=["refused", "hidden"])
    async def test_a_file_that_was_made_is_looked_for_where_it_is(
        self, world: World, other: Drive, hidden: bool
    ) -> None:
        world.drive.hashes = -1
        # Bob's drive has an item of that id, too.
        other.write("theirs.bin", b"theirs")
        world.drive.faults.append(Fault("GET", "/items/", 503, retry_after="60"))
        async with world.running() as manager:
            queued = await manager.queue(world.file("a", content(SMALL)), "drive:x.bin")
            row = await in_phase(manager, queued, Phase.WAITING_RETRY)
            assert row.stored is not None
            world.tokens = ["other"]
            if hidden:
                world.drive.faults.append(Fault("GET", "/items/", 404))
            world.clock.advance(60)
            row = await in_phase(manager, queued, Phase.BLOCKED)
            assert row.transfer.obstacle is Obstacle.AUTH
            world.tokens = [TOKEN]
            await manager.resume(queued)
            ended = await manager.wait(queued)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        assert world.files == {"x.bin": [content(SMALL)]}

    async def test_a_file_goes_to_the_drive_of_who_is_signed_in(self, world: World, other: Drive) -> None:
        assert (await world.send(content(SMALL))).transfer.outcome is Outcome.SUCCEEDED
        world.tokens = ["other"]
        assert (await world.send(content(SMALL, 2))).transfer.outcome is Outcome.SUCCEEDED
        assert world.drive.read("x.bin") == content(SMALL)
        assert other.read("x.bin") == content(SMALL, 2)


class TestChance:
    """Faults that nobody chose; a seed that failed would be the same again."""

    @pytest.mark.parametrize("seed", range(20))
    async def test_whatever_is_lost_ours_arrives_once(self, world: World, seed: int) -> None:
        chance = Random(seed)
        size = chance.choice([0, SMALL, ONE_FRAGMENT])
        way = chance.choice(list(IfExists))
        self._deviate(world, chance)
        files = {} if way is IfExists.FAIL or chance.random() < 0.5 else {"x.bin": [content(size, 2)]}
        if files:
            world.drive.write("x.bin", content(size, 2))
        for _ in range(chance.randrange(1, 8)):
            self._lose(world, chance)
        ended = await world.send(content(size), way=way)
        assert ended.transfer.outcome is Outcome.SUCCEEDED, ended.error
        name = "x 1.bin" if files and way is IfExists.RENAME else "x.bin"
        files.setdefault(name, []).append(content(size))
        assert world.files == files

    @pytest.mark.parametrize("seed", range(20))
    async def test_whoever_else_writes_a_success_is_one_and_nothing_is_replaced_that_must_not_be(
        self, world: World, seed: int
    ) -> None:
        chance, others = Random(seed), 0
        size = chance.choice([SMALL, ONE_FRAGMENT])
        way = chance.choice(list(IfExists))
        self._deviate(world, chance)

        def write() -> None:
            nonlocal others
            others += 1
            name = chance.choice(["x.bin", "x 1.bin"]) if way is IfExists.RENAME else "x.bin"
            world.drive.write(name, content(size, 10 + others))

        for _ in range(chance.randrange(1, 6)):
            self._lose(world, chance, write if chance.random() < 0.5 else lambda: None)
        ended = await world.send(content(size), way=way)
        if ended.transfer.outcome is Outcome.SUCCEEDED:
            assert ended.stored is not None
            assert content(size) in world.files[ended.stored.name]
        else:
            assert others
            assert "target-exists" in str(ended.error) or "quickXorHash" in str(ended.error)
        times = [versions.count(content(size)) for versions in world.files.values()]
        assert sum(times) <= 1 + others
        if way is not IfExists.REPLACE:
            assert all(
                versions[0] == content(size) for versions in world.files.values() if content(size) in versions
            )

    def _deviate(self, world: World, chance: Random) -> None:
        world.drive.hashes = chance.choice([0, 0, 2, -1])
        world.drive.ctags = chance.random() < 0.7
        world.drive.empty_answer = chance.choice([200, 204]) if chance.random() < 0.3 else None

    def _lose(self, world: World, chance: Random, meanwhile: Callable[[], None] = lambda: None) -> None:
        method = chance.choice(["GET", "GET", "PUT", "PUT", "POST"])
        # A session whose address was lost would hold the name until it expires.
        after = method != "POST" and chance.random() < 0.6
        status, nth = chance.choice([423, 500, 503, 504]), chance.randrange(1, 4)
        world.drive.faults.append(Fault(method, "", status, nth=nth, after=after, meanwhile=meanwhile))
