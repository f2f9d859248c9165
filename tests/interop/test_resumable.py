"""The IETF's resumable uploads: a class for each section of the draft, a test for each statement, in all versions.

Source: draft-ietf-httpbis-resumable-upload, -01 (interop version 3) to -10 (8); what a test quotes is from there.
"""

import base64
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.callers import TEAM, make_team
from tests.support.outsider import Answer
from tests.support.processes import Commands, ServeProcess, serving, wait_until
from tests.support.resumable import IANA, PARTIAL, VERSIONS, Draft, limits_of, path_of, talking

MAX: Final = 1 << 30
TTL_S: Final = 1000
MIB: Final = 1024 * 1024
UNKNOWN: Final = ("0", "2", "9", "8.0", "08", "eight", "", "-8", "8, 8")


def digest_of(data: bytes, name: str = "sha-256") -> str:
    value = base64.b64encode(hashlib.new(name.replace("-", ""), data).digest()).decode()
    return f"{name}=:{value}:"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    data: Path = tmp_path_factory.mktemp("resumable") / "data"
    settings = {"HAULIER_MAX_UPLOAD_BYTES": str(MAX), "HAULIER_SESSION_TTL_S": str(TTL_S)}
    with serving(data, settings) as running:
        yield running


@pytest.fixture(params=VERSIONS, ids=lambda number: f"version {number}")
def draft(service: ServeProcess, request: pytest.FixtureRequest) -> Draft:
    """Every version."""
    return Draft(service.port, request.param)


@pytest.fixture
def newest(service: ServeProcess) -> Draft:
    """The newest one, for what is the same in all."""
    return Draft(service.port)


def problem(answer: Answer) -> tuple[int, str]:
    """Return the status and the whole type of a problem."""
    assert answer.headers["content-type"] == "application/problem+json", answer
    return answer.status, str(answer.json["type"])


def arrive(service: ServeProcess, upload: str, size: int) -> None:
    """Wait until so many bytes are written: a newer request would take the upload from those that still come."""
    part = service.data_dir / "incoming" / upload.rpartition("/")[2]
    wait_until(lambda: part.exists() and part.stat().st_size == size, "what was sent is written")


