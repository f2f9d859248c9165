"""Addresses that end with something odd: they are refused, and never taken for another one."""

import httpx2
import pytest

REFUSED = (404, "route-not-found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/uploads/%00"),
        ("DELETE", "/api/uploads/a%00b"),
        ("PUT", "/api/uploads/%00/chunks/0"),
        ("GET", "/api/records/%00"),
        ("GET", "/resumable/%00"),
        ("DELETE", "/tus/%00"),
    ],
)
async def test_what_no_database_could_look_for_is_not_there(
    client: httpx2.AsyncClient, method: str, path: str
) -> None:
    answer = await client.request(method, path, headers={"Tus-Resumable": "1.0.0"})
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == REFUSED


@pytest.mark.parametrize(
    "path", ["/api/files/a%00b", "/api/files/a%0A", "/resumable/a%00b", "/resumable/a%0Ab"]
)
async def test_a_file_s_name_is_refused_in_words(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.put(path, content=b"hello", headers={"Upload-Complete": "?1"})
    assert (answer.json()["errors"][0]["field"], answer.status_code // 100) == ("filename", 4)
