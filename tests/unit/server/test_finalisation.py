"""Records made of detached uploads, over HTTP."""

from typing import Any

import httpx2
import pytest

HELLO = b"hello world"


async def detached(client: httpx2.AsyncClient, asset: str = "original") -> str:
    begun = await client.post(
        "/api/uploads", json={"filename": "a.png", "size": len(HELLO), "asset": asset, "lanes": True}
    )
    assert (begun.status_code, begun.json()["record"]) == (201, None)
    upload = str(begun.json()["id"])
    assert (await client.put(f"/api/uploads/{upload}/chunks/0", content=HELLO)).status_code == 204
    state = (await client.post(f"/api/uploads/{upload}/finish")).json()
    assert (state["status"], state["record"]) == ("committed", None)
    return upload


async def finalise(client: httpx2.AsyncClient, *assets: tuple[str, str], **more: Any) -> httpx2.Response:
    named = [{"kind": kind, "upload": upload} for kind, upload in assets]
    headers = more.pop("headers", {})
    return await client.post("/api/records", json={"assets": named, **more}, headers=headers)


async def test_a_record_of_two_lanes_is_read_at_once(client: httpx2.AsyncClient) -> None:
    kinds = ("original", "display", "thumbnail", "placeholder")
    assets = [(kind, await detached(client, kind)) for kind in kinds]
    assert (await client.get("/api/records")).json()["items"] == []
    made = await finalise(client, *assets)
    assert made.status_code == 201, made.text
    record = made.json()
    assert [asset["kind"] for asset in record["assets"]] == list(kinds)
    assert record["status"] == "completed"
    assert (await client.get(f"/api/records/{record['id']}")).json() == record
    assert (await client.get("/api/records")).json()["items"] == [record]
    for asset in record["assets"]:
        assert (await client.get(asset["url"])).content == HELLO


@pytest.mark.parametrize("place", ["header", "body", "both"])
async def test_the_same_key_answers_the_same_record(client: httpx2.AsyncClient, place: str) -> None:
    upload = await detached(client)
    more: dict[str, Any] = {}
    if place != "body":
        more["headers"] = {"Idempotency-Key": "k"}
    if place != "header":
        more["idempotency_key"] = "k"
    answers = [await finalise(client, ("original", upload), **more) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()


async def test_two_different_keys_are_refused(client: httpx2.AsyncClient) -> None:
    answer = await finalise(
        client, ("original", "u"), headers={"Idempotency-Key": "k"}, idempotency_key="other"
    )
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "idempotency_key")


async def test_a_wrong_kind_is_refused(client: httpx2.AsyncClient) -> None:
    display = await detached(client, "display")
    answer = await finalise(client, ("original", display))
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"field": "assets", "reason": f"upload {display!r} was begun as display, not as original"}
    ]
    assert (await finalise(client, ("picture", display))).status_code == 422


async def test_an_upload_is_of_one_record(client: httpx2.AsyncClient) -> None:
    upload = await detached(client)
    record = (await finalise(client, ("original", upload))).json()
    again = await finalise(client, ("original", upload))
    assert (again.status_code, again.json()["record"]) == (409, record["id"])
    assert (await client.delete(f"/api/uploads/{upload}")).status_code == 409
    state = (await client.get(f"/api/uploads/{upload}")).json()
    assert (state["record"], state["result"]["id"]) == (record["id"], record["id"])


async def test_giving_up_frees_a_detached_upload(client: httpx2.AsyncClient) -> None:
    upload = await detached(client)
    for _ in range(2):
        assert (await client.delete(f"/api/uploads/{upload}")).status_code == 204
    assert (await client.get(f"/api/uploads/{upload}")).json()["status"] == "aborted"
    assert (await finalise(client, ("original", upload))).status_code == 410
