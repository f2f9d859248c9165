"""Remotes whose certificates are of an authority of their own, and remotes behind a proxy: calls and bodies alike."""

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from haulier.client import Client
from haulier.core.errors import ConfigError, PeerRefused, PeerUnreachable
from haulier.core.outgoing import Stored
from haulier.core.retry import RetryPolicy
from haulier.core.secret import Secret
from haulier.core.values import dataclass
from haulier.remotes.catalogue import RemoteSettings, make_remote
from haulier.sending_ports import Remote
from haulier.testing.remote_contract import Sources, delivery_of
from tests.interop.remotes.servers import Server, program, running
from tests.interop.remotes.test_s3 import BUCKET, KEYS, MIB, Endpoint
from tests.interop.remotes.test_strange_answers import host, said
from tests.support.components import require
from tests.support.ports import free_port

KINDS = ("haulier", "tus", "s3", "onedrive")
ENVIRONMENT = ("SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")


@dataclass
class Authority:
    """An authority that nobody trusts, which has signed for this machine."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "authority.pem"

    @property
    def by_hash(self) -> Path:
        """A folder as OpenSSL looks certificates up in."""
        found = self.folder / "by-hash"
        if not found.exists():
            found.mkdir()
            named = openssl("x509", "-in", self.certificate, "-noout", "-hash").strip()
            (found / f"{named}.0").write_bytes(self.certificate.read_bytes())
        return found

    @property
    def serving(self) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.folder / "host.pem", self.folder / "host.key")
        return made


def openssl(*arguments: str | Path) -> str:
    command = [require("openssl"), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("authority")
    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    own = ("-keyout", folder / "authority.key", "-out", folder / "authority.pem", "-subj", "/CN=An authority")
    openssl(*new, *own)
    openssl(
        *(
            *new,
            "-CA",
            folder / "authority.pem",
            "-CAkey",
            folder / "authority.key",
            "-subj",
            "/CN=localhost",
        ),
        *("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"),
        *("-keyout", folder / "host.key", "-out", folder / "host.pem"),
    )
    return Authority(folder)


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ENVIRONMENT, "http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def made(kind: str, url: str, **more: str) -> Remote:
    own = {"s3": {"bucket": BUCKET}, "onedrive": {"token_command": "echo token"}}
    secrets = {"access_key": Secret(KEYS[0]), "secret_key": Secret(KEYS[1])} if kind == "s3" else {}
    return make_remote(
        RemoteSettings(
            name="there", type=kind, url=url, options={**own.get(kind, {}), **more}, secrets=secrets
        )
    )


async def probed(remote: Remote) -> None:
    try:
        await remote.probe()
    finally:
        await remote.close()


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    async def test_an_authority_is_trusted_by_its_option_or_the_environment(
        self, kind: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer = said("200 OK", '{"id": "x"}', Tus_Version="1.0.0", Content_Type="application/json")
        async with host(lambda *_: answer, tls=authority.serving) as server:
            url = f"https://127.0.0.1:{server.port}"
            with pytest.raises(PeerUnreachable, match="certificate"):
                await probed(made(kind, url))
            assert server.heads == []
            await probed(made(kind, url, ca=str(authority.certificate)))
            await probed(made(kind, url, ca=str(authority.by_hash)))
            with monkeypatch.context() as here:
                here.setenv("SSL_CERT_FILE", str(authority.certificate))
                await probed(made(kind, url))
            monkeypatch.setenv("SSL_CERT_DIR", str(authority.by_hash))
            await probed(made(kind, url))
        assert len(server.heads) >= 4

    @pytest.mark.parametrize("place", ["relative.pem", "/no/such.pem", __file__])
    def test_what_is_no_certificate_is_told(self, kind: str, place: str) -> None:
        with pytest.raises(ConfigError, match="option ca"):
            made(kind, "https://there.example", ca=place)

    async def test_calls_go_through_the_proxy_of_the_environment(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer = said("200 OK", '{"id": "x"}', Tus_Version="1.0.0", Content_Type="application/json")
        async with host(lambda *_: answer) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            await probed(made(kind, "http://there.example"))
        assert [head.split()[1].startswith("http://there.example/") for head in proxy.heads] == [True]


async def test_an_upload_at_an_address_without_encryption_is_refused_with_the_cure(
    authority: Authority, sources: Sources
) -> None:
    answer = said("201 Created", Location="http://127.0.0.1:9/1", Tus_Version="1.0.0")
    async with host(lambda *_: answer, tls=authority.serving) as server:
        remote = made("tus", f"https://127.0.0.1:{server.port}", ca=str(authority.certificate))
        try:
            with pytest.raises(PeerRefused, match="X-Forwarded-Proto") as told:
                await remote.create(delivery_of(remote, sources, b"data").outgoing)
        finally:
            await remote.close()
    assert told.value.slug == "other-scheme"


async def test_a_client_of_a_service_on_this_machine_trusts_what_the_environment_names(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes no proxy from there, but this."""
    answer = said("200 OK", '{"items": [], "next": null}', Content_Type="application/json")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    async with host(lambda *_: answer, tls=authority.serving) as server:
        url = f"https://127.0.0.1:{server.port}"
        async with Client(url, retry=RetryPolicy(retries=0)) as client:
            with pytest.raises(PeerUnreachable, match="certificate"):
                await anext(client.list(), None)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        async with Client(url) as client:
            assert await anext(client.list(), None) is None


@pytest.fixture(scope="module")
def encrypted(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """`rclone serve s3` with a certificate of that authority."""
    folder, port = tmp_path_factory.mktemp("rclone"), free_port()
    (folder / "files" / BUCKET).mkdir(parents=True)
    command = [
        *(program("rclone"), "serve", "s3", str(folder / "files"), "--addr", f"127.0.0.1:{port}"),
        *("--auth-key", ",".join(KEYS), "--config", str(folder / "rclone.conf")),
        *("--cert", str(authority.folder / "host.pem"), "--key", str(authority.folder / "host.key")),
    ]
    server = Server(command, folder, ready=lambda: b"ready" in _greeting(port, authority))
    with running(server):
        yield Endpoint(port, server)


def _greeting(port: int, authority: Authority) -> bytes:
    import socket

    try:
        context = ssl.create_default_context(cafile=authority.certificate)
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1"),
        ):
            return b"ready"
    except OSError:
        return b""


@pytest.mark.parametrize("size", [3, 16 * MIB + 1])
async def test_s3_calls_and_bodies_trust_alike(
    encrypted: Endpoint, authority: Authority, size: int, sources: Sources
) -> None:
    data = Random(size).randbytes(size)
    remote = made("s3", f"https://127.0.0.1:{encrypted.port}", ca=str(authority.certificate))
    stored = await delivery_of(remote, sources, data, name=f"file-{size}").run()
    await remote.close()
    assert isinstance(stored, Stored)
    assert (encrypted.server.folder / "files" / BUCKET / f"file-{size}").read_bytes() == data
