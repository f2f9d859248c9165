"""What answers mean: each remote's table, and how problems are read."""

import pytest

from haulier.body.answers import Answer, Headers
from haulier.core.errors import PeerBlocked, PeerBusy, PeerRefused, PeerUnreadable, RemoteSessionLost
from haulier.remotes import haulier, onedrive, s3, tus
from haulier.remotes.answers import MAX_DETAIL, RetryTable, read_json, read_problem, redirected, secrets_in

TABLES = {"haulier": haulier.TABLE, "tus": tus.TABLE, "s3": s3.TABLE, "onedrive": onedrive.TABLE}
ALWAYS = [408, 423, 425, 429, 500, 502, 503, 504, 509, 520, 599]
NEVER = [400, 402, 405, 406, 411, 413, 414, 415, 422, 426, 451, 499, 501, 505, 511, 600]


def answer(status: int, text: str = "", **headers: str) -> Answer:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Answer(status_code=status, content=text.encode(), headers=Headers(fields))


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
class TestEveryTable:
    @pytest.mark.parametrize("status", ALWAYS)
    def test_what_passes(self, table: RetryTable, status: int) -> None:
        assert isinstance(table.failure(answer(status), of_session=True), PeerBusy)

    @pytest.mark.parametrize("status", NEVER)
    def test_what_is_final(self, table: RetryTable, status: int) -> None:
        assert isinstance(table.failure(answer(status), of_session=True), PeerRefused)

    @pytest.mark.parametrize(("status", "obstacle"), [(401, "auth"), (507, "quota")])
    def test_what_somebody_has_to_clear(self, table: RetryTable, status: int, obstacle: str) -> None:
        error = table.failure(answer(status), of_session=False)
        assert isinstance(error, PeerBlocked)
        assert error.obstacle == obstacle

    @pytest.mark.parametrize("text", ["7", "Sat, 28 Nov 2026 10:00:07 GMT"], ids=["seconds", "a date"])
    def test_how_long_is_told(self, table: RetryTable, text: str) -> None:
        told = answer(429, Retry_After=text, Date="Sat, 28 Nov 2026 10:00:00 GMT")
        error = table.failure(told, of_session=False)
        assert isinstance(error, PeerBusy)
        assert error.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("remote", "status", "text", "expected"),
    [
        ("tus", 460, "", PeerBusy),
        ("tus", 404, "", RemoteSessionLost),
        ("tus", 410, "", RemoteSessionLost),
        ("tus", 409, "", PeerBusy),
        ("onedrive", 416, "", PeerBusy),
        ("onedrive", 404, "", RemoteSessionLost),
        ("onedrive", 400, '{"error": {"code": "uploadSessionNotFound", "message": "x"}}', RemoteSessionLost),
        (
            "onedrive",
            400,
            '{"error": {"code": "invalidRequest", "innererror": {"code": "uploadSessionNotFound"}}}',
            RemoteSessionLost,
        ),
        (
            "onedrive",
            400,
            '{"error": {"code": "invalidRequest", "innererror": {"code": "uploadSessionFailed"}}}',
            RemoteSessionLost,
        ),
        (
            "onedrive",
            403,
            '{"error": {"code": "x", "innerError": {"code": "y", "innererror": {"code": "accessDenied"}}}}',
            PeerBlocked,
        ),
        ("onedrive", 400, '{"error": {"code": "x", "innerError": {"date": "2026"}}}', PeerRefused),
        ("onedrive", 412, "", PeerRefused),
        ("s3", 400, "<Error><Code>RequestTimeout</Code></Error>", PeerBusy),
        ("s3", 403, "<Error><Code>RequestTimeTooSkewed</Code></Error>", PeerBusy),
        ("s3", 403, "<Error><Code>AccessDenied</Code></Error>", PeerBlocked),
        ("s3", 404, "<Error><Code>NoSuchUpload</Code></Error>", RemoteSessionLost),
        ("s3", 404, "<Error><Code>NoSuchBucket</Code></Error>", PeerRefused),
        ("s3", 412, "<Error><Code>PreconditionFailed</Code></Error>", PeerRefused),
        ("haulier", 409, '{"type": "http://x/errors/chunks-missing", "detail": "x"}', PeerBusy),
        ("haulier", 409, '{"type": "http://x/errors/chunk-conflict", "detail": "x"}', PeerRefused),
        ("haulier", 413, '{"type": "http://x/errors/quota-exceeded", "detail": "x"}', PeerBlocked),
        ("haulier", 410, "", RemoteSessionLost),
    ],
)
def test_what_is_special(remote: str, status: int, text: str, expected: type[Exception]) -> None:
    assert type(TABLES[remote].failure(answer(status, text), of_session=True)) is expected


def test_a_session_is_lost_only_where_one_was_asked_for() -> None:
    assert isinstance(tus.TABLE.failure(answer(404), of_session=False), PeerRefused)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type": "https://x/errors/storage-full", "detail": "no room"}', ("storage-full", "no room")),
        ('{"error": {"code": "quotaLimitReached", "message": "full"}}', ("quotaLimitReached", "full")),
        ('{"error": {"code": "a", "message": "b", "innererror": {"code": "c"}}}', ("a", "b")),
        ("<Error><Code>SlowDown</Code><Message>slow</Message></Error>", ("SlowDown", "slow")),
        ("plain\n  words", ("http-500", "plain words")),
        ("", ("http-500", "Internal Server Error")),
        ("{broken", ("http-500", "Internal Server Error")),
        ("<html><body>a proxy's page</body></html>", ("http-500", "Internal Server Error")),
    ],
)
def test_problems_are_read_in_every_form(text: str, expected: tuple[str, str]) -> None:
    assert read_problem(answer(500, text)) == expected


