"""Records over HTTP: lists and their filters, trash, and the bytes of assets."""

from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx2
import pytest

from haulier.core.errors import StorageUnavailable
from haulier.testing import ManualClock
from tests.support.service import MemoryService

HELLO = b"hello world"
TAG = '"sha-256-b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"'


def problem(response: httpx2.Response, status: int, slug: str) -> Any:
    document = response.json()
    assert (response.status_code, document["type"]) == (status, f"http://127.0.0.1:8000/errors/{slug}"), (
        document
    )
    return document


async def put(client: httpx2.AsyncClient, name: str = "a.bin", data: bytes = HELLO, **params: str) -> Any:
    response = await client.put(f"/api/files/{quote(name, safe='')}", content=data, params=params)
    assert response.status_code == 201, response.text
    return response.json()


async def names(client: httpx2.AsyncClient, **params: Any) -> list[str]:
    response = await client.get("/api/records", params=params)
    assert response.status_code == 200, response.text
    return [item["filename"] for item in response.json()["items"]]


class TestLists:
    async def test_a_list_has_the_shape_of_the_contract(self, client: httpx2.AsyncClient) -> None:
        assert (await client.get("/api/records")).json() == {
            "items": [],
            "next": None,
            "total": None,
            "left_out": 0,
        }

    async def test_pages_follow_each_other_newest_first(self, client: httpx2.AsyncClient) -> None:
        for number in range(5):
            await put(client, f"{number}")
        seen, cursor = [], None
        for _ in range(3):
            page = (
                await client.get("/api/records", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
            ).json()
            seen += [item["filename"] for item in page["items"]]
            cursor = page["next"]
        assert seen == ["4", "3", "2", "1", "0"]
        assert cursor is None

    async def test_a_page_does_not_move_when_rows_are_added(self, client: httpx2.AsyncClient) -> None:
        for number in range(3):
            await put(client, f"{number}")
        page = (await client.get("/api/records", params={"limit": 1})).json()
        await put(client, "new")
        assert await names(client, cursor=page["next"]) == ["1", "0"]

    async def test_filters_narrow(self, client: httpx2.AsyncClient) -> None:
        await put(client, "Müller.txt", path="2026/rome")
        await put(client, "b.png", path="2025/oslo")
        await client.post("/api/uploads", json={"filename": "open.bin", "size": 1})
        assert await names(client, name="mÜLL") == ["Müller.txt"]
        assert await names(client, path="2025") == ["b.png"]
        assert await names(client, status="uploading") == ["open.bin"]
        assert await names(client, status=["uploading", "completed"]) == ["open.bin", "b.png", "Müller.txt"]
        assert await names(client, kind="original") == ["b.png", "Müller.txt"]
        assert await names(client, capsule="default", mine="true") == ["open.bin", "b.png", "Müller.txt"]

    async def test_ids_list_these_as_a_list_shows_them(self, client: httpx2.AsyncClient) -> None:
        for number in range(4):
            await put(client, f"{number}")
        every = (await client.get("/api/records")).json()["items"]
        ids = [every[0]["id"], every[2]["id"]]
        found = (await client.get("/api/records", params={"id": [*ids, str(UUID(int=7)), ids[0]]})).json()
        assert found["items"] == [every[0], every[2]]
        assert found["next"] is None
        await client.delete(f"/api/records/{ids[0]}")
        assert await names(client, id=ids) == ["1"]

    async def test_a_hundred_ids_are_taken_and_no_more(self, client: httpx2.AsyncClient) -> None:
        ids = [str(UUID(int=number)) for number in range(101)]
        assert await names(client, id=ids[:100]) == []
        document = problem(await client.get("/api/records", params={"id": ids}), 422, "invalid-request")
        assert [error["field"] for error in document["errors"]] == ["id"]
        assert "at most 100 items" in document["detail"]

    async def test_what_is_no_id_is_refused(self, client: httpx2.AsyncClient) -> None:
        for wrong in ("", "none", "7"):
            answer = await client.get("/api/records", params={"id": [str(UUID(int=7)), wrong]})
            document = problem(answer, 422, "invalid-request")
            assert [error["field"] for error in document["errors"]] == ["id"]
            assert "valid UUID" in document["detail"]

    async def test_dates_are_half_open_and_utc_where_they_name_no_zone(self) -> None:
        service = MemoryService(clock=ManualClock(now=1_700_000_000.0))  # 2023-11-14T22:13:20Z
        async with service.client() as client:
            await put(client, "a")
            for since in ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20", "2023-11-14T23:13:20+01:00"):
                assert await names(client, **{"from": since}) == ["a"]
                assert await names(client, to=since) == []
            assert await names(client, **{"from": "2023-11-14T22:13:20.001Z"}) == []

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("limit=0", "limit"),
            ("name=%00", "name"),
            ("path=a%00", "path"),
            ("limit=201", "limit"),
            ("limit=x", "limit"),
            ("cursor=x", "cursor"),
            ("cursor=W10", "cursor"),
            ("cursor=WzEsMl0", "cursor"),
            ("cursor=%FF", "cursor"),
            ("status=done", "status"),
            (f"path={'x' * 4097}", "path"),
            ("from=yesterday", "from"),
            ("from=-2.8892634631570294e-231", "from"),
            ("to=1700000000", "to"),
            ("to=2026-13-01", "to"),
            ("kind=thumb", "kind"),
            ("mine=perhaps", "mine"),
        ],
    )
    async def test_a_bad_filter_is_named(self, client: httpx2.AsyncClient, query: str, field: str) -> None:
        document = problem(await client.get(f"/api/records?{query}"), 422, "invalid-request")
        assert [error["field"] for error in document["errors"]] == [field]

    async def test_an_unknown_capsule_is_404_and_not_an_empty_list(self, client: httpx2.AsyncClient) -> None:
        problem(await client.get("/api/records?capsule=attic"), 404, "capsule-not-found")

    async def test_a_broken_database_is_an_error_and_not_an_empty_list(
        self, client: httpx2.AsyncClient, service: MemoryService
    ) -> None:
        service.database.fail_next(StorageUnavailable("gone"))
        problem(await client.get("/api/records"), 503, "storage-unavailable")