class TestCreation:
    """Section "Upload Creation"."""

    def test_a_whole_body_gets_the_answer_of_its_processing(self, draft: Draft) -> None:
        answer = draft.create(b"hello", complete=True)
        assert answer.status == 201
        assert (answer.json["size"], answer.json["status"]) == (5, "completed")
        assert draft.is_complete(answer)
        assert answer.headers["haulier-record"] == answer.json["id"]
        assert draft.content(answer) == b"hello"

    def test_a_first_part_gets_201_and_the_address(self, service: ServeProcess, draft: Draft) -> None:
        answer = draft.create(b"hel")
        assert answer.status == 201
        assert answer.headers["location"].startswith(f"{service.url}/resumable/")
        assert not draft.is_complete(answer)
        assert answer.headers["upload-offset"] == "3"

    def test_an_empty_request_creates_carefully(self, draft: Draft) -> None:
        answer = draft.create()
        assert (answer.status, answer.headers["upload-offset"]) == (201, "0")
        upload = path_of(answer)
        whole = draft.patch(upload, 0, b"hello", complete=True)
        assert draft.content(whole) == b"hello"

    def test_an_empty_request_may_be_a_whole_empty_file(self, draft: Draft) -> None:
        answer = draft.create(complete=True)
        assert (answer.status, answer.json["size"]) == (201, 0)
        assert draft.is_complete(answer)

    @pytest.mark.parametrize("target", ["/resumable", "/resumable/", "/resumable/file.bin"])
    def test_a_put_creates_too(self, draft: Draft, target: str) -> None:
        answer = draft.create(b"hello", complete=True, method="PUT", target=target)
        name = "file.bin" if target.endswith("bin") else "unnamed"
        assert (answer.status, answer.json["filename"]) == (201, name)

    def test_a_request_that_does_not_say_if_it_is_the_last_is_refused(self, draft: Draft) -> None:
        before = draft.outsider.latest_records()
        answer = draft.ask("POST", "/resumable/", b"hello")
        assert answer.problem == (400, "invalid-request")
        assert draft.outsider.latest_records() == before

    @pytest.mark.parametrize("said", ["1", "?2", "true", "", "?1, ?1", "?", '"?1"'])
    def test_other_values_are_as_if_the_field_were_not_there(self, draft: Draft, said: str) -> None:
        (name,) = draft.says(complete=True)
        assert draft.ask("POST", "/resumable/", b"hello", {name: said}).problem == (400, "invalid-request")

    @pytest.mark.parametrize(
        "parameters",
        [
            ";a=1;b", '; a="x y; z"', r';a="\"\\"', ";a=-1.5", ";a=?0", ";a=:YWI=:", ";a=@-1", ";a=t/o:k",
            ';a=%"f%c3%bc"',
        ],
    )  # fmt: skip
    def test_parameters_of_a_value_say_nothing(self, newest: Draft, parameters: str) -> None:
        said = {"Upload-Complete": f"?1{parameters}"}
        assert newest.ask("POST", "/resumable/", b"hello", said).status == 201

    @pytest.mark.parametrize(
        "parameters", [";", ";A=1", ";a=", ";a =1", " ;a", ';a="', ";a=1.", ";a=(1)", ";a=?2"]
    )
    def test_what_is_no_parameter_makes_the_value_none(self, newest: Draft, parameters: str) -> None:
        """RFC 9651 section 4.2: a field that cannot be read whole is not read at all."""
        said = {"Upload-Complete": f"?1{parameters}"}
        assert newest.ask("POST", "/resumable/", b"hello", said).problem == (400, "invalid-request")

    def test_the_other_versions_field_counts_for_nothing(self, service: ServeProcess) -> None:
        old, new = Draft(service.port, 3), Draft(service.port, 4)
        assert old.ask("POST", "/resumable/", b"a", new.says(complete=True)).status == 400
        assert new.ask("POST", "/resumable/", b"a", old.says(complete=True)).status == 400

    @pytest.mark.parametrize(
        ("disposition", "name"),
        [
            ("attachment; filename=a.txt", "a.txt"),
            ('inline; filename="a b.txt"', "a b.txt"),
            (r'attachment; filename="a\"b.txt"', 'a"b.txt'),
            ("attachment; filename=\"x\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.txt", "größe.txt"),
            ("attachment; filename*=iso-8859-1'de'gr%F6n", "grön"),
            ('attachment; filename="' + "größe".encode().decode("latin-1") + '"', "größe"),
            ("attachment", "unnamed"),
        ],
    )
    def test_content_disposition_may_name_the_file(self, newest: Draft, disposition: str, name: str) -> None:
        answer = newest.create(b"a", complete=True, Content_Disposition=disposition, Content_Type="image/png")
        assert (answer.json["filename"], answer.json["content_type"]) == (name, "image/png")

    @pytest.mark.parametrize("kind", ["application/partial-upload", "Application/Partial-Upload; a=b"])
    def test_the_media_type_of_an_append_is_none_of_a_file(self, newest: Draft, kind: str) -> None:
        answer = newest.create(b"a", complete=True, target="/resumable/?filename=a.txt", Content_Type=kind)
        assert answer.json["content_type"] == "text/plain"

    @pytest.mark.parametrize("query", ["filename=%ff", "path=a/%c3"])
    def test_a_query_that_is_no_utf_8_is_refused(self, newest: Draft, query: str) -> None:
        answer = newest.create(b"a", complete=True, target=f"/resumable/?{query}")
        assert answer.problem == (400, "invalid-request")

    @pytest.mark.parametrize("name", ["..%2F..%2Fetc%2Fpasswd", "a%2Fb", "a\\\\b", "..", "a%00b"])
    def test_metadata_is_validated(self, newest: Draft, name: str) -> None:
        answer = newest.create(b"a", complete=True, Content_Disposition=f"inline; filename*=UTF-8''{name}")
        if "\\" in name:  # which is none of that field's characters
            assert answer.json["filename"] == "unnamed"
        else:
            assert answer.problem == (400, "invalid-request")

    def test_what_the_address_says_goes_before_other_names(self, newest: Draft) -> None:
        answer = newest.create(
            b"a",
            complete=True,
            target="/resumable/?filename=b&path=x/y",
            Content_Disposition="inline; filename=c",
        )
        assert (answer.json["filename"], answer.json["path"]) == ("b", "x/y")

    def test_a_content_coding_is_not_taken(self, newest: Draft) -> None:
        assert newest.create(b"a", complete=True, Content_Encoding="gzip").status == 415

    def test_a_body_of_unknown_length_is_the_whole_when_it_says_so(
        self, service: ServeProcess, draft: Draft
    ) -> None:
        fields = {**draft.named, **draft.says(complete=True)}
        with talking(service.port, "POST /resumable/", fields) as line:
            line.send(b"5\r\nhello\r\n0\r\n\r\n")
            answer = line.answer()
            while answer.status == 104:
                answer = line.answer()
        assert (answer.status, answer.json["size"]) == (201, 5)

    def test_a_repetition_under_a_key_is_answered_the_same(self, newest: Draft) -> None:
        first = newest.create(b"hello", complete=True, Idempotency_Key="same")
        again = newest.create(b"hello", complete=True, Idempotency_Key="same")
        assert (again.status, again.body, again.headers["location"]) == (
            first.status,
            first.body,
            first.headers["location"],
        )

    def test_a_repetition_of_what_is_here_in_part_is_told_where_it_goes_on(self, newest: Draft) -> None:
        first = newest.create(b"hel", Idempotency_Key="part", Upload_Length="5")
        again = newest.create(b"hel", Idempotency_Key="part", Upload_Length="5")
        assert problem(again) == (409, IANA + "mismatching-upload-offset")
        assert (again.headers["location"], again.headers["upload-offset"]) == (first.headers["location"], "3")


