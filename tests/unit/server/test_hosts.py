"""Which names a service with tokens answers to."""

from typing import Any

import pytest

from haulier.config import Settings
from haulier.server.errors import HostRefused
from haulier.server.hosts import host_rules


def judge(
    *hosts: str, server: str = "192.0.2.4", port: int = 8000, scheme: str = "http", **settings: Any
) -> None:
    scope = {
        "type": "http",
        "scheme": scheme,
        "headers": [(b"host", host.encode()) for host in hosts],
        "server": (server, port),
    }
    host_rules(Settings(require_tokens=True, **settings)).require(scope)


@pytest.mark.parametrize("host", ["192.0.2.4:8000", "files.lan:8000", "FILES.lan:8000"])
def test_the_address_of_the_connection_and_the_name_to_listen_on_are_ours(host: str) -> None:
    judge(host, host="files.lan")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_on_loopback_every_name_of_this_machine_is_ours(host: str) -> None:
    judge(host, server="127.0.0.1")
    judge(host, server="::1")
    with pytest.raises(HostRefused):
        judge(host)  # the connection came from elsewhere


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8000",
        "192.0.2.5:8000",
        "192.0.2.4:8001",
        "192.0.2.4",
        "0.0.0.0:8000",
        "",
        "files.example",
    ],
)
def test_every_other_name_is_refused(host: str) -> None:
    with pytest.raises(HostRefused, match="HAULIER_ALLOWED_HOST"):
        judge(host, host="0.0.0.0")


def test_no_name_or_two_names_are_refused() -> None:
    for hosts in ((), ("192.0.2.4:8000", "192.0.2.4:8000")):
        with pytest.raises(HostRefused):
            judge(*hosts)


@pytest.mark.parametrize(
    "host", ["files.example", "files.example:443", "files.example:8000", "Files.Example"]
)
def test_the_public_address_is_ours_with_every_port(host: str) -> None:
    judge(host, public_url="https://files.example/up")


@pytest.mark.parametrize(
    "host", ["files.example.evil", "files.example:", "files.example:x", "u@files.example"]
)
def test_what_looks_like_the_public_address_is_refused(host: str) -> None:
    with pytest.raises(HostRefused):
        judge(host, public_url="https://files.example")


def test_given_names_hold_with_their_port_or_with_every_one() -> None:
    given: Any = {"allowed_host": ("files.lan", "b.lan:9000", "[2001:db8::1]:9000")}
    for host in ("files.lan", "files.lan:1", "b.lan:9000", "[2001:db8::1]:9000"):
        judge(host, **given)
    for host in ("b.lan", "b.lan:8000", "a.files.lan", "[2001:db8::1]"):
        with pytest.raises(HostRefused):
            judge(host, **given)


def test_the_usual_port_may_be_left_out() -> None:
    judge("192.0.2.4", port=80)
    judge("192.0.2.4", port=443, scheme="https")
    judge("[2001:db8::5]", server="2001:db8::5", port=80)
