"""Probes, metrics, the request's id, CORS, and the pages for people."""

import json
from typing import Any

import httpx2
import pytest
from jsonschema_rs import Draft202012Validator
from structlog.testing import capture_logs

from haulier.core.session import SessionStatus
from haulier.server.bodies import MAX_JSON
from haulier.server.problems import SLUGS
from haulier.testing import ManualClock
from tests.support.service import MemoryService

APP = "https://app.example"


def metric(text: str, name: str) -> float:
    (line,) = (line for line in text.splitlines() if line.startswith(name + " "))
    return float(line.rpartition(" ")[2])


class TestProbes:
    async def test_a_living_process_is_healthy(self, client: httpx2.AsyncClient) -> None:
        response = await client.get("/healthz")
        assert (response.status_code, response.json()) == (200, {"status": "ok"})

    async def test_probes_may_ask_by_head(self, client: httpx2.AsyncClient) -> None:
        for path in ("/healthz", "/readyz"):
            assert (await client.head(path)).status_code == 200

    async def test_readiness_tells_its_reasons(
        self, client: httpx2.AsyncClient, service: MemoryService
    ) -> None:
        response = await client.get("/readyz")
        assert (response.status_code, response.json()) == (200, {"status": "ready", "reasons": []})
        service.reasons = ["the storage cannot be written"]
        response = await client.get("/readyz")
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert response.json() == {"status": "unready", "reasons": ["the storage cannot be written"]}


class TestMetrics:
    async def test_uploads_bytes_requests_and_problems_are_counted(self, client: httpx2.AsyncClient) -> None:
        await client.put("/api/files/a", content=b"hello")
        upload = (await client.post("/api/uploads", json={"filename": "b", "size": 1})).json()
        await client.delete(upload["links"]["self"])
        await client.post("/api/uploads", json={"filename": "c", "size": 1})
        await client.get("/api/uploads/nobody")
        text = (await client.get("/metrics")).text
        assert metric(text, "haulier_uploads_begun_total") == 3
        assert metric(text, 'haulier_uploads_ended_total{status="committed"}') == 1
        assert metric(text, 'haulier_uploads_ended_total{status="aborted"}') == 1
        assert metric(text, 'haulier_uploads_ended_total{status="expired"}') == 0
        assert metric(text, "haulier_accepted_bytes_total") == 5
        assert metric(text, "haulier_live_sessions") == 1
        assert metric(text, "haulier_running_bodies") == 0
        assert metric(text, 'haulier_problems_total{slug="upload-not-found"}') == 1
        files = '{method="PUT",route="/api/files/{filename:path}",status="201"}'
        assert metric(text, f"haulier_request_seconds_count{files}") == 1

    async def test_what_clients_make_up_makes_no_new_series(self, client: httpx2.AsyncClient) -> None:
        await client.request("BREW", "/teapot/17")
        text = (await client.get("/metrics")).text
        assert metric(text, 'haulier_request_seconds_count{method="other",route="none",status="404"}') == 1
        assert "teapot" not in text

    async def test_what_the_janitor_did_is_counted(
        self, client: httpx2.AsyncClient, service: MemoryService
    ) -> None:
        service.metrics.swept("expired", 2)
        service.metrics.ended(SessionStatus.EXPIRED)
        text = (await client.get("/metrics")).text
        assert metric(text, 'haulier_janitor_total{result="expired"}') == 2
        assert metric(text, 'haulier_uploads_ended_total{status="expired"}') == 1


