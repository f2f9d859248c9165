"""tus 1.0.0, section "Checksum", by header and by trailer; what a test quotes is from there.

Source: https://tus.io/protocols/resumable-upload, version 1.0.0 (2016-03-25).
"""

import base64
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.outsider import Outsider, Wire
from tests.support.processes import ServeProcess, serving, wait_until
from tests.support.raw_http import Answer as RawAnswer
from tests.support.raw_http import Line
from tests.support.tus import MEDIA_TYPE, TUS, TusClient, path_of

HELLO = b"hello world"


def sha1(data: bytes) -> str:
    return checksum("sha1", hashlib.sha1(data).digest())


def checksum(name: str, value: bytes) -> str:
    return f"{name} {base64.b64encode(value).decode()}"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    data: Path = tmp_path_factory.mktemp("tus") / "data"
    with serving(data) as running:
        yield running


@pytest.fixture
def tus(service: ServeProcess) -> TusClient:
    return TusClient(service.port)


class TestOptions:
    """ "The Tus-Checksum-Algorithm header MUST be included in the response to an OPTIONS request.\""""

    def test_sha1_is_among_the_algorithms_and_names_have_no_upper_case(self, service: ServeProcess) -> None:
        answer = Outsider(service.port).ask("OPTIONS", "/tus/")
        names = answer.headers["tus-checksum-algorithm"].split(",")
        assert names == ["sha1", "sha256", "sha512", "md5", "crc32"]
        assert {"checksum", "checksum-trailer"} <= set(answer.headers["tus-extension"].split(","))


class TestHeader:
    """The header `Upload-Checksum`."""

    def test_the_specification_s_own_example_is_taken(self, tus: TusClient) -> None:
        # Its checksum is that of "hello world".
        upload = tus.create(11)
        assert tus.append(upload, 0, HELLO, Upload_Checksum="sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=") == 11

    @pytest.mark.parametrize(
        "text",
        [
            checksum("sha1", hashlib.sha1(HELLO).digest()),
            checksum("sha256", hashlib.sha256(HELLO).digest()),
            checksum("sha512", hashlib.sha512(HELLO).digest()),
            checksum("md5", hashlib.md5(HELLO).digest()),
            checksum("crc32", zlib.crc32(HELLO).to_bytes(4, "big")),
        ],
    )
    def test_every_algorithm_is_verified(self, tus: TusClient, text: str) -> None:
        upload = tus.create(22)
        wrong = tus.patch(upload, 0, HELLO[::-1], {"Upload-Checksum": text})
        assert wrong.problem == (460, "digest-mismatch")
        assert tus.append(upload, 0, HELLO, Upload_Checksum=text) == 11
        assert tus.append(upload, 11, HELLO, Upload_Checksum=text) == 22
        assert tus.content(upload) == HELLO * 2

    def test_a_mismatch_is_460_and_nothing_of_the_request_is_stored(
        self, service: ServeProcess, tus: TusClient
    ) -> None:
        upload = tus.create(16)
        tus.append(upload, 0, b"first")
        answer = tus.patch(upload, 5, HELLO, {"Upload-Checksum": sha1(b"other")})
        assert answer.problem == (460, "digest-mismatch")
        assert answer.json["algorithm"] == "sha1"
        assert tus.offset(upload) == 5
        part = service.data_dir / "incoming" / upload.rpartition("/")[2]
        assert part.read_bytes() == b"first"
        assert tus.append(upload, 5, HELLO) == 16
        assert tus.content(upload) == b"first" + HELLO

    def test_a_mismatch_leaves_a_deferred_length_unset(self, tus: TusClient) -> None:
        upload = tus.create(None)
        answer = tus.patch(upload, 0, HELLO, {"Upload-Checksum": sha1(b"other"), "Upload-Length": "11"})
        assert answer.status == 460
        assert tus.head(upload).headers["upload-defer-length"] == "1"

    @pytest.mark.parametrize(
        "text",
        ["rot13 YQ==", "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "", "sha1", "sha1 ", "sha1 YQ==", "sha1 *", "sha1  YQ==",
         "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=, sha1 YQ==", "sha1 \u00e9"],
    )  # fmt: skip
    def test_an_unknown_algorithm_or_a_malformed_field_is_400_and_stores_nothing(
        self, tus: TusClient, text: str
    ) -> None:
        upload = tus.create(11)
        answer = tus.patch(upload, 0, HELLO, {"Upload-Checksum": text})
        assert answer.problem == (400, "invalid-request")
        assert answer.json["errors"][0]["field"] == "Upload-Checksum"
        assert tus.offset(upload) == 0

    def test_a_cut_patch_acknowledges_nothing(self, service: ServeProcess, tus: TusClient) -> None:
        upload = tus.create(100)
        with Wire(service.port) as wire:
            fields = {**TUS, **MEDIA_TYPE, "Upload-Offset": "0", "Upload-Checksum": sha1(b"x" * 100)}
            wire.start("PATCH", upload, 100, fields)
            wire.send(b"x" * 70)
            part = service.data_dir / "incoming" / upload.rpartition("/")[2]
            wait_until(lambda: part.exists() and part.stat().st_size == 70, "the bytes are there")
        assert tus.offset(upload) == 0
        assert tus.append(upload, 0, b"x" * 100, Upload_Checksum=sha1(b"x" * 100)) == 100

    def test_an_empty_patch_has_a_checksum_too(self, tus: TusClient) -> None:
        upload = tus.create(11)
        assert tus.append(upload, 0, b"", Upload_Checksum=sha1(b"")) == 0
        assert tus.patch(upload, 0, b"", {"Upload-Checksum": sha1(b"a")}).status == 460

    def test_it_is_verified_at_the_end_of_a_complete_upload(self, tus: TusClient) -> None:
        upload = tus.whole(HELLO)
        assert tus.append(upload, 11, b"", Upload_Checksum=sha1(b"")) == 11
        assert tus.patch(upload, 11, b"", {"Upload-Checksum": sha1(b"a")}).status == 460


