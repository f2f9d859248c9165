"""tus 1.0.0, core, creation, expiration, termination: a class for each section, a test for each statement.

Source: https://tus.io/protocols/resumable-upload, version 1.0.0 (2016-03-25); what a test quotes is from there.
"""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.support.outsider import Outsider, Wire
from tests.support.processes import ServeProcess, serving, wait_until
from tests.support.raw_http import Line
from tests.support.tus import MEDIA_TYPE, TUS, TusClient, metadata, path_of

MAX: int = 1 << 30


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    data: Path = tmp_path_factory.mktemp("tus") / "data"
    with serving(data, {"HAULIER_MAX_UPLOAD_BYTES": str(MAX)}) as running:
        yield running


@pytest.fixture
def tus(service: ServeProcess) -> TusClient:
    return TusClient(service.port)


class TestCoreHeaders:
    """Sections "Upload-Offset", "Upload-Length", "Tus-Version", "Tus-Resumable", "Tus-Max-Size"."""

    @pytest.mark.parametrize(
        "text",
        [
            "-1",
            "+1",
            "1.0",
            "0x1",
            "",
            "one",
            "1 ",
            str(2**63),
            "9" * 400,
            "\u0661".encode().decode("latin-1"),
        ],
    )
    def test_upload_offset_must_be_a_non_negative_integer(self, tus: TusClient, text: str) -> None:
        upload = tus.create(5)
        answer = tus.patch(upload, text, b"hello")
        if text == "1 ":  # white space around a field's value is no part of it
            assert answer.problem == (409, "offset-mismatch")
        else:
            assert answer.problem == (400, "invalid-request")
            assert answer.json["errors"][0]["field"] == "Upload-Offset"
        assert tus.offset(upload) == 0

    @pytest.mark.parametrize("text", ["-1", "+1", "1.5", "", "all", str(2**63), "1, 1"])
    def test_upload_length_must_be_a_non_negative_integer(self, tus: TusClient, text: str) -> None:
        answer = tus.post(fields={"Upload-Length": text})
        assert answer.problem == (400, "invalid-request")
        assert answer.json["errors"][0]["field"] == "Upload-Length"

    def test_the_largest_number_that_is_one_is_only_too_large(self, tus: TusClient) -> None:
        assert tus.post(fields={"Upload-Length": str(2**63 - 1)}).problem == (413, "length-exceeded")

    @pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
    @pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0", "1.0.1", "2.0.0", "1.0.0, 1.0.0"])
    def test_another_version_is_412_with_tus_version_and_not_processed(
        self, service: ServeProcess, tus: TusClient, method: str, version: str | None
    ) -> None:
        upload = tus.create(5)
        fields = {**MEDIA_TYPE, "Upload-Offset": "0"} | (
            {} if version is None else {"Tus-Resumable": version}
        )
        answer = Outsider(service.port).ask(method, upload, b"hello" if method == "PATCH" else b"", fields)
        assert (answer.status, answer.headers["tus-version"]) == (412, "1.0.0")
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert tus.offset(upload) == 0

    def test_another_version_creates_nothing(self, service: ServeProcess, tus: TusClient) -> None:
        before = tus.records()
        answer = Outsider(service.port).ask("POST", "/tus/", b"", {"Upload-Length": "5"})
        assert answer.problem == (412, "tus-version-refused")
        assert tus.records() == before

    def test_every_answer_carries_tus_resumable(self, service: ServeProcess, tus: TusClient) -> None:
        upload = tus.whole(b"hello")
        outsider = Outsider(service.port)
        answers = [
            tus.post(fields={"Upload-Length": "1"}),
            tus.post(),
            tus.head(upload),
            tus.head("/tus/none"),
            tus.patch(upload, 0, b""),
            tus.ask("PUT", upload),
            outsider.ask("GET", upload),
            outsider.ask("GET", "/tus/none"),
            outsider.ask("POST", "/tus/", b"", {"Host": "evil.example"}),
            outsider.ask("OPTIONS", "/tus/"),
        ]
        assert [answer.headers.get("tus-resumable") for answer in answers] == ["1.0.0"] * len(answers)

    def test_answers_of_other_protocols_do_not(self, service: ServeProcess) -> None:
        answers = [Outsider(service.port).ask("GET", path) for path in ("/healthz", "/tusk", "/api/records")]
        assert [answer.headers.get("tus-resumable") for answer in answers] == [None, None, None]


