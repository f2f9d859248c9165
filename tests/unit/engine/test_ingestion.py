"""Forms in the engine: all files or none, and nothing left whatever ends a form."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from haulier.adapters.memory.history import MemoryHistory
from haulier.core.caller import LOCAL, Caller
from haulier.core.errors import (
    AccessDenied,
    BodyCut,
    ContentInvalid,
    FileEmpty,
    FileMissing,
    InvalidRequest,
    NameNotAccepted,
    QueueFull,
    RecordNotFound,
    StorageUnavailable,
    UploadBusy,
    UploadComplete,
)
from haulier.core.processing import FileMetadata, ProcessingFailure, Unprocessed
from haulier.core.record import Record, RecordId
from haulier.core.session import SessionId, SessionStatus
from haulier.core.values import dataclass
from haulier.engine.history import EXPORT_PAGE
from haulier.engine.ingestion import RENEW_S, TTL_S
from haulier.engine.janitor import FORM_AGE_S, Janitor, JanitorLimits, People
from haulier.ports import BodyEnd, Deliver, HistoryQuery, HistoryRow, Page
from haulier.testing import ManualClock
from haulier.testing.rows import T0, add_record, record
from tests.support.engine import beside
from tests.support.service import MemoryService


@dataclass
class Given:
    """A file of a form."""

    filename: str = "a.json"
    data: bytes = b"[1]"
    charset: str | None = None
    error: Exception | None = None
    length: int | None = None

    async def receive(self, deliver: Deliver, *, limit: int | None = None) -> BodyEnd:
        assert limit is None or len(self.data) <= limit
        if self.data:
            pending = deliver(self.data)
            if pending is not None:
                await pending
        if self.error is not None:
            raise self.error
        return BodyEnd.COMPLETE

    def stop(self) -> None:
        raise AssertionError("nobody stops it here")


async def form(*files: Given) -> AsyncIterator[Given]:
    for file in files:
        yield file


async def ingest(service: MemoryService, *files: Given, expected: int | None = None) -> Sequence[Record]:
    return await service.ingestion.ingest(form(*files), caller=LOCAL, capsule="default", expected=expected)


@pytest.fixture
def service() -> MemoryService:
    return MemoryService(clock=ManualClock())


async def is_untouched(service: MemoryService) -> bool:
    """Whether neither bytes nor rows nor reservations are there."""
    capsule = await service.database.read(lambda tx: tx.capsules.load("default"))
    page = await service.history.page(HistoryQuery(owner=""), caller=LOCAL)
    assert capsule is not None
    disk = service.sink.disk
    return (capsule.used, capsule.reserved, dict(disk.parts), dict(disk.blobs), list(page.items)) == (
        0,
        0,
        {},
        {},
        [],
    )


async def test_all_files_become_records(service: MemoryService) -> None:
    first, second = await ingest(service, Given(), Given("b.txt", b"text"), expected=100)
    assert [(it.filename, it.size, it.content_type) for it in (first, second)] == [
        ("a.json", 3, "application/json"),
        ("b.txt", 4, "text/plain"),
    ]
    found = await service.database.read(lambda tx: tx.records.description(second.id))
    assert (
        found == FileMetadata(media_type="text/plain", encoding="utf-8-sig", line_count=1, preview="text")
        or found
    )


REFUSED: list[tuple[list[Given], type[Exception]]] = [
    ([], FileMissing),
    ([Given(), Given(data=b"")], FileEmpty),
    ([Given(), Given("a/b.json")], InvalidRequest),
    ([Given(), Given("a\u202eb.json")], InvalidRequest),
    ([Given(), Given("a.exe")], NameNotAccepted),
    ([Given(), Given("json")], NameNotAccepted),
    ([Given(), Given(data=b"[")], ContentInvalid),
    ([Given(), Given(error=BodyCut(1))], BodyCut),
    ([Given(), Given(error=RuntimeError("ours"))], RuntimeError),
]


@pytest.mark.parametrize(("files", "error"), REFUSED)
async def test_whatever_ends_a_form_leaves_nothing(
    service: MemoryService, files: list[Given], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await ingest(service, *files)
    assert await is_untouched(service)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\u202eb.json", r"'a\u202eb.json' must not"),
        ("n" * 300, f"'{'n' * 64}...' must be at most 255 bytes"),
    ],
)
async def test_a_bad_name_is_told_with_its_file(service: MemoryService, name: str, shown: str) -> None:
    """Of several files it would not be clear which one is meant."""
    with pytest.raises(InvalidRequest) as caught:
        await ingest(service, Given(), Given(name))
    (problem,) = caught.value.errors
    assert (problem.field, problem.reason[: len(shown)]) == ("filename", shown)


async def test_content_that_is_wrong_is_told_with_its_place(service: MemoryService) -> None:
    with pytest.raises(ContentInvalid) as caught:
        await ingest(service, Given("x.json", b'{"a":\n 1,}'))
    assert (caught.value.filename, caught.value.line, caught.value.column) == ("x.json", 2, 4)


async def test_a_check_that_is_not_made_is_told_by_its_reason(service: MemoryService) -> None:
    service.checker.answers = [
        Unprocessed(ProcessingFailure.QUEUE_FULL),
        Unprocessed(ProcessingFailure.CHECK_TIMEOUT, "over 60 s"),
    ]
    with pytest.raises(QueueFull):
        await ingest(service, Given())
    with pytest.raises(ContentInvalid, match="took too long"):
        await ingest(service, Given())
    assert await is_untouched(service)


async def test_an_error_after_the_first_finish_takes_that_back_too(service: MemoryService) -> None:
    async def fail(*_: Any) -> None:
        raise StorageUnavailable("not now")

    service.ingestion._record_all = fail  # type: ignore[method-assign,assignment]
    with pytest.raises(StorageUnavailable):
        await ingest(service, Given(), Given("b.json"))
    assert await is_untouched(service)


async def test_an_upload_that_somebody_took_is_no_part_of_a_form(service: MemoryService) -> None:
    real = service.uploads.finish

    async def finish(upload_id: SessionId, **options: Any) -> Any:
        state = await real(upload_id, **options)
        details = state.upload.details
        taken = details.attached(RecordId("of somebody"))
        assert await service.database.write(
            lambda tx: tx.sessions.settle(upload_id, taken, instead_of=details)
        )
        return state

    service.uploads.finish = finish  # type: ignore[method-assign]
    with capture_logs() as logs, pytest.raises(UploadComplete):
        await ingest(service, Given())
    assert [entry["event"] for entry in logs if entry["event"] == "form.not_freed"] == ["form.not_freed"]


async def test_a_finish_that_takes_too_long_ends_the_form(service: MemoryService) -> None:
    async def finish(upload_id: SessionId, **options: Any) -> Any:
        return await service.uploads.state(upload_id, caller=options["caller"])

    service.uploads.finish = finish  # type: ignore[method-assign]
    with pytest.raises(UploadBusy, match="too long"):
        await ingest(service, Given())
    assert await is_untouched(service)


async def test_a_finish_that_fails_is_not_tried_again(service: MemoryService) -> None:
    service.sink.fail_next("commit", StorageUnavailable("not now"))
    with pytest.raises(StorageUnavailable):
        await ingest(service, Given())
    assert await is_untouched(service)


async def test_a_finish_that_another_process_took_over_is_waited_for(service: MemoryService) -> None:
    service.sink.fail_next("commit", StorageUnavailable("not now"))
    real = service.uploads.give_up

    async def give_up(upload_id: SessionId) -> None:
        failed = await service.uploads.state(upload_id, caller=LOCAL)
        fence = failed.upload.fence
        assert await service.database.write(lambda tx: tx.sessions.take_finish(upload_id, fence, "another"))
        await real(upload_id)

    service.uploads.give_up = give_up  # type: ignore[method-assign]
    with pytest.raises(StorageUnavailable):
        await ingest(service, Given())
    assert await is_untouched(service)


async def test_a_finish_that_is_begun_again_while_it_is_given_up_leaves_nothing(
    service: MemoryService,
) -> None:
    """A word about the begin of a finish can come back after that finish has failed."""
    endings = service.uploads._sessions._endings
    going_on = asyncio.Event()
    service.sink.fail_next("commit", StorageUnavailable("not now"))
    real = service.sink.commit

    async def commit(key: str, blob_key: str, *, size: int) -> None:
        await going_on.wait()
        await real(key, blob_key, size=size)

    async def give_up(upload_id: SessionId) -> None:
        service.sink.commit = commit  # type: ignore[method-assign]
        session = await endings._context.peek(upload_id)
        assert session.status is SessionStatus.FINISHING
        endings.completing(session, take=False)
        asyncio.get_running_loop().call_soon(going_on.set)
        await endings.give_up(upload_id)

    service.uploads.give_up = give_up  # type: ignore[method-assign]
    with pytest.raises(StorageUnavailable):
        await ingest(service, Given())
    assert await is_untouched(service)


async def test_a_cancelled_form_leaves_nothing(service: MemoryService) -> None:
    started, never = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[Given]:
        yield Given()
        started.set()
        await never.wait()

    task = beside(service.ingestion.ingest(slow(), caller=LOCAL, capsule="default", expected=None))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await is_untouched(service)


async def test_what_has_come_of_a_slow_form_is_kept_alive() -> None:
    clock = ManualClock()
    service = MemoryService(clock=clock)
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[Given]:
        yield Given()
        started.set()
        await go_on.wait()
        yield Given("b.json")

    task = beside(service.ingestion.ingest(slow(), caller=LOCAL, capsule="default", expected=None))
    await started.wait()
    (session,) = await service.uploads.probe()
    service.database.fail_next(StorageUnavailable("for a moment"))
    for _ in range(int(2 * TTL_S / RENEW_S)):
        clock.advance(RENEW_S)
        for _ in range(50):
            await asyncio.sleep(0)
    assert await service.uploads.expire() == 0
    go_on.set()
    assert len(await task) == 2
    assert session.spec.ttl_s == TTL_S


async def test_a_form_leaves_no_task_and_a_renewal_that_crashes_is_told() -> None:
    clock = ManualClock()
    service = MemoryService(clock=clock)
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[Given]:
        yield Given()
        started.set()
        await go_on.wait()

    def renewals() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "form.renew"]

    with capture_logs() as logs:
        task = beside(service.ingestion.ingest(slow(), caller=LOCAL, capsule="default", expected=None))
        await started.wait()
        assert renewals() == ["form.renew"]
        service.database.fail_next(RuntimeError("ours"))
        clock.advance(RENEW_S)
        for _ in range(50):
            await asyncio.sleep(0)
        go_on.set()
        await task
        await ingest(service, Given())
    assert renewals() == []
    assert [(entry["event"], entry["task"]) for entry in logs if "task" in entry] == [
        ("background.crashed", "form.renew")
    ]


async def test_a_taken_key_gives_a_new_one(service: MemoryService) -> None:
    (first,) = await ingest(service, Given())
    taken = first.assets[0].blob_key.removeprefix("ingestion-")
    keys = iter([taken, "unused", taken, "other"])
    ids = service.uploads._ports.ids
    real, type(ids).blob_key = type(ids).blob_key, lambda _self: next(keys)  # type: ignore[method-assign,assignment]
    try:
        (second,) = await ingest(service, Given(data=b"[2]"))
    finally:
        type(ids).blob_key = real  # type: ignore[method-assign]
    assert second.assets[0].blob_key == "ingestion-other"


async def test_what_a_dead_process_had_finished_is_freed_after_a_while(service: MemoryService) -> None:
    real = service.ingestion._give_up

    async def die(*_: Any) -> None:
        raise asyncio.CancelledError

    service.ingestion._record_all = die  # type: ignore[method-assign,assignment]
    service.ingestion._give_up = die  # type: ignore[method-assign,assignment]
    with pytest.raises(asyncio.CancelledError):
        await ingest(service, Given())
    assert len(service.sink.disk.blobs) == 1
    service.ingestion._give_up = real  # type: ignore[method-assign]
    clock = service.clock
    assert isinstance(clock, ManualClock)
    janitor = Janitor(
        service.uploads,
        service.records,
        People(service.visitors, service.accounts),
        sink=service.sink,
        work=service.database,
        clock=clock,
        limits=JanitorLimits(),
        sweep_forms=service.ingestion.sweep,
    )
    await janitor.sweep()
    assert len(service.sink.disk.blobs) == 1
    clock.advance(FORM_AGE_S + 1)
    await janitor.sweep()
    assert await is_untouched(service)


class TestHistory:
    async def test_an_export_goes_through_all_pages(self, service: MemoryService) -> None:
        for number in range(EXPORT_PAGE + 1):
            await add_record(service.database, record(f"r{number:04}", begun_at=T0 + number))
        query = HistoryQuery(owner="whoever", limit=1, skip=9)
        pages = [[row["id"] for row in rows] async for rows in service.history.export(query, caller=LOCAL)]
        assert [len(page) for page in pages] == [EXPORT_PAGE, 1]
        assert (pages[0][0], pages[1]) == (f"r{EXPORT_PAGE:04}", ["r0000"])

    async def test_a_page_by_its_number_is_refused_where_too_much_would_be_looked_through(
        self, service: MemoryService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who follows `next` gets there; a later page by its number would have left out too few."""

        async def page(_: object, query: HistoryQuery) -> Page[HistoryRow]:
            return Page(items=[{"id": "r", "created_at": T0}][: query.limit], next=(T0 - 9, "q"))

        monkeypatch.setattr(MemoryHistory, "page", page)
        first = await service.history.page(HistoryQuery(owner="", limit=2), caller=LOCAL)
        assert first.next == (T0 - 9, "q")
        assert (await service.history.page(HistoryQuery(owner="", limit=1, skip=1), caller=LOCAL)).items
        with pytest.raises(InvalidRequest, match="follow `next` instead"):
            await service.history.page(HistoryQuery(owner="", limit=2, skip=2), caller=LOCAL)

    async def test_only_the_callers_own_is_shown_deleted_and_restored(self, service: MemoryService) -> None:
        key = RecordId("r")
        await add_record(service.database, record("r", owner="user:x"), original="key")
        for call in (service.history.one, service.history.delete, service.history.restore):
            with pytest.raises(RecordNotFound):
                await call(key, caller=LOCAL)
        assert list(await service.history.days(365, caller=LOCAL)) == []

    async def test_a_deleted_row_is_gone_until_it_is_restored(self, service: MemoryService) -> None:
        key = RecordId("r")
        await add_record(service.database, record("r"), original="key")
        await service.history.delete(key, caller=LOCAL)
        with pytest.raises(RecordNotFound):
            await service.history.one(key, caller=LOCAL)
        row = await service.history.restore(key, caller=LOCAL)
        assert row == await service.history.one(key, caller=LOCAL)

    async def test_the_token_of_an_upload_opens_no_history(self, service: MemoryService) -> None:
        caller = Caller(owner="local", upload=SessionId("u"))
        with pytest.raises(AccessDenied):
            await service.history.page(HistoryQuery(owner=""), caller=caller)
