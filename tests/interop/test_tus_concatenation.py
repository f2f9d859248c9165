"""tus 1.0.0, section "Concatenation"; what a test quotes is from there.

Source: https://tus.io/protocols/resumable-upload, version 1.0.0 (2016-03-25).
"""

import itertools
import time
from collections.abc import Iterator
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.support.callers import make_team
from tests.support.content import Content
from tests.support.outsider import Answer, Outsider
from tests.support.processes import ServeProcess, serving, wait_until
from tests.support.tus import MEDIA_TYPE, TusClient, metadata, path_of

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    data: Path = tmp_path_factory.mktemp("tus") / "data"
    with serving(data) as running:
        yield running


@pytest.fixture
def tus(service: ServeProcess) -> TusClient:
    return TusClient(service.port)


def partial(tus: TusClient, content: bytes) -> str:
    """Bring a partial upload; return its path."""
    return tus.whole(content, Upload_Concat="partial")


def join(tus: TusClient, *partials: str, **fields: str) -> Answer:
    """Ask for a final upload."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return tus.post(fields={"Upload-Concat": f"final;{' '.join(partials)}", **named})


def final(tus: TusClient, *partials: str, **fields: str) -> str:
    """Make a final upload; return its path."""
    answer = join(tus, *partials, **fields)
    assert answer.status == 201, answer
    return path_of(answer)


def committed(tus: TusClient, upload: str) -> str:
    """Wait for the end of an upload; return how it ended."""
    return str(tus.outsider.ask("GET", f"/api/uploads/{upload.rpartition('/')[2]}?wait=50").json["status"])


class TestOptions:
    """ "If the Server supports this extension, it MUST add concatenation to the Tus-Extension header.\""""

    def test_both_are_announced(self, service: ServeProcess) -> None:
        answer = Outsider(service.port).ask("OPTIONS", "/tus/")
        assert {"concatenation", "concatenation-unfinished"} <= set(
            answer.headers["tus-extension"].split(",")
        )


class TestPartial:
    """Partial uploads."""

    def test_it_is_no_record_and_nothing_is_made_of_it_alone(self, tus: TusClient) -> None:
        before = tus.records()
        upload = partial(tus, b"hello")
        assert tus.records() == before
        assert "haulier-record" not in tus.head(upload).headers
        assert tus.outsider.ask("GET", upload).status == 404

    def test_head_has_offset_length_and_upload_concat(self, tus: TusClient) -> None:
        upload = tus.create(5, Upload_Concat="partial")
        answer = tus.head(upload)
        assert (answer.headers["upload-concat"], answer.headers["upload-offset"]) == ("partial", "0")
        tus.append(upload, 0, b"hello")
        answer = tus.head(upload)
        assert (answer.headers["upload-concat"], answer.headers["upload-offset"]) == ("partial", "5")
        assert answer.headers["upload-length"] == "5"

    def test_a_complete_one_still_expires(self, tus: TusClient) -> None:
        assert "upload-expires" in tus.head(partial(tus, b"hello")).headers

    def test_a_complete_one_takes_nothing_more(self, tus: TusClient) -> None:
        upload = partial(tus, b"hello")
        assert tus.patch(upload, 5, b"!").problem == (413, "length-exceeded")
        assert tus.patch(upload, 0, b"hello").problem == (409, "offset-mismatch")
        assert tus.append(upload, 5, b"") == 5

    def test_it_is_terminated_like_any_other(self, tus: TusClient) -> None:
        upload = partial(tus, b"hello")
        assert tus.ask("DELETE", upload).status == 204
        assert tus.head(upload).status == 410

    def test_creation_with_upload_and_deferred_length_go_with_it(self, tus: TusClient) -> None:
        whole = tus.post(b"hello", {"Upload-Length": "5", "Upload-Concat": "partial", **MEDIA_TYPE})
        assert (whole.status, whole.headers["upload-offset"]) == (201, "5")
        deferred = tus.create(None, Upload_Concat="partial")
        tus.append(deferred, 0, b" world", Upload_Length="6")
        assert tus.content(final(tus, path_of(whole), deferred)) == b"hello world"

    def test_it_cannot_be_finished_by_the_native_api(self, tus: TusClient) -> None:
        upload = partial(tus, b"hello")
        answer = tus.outsider.finish(upload.rpartition("/")[2])
        assert answer.problem == (422, "invalid-request")
        assert tus.offset(upload) == 5

    @pytest.mark.parametrize(
        "text", ["", "Partial", "partial;", "final", "final;", "final; ", "both", "partial final"]
    )
    def test_other_words_are_400(self, tus: TusClient, text: str) -> None:
        answer = tus.post(fields={"Upload-Length": "5", "Upload-Concat": text})
        assert answer.problem == (400, "invalid-request")
        assert answer.json["errors"][0]["field"] == "Upload-Concat"