class TestInterimResponses:
    """Sections "Status Code 104", "Upload Creation" and "Draft Version Identification"."""

    def test_104_has_the_address_before_the_body_has_come(self, service: ServeProcess, draft: Draft) -> None:
        fields = {**draft.named, **draft.says(complete=True)}
        with talking(service.port, "POST /resumable/", fields, length=5) as line:
            interim = line.answer()
            assert interim.status == 104
            assert interim.headers["upload-draft-interop-version"] == str(draft.number)
            if draft.number >= 6:
                assert limits_of(interim)["max-size"] == MAX
            else:
                assert "upload-limit" not in interim.headers
            line.send(b"hello")
            final = line.answer()
        assert final.status == 201
        # "all interim and final response messages for the same request MUST contain an identical Location"
        assert final.headers["location"] == interim.headers["location"]

    @pytest.mark.parametrize("number", UNKNOWN)
    def test_no_104_for_another_version(self, service: ServeProcess, newest: Draft, number: str) -> None:
        fields = {"Upload-Draft-Interop-Version": number, **newest.says(complete=True)}
        with talking(service.port, "POST /resumable/", fields, length=5) as line:
            line.send(b"hello")
            assert line.answer().status == 201

    def test_no_104_without_a_version(self, service: ServeProcess, newest: Draft) -> None:
        with talking(service.port, "POST /resumable/", newest.says(complete=True), length=5) as line:
            line.send(b"hello")
            assert line.answer().status == 201

    def test_100_is_not_left_out_for_104(self, service: ServeProcess, draft: Draft) -> None:
        fields = {**draft.named, **draft.says(complete=True), "Expect": "100-continue"}
        with talking(service.port, "POST /resumable/", fields, length=5) as line:
            assert {line.answer().status, line.answer().status} == {100, 104}
            line.send(b"hello")
            assert line.answer().status == 201

    @pytest.mark.parametrize("way", ["create", "append"])
    def test_later_104s_tell_how_far_it_has_come(self, service: ServeProcess, draft: Draft, way: str) -> None:
        size = 24 * MIB
        request, fields = "POST /resumable/", {**draft.named, **draft.says(complete=True)}
        if way == "append":
            request = f"PATCH {draft.begin(size)}"
            fields |= {"Upload-Offset": "0", "Content-Type": PARTIAL}
        told = []
        with talking(service.port, request, fields, length=size) as line:
            line.send(bytes(size - 1))
            if way == "create":
                told.append(line.answer())
            while draft.number >= 5 and not (told and "upload-offset" in told[-1].headers):
                told.append(line.answer())
            line.send(b"\0")
            while (answer := line.answer()).status == 104:
                told.append(answer)
        assert answer.status == 201
        offsets = [int(one.headers["upload-offset"]) for one in told if "upload-offset" in one.headers]
        located = [one for one in told if "location" in one.headers]
        assert len(located) == (1 if way == "create" else 0)
        assert offsets == sorted(offsets)
        if draft.number >= 5:
            assert offsets
            assert 0 < offsets[0] < size
        else:
            assert not offsets

    def test_a_setting_turns_them_off(self, tmp_path: Path) -> None:
        with serving(tmp_path / "data", {"HAULIER_INTERIM_RESPONSES": "off"}) as quiet:
            draft = Draft(quiet.port)
            for request in ("POST /resumable/", "PUT /api/files/a"):
                fields = {**draft.named, **draft.says(complete=True)}
                with talking(quiet.port, request, fields, length=5) as line:
                    line.send(b"hello")
                    assert line.answer().status == 201
            upload = draft.begin(5)
            assert draft.content(draft.patch(upload, 0, b"hello", complete=True)) == b"hello"

    def test_a_cut_upload_goes_on_at_the_address_of_its_104(
        self, service: ServeProcess, draft: Draft
    ) -> None:
        fields = {**draft.named, **draft.says(complete=True)}
        with talking(service.port, "POST /resumable/", fields, length=10) as line:
            upload = path_of(line.answer())
            line.send(b"01234")
            arrive(service, upload, 5)
        wait_until(lambda: draft.offset(upload) == 5, "what arrived is kept")
        # "the upload resource MUST NOT be considered complete then"
        assert not draft.is_complete(draft.head(upload))
        assert draft.content(draft.patch(upload, 5, b"56789", complete=True)) == b"0123456789"

    def test_a_cut_upload_that_nobody_can_go_on_with_is_given_up(
        self, service: ServeProcess, newest: Draft
    ) -> None:
        live = set(newest.outsider.latest_records())
        with talking(service.port, "POST /resumable/", newest.says(complete=True), length=10) as line:
            line.send(b"01234")
            wait_until(
                lambda: bool(set(newest.outsider.latest_records()) - live),
                "the upload is begun",
            )
        (record,) = set(newest.outsider.latest_records()) - live
        wait_until(
            lambda: newest.outsider.ask("GET", f"/api/records/{record}").json["status"] == "cancelled",
            "it is given up",
        )


