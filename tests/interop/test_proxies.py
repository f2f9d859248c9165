"""The configurations for proxies that are shipped in `deploy`, and what the doctor finds behind others."""

import os
import pwd
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from haulier.core.caller import Scope
from tests.support.callers import make_token
from tests.support.components import require
from tests.support.outsider import Outsider
from tests.support.ports import free_port
from tests.support.processes import Commands, Ran, serving, wait_until
from tests.support.tus import TUS

DEPLOY = Path(__file__).parents[2] / "deploy"
INTERIM_OFF = {"HAULIER_INTERIM_RESPONSES": "false"}


@contextmanager
def nginx(folder: Path, config: str) -> Iterator[None]:
    """Run nginx with a server block."""
    user = pwd.getpwuid(os.getuid()).pw_name
    temp = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy"))
    (folder / "nginx.conf").write_text(
        f"user {user}; daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{temp}{config}}}\n"
    )
    with running([require("nginx"), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]):
        yield


@contextmanager
def caddy(folder: Path, config: str) -> Iterator[None]:
    """Run Caddy."""
    (folder / "Caddyfile").write_text(config)
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with running([require("caddy"), "run", "--config", f"{folder}/Caddyfile"], env={**os.environ, **home}):  # noqa: TID251 - for a foreign program
        yield


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[None]:
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    ) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


PROXIES = {"nginx.conf": nginx, "Caddyfile": caddy}


@contextmanager
def behind(
    name: str, folder: Path, *, settings: dict[str, str], changed: tuple[str, str] = ("", "")
) -> Iterator[tuple[str, dict[str, str], Commands]]:
    """Run a service behind a proxy with its shipped configuration; the public address, a token, and commands."""
    port = free_port()
    public = f"http://127.0.0.1:{port}"
    (folder / "proxy").mkdir()
    token = make_token(folder / "data", "operator", Scope.OPERATOR)
    told = {"HAULIER_PUBLIC_URL": public, "HAULIER_TRUSTED_PROXIES": "127.0.0.1", **settings}
    with serving(folder / "data", told) as service:
        config = (DEPLOY / name).read_text().replace(*changed) if changed[0] else (DEPLOY / name).read_text()
        config = config.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace(":8000", f":{service.port}")
        with PROXIES[name](folder / "proxy", config):
            wait_until(lambda: is_up(port), "the proxy answers")
            yield public, token.header, Commands(public, folder / "home")


def is_up(port: int) -> bool:
    try:
        return Outsider(port).ask("GET", "/healthz").status == 200
    except ConnectionError:
        return False


def doctor(commands: Commands, public: str, header: dict[str, str], **settings: str) -> Ran:
    token = header["Authorization"].removeprefix("Bearer ")
    return commands.run("doctor", "--through", public, given=None, HAULIER_TOKEN=token, **settings)


def verdicts(ran: Ran) -> dict[str, bool]:
    """Read what the doctor says."""
    lines = [line[7:].partition(":")[0] for line in ran.out.splitlines()]
    return dict(zip(lines, [line.startswith("ok") for line in ran.out.splitlines()], strict=True))


ALL = ["service", "links", "request bodies", "104"]


@pytest.mark.parametrize(("name", "settings"), [("nginx.conf", INTERIM_OFF), ("Caddyfile", {})])
def test_a_shipped_configuration_passes_everything_on(
    name: str, settings: dict[str, str], tmp_path: Path
) -> None:
    with behind(name, tmp_path, settings=settings) as (public, header, commands):
        found = doctor(commands, public, header, **settings)
        assert verdicts(found) == dict.fromkeys(ALL, True), found
        assert found.code == 0
        outsider = Outsider(int(public.rpartition(":")[2]))
        created = outsider.ask("POST", "/tus/", b"", {**TUS, **header, "Upload-Length": "3"})
        assert created.headers["location"].startswith(f"{public}/tus/")
        listed = outsider.ask("GET", "/api/records?limit=100", b"", header).json["items"]
        # What the doctor began is cancelled.
        assert [
            record["status"] for record in listed if record["id"] != created.headers["haulier-record"]
        ] == ["cancelled"] * (len(listed) - 1)


def test_the_doctor_finds_a_proxy_that_holds_bodies_back(tmp_path: Path) -> None:
    changed = ("proxy_request_buffering off;", "proxy_request_buffering on; ")
    with behind("nginx.conf", tmp_path, settings=INTERIM_OFF, changed=changed) as (public, header, commands):
        found = doctor(commands, public, header, **INTERIM_OFF)
        assert verdicts(found) == {**dict.fromkeys(ALL, True), "request bodies": False}, found
        assert found.code == 1


def test_the_doctor_finds_a_proxy_that_does_not_pass_104_on(tmp_path: Path) -> None:
    with behind("nginx.conf", tmp_path, settings={}) as (public, header, commands):
        found = doctor(commands, public, header)
        assert verdicts(found) == {**dict.fromkeys(ALL, True), "104": False}, found
        assert "HAULIER_INTERIM_RESPONSES=false" in found.out
        assert found.code == 1


def test_the_doctor_says_when_nobody_answers(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    found = Commands(url, tmp_path / "home").run("doctor", "--through", url)
    assert (found.code, verdicts(found)) == (1, {"service": False})


@pytest.mark.parametrize("url", ["files.example", "127.0.0.1:8080", "ftp://127.0.0.1", "http://"])
def test_the_doctor_says_what_an_address_looks_like(tmp_path: Path, url: str) -> None:
    found = Commands(url, tmp_path / "home").run("doctor", "--through", url)
    assert found.code == 1
    assert found.out == f"WRONG  service: {url}: must be an address like https://files.example\n"


FRAMED_ANEW = (
    b"403 Forbidden\r\nContent-Type: application/problem+json\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'9;x=y\r\n{"detail"\r\nb\r\n:"not here"\r\n1\r\n}\r\n0\r\nX-Sum: 1\r\n\r\n'
)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"404 Not Found\r\nContent-Length: 0\r\n\r\n", "404, and not by the service"),
        (FRAMED_ANEW, "403: not here"),
    ],
    ids=["somebody else", "framed anew"],
)
def test_the_doctor_tells_a_refusal_in_its_own_words(tmp_path: Path, answer: bytes, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 " + answer)

        refusing = threading.Thread(target=refuse)
        refusing.start()
        found = Commands(url, tmp_path / "home").run("doctor", "--through", url)
        refusing.join()
    assert found.code == 1
    assert words in found.out