class TestFinal:
    """Final uploads of complete partial ones."""

    def test_it_is_the_ordered_sum(self, tus: TusClient) -> None:
        world, hello = partial(tus, b" world"), partial(tus, b"hello")
        upload = final(tus, hello, world)
        answer = tus.head(upload)
        assert (answer.headers["upload-offset"], answer.headers["upload-length"]) == ("11", "11")
        assert answer.headers["upload-concat"] == f"final;{hello} {world}"
        assert "upload-expires" not in answer.headers
        assert tus.content(upload) == b"hello world"

    def test_a_partial_may_be_repeated_and_used_again(self, tus: TusClient) -> None:
        a, b = partial(tus, b"a"), partial(tus, b"bb")
        assert tus.content(final(tus, a, b, a, a)) == b"abbaa"
        assert tus.content(final(tus, b)) == b"bb"

    def test_large_ones_are_put_together_byte_for_byte(self, tus: TusClient) -> None:
        content = Content(9 * MIB + 3)
        cuts = [0, 4 * MIB, 4 * MIB + 1, 9 * MIB + 3]
        partials = [partial(tus, content.range(start, stop)) for start, stop in itertools.pairwise(cuts)]
        record = tus.head(final(tus, *partials)).headers["haulier-record"]
        found = tus.outsider.ask("GET", f"/api/records/{record}").json
        assert (found["size"], found["digest"]) == (content.size, {"sha-256": content.sha256()})
        assert tus.outsider.original_sha256(record) == (content.size, content.sha256())

    def test_empty_partials_make_an_empty_file(self, tus: TusClient) -> None:
        empty = partial(tus, b"")
        upload = final(tus, empty, empty)
        assert tus.head(upload).headers["upload-length"] == "0"
        assert tus.content(upload) == b""

    @pytest.mark.parametrize(
        "form", ["http://other.example{0}", "{0}", "https://a/b/c{0}", "../tus/{1}", "{1}", "./{1}"]
    )
    def test_urls_may_be_absolute_or_relative(self, tus: TusClient, form: str) -> None:
        path = partial(tus, b"hello")
        upload = final(tus, form.format(path, path.rpartition("/")[2]))
        assert tus.content(upload) == b"hello"

    def test_metadata_is_its_own(self, tus: TusClient) -> None:
        one = tus.whole(b"hello", Upload_Concat="partial", Upload_Metadata=metadata(filename="part"))
        text = metadata(filename="whole.txt", filetype="text/plain")
        upload = final(tus, one, Upload_Metadata=text)
        answer = tus.head(upload)
        assert answer.headers["upload-metadata"] == text
        assert (
            tus.outsider.ask("GET", f"/api/records/{answer.headers['haulier-record']}").json["filename"]
            == "whole.txt"
        )
        assert "upload-metadata" not in tus.head(final(tus, one)).headers

    @pytest.mark.parametrize("fields", [{"Upload_Length": "5"}, {"Upload_Defer_Length": "1"}])
    def test_a_length_is_refused(self, tus: TusClient, fields: dict[str, str]) -> None:
        answer = join(tus, partial(tus, b"hello"), **fields)
        assert answer.problem == (400, "invalid-request")

    def test_a_patch_is_403_and_changes_nothing(self, tus: TusClient) -> None:
        one = partial(tus, b"hello")
        upload = final(tus, one)
        for offset in (0, 5):
            assert tus.patch(upload, offset, b"x").problem == (403, "access-denied")
        assert tus.content(upload) == b"hello"
        assert tus.offset(one) == 5

    def test_a_body_is_refused(self, tus: TusClient) -> None:
        fields = {"Upload-Concat": f"final;{partial(tus, b'a')}", **MEDIA_TYPE}
        assert tus.post(b"b", fields).problem == (413, "length-exceeded")

    def test_unknown_ended_and_other_uploads_are_refused_and_nothing_is_created(
        self, service: ServeProcess, tus: TusClient
    ) -> None:
        good, ended = partial(tus, b"good"), partial(tus, b"ended")
        assert tus.ask("DELETE", ended).status == 204
        ordinary, open_one, made = tus.whole(b"whole"), tus.create(5), final(tus, good)
        before = tus.records(), sessions(service)
        cases = {
            "/tus/none": (404, "upload-not-found"),
            "/tus/%00": (404, "upload-not-found"),
            ended: (410, "upload-gone"),
            ordinary: (400, "invalid-request"),
            open_one: (400, "invalid-request"),
            made: (400, "invalid-request"),
            "http://a/elsewhere/x": (400, "invalid-request"),
            "http://[": (400, "invalid-request"),
        }
        assert {bad: join(tus, good, bad).problem for bad in cases} == cases
        assert (tus.records(), sessions(service)) == before

    @pytest.mark.parametrize("separator", [",", ", ", ";", "; ", "|"])
    def test_between_urls_there_are_spaces_and_nothing_else_drops_one(
        self, tus: TusClient, separator: str
    ) -> None:
        hello, world = partial(tus, b"hello"), partial(tus, b" world")
        for host in ("", "http://127.0.0.1"):
            answer = tus.post(fields={"Upload-Concat": f"final;{host}{hello}{separator}{host}{world}"})
            assert answer.problem == (400, "invalid-request")

    def test_a_thousand_are_taken_and_one_more_is_not(self, tus: TusClient) -> None:
        name = partial(tus, b"x").rpartition("/")[2]
        assert tus.content(final(tus, *[name] * 1000)) == b"x" * 1000
        assert join(tus, *[name] * 1001).problem == (400, "invalid-request")

    def test_it_is_terminated_with_its_record(self, tus: TusClient) -> None:
        one = partial(tus, b"hello")
        upload = final(tus, one)
        assert tus.ask("DELETE", upload).status == 204
        assert tus.head(upload).status == 410
        assert tus.offset(one) == 5


