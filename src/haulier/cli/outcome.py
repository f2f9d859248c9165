"""How a command ends: one sentence for people, one number for scripts.

Rule 1: 0 done, 1 something failed, 2 usage, 3 no runner, unreachable or wait timed out, 4 refused (access, quota,
        journal busy), 130 interrupted.
Rule 2: an error is told on stderr as what happened and what to do about it; never as a traceback.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, Final, NoReturn, TypeVar

import typer

from haulier.cli.display import printable
from haulier.core.errors import (
    ConfigError,
    DigestMalformed,
    HaulierError,
    InvalidRequest,
    JournalBusy,
    LanesFailed,
    NodeBusy,
    PeerBlocked,
    PeerCorrupted,
    PeerRefused,
    PeerUnreachable,
    SourceChanged,
    StorageFull,
    TransferTimeout,
    WaitTimeout,
    was_replaced,
)

T = TypeVar("T")

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
REFUSED: Final = 4
INTERRUPTED: Final = 130

REFUSING_STATUSES: Final = frozenset({401, 403, 413, 421, 429})
"""Access, and quotas of every kind: sessions, bytes, requests."""
ARGUMENTS: Final = frozenset({"prefix", "record_id", "transfer_id"})
"""What the client and the upload manager call the arguments that it is given as they were typed."""
HIDING_SLUGS: Final = frozenset({"capsule-not-found"})
"""How a service refuses whoever may not even know what there is."""


def exit_code(error: BaseException) -> int:
    """Return the number that tells this error."""
    if isinstance(error, LanesFailed):
        return worst_code([exit_code(failed.cause) for failed in error.failures])
    if isinstance(error, PeerUnreachable | WaitTimeout | TransferTimeout):
        return UNREACHABLE
    if isinstance(error, JournalBusy | NodeBusy | PeerBlocked):
        return REFUSED
    if isinstance(error, PeerRefused) and _refuses_access(error):
        return REFUSED
    if isinstance(error, ConfigError):
        return UNREACHABLE if error.unreachable else USAGE
    if isinstance(error, InvalidRequest) and all(problem.field in ARGUMENTS for problem in error.errors):
        return USAGE
    return FAILED


def _refuses_access(error: PeerRefused) -> bool:
    return error.status in REFUSING_STATUSES or error.slug in HIDING_SLUGS


def worst_code(codes: Collection[int]) -> int:
    """Return the number for several files: theirs when they agree, else that something failed."""
    failures = set(codes) - {DONE}
    return DONE if not failures else failures.pop() if len(failures) == 1 else FAILED


async def do_each(
    items: Sequence[T], work: Callable[[T], Awaitable[None]], *, named: Callable[[T], str], parallel: int
) -> int:
    """Do `work` on each item, `parallel` at a time, and return the exit code for all of them.

    One that fails is told under its name, and does not keep the others from being done.

    Raises:
        PeerUnreachable: the service is gone; the others need not be tried.
        BrokenPipeError: whoever reads our output has seen enough.
    """
    from haulier.engine.tasks import tasks

    queue, codes = iter(items), set[int]()

    async def take() -> None:
        for item in queue:
            try:
                await work(item)
            except (PeerUnreachable, BrokenPipeError):
                raise
            except (HaulierError, OSError) as error:
                codes.add(tell_failed(named(item), error))

    async with tasks() as group:
        for _ in range(min(parallel, len(items))):
            group.create_task(take())
    return worst_code(codes)


def explain(error: BaseException) -> str:
    """Return what happened and, where there is something to do, what."""
    return f"{_fact(error)}{_cure(error)}"


def tell(text: str) -> None:
    """Say something to people, in one line; names in it may be strangers'."""
    print(f"haulier: {printable(text)}", file=sys.stderr)


def tell_failed(name: str, error: HaulierError | OSError) -> int:
    """Say what happened to one of several; return its exit code."""
    words = explain(error)
    # An error of the system names its file itself.
    tell(words if words.startswith(f"{name}: ") else f"{name}: {words}")
    return exit_code(error)


def run(work: Coroutine[Any, Any, int], *, interrupted: str = "interrupted") -> NoReturn:
    """Run a command's coroutine and end the command with its number.

    Args:
        work: returns the exit code, or raises.
        interrupted: what to say after Ctrl-C.
    """
    raise typer.Exit(_run(work, interrupted))


def _run(work: Coroutine[Any, Any, int], interrupted: str) -> int:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        tell(interrupted)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough (`haulier ls | head`). Nothing can be written any more,
        # not even by the interpreter when it flushes at its end.
        sys.stdout = None
        return FAILED
    except UnicodeEncodeError as error:
        tell(f"{error.object!r} is not UTF-8; no request can carry it")
        return USAGE
    except (HaulierError, OSError) as error:
        tell(explain(error))
        return exit_code(error)


def load_extra(module: str, *, command: str, extra: str) -> ModuleType:
    """Import a module of ours that stands on an extra; without the extra, name it and end the command."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "haulier":
            raise
        tell(f"'haulier {command}' needs {error.name}; install it with: pip install 'haulier[{extra}]'")
        raise typer.Exit(FAILED) from error


def _fact(error: BaseException) -> str:
    if isinstance(error, InvalidRequest | DigestMalformed | PeerRefused) or not isinstance(error, OSError):
        return str(error)
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error}"


def _cure(error: BaseException) -> str:
    if isinstance(error, PeerUnreachable):
        return "; is the service running there (haulier serve), and is --url right?"
    if isinstance(error, SourceChanged):
        return "; nothing of it was kept, send it again when it is at rest"
    if isinstance(error, PeerCorrupted):
        return "; nothing of it was kept, try again, and check memory and disks if it happens twice"
    if isinstance(error, StorageFull):
        return (
            "; free space on the disk of the journal (HAULIER_HOME) or the data directory, and run it again"
        )
    if was_replaced(error):
        return "; put that file back if what it held is to go on, and run the command again"
    if isinstance(error, FileExistsError):
        return "; give another place with -o, or --force to replace it"
    if isinstance(error, PeerRefused):
        return _cure_of_refusal(error)
    return ""


def _cure_of_refusal(error: PeerRefused) -> str:
    slugs = {
        "access-denied": "; ask the owner of the capsule to grant it, or use a token that may do more",
        "capsule-not-found": "; is --capsule right, and may the owner of this token use it?",
        "rate-limited": "; wait as long as it says, or send less at once (--parallel)",
    }
    cures = {
        401: "; give a valid token with HAULIER_TOKEN or --token; the operator makes one with haulier token create",
        403: "; the service is for its own machine and user, see haulier serve --help",
        413: "; ask the operator for a higher limit, or send less",
        421: "; use the address that the service printed when it started",
        429: "; wait for other uploads to end, or ask the operator for a higher limit",
        507: "; free space there, then run the same command again",
    }
    return slugs.get(error.slug) or cures.get(error.status, "")