class TestOne:
    async def test_a_record_is_read_with_its_assets(self, client: httpx2.AsyncClient) -> None:
        record = await put(client, "a.bin")
        response = await client.get(f"/api/records/{record['id']}", headers={"Want-Repr-Digest": "sha-256=1"})
        assert response.json() == record
        assert response.headers["repr-digest"].startswith("sha-256=:")
        assert record["assets"] == [
            {
                "kind": "original",
                "size": 11,
                "content_type": "application/octet-stream",
                "digest": record["digest"],
                "width": None,
                "height": None,
                "url": f"http://127.0.0.1:8000/api/records/{record['id']}/assets/original",
                "data_url": None,
            }
        ]

    async def test_nothing_of_ours_is_told(self, client: httpx2.AsyncClient, service: MemoryService) -> None:
        record = await put(client)
        (blob_key,) = service.sink.disk.blobs
        assert blob_key not in str(record)
        assert "owner" not in record

    async def test_trash_and_back(self, client: httpx2.AsyncClient) -> None:
        record = await put(client)
        url, asset = f"/api/records/{record['id']}", record["assets"][0]["url"]
        for _ in range(2):
            assert (await client.delete(url)).status_code == 204
        assert (await client.get(url)).json()["deleted_at"].endswith("Z")
        assert await names(client) == []
        assert await names(client, deleted="true") == ["a.bin"]
        problem(await client.get(asset), 404, "record-not-found")
        for _ in range(2):
            assert (await client.post(f"{url}/restore")).json() == record
        assert (await client.get(asset)).content == HELLO

    async def test_deleted_now_is_gone_for_good(
        self, client: httpx2.AsyncClient, service: MemoryService
    ) -> None:
        record = await put(client)
        assert (await client.delete(f"/api/records/{record['id']}?now=true")).status_code == 204
        problem(await client.post(f"/api/records/{record['id']}/restore"), 404, "record-not-found")
        assert service.sink.disk.blobs == {}

    async def test_bytes_may_outlive_their_record(
        self, client: httpx2.AsyncClient, service: MemoryService
    ) -> None:
        record = await put(client)
        response = await client.delete(f"/api/records/{record['id']}?assets=keep&now=true")
        assert response.status_code == 204
        assert len(service.sink.disk.blobs) == 1

    async def test_a_record_whose_upload_runs_is_not_deleted(self, client: httpx2.AsyncClient) -> None:
        upload = (await client.post("/api/uploads", json={"filename": "a", "size": 1})).json()
        response = await client.delete(f"/api/records/{upload['record']}")
        assert response.status_code == 423

    @pytest.mark.parametrize("query", ["assets=some", "now=perhaps"])
    async def test_a_bad_choice_is_named(self, client: httpx2.AsyncClient, query: str) -> None:
        problem(await client.delete(f"/api/records/x?{query}"), 422, "invalid-request")

    async def test_an_unknown_record_of_any_shape_is_404(self, client: httpx2.AsyncClient) -> None:
        for name in ("x", "%C2%80", "a" * 3000, "019aa0b4-5a3c-7c1e-9d43-0f6a5f3a2b11"):
            url = f"/api/records/{name}"
            for response in (
                await client.get(url),
                await client.delete(url),
                await client.post(f"{url}/restore"),
                await client.get(f"{url}/assets/original"),
            ):
                problem(response, 404, "record-not-found")

    async def test_the_state_outlives_the_record(self, client: httpx2.AsyncClient) -> None:
        response = await client.put("/api/files/a", content=HELLO)
        await client.delete(f"/api/records/{response.json()['id']}?now=true")
        state = (await client.get(response.headers["location"])).json()
        assert state["status"] == "committed"