def test_words_are_kept_up_to_a_bound_and_no_address_is_told() -> None:
    assert len(read_problem(answer(500, "x" * 10_000))[1]) == MAX_DETAIL
    assert read_problem(answer(299)) == ("http-299", "an answer without a name")


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("https://other.example:8443/secret?key=1", "to https://other.example:8443,"),
        ("//user:secret@other.example/", "to http://other.example,"),
        ("/secret", "to another address there,"),
        ("http://[", "to another address there,"),
        ("http://x:99999/", "to another address there,"),
        ("ftp://secret", "to another address there,"),
    ],
)
def test_of_a_redirect_only_the_host_is_told(location: str, where: str) -> None:
    text = str(redirected(307, "http://files.example", location))
    assert where in text
    assert "secret" not in text


def test_a_host_that_is_an_address_is_told_as_one_can_use_it() -> None:
    assert "to http://[::1]:8443," in str(redirected(307, "http://[::1]:8000", "http://[::1]:8443/x"))
    assert "to another address there," in str(redirected(307, "http://[::1]:8000", "/x"))


@pytest.mark.parametrize(
    "text",
    [
        "no route for POST /f?v=1&key=s3cr%2Bt-word",
        '{"detail": "/f?v=1&key=s3cr%2Bt-word is not known"}',
        '{"type": "about/s3cr+t-word", "detail": "unknown"}',
        "key s3cr+t-word is wrong",
        "key s3cr%2bt-word is wrong",
        "/f?key=s3cr%2Bt-word&amp;v=1",
        "a form &quot;s3cr+t-word&quot;",
        f"{'x' * (MAX_DETAIL - 4)}s3cr+t-word",
        "the token BEARER-t0ken is over",
        "Authorization: Bearer BEARER-t0ken",
    ],
)
def test_words_that_repeat_a_secret_are_told_without_it(text: str) -> None:
    secrets = secrets_in("http://h/f?v=1&key=s3cr%2Bt-word", ["Bearer BEARER-t0ken"])
    error = str(tus.TABLE.failure(answer(400, text), of_session=False, secrets=secrets))
    assert not [part for part in ("s3cr", "t-word", "t0ken") if part in error], error


def test_short_words_of_an_address_stay_in_other_words() -> None:
    secrets = secrets_in("http://h/f?v=1&mode=fast")
    error = tus.TABLE.failure(
        answer(400, "at most 1 fast upload; /f?v=1&mode=fast"), of_session=False, secrets=secrets
    )
    assert "at most 1 fast upload; /f?***" in str(error)
    assert secrets_in("http://h/f") == set()


SESSION = "https://sn3302.up.1drv.com/up/fe6987415ace7X4e1eF866337"


@pytest.mark.parametrize(
    "text",
    [
        f"no route for PUT {SESSION}",
        "no route for PUT /up/fe6987415ace7X4e1eF866337",
        "there is no fe6987415ace7X4e1eF866337",
        "there is no %2Fup%2Ffe6987415ace7X4e1eF866337",
        '{"type": "about/fe6987415ace7X4e1eF866337", "detail": "unknown"}',
    ],
)
def test_words_that_repeat_the_address_of_a_session_are_told_without_it(text: str) -> None:
    secrets = secrets_in(SESSION, hides_path=True)
    assert "7415ace" not in str(tus.TABLE.failure(answer(400, text), of_session=False, secrets=secrets))


def test_short_parts_of_a_path_stay_in_other_words() -> None:
    secrets = secrets_in("http://h/up/0123456789abcdef/finish", hides_path=True)
    error = tus.TABLE.failure(answer(400, "finish later"), of_session=False, secrets=secrets)
    assert "finish later" in str(error)
    assert secrets_in("http://h", hides_path=True) == {"http://h"}


def test_a_known_name_of_a_problem_means_the_same_whatever_the_secrets_are() -> None:
    text = '{"type": "http://h/errors/upload-busy", "detail": "wait"}'
    secrets = secrets_in("http://h/f", ["Bearer upload"])
    error = haulier.TABLE.failure(answer(409, text), of_session=False, secrets=secrets)
    assert isinstance(error, PeerBusy)
    assert "upload-busy" in str(error)
    error = haulier.TABLE.failure(
        answer(409, text.replace("busy", "complete")), of_session=False, secrets=secrets
    )
    assert isinstance(error, PeerRefused)
    assert error.slug == "upload-complete"


def test_what_we_say_ourselves_in_an_address_is_no_secret() -> None:
    for said in (
        "@microsoft.graph.conflictBehavior=replace",
        "X-Amz-Algorithm=AWS4-HMAC-SHA256",
        "x-id=PutObject",
    ):
        assert secrets_in(f"http://h/f?{said}") == {said}


def test_json_that_is_read_comes_back_as_it_was_made_of() -> None:
    assert read_json(answer(200, '{"id": 7}'), lambda document: document["id"] + 1) == 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<html>secret</html>", "the answer is not what was asked for"),
        ("", "the answer is not what was asked for"),
        ('["secret"]', "the answer is not what was asked for"),
        ("[" * 100_000, "the answer is not what was asked for"),
        ('{"id": null}', "the answer is not what was asked for"),
        ('{"secret": 1}', "the answer has no 'id'"),
        ('{"id": 1, "url": ["\\udc80"]}', "the answer is not what was asked for"),
    ],
    ids=["a page", "nothing", "a list", "deep", "another type", "missing", "half a character"],
)
def test_an_answer_that_cannot_be_read_can_pass_and_is_not_told(text: str, expected: str) -> None:
    with pytest.raises(PeerUnreadable) as told:
        read_json(answer(200, text), lambda document: int(document["id"]))
    assert str(told.value) == f"{expected} (unreadable-answer, 200; it can pass)"
    assert told.value.retryable