class TestOperatorsCalls:
    async def test_live_uploads_are_listed_with_what_is_known_of_them(
        self, client: httpx2.AsyncClient
    ) -> None:
        chunk = 256 * 1024
        wanted = {"filename": "a.bin", "size": 2 * chunk, "chunk_size": chunk}
        upload = (await client.post("/api/uploads", json=wanted)).json()
        await client.put(f"{upload['links']['chunks']}/1", content=bytes(chunk))
        await client.put("/api/files/done", content=b"hello")
        answer = await client.get("/api/operators/sessions")
        assert answer.status_code == 200
        page = answer.json()
        (item,) = page.pop("items")
        assert page == {"next": None, "total": None, "left_out": 0}
        assert item.pop("created_at") <= item.pop("last_seen_at") < item.pop("expires_at")
        assert 0 <= item.pop("idle_s") <= item.pop("age_s") < 60
        assert item == {
            "id": upload["id"],
            "owner": "local",
            "capsule": "default",
            "filename": "a.bin",
            "protocol": "native",
            "mode": "chunks",
            "status": "open",
            "size": 2 * chunk,
            "received_bytes": chunk,
            "holder": None,
            "error": None,
        }

    async def test_live_uploads_are_paged(self, client: httpx2.AsyncClient) -> None:
        ids = [
            (await client.post("/api/uploads", json={"filename": "a", "size": 1})).json()["id"]
            for _ in range(5)
        ]
        seen: list[str] = []
        query: dict[str, str | int] = {"limit": 2}
        while True:
            page = (await client.get("/api/operators/sessions", params=query)).json()
            seen += [item["id"] for item in page["items"]]
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        assert sorted(seen) == sorted(ids)
        assert (await client.get("/api/operators/sessions?cursor=x")).status_code == 422

    async def test_stats_count_what_there_is(self, client: httpx2.AsyncClient) -> None:
        await client.put("/api/files/a", content=b"hello")
        gone = (await client.put("/api/files/b", content=b"hello")).json()
        await client.delete(f"/api/records/{gone['id']}")
        await client.post("/api/uploads", json={"filename": "c", "size": 7})
        stats = (await client.get("/api/operators/stats")).json()
        assert stats["workers"] == 1
        assert stats["sessions"] == {"open": 1, "finishing": 0}
        assert (stats["records"]["completed"], stats["records"]["uploading"]) == (1, 1)
        assert stats["deleted_records"] == 1
        (capsule,) = stats["capsules"]
        assert (capsule["name"], capsule["used_bytes"], capsule["reserved_bytes"]) == ("default", 10, 7)

    async def test_expiry_runs_when_an_operator_says_so(self) -> None:
        service = MemoryService(clock=ManualClock())
        async with service.client(session_ttl_s=60) as client:
            await client.post("/api/uploads", json={"filename": "a", "size": 1})
            assert (await client.post("/api/operators/expire")).json() == {"expired": 0}
            assert isinstance(service.clock, ManualClock)
            service.clock.advance(service.limits.ttl_s + 1)
            assert (await client.post("/api/operators/expire")).json() == {"expired": 1}
            assert (await client.get("/api/operators/stats")).json()["sessions"]["open"] == 0


class TestRequestIds:
    async def test_a_request_id_is_kept_and_an_absurd_one_replaced(self, client: httpx2.AsyncClient) -> None:
        response = await client.get("/healthz", headers={"X-Request-ID": "abc-1"})
        assert response.headers["x-request-id"] == "abc-1"
        for absurd in ("a b", "x" * 129, 'a"b'):
            response = await client.get("/healthz", headers={"X-Request-ID": absurd})
            assert response.headers["x-request-id"] != absurd
        assert (await client.get("/healthz")).headers["x-request-id"]

    async def test_one_line_a_request_with_its_id_upload_and_problem(
        self, client: httpx2.AsyncClient
    ) -> None:
        with capture_logs() as logs:
            response = await client.get("/api/uploads/u1?wait=0&token=secret")
        (line,) = (each for each in logs if each["event"] == "request")
        assert (line["method"], line["path"], line["status"]) == ("GET", "/api/uploads/u1", 404)
        assert (line["problem"], line["instance"]) == ("upload-not-found", response.json()["instance"])
        assert "secret" not in json.dumps(logs)

    async def test_a_bug_is_logged_once_with_the_instance_that_its_answer_has(
        self, client: httpx2.AsyncClient, service: MemoryService
    ) -> None:
        service.database.fail_next(RuntimeError("cause"))
        with capture_logs() as logs:
            response = await client.get("/api/uploads/u1")
        (line,) = (each for each in logs if each["log_level"] == "error")
        assert line["instance"] == response.json()["instance"]
        assert str(line["exc_info"]) == "cause"


