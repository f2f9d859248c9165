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
    settings("tus", header__X_Key="k", parallel="4", one_request="yes"),
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
        (settings("haulier", bucket="b"), "haulier knows ca, capsule, digest, slots, verify"),
        (settings("tus", capsule="c"), "tus knows ca, header, one_request, parallel, slots, verify"),
        (settings("tus", parallel="0"), "a number, 1 to 16"),
        (settings("tus", parallel="many"), "a number, 1 to 16"),
        (settings("tus", one_request="maybe"), "it must be one of true, yes, false, no"),
        (settings("s3"), "s3 needs the name of a bucket"),
        (settings("s3", bucket="b", path_style="maybe"), "it must be one of true, yes, false, no"),
        (settings("s3", bucket="b", checksums="never"), "when_supported, when_required"),
        (settings("haulier", digest="crc64"), "is not one of"),
        (settings("haulier", url="ftp://x"), "it must look like https://files.example"),
        (
            settings("tus", url="https://me:hunter2@files.example/f"),
            r"^url='https://\*\*\*@files.example/f' .*Authorization",
        ),
        (settings("tus", url="ftp://me:hunter2@x"), r"^url='ftp://\*\*\*@x' "),
        (
            settings("haulier", url="http://x/?key=hunter2"),
            r"^url='http://x/\?\*\*\*' .*haulier remote login",
        ),
        (settings("haulier", url="http://x/?"), "must not have a query"),
        (settings("s3", url="http://x?hunter2", bucket="b"), "must not have a query"),
        (
            settings("onedrive", url="http://x?hunter2", token_command="true"),
            "^url=.* must not have a query",
        ),
        (
            settings("onedrive", base_url="http://a:hunter2@x", token_command="true"),
            "^option base_url='http://\\*\\*\\*@x' ",
        ),
        (
            settings("onedrive", login="device", client_id="c", authority="https://x?hunter2"),
            "^option authority=.* must not have a query",
        ),
        (settings("tus", url="http://me:hun/ter2@x"), r"^url='\*\*\*' .*must be an address like"),
        (settings("tus", url="http://x:99999"), "it must be an address"),
        (settings("s3", bucket="no/folders"), "^option bucket='no/folders' .*letters, digits"),
        (
            settings("s3", bucket="b", region="eu central"),
            "^option region='eu central' .*such as eu-central-1",
        ),
        (settings("s3", bucket="b", region=""), "^option region='' "),
        (settings("onedrive"), "onedrive needs token_command"),
        (settings("tus", header="hunter2"), r"^option header='\*\*\*' .*the name of a header"),
        (settings("tus", header__="hunter2"), "the name of a header"),
        (settings("tus", header__X_Y="hunter2\r\nA: b"), r"^option header.X_Y='\*\*\*' .*printable ASCII"),
        (settings("tus", **{"header__X Y": "hunter2"}), "the name of a header"),
        (settings("tus", header__Host="hunter2"), "a header that is not ours"),
    ],
)
async def test_what_cannot_work_is_told_with_what_can(given: RemoteSettings, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as told:
        make_remote(given)
    assert "hun" not in repr(told.value) + str(told.value)


@pytest.mark.parametrize("text", ["hunter2\n", "hün", "", " hunter2", "hunter\x002"])
def test_a_secret_that_no_request_can_carry_is_refused_and_not_told(text: str) -> None:
    given = RemoteSettings(name="r", type="haulier", url="http://x", secrets={"token": Secret(text)})
    with pytest.raises(ConfigError, match=r"^secret token='\*\*\*' .*printable ASCII") as told:
        check_settings(given)
    assert "hun" not in repr(told.value) + str(told.value)


def test_half_a_pair_of_keys_is_a_mistake() -> None:
    given = RemoteSettings(
        name="r", type="s3", url="http://x", options={"bucket": "b"}, secrets={"access_key": Secret("a")}
    )
    with pytest.raises(ConfigError, match="together"):
        make_remote(given)


def test_settings_are_checked_before_there_are_secrets() -> None:
    check_settings(settings("s3", bucket="b"))
    program = settings("onedrive", login="client", client_id="c", tenant="t", drive_id="d")
    check_settings(program)
    with pytest.raises(ConfigError, match="haulier remote login r asks for it"):
        make_remote(program)


def test_values_are_checked_before_anything_is_made() -> None:
    with pytest.raises(ConfigError, match="needs the name of a bucket"):
        check_settings(settings("s3"))


@pytest.mark.parametrize("name", ["token", "password"])
def test_the_value_of_an_unknown_option_is_never_told(name: str) -> None:
    with pytest.raises(ConfigError) as told:
        check_settings(settings("haulier", **{name: "hl_very-secret"}))
    assert f"option {name}=" in str(told.value)
    assert "hl_very-secret" not in repr(told.value) + str(told.value)


@pytest.mark.parametrize(
    ("kind", "known"),
    [("s3", "access_key, secret_key"), ("onedrive", "client_secret")],
)
def test_a_secret_that_a_kind_has_no_use_for_is_refused_and_not_told(kind: str, known: str) -> None:
    given = RemoteSettings(name="r", type=kind, url="http://x", secrets={"token": Secret("hl_very-secret")})
    with pytest.raises(ConfigError, match=f"{kind} takes {known}") as told:
        check_settings(given)
    assert "hl_very-secret" not in repr(told.value) + str(told.value)
