"""Keys that botocore finds: where they change while a process runs, and where something keeps it from them."""

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import pytest

from haulier.core.errors import PeerBlocked, PeerRefused
from haulier.core.secret import Secret
from haulier.core.transfer import Obstacle
from haulier.remotes.s3 import S3Remote
from haulier.testing.remote_contract import Sources, delivery_of
from tests.interop.remotes.test_strange_answers import Host, host, said

Write = Callable[[str], None]

REFUSED = said(
    "403 Forbidden", "<Error><Code>SignatureDoesNotMatch</Code><Message>in words</Message></Error>"
)


def keys(name: str) -> str:
    return f"[default]\naws_access_key_id={name}\naws_secret_access_key=a-secret-of-some-length\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the files that botocore looks into; nothing else is set."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "credentials"))

    def write(text: str) -> None:
        (tmp_path / "credentials").write_text(text)

    return write


@pytest.fixture
async def service() -> AsyncIterator[Host]:
    """Lets in who signs as NEW."""

    def answer(method: str, _port: int) -> bytes:
        head = made.heads[-1]
        if not re.search(r"Credential=NEW(/|%2F)", head):
            return REFUSED
        return said("404 Not Found") if "/b/" in head and method == "HEAD" else said("200 OK", ETag='"e"')

    async with host(answer) as made:
        yield made


async def test_keys_that_come_into_their_file_are_found_when_none_were(service: Host, write: Write) -> None:
    remote = S3Remote(service.url, bucket="b")
    with pytest.raises(PeerBlocked, match="Unable to locate credentials"):
        await remote.probe()
    write(keys("NEW"))
    await remote.probe()
    await remote.close()


async def test_keys_that_were_replaced_in_their_file_are_found_when_the_old_ones_are_refused(
    service: Host, write: Write
) -> None:
    write(keys("OLD"))
    remote = S3Remote(service.url, bucket="b")
    with pytest.raises(PeerBlocked, match="the keys are refused"):
        await remote.probe()
    write(keys("NEW"))
    await remote.probe()
    await remote.close()


async def test_a_body_that_was_refused_goes_again_with_the_new_keys(
    service: Host, write: Write, sources: Sources
) -> None:
    write(keys("OLD"))
    remote = S3Remote(service.url, bucket="b")
    with pytest.raises(PeerBlocked):
        await remote.probe()
    write(keys("NEW"))
    delivery = delivery_of(remote, sources, Random(48).randbytes(1000))
    service.heads.clear()
    stored = await delivery.end(await remote.create(delivery.outgoing))
    assert stored is not None
    assert stored.etag == "e"
    assert [head.split(" ", 1)[0] for head in service.heads] == ["PUT", "PUT"]
    await remote.close()


async def test_keys_that_are_still_the_same_are_refused_once(service: Host, write: Write) -> None:
    write(keys("OLD"))
    remote = S3Remote(service.url, bucket="b")
    with pytest.raises(PeerBlocked):
        await remote.probe()
    assert len(service.heads) == 1
    await remote.close()


async def test_keys_of_the_remotes_own_are_not_looked_for_elsewhere(service: Host, write: Write) -> None:
    write(keys("NEW"))
    remote = S3Remote(service.url, bucket="b", keys=(Secret("OLD"), Secret("secret")))
    with pytest.raises(PeerBlocked):
        await remote.probe()
    assert len(service.heads) == 1
    await remote.close()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("[default\n", "Unable to parse config file"),
        ("[profile other]\n", "The config profile .nope. could not be found"),
        (
            "[default]\ncredential_process=/bin/sh -c 'echo hunter2 >&2; exit 1'\n",
            "cannot be had from custom-process",
        ),
        ("[default]\ncredential_process=/bin/echo hunter2\n", "cannot be had from a program"),
        ("[default]\ncredential_process=/no/such/program\n", "cannot be had from a program"),
        (
            "[default]\nsso_start_url=https://x/\nsso_region=r\nsso_account_id=1\nsso_role_name=r\n",
            "SSO Token",
        ),
    ],
    ids=["no configuration", "no profile", "a failing program", "no keys", "no program", "not signed in"],
)
async def test_what_keeps_from_the_keys_blocks_until_somebody_has_mended_it(
    service: Host, write: Write, monkeypatch: pytest.MonkeyPatch, config: str, told: str
) -> None:
    write(config)
    if "other" in config:
        monkeypatch.setenv("AWS_PROFILE", "nope")
    remote = S3Remote(service.url, bucket="b")
    with pytest.raises(PeerBlocked, match=told) as blocked:
        await remote.probe()
    assert blocked.value.obstacle is Obstacle.AUTH
    assert "hunter2" not in str(blocked.value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    write(keys("NEW"))
    await remote.probe()
    await remote.close()


async def test_a_bucket_that_nobody_can_sign_for_is_final(service: Host, write: Write) -> None:
    write(keys("NEW"))
    remote = S3Remote(service.url, bucket="no such name")
    with pytest.raises(PeerRefused, match="Invalid bucket name"):
        await remote.probe()
    await remote.close()