class TestLength:
    """Section "Length"."""

    def test_two_lengths_in_one_creation_must_match(self, draft: Draft) -> None:
        before = draft.outsider.latest_records()
        answer = draft.create(b"hello", complete=True, Upload_Length="6")
        assert answer.status == 400
        if draft.number >= 7:
            assert problem(answer) == (400, IANA + "inconsistent-upload-length")
        else:
            assert answer.problem == (400, "inconsistent-upload-length")
        assert (answer.json["expected"], answer.json["provided"]) == (6, 5)
        assert draft.outsider.latest_records() == before

    def test_two_lengths_in_two_requests_must_match(self, draft: Draft) -> None:
        upload = draft.begin(10)
        assert draft.patch(upload, 0, b"01234", Upload_Length="11").status == 400
        assert draft.patch(upload, 0, b"01234", complete=True).status == 400
        assert draft.offset(upload) == 0
        assert draft.content(draft.patch(upload, 0, b"0123456789", complete=True)) == b"0123456789"

    def test_a_length_that_becomes_known_later_is_recorded(self, draft: Draft) -> None:
        upload = draft.begin()
        assert "upload-length" not in draft.head(upload).headers
        assert draft.patch(upload, 0, b"01234", Upload_Length="10").status // 100 == 2
        assert draft.head(upload).headers["upload-length"] == "10"

    def test_the_length_of_a_last_request_is_recorded_though_it_is_cut(
        self, service: ServeProcess, draft: Draft
    ) -> None:
        upload = draft.begin()
        fields = {**draft.named, **draft.says(complete=True), "Upload-Offset": "0", "Content-Type": PARTIAL}
        with talking(service.port, f"PATCH {upload}", fields, length=10) as line:
            line.send(b"01234")
            arrive(service, upload, 5)
        wait_until(lambda: draft.offset(upload) == 5, "what arrived is kept")
        assert draft.head(upload).headers["upload-length"] == "10"
        assert draft.patch(upload, 5, b"5678", complete=True).status == 400

    def test_a_length_below_what_is_here_is_refused(self, draft: Draft) -> None:
        upload = draft.begin()
        assert draft.patch(upload, 0, b"01234").status // 100 == 2
        assert draft.patch(upload, 5, b"", Upload_Length="4").status == 400
        assert draft.offset(upload) == 5

    @pytest.mark.parametrize("text", ["-1", "1.5", "one", "", "5, 5", "1" * 16])
    def test_other_values_are_as_if_the_field_were_not_there(self, newest: Draft, text: str) -> None:
        answer = newest.create(Upload_Length=text)
        assert answer.status == 201
        assert "upload-length" not in newest.head(path_of(answer)).headers

    @pytest.mark.parametrize("framed", ["length", "chunked"])
    def test_a_body_that_passes_the_length_makes_the_upload_failed(
        self, service: ServeProcess, draft: Draft, framed: str
    ) -> None:
        upload = draft.begin(8)
        assert draft.patch(upload, 0, b"0123").status // 100 == 2
        if framed == "length":
            answer = draft.patch(upload, 4, b"45678")
        else:
            fields = {
                **draft.named,
                **draft.says(complete=False),
                "Upload-Offset": "4",
                "Content-Type": PARTIAL,
            }
            with talking(service.port, f"PATCH {upload}", fields) as line:
                line.send(b"5\r\n45678\r\n0\r\n\r\n")
                answer = line.answer()  # type: ignore[assignment]  # as good as the other
        assert answer.status == 400
        assert (
            json.loads(answer.body)["type"].rpartition("/")[2].rpartition("#")[2]
            == "inconsistent-upload-length"
        )
        gone = 410 if draft.number >= 6 else 404
        # "rejecting any further interaction with it"
        assert draft.head(upload).status == gone
        assert draft.patch(upload, 4, b"4567", complete=True).status == gone
        state = draft.outsider.state(upload.rpartition("/")[2])
        assert state["status"] == "failed"

    def test_a_first_body_that_passes_the_length_makes_the_upload_failed(self, draft: Draft) -> None:
        answer = draft.create(b"hello", Upload_Length="4")
        assert answer.status == 400

    def test_reaching_the_length_does_not_complete_the_upload(self, draft: Draft) -> None:
        upload = draft.begin(5)
        answer = draft.patch(upload, 0, b"hello")
        assert answer.status == (201 if draft.number < 6 else 204)
        assert not draft.is_complete(answer)
        looked = draft.head(upload)
        assert (looked.headers["upload-offset"], looked.headers["upload-length"]) == ("5", "5")
        assert not draft.is_complete(looked)
        done = draft.patch(upload, 5, complete=True)
        assert draft.content(done) == b"hello"

    def test_a_length_of_nothing_is_complete_at_once(self, draft: Draft) -> None:
        """tus-js-client never says that an empty file is complete."""
        answer = draft.create(Upload_Length="0")
        assert answer.status == 201
        assert draft.is_complete(answer)


