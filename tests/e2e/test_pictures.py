"""Photographs and what only looks like them, sent to the installed service: smaller pictures, or a named reason."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import pictures
from tests.support.outsider import Outsider
from tests.support.postgres import fresh_database
from tests.support.processes import Commands, ServeProcess, serving, wait_until

KINDS: Final = ["original", "display", "thumbnail", "placeholder"]
ENDED: Final = {"completed", "failed"}
SVG: Final = (
    b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    b'<image xlink:href="file:///etc/passwd" width="9" height="9"/></svg>'
)
SETTINGS: Final = {"HAULIER_JANITOR_INTERVAL_S": "0.2"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    with serving(tmp_path_factory.mktemp("pictures") / "data", SETTINGS) as process:
        yield process


@pytest.fixture
def outsider(service: ServeProcess) -> Outsider:
    return Outsider(service.port)


def send(outsider: Outsider, name: str, data: bytes, query: str = "") -> Any:
    answer = outsider.ask("PUT", f"/api/files/{name}{query}", data)
    assert answer.status == 201, answer
    return answer.json


def read(outsider: Outsider, record: str) -> Any:
    answer = outsider.ask("GET", f"/api/records/{record}")
    assert answer.status == 200, answer
    return answer.json


def ended(outsider: Outsider, record: str) -> Any:
    """Return the record once nothing is left to be done with it."""
    wait_until(lambda: read(outsider, record)["status"] in ENDED, "the record has its pictures")
    return read(outsider, record)


def kinds(record: Any) -> list[str]:
    return [asset["kind"] for asset in record["assets"]]


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_a_photograph_gets_four_assets_a_moment_later(outsider: Outsider, kind: str) -> None:
    data = pictures.stored(kind)
    record = ended(outsider, send(outsider, f"photo.{kind}", data)["id"])
    assert (record["status"], record["error"], kinds(record)) == ("completed", None, KINDS)
    for asset in record["assets"]:
        content = outsider.ask("GET", f"/api/records/{record['id']}/assets/{asset['kind']}")
        assert content.status == 200
        assert len(content.body) == asset["size"]
        name = f"photo.{kind}" if asset["kind"] == "original" else f"photo.{asset['kind']}.webp"
        assert f'filename="{name}"' in content.headers["content-disposition"]
        assert (asset["width"], asset["height"]) == ((64, 48) if asset["kind"] != "placeholder" else (32, 24))
    assert record["assets"][3]["data_url"].startswith("data:image/webp;base64,")
    display = outsider.ask("GET", f"/api/records/{record['id']}/assets/display").body
    assert pictures.is_near(pictures.colour_at(display, 0.25, 0.5), pictures.RED, tolerance=20)
    assert pictures.is_near(pictures.colour_at(display, 0.75, 0.5), pictures.BLUE, tolerance=20)


def test_pictures_stand_upright_and_tell_no_place(outsider: Outsider) -> None:
    data = pictures.stored("jpg", pictures.with_metadata(pictures.picture(), orientation=6))
    assert pictures.ARTIST in data
    record = ended(outsider, send(outsider, "photo.jpg", data)["id"])
    sides = [(asset["width"], asset["height"]) for asset in record["assets"]]
    assert sides == [(48, 64), (48, 64), (48, 64), (24, 32)]
    for kind in KINDS[1:]:
        content = outsider.ask("GET", f"/api/records/{record['id']}/assets/{kind}").body
        assert pictures.ARTIST not in content
        assert b"EXIF" not in content


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("bomb.png", pictures.huge("png"), "image-too-large"),
        ("bomb.gif", pictures.huge("gif"), "image-too-large"),
        ("bomb.tif", pictures.huge("tif"), "image-too-large"),
        ("bomb.jpg", pictures.huge("jpg"), "image-too-large"),
        ("cut.jpg", pictures.stored("jpg", pictures.picture(600, 400))[:-500], "image-broken"),
        ("cut.png", pictures.stored("png", pictures.picture(600, 400))[:-200], "image-broken"),
        ("vector.svg", SVG, "format-unsupported"),
        ("vector.png", SVG, "format-unsupported"),
        ("archive.jpg", b"PK\x03\x04" + bytes(100), "format-unsupported"),
        ("page.gif", b"%PDF-1.7\n", "format-unsupported"),
        ("empty.png", b"", "format-unsupported"),
    ],
)
def test_what_cannot_be_opened_is_kept_with_a_named_reason(
    outsider: Outsider, name: str, data: bytes, reason: str
) -> None:
    record = ended(outsider, send(outsider, name, data)["id"])
    assert (record["status"], record["error"]) == ("completed", reason)
    assert kinds(record) == ["original"]
    assert outsider.original_sha256(record["id"])[0] == len(data)


def test_pictures_are_tried_again_when_the_cause_is_mended(tmp_path: Path) -> None:
    """A capsule without room for them; then with room."""
    data = pictures.stored("jpg", pictures.picture(1200, 900))
    with serving(tmp_path / "data", SETTINGS) as service:
        outsider = Outsider(service.port)
        commands = Commands(service.url, tmp_path / "work")

        def set_quota(size: int) -> None:
            place = ("--data-dir", str(tmp_path / "data"))
            assert commands.run("capsule", "set", "default", f"quota={size}", *place).code == 0

        set_quota(len(data) + 10)
        record = ended(outsider, send(outsider, "photo.jpg", data)["id"])
        assert (record["status"], record["error"], kinds(record)) == (
            "completed",
            "quota-exceeded",
            ["original"],
        )
        set_quota(10 * len(data))
        answer = outsider.ask("POST", f"/api/records/{record['id']}/retry")
        assert (answer.status, answer.json["status"], answer.json["error"]) == (202, "processing", None)
        found = ended(outsider, record["id"])
        assert (found["status"], found["error"], kinds(found)) == ("completed", None, KINDS)
        again = outsider.ask("POST", f"/api/records/{record['id']}/retry")
        assert (again.status, again.json) == (200, found)


def test_a_polyglot_is_what_its_first_bytes_say(outsider: Outsider) -> None:
    data = pictures.stored("png") + b"<script>alert(1)</script>PK\x05\x06"
    record = ended(outsider, send(outsider, "both.html", data, "")["id"])
    assert kinds(record) == ["original"]  # by its name it is no image
    record = ended(outsider, send(outsider, "both.png", data)["id"])
    assert kinds(record) == KINDS
    for kind in KINDS[1:]:
        assert b"script" not in outsider.ask("GET", f"/api/records/{record['id']}/assets/{kind}").body


def test_nothing_is_made_when_that_is_asked_for(outsider: Outsider) -> None:
    record = send(outsider, "plain.png", pictures.stored("png"), "?derivatives=none")
    assert (record["status"], kinds(record)) == ("completed", ["original"])
    answer = outsider.ask("PUT", "/api/files/plain.png?derivatives=some", b"x")
    assert answer.problem == (422, "invalid-request")


def test_events_tell_each_step(outsider: Outsider) -> None:
    place = outsider.ask("GET", "/api/events?follow=false").body.decode()
    last = place.rpartition("id: ")[2].split()[0]
    record = ended(outsider, send(outsider, "told.png", pictures.stored("png"))["id"])["id"]
    stream = outsider.ask("GET", "/api/events?follow=false", headers={"Last-Event-ID": last}).body.decode()
    told = [line.removeprefix("event: ") for line in stream.splitlines() if line.startswith("event: record")]
    assert told == ["record.created", "record.updated", "record.updated", "record.completed"]
    assert record in stream


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def working(service: ServeProcess) -> list[int]:
    """Return the children that are there now."""
    return [
        pid for pid in children(service.pid) if b"bounded.child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@pytest.fixture(scope="module")
def slow_photo() -> bytes:
    """A picture that takes a second or so to be opened."""
    return pictures.stored("png", pictures.picture(5000, 5000))


def test_a_child_that_is_killed_at_work_leaves_nothing_stuck(
    service: ServeProcess, outsider: Outsider, slow_photo: bytes
) -> None:
    record = send(outsider, "slow.png", slow_photo)["id"]
    wait_until(lambda: read(outsider, record)["status"] == "processing" and bool(working(service)), "it runs")
    for pid in working(service):
        os.kill(pid, signal.SIGKILL)
    found = ended(outsider, record)
    assert (found["status"], found["error"], kinds(found)) == ("completed", None, KINDS)


def test_a_service_that_is_killed_goes_on_after_its_start(tmp_path: Path, slow_photo: bytes) -> None:
    with serving(tmp_path / "data", SETTINGS) as service:
        outsider = Outsider(service.port)
        records = [send(outsider, f"slow{number}.png", slow_photo)["id"] for number in range(4)]
        wait_until(lambda: read(outsider, records[0])["status"] != "uploaded", "the first one runs")
        pids = working(service)
        service.kill()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "its children are gone")
        service.start()
        for record in records:
            found = ended(outsider, record)
            assert (found["status"], found["error"], kinds(found)) == ("completed", None, KINDS)
        assert outsider.ask("GET", "/readyz").status == 200


def test_a_service_that_is_stopped_goes_on_after_its_start(tmp_path: Path, slow_photo: bytes) -> None:
    with serving(tmp_path / "data", SETTINGS) as service:
        outsider = Outsider(service.port)
        records = [send(outsider, f"slow{number}.png", slow_photo)["id"] for number in range(4)]
        assert service.stop() == 0
        service.start()
        for record in records:
            assert kinds(ended(outsider, record)) == KINDS


def test_no_picture_is_made_where_that_is_switched_off(tmp_path: Path) -> None:
    with serving(tmp_path / "data", {"HAULIER_IMAGE_PROCESSES": "0"}) as service:
        record = send(Outsider(service.port), "photo.png", pictures.stored("png"))
        assert (record["status"], kinds(record)) == ("completed", ["original"])


@pytest.fixture
def haulier(service: ServeProcess, tmp_path: Path) -> Commands:
    return Commands(service.url, tmp_path / "work")


def test_put_makes_pictures_here_and_sends_them_beside_the_photograph(
    haulier: Commands, outsider: Outsider
) -> None:
    photo = haulier.folder / "photo.jpg"
    photo.write_bytes(pictures.stored("jpg", pictures.picture(640, 480)))
    (haulier.folder / "note.txt").write_text("no picture")
    ran = haulier.run("put", "photo.jpg", "note.txt", "--derivatives", "local", "--json")
    assert (ran.code, ran.err) == (0, "")
    found = {record["filename"]: record for record in ran.documents}
    assert kinds(found["note.txt"]) == ["original"]
    record = read(outsider, found["photo.jpg"]["id"])
    assert (record["status"], kinds(record)) == ("completed", KINDS)
    assert [asset["width"] for asset in record["assets"]] == [640, 640, 512, 32]
    assert record == found["photo.jpg"]


def test_put_of_an_image_without_pictures_stores_it_and_says_why(
    haulier: Commands, outsider: Outsider
) -> None:
    (haulier.folder / "cut.jpg").write_bytes(pictures.stored("jpg", pictures.picture(640, 480))[:-900])
    ran = haulier.run("put", "cut.jpg", "--derivatives", "local", "--json")
    assert ran.code == 1
    assert "cut.jpg: display, thumbnail, placeholder: " in ran.err
    assert "(image-broken); the original is stored" in ran.err
    assert kinds(read(outsider, ran.documents[0]["id"])) == ["original"]


def test_put_without_derivatives_gets_none(haulier: Commands, outsider: Outsider) -> None:
    (haulier.folder / "photo.png").write_bytes(pictures.stored("png"))
    ran = haulier.run("put", "photo.png", "--derivatives", "none", "--json")
    assert (ran.documents[0]["status"], kinds(ran.documents[0])) == ("completed", ["original"])
    ran = haulier.run("put", "photo.png", "--json")
    assert kinds(ended(outsider, ran.documents[0]["id"])) == KINDS


def test_put_that_was_killed_goes_on_where_it_was(
    haulier: Commands, service: ServeProcess, outsider: Outsider
) -> None:
    photo = haulier.folder / "photo.png"
    photo.write_bytes(pictures.stored("png", pictures.picture(5000, 5000)) + os.urandom(30 * 2**20))
    before = len(outsider.records())
    chunks = len(service.requests("PUT", "/chunks/"))
    put = haulier.start("put", "photo.png", "--derivatives", "local")
    wait_until(lambda: len(service.requests("PUT", "/chunks/")) >= chunks + 2, "some of it is there")
    put.kill()
    put.communicate()
    assert len(outsider.records()) == before
    ran = haulier.run("put", "photo.png", "--derivatives", "local", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert kinds(ran.documents[0]) == KINDS
    assert len(outsider.records()) == before + 1
    original = [
        event
        for event in service.requests("PUT", "/chunks/")[chunks:]
        if event["status"] == 204 and event["path"].endswith("/chunks/0")
    ]
    assert len(original) == 4  # the original's first chunk was sent once, and the pictures


@contextmanager
def rows(kind: str) -> Iterator[dict[str, str]]:
    """Return the setting of a fresh database."""
    if kind == "sqlite":
        yield {}
        return
    with fresh_database() as url:
        yield {"HAULIER_DATABASE_URL": url}


@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))]
)
def test_a_worker_that_is_killed_at_work_is_replaced_by_another(
    tmp_path: Path, slow_photo: bytes, database: str
) -> None:
    with rows(database) as settings:
        more = {**SETTINGS, **settings, "HAULIER_WORKERS": "2"}
        with serving(tmp_path / "data", more) as service:
            outsider = Outsider(service.port)
            records = [send(outsider, f"slow{number}.png", slow_photo)["id"] for number in range(4)]
            wait_until(
                lambda: any(read(outsider, record)["status"] == "processing" for record in records),
                "a worker makes pictures",
            )
            os.kill(service.workers[0], signal.SIGKILL)
            for record in records:
                found = ended(outsider, record)
                assert (found["status"], found["error"], kinds(found)) == ("completed", None, KINDS)