class TestCors:
    async def test_closed_by_default(self, client: httpx2.AsyncClient) -> None:
        response = await client.options(
            "/api/uploads", headers={"Origin": APP, "Access-Control-Request-Method": "POST"}
        )
        assert response.status_code == 403
        assert not [name for name in response.headers if name.startswith("access-control")]

    async def test_a_preflight_of_an_allowed_origin_is_answered(self, service: MemoryService) -> None:
        async with service.client(cors_origin=(APP,)) as client:
            response = await client.options(
                "/api/uploads",
                headers={
                    "Origin": APP,
                    "Access-Control-Request-Method": "PATCH",
                    "Sec-Fetch-Site": "cross-site",
                },
            )
            assert response.status_code == 204
            assert response.headers["access-control-allow-origin"] == APP
            assert "PATCH" in response.headers["access-control-allow-methods"]
            assert "Upload-Offset" in response.headers["access-control-allow-headers"]
            assert "access-control-allow-credentials" not in response.headers
            other = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
            assert (await client.options("/api/uploads", headers=other)).status_code == 403

    async def test_an_allowed_page_may_read_answers_and_problems(self, service: MemoryService) -> None:
        async with service.client(cors_origin=(APP,)) as client:
            for path in ("/api/records", "/api/uploads/x", "/nowhere"):
                response = await client.get(path, headers={"Origin": APP})
                assert response.headers["access-control-allow-origin"] == APP
                assert "Upload-Offset" in response.headers["access-control-expose-headers"]
                assert response.headers["vary"] == "Origin"

    async def test_who_is_not_allowed_is_told_nothing(self, service: MemoryService) -> None:
        async with service.client(cors_origin=(APP,)) as client:
            response = await client.get("/api/records", headers={"Origin": "https://evil.example"})
            assert response.status_code == 403
            assert "access-control-allow-origin" not in response.headers
            plain = await client.get("/api/records")
            assert "access-control-allow-origin" not in plain.headers

    async def test_options_without_a_preflight_is_no_method_of_ours(self, client: httpx2.AsyncClient) -> None:
        assert (await client.options("/api/records")).status_code == 405


class TestPages:
    async def test_the_start_page_shows_examples_and_files(self, client: httpx2.AsyncClient) -> None:
        assert "None yet" in (await client.get("/")).text
        record = (await client.put("/api/files/a.bin", content=b"hello")).json()
        response = await client.get("/", headers={"Host": "localhost:8000"})
        assert "curl -T photo.jpg http://localhost:8000/api/files/" in response.text
        assert (
            f'href="http://localhost:8000/api/records/{record["id"]}/assets/original">a.bin<' in response.text
        )

    async def test_names_are_escaped_and_nothing_may_run(self, client: httpx2.AsyncClient) -> None:
        await client.put("/api/files/%3Cscript%3Ealert(1)%3C%2Fscript%3E", content=b"x")
        await client.put("/api/files/%3Cimg%20src=x%20onerror=alert(1)%3E", content=b"x")
        response = await client.get("/")
        assert "<script" not in response.text
        assert "<img" not in response.text
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy

    @pytest.mark.parametrize("slug", sorted(SLUGS))
    async def test_every_problem_has_a_page_where_its_type_says(
        self, client: httpx2.AsyncClient, slug: str
    ) -> None:
        response = await client.get(f"/errors/{slug}")
        assert response.status_code == 200
        assert f"<code>{slug}</code>" in response.text
        assert "<h2>What to do</h2>" in response.text

    async def test_an_unknown_problem_is_a_problem(self, client: httpx2.AsyncClient) -> None:
        for slug in ("nonsense", "..%2f..%2fREADME", "%2e%2e"):
            assert (await client.get(f"/errors/{slug}")).status_code == 404