class TestMethodOverride:
    """Section "X-HTTP-Method-Override": "the actual method of the request MUST be ignored"."""

    def test_a_post_appends_when_it_says_patch(self, tus: TusClient) -> None:
        upload = tus.create(5)
        fields = {**MEDIA_TYPE, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
        answer = tus.ask("POST", upload, b"hello", fields)
        assert (answer.status, answer.headers["upload-offset"]) == (204, "5")
        assert tus.content(upload) == b"hello"

    def test_a_post_terminates_when_it_says_delete(self, tus: TusClient) -> None:
        upload = tus.create(5)
        assert tus.ask("POST", upload, fields={"X-HTTP-Method-Override": "DELETE"}).status == 204
        assert tus.head(upload).status == 410

    def test_a_post_tells_the_offset_when_it_says_head(self, tus: TusClient) -> None:
        answer = tus.ask("POST", tus.create(5), fields={"X-HTTP-Method-Override": "HEAD"})
        assert (answer.status, answer.headers["upload-offset"], answer.body) == (200, "0", b"")

    def test_a_patch_that_says_delete_is_a_delete(self, tus: TusClient) -> None:
        upload = tus.create(5)
        fields = {**MEDIA_TYPE, "Upload-Offset": "0", "X-HTTP-Method-Override": "DELETE"}
        assert tus.ask("PATCH", upload, b"hello", fields).status == 204
        assert tus.head(upload).status == 410

    def test_a_method_that_is_none_is_refused(self, tus: TusClient) -> None:
        answer = tus.ask("POST", tus.create(5), fields={"X-HTTP-Method-Override": "TEAPOT"})
        assert answer.problem == (405, "method-not-allowed")
        assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH"

    def test_the_version_is_asked_for_by_the_method_that_is_meant(self, service: ServeProcess) -> None:
        answer = Outsider(service.port).ask("OPTIONS", "/tus/a", b"", {"X-HTTP-Method-Override": "HEAD"})
        assert answer.status == 412


class TestHead:
    """Section "HEAD"."""

    def test_upload_offset_is_there_even_for_0(self, tus: TusClient) -> None:
        answer = tus.head(tus.create(5))
        assert (answer.status, answer.headers["upload-offset"], answer.headers["upload-length"]) == (
            200,
            "0",
            "5",
        )

    def test_upload_offset_is_there_for_completed_uploads(self, tus: TusClient) -> None:
        answer = tus.head(tus.whole(b"hello"))
        assert (answer.status, answer.headers["upload-offset"], answer.headers["upload-length"]) == (
            200,
            "5",
            "5",
        )

    @pytest.mark.parametrize(
        "name",
        ["none", "a/b/c", "%00", "..%2f..%2fetc", "%ff", "a" * 5000, "%F0%9F%98%80", "a b", "'", "\u00e9"],
    )
    def test_an_unknown_id_of_any_shape_is_404_without_an_offset(self, tus: TusClient, name: str) -> None:
        target = "/tus/" + name.replace(" ", "%20").replace("\u00e9", "%C3%A9")
        for answer in (tus.head(target), tus.patch(target, 0, b"x"), tus.ask("DELETE", target)):
            assert answer.status == 404
            assert "upload-offset" not in answer.headers

    @pytest.mark.parametrize("end", ["%0A", "%0D", "%20", "/", "%00"])
    def test_an_id_with_something_behind_it_is_another_one(self, tus: TusClient, end: str) -> None:
        upload = tus.create(5)
        assert (tus.head(upload + end).status, tus.ask("DELETE", upload + end).status) == (404, 404)
        assert tus.offset(upload) == 0

    def test_no_cache_keeps_the_answer(self, tus: TusClient) -> None:
        assert tus.head(tus.create(5)).headers["cache-control"] == "no-store"
        assert tus.head(tus.whole(b"a")).headers["cache-control"] == "no-store"


class TestPatch:
    """Section "PATCH"."""

    def test_success_is_204_with_the_new_offset(self, tus: TusClient) -> None:
        upload = tus.create(11)
        first = tus.patch(upload, 0, b"hello ")
        assert (first.status, first.headers["upload-offset"], first.body) == (204, "6", b"")
        assert tus.append(upload, 6, b"world") == 11
        assert tus.content(upload) == b"hello world"

    @pytest.mark.parametrize(
        "kind", ["application/octet-stream", "text/plain", "", "application/offset+octet-stream; a=b", "*/*"]
    )
    def test_another_content_type_is_415(self, tus: TusClient, kind: str) -> None:
        upload = tus.create(5)
        answer = tus.patch(upload, 0, b"hello", {"Content-Type": kind})
        assert answer.problem == (415, "type-not-accepted")
        assert tus.offset(upload) == 0

    def test_no_content_type_is_415(self, tus: TusClient) -> None:
        upload = tus.create(5)
        assert tus.ask("PATCH", upload, b"hello", {"Upload-Offset": "0"}).status == 415

    @pytest.mark.parametrize("offset", [0, 4, 6, 10, 2**63 - 1])
    def test_another_offset_is_409_with_the_right_one(self, tus: TusClient, offset: int) -> None:
        upload = tus.create(10)
        tus.append(upload, 0, b"hello")
        answer = tus.patch(upload, offset, b"x")
        assert answer.problem == (409, "offset-mismatch")
        assert answer.headers["upload-offset"] == "5"
        assert tus.offset(upload) == 5

    def test_no_offset_is_400(self, tus: TusClient) -> None:
        answer = tus.ask("PATCH", tus.create(5), b"hello", MEDIA_TYPE)
        assert answer.problem == (400, "invalid-request")

    def test_an_empty_patch_changes_nothing(self, tus: TusClient) -> None:
        upload = tus.create(5)
        assert tus.append(upload, 0, b"") == 0

    def test_bytes_beyond_the_length_are_413_and_none_is_stored(self, tus: TusClient) -> None:
        upload = tus.create(5)
        assert tus.patch(upload, 0, b"hello world").problem == (413, "length-exceeded")
        assert tus.offset(upload) == 0
        assert tus.append(upload, 0, b"hello") == 5

    def test_of_a_chunked_body_nothing_past_the_length_is_stored(
        self, service: ServeProcess, tus: TusClient
    ) -> None:
        upload = tus.create(5)
        with Line(service.port) as line:
            line.send(chunked(service, "PATCH", upload, b"hello", b" world"))
            assert line.answer().status == 413
        assert tus.offset(upload) <= 5
        assert tus.append(upload, tus.offset(upload), b"hello"[tus.offset(upload) :]) == 5
        assert tus.content(upload) == b"hello"

    def test_a_chunked_body_is_taken(self, service: ServeProcess, tus: TusClient) -> None:
        upload = tus.create(11)
        with Line(service.port) as line:
            line.send(chunked(service, "PATCH", upload, b"hello", b" world"))
            assert line.answer().status == 204
        assert tus.content(upload) == b"hello world"

    def test_as_much_as_possible_of_a_cut_body_is_stored(self, service: ServeProcess, tus: TusClient) -> None:
        upload = tus.create(100)
        part = service.data_dir / "incoming" / upload.rpartition("/")[2]
        with Wire(service.port) as wire:
            wire.start("PATCH", upload, 100, {**TUS, **MEDIA_TYPE, "Upload-Offset": "0"})
            wire.send(b"x" * 70)
            # Of a connection that is gone before the request is judged nobody knows whose it was.
            wait_until(lambda: part.exists() and part.stat().st_size == 70, "the bytes have come")
        assert tus.append(upload, 70, b"y" * 30) == 100
        assert tus.content(upload) == b"x" * 70 + b"y" * 30

    def test_a_complete_upload_takes_nothing_more(self, tus: TusClient) -> None:
        upload = tus.whole(b"hello")
        wrong = tus.patch(upload, 0, b"hello")
        assert (wrong.problem, wrong.headers["upload-offset"]) == ((409, "offset-mismatch"), "5")
        assert tus.patch(upload, 5, b"!").problem == (413, "length-exceeded")
        assert tus.append(upload, 5, b"") == 5
        assert tus.content(upload) == b"hello"

    def test_part_of_a_representation_is_no_patch(self, tus: TusClient) -> None:
        upload = tus.create(5)
        assert tus.patch(upload, 0, b"hello", {"Content-Range": "bytes 0-4/5"}).status == 400
        assert tus.patch(upload, 0, b"hello", {"Content-Encoding": "gzip"}).status == 415
        assert tus.offset(upload) == 0


class TestOptions:
    """Section "OPTIONS"."""

    @pytest.mark.parametrize("path", ["/tus", "/tus/", "/tus/anything"])
    @pytest.mark.parametrize("version", [None, "1.0.0", "7.0.0"])
    def test_it_is_answered_with_versions_and_extensions_whatever_tus_resumable_says(
        self, service: ServeProcess, path: str, version: str | None
    ) -> None:
        fields = {} if version is None else {"Tus-Resumable": version}
        answer = Outsider(service.port).ask("OPTIONS", path, b"", fields)
        assert (answer.status, answer.headers["tus-version"]) == (200, "1.0.0")
        assert {
            "creation",
            "creation-with-upload",
            "creation-defer-length",
            "expiration",
            "termination",
        } <= set(answer.headers["tus-extension"].split(","))
        assert answer.headers["tus-max-size"] == str(MAX)


class TestCreation:
    """Section "Creation"."""

    def test_it_is_201_with_an_absolute_location(self, service: ServeProcess, tus: TusClient) -> None:
        answer = tus.post(fields={"Upload-Length": "100"})
        assert answer.status == 201
        assert answer.headers["location"].startswith(f"{service.url}/tus/")
        assert tus.offset(path_of(answer)) == 0

    def test_the_collection_needs_no_slash(self, tus: TusClient) -> None:
        assert tus.offset(tus.create(1, target="/tus")) == 0

    def test_neither_length_nor_a_deferred_one_is_400(self, tus: TusClient) -> None:
        assert tus.post().problem == (400, "invalid-request")

    def test_both_at_once_are_400(self, tus: TusClient) -> None:
        answer = tus.post(fields={"Upload-Length": "1", "Upload-Defer-Length": "1"})
        assert answer.problem == (400, "invalid-request")

    @pytest.mark.parametrize("text", ["0", "2", "true", "", "01", "1, 1"])
    def test_upload_defer_length_must_be_1(self, tus: TusClient, text: str) -> None:
        answer = tus.post(fields={"Upload-Defer-Length": text})
        assert answer.problem == (400, "invalid-request")

    def test_more_than_tus_max_size_is_413(self, tus: TusClient) -> None:
        answer = tus.post(fields={"Upload-Length": str(MAX + 1)})
        assert answer.problem == (413, "length-exceeded")
        assert tus.post(fields={"Upload-Length": str(MAX)}).status == 201

    def test_a_length_of_0_is_complete_at_once(self, tus: TusClient) -> None:
        upload = tus.create(0)
        answer = tus.head(upload)
        assert (answer.headers["upload-offset"], answer.headers["upload-length"]) == ("0", "0")
        assert "upload-expires" not in answer.headers
        assert tus.content(upload) == b""

    def test_a_body_of_another_type_is_415(self, tus: TusClient) -> None:
        answer = tus.post(b"{}", {"Upload-Length": "5", "Content-Type": "application/json"})
        assert answer.problem == (415, "type-not-accepted")


class TestUploadMetadata:
    """Section "Upload-Metadata"."""

    @pytest.mark.parametrize(
        "text",
        [
            "filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential",
            "is_confidential",
            "is_confidential ",
            "a YQ==, b Yg==",
            "a YQ==,b Yg==",
            "key /+8=",
            "\u00e9 YQ==",
        ],
    )
    def test_head_gives_it_back_as_it_was_sent(self, tus: TusClient, text: str) -> None:
        upload = tus.create(5, Upload_Metadata=text)
        assert tus.head(upload).headers["upload-metadata"] == text.strip()
        tus.append(upload, 0, b"hello")
        assert tus.head(upload).headers["upload-metadata"] == text.strip()

    def test_without_it_head_has_none(self, tus: TusClient) -> None:
        assert "upload-metadata" not in tus.head(tus.create(5)).headers

    @pytest.mark.parametrize("text", ["", " "])
    def test_an_empty_field_is_taken(self, tus: TusClient, text: str) -> None:
        assert tus.offset(tus.create(5, Upload_Metadata=text)) == 0

    @pytest.mark.parametrize(
        "text",
        [
            "a YQ==,a Yg==",
            "a b",
            "a YQ",
            "a YQ==,",
            ",a YQ==",
            ",",
            "a YQ== YQ==",
            "a *",
            "a  YQ==",
            "a \u00e9",
        ],
    )
    def test_keys_twice_or_empty_and_bad_base64_are_400(self, tus: TusClient, text: str) -> None:
        answer = tus.post(fields={"Upload-Length": "5", "Upload-Metadata": text})
        assert answer.problem == (400, "invalid-request")
        assert answer.json["errors"][0]["field"] == "Upload-Metadata"

    @pytest.mark.parametrize(
        ("text", "filename", "path", "kind"),
        [
            (metadata(filename="a.png", filetype="image/png"), "a.png", None, "image/png"),
            (metadata(name="b.txt", type="text/plain"), "b.txt", None, "text/plain"),
            (metadata(filename="a.png", name="b.txt"), "a.png", None, "image/png"),
            (
                metadata(name="c.bin", relativePath="/x/y/c.bin"),
                "c.bin",
                "x/y/c.bin",
                "application/octet-stream",
            ),
            (metadata(name="c.bin", relativePath="null"), "c.bin", None, "application/octet-stream"),
            (metadata(name="d.txt", filetype="nonsense"), "d.txt", None, "text/plain"),
            (metadata(name="Größe 😀.txt"), "Größe 😀.txt", None, "text/plain"),
            (metadata(other=b"\xff\x00"), "unnamed", None, "application/octet-stream"),
        ],
    )
    def test_it_fills_the_record(
        self, tus: TusClient, text: str, filename: str, path: str | None, kind: str
    ) -> None:
        record = tus.head(tus.whole(b"hello", Upload_Metadata=text)).headers["haulier-record"]
        found = tus.outsider.ask("GET", f"/api/records/{record}").json
        assert (found["filename"], found["path"], found["content_type"]) == (filename, path, kind)

    def test_its_texts_are_the_metadata_of_the_record(self, tus: TusClient) -> None:
        text = metadata(filename="a", author="Ä", raw=b"\xff", nul=b"\x00", empty="")
        record = tus.head(tus.whole(b"hello", Upload_Metadata=text)).headers["haulier-record"]
        found = tus.outsider.ask("GET", f"/api/records/{record}").json
        assert found["metadata"] == {"filename": "a", "author": "Ä", "empty": ""}

    @pytest.mark.parametrize("name", ["../x", "a/b", "a\nb", "..", "a\u202eb"])
    def test_a_name_that_is_none_is_refused_and_named(self, tus: TusClient, name: str) -> None:
        answer = tus.post(fields={"Upload-Length": "5", "Upload-Metadata": metadata(filename=name)})
        assert answer.problem == (400, "invalid-request")
        assert answer.json["errors"][0]["field"] == "filename"


class TestDeferredLength:
    """Section "Creation", POST b)."""

    def test_head_says_so_until_the_length_is_known(self, tus: TusClient) -> None:
        upload = tus.create(None)
        answer = tus.head(upload)
        assert answer.headers["upload-defer-length"] == "1"
        assert "upload-length" not in answer.headers
        tus.append(upload, 0, b"hello")
        assert tus.head(upload).headers["upload-defer-length"] == "1"
        tus.append(upload, 5, b"", Upload_Length="11")
        answer = tus.head(upload)
        assert answer.headers["upload-length"] == "11"
        assert "upload-defer-length" not in answer.headers
        assert tus.append(upload, 5, b" world") == 11
        assert tus.content(upload) == b"hello world"

    def test_a_patch_may_bring_the_length_with_the_last_bytes(self, tus: TusClient) -> None:
        upload = tus.create(None)
        assert tus.append(upload, 0, b"hello", Upload_Length="5") == 5
        assert tus.content(upload) == b"hello"

    def test_the_length_may_be_told_when_all_bytes_are_there(self, tus: TusClient) -> None:
        upload = tus.create(None)
        tus.append(upload, 0, b"hello")
        assert tus.append(upload, 5, b"", Upload_Length="5") == 5
        assert tus.content(upload) == b"hello"

    def test_once_set_it_must_not_be_changed(self, tus: TusClient) -> None:
        upload = tus.create(None)
        tus.append(upload, 0, b"hello", Upload_Length="10")
        for length in ("9", "11", "5"):
            assert tus.patch(upload, 5, b"", {"Upload-Length": length}).problem == (
                400,
                "inconsistent-upload-length",
            )
        assert tus.append(upload, 5, b"", Upload_Length="10") == 5
        assert tus.head(upload).headers["upload-length"] == "10"

    def test_the_length_of_a_creation_must_not_be_changed(self, tus: TusClient) -> None:
        upload = tus.create(10)
        assert tus.patch(upload, 0, b"hello", {"Upload-Length": "5"}).problem == (
            400,
            "inconsistent-upload-length",
        )
        assert tus.offset(upload) == 0

    def test_it_is_never_less_than_the_offset(self, tus: TusClient) -> None:
        upload = tus.create(None)
        tus.append(upload, 0, b"hello")
        assert tus.patch(upload, 5, b"", {"Upload-Length": "4"}).problem == (
            400,
            "inconsistent-upload-length",
        )
        assert tus.head(upload).headers["upload-defer-length"] == "1"

    def test_with_another_offset_it_is_not_set(self, tus: TusClient) -> None:
        upload = tus.create(None)
        assert tus.patch(upload, 3, b"hello", {"Upload-Length": "5"}).status == 409
        assert tus.head(upload).headers["upload-defer-length"] == "1"

    def test_bytes_beyond_the_length_that_a_patch_brings_are_413(self, tus: TusClient) -> None:
        upload = tus.create(None)
        assert tus.patch(upload, 0, b"hello", {"Upload-Length": "4"}).problem == (413, "length-exceeded")
        assert tus.offset(upload) == 0

    def test_more_than_tus_max_size_is_413(self, tus: TusClient) -> None:
        upload = tus.create(None)
        answer = tus.patch(upload, 0, b"", {"Upload-Length": str(MAX + 1)})
        assert answer.problem == (413, "length-exceeded")


class TestCreationWithUpload:
    """Section "Creation With Upload"."""

    def test_the_answer_has_the_offset(self, tus: TusClient) -> None:
        answer = tus.post(b"hello", {"Upload-Length": "11", **MEDIA_TYPE})
        assert (answer.status, answer.headers["upload-offset"]) == (201, "5")
        upload = path_of(answer)
        assert tus.append(upload, 5, b" world") == 11
        assert tus.content(upload) == b"hello world"

    def test_the_whole_file_may_come(self, tus: TusClient) -> None:
        answer = tus.post(b"hello", {"Upload-Length": "5", **MEDIA_TYPE})
        assert (answer.status, answer.headers["upload-offset"]) == (201, "5")
        assert tus.content(path_of(answer)) == b"hello"
        record = tus.outsider.ask("GET", f"/api/records/{answer.headers['haulier-record']}").json
        assert record["status"] == "completed"

    def test_no_bytes_may_come(self, tus: TusClient) -> None:
        answer = tus.post(b"", {"Upload-Length": "5", **MEDIA_TYPE})
        assert (answer.status, answer.headers["upload-offset"]) == (201, "0")

    def test_an_empty_file_may_come(self, tus: TusClient) -> None:
        answer = tus.post(b"", {"Upload-Length": "0", **MEDIA_TYPE})
        assert (answer.status, answer.headers["upload-offset"]) == (201, "0")
        assert tus.content(path_of(answer)) == b""

    def test_a_deferred_length_goes_with_it(self, tus: TusClient) -> None:
        answer = tus.post(b"hello", {"Upload-Defer-Length": "1", **MEDIA_TYPE})
        assert (answer.status, answer.headers["upload-offset"]) == (201, "5")
        assert tus.append(path_of(answer), 5, b"!", Upload_Length="6") == 6

    def test_a_chunked_body_is_taken(self, service: ServeProcess, tus: TusClient) -> None:
        with Line(service.port) as line:
            line.send(chunked(service, "POST", "/tus/", b"hello", fields="Upload-Length: 11\r\n"))
            answer = line.answer()
        assert (answer.status, answer.headers["upload-offset"]) == (201, "5")

    @pytest.mark.parametrize("size", [0, 4])
    def test_too_many_bytes_are_413_and_nothing_is_created(
        self, service: ServeProcess, tus: TusClient, size: int
    ) -> None:
        before = live(service)
        answer = tus.post(b"hello", {"Upload-Length": str(size), **MEDIA_TYPE})
        assert answer.problem == (413, "length-exceeded")
        with Line(service.port) as line:
            line.send(chunked(service, "POST", "/tus/", b"hello", fields=f"Upload-Length: {size}\r\n"))
            assert line.answer().status == 413
        assert live(service) == before

    def test_expect_is_answered_before_the_body(self, service: ServeProcess) -> None:
        with Line(service.port) as line:
            head = creation(service, "Upload-Length: 5\r\nContent-Length: 5\r\nExpect: 100-continue\r\n")
            line.send(head)
            assert line.answer().status == 100
            line.send(b"hello")
            assert line.answer().status == 201

    def test_whoever_is_refused_is_not_asked_for_the_body(self, service: ServeProcess) -> None:
        with Line(service.port) as line:
            line.send(
                creation(
                    service, f"Upload-Length: {MAX + 1}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n"
                )
            )
            assert line.answer().status == 413


class TestExpiration:
    """Section "Expiration"."""

    def test_upload_expires_is_on_creation_head_and_patch_while_unfinished(self, tus: TusClient) -> None:
        created = tus.post(fields={"Upload-Length": "10"})
        upload = path_of(created)
        state = tus.outsider.state(upload.rpartition("/")[2])
        begun = datetime.fromisoformat(state["expires_at"]).replace(microsecond=0)
        assert parsedate_to_datetime(created.headers["upload-expires"]) == begun
        answers = [created, tus.head(upload), tus.patch(upload, 0, b"hello")]
        for answer in answers:
            assert answer.headers["upload-expires"].endswith(" GMT")
            assert timedelta(0) <= parsedate_to_datetime(answer.headers["upload-expires"]) - begun

    def test_complete_uploads_do_not_expire(self, tus: TusClient) -> None:
        upload = tus.create(5)
        assert "upload-expires" not in tus.patch(upload, 0, b"hello").headers
        assert "upload-expires" not in tus.head(upload).headers

    def test_an_expired_upload_is_410(self, tmp_path: Path) -> None:
        settings = {"HAULIER_SESSION_TTL_S": "5", "HAULIER_JANITOR_INTERVAL_S": "1"}
        with serving(tmp_path / "data", settings) as service:
            tus = TusClient(service.port)
            kept, lost = tus.whole(b"hello"), tus.create(5)
            deadline = time.monotonic() + 60
            while tus.outsider.state(lost.rpartition("/")[2])["status"] == "open":
                assert time.monotonic() < deadline
            for answer in (tus.head(lost), tus.patch(lost, 0, b"hello"), tus.ask("DELETE", lost)):
                assert answer.status == 410
                assert "upload-offset" not in answer.headers
            assert tus.content(kept) == b"hello"


class TestTermination:
    """Section "Termination"."""

    def test_an_unfinished_upload_is_204_and_then_410(self, tus: TusClient) -> None:
        upload = tus.create(5)
        tus.append(upload, 0, b"he")
        answer = tus.ask("DELETE", upload)
        assert (answer.status, answer.body) == (204, b"")
        for again in (tus.head(upload), tus.patch(upload, 2, b"llo"), tus.ask("DELETE", upload)):
            assert again.status == 410

    def test_its_bytes_are_freed(self, service: ServeProcess, tus: TusClient) -> None:
        upload = tus.create(5)
        tus.append(upload, 0, b"he")
        part = service.data_dir / "incoming" / upload.rpartition("/")[2]
        assert part.exists()
        assert tus.ask("DELETE", upload).status == 204
        assert not part.exists()

    def test_a_complete_upload_loses_its_record(self, tus: TusClient) -> None:
        upload = tus.whole(b"hello")
        record = tus.head(upload).headers["haulier-record"]
        assert tus.ask("DELETE", upload).status == 204
        assert tus.outsider.ask("GET", f"/api/records/{record}").json["deleted_at"] is not None
        for again in (
            tus.head(upload),
            tus.patch(upload, 5, b""),
            tus.ask("DELETE", upload),
            tus.ask("GET", upload),
        ):
            assert again.status == 410

    def test_an_upload_whose_record_is_restored_is_there_again(self, tus: TusClient) -> None:
        upload = tus.whole(b"hello")
        record = tus.head(upload).headers["haulier-record"]
        assert tus.outsider.ask("DELETE", f"/api/records/{record}").status == 204
        assert tus.head(upload).status == 410
        assert tus.outsider.ask("POST", f"/api/records/{record}/restore").status == 200
        assert tus.content(upload) == b"hello"


class TestRecords:
    """What an application needs afterwards, beyond the specification."""

    def test_the_record_is_named_at_creation_by_head_and_by_the_last_patch(self, tus: TusClient) -> None:
        created = tus.post(fields={"Upload-Length": "5"})
        upload = path_of(created)
        record = created.headers["haulier-record"]
        assert tus.head(upload).headers["haulier-record"] == record
        assert tus.patch(upload, 0, b"hello").headers["haulier-record"] == record
        found = tus.outsider.ask("GET", f"/api/records/{record}").json
        assert (found["status"], found["size"]) == ("completed", 5)

    def test_get_downloads_a_finished_upload_and_ranges_of_it(self, tus: TusClient) -> None:
        upload = tus.whole(b"hello world", Upload_Metadata=metadata(filename="a.txt"))
        whole = tus.outsider.ask("GET", upload)
        assert (whole.status, whole.body, whole.headers["content-type"]) == (
            200,
            b"hello world",
            "text/plain",
        )
        part = tus.outsider.ask("GET", upload, b"", {"Range": "bytes=6-"})
        assert (part.status, part.body, part.headers["content-range"]) == (206, b"world", "bytes 6-10/11")
        assert tus.outsider.ask("GET", upload, b"", {"Range": "bytes=99-"}).status == 416

    def test_get_of_an_unfinished_upload_is_404(self, tus: TusClient) -> None:
        assert tus.outsider.ask("GET", tus.create(5)).problem == (404, "asset-not-found")

    def test_the_query_names_a_capsule_that_must_be_there(self, tus: TusClient) -> None:
        assert tus.offset(tus.create(5, target="/tus/?capsule=default")) == 0
        answer = tus.post(fields={"Upload-Length": "5"}, target="/tus/?capsule=none")
        assert answer.problem == (404, "capsule-not-found")

    def test_the_query_names_a_digest(self, tus: TusClient) -> None:
        upload = tus.create(0, target="/tus/?digest=none")
        record = tus.outsider.ask("GET", f"/api/records/{tus.head(upload).headers['haulier-record']}").json
        assert record["digest"] is None
        assert tus.post(fields={"Upload-Length": "5"}, target="/tus/?digest=rot13").status == 400

    def test_an_append_upload_of_the_native_api_is_continued_here(self, tus: TusClient) -> None:
        begun = tus.outsider.begin(size=5, mode="append")
        upload = f"/tus/{begun['id']}"
        assert tus.append(upload, 0, b"hello") == 5
        assert tus.content(upload) == b"hello"

    def test_an_upload_of_chunks_is_refused_in_words(self, tus: TusClient) -> None:
        begun = tus.outsider.begin(size=5)
        assert tus.head(f"/tus/{begun['id']}").status == 400
        assert tus.patch(f"/tus/{begun['id']}", 0, b"hello").problem == (400, "invalid-request")


def creation(service: ServeProcess, fields: str) -> bytes:
    return (
        f"POST /tus/ HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nTus-Resumable: 1.0.0\r\n"
        f"Content-Type: application/offset+octet-stream\r\n{fields}\r\n"
    ).encode()


def chunked(service: ServeProcess, method: str, target: str, *pieces: bytes, fields: str = "") -> bytes:
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nTus-Resumable: 1.0.0\r\nTransfer-Encoding: chunked\r\n"
        f"Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\n{fields}\r\n"
    )
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head.encode() + body + b"0\r\n\r\n"


def live(service: ServeProcess) -> int:
    answer = Outsider(service.port).ask("GET", "/api/operators/sessions?limit=200")
    return len(answer.json["items"])
