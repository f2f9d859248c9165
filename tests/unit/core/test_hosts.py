"""Which hosts are this machine."""

import pytest

from haulier.core.hosts import is_loopback, shown_address, split_base


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "192.0.2.1", "files.example", "notlocalhost", "app.localhost", "localhost.example"],
)
def test_nothing_else_is_taken_for_it(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://files.example/tus/", "https://files.example/tus/"),
        ("http://[::1]:8000/a@b;c", "http://[::1]:8000/a@b;c"),
        ("https://me:secret@files.example/tus/?token=secret", "https://***@files.example/tus/?***"),
        ("https://secret@files.example:8000", "https://***@files.example:8000"),
        ("https://me:sec@ret@files.example", "https://***@files.example"),
        ("files.example/?secret#secret", "files.example/?***#***"),
        ("me:secret@files.example", "***"),
        ("https://me:sec/ret@files.example", "***"),
        ("https://me:sec?ret@files.example", "***"),
        ("http://[::1", "http://[::1"),
        ("http://[?secret", "***"),
    ],
)
def test_an_address_is_shown_without_what_lets_somebody_use_it(url: str, shown: str) -> None:
    assert shown_address(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "http://files.example/\udcff", "http://files.example/é", "http://files.example/a b", "http://files.example/\n",
        " http://files.example", "http://müller.example",
    ],
)  # fmt: skip
def test_an_address_that_no_request_can_carry_is_refused_where_it_is_given(url: str) -> None:
    with pytest.raises(ValueError, match=r"^must be visible ASCII: "):
        split_base(url, example="http://127.0.0.1:8000")


def test_an_address_is_taken_apart() -> None:
    parts = split_base("https://xn--mller-kva.example:8443/a%20b/", example="http://127.0.0.1:8000")
    assert (parts.scheme, parts.hostname, parts.port, parts.path) == (
        "https", "xn--mller-kva.example", 8443, "/a%20b/",
    )  # fmt: skip
