"""What cannot be meant is refused by the manager, in words that name it, and changes nothing."""

from collections.abc import Awaitable, Callable
from pathlib import PurePosixPath
from typing import Any

import pytest

from haulier.core.errors import InvalidRequest
from haulier.engine.send import UploadManager
from tests.support.sending import Sending

NO_TEXTS = [None, 7, b"x", [], object(), "\ud800", "\0"]
NO_NUMBERS = ["x", True, float("nan"), [], object()]

OF_AN_ID = {
    "get": lambda it, id_: it.get(id_),
    "wait": lambda it, id_: it.wait(id_),
    "cancel": lambda it, id_: it.cancel(id_),
    "pause": lambda it, id_: it.pause(id_),
    "retry": lambda it, id_: it.retry(id_),
    "remove": lambda it, id_: it.remove(id_),
}


class BytesPath:
    """As `os.scandir` gives them for a folder that is named in bytes."""

    def __fspath__(self) -> bytes:
        return b"/a"


async def refused(work: Awaitable[Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await work
    assert [problem.field for problem in caught.value.errors] == [field]


@pytest.mark.parametrize("name", OF_AN_ID)
async def test_what_is_no_text_is_no_id(name: str) -> None:
    async with Sending().running() as manager:
        for given in NO_TEXTS:
            await refused(OF_AN_ID[name](manager, given), "transfer_id")


async def test_what_is_to_be_queued_and_is_nothing_is_named() -> None:
    world = Sending()
    async with world.running() as manager:
        path, error = world.file("a", b"x"), ValueError("why")
        for given in NO_TEXTS:
            await refused(manager.queue(given, "any:a"), "path")  # type: ignore[arg-type]
            await refused(manager.queue(path, given), "to")  # type: ignore[arg-type]
            await refused(manager.queue_failed(path, given, error, id="x"), "to")  # type: ignore[arg-type]
            await refused(manager.queue_failed(given, "any:a", error, id="x"), "path")  # type: ignore[arg-type]
        no_paths: list[Any] = ["/a\udcff", BytesPath()]
        for name in no_paths:
            await refused(manager.queue(name, "any:a"), "path")
            await refused(manager.queue_failed(name, "any:a", error, id="x"), "path")
        for given in NO_TEXTS[1:]:
            await refused(manager.queue(path, "any:a", id=given), "id")  # type: ignore[arg-type]
        assert await manager.list() == ([], None)
        await manager.wait(await manager.queue(PurePosixPath(path), "any:a"))


async def test_what_is_no_number_is_none() -> None:
    async with Sending().running() as manager:
        calls: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "timeout_s": lambda given: manager.wait("t", given),
            "limit": lambda given: manager.list(limit=given),
            "after": lambda given: manager.list(after=given),
            "grace_s": manager.stop,
            "bandwidth": manager.ask_bandwidth,
        }
        for field, call in calls.items():
            for given in NO_NUMBERS:
                await refused(call(given), field)
            if field != "after":
                await refused(call(10**400), field)
        await refused(manager.list(limit=2.5), "limit")  # type: ignore[arg-type]
        await refused(manager.list(remote="\ud800"), "remote")
        assert await manager.list(after=2**70, live=True) == ([], None)
        for given in NO_NUMBERS:
            with pytest.raises(InvalidRequest, match="bandwidth: must be a number of bytes per second"):
                manager.set_bandwidth(given)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest, match="slots: must be SlotLimits, not 3"):
            manager.set_slots(3)  # type: ignore[arg-type]
        assert manager.limits.bandwidth is None


def test_the_words_say_what_it_must_be() -> None:
    with pytest.raises(InvalidRequest, match=r"bandwidth: .* or None for no bound, not 'x'"):
        UploadManager.set_bandwidth(Sending().manager(), "x")  # type: ignore[arg-type]
