"""What every `Remote` must do, as tests: derive from the class and give it a remote and a way to read back.

    class TestMyRemote(RemoteContract):
        @pytest.fixture
        async def remote(self) -> AsyncGenerator[Remote]: ...

        async def read_back(self, stored: Stored) -> bytes: ...

`deliver` is the order of calls that the upload manager makes, without its journal.
"""

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final

import pytest

from haulier.core.chunks import ChunkGrid
from haulier.core.errors import (
    HaulierError,
    InvalidRequest,
    PeerBusy,
    PeerCorrupted,
    PeerRefused,
    RemoteSessionLost,
    SourceChanged,
)
from haulier.core.outgoing import (
    Basis,
    Checksum,
    ChunkPace,
    Held,
    IfExists,
    Outgoing,
    RemoteSession,
    Stored,
    VerifyPolicy,
)
from haulier.sending_ports import Cargo, Remote

MODIFIED_AT: Final = 1_700_000_000.0


class OpenedFile:
    """A `Source` over a file of a test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self.descriptor).st_size

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes of `[start, stop)`."""
        data = os.pread(self.descriptor, stop - start, start)
        if len(data) < stop - start:
            raise SourceChanged(str(self.path), f"it ends at byte {start + len(data)}")
        return data

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)


class Sources:
    """Makes files and opens them; all are closed after the test."""

    def __init__(self, directory: Path) -> None:
        self.run = secrets.token_hex(8)
        """In the ids of all transfers of one test: a remote remembers those of others."""
        self._directory = directory
        self._opened: list[OpenedFile] = []

    def make(self, data: bytes) -> OpenedFile:
        """Return an open file with that content."""
        path = self._directory / f"source-{len(self._opened)}"
        path.write_bytes(data)
        self._opened.append(OpenedFile(path))
        return self._opened[-1]

    def close(self) -> None:
        """Close all."""
        for source in self._opened:
            source.close()


class Delivery:
    """One file's way to a remote, in steps; `run` takes them all."""

    def __init__(self, remote: Remote, outgoing: Outgoing, source: OpenedFile) -> None:
        self.remote = remote
        self.outgoing = outgoing
        self.source = source
        self.moved: list[int] = []
        self.before_end: Callable[[], Awaitable[None]] | None = None

    async def run(self) -> Stored:
        """Bring the file over; return how the remote describes it."""
        self.remote.check(self.outgoing)
        return await self.finish(await self.remote.create(self.outgoing))

    async def finish(self, session: RemoteSession, *, checksum: Checksum | None = None) -> Stored:
        """Go on from wherever the remote is, to the end; return how it describes the file."""
        stored = await self.make(session, checksum=checksum)
        return await self.remote.verify(self.outgoing, session, stored)

    async def make(self, session: RemoteSession, *, checksum: Checksum | None = None) -> Stored:
        """Go on from wherever the remote is, until there is a file; return what is told of it then."""
        held = await self.remote.offset(self.outgoing, session)
        stored = held.stored or await self.send_missing(session, held)
        if stored is None:
            wanted = checksum or self.checksum(session)
            stored = await self.remote.commit(self.outgoing, session, wanted)
        return stored

    async def end(self, session: RemoteSession) -> Stored | None:
        """Take the step that makes the file, when all before it are done."""
        if session.commits_itself:
            *_, last = self.spans(session, Held())
            return await self.send(session, *last)
        return await self.remote.commit(self.outgoing, session, self.checksum(session))

    async def send_missing(self, session: RemoteSession, held: Held) -> Stored | None:
        """Send what is missing, chunk after chunk."""
        stored = None
        for start, stop in self.spans(session, held):
            stored = await self.send(session, start, stop)
        return stored

    def spans(self, session: RemoteSession, held: Held) -> Iterator[tuple[int, int]]:
        """Yield what is to be sent."""
        if session.chunk_size is not None:
            grid = ChunkGrid(self.outgoing.size, session.chunk_size)
            yield from (grid.span(index) for index in grid.missing(held.ranges))
            return
        position, step = held.ranges.prefix, ChunkPace.start(self.remote.limits).size
        while position < self.outgoing.size:
            yield position, min(position + step, self.outgoing.size)
            position += step

    async def send(self, session: RemoteSession, start: int, stop: int) -> Stored | None:
        """Send one chunk."""
        cargo = Cargo(
            source=self.source,
            start=start,
            stop=stop,
            moved=self.moved.append,
            before_end=self.before_end,
        )
        return await self.remote.send(self.outgoing, session, cargo)

    def checksum(self, session: RemoteSession) -> Checksum | None:
        """Compute what the remote will tell."""
        summing = self.remote.summing(self.outgoing, session)
        if summing is None:
            return None
        summing.update(self.source.read(0, self.source.size))
        return summing.checksum()


