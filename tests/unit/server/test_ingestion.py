"""The history of who sends forms, as a file: whole, or with a word about what is not in it."""

import httpx2
import pytest

from haulier.core.record import RecordId
from haulier.core.values import replace
from tests.support.service import MemoryService

EXPORT = "/api/ingestion/history/export"


async def two_files(client: httpx2.AsyncClient) -> list[str]:
    """Send a form with two files; return their records."""
    files = [("f", (name, b"{}")) for name in ("a.json", "b.json")]
    answer = await client.post("/api/ingestion/upload", files=files)
    assert answer.status_code == 201, answer.text
    return [item["id"] for item in answer.json()["items"]]


def spoil(service: MemoryService, record: str) -> None:
    """Make a row one that cannot be shown."""
    rows = service.database._rows.records
    rows[RecordId(record)] = replace(rows[RecordId(record)], filename="")


async def test_a_whole_export_has_its_rows_and_nothing_else(client: httpx2.AsyncClient) -> None:
    ids = await two_files(client)
    rows = (await client.get(EXPORT)).json()
    assert {row["id"] for row in rows} == set(ids)
    lines = (await client.get(EXPORT, params={"format": "csv"})).text.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["id", *[row["id"] for row in rows]]


@pytest.mark.parametrize("spoiled", [1, 2])
async def test_an_export_tells_how_many_rows_it_had_to_leave_out(
    service: MemoryService, client: httpx2.AsyncClient, spoiled: int
) -> None:
    ids = await two_files(client)
    for record in ids[:spoiled]:
        spoil(service, record)
    rows = (await client.get(EXPORT)).json()
    assert [row.get("id") for row in rows] == [*ids[spoiled:], None]
    assert rows[-1] == {"left_out": spoiled}
    lines = (await client.get(EXPORT, params={"format": "csv"})).text.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["id", *ids[spoiled:], f"# left out: {spoiled}"]


async def test_a_form_that_was_not_even_begun_has_no_file(client: httpx2.AsyncClient) -> None:
    for nothing in (
        await client.post("/api/ingestion/upload", files={}),
        await client.post("/api/ingestion/upload", content=b""),
    ):
        assert nothing.status_code == 400, nothing.text
        assert nothing.json()["type"].endswith("/errors/file-empty")
    other = await client.post("/api/ingestion/upload", content=b"x")
    assert other.status_code == 415, other.text