class TestAssets:
    async def test_the_bytes_come_with_all_that_a_client_may_ask(self, client: httpx2.AsyncClient) -> None:
        record = await put(client, "a.bin")
        response = await client.get(record["assets"][0]["url"], headers={"Want-Repr-Digest": "sha-256=1"})
        assert response.content == HELLO
        assert response.headers["etag"] == TAG
        assert response.headers["content-length"] == "11"
        assert response.headers["accept-ranges"] == "bytes"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["repr-digest"] == "sha-256=:uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=:"
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "sandbox" in response.headers["content-security-policy"]

    async def test_head_says_the_same_without_the_bytes(self, client: httpx2.AsyncClient) -> None:
        url = (await put(client))["assets"][0]["url"]
        head, get = await client.head(url), await client.get(url)
        drop = {"x-request-id", "date"}
        assert {k: v for k, v in head.headers.items() if k not in drop} == {
            k: v for k, v in get.headers.items() if k not in drop
        }
        assert head.content == b""

    @pytest.mark.parametrize(
        ("text", "status", "content_range", "body"),
        [
            ("bytes=0-4", 206, "bytes 0-4/11", b"hello"),
            ("bytes=6-", 206, "bytes 6-10/11", b"world"),
            ("bytes=6-999", 206, "bytes 6-10/11", b"world"),
            ("bytes=-5", 206, "bytes 6-10/11", b"world"),
            ("bytes=-999", 206, "bytes 0-10/11", HELLO),
            ("Bytes = 0-0", 206, "bytes 0-0/11", b"h"),
            ("bytes=0-1,3-4", 200, None, HELLO),
            ("bytes=4-2", 200, None, HELLO),
            ("bytes=-", 200, None, HELLO),
            ("bytes=a-b", 200, None, HELLO),
            ("lines=0-1", 200, None, HELLO),
            ("bytes=0-99999999999999999999", 206, "bytes 0-10/11", HELLO),
        ],
    )
    async def test_one_range_is_sent_and_nonsense_is_the_whole(
        self, client: httpx2.AsyncClient, text: str, status: int, content_range: str | None, body: bytes
    ) -> None:
        url = (await put(client))["assets"][0]["url"]
        response = await client.get(url, headers={"Range": text})
        assert (response.status_code, response.headers.get("content-range")) == (status, content_range)
        assert response.content == body
        assert response.headers["content-length"] == str(len(body))

    @pytest.mark.parametrize("text", ["bytes=11-", "bytes=11-12", "bytes=-0", f"bytes={10**30}-"])
    async def test_a_range_behind_the_end_is_416(self, client: httpx2.AsyncClient, text: str) -> None:
        url = (await put(client))["assets"][0]["url"]
        response = await client.get(url, headers={"Range": text})
        assert problem(response, 416, "range-not-satisfiable")["size"] == 11
        assert response.headers["content-range"] == "bytes */11"

    async def test_an_empty_file_has_no_range(self, client: httpx2.AsyncClient) -> None:
        url = (await put(client, data=b""))["assets"][0]["url"]
        assert (await client.get(url)).content == b""
        response = await client.get(url, headers={"Range": "bytes=0-"})
        problem(response, 416, "range-not-satisfiable")

    @pytest.mark.parametrize("text", [TAG, f"W/{TAG}", f'"x", {TAG}', "*"])
    async def test_what_is_known_is_not_sent_again(self, client: httpx2.AsyncClient, text: str) -> None:
        url = (await put(client))["assets"][0]["url"]
        response = await client.get(url, headers={"If-None-Match": text, "Range": "bytes=0-4"})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == TAG
        assert (await client.get(url, headers={"If-None-Match": '"x"'})).status_code == 200

    @pytest.mark.parametrize("text", ['"x"', f"W/{TAG}", f'"x", W/{TAG}', TAG.strip('"'), ""])
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_what_is_only_meant_of_another_file_is_not_sent(
        self, client: httpx2.AsyncClient, text: str, method: str
    ) -> None:
        url = (await put(client))["assets"][0]["url"]
        for more in ({}, {"If-None-Match": TAG}, {"Range": "bytes=0-4"}, {"Range": "bytes=99-"}):
            response = await client.request(method, url, headers={"If-Match": text, **more})
            assert response.status_code == 412, "judged before everything else: RFC 9110 section 13.2.2"
            if method == "GET":
                assert problem(response, 412, "precondition-failed")["etag"] == TAG

    @pytest.mark.parametrize("text", [TAG, f'"x", {TAG}', "*"])
    async def test_what_is_meant_of_this_file_is_sent(self, client: httpx2.AsyncClient, text: str) -> None:
        url = (await put(client))["assets"][0]["url"]
        response = await client.get(url, headers={"If-Match": text, "Range": "bytes=0-4"})
        assert (response.status_code, response.content) == (206, b"hello")

    async def test_a_range_of_another_version_is_the_whole(self, client: httpx2.AsyncClient) -> None:
        url = (await put(client))["assets"][0]["url"]
        for other in ('"x"', f"W/{TAG}", "Sun, 22 Nov 2026 00:00:00 GMT"):
            response = await client.get(url, headers={"Range": "bytes=0-4", "If-Range": other})
            assert (response.status_code, response.content) == (200, HELLO)
        response = await client.get(url, headers={"Range": "bytes=0-4", "If-Range": TAG})
        assert (response.status_code, response.content) == (206, b"hello")

    async def test_without_a_digest_the_tag_is_still_strong(self, client: httpx2.AsyncClient) -> None:
        urls = [(await put(client, digest="none"))["assets"][0]["url"] for _ in range(2)]
        tags = [(await client.get(url)).headers["etag"] for url in urls]
        assert tags[0] != tags[1]
        assert all(tag.startswith('"') for tag in tags)

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("a.png", "inline"),
            ("a.txt", "inline"),
            ("a.mp4", "inline"),
            ("a.mp3", "inline"),
            ("a.html", "attachment"),
            ("a.svg", "attachment"),
            ("a.pdf", "attachment"),
            ("a.xml", "attachment"),
            ("a.js", "attachment"),
            ("a.bin", "attachment"),
        ],
    )
    async def test_only_what_cannot_act_is_shown_in_place(
        self, client: httpx2.AsyncClient, name: str, kind: str
    ) -> None:
        response = await client.get((await put(client, name))["assets"][0]["url"])
        assert response.headers["content-disposition"].split(";")[0] == kind

    async def test_a_name_survives_for_new_readers_and_harms_no_old_one(
        self, client: httpx2.AsyncClient
    ) -> None:
        record = await put(client, 'über "x"; %41.txt')
        response = await client.get(record["assets"][0]["url"])
        assert response.headers["content-disposition"] == (
            "inline; filename=\"_ber _x_; _41.txt\"; filename*=UTF-8''%C3%BCber%20%22x%22%3B%20%2541.txt"
        )

    async def test_an_asset_that_is_not_there_is_404(self, client: httpx2.AsyncClient) -> None:
        record = await put(client)
        for kind in ("thumbnail", "nonsense"):
            response = await client.get(f"/api/records/{record['id']}/assets/{kind}")
            told = problem(response, 404, "asset-not-found")
            assert told["kind"] == kind
            assert told["detail"] == f"record {record['id']!r} has no asset {kind!r}"

    async def test_bytes_that_are_lost_are_an_error_and_not_a_short_file(
        self, client: httpx2.AsyncClient, service: MemoryService
    ) -> None:
        record = await put(client)
        service.sink.disk.blobs.clear()
        problem(await client.get(record["assets"][0]["url"]), 503, "storage-unavailable")

    async def test_a_large_file_comes_whole(self, client: httpx2.AsyncClient) -> None:
        data = bytes(range(256)) * 20_000
        url = (await put(client, data=data))["assets"][0]["url"]
        assert (await client.get(url)).content == data
        part = await client.get(url, headers={"Range": "bytes=1000000-4000000"})
        assert part.content == data[1_000_000:4_000_001]


