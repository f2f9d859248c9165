"""Remotes made from their settings."""

import pytest

from haulier.core.errors import ConfigError
from haulier.core.outgoing import IfExists
from haulier.core.secret import Secret
from haulier.remotes.catalogue import KINDS, RemoteSettings, check_settings, make_remote


def settings(kind: str, url: str = "http://127.0.0.1:9", **options: str) -> RemoteSettings:
    return RemoteSettings(
        name="r", type=kind, url=url, options={k.replace("__", "."): v for k, v in options.items()}
    )


GOOD = [
    settings("haulier", capsule="photos", digest="blake3"),
    settings("tus", header__X_Key="k"),
    settings("s3", bucket="b", region="eu-west-1", prefix="in/", path_style="yes", checksums="when_required"),
    settings("onedrive", drive_id="d", drive_type="business", token_command="true"),
    settings("haulier", verify="strict", slots="2"),
]


@pytest.mark.parametrize("given", GOOD, ids=["haulier", "tus", "s3", "onedrive", "of the manager"])
async def test_a_remote_is_made_of_its_settings(given: RemoteSettings) -> None:
    remote = make_remote(given)
    assert IfExists.REPLACE in remote.limits.if_exists
    await remote.close()


def test_there_are_four_kinds() -> None:
    assert sorted(KINDS) == ["haulier", "onedrive", "s3", "tus"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (settings("ftp"), "it must be one of haulier, tus, s3, onedrive"),
        (settings("haulier", bucket="b"), "haulier knows capsule, digest, slots, verify"),
        (settings("tus", capsule="c"), "tus knows header, slots, verify"),
        (settings("s3"), "s3 needs the name of a bucket"),
        (settings("s3", bucket="b", path_style="maybe"), "it must be one of true, yes, false, no"),
        (settings("s3", bucket="b", checksums="never"), "when_supported, when_required"),
        (settings("haulier", digest="crc64"), "is not one of"),
        (settings("haulier", url="ftp://x"), "it must look like https://files.example"),
        (settings("tus", url="http://x:99999"), "it is no address"),
        (settings("onedrive"), "onedrive needs token_command"),
    ],
)
async def test_what_cannot_work_is_told_with_what_can(given: RemoteSettings, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        make_remote(given)


def test_half_a_pair_of_keys_is_a_mistake() -> None:
    given = RemoteSettings(
        name="r", type="s3", url="http://x", options={"bucket": "b"}, secrets={"access_key": Secret("a")}
    )
    with pytest.raises(ConfigError, match="together"):
        make_remote(given)


def test_settings_are_checked_before_anything_is_made() -> None:
    check_settings(settings("s3", bucket="b"))