class TestUnfinished:
    """ "The Client MAY send the concatenation request while the partial uploads are still in progress.\""""

    def test_it_completes_by_itself_when_the_last_partial_does(self, tus: TusClient) -> None:
        a, b = tus.create(5, Upload_Concat="partial"), tus.create(6, Upload_Concat="partial")
        upload = final(tus, a, b)
        answer = tus.head(upload)
        assert answer.status == 200
        assert "upload-offset" not in answer.headers
        assert answer.headers["upload-length"] == "11"
        tus.append(b, 0, b" world")
        assert "upload-offset" not in tus.head(upload).headers
        tus.append(a, 0, b"hello")
        assert committed(tus, upload) == "committed"
        assert tus.offset(upload) == 11
        assert tus.content(upload) == b"hello world"

    def test_its_length_is_told_as_soon_as_it_can_be_calculated(self, tus: TusClient) -> None:
        a, b = partial(tus, b"hello"), tus.create(None, Upload_Concat="partial")
        upload = final(tus, a, b)
        answer = tus.head(upload)
        assert not {"upload-length", "upload-offset", "upload-defer-length"} & set(answer.headers)
        tus.append(b, 0, b"", Upload_Length="6")
        assert tus.head(upload).headers["upload-length"] == "11"
        tus.append(b, 0, b" world")
        assert committed(tus, upload) == "committed"
        assert tus.content(upload) == b"hello world"

    def test_it_fails_visibly_when_a_partial_is_deleted(self, tus: TusClient) -> None:
        a, b = partial(tus, b"hello"), tus.create(6, Upload_Concat="partial")
        upload = final(tus, a, b)
        assert tus.ask("DELETE", b).status == 204
        assert tus.head(upload).status == 410
        state = tus.outsider.state(upload.rpartition("/")[2])
        assert state["status"] == "failed"
        assert b.rpartition("/")[2] in state["error"]
        assert tus.offset(a) == 5

    def test_it_expires_no_sooner_than_what_it_waits_for(self, tus: TusClient) -> None:
        a = tus.create(5, Upload_Concat="partial")
        upload = final(tus, a)
        tus.append(a, 0, b"hell")
        waited_for, its_own = (
            parsedate_to_datetime(tus.head(one).headers["upload-expires"]) for one in (a, upload)
        )
        assert waited_for <= its_own <= waited_for + timedelta(seconds=60)

    def test_one_of_more_than_tus_max_size_fails(self, tmp_path: Path) -> None:
        with serving(tmp_path / "data", {"HAULIER_MAX_UPLOAD_BYTES": "9"}) as service:
            tus = TusClient(service.port)
            a = tus.create(None, Upload_Concat="partial")
            upload = final(tus, a, a)
            assert tus.append(a, 0, b"hello", Upload_Length="5") == 5
            assert tus.head(upload).status == 410
            assert tus.outsider.state(upload.rpartition("/")[2])["status"] == "failed"

    def test_a_patch_is_403_before_it_is_built_too(self, tus: TusClient) -> None:
        upload = final(tus, tus.create(5, Upload_Concat="partial"))
        assert tus.patch(upload, 0, b"hello").problem == (403, "access-denied")

    def test_it_may_be_terminated(self, tus: TusClient) -> None:
        a = tus.create(5, Upload_Concat="partial")
        upload = final(tus, a)
        assert tus.ask("DELETE", upload).status == 204
        assert tus.append(a, 0, b"hello") == 5
        assert tus.head(upload).status == 410

    def test_several_wait_for_one(self, tus: TusClient) -> None:
        a = tus.create(1, Upload_Concat="partial")
        uploads = [final(tus, a), final(tus, a, a)]
        tus.append(a, 0, b"a")
        assert [committed(tus, upload) for upload in uploads] == ["committed", "committed"]
        assert [tus.content(upload) for upload in uploads] == [b"a", b"aa"]

    def test_get_before_it_is_built_is_404(self, tus: TusClient) -> None:
        upload = final(tus, tus.create(5, Upload_Concat="partial"))
        assert tus.outsider.ask("GET", upload).problem == (404, "asset-not-found")