def delivery_of(
    remote: Remote,
    sources: Sources,
    data: bytes,
    *,
    name: str = "plain.bin",
    transfer: str = "t-1",
    if_exists: IfExists = IfExists.REPLACE,
) -> Delivery:
    """Return the delivery of `data`."""
    outgoing = Outgoing(
        id=f"{sources.run}-{transfer}",
        name=name,
        size=len(data),
        modified_at=MODIFIED_AT,
        intended_at=MODIFIED_AT,
        if_exists=if_exists,
    )
    return Delivery(remote, outgoing, sources.make(data))


class _EndRefused(Exception):
    """The last byte is not to go."""


async def _refuse_end() -> None:
    raise _EndRefused


async def _held_when_idle(delivery: Delivery, session: RemoteSession) -> Held:
    """Ask what the remote holds, as often as it says that it still reads a request which was broken off."""
    for _ in range(100):
        with suppress(PeerBusy):
            return await delivery.remote.offset(delivery.outgoing, session)
        await asyncio.sleep(0.1)
    return await delivery.remote.offset(delivery.outgoing, session)


class RemoteContract:
    """The promises. Override the fixture `remote` and `read_back`; where a remote differs, its numbers."""

    SEVERAL_CHUNKS: int = 300_000
    """Bytes of a file that takes at least three chunks here."""
    NAMES: tuple[str, ...] = ("plain.bin", "a folder/with spaces.bin", "tief/ünïcode ☃.bin", "100%+&=#;'.bin")
    """Names that the remote can hold."""
    TELLS_CHECKSUM: bool = True
    """Whether it tells the checksum that `summing` makes, also of a file of several chunks."""
    FORBIDDEN: tuple[str, ...] = ("a\0b", "a//b")
    """Names that it cannot."""

    @pytest.fixture
    def remote(self) -> Remote:
        """Return the remote, empty."""
        raise NotImplementedError

    async def read_back(self, remote: Remote, stored: Stored) -> bytes:
        """Return the bytes of a file, by a way that is not the remote under test."""
        raise NotImplementedError

    @pytest.fixture
    def sources(self, tmp_path: Path) -> Iterator[Sources]:
        sources = Sources(tmp_path)
        yield sources
        sources.close()

    async def test_probe_answers(self, remote: Remote) -> None:
        await remote.probe()

    @pytest.mark.parametrize("size", [0, 1, 65_537])
    async def test_a_file_arrives_byte_for_byte(self, remote: Remote, sources: Sources, size: int) -> None:
        data = Random(size).randbytes(size)
        stored = await delivery_of(remote, sources, data).run()
        assert stored.size == size
        assert await self.read_back(remote, stored) == data

    async def test_a_file_of_several_chunks_arrives_byte_for_byte(
        self, remote: Remote, sources: Sources
    ) -> None:
        data = Random(1).randbytes(self.SEVERAL_CHUNKS)
        delivery = delivery_of(remote, sources, data)
        stored = await delivery.run()
        assert stored.size == self.SEVERAL_CHUNKS
        assert await self.read_back(remote, stored) == data
        assert max(delivery.moved) <= self.SEVERAL_CHUNKS

    async def test_names_are_kept_as_they_are(self, remote: Remote, sources: Sources) -> None:
        for number, name in enumerate(self.NAMES):
            delivery = delivery_of(remote, sources, name.encode(), name=name, transfer=f"n-{number}")
            stored = await delivery.run()
            assert stored.name == name
            assert await self.read_back(remote, stored) == name.encode()

    async def test_names_that_it_cannot_hold_are_refused_before_anything_is_sent(
        self, remote: Remote, sources: Sources
    ) -> None:
        for name in self.FORBIDDEN:
            with pytest.raises(InvalidRequest):
                remote.check(delivery_of(remote, sources, b"x", name=name).outgoing)

    async def test_a_chunk_that_was_sent_is_held_and_the_rest_is_enough(
        self, remote: Remote, sources: Sources
    ) -> None:
        data = Random(2).randbytes(self.SEVERAL_CHUNKS)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        held = await remote.offset(delivery.outgoing, session)
        assert held == Held()
        first = next(delivery.spans(session, held))
        assert await delivery.send(session, *first) is None
        held = await remote.offset(delivery.outgoing, session)
        assert held.ranges.covers(*first)
        assert held.stored is None
        delivery.moved.clear()
        stored = await delivery.finish(session)
        assert await self.read_back(remote, stored) == data

    @pytest.mark.parametrize("size", [1, 65_537, None])
    async def test_there_is_no_file_before_the_last_byte_of_it_may_go(
        self, remote: Remote, sources: Sources, size: int | None
    ) -> None:
        data = Random(7).randbytes(self.SEVERAL_CHUNKS if size is None else size)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        if not session.commits_itself:
            pytest.skip("here the last byte makes no file")
        *before, last = delivery.spans(session, Held())
        for span in before:
            assert await delivery.send(session, *span) is None
        delivery.before_end = _refuse_end
        with pytest.raises(_EndRefused):
            await delivery.send(session, *last)
        assert (await _held_when_idle(delivery, session)).stored is None
        delivery.before_end = None
        assert await self.read_back(remote, await delivery.finish(session)) == data

    async def test_a_session_read_from_its_text_is_as_good_as_the_first_one(
        self, remote: Remote, sources: Sources
    ) -> None:
        data = Random(3).randbytes(self.SEVERAL_CHUNKS)
        delivery = delivery_of(remote, sources, data)
        made = await remote.create(delivery.outgoing)
        again = RemoteSession(
            state=type(made.state)(str(made.state.reveal())),
            chunk_size=made.chunk_size,
            commits_itself=made.commits_itself,
        )
        assert await self.read_back(remote, await delivery.finish(again)) == data

    async def test_the_file_is_found_after_the_answer_to_its_end_was_lost(
        self, remote: Remote, sources: Sources
    ) -> None:
        data = Random(4).randbytes(self.SEVERAL_CHUNKS)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        first = await delivery.finish(session)
        again = await delivery.finish(session)
        assert (again.id, again.size, again.name) == (first.id, first.size, first.name)
        assert await self.read_back(remote, again) == data

    async def test_what_is_verified_is_what_was_summed(self, remote: Remote, sources: Sources) -> None:
        data = Random(5).randbytes(self.SEVERAL_CHUNKS)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        stored = await delivery.finish(session)
        ours = delivery.checksum(session)
        if ours is None or not self.TELLS_CHECKSUM:
            assert VerifyPolicy().compare(delivery.outgoing, ours, stored) is Basis.SIZE
        else:
            assert stored.checksum == ours
            assert VerifyPolicy().compare(delivery.outgoing, ours, stored) is Basis.CHECKSUM

    async def test_other_bytes_than_those_summed_are_told(self, remote: Remote, sources: Sources) -> None:
        data = Random(6).randbytes(self.SEVERAL_CHUNKS)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        ours = delivery.checksum(session)
        if ours is None or not self.TELLS_CHECKSUM:
            pytest.skip("this remote tells no checksum")
        spoilt = delivery_of(remote, sources, bytes([data[0] ^ 1]) + data[1:])
        summing = remote.summing(spoilt.outgoing, session)
        assert summing is not None
        summing.update(spoilt.source.read(0, spoilt.source.size))
        wrong = summing.checksum()

        async def finish() -> Basis:
            stored = await delivery.finish(session, checksum=wrong)
            return VerifyPolicy().compare(delivery.outgoing, wrong, stored)

        with pytest.raises(PeerCorrupted):
            await finish()

    async def test_a_cancelled_session_is_lost_and_made_no_file(
        self, remote: Remote, sources: Sources
    ) -> None:
        data = Random(7).randbytes(self.SEVERAL_CHUNKS)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        first = next(delivery.spans(session, Held()))
        await delivery.send(session, *first)
        await remote.cancel(delivery.outgoing, session)
        await remote.cancel(delivery.outgoing, session)
        with pytest.raises(RemoteSessionLost):
            await remote.offset(delivery.outgoing, session)
        with pytest.raises(RemoteSessionLost):
            await delivery.send(session, *first)

    async def test_a_second_session_for_a_lost_one_brings_the_file(
        self, remote: Remote, sources: Sources
    ) -> None:
        data = Random(8).randbytes(self.SEVERAL_CHUNKS)
        delivery = delivery_of(remote, sources, data)
        lost = await remote.create(delivery.outgoing)
        await remote.cancel(delivery.outgoing, lost)
        assert await self.read_back(remote, await delivery.run()) == data

    async def test_a_source_that_is_shorter_now_is_told(self, remote: Remote, sources: Sources) -> None:
        data = Random(9).randbytes(self.SEVERAL_CHUNKS)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        os.truncate(delivery.source.path, 10)
        with pytest.raises(SourceChanged):
            await delivery.send_missing(session, Held())
        with suppress(HaulierError):
            await remote.cancel(delivery.outgoing, session)

    async def test_an_existing_file_is_replaced(self, remote: Remote, sources: Sources) -> None:
        await delivery_of(remote, sources, b"the first", transfer="r-1").run()
        stored = await delivery_of(remote, sources, b"the second", transfer="r-2").run()
        assert stored.name == "plain.bin"
        assert await self.read_back(remote, stored) == b"the second"

    @pytest.mark.parametrize("size", [10, None])
    async def test_an_existing_file_stays_where_it_must_not_be_replaced(
        self, remote: Remote, sources: Sources, size: int | None
    ) -> None:
        self._needs(remote, IfExists.FAIL)
        first = await delivery_of(remote, sources, b"the first", transfer="f-1").run()
        data = Random(10).randbytes(self.SEVERAL_CHUNKS if size is None else size)
        second = delivery_of(remote, sources, data, transfer="f-2", if_exists=IfExists.FAIL)
        with pytest.raises(PeerRefused) as told:
            await second.run()
        assert told.value.slug == "target-exists"
        assert await self.read_back(remote, first) == b"the first"

    @pytest.mark.parametrize("size", [10, None])
    async def test_an_existing_file_is_kept_beside_a_renamed_one(
        self, remote: Remote, sources: Sources, size: int | None
    ) -> None:
        self._needs(remote, IfExists.RENAME)
        first = await delivery_of(remote, sources, b"the first", transfer="k-1").run()
        data = Random(11).randbytes(self.SEVERAL_CHUNKS if size is None else size)
        second = delivery_of(remote, sources, data, transfer="k-2", if_exists=IfExists.RENAME)
        stored = await second.run()
        assert stored.name != first.name
        assert await self.read_back(remote, stored) == data
        assert await self.read_back(remote, first) == b"the first"

    async def test_ways_that_it_does_not_know_are_refused_before_anything_is_sent(
        self, remote: Remote, sources: Sources
    ) -> None:
        for way in set(IfExists) - remote.limits.if_exists:
            with pytest.raises(InvalidRequest):
                remote.check(delivery_of(remote, sources, b"x", if_exists=way).outgoing)

    def _needs(self, remote: Remote, way: IfExists) -> None:
        if way not in remote.limits.if_exists:
            pytest.skip(f"this remote does not know {way}")
