"""What a peer's words are about: the attempt that runs, or one that we have broken off."""

from pathlib import Path

import pytest

from haulier.core.transfer import Direction, Phase, Transfer, TransferId
from haulier.soulseek.download import Download
from haulier.soulseek.inbox import Lost
from haulier.soulseek.peer_messages import PlaceInQueue, UploadDenied, UploadFailed

FAILED, DENIED, PLACE = UploadFailed("file"), UploadDenied("file", "Cancelled"), PlaceInQueue("file", 3)


@pytest.fixture
def download() -> Download:
    transfer = Transfer(
        id=TransferId("t"), direction=Direction.DOWNLOAD, line="mallory", size=10, queued_at=1.0
    )
    return Download(transfer, "file", Path("target"), sized=True)


def running(phase: Phase, transfer: Transfer) -> Transfer:
    requested = transfer.request()
    agreed = requested.initialize()
    values = (requested, requested.queue_remotely(), agreed, agreed.begin(0, now=1.0))
    return next(value for value in values if value.phase is phase)


@pytest.mark.parametrize(
    "phase", [Phase.REQUESTED, Phase.QUEUED_REMOTELY, Phase.INITIALIZING, Phase.IN_PROGRESS]
)
@pytest.mark.parametrize("late", [FAILED, DENIED])
def test_each_attempt_that_was_broken_off_ends_late_once(
    download: Download, phase: Phase, late: UploadFailed | UploadDenied
) -> None:
    for _ in range(2):
        download.transfer = running(phase, download.transfer)
        download.break_off()
        download.transfer = download.transfer.pause().requeue()
    told = [download.take_for_broken_off(late) for _ in range(3)]
    assert told == [True, True, False]


def test_of_what_has_not_begun_the_peer_knows_nothing(download: Download) -> None:
    download.break_off()
    assert not download.take_for_broken_off(DENIED)


def test_a_place_is_no_end(download: Download) -> None:
    download.transfer = download.transfer.request()
    download.break_off()
    assert not download.take_for_broken_off(PLACE)
    assert download.take_for_broken_off(DENIED)


def test_an_end_that_was_told_before_the_break_does_not_come_again(download: Download) -> None:
    download.transfer = download.transfer.request()
    for answer in (PLACE, Lost(), FAILED):
        download.hear(answer)
    download.break_off()
    assert download.inbox.take_answers() == []
    assert not download.take_for_broken_off(DENIED)


def test_a_pause_keeps_nothing_of_what_is_said(download: Download) -> None:
    download.transfer = download.transfer.request()
    download.break_off()
    download.transfer = download.transfer.pause()
    for answer in (PLACE, Lost(), FAILED):
        download.hear(answer)
    assert download.inbox.take_answers() == []
    assert not download.take_for_broken_off(DENIED)
