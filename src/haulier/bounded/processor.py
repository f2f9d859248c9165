"""Derivatives and content checks of stored files, made in a few child processes.

Rule 1: a file of strangers is opened in a child only; this process hands descriptors over and reads short answers.
Rule 2: whatever a child does (crash, hang, lie, run out of memory), the job ends, with a result or a named failure.
        After any of it the child is replaced.
Rule 3: a job whose child was lost is tried once more, in a new child: somebody may have killed it. What a second
        one dies of is the file.
Rule 4: outputs are there after a success only.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import Final, Self

from haulier.bounded.limits import Limits
from haulier.bounded.messages import CHECK, DERIVE, MAX_DETAIL, ProtocolBroken
from haulier.bounded.replies import read_reply
from haulier.bounded.turns import FairTurns, TurnsFull
from haulier.bounded.worker import COMMAND, Child, ChildLost
from haulier.core.errors import ServiceStopping, StorageUnavailable
from haulier.core.processing import Derivatives, FileMetadata, ProcessingFailure, Unprocessed
from haulier.core.values import dataclass
from haulier.logs import get_logger

PROCESSES: Final = 2
"""Children at a time: decoding fills a core each, and each may take 2 GiB."""
WAITING: Final = 1000
"""Files that wait for a child: at a second each the last one waits for minutes, and more would only wait in vain."""
ATTEMPTS: Final = 2
"""Of one file: the second tells a child that was killed from without from a file that kills its child."""
ENDING_S: Final = 1.0
"""For a child that closed its line to end by itself."""

Reply = Derivatives | FileMetadata | Unprocessed

log = get_logger()


@dataclass(frozen=True, slots=True)
class _Job:
    name: str
    request: bytes
    files: tuple[int, ...]
    """The source, then the outputs."""

    def failed(self, what: str, detail: str) -> Unprocessed:
        kind = "image" if self.name == DERIVE else "check"
        return Unprocessed(ProcessingFailure(f"{kind}-{what}"), detail[:MAX_DETAIL])


class BoundedProcessor:
    """Works on files in child processes, which it starts when there is work; `close` it in the end.

    For one event loop. Whoever must not wait behind pictures has a processor of its own.
    """

    def __init__(
        self,
        *,
        processes: int = PROCESSES,
        waiting: int = WAITING,
        limits: Limits | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._limits = limits or Limits()
        self._command = tuple(command)
        self._turns = FairTurns(processes, waiting=waiting)
        self._idle: list[Child] = []
        self._children: set[Child] = set()
        self._closed = False

    @property
    def pids(self) -> frozenset[int]:
        """The process ids of the children, for operators."""
        return frozenset(child.pid for child in self._children if child.alive)

    async def derive(
        self, original: Path, *, display: Path, thumbnail: Path, line: str = ""
    ) -> Derivatives | Unprocessed:
        """Make the derivatives of a stored image.

        After a cancel nothing of it goes on, and no output is left.

        Args:
            original: read only; may be any file at all.
            display: made anew for the display picture, a WebP; there must be none.
            thumbnail: the same for the thumbnail.
            line: whose turn it takes, the owner's for instance; each line in its turn.

        Raises:
            StorageUnavailable: a file cannot be opened or made, or the system gives no process.
            ServiceStopping: `close` was called.
        """
        async with _opened(original, display, thumbnail) as outcome:
            job = _Job(DERIVE, _request(DERIVE), outcome.files)
            reply = await self._run(job, line)
            outcome.keep = isinstance(reply, Derivatives)
        assert isinstance(reply, Derivatives | Unprocessed)
        return reply

    async def check(
        self, file: Path, *, filename: str, charset: str | None = None, line: str = ""
    ) -> FileMetadata | Unprocessed:
        """Read a stored file through and say what it holds, and what is wrong with it.

        Args:
            file: read only.
            filename: the sender's name for it; its extension says what it should be.
            charset: what the sender says its text is encoded in.
            line: as in `derive`.

        Raises:
            StorageUnavailable · ServiceStopping: as in `derive`.
        """
        extension = PurePosixPath(filename).suffix.lower()
        async with _opened(file) as outcome:
            job = _Job(CHECK, _request(CHECK, extension=extension[:64], charset=charset), outcome.files)
            reply = await self._run(job, line)
        assert isinstance(reply, FileMetadata | Unprocessed)
        return reply

    async def close(self) -> None:
        """End every child; jobs under way end with `ServiceStopping`. May be called twice."""
        self._closed = True
        while self._idle:
            await self._end(self._idle.pop())
        for child in tuple(self._children):  # those at work: whoever asks them ends them
            child.kill()
            await child.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, job: _Job, line: str) -> Reply:
        try:
            async with self._turns.turn(line):
                return await self._try(job)
        except TurnsFull:
            return Unprocessed(ProcessingFailure.QUEUE_FULL)

    async def _try(self, job: _Job) -> Reply:
        detail = ""
        for _ in range(ATTEMPTS):
            for output in job.files[1:]:
                os.ftruncate(output, 0)
            child = await self._take()
            try:
                return await self._ask(child, job)
            except ProtocolBroken as error:
                detail = f"{error} {await self._end(child)}".strip()
                log.warning("bounded.child_lied", job=job.name, reason=detail)
            except ChildLost as error:
                detail = f"{error} {await self._end(child, grace_s=ENDING_S)}".strip()
                log.warning("bounded.child_lost", job=job.name, reason=detail)
            except TimeoutError:
                log.warning("bounded.timeout", job=job.name, reason=await self._end(child))
                return job.failed("timeout", f"over {self._limits.job_s:g} s")
            except BaseException:
                await self._end(child)
                raise
        return job.failed("crashed", detail)

    async def _ask(self, child: Child, job: _Job) -> Reply:
        """Return the answer, and put the child back or away.

        Raises:
            ChildLost · ProtocolBroken · TimeoutError
        """
        async with asyncio.timeout(self._limits.job_s):
            body = await child.ask(job.request, job.files)
        reply = read_reply(job.name, body)
        if isinstance(reply, Unprocessed) or child.jobs >= self._limits.jobs_per_child or self._closed:
            await self._end(child)
        else:
            self._idle.append(child)
        return reply

    async def _take(self) -> Child:
        self._require_open()
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            await self._end(child)
        try:
            child = await Child.start(self._limits, self._command)
        except OSError as error:
            raise StorageUnavailable(f"no child process: {error}") from error
        self._children.add(child)
        if self._closed:
            await self._end(child)
        self._require_open()
        return child

    def _require_open(self) -> None:
        if self._closed:
            raise ServiceStopping

    async def _end(self, child: Child, *, grace_s: float = 0.0) -> str:
        try:
            return await child.end(grace_s=grace_s)
        finally:
            self._children.discard(child)


@dataclass(slots=True)
class _Files:
    files: tuple[int, ...]
    keep: bool = False


@asynccontextmanager
async def _opened(source: Path, *outputs: Path) -> AsyncIterator[_Files]:
    """Open a job's files; outputs are removed again unless they are to be kept.

    Raises:
        StorageUnavailable: one of them cannot be opened.
    """
    opening = asyncio.get_running_loop().run_in_executor(None, _open_all, source, outputs)
    try:
        files = _Files(await asyncio.shield(opening))
    except asyncio.CancelledError:
        opening.add_done_callback(lambda late: _give_up(late, outputs))
        await asyncio.wait({opening})  # so that a name is free again when its job is over
        raise
    try:
        yield files
    finally:
        _close(files.files, () if files.keep else outputs)


def _give_up(opened: "asyncio.Future[tuple[int, ...]]", outputs: Sequence[Path]) -> None:
    """Close and remove what was opened for somebody who went away meanwhile."""
    if not opened.cancelled() and opened.exception() is None:
        _close(opened.result(), outputs)


def _close(descriptors: Sequence[int], outputs: Sequence[Path]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
    for output in outputs:
        output.unlink(missing_ok=True)


def _open_all(source: Path, outputs: Sequence[Path]) -> tuple[int, ...]:
    flags = os.O_CLOEXEC
    descriptors: list[int] = []
    made: list[Path] = []
    try:
        descriptors.append(os.open(source, os.O_RDONLY | flags))
        for output in outputs:
            descriptors.append(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600))
            made.append(output)
    except OSError as error:
        _close(descriptors, made)
        raise StorageUnavailable(f"{error.strerror}: {error.filename}") from error
    return tuple(descriptors)


def _request(job: str, **arguments: str | None) -> bytes:
    fields: Mapping[str, str | None] = {"job": job, **arguments}
    return json.dumps(fields).encode()
