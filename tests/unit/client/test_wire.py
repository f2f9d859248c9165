"""What answers mean: problems, delays, addresses."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from haulier.client.values import Begun
from haulier.client.wire import Wire, check_url, refusal, retry_delay
from haulier.core.errors import InvalidRequest, PeerCorrupted, PeerRefused, PeerUnreachable
from haulier.core.retry import RetryPolicy


def problem(status: int, slug: str, **more: object) -> httpx2.Response:
    document = {"type": f"http://127.0.0.1/errors/{slug}", "title": "T", "status": status, **more}
    return httpx2.Response(status, json=document)


def test_a_problem_keeps_its_slug_its_words_and_its_fields() -> None:
    error = refusal(problem(409, "offset-mismatch", detail="at 5", expected=5, provided=0))
    assert (error.status, error.slug, error.detail) == (409, "offset-mismatch", "at 5")
    assert error.fields["expected"] == 5
    assert str(error) == "at 5 (offset-mismatch, 409)"


def test_a_problem_without_details_has_its_title() -> None:
    assert refusal(problem(404, "upload-not-found")).detail == "T"


def test_a_proxys_page_is_told_by_its_status() -> None:
    error = refusal(httpx2.Response(502, text="<html>"))
    assert (error.slug, error.detail) == ("http-502", "Bad Gateway")


def test_a_status_that_nobody_knows_has_words_too() -> None:
    assert refusal(httpx2.Response(599)).detail == "status 599"


def test_a_redirect_names_the_new_address() -> None:
    error = refusal(httpx2.Response(301, headers={"Location": "https://elsewhere/"}))
    assert error.detail == "the address has moved to https://elsewhere/"


def test_headers_that_matter_later_are_kept() -> None:
    answer = httpx2.Response(409, headers={"Location": "/api/uploads/x", "Upload-Offset": "7"})
    assert refusal(answer).fields == {"location": "/api/uploads/x", "upload_offset": "7"}


@pytest.mark.parametrize("status", [408, 423, 425, 429, 500, 502, 503, 504])
def test_states_that_pass_are_tried_again(status: int) -> None:
    assert retry_delay(PeerRefused(status, "any", "")) == 0.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 415, 421, 422, 501, 505, 507])
def test_refusals_are_final(status: int) -> None:
    assert retry_delay(PeerRefused(status, "any", "")) is None


@pytest.mark.parametrize("slug", ["upload-busy", "offset-mismatch"])
def test_conflicts_that_pass_are_tried_again(slug: str) -> None:
    assert retry_delay(PeerRefused(409, slug, "")) == 0.0


def test_what_waits_for_an_operator_is_final() -> None:
    assert retry_delay(PeerRefused(503, "storage-not-writable", "")) is None


def test_the_service_sets_the_least_delay() -> None:
    answer = httpx2.Response(503, headers={"Retry-After": "4"})
    assert retry_delay(refusal(answer)) == 4.0


def test_silence_is_tried_again_and_corruption_is_not() -> None:
    assert retry_delay(PeerUnreachable("http://x", "gone")) == 0.0
    assert retry_delay(PeerCorrupted("a", "b", "c")) is None


def test_an_address_loses_its_last_slash() -> None:
    assert check_url("http://127.0.0.1:8000/") == "http://127.0.0.1:8000"
    assert check_url("https://files.example/haulier/") == "https://files.example/haulier"


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8000", "ftp://x", "http://", "http://x:99999", "http://x?q", "http://x#f", "http://[x"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        check_url(url)


# --- tokens ----------------------------------------------------------------------------------------


class Service:
    """Notes what it is shown."""

    def __init__(self) -> None:
        self.shown: list[str | None] = []

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.shown.append(request.headers.get("Authorization"))
        return httpx2.Response(
            302 if request.url.path == "/moved" else 200, headers={"Location": "http://evil/"}
        )


def wire(service: Service, token: str | None) -> Wire:
    return Wire(
        "http://127.0.0.1:8000",
        token=token,
        connections=1,
        policy=RetryPolicy(retries=0, base_s=0),
        transport=httpx2.MockTransport(service),
    )


async def test_every_kind_of_call_shows_the_token_and_only_to_the_service() -> None:
    service = Service()
    async with wire(service, "hl_mine") as own:
        await own.once("GET", "/")
        async with own.stream("/"):
            pass
        async with own.events("/"):
            pass
        with pytest.raises(PeerRefused, match="moved"):
            await own.once("GET", "/moved")
    assert service.shown == ["Bearer hl_mine"] * 4


async def test_an_uploads_own_token_is_shown_for_it_and_nothing_else() -> None:
    service = Service()
    async with wire(service, "hl_mine") as own:
        upload = own.bearing("upload")
        await upload.once("GET", "/")
        await own.once("GET", "/")
        await own.bearing(None).once("GET", "/")
    assert service.shown == ["Bearer upload", "Bearer hl_mine", "Bearer hl_mine"]


async def test_without_a_token_none_is_shown() -> None:
    service = Service()
    async with wire(service, None) as own:
        await own.once("GET", "/")
    assert service.shown == [None]


@pytest.mark.parametrize("token", ["", "two words", "line\nfeed", "caf\xe9", "tab\t"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_told(token: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire(Service(), token)
    assert not token or token not in str(caught.value)


def test_nothing_that_is_printed_shows_a_token() -> None:
    own = wire(Service(), "hl_mine").bearing("upload")
    begun = Begun.read({"id": "u", "status": "open", "chunk_size": 1, "token": "upload"})
    assert begun.token == "upload"
    assert "upload" not in repr(begun)
    assert "hl_mine" not in repr(own)
    assert "hl_mine" not in repr(own._http.headers)


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 1000


@pytest.mark.parametrize(("status", "error"), [(200, PeerUnreachable), (403, PeerRefused)])
async def test_an_endless_answer_is_not_read_to_its_end(
    status: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haulier.client.wire.MAX_ANSWER", 10_000)
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, content=endless()))
    async with Wire(
        "http://127.0.0.1:1", token=None, connections=1, policy=RetryPolicy(), transport=transport
    ) as wire:
        with pytest.raises(error):
            await wire.once("GET", "/api/records")