class TestLimits:
    """Section "Limits"."""

    @pytest.mark.parametrize("target", ["/resumable", "/resumable/", "/resumable/any"])
    def test_options_announce_them(self, draft: Draft, target: str) -> None:
        answer = draft.ask("OPTIONS", target)
        assert (answer.status, answer.headers["accept-patch"]) == (204, PARTIAL)
        assert limits_of(answer)["max-size"] == MAX

    def test_the_remaining_time_has_its_versions_name(self, draft: Draft) -> None:
        answer = draft.head(draft.begin(5))
        if draft.number < 6:
            assert "upload-limit" not in answer.headers
            return
        name = "expires" if draft.number == 6 else "max-age"
        assert limits_of(answer).keys() == {"max-size", name}
        assert TTL_S - 30 < limits_of(answer)[name] <= TTL_S

    def test_more_than_the_largest_size_is_413_with_the_limits(self, newest: Draft) -> None:
        answer = newest.create(Upload_Length=str(MAX + 1))
        assert answer.problem == (413, "length-exceeded")
        assert limits_of(answer) == {"max-size": MAX}

    def test_a_capsules_limits_are_its_uploads(
        self, service: ServeProcess, newest: Draft, tmp_path: Path
    ) -> None:
        commands = Commands(service.url, tmp_path / "home")
        set_capsule = ("capsule", "set", "default", "--data-dir", service.data_dir)
        assert commands.run(*set_capsule, "max_size=100", "min_size=3").code == 0
        try:
            upload = newest.begin()
            assert limits_of(newest.head(upload)) | {"max-age": 0} == {
                "max-size": 100,
                "min-size": 3,
                "max-age": 0,
            }
            # "these limits SHOULD NOT change in a way that causes failures"
            assert commands.run(*set_capsule, "max_size=20", "min_size=10").code == 0
            assert limits_of(newest.head(upload))["max-size"] == 100
            assert limits_of(newest.head(upload))["min-size"] == 3
            whole = newest.patch(upload, 0, b"0123", complete=True)
            assert (whole.status, whole.json["size"]) == (201, 4)
            assert newest.create(b"0123", complete=True).status == 400
        finally:
            assert commands.run(*set_capsule, "max_size=", "min_size=").code == 0

    def test_bytes_beyond_the_largest_size_leave_the_upload_as_it_was(
        self, service: ServeProcess, newest: Draft, tmp_path: Path
    ) -> None:
        commands = Commands(service.url, tmp_path / "home")
        set_capsule = ("capsule", "set", "default", "--data-dir", service.data_dir)
        assert commands.run(*set_capsule, "max_size=4").code == 0
        try:
            upload = newest.begin()
            answer = newest.patch(upload, 0, b"01234")
            assert (answer.problem, limits_of(answer)) == ((413, "length-exceeded"), {"max-size": 4})
            assert newest.offset(upload) == 0
            assert newest.patch(upload, 0, b"0123", complete=True).status == 201
        finally:
            assert commands.run(*set_capsule, "max_size=").code == 0


class TestOffsetRetrieval:
    """Section "Offset Retrieval"."""

    @pytest.mark.parametrize("method", ["HEAD", "GET"])
    def test_of_an_incomplete_upload(self, draft: Draft, method: str) -> None:
        upload = draft.begin(10)
        assert draft.patch(upload, 0, b"0123").status // 100 == 2
        answer = draft.ask(method, upload)
        assert (answer.status, answer.headers["upload-offset"], answer.headers["upload-length"]) == (
            204,
            "4",
            "10",
        )
        assert not draft.is_complete(answer)
        assert answer.headers["cache-control"] == "no-store"

    def test_of_a_complete_upload(self, draft: Draft) -> None:
        upload = path_of(draft.create(b"hello", complete=True))
        answer = draft.head(upload)
        assert (answer.status, answer.headers["upload-offset"], answer.headers["upload-length"]) == (
            204,
            "5",
            "5",
        )
        assert draft.is_complete(answer)
        assert answer.headers["cache-control"] == "no-store"

    @pytest.mark.parametrize("method", ["HEAD", "DELETE"])
    def test_a_question_with_an_answers_fields(self, draft: Draft, method: str) -> None:
        """Until version 5: "The server MUST reject requests with either of these fields" with 400."""
        upload = draft.begin(5)
        answers = [
            draft.ask(method, upload, b"", {"Upload-Offset": "0"}),
            draft.ask(method, upload, b"", draft.says(complete=True)),
        ]
        if draft.number <= 5:
            assert [answer.status for answer in answers] == [400, 400]
            assert draft.offset(upload) == 0
        else:
            assert answers[0].status == 204

    @pytest.mark.parametrize(
        "name",
        ["none", "a" * 65, "a/b", "a%0Ab", "%00", "%FF", "..%2F..", "\u0661".encode().decode("latin-1")],
    )
    @pytest.mark.parametrize("method", ["HEAD", "GET", "PATCH", "DELETE"])
    def test_an_unknown_upload_is_404(self, newest: Draft, method: str, name: str) -> None:
        fields = {"Upload-Offset": "0", "Content-Type": PARTIAL, **newest.says(complete=True)}
        if "\u00d9" in name:
            name = "%D9%A1"
        assert newest.ask(method, f"/resumable/{name}", b"", fields).status == 404

    def test_an_id_with_a_line_end_behind_it_is_another_one(self, newest: Draft) -> None:
        upload = newest.begin(5)
        assert newest.ask("DELETE", f"{upload}%0A").status == 404
        assert newest.offset(upload) == 0

    def test_the_offset_is_accepted_by_the_next_append(self, draft: Draft) -> None:
        upload, content = draft.begin(), b"0123456789"
        for start in range(0, 10, 3):
            assert draft.offset(upload) == start
            assert draft.patch(upload, start, content[start : start + 3]).status // 100 == 2


