"""Bodies that are cut on a real connection go on where the service says, not from the start."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2

from haulier.client import Client
from haulier.core.retry import RetryPolicy
from tests.support.faults import FaultyTransport, cut_body
from tests.support.files import MIB, make_file, sha256
from tests.support.processes import ServeProcess

PATIENT = RetryPolicy(retries=20, base_s=0.1, cap_s=1.0)


async def test_a_small_file_that_was_cut_goes_on_in_the_same_upload(
    service: ServeProcess, tmp_path: Path
) -> None:
    source = make_file(tmp_path / "small.bin", 5 * MIB)
    way = FaultyTransport(httpx2.AsyncHTTPTransport())
    async with Client(service.url, home=tmp_path, retry=PATIENT, transport=way) as client:
        way.plan("PUT /api/files/", cut_body)
        record = await client.upload(source)
        assert record.digest == {"sha-256": sha256(source)}
        assert len([found async for found in client.list()]) == 1
    assert way.count("PATCH /api/uploads/") == 1


async def test_a_stream_that_was_cut_goes_on_at_the_services_offset(
    service: ServeProcess, tmp_path: Path
) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for number in range(20):
            yield bytes([number]) * MIB

    way = FaultyTransport(httpx2.AsyncHTTPTransport())
    async with Client(service.url, home=tmp_path, retry=PATIENT, transport=way) as client:
        way.plan("PATCH /api/uploads/", cut_body, cut_body)
        record = await client.upload(stream(), filename="stream.bin")
        assert record.size == 20 * MIB
        assert len([found async for found in client.list()]) == 1


async def test_a_chunk_that_was_cut_is_sent_again(service: ServeProcess, tmp_path: Path) -> None:
    source = make_file(tmp_path / "large.bin", 30 * MIB)
    way = FaultyTransport(httpx2.AsyncHTTPTransport())
    async with Client(service.url, home=tmp_path, retry=PATIENT, transport=way) as client:
        way.plan("/chunks/2$", cut_body, cut_body)
        record = await client.upload(source)
        assert record.digest == {"sha-256": sha256(source)}
    assert [way.count(f"/chunks/{index}$") for index in range(4)] == [1, 1, 3, 1]
