"""Errors as numbers and sentences."""

import pytest

from haulier.cli.display import printable
from haulier.cli.outcome import do_each, exit_code, explain, worst_code
from haulier.core.errors import (
    ConfigError,
    HaulierError,
    NodeBusy,
    PeerCorrupted,
    PeerRefused,
    PeerUnreachable,
    SourceChanged,
    StorageFull,
    StorageUnavailable,
    WaitTimeout,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PeerUnreachable("http://x", "no route"), 3),
        (NodeBusy("the node of .storage", "17"), 4),
        (WaitTimeout("open", 1, 2), 3),
        (PeerRefused(401, "unauthenticated", ""), 4),
        (PeerRefused(403, "access-denied", ""), 4),
        (PeerRefused(413, "quota-exceeded", ""), 4),
        (PeerRefused(429, "quota-exceeded", ""), 4),
        (PeerRefused(507, "storage-full", ""), 1),
        (PeerRefused(404, "capsule-not-found", ""), 4),
        (PeerRefused(404, "record-not-found", ""), 1),
        (PeerRefused(500, "internal-error", ""), 1),
        (PeerCorrupted("a", "b", "c"), 1),
        (SourceChanged("a", "b"), 1),
        (ConfigError("port", "x", "a number"), 2),
        (ConfigError("database_url", "x", "a server", unreachable=True), 3),
        (FileNotFoundError(), 1),
    ],
)
def test_every_error_has_its_number(error: Exception, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("codes", "code"), [([], 0), ([0, 0], 0), ([0, 4], 4), ([4, 4], 4), ([4, 1], 1), ([3, 0, 4], 1)]
)
def test_several_files_share_a_number_when_they_agree(codes: list[int], code: int) -> None:
    assert worst_code(codes) == code


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PeerUnreachable("http://x", "no route"), ["http://x cannot be reached", "haulier serve"]),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), ["a.txt: No such file or directory"]),
        (FileExistsError(17, "exists", "a.txt"), ["a.txt: exists", "--force"]),
        (PeerRefused(401, "unauthenticated", "no token"), ["no token", "--token"]),
        (SourceChanged("a.txt", "it is gone"), ["a.txt changed", "at rest"]),
        (StorageFull(4096), ["no room for 4096 bytes", "HAULIER_HOME"]),
        (StorageUnavailable("it was removed", replaced=True), ["it was removed", "put that file back"]),
    ],
)
def test_sentences_name_the_cure(error: HaulierError | OSError, words: list[str]) -> None:
    assert all(word in explain(error) for word in words)


def test_strangers_names_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[31mb\nc\u202ed") == "a\ufffd[31mb\ufffdc\ufffdd"
    assert printable("été 日本 🚚") == "été 日本 🚚"


async def test_one_that_fails_does_not_keep_the_others_from_being_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done: list[int] = []

    async def work(item: int) -> None:
        if item == 1:
            raise PeerRefused(404, "record-not-found", "gone")
        done.append(item)

    assert await do_each(range(4), work, named=lambda item: f"number {item}", parallel=2) == 1
    assert done == [0, 2, 3]
    assert "number 1: gone" in capsys.readouterr().err
    assert await do_each([], work, named=str, parallel=2) == 0


async def test_a_service_that_is_gone_ends_all() -> None:
    async def work(_: int) -> None:
        raise PeerUnreachable("http://x", "no route")

    with pytest.raises(PeerUnreachable):
        await do_each(range(4), work, named=str, parallel=1)


async def test_a_reader_who_has_seen_enough_is_no_failure_of_a_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def work(_: int) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        await do_each(range(4), work, named=str, parallel=1)
    assert not capsys.readouterr().err
