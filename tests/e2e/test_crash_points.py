"""kill -9 between the steps of an operation, each by its name; what the next start makes of it."""

import hashlib
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from haulier.core.values import dataclass
from tests.support.accidents import ROOT, Accidents
from tests.support.content import Content
from tests.support.data_directory import Inventory, require_one_file, take_inventory
from tests.support.outsider import NO_ANSWER, Outsider
from tests.support.processes import ServeProcess, serving, wait_until

CHUNK = 256 * 1024
CONTENT = Content(3 * CHUNK + 1000)
ORDER = (3, 1, 0, 2)
FINISH_POINTS = [
    "in-start_finish",
    "after-start_finish",
    "before-sync",  # the digest has been taken
    "after-sync",
    "after-make_directory",
    "before-link",
    "after-link",
    "after-sync_blob_directory",
    "in-commit",
    "after-commit",
    "before-unlink",
    "after-unlink",
]
REDONE = ["before-sync", "after-link", "in-commit"]
"""Points that the redo of a finish comes by again."""
pytestmark = pytest.mark.slow

JANITOR = {"HAULIER_JANITOR_INTERVAL_S": "0.1"}


@dataclass(frozen=True)
class Scene:
    """A service with accidents, and the ordinary one that takes its place."""

    unlucky: ServeProcess
    ordinary: ServeProcess
    accidents: Accidents

    def dies(self, point: str, request: Any, *arguments: Any, **fields: Any) -> None:
        """Let the unlucky service die at a point of a request, and fail if it does not."""
        self.accidents.arm(point)
        with pytest.raises(NO_ANSWER):
            request(*arguments, **fields)
        self.require_dead(point)

    def require_dead(self, point: str) -> None:
        """Fail unless the unlucky service dies by itself, there."""
        assert self.unlucky.wait() == -signal.SIGKILL
        self.accidents.disarm(point)

    def recover(self) -> Outsider:
        """Start the ordinary service on what the other one left."""
        self.ordinary.start()
        return Outsider(self.ordinary.port)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    accidents, data_dir = Accidents(tmp_path / "accidents"), tmp_path / "data"
    ordinary = ServeProcess(data_dir, JANITOR)
    try:
        with serving(data_dir, command=accidents.command, cwd=ROOT) as unlucky:
            yield Scene(unlucky, ordinary, accidents)
    finally:
        ordinary.kill()


@pytest.fixture
def outsider(scene: Scene) -> Outsider:
    """Speaks to the service that has accidents."""
    return Outsider(scene.unlucky.port)


def chunk(index: int) -> bytes:
    return CONTENT.range(index * CHUNK, (index + 1) * CHUNK)


def put_chunks(outsider: Outsider, upload: str, indexes: tuple[int, ...] = ORDER) -> None:
    for index in indexes:
        answer = outsider.put(upload, index, chunk(index))
        assert answer.status == 204, answer


def begin_chunks(outsider: Outsider, **fields: Any) -> str:
    return str(outsider.begin(size=CONTENT.size, chunk_size=CHUNK, **fields)["id"])


def committed(outsider: Outsider, upload: str) -> bool:
    return bool(outsider.state(upload)["status"] == "committed")


def require_whole(scene: Scene, outsider: Outsider) -> None:
    """Fail unless there is one right record, and everything else is gone without anybody's help."""
    (record,) = outsider.records()
    assert record["status"] == "completed"
    assert record["digest"] == {"sha-256": CONTENT.sha256()}
    assert outsider.original_sha256(record["id"]) == (CONTENT.size, CONTENT.sha256())
    wait_until(lambda: not take_inventory(scene.ordinary.data_dir).parts, "the part is gone")
    require_one_file(scene.ordinary.data_dir, CONTENT.size)


class TestFinishOfChunks:
    @pytest.mark.parametrize("point", FINISH_POINTS)
    def test_is_gone_on_with_by_the_next_start(self, scene: Scene, outsider: Outsider, point: str) -> None:
        upload = begin_chunks(outsider)
        put_chunks(outsider, upload)
        scene.dies(point, outsider.finish, upload)

        after = scene.recover()
        if point == "in-start_finish":  # never happened, so it is the client who goes on
            assert after.state(upload)["missing_chunks"] == []
        else:
            wait_until(lambda: committed(after, upload), "it is committed by itself")
        finished = after.finish(upload)
        assert (finished.status, finished.json["status"]) == (200, "completed")
        require_whole(scene, after)

    @pytest.mark.parametrize("point", REDONE)
    def test_may_die_again_while_it_is_gone_on_with(
        self, scene: Scene, outsider: Outsider, point: str
    ) -> None:
        upload = begin_chunks(outsider)
        put_chunks(outsider, upload)
        scene.dies("after-start_finish", outsider.finish, upload)
        scene.accidents.arm(point)
        scene.unlucky.spawn()
        scene.require_dead(point)

        after = scene.recover()
        wait_until(lambda: committed(after, upload), "it is committed by itself")
        require_whole(scene, after)


class TestLastAppend:
    @pytest.mark.parametrize("point", ["in-start_finish", "after-start_finish", "after-link", "after-commit"])
    def test_is_gone_on_with_by_the_next_start(self, scene: Scene, outsider: Outsider, point: str) -> None:
        upload = outsider.begin(size=CONTENT.size, mode="append")["id"]
        half = CONTENT.size // 2
        assert outsider.append(upload, 0, CONTENT.range(0, half)).status == 204
        scene.dies(point, outsider.append, upload, half, CONTENT.range(half, CONTENT.size))

        after = scene.recover()
        offset = after.offset(upload)
        assert offset >= half
        if offset < CONTENT.size:
            assert after.append(upload, offset, CONTENT.range(offset, CONTENT.size)).status == 204
        wait_until(lambda: committed(after, upload), "it is committed by itself")
        require_whole(scene, after)


