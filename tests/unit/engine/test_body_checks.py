"""Where a body is hashed that came with digests."""

import hashlib
import threading
from collections.abc import Callable

import pytest

from haulier.core.digest import Buffer, Digest, DigestName
from haulier.core.errors import DigestMismatch
from haulier.engine import policy
from haulier.engine.body_checks import SHORT
from haulier.engine.policy import DigestCheck

LONG = bytes(range(256)) * (SHORT // 256) + b"more"


class SpiedHasher:
    """SHA-256 that remembers how many bytes it was given, and where."""

    def __init__(self, seen: list[tuple[int, bool]]) -> None:
        self._seen = seen
        self._hasher = hashlib.sha256()

    def update(self, data: Buffer, /) -> None:
        """Hash it."""
        on_the_loop = threading.current_thread() is threading.main_thread()
        self._seen.append((memoryview(data).nbytes, on_the_loop))
        self._hasher.update(data)

    def digest(self) -> bytes:
        """Return the digest."""
        return self._hasher.digest()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    calls: list[tuple[int, bool]] = []
    monkeypatch.setattr(policy, "new_hasher", lambda _name: SpiedHasher(calls))
    return calls


def check_of(content: bytes) -> DigestCheck:
    return DigestCheck((Digest(DigestName.SHA_256, hashlib.sha256(content).digest()),))


async def never(_consume: Callable[[Buffer], None]) -> None:
    raise AssertionError


async def test_a_short_body_is_hashed_while_it_passes(seen: list[tuple[int, bool]]) -> None:
    check = check_of(LONG[:SHORT])
    check.update(LONG[:1000])
    check.update(LONG[1000:SHORT])
    await check.verify(never)
    assert seen == [(1000, True), (SHORT - 1000, True)]


async def test_a_longer_body_is_hashed_from_where_it_is_stored(seen: list[tuple[int, bool]]) -> None:
    for stored, fits in ((LONG, True), (LONG[:-1] + b"x", False)):
        check = check_of(LONG)
        for start in range(0, len(LONG), SHORT // 2):
            check.update(LONG[start : start + SHORT // 2])
        assert sum(count for count, _ in seen) == SHORT
        seen.clear()

        async def scan(consume: Callable[[Buffer], None], content: bytes = stored) -> None:
            consume(content)

        if fits:
            await check.verify(scan)
        else:
            with pytest.raises(DigestMismatch):
                await check.verify(scan)
        assert seen == [(len(LONG), True)]
        seen.clear()


async def test_a_body_that_is_stored_nowhere_is_hashed_in_a_thread(seen: list[tuple[int, bool]]) -> None:
    check = check_of(LONG)
    piece = bytearray(LONG[:SHORT])
    hashing = check.update_aside(piece)
    piece[:] = bytes(SHORT)  # whoever gave it has it back at once
    await hashing
    await check.update_aside(LONG[SHORT:])
    await check.verify(never)
    assert seen == [(SHORT, False), (4, False)]