class TestBulkDeletion:
    async def test_each_id_has_its_outcome(self, client: httpx2.AsyncClient) -> None:
        record = await put(client)
        begun = (await client.post("/api/uploads", json={"filename": "b", "size": 1})).json()
        ids = [record["id"], "nobody", begun["record"]]
        answer = await client.post("/api/records/delete", json={"ids": ids})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert (told["deleted"], told["failed"]) == (1, 2)
        assert [(it["id"], it["deleted"], it["reason"]) for it in told["items"]] == [
            (record["id"], True, None),
            ("nobody", False, "record-not-found"),
            (begun["record"], False, "upload-busy"),
        ]
        assert await names(client, deleted="true") == ["a.bin"]

    async def test_now_and_kept_assets_are_as_in_a_single_deletion(self, client: httpx2.AsyncClient) -> None:
        gone, kept = await put(client, "gone"), await put(client, "kept")
        await client.post("/api/records/delete", json={"ids": [gone["id"]], "now": True})
        await client.post("/api/records/delete", json={"ids": [kept["id"]], "now": True, "assets": "keep"})
        assert (await client.get(f"/api/records/{gone['id']}")).status_code == 404
        assert (await client.post(f"/api/records/{kept['id']}/restore")).status_code == 200
        assert (await client.get(f"/api/records/{kept['id']}/assets/original")).content == HELLO

    @pytest.mark.parametrize(
        "body", [{}, {"ids": []}, {"ids": ["a"] * 1001}, {"ids": ["a"], "assets": "burn"}, {"ids": "a"}]
    )
    async def test_what_cannot_be_read_deletes_nothing(self, client: httpx2.AsyncClient, body: Any) -> None:
        problem(await client.post("/api/records/delete", json=body), 422, "invalid-request")
