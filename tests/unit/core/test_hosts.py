"""Which hosts are this machine."""

import pytest

from haulier.core.hosts import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "192.0.2.1", "files.example", "notlocalhost", "app.localhost", "localhost.example"],
)
def test_nothing_else_is_taken_for_it(host: str) -> None:
    assert not is_loopback(host)