class TestAppend:
    """Section "Upload Append"."""

    def test_each_part_is_acknowledged_with_its_versions_status(self, draft: Draft) -> None:
        upload = draft.begin(10)
        answer = draft.patch(upload, 0, b"0123")
        assert answer.status == (201 if draft.number <= 5 else 204)
        assert answer.headers["upload-offset"] == "4"
        assert not draft.is_complete(answer)

    def test_another_offset_is_409_with_both_numbers_and_the_right_one(self, draft: Draft) -> None:
        upload = draft.begin(10)
        assert draft.patch(upload, 0, b"0123").status // 100 == 2
        answer = draft.patch(upload, 7, b"789", complete=True)
        assert (answer.status, answer.headers["upload-offset"]) == (409, "4")
        if draft.number >= 6:
            assert answer.json["type"] == IANA + "mismatching-upload-offset"
            assert (answer.json["expected-offset"], answer.json["provided-offset"]) == (4, 7)
        else:
            assert answer.problem == (409, "offset-mismatch")
            assert (answer.json["expected"], answer.json["provided"]) == (4, 7)
        assert draft.offset(upload) == 4

    @pytest.mark.parametrize("text", [None, "-1", "1.5", "", "zero", "0, 0"])
    def test_without_an_offset_nothing_is_appended(self, newest: Draft, text: str | None) -> None:
        upload = newest.begin(5)
        fields = {"Content-Type": PARTIAL, **newest.says(complete=False)}
        fields |= {} if text is None else {"Upload-Offset": text}
        assert newest.ask("PATCH", upload, b"hello", fields).problem == (400, "invalid-request")
        assert newest.offset(upload) == 0

    @pytest.mark.parametrize("media_type", [None, "application/octet-stream", "application/*"])
    def test_its_media_type(self, draft: Draft, media_type: str | None) -> None:
        upload = draft.begin(5)
        fields = {"Upload-Offset": "0", **draft.says(complete=True)}
        fields |= {} if media_type is None else {"Content-Type": media_type}
        answer = draft.ask("PATCH", upload, b"hello", fields)
        if draft.number <= 5:
            assert answer.status == 201
        else:
            assert (answer.status, answer.headers["accept-patch"]) == (415, PARTIAL)
            assert draft.offset(upload) == 0

    def test_whether_it_is_the_last_must_be_said(self, draft: Draft) -> None:
        upload = draft.begin(5)
        answer = draft.ask("PATCH", upload, b"hello", {"Upload-Offset": "0", "Content-Type": PARTIAL})
        if draft.number <= 5:
            # "If the end of the request content is not the end of the upload", it MUST be said.
            assert draft.content(answer) == b"hello"
        else:
            assert answer.problem == (400, "invalid-request")
            assert draft.offset(upload) == 0

    @pytest.mark.parametrize("promises", [False, True])
    def test_a_last_body_of_unknown_length_that_is_too_short_completes_nothing(
        self, service: ServeProcess, newest: Draft, promises: bool
    ) -> None:
        upload = newest.begin(10)
        fields = {**newest.named, **newest.says(complete=True), "Upload-Offset": "0", "Content-Type": PARTIAL}
        fields |= {"Repr-Digest": digest_of(b"0123456789")} if promises else {}
        with talking(service.port, f"PATCH {upload}", fields) as line:
            line.send(b"5\r\n01234\r\n0\r\n\r\n")
            answer = line.answer()
            assert answer.status == 400
            assert answer.json["type"] == IANA + "inconsistent-upload-length"
        assert not newest.is_complete(newest.head(upload))
        assert newest.offset(upload) == 5
        assert newest.content(newest.patch(upload, 5, b"56789", complete=True)) == b"0123456789"

    def test_a_cut_append_keeps_what_came(self, service: ServeProcess, draft: Draft) -> None:
        upload = draft.begin(10)
        fields = {**draft.named, **draft.says(complete=True), "Upload-Offset": "0", "Content-Type": PARTIAL}
        with talking(service.port, f"PATCH {upload}", fields, length=10) as line:
            line.send(b"01234")
            arrive(service, upload, 5)
        wait_until(lambda: draft.offset(upload) == 5, "what arrived is kept")
        assert not draft.is_complete(draft.head(upload))

    def test_a_complete_upload_is_not_appended_to(self, draft: Draft) -> None:
        done = draft.create(b"hello", complete=True)
        upload = path_of(done)
        answer = draft.patch(upload, 5, b"more")
        assert answer.status == 400
        if draft.number >= 7:
            assert problem(answer) == (400, IANA + "inconsistent-upload-length")
        empty = draft.patch(upload, 5, b"")
        if draft.number >= 6:
            assert problem(empty) == (400, IANA + "completed-upload")
        else:
            assert empty.problem == (409, "upload-complete")
        assert draft.patch(upload, 3, b"lo", complete=True).headers["upload-offset"] == "5"
        assert draft.content(done) == b"hello"