class TestOneRequest:
    @pytest.mark.parametrize(
        "point", ["after-insert", "in-start_finish", "after-start_finish", "after-link", "after-commit"]
    )
    def test_repeated_with_its_key_makes_one_record(
        self, scene: Scene, outsider: Outsider, point: str
    ) -> None:
        call = ("PUT", "/api/files/file.bin", CONTENT.range(0, CONTENT.size), {"Idempotency-Key": "once"})
        scene.dies(point, outsider.ask, *call)

        after = scene.recover()
        again = after.ask(*call)
        if again.status == 409:
            assert again.problem == (409, "offset-mismatch")
            upload = again.headers["location"].rpartition("/")[2]
            offset = again.json["expected"]
            assert after.append(upload, offset, CONTENT.range(offset, CONTENT.size)).status == 204
        else:
            assert again.status in {200, 201}, again
        require_whole(scene, after)


class TestShortFiles:
    @pytest.mark.parametrize(
        ("point", "there"), [("in-insert_committed", False), ("after-insert_committed", True)]
    )
    def test_that_come_together_are_there_as_far_as_their_transaction_is(
        self, scene: Scene, point: str, *, there: bool
    ) -> None:
        contents = {f"{number}.txt": f"content {number}".encode() for number in range(12)}
        scene.accidents.arm(point)

        def put(name: str) -> bool:
            try:
                Outsider(scene.unlucky.port).ask("PUT", f"/api/files/{name}", contents[name])
            except NO_ANSWER:
                return False
            return True

        with ThreadPoolExecutor(len(contents)) as threads:
            assert not any(threads.map(put, contents))  # nobody is answered before its commit
        scene.require_dead(point)

        after = scene.recover()
        kept = after.records()
        assert bool(kept) is there
        for record in kept:
            content = contents.pop(record["filename"])
            found = (len(content), hashlib.sha256(content).hexdigest())
            assert after.original_sha256(record["id"]) == found
        inventory = take_inventory(scene.ordinary.data_dir)
        assert inventory.uploads == ({"committed": len(kept)} if there else {})
        assert inventory.records == ({"completed": len(kept)} if there else {})
        assert (inventory.used_bytes, inventory.reserved_bytes) == (sum(it["size"] for it in kept), 0)
        for name, content in contents.items():
            assert after.ask("PUT", f"/api/files/{name}", content).status == 201


class TestBegin:
    @pytest.mark.parametrize("point", ["in-insert", "after-insert", "before-reserve", "after-reserve"])
    def test_repeated_with_its_key_gives_an_upload_that_takes_chunks_in_any_order(
        self, scene: Scene, outsider: Outsider, point: str
    ) -> None:
        scene.dies(point, begin_chunks, outsider, key="once")

        after = scene.recover()
        upload = begin_chunks(after, key="once")
        assert begin_chunks(after, key="once") == upload
        put_chunks(after, upload)
        assert after.finish(upload).status == 200
        require_whole(scene, after)


class TestChunk:
    @pytest.mark.parametrize(
        ("point", "accepted"),
        [
            ("before-pwrite", False),
            ("after-pwrite", False),
            ("in-accept_chunk", False),
            ("after-accept_chunk", True),
        ],
    )
    def test_counts_when_its_row_does(
        self, scene: Scene, outsider: Outsider, point: str, *, accepted: bool
    ) -> None:
        upload = begin_chunks(outsider)
        put_chunks(outsider, upload, (2, 0))
        scene.dies(point, outsider.put, upload, 1, chunk(1))

        after = scene.recover()
        assert after.state(upload)["missing_chunks"] == ([3] if accepted else [1, 3])
        put_chunks(after, upload, (3, 1))
        assert after.finish(upload).status == 200
        require_whole(scene, after)


class TestAbort:
    @pytest.mark.parametrize("point", ["in-end", "after-end", "before-unlink", "after-unlink"])
    def test_repeated_leaves_nothing(self, scene: Scene, outsider: Outsider, point: str) -> None:
        upload = begin_chunks(outsider)
        put_chunks(outsider, upload, (0,))
        scene.dies(point, outsider.ask, "DELETE", f"/api/uploads/{upload}")

        after = scene.recover()
        assert after.ask("DELETE", f"/api/uploads/{upload}").status == 204
        assert after.state(upload)["status"] == "aborted"
        wait_until(lambda: not take_inventory(scene.ordinary.data_dir).parts, "the part is gone")
        found = take_inventory(scene.ordinary.data_dir)
        assert found == Inventory(
            parts=frozenset(),
            blobs={},
            set_aside=frozenset(),
            uploads={"aborted": 1},
            records={"cancelled": 1},
            chunks=0,
            named_blobs=frozenset(),
            used_bytes=0,
            reserved_bytes=0,
        )


class TestRemoval:
    @pytest.mark.parametrize("point", ["in-drop_assets", "after-drop_assets", "after-unlink"])
    def test_never_leaves_a_record_that_promises_bytes_it_has_not(
        self, scene: Scene, outsider: Outsider, point: str
    ) -> None:
        upload = begin_chunks(outsider)
        put_chunks(outsider, upload)
        record = outsider.finish(upload).json["id"]
        scene.dies(point, outsider.ask, "DELETE", f"/api/records/{record}?now=true")

        after = scene.recover()
        restored = after.ask("POST", f"/api/records/{record}/restore")
        if point == "in-drop_assets":
            assert restored.status == 200
            assert after.original_sha256(record) == (CONTENT.size, CONTENT.sha256())
        else:
            assert restored.problem == (404, "record-not-found")
            assert take_inventory(scene.ordinary.data_dir).used_bytes == 0