class TestCreationWithUpload:
    """ "similar rules as for the PATCH request and response apply" """

    def test_a_right_checksum_is_taken(self, tus: TusClient) -> None:
        answer = tus.post(HELLO, {"Upload-Length": "11", "Upload-Checksum": sha1(HELLO), **MEDIA_TYPE})
        assert (answer.status, answer.headers["upload-offset"]) == (201, "11")
        assert tus.content(path_of(answer)) == HELLO

    @pytest.mark.parametrize(("text", "status"), [(sha1(b"other"), 460), ("rot13 YQ==", 400)])
    def test_a_wrong_one_leaves_no_upload(
        self, service: ServeProcess, tus: TusClient, text: str, status: int
    ) -> None:
        before = live(service)
        answer = tus.post(HELLO, {"Upload-Length": "11", "Upload-Checksum": text, **MEDIA_TYPE})
        assert answer.status == status
        assert "location" not in answer.headers
        assert live(service) == before

    def test_of_no_bytes_it_is_verified_too(self, tus: TusClient) -> None:
        fields = {"Upload-Length": "11", **MEDIA_TYPE}
        assert tus.post(b"", {**fields, "Upload-Checksum": sha1(b"")}).status == 201
        assert tus.post(b"", {**fields, "Upload-Checksum": sha1(b"a")}).status == 460


def live(service: ServeProcess) -> tuple[set[str], set[str]]:
    """Return the ids of uploads that have not ended, and the names of what there is of them on the disk."""
    sessions = Outsider(service.port).ask("GET", "/api/operators/sessions?limit=200").json["items"]
    return {each["id"] for each in sessions}, {
        part.name for part in (service.data_dir / "incoming").iterdir()
    }


