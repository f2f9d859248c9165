"""What a proxy says is believed when it is the operator's own, and only where it makes sense."""

from typing import Any

import pytest

from haulier.server.addresses import base_url, route_path
from haulier.server.proxies import MAX_HOPS, PublicAddress, TrustedProxies

PROXY = "10.0.0.1"
CLIENT = "198.51.100.7"
LIAR = "203.0.113.9"


def request(*headers: tuple[str, str], client: str | None = PROXY, path: str = "/api/records") -> Any:
    return {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "headers": [
            (b"host", b"10.0.0.5:8000"),
            *((name.lower().encode(), value.encode("latin-1")) for name, value in headers),
        ],
        "server": ("10.0.0.5", 8000),
        "client": None if client is None else (client, 40000),
    }


async def seen(
    *headers: tuple[str, str],
    proxies: tuple[str, ...] = ("10.0.0.0/24",),
    public_url: str | None = None,
    **more: Any,
) -> Any:
    """Return the request as the rest of the service sees it."""
    got: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        got.append(scope)

    layer = PublicAddress(application, public_url=public_url, proxies=TrustedProxies.of(proxies))
    await layer(request(*headers, **more), None, None)  # type: ignore[arg-type]  # neither is touched
    return got[0]


async def client_seen(*headers: tuple[str, str], **more: Any) -> str:
    scope = await seen(*headers, **more)
    return str(scope["client"][0])


@pytest.mark.parametrize(
    ("said", "client"),
    [
        (CLIENT, CLIENT),
        (f"{LIAR}, {CLIENT}", CLIENT),
        (f"{CLIENT}, 10.0.0.2", CLIENT),
        (f"{LIAR}, {CLIENT}, 10.0.0.3, 10.0.0.2", CLIENT),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (f"{CLIENT}:1234", CLIENT),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:1234", "2001:db8::1"),
        (f"::ffff:{CLIENT}", CLIENT),
    ],
)
async def test_the_client_is_the_first_from_our_end_that_is_no_proxy_of_ours(said: str, client: str) -> None:
    assert await client_seen(("X-Forwarded-For", said)) == client
    elements = ", ".join(f'for="{each}"' if ":" in each else f"for={each}" for each in said.split(", "))
    if said != "2001:db8::1" and not said.startswith("::ffff"):
        assert await client_seen(("Forwarded", elements)) == client


@pytest.mark.parametrize(
    "said",
    [
        "unknown",
        "_hidden",
        "",
        ", ",
        f"{CLIENT},",
        "1.2.3",
        f"{CLIENT} x",
        ",".join([CLIENT] * (MAX_HOPS + 1)),
    ],
)
async def test_what_cannot_be_read_is_not_believed(said: str) -> None:
    assert await client_seen(("X-Forwarded-For", said)) == PROXY
    assert await client_seen(("Forwarded", f"for={said}")) == PROXY


@pytest.mark.parametrize(
    "said", ["for", "by=x", f'for="{CLIENT}', f"for={CLIENT};proto=http;proto=https", ";"]
)
async def test_a_broken_forwarded_is_not_believed(said: str) -> None:
    assert await client_seen(("Forwarded", said)) == PROXY


async def test_nobody_else_is_believed() -> None:
    headers = (
        ("X-Forwarded-For", LIAR),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Prefix", "/evil"),
        ("Forwarded", f"for={LIAR};proto=https;host=evil.example"),
    )
    for more in ({"client": CLIENT}, {"client": None}, {"proxies": ()}, {"client": "unix:"}):
        scope = await seen(*headers, **more)
        assert base_url(scope) == "http://10.0.0.5:8000"
        assert scope["client"] is None or scope["client"][0] != LIAR


async def test_scheme_and_name_are_the_ones_that_the_client_used() -> None:
    for headers in (
        (("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "HTTPS"), ("X-Forwarded-Host", "files.example")),
        (("Forwarded", f'for={CLIENT};proto=https;host="files.example"'),),
        (("Forwarded", f"For={CLIENT};Proto=https;Host=files.example, for=10.0.0.2;proto=http;host=inner"),),
    ):
        assert base_url(await seen(*headers)) == "https://files.example"


async def test_the_nearest_proxys_word_counts_of_several() -> None:
    scope = await seen(
        ("X-Forwarded-For", CLIENT),
        ("X-Forwarded-Proto", "http, https"),
        ("X-Forwarded-Host", "evil, files.example"),
    )
    assert base_url(scope) == "https://files.example"


async def test_a_scheme_that_nobody_speaks_is_not_believed() -> None:
    assert (await seen(("X-Forwarded-For", CLIENT), ("X-Forwarded-Proto", "gopher")))["scheme"] == "http"


async def test_of_two_kinds_that_contradict_each_other_neither_is_believed() -> None:
    both = (("X-Forwarded-For", CLIENT), ("Forwarded", f"for={LIAR};host=evil.example"))
    assert await client_seen(*both) == PROXY
    assert base_url(await seen(*both)) == "http://10.0.0.5:8000"
    assert await client_seen(("X-Forwarded-For", CLIENT), ("Forwarded", f"for={CLIENT}")) == CLIENT
    assert await client_seen(("X-Forwarded-For", CLIENT), ("Forwarded", "nonsense")) == PROXY


@pytest.mark.parametrize(
    ("prefix", "base"),
    [
        ("/files", "http://10.0.0.5:8000/files"),
        ("/a/b/", "http://10.0.0.5:8000/a/b"),
        ("//evil.example", "http://10.0.0.5:8000"),
        ("files", "http://10.0.0.5:8000"),
        ("/a?b", "http://10.0.0.5:8000"),
        ("", "http://10.0.0.5:8000"),
    ],
)
async def test_what_a_proxy_took_from_the_path_is_in_links(prefix: str, base: str) -> None:
    assert base_url(await seen(("X-Forwarded-For", CLIENT), ("X-Forwarded-Prefix", prefix))) == base


async def test_links_have_the_public_address_whatever_a_request_says() -> None:
    headers = (("X-Forwarded-For", CLIENT), ("X-Forwarded-Host", "other.example"))
    sides: list[Any] = [{}, {"client": LIAR}]
    for more in sides:
        scope = await seen(*headers, public_url="https://files.example/up", **more)
        assert base_url(scope) == "https://files.example/up"


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/records", "/api/records"),
        ("/up/api/records", "/api/records"),
        ("/upper/x", "/upper/x"),
        ("/up", "/up"),
    ],
)
async def test_the_public_path_may_be_there_or_taken_away(path: str, route: str) -> None:
    scope = await seen(public_url="https://files.example/up", path=path)
    assert route_path(scope) == route


async def test_what_is_no_request_passes_untouched() -> None:
    got: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        got.append(scope)

    lifespan = {"type": "lifespan"}
    layer = PublicAddress(application, public_url="https://f.example", proxies=TrustedProxies())
    await layer(lifespan, None, None)  # type: ignore[arg-type]  # neither is touched
    assert got == [lifespan]