class TestLimits:
    """Beyond the specification: what partial uploads cost, and whose they are."""

    def test_complete_partials_count_for_the_quota_and_not_for_live_uploads(self, tmp_path: Path) -> None:
        people = make_team(tmp_path / "data")
        with serving(tmp_path / "data", {"HAULIER_MAX_ACTIVE_SESSIONS": "2"}) as service:
            tus = TusClient(service.port)
            mine = people["writer"].header
            names = []
            for _ in range(4):
                answer = tus.post(
                    b"hello", {"Upload-Length": "5", "Upload-Concat": "partial", **MEDIA_TYPE, **mine},
                    target="/tus/?capsule=team",
                )  # fmt: skip
                assert answer.status == 201, answer
                names.append(path_of(answer))
            fields = {"Upload-Concat": f"final;{' '.join(names)}"}
            theirs = tus.post(fields={**fields, **people["fellow"].header}, target="/tus/?capsule=team")
            assert theirs.problem == (404, "upload-not-found")
            elsewhere = tus.post(fields={**fields, **mine}, target="/tus/")
            assert elsewhere.problem == (400, "invalid-request")
            assert tus.post(fields={**fields, **mine}, target="/tus/?capsule=team").status == 201

    def test_a_complete_partial_expires_after_its_last_use_and_a_waiting_final_holds_it(
        self, tmp_path: Path
    ) -> None:
        settings = {"HAULIER_SESSION_TTL_S": "8", "HAULIER_JANITOR_INTERVAL_S": "1"}
        with serving(tmp_path / "data", settings) as service:
            tus = TusClient(service.port)
            held, moving = partial(tus, b"held "), tus.create(6, Upload_Concat="partial")
            alone = partial(tus, b"alone")
            upload = final(tus, held, moving)
            deadline, offset = time.monotonic() + 60, 0
            while tus.outsider.state(alone.rpartition("/")[2])["status"] == "open":
                assert time.monotonic() < deadline
                offset = tus.append(moving, offset, b"m" if offset < 5 else b"")
            assert tus.head(alone).status == 410
            tus.append(moving, offset, b"m" * (6 - offset))
            assert committed(tus, upload) == "committed"
            assert tus.content(upload) == b"held mmmmmm"

    @pytest.mark.slow
    def test_a_killed_service_puts_together_what_it_had_begun(self, tmp_path: Path) -> None:
        content = Content(64 * MIB)
        with serving(tmp_path / "data") as service:
            tus = TusClient(service.port)
            one, two = partial(tus, content.range(0, 32 * MIB)), tus.create(32 * MIB, Upload_Concat="partial")
            upload = final(tus, one, two)
            part = service.data_dir / "incoming" / upload.rpartition("/")[2]
            tus.append(two, 0, content.range(32 * MIB, 64 * MIB))
            wait_until(lambda: part.exists() or committed(tus, upload) == "committed", "it is being built")
            service.kill()
            service.start()
            assert committed(tus, upload) == "committed"
            record = tus.head(upload).headers["haulier-record"]
            assert tus.outsider.original_sha256(record) == (content.size, content.sha256())


def sessions(service: ServeProcess) -> int:
    return len(Outsider(service.port).ask("GET", "/api/operators/sessions?limit=200").json["items"])