def trailed(
    service: ServeProcess,
    target: str,
    body: bytes,
    *trailers: str,
    method: str = "PATCH",
    announced: str = "Upload-Checksum",
    fields: str = "Upload-Offset: 0\r\n",
) -> RawAnswer:
    """Send a chunked body with trailers; return the answer."""
    with Line(service.port) as line:
        line.send(
            f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nTus-Resumable: 1.0.0\r\nTransfer-Encoding: chunked\r\n"
            f"Content-Type: application/offset+octet-stream\r\nTrailer: {announced}\r\n{fields}\r\n".encode()
        )
        line.send((b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n")
        line.send("".join(f"{trailer}\r\n" for trailer in trailers).encode() + b"\r\n")
        return line.answer()


class TestTrailer:
    """ "it MAY be included as a trailer ... they MUST be announced using the Trailer header" """

    @pytest.mark.parametrize("announced", ["Upload-Checksum", "upload-checksum", "Expires, UPLOAD-CHECKSUM"])
    def test_a_right_one_is_taken(self, service: ServeProcess, tus: TusClient, announced: str) -> None:
        upload = tus.create(11)
        answer = trailed(service, upload, HELLO, f"Upload-Checksum: {sha1(HELLO)}", announced=announced)
        assert (answer.status, answer.headers["upload-offset"]) == (204, "11")
        assert tus.content(upload) == HELLO

    def test_a_wrong_one_is_460_and_nothing_is_stored(self, service: ServeProcess, tus: TusClient) -> None:
        upload = tus.create(11)
        assert trailed(service, upload, HELLO, f"Upload-Checksum: {sha1(b'other')}").status == 460
        assert tus.offset(upload) == 0

    @pytest.mark.parametrize(
        "trailers",
        [
            (),
            ("Expires: never",),
            ("Upload-Checksum: rot13 YQ==",),
            ("Upload-Checksum: sha1 YQ==",),
            (f"Upload-Checksum: {sha1(HELLO)}", f"Upload-Checksum: {sha1(HELLO)}"),
        ],
        ids=["none", "another", "unknown", "malformed", "twice"],
    )
    def test_one_that_never_comes_or_cannot_be_read_is_400_and_nothing_is_stored(
        self, service: ServeProcess, tus: TusClient, trailers: tuple[str, ...]
    ) -> None:
        upload = tus.create(11)
        assert trailed(service, upload, HELLO, *trailers).status == 400
        assert tus.offset(upload) == 0

    def test_one_that_cannot_come_is_400(self, tus: TusClient) -> None:
        upload = tus.create(11)
        assert tus.patch(upload, 0, HELLO, {"Trailer": "Upload-Checksum"}).problem == (400, "invalid-request")
        assert tus.offset(upload) == 0

    def test_one_that_was_not_announced_is_not_looked_at(self, service: ServeProcess, tus: TusClient) -> None:
        upload = tus.create(11)
        answer = trailed(service, upload, HELLO, f"Upload-Checksum: {sha1(b'other')}", announced="Expires")
        assert answer.status == 204

    def test_header_and_trailer_must_both_be_right(self, service: ServeProcess, tus: TusClient) -> None:
        for header, trailer, status in ((HELLO, b"x", 460), (b"x", HELLO, 460), (HELLO, HELLO, 204)):
            upload = tus.create(11)
            fields = f"Upload-Offset: 0\r\nUpload-Checksum: {sha1(header)}\r\n"
            answer = trailed(service, upload, HELLO, f"Upload-Checksum: {sha1(trailer)}", fields=fields)
            assert answer.status == status

    def test_it_works_on_a_creation_with_upload(self, service: ServeProcess, tus: TusClient) -> None:
        for data, status in ((HELLO, 201), (b"other", 460)):
            trailer = f"Upload-Checksum: {sha1(data)}"
            answer = trailed(service, "/tus/", HELLO, trailer, method="POST", fields="Upload-Length: 11\r\n")
            assert answer.status == status

    @pytest.mark.parametrize("length", ["Upload-Length: 0", "Upload-Length: 11", "Upload-Defer-Length: 1"])
    @pytest.mark.parametrize(
        ("trailers", "status"),
        [
            ((f"Upload-Checksum: {sha1(b'')}",), 201),
            ((f"Upload-Checksum: {sha1(b'other')}",), 460),
            ((), 400),
        ],
        ids=["right", "wrong", "none"],
    )
    def test_a_creation_without_bytes_has_one_too(
        self, service: ServeProcess, tus: TusClient, length: str, trailers: tuple[str, ...], status: int
    ) -> None:
        before = live(service)
        answer = trailed(service, "/tus/", b"", *trailers, method="POST", fields=f"{length}\r\n")
        assert answer.status == status
        assert status == 201 or live(service) == before

    @pytest.mark.parametrize(("data", "status"), [(b"", 201), (b"other", 460)])
    def test_a_header_of_a_creation_without_bytes_is_judged_in_chunks_too(
        self, service: ServeProcess, tus: TusClient, data: bytes, status: int
    ) -> None:
        before = live(service)
        fields = f"Upload-Length: 0\r\nUpload-Checksum: {sha1(data)}\r\n"
        answer = trailed(service, "/tus/", b"", method="POST", announced="Expires", fields=fields)
        assert answer.status == status
        assert status == 201 or live(service) == before

    @pytest.mark.parametrize(("data", "status"), [(b"", 201), (b"other", 460)])
    def test_a_final_one_is_judged_too(
        self, service: ServeProcess, tus: TusClient, data: bytes, status: int
    ) -> None:
        part = path_of(tus.post(HELLO, {"Upload-Length": "11", "Upload-Concat": "partial", **MEDIA_TYPE}))
        trailer, fields = f"Upload-Checksum: {sha1(data)}", f"Upload-Concat: final;{part}\r\n"
        assert trailed(service, "/tus/", b"", trailer, method="POST", fields=fields).status == status

    def test_trailers_are_no_headers(self, service: ServeProcess, tus: TusClient) -> None:
        upload = tus.create(11)
        trailers = [
            f"Upload-Checksum: {sha1(HELLO)}",
            "Authorization: Bearer x",
            "Cookie: a=b",
            "X-Forwarded-For: 192.0.2.1",
            "Upload-Offset: 7",
            "Upload-Length: 4",
        ]
        answer = trailed(service, upload, HELLO, *trailers)
        assert (answer.status, answer.headers["upload-offset"]) == (204, "11")

    def test_a_length_as_a_trailer_breaks_the_body(self, service: ServeProcess, tus: TusClient) -> None:
        # Whoever believed it would see the end of the request somewhere else.
        upload = tus.create(11)
        trailers = [f"Upload-Checksum: {sha1(HELLO)}", "Content-Length: 3"]
        answer = trailed(service, upload, HELLO, *trailers)
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert tus.offset(upload) == 0
