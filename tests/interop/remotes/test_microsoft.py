"""Signing in for OneDrive: by a code for a person, by a secret for a program, against an authority on this machine."""

import asyncio
import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from haulier.core.errors import ConfigError, PeerBlocked, PeerBusy, PeerUnreachable
from haulier.core.secret import Secret
from haulier.core.transfer import Obstacle
from haulier.remotes.catalogue import RemoteSettings, make_remote, sign_in_of
from haulier.remotes.microsoft import MicrosoftTokens
from tests.support.microsoft import CLIENT, SECRET, TENANT, Authority, authority
from tests.support.ports import free_port
from tests.support.processes import Commands

GRAPH = "https://graph.example"


@pytest.fixture
def microsoft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    with authority(tmp_path) as made:
        monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
        yield made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "drive.tokens"


def settings(microsoft: Authority, cache: Path | None, login: str = "device", **more: str) -> RemoteSettings:
    options = {"login": login, "client_id": CLIENT, "authority": microsoft.url, "tenant": TENANT}
    return RemoteSettings(
        name="drive",
        type="onedrive",
        url=f"{GRAPH}/v1.0",
        options={**options, "drive_id": "d", **more},
        secrets={"client_secret": Secret(SECRET)} if login == "client" else {},
        tokens=cache,
    )


