"""Frames from bytes in any pieces, and what is refused before it is kept."""

import pytest

from haulier.soulseek.messages import (
    FROM_SERVER,
    INIT,
    TO_SERVER,
    PeerInit,
    PierceFireWall,
    UserStatus,
    WatchUser,
)
from haulier.soulseek.peer_messages import TO_PEER, GetPlaceInQueue, QueueUpload
from haulier.soulseek.protocol import Frames, Unreadable

BOB = bytes.fromhex("10000000 07000000 03000000 626f62 02000000 01")
UNKNOWN = bytes.fromhex("09000000 5d000000 0102030405")


def server() -> Frames:
    return Frames(FROM_SERVER, TO_SERVER)


def fed(frames: Frames, *pieces: bytes) -> list[object]:
    events: list[object] = []
    for piece in pieces:
        frames.receive_data(piece)
        events += frames.events()
    return events


def test_a_frame_is_read_from_pieces_of_any_size() -> None:
    bob = UserStatus("bob", 2, privileged=True)
    assert fed(server(), BOB) == [bob]
    assert fed(server(), *(BOB[at : at + 1] for at in range(len(BOB)))) == [bob]
    assert fed(server(), BOB + BOB[:5], BOB[5:]) == [bob, bob]


def test_unknown_codes_are_skipped_and_kept_nowhere() -> None:
    frames = server()
    assert fed(frames, UNKNOWN[:9]) == []
    assert len(frames._buffer) == 0
    assert fed(frames, UNKNOWN[9:] + BOB) == [UserStatus("bob", 2, privileged=True)]
    assert frames.take_unknown() == 1


def test_skipped_and_known_frames_may_share_a_piece() -> None:
    assert len(fed(server(), UNKNOWN + BOB + UNKNOWN + UNKNOWN + BOB)) == 2


def test_no_more_is_wanted_than_the_frame_that_is_being_read() -> None:
    frames = server()
    assert frames.wanted == 8
    assert fed(frames, BOB[:8]) == []
    assert frames.wanted == len(BOB) - 8
    assert fed(frames, BOB[8:] + UNKNOWN[:8]) != []
    assert frames.wanted == len(UNKNOWN) - 8


def test_a_stream_can_change_what_it_carries_after_a_frame() -> None:
    frames = Frames(INIT, INIT)
    stream = bytes.fromhex("13000000 01 05000000 616c696365 01000000 50 00000000") + TO_PEER.encode(
        QueueUpload("a")
    )
    events: list[object] = []
    at = 0
    while not events:
        size = frames.wanted
        events = fed(frames, stream[at : at + size])
        at += size
    assert events == [PeerInit("alice", "P")]
    frames.switch(TO_PEER, TO_PEER)
    assert fed(frames, stream[at:]) == [QueueUpload("a")]


@pytest.mark.parametrize(
    ("frames", "head"),
    [
        (Frames(INIT, INIT), "01400000 01"),
        (Frames(TO_PEER, TO_PEER), "01001000 2b000000"),
        (Frames(TO_PEER, TO_PEER), "01000001 09000000"),
        (Frames(TO_PEER, TO_PEER), "01000004 05000000"),
        (Frames(TO_PEER, TO_PEER), "ffffffff 2b000000"),
        (Frames(TO_PEER, TO_PEER), "ffffffff 99000000"),
        (Frames(FROM_SERVER, TO_SERVER), "01001000 07000000"),
        (Frames(FROM_SERVER, TO_SERVER), "01000001 45000000"),
    ],
)
def test_a_frame_beyond_its_cap_is_refused_before_it_is_kept(frames: Frames, head: str) -> None:
    assert fed(frames, bytes.fromhex(head)) == []
    assert frames.should_close()
    assert "allowed" in str(frames.fault)
    assert fed(frames, bytes(100)) == []
    assert len(frames._buffer) == 0


@pytest.mark.parametrize("head", ["00001000 2b000000", "00000001 09000000", "00000004 05000000"])
def test_a_frame_at_its_cap_is_taken(head: str) -> None:
    frames = Frames(TO_PEER, TO_PEER)
    assert fed(frames, bytes.fromhex(head)) == []
    assert not frames.should_close()


def test_a_cap_can_be_lowered_while_nothing_was_asked_for() -> None:
    frames = Frames(TO_PEER, TO_PEER)
    frames.limit(5, 1024)
    frames.limit(5, None)
    assert fed(frames, bytes.fromhex("01040000 05000000")) == []
    assert not frames.should_close()
    frames = Frames(TO_PEER, TO_PEER)
    frames.limit(5, 1024)
    assert fed(frames, bytes.fromhex("01040000 05000000")) == []
    assert frames.should_close()


def test_a_frame_without_room_for_its_code_is_refused() -> None:
    frames = server()
    assert fed(frames, bytes(8)) == []
    assert frames.should_close()


def test_a_body_that_cannot_be_read_leaves_the_next_frame_whole() -> None:
    bad = bytes.fromhex("08000000 07000000 ff000000")
    events = fed(server(), bad + BOB)
    assert events == [
        Unreadable(7, "a field of 255 bytes goes beyond the end"),
        UserStatus("bob", 2, privileged=True),
    ]


def test_what_is_sent_comes_out_once_and_in_order() -> None:
    frames = Frames(TO_PEER, TO_PEER)
    frames.send(QueueUpload("a"))
    frames.send(GetPlaceInQueue("a"))
    assert frames.data_to_send().hex() == "090000002b0000000100000061" + "09000000330000000100000061"
    assert frames.data_to_send() == b""


def test_only_messages_of_the_direction_can_be_sent() -> None:
    with pytest.raises(AssertionError):
        server().send(UserStatus("bob", 2))
    server().send(WatchUser("bob"))
    Frames(INIT, INIT).send(PierceFireWall(1))