class TestOpenApi:
    def operations(self, document: Any) -> dict[tuple[str, str], Any]:
        return {
            (path, method): operation
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        }

    async def test_every_route_is_in_the_document(
        self, client: httpx2.AsyncClient, service: MemoryService
    ) -> None:
        document = (await client.get("/openapi.json")).json()
        listed = {(path, method.upper()) for path, method in self.operations(document)}
        # These are described by specifications of their own, and their clients read no other document.
        foreign = {
            f"{root}{path}" for root in ("/tus", "/resumable") for path in ("", "/", "/{upload_id:path}")
        }
        pages = {"/", "/page/{name}", "/errors/{slug}", "/openapi.json", *foreign}
        probes = {"/metrics", "/healthz", "/readyz"}  # asked by HEAD they do the same
        routes = {
            (route.path.replace(":path", ""), method)
            for route in service.app().routes
            for method in route.methods
            if route.path not in pages and (method != "HEAD" or route.path not in probes)
        }
        assert listed == routes

    async def test_every_operation_has_an_example_and_its_problems(self, client: httpx2.AsyncClient) -> None:
        document = (await client.get("/openapi.json")).json()
        schemas = document["components"]["schemas"]
        for (path, method), operation in self.operations(document).items():
            assert operation["responses"]["500"]["content"]["application/problem+json"]["example"]
            answers = [answer for status, answer in operation["responses"].items() if status < "300"]
            for media in (media for answer in answers for media in answer.get("content", {}).values()):
                reference = media["schema"].get("$ref", "").rpartition("/")[2]
                assert "example" in media or schemas[reference]["examples"], (path, method)
            assert operation["summary"]

    @pytest.mark.parametrize(
        ("sent", "slug"),
        [
            ({"headers": {"content-type": "text/plain"}, "content": b"{}"}, "type-not-accepted"),
            (
                {"headers": {"content-type": "application/json"}, "content": b" " * (MAX_JSON + 1)},
                "length-exceeded",
            ),
            ({"headers": {"content-type": "application/json"}, "content": b"{"}, "invalid-request"),
        ],
    )
    async def test_whatever_json_is_refused_for_is_in_the_document(
        self, client: httpx2.AsyncClient, sent: Any, slug: str
    ) -> None:
        document = (await client.get("/openapi.json")).json()
        taking_json = {
            path: operation
            for (path, method), operation in self.operations(document).items()
            if method == "post" and "application/json" in operation.get("requestBody", {}).get("content", {})
        }
        assert len(taking_json) == 5
        for path, operation in taking_json.items():
            refused = await client.post(path, **sent)
            told = operation["responses"][str(refused.status_code)]
            assert refused.json()["type"].endswith(slug)
            assert f"`{slug}`" in told["description"], path
            # What ends a body early is answered to all of them alike.
            assert "`malformed-body`" in operation["responses"]["400"]["description"], path
            assert "`body-cut`" in operation["responses"]["408"]["description"], path

    async def test_a_link_that_open_mode_refuses_is_in_the_document(self, client: httpx2.AsyncClient) -> None:
        document = (await client.get("/openapi.json")).json()
        for method in ("get", "head"):
            answers = document["paths"]["/links/{link}"][method]["responses"]
            assert "`host-refused`" in answers["421"]["description"]
            assert answers["403"]["description"] == "`not-local`: Only for this machine"

    async def test_every_example_fits_its_schema_nulls_too(self, client: httpx2.AsyncClient) -> None:
        document = (await client.get("/openapi.json")).json()
        components = {"components": document["components"]}
        for name, schema in document["components"]["schemas"].items():
            for example in schema.get("examples", []):
                wrong = [
                    error.message for error in Draft202012Validator(schema | components).iter_errors(example)
                ]
                assert (name, wrong) == (name, [])
        state = document["components"]["schemas"]["StateOut"]["examples"][0]
        assert (state["result"], state["error"]) == (None, None)

    async def test_every_reference_leads_somewhere(self, client: httpx2.AsyncClient) -> None:
        text = (await client.get("/openapi.json")).text
        document = json.loads(text)
        for part in text.split('"$ref":"#/components/schemas/')[1:]:
            assert part.partition('"')[0] in document["components"]["schemas"]
        assert "HTTPValidationError" not in text

    async def test_pages_that_would_load_code_from_elsewhere_are_off(
        self, client: httpx2.AsyncClient
    ) -> None:
        for path in ("/docs", "/redoc"):
            assert (await client.get(path)).status_code == 404