def tokens_of(given: RemoteSettings) -> MicrosoftTokens:
    made = sign_in_of(given)
    assert made is not None
    return made


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def no_new_files(folder: Path) -> Iterator[None]:
    """Let no file be made in a folder, as on a disk that is full."""
    opened = os.open

    def refuse(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_CREAT and Path(path).parent == folder:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return opened(path, flags, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", refuse)
        yield


def text_of(path: Path) -> str:
    return path.read_text()


class TestDeviceCode:
    async def test_a_person_enters_a_code_and_later_runs_need_none(
        self, microsoft: Authority, cache: Path
    ) -> None:
        told: list[str] = []
        await tokens_of(settings(microsoft, cache)).sign_in(told.append)
        assert told == [f"Open {microsoft.url}/device and enter the code ABCD1234."]
        assert microsoft.grants == ["device_code", "device_code"]
        assert f"{GRAPH}/Files.ReadWrite.All" in microsoft.scopes[-1]
        assert mode_of(cache) == 0o600
        # Another process: from the file, without a question.
        again = tokens_of(settings(microsoft, cache))
        assert await again(False) == "access-1"
        assert len(microsoft.grants) == 2
        # One that was refused is replaced, and so is the one that renews.
        assert await again(True) == "access-2"
        assert microsoft.grants[2:] == ["refresh_token"]
        assert await tokens_of(settings(microsoft, cache))(True) == "access-3"

    @pytest.mark.parametrize("status", [500, 503])
    async def test_an_authority_that_fails_while_the_code_is_entered_is_asked_again(
        self, microsoft: Authority, cache: Path, status: int
    ) -> None:
        microsoft.failing = status
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(tokens_of(settings(microsoft, cache)).sign_in(lambda _: None))
            assert await asyncio.to_thread(microsoft.failed.wait, 60)
            microsoft.failing = 0
        assert microsoft.grants[-1] == "device_code"
        assert await tokens_of(settings(microsoft, cache))(False) == "access-1"

    async def test_who_has_not_signed_in_is_blocked_and_told_how(
        self, microsoft: Authority, cache: Path
    ) -> None:
        with pytest.raises(PeerBlocked, match="haulier remote login drive") as told:
            await tokens_of(settings(microsoft, cache))(False)
        assert told.value.obstacle is Obstacle.AUTH
        assert microsoft.grants == []

    async def test_a_sign_in_that_was_ended_there_blocks(self, microsoft: Authority, cache: Path) -> None:
        tokens = tokens_of(settings(microsoft, cache))
        await tokens.sign_in(lambda _: None)
        microsoft.refresh = "another"
        with pytest.raises(PeerBlocked, match="AADSTS70008") as told:
            await tokens(True)
        assert "refresh-" not in str(told.value)

    async def test_a_code_that_is_declined_is_told(self, microsoft: Authority, cache: Path) -> None:
        microsoft.declined = True
        with pytest.raises(PeerBlocked, match="AADSTS70017"):
            await tokens_of(settings(microsoft, cache)).sign_in(lambda _: None)


class TestClientCredentials:
    async def test_a_program_signs_in_by_its_secret(self, microsoft: Authority, cache: Path) -> None:
        tokens = tokens_of(settings(microsoft, cache, "client"))
        await tokens.sign_in(lambda _: None)
        assert [await tokens(False), await tokens(True)] == ["access-1", "access-2"]
        assert microsoft.grants == ["client_credentials", "client_credentials"]
        assert microsoft.scopes[-1] == f"{GRAPH}/.default"
        assert SECRET not in text_of(cache)

    async def test_a_wrong_secret_blocks_and_is_not_told(self, microsoft: Authority) -> None:
        given = settings(microsoft, None, "client")
        given = RemoteSettings(
            name="drive",
            type="onedrive",
            url=given.url,
            options=given.options,
            secrets={"client_secret": Secret("wrong-secret")},
        )
        with pytest.raises(PeerBlocked, match="AADSTS7000215") as told:
            await tokens_of(given)(False)
        assert "wrong-secret" not in str(told.value)


class TestCertificates:
    async def test_an_authority_is_trusted_by_the_option_of_the_remote(
        self, microsoft: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(PeerUnreachable, match="certificate"):
            await tokens_of(settings(microsoft, None, "client"))(False)
        known = settings(microsoft, None, "client", ca=str(microsoft.certificate))
        assert await tokens_of(known)(False) == "access-1"


class TestCache:
    """A file that cannot be written, or read: what is in memory is good."""

    async def test_a_token_that_cannot_be_kept_is_used_all_the_same(
        self, microsoft: Authority, tmp_path: Path
    ) -> None:
        tokens = tokens_of(settings(microsoft, tmp_path / "gone" / "drive.tokens", "client"))
        assert [await tokens(False), await tokens(False), await tokens(True)] == [
            "access-1",
            "access-1",
            "access-2",
        ]

    async def test_what_could_not_be_kept_is_kept_when_it_can_and_no_older_one_takes_its_place(
        self, microsoft: Authority, tmp_path: Path
    ) -> None:
        home = tmp_path / "home"
        home.mkdir()
        cache = home / "drive.tokens"
        tokens = tokens_of(settings(microsoft, cache))
        await tokens.sign_in(lambda _: None)
        # What takes the new file's place, so that none can be made: whoever may do all may write in every folder.
        with no_new_files(home):
            assert await tokens(True) == "access-2"
            assert await tokens(False) == "access-2"
            assert "access-1" in text_of(cache)
        assert await tokens(True) == "access-3"
        assert "access-3" in text_of(cache)
        assert [each.name for each in home.iterdir()] == ["drive.tokens"]

    async def test_one_that_cannot_be_read_is_none(self, microsoft: Authority, tmp_path: Path) -> None:
        cache = tmp_path / "drive.tokens"
        cache.mkdir()
        assert await tokens_of(settings(microsoft, cache, "client"))(False) == "access-1"

    async def test_a_sign_in_that_cannot_be_kept_is_told(self, microsoft: Authority, tmp_path: Path) -> None:
        tokens = tokens_of(settings(microsoft, tmp_path / "gone" / "drive.tokens"))
        with pytest.raises(ConfigError, match="a directory that can be written"):
            await tokens.sign_in(lambda _: None)

    async def test_another_process_that_has_signed_in_is_followed(
        self, microsoft: Authority, cache: Path
    ) -> None:
        tokens = tokens_of(settings(microsoft, cache))
        await tokens.sign_in(lambda _: None)
        assert await tokens(False) == "access-1"
        assert await tokens_of(settings(microsoft, cache))(True) == "access-2"
        assert await tokens(False) == "access-2"


class TestStop:
    async def test_a_cancel_does_not_wait_for_the_authority(self, microsoft: Authority) -> None:
        tokens = tokens_of(settings(microsoft, None, "client"))
        microsoft.answering.clear()
        asking = asyncio.get_running_loop().create_task(tokens(False))
        await asyncio.to_thread(microsoft.asked.wait, 20)
        asking.cancel()
        # It answers when this has ended, and not before.
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asking, 20)
        microsoft.answering.set()
        assert await tokens(False) in microsoft.issued

    async def test_one_that_is_silent_is_given_up(
        self, microsoft: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("haulier.remotes.microsoft.TIMEOUT_S", 0.5)
        tokens = tokens_of(settings(microsoft, None, "client"))
        microsoft.answering.clear()
        with pytest.raises(PeerUnreachable) as told:
            await tokens(False)
        assert told.value.too_slow


class TestAuthority:
    async def test_a_failure_that_has_no_meaning_for_tokens_is_no_answer_of_one(
        self, microsoft: Authority
    ) -> None:
        microsoft.failing = 501
        with pytest.raises(PeerUnreachable, match="not those of an authority"):
            await tokens_of(settings(microsoft, None, "client"))(False)

    @pytest.mark.parametrize("status", [429, 500, 503])
    async def test_one_that_fails_can_pass_and_is_let_be_for_as_long_as_it_says(
        self, microsoft: Authority, status: int
    ) -> None:
        microsoft.failing = status
        tokens = tokens_of(settings(microsoft, None, "client"))
        with pytest.raises(PeerBusy) as told:
            await tokens(False)
        assert (told.value.status, told.value.retry_after_s) == (status, 7.0)
        microsoft.failing = 0
        assert await tokens(False) == "access-1"

    @pytest.mark.parametrize("page", ["<html>Please accept our terms</html>", "{}", "[]"])
    async def test_a_page_in_its_place_can_pass(self, microsoft: Authority, page: str) -> None:
        microsoft.broken = page
        with pytest.raises(PeerUnreachable):
            await tokens_of(settings(microsoft, None, "client"))(False)
        microsoft.broken = ""
        assert await tokens_of(settings(microsoft, None, "client"))(False) == "access-1"

    async def test_one_that_is_down_can_pass(self, microsoft: Authority) -> None:
        microsoft.port = free_port()
        with pytest.raises(PeerUnreachable, match="localhost"):
            await tokens_of(settings(microsoft, None, "client"))(False)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"login": "device"}, "option client_id='' cannot be used: login=device needs it"),
        ({"login": "client", "client_id": "c"}, "login=client needs it"),
        ({"login": "by-hand"}, "it must be one of device, client"),
        ({"login": "device", "token_command": "true"}, "or login, which is device or client"),
        ({}, "or login, which is device or client"),
        ({"login": "device", "client_id": "c", "authority": "http://x"}, "it must look like https://"),
        ({"login": "device", "client_id": "c", "drive_type": "floppy"}, "one of personal, business"),
        (
            {"login": "client", "client_id": "c", "tenant": "t", "drive_id": "d", "drive_type": "personal"},
            "a program cannot sign in there",
        ),
        (
            {"login": "client", "client_id": "c", "tenant": "common", "drive_id": "d"},
            "a program signs in at one tenant",
        ),
        ({"login": "client", "client_id": "c", "tenant": "t", "drive_id": "d"}, "haulier remote login drive"),
    ],
)
def test_what_cannot_sign_in_is_told_with_the_cure(options: dict[str, str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        make_remote(RemoteSettings(name="drive", type="onedrive", url=GRAPH, options=options))


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msal", None)
    monkeypatch.delitem(sys.modules, "haulier.remotes.microsoft", raising=False)
    given = RemoteSettings(
        name="drive", type="onedrive", url=GRAPH, options={"login": "device", "client_id": "c"}
    )
    with pytest.raises(ConfigError, match=r"pip install 'haulier\[onedrive\]'"):
        make_remote(given)


def test_the_command_signs_in_and_forgets_with_the_remote(microsoft: Authority, tmp_path: Path) -> None:
    haulier = Commands("http://127.0.0.1:9", tmp_path / "work")
    options = ["login=device", f"client_id={CLIENT}", f"authority={microsoft.url}", f"tenant={TENANT}"]
    given = [part for option in options for part in ("--option", option)]
    added = haulier.run("remote", "add", "drive", "--type", "onedrive", "--url", f"{GRAPH}/v1.0", *given)
    assert (added.code, added.err) == (0, "")
    signed = haulier.run("remote", "login", "drive", SSL_CERT_FILE=str(microsoft.certificate))
    assert (signed.code, signed.out) == (0, "signed in for drive\n")
    assert "enter the code ABCD1234" in signed.err
    kept = haulier.folder / "home" / "drive.tokens"
    assert "refresh-1" in kept.read_text()
    assert haulier.run("remote", "rm", "drive").code == 0
    assert not kept.exists()