class TestFinalAnswer:
    """Section "Responses to Uploads": whoever has missed the answer of a completion is told it again."""

    def test_it_is_told_again(self, draft: Draft) -> None:
        first = draft.create(b"hello", complete=True)
        upload = path_of(first)
        again = draft.patch(upload, 5, complete=True)
        assert (again.status, again.body) == (first.status, first.body)
        looked = draft.ask("GET", upload)
        assert (looked.status, looked.body) == (200, first.body)
        for answer in (again, looked, draft.head(upload)):
            assert answer.headers["haulier-record"] == first.json["id"]
            assert draft.is_complete(answer)

    def test_its_record_is_named_from_the_creation_on(self, draft: Draft) -> None:
        created = draft.create()
        record, upload = created.headers["haulier-record"], path_of(created)
        assert draft.head(upload).headers["haulier-record"] == record
        assert draft.patch(upload, 0, b"hel").headers["haulier-record"] == record
        done = draft.patch(upload, 3, b"lo", complete=True)
        assert (done.headers["haulier-record"], done.json["id"]) == (record, record)

    def test_it_stays_what_it_was(self, newest: Draft) -> None:
        first = newest.create(b"hello", complete=True)
        assert newest.outsider.ask("DELETE", f"/api/records/{first.json['id']}").status == 204
        again = newest.patch(path_of(first), 5, complete=True)
        assert (again.status, again.body) == (201, first.body)

    def test_it_is_kept_in_the_row(self, service: ServeProcess, newest: Draft) -> None:
        first = newest.create(b"hello", complete=True)
        with sqlite3.connect(service.data_dir / "haulier.db") as rows:
            ((kept,),) = rows.execute(
                "SELECT final_answer FROM uploads WHERE id = ?", [path_of(first).rpartition("/")[2]]
            )
        assert json.loads(kept) == {"status": 201, "body": first.body.decode()}

    def test_who_asks_first_after_a_lost_completion_makes_it(
        self, service: ServeProcess, newest: Draft
    ) -> None:
        upload = newest.begin(5)
        fields = {**newest.named, **newest.says(complete=True), "Upload-Offset": "0", "Content-Type": PARTIAL}
        with talking(service.port, f"PATCH {upload}", fields, length=5) as line:
            line.send(b"hell")
            arrive(service, upload, 4)
            line.send(b"o")
        name = upload.rpartition("/")[2]
        wait_until(lambda: newest.outsider.state(name)["status"] == "committed", "it is complete")
        one, other = newest.ask("GET", upload), newest.patch(upload, 5, complete=True)
        assert (one.status, other.status, one.body) == (200, 201, other.body)
        assert newest.content(other) == b"hello"


class TestCancellation:
    """Section "Upload Cancellation"."""

    def test_it_ends_the_upload(self, draft: Draft) -> None:
        upload = draft.begin(5)
        assert draft.ask("DELETE", upload).status == 204
        gone = 410 if draft.number >= 6 else 404
        assert draft.head(upload).status == gone
        assert draft.patch(upload, 0, b"hello", complete=True).status == gone
        assert draft.ask("DELETE", upload).status == (204 if draft.number >= 6 else 404)

    def test_a_running_transfer_is_cut_first(self, service: ServeProcess, draft: Draft) -> None:
        upload = draft.begin(10)
        fields = {**draft.named, **draft.says(complete=True), "Upload-Offset": "0", "Content-Type": PARTIAL}
        with talking(service.port, f"PATCH {upload}", fields, length=10) as line:
            line.send(b"01234")
            arrive(service, upload, 5)
            assert draft.ask("DELETE", upload).status == 204
            assert line.answer().status == (410 if draft.number >= 6 else 404)
        assert not (service.data_dir / "incoming" / upload.rpartition("/")[2]).exists()

    def test_a_complete_upload_cannot_be_cancelled(self, draft: Draft) -> None:
        done = draft.create(b"hello", complete=True)
        answer = draft.ask("DELETE", path_of(done))
        assert answer.status == (400 if draft.number >= 6 else 409)
        assert draft.content(done) == b"hello"


