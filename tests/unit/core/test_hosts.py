"""Which hosts are this machine."""

import pytest

from haulier.core.hosts import is_loopback, shown_address


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