class TestIntegrity:
    """Section "Integrity Digests"."""

    def test_a_representations_digest_is_verified_at_completion(self, draft: Draft) -> None:
        good = draft.begin(5, Repr_Digest=digest_of(b"hello"))
        assert draft.patch(good, 0, b"hel").status // 100 == 2
        assert draft.patch(good, 3, b"lo", complete=True).status == 201
        bad = draft.begin(5, Repr_Digest=digest_of(b"HELLO"))
        answer = draft.patch(bad, 0, b"hello", complete=True)
        assert answer.problem == (422, "digest-mismatch")
        # "the server SHOULD consider the upload failed, not process the representation further"
        assert draft.outsider.state(bad.rpartition("/")[2])["status"] == "failed"

    def test_a_refusal_of_the_whole_says_that_it_is_complete(self, draft: Draft) -> None:
        """ "[...] allowing clients to identify whether a response [...] is related to the resumable upload itself"."""
        wrong = {"Repr_Digest": digest_of(b"HELLO")}
        begun, later = draft.begin(5, **wrong), draft.begin(5)
        refused = [
            draft.patch(begun, 0, b"hello", complete=True),
            draft.patch(later, 0, b"hello", complete=True, **wrong),
            draft.create(b"hello", complete=True, **wrong),
        ]
        kept = draft.patch(draft.begin(5), 0, b"hello", complete=True, Content_Digest=digest_of(b"HELLO"))
        for answer in refused:
            assert answer.problem == (422, "digest-mismatch")
            assert answer.headers.get("upload-complete") == (None if draft.number <= 5 else "?1")
        assert kept.problem == (422, "digest-mismatch")
        assert "upload-complete" not in kept.headers

    def test_it_may_be_said_with_the_last_bytes(self, draft: Draft) -> None:
        good = draft.begin()
        assert draft.patch(good, 0, b"hel").status // 100 == 2
        done = draft.patch(good, 3, b"lo", complete=True, Repr_Digest=digest_of(b"hello"))
        assert draft.content(done) == b"hello"
        bad = draft.begin()
        assert draft.patch(bad, 0, b"hello", complete=True, Repr_Digest=digest_of(b"HELLO")).status == 422
        assert draft.outsider.state(bad.rpartition("/")[2])["status"] == "failed"

    @pytest.mark.parametrize("query", ["", "?digest=sha-512", "?digest=none"])
    @pytest.mark.parametrize("body", [b"hello", b""])
    def test_every_digest_of_a_whole_body_is_verified(self, newest: Draft, query: str, body: bytes) -> None:
        names = ("sha-256", "sha-512")
        right = [digest_of(body, name) for name in names]
        for wrong in ([], [0], [1], [0, 1]):
            fields = ", ".join(
                digest_of(b"other", names[n]) if n in wrong else each for n, each in enumerate(right)
            )
            answer = newest.create(body, complete=True, target=f"/resumable/{query}", Repr_Digest=fields)
            assert answer.status == (422 if wrong else 201), answer
        alone = newest.create(
            body, complete=True, target=f"/resumable/{query}", Repr_Digest=digest_of(b"other")
        )
        assert alone.problem == (422, "digest-mismatch")

    def test_a_promise_that_could_not_be_kept_is_refused(self, newest: Draft) -> None:
        both = f"{digest_of(b'hello')}, {digest_of(b'hello', 'sha-512')}"
        assert newest.create(b"hel", Repr_Digest=both).problem == (400, "digest-malformed")
        chosen = newest.create(b"hel", target="/resumable/?digest=sha-512", Repr_Digest=digest_of(b"hello"))
        assert chosen.problem == (400, "digest-malformed")
        upload = newest.begin()
        assert newest.patch(upload, 0, b"hel").status == 204
        assert newest.patch(upload, 3, b"lo", complete=True, Repr_Digest=both).problem == (
            400,
            "digest-malformed",
        )
        assert newest.offset(upload) == 3
        other = newest.begin(5, Repr_Digest=digest_of(b"other"))
        forgotten = newest.patch(
            other, 0, b"hello", complete=True, Repr_Digest=digest_of(b"hello", "sha-512")
        )
        assert forgotten.problem == (400, "digest-malformed")
        assert not newest.is_complete(newest.head(other))
        whole = newest.begin()
        wrong = f"{digest_of(b'hello')}, {digest_of(b'other', 'sha-512')}"
        assert newest.patch(whole, 0, b"hello", complete=True, Repr_Digest=wrong).status == 422
        done = newest.patch(whole, 0, b"hello", complete=True, Repr_Digest=both)
        assert newest.content(done) == b"hello"

    def test_a_contents_digest_is_verified_for_its_request_alone(self, draft: Draft) -> None:
        upload = draft.begin(5)
        assert draft.patch(upload, 0, b"hel", Content_Digest=digest_of(b"hel")).status // 100 == 2
        answer = draft.patch(upload, 3, b"lo", complete=True, Content_Digest=digest_of(b"LO"))
        assert answer.problem == (422, "digest-mismatch")
        # "not append the content to the upload resource"
        assert draft.offset(upload) == 3
        assert draft.content(draft.patch(upload, 3, b"lo", complete=True)) == b"hello"

    def test_a_digest_that_cannot_be_read_is_refused(self, newest: Draft) -> None:
        for field in ("Repr_Digest", "Content_Digest"):
            assert newest.create(b"a", **{field: "sha-256=:!:"}).problem == (400, "digest-malformed")  # type: ignore[arg-type]

    def test_what_is_wanted_is_answered(self, draft: Draft) -> None:
        wanted = {"Want_Repr_Digest": "sha-256=3, md5=1"}
        done = draft.create(b"hello", complete=True, **wanted)
        assert done.headers["repr-digest"] == digest_of(b"hello")
        asked = draft.ask("HEAD", path_of(done), b"", {"Want-Repr-Digest": "sha-256=1"})
        assert asked.headers["repr-digest"] == digest_of(b"hello")
        assert "repr-digest" not in draft.head(path_of(done)).headers

    def test_another_digest_may_be_chosen(self, newest: Draft) -> None:
        done = newest.create(
            b"hello", complete=True, target="/resumable/?digest=sha-512", Want_Repr_Digest="sha-512=1"
        )
        assert done.headers["repr-digest"] == digest_of(b"hello", "sha-512")


class TestAccess:
    """Section "Security Considerations": every request is judged, and the completion again."""

    @pytest.fixture
    def closed(self, tmp_path: Path) -> Iterator[tuple[ServeProcess, dict[str, str]]]:
        data = tmp_path / "data"
        people = make_team(data)
        with serving(data) as running:
            yield running, {name: person.header["Authorization"] for name, person in people.items()}

    def test_a_right_that_is_taken_away_ends_the_upload(
        self, closed: tuple[ServeProcess, dict[str, str]], tmp_path: Path
    ) -> None:
        service, tokens = closed
        writer = Draft(service.port, credentials={"Authorization": tokens["writer"]})
        upload = path_of(writer.create(target=f"/resumable/?capsule={TEAM}", Upload_Length="5"))
        assert writer.patch(upload, 0, b"hel").status == 204
        assert Draft(service.port).head(upload).status == 401
        assert (
            Draft(service.port, credentials={"Authorization": tokens["stranger"]}).head(upload).status == 404
        )
        commands = Commands(service.url, tmp_path / "home")
        granted = commands.run("capsule", "grant", TEAM, "writer", "reader", "--data-dir", service.data_dir)
        assert granted.code == 0, granted
        answer = writer.patch(upload, 3, b"lo", complete=True)
        assert answer.status in {403, 404}
        assert writer.create(target=f"/resumable/?capsule={TEAM}").problem == (403, "access-denied")
