"""Messages against frames written out as hexadecimal: the wire as others speak it."""

import zlib

import pytest

from haulier.soulseek.codec import (
    InflatingReader,
    MalformedMessage,
    Message,
    Reader,
    Table,
    bytes_of,
    text_of,
)
from haulier.soulseek.messages import (
    FROM_SERVER,
    INIT,
    TO_SERVER,
    ConnectToPeer,
    GetUserStatus,
    Login,
    LoginAnswer,
    PeerAddress,
    PeerInit,
    PierceFireWall,
    RoomList,
    SetWaitPort,
    UserStatus,
    WatchedUser,
)
from haulier.soulseek.peer_messages import (
    ANSWER_INFLATED_LIMIT,
    TO_PEER,
    Attribute,
    FileEntry,
    Folder,
    FolderAnswer,
    FolderContents,
    Found,
    SearchAnswer,
    ShareList,
    TransferRequest,
    TransferResponse,
    UploadDenied,
    UserInfo,
)

GOLDEN: list[tuple[Table, Message, str]] = [
    (
        TO_SERVER,
        Login("username", "password", 177, "d51c9a7e9353746a6020f9602d452929", 1),
        (
            "480000000100000008000000757365726e616d650800000070617373776f7264b1000000200000006435316339613765"
            "39333533373436613630323066393630326434353239323901000000"
        ),
    ),
    (FROM_SERVER, PeerAddress("bob", "127.0.0.1", 2234), "190000000300000003000000626f620100007fba080000000000000000"),
    (TO_SERVER, ConnectToPeer(7, "bob", "F"), "14000000120000000700000003000000626f620100000046"),
    (INIT, PierceFireWall(7), "050000000007000000"),
    (INIT, PeerInit("alice", "P", 0), "130000000105000000616c696365010000005000000000"),
    (
        TO_PEER,
        TransferRequest(1, 5, "Music\\a b.mp3", 7340033),
        "250000002800000001000000050000000d0000004d757369635c6120622e6d70330100700000000000",
    ),
    (TO_PEER, TransferResponse(5, allowed=True), "09000000290000000500000001"),
    (TO_PEER, TransferResponse(5, allowed=False, reason="Queued"), "1300000029000000050000000006000000517565756564"),
    (
        TO_PEER,
        UploadDenied("Music\\a b.mp3", "File not shared."),
        "29000000320000000d0000004d757369635c6120622e6d70331000000046696c65206e6f74207368617265642e",
    ),
]  # fmt: skip


def body(message: Message) -> bytes:
    out = bytearray()
    message.write(out)
    return bytes(out)


@pytest.mark.parametrize(("table", "message", "frame"), GOLDEN)
def test_a_message_is_written_as_others_write_it(table: Table, message: Message, frame: str) -> None:
    assert table.encode(message).hex() == frame


@pytest.mark.parametrize(("table", "message", "frame"), GOLDEN)
def test_a_message_of_others_is_read(table: Table, message: Message, frame: str) -> None:
    raw = bytes.fromhex(frame)
    head = 4 + (1 if table is INIT else 4)
    assert table.decode(message.code, raw[head:]) == message


def test_a_login_carries_the_digest_of_name_and_password() -> None:
    assert Login.of("username", "password") == GOLDEN[0][1]


def test_bytes_behind_the_last_field_are_ignored() -> None:
    assert INIT.decode(0, bytes.fromhex("07000000ffff")) == PierceFireWall(7)


def test_fields_with_a_default_may_be_absent() -> None:
    assert TO_SERVER.decode(2, bytes.fromhex("ba080000")) == SetWaitPort(2234)
    assert INIT.decode(1, bytes.fromhex("03000000626f620100000050")) == PeerInit("bob", "P", 0)
    assert FROM_SERVER.decode(3, bytes.fromhex("03000000626f620100007fba080000")) == PeerAddress(
        "bob", "127.0.0.1", 2234
    )


def test_a_field_that_is_cut_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        TO_SERVER.decode(2, bytes.fromhex("ba0800"))
    with pytest.raises(MalformedMessage):
        TO_SERVER.decode(7, bytes.fromhex("ffffffff626f62"))


def test_one_code_means_different_things_in_the_two_directions() -> None:
    raw = bytes.fromhex("03000000626f620200000001")
    assert TO_SERVER.decode(7, raw) == GetUserStatus("bob")
    assert FROM_SERVER.decode(7, raw) == UserStatus("bob", 2, privileged=True)


def test_an_accepted_login_tells_the_own_address() -> None:
    raw = bytes.fromhex("01 02000000 6869 0100007f 02000000 6162 01")
    answer = LoginAnswer(True, "hi", ip="127.0.0.1", digest="ab", supporter=True)
    assert FROM_SERVER.decode(1, raw) == answer
    assert body(answer) == raw
    assert FROM_SERVER.decode(1, raw[:7]) == LoginAnswer(True, "hi")


def test_a_refused_login_tells_the_reason() -> None:
    raw = bytes.fromhex("00 0b000000 494e56414c494450415353")
    assert FROM_SERVER.decode(1, raw) == LoginAnswer(False, "INVALIDPASS")
    assert body(LoginAnswer(False, "INVALIDPASS")) == raw
    detailed = LoginAnswer(False, "INVALIDUSERNAME", "Nick too long.")
    assert FROM_SERVER.decode(1, body(detailed)) == detailed


def test_of_an_unknown_user_nothing_more_is_told() -> None:
    assert body(WatchedUser("bob", False)) == bytes.fromhex("03000000626f6200")
    assert FROM_SERVER.decode(5, bytes.fromhex("03000000626f6200")) == WatchedUser("bob", False)


def test_of_a_known_user_the_country_is_told_when_online() -> None:
    raw = bytes.fromhex(
        "03000000626f6201 02000000 01000000 03000000 00000000 04000000 05000000 02000000 4445"
    )
    user = WatchedUser("bob", True, 2, 1, 3, 0, 4, 5, "DE")
    assert FROM_SERVER.decode(5, raw) == user
    assert body(user) == raw
    assert FROM_SERVER.decode(5, raw[:-6]) == WatchedUser("bob", True, 2, 1, 3, 0, 4, 5)


def test_there_are_no_rooms() -> None:
    assert FROM_SERVER.encode(RoomList()).hex() == "2000000040000000" + 28 * "00"


def test_an_offer_tells_the_size_and_a_request_does_not() -> None:
    raw = bytes.fromhex("00000000 05000000 01000000 61 0100000000000000")
    assert TO_PEER.decode(40, raw) == TransferRequest(0, 5, "a")
    assert TO_PEER.decode(40, b"\1" + raw[1:]) == TransferRequest(1, 5, "a", 1)


def test_the_answer_to_a_request_tells_the_size() -> None:
    raw = bytes.fromhex("05000000 01 0100700000000000")
    assert TO_PEER.decode(41, raw) == TransferResponse(5, allowed=True, size=7340033)
    assert body(TransferResponse(5, allowed=True, size=7340033)) == raw
    assert TO_PEER.decode(41, raw[:8]) == TransferResponse(5, allowed=True)


def test_a_refusal_without_a_reason_is_read() -> None:
    assert TO_PEER.decode(41, bytes.fromhex("0500000000")) == TransferResponse(5, allowed=False, reason="")


def test_a_user_tells_of_himself_with_and_without_a_picture() -> None:
    plain = bytes.fromhex("02000000 6869 00 0a000000 03000000 01")
    assert TO_PEER.decode(16, plain) == UserInfo("hi", None, 10, 3, True)
    assert body(UserInfo("hi", None, 10, 3, True)) == plain
    pictured = UserInfo("hi", b"\x89PNG", 10, 3, False, 2)
    assert TO_PEER.decode(16, body(pictured)) == pictured


def test_an_entry_has_the_extension_of_its_base_name() -> None:
    assert FileEntry.of("Music\\a.b\\song.mp3", 5).extension == "mp3"
    assert FileEntry.of("Music\\a.b\\song", 5).extension == ""


SONG = FileEntry.of("song.mp3", 7340033, (Attribute(0, 320),))
SONG_HEX = "01 08000000 736f6e672e6d7033 0100700000000000 03000000 6d7033 01000000 00000000 40010000"


def test_a_share_list_is_compressed_folders_then_private_ones() -> None:
    public, private = Folder("Music", (SONG,)), Folder("Own", ())
    packed = ShareList.pack([public], [private])
    assert zlib.decompress(packed.packed) == bytes.fromhex(
        f"01000000 05000000 4d75736963 01000000 {SONG_HEX} 00000000 01000000 03000000 4f776e 00000000"
    )
    assert list(packed.folders()) == [(public, False), (private, True)]


def test_a_share_list_may_end_with_its_folders() -> None:
    packed = zlib.compress(bytes.fromhex("01000000 05000000 4d75736963 00000000"))
    assert list(ShareList(packed).folders()) == [(Folder("Music", ()), False)]
    assert list(ShareList(zlib.compress(bytes(8))).folders()) == []


def test_a_search_answer_is_compressed() -> None:
    found = Found(
        user="bob", token=7, files=(SONG,), slot_free=True, speed=1000, queue_length=2, private=(SONG,)
    )
    packed = SearchAnswer.pack(found)
    assert zlib.decompress(packed.packed) == bytes.fromhex(
        f"03000000 626f62 07000000 01000000 {SONG_HEX} 01 e8030000 02000000 00000000 01000000 {SONG_HEX}"
    )
    assert packed.unpack() == found
    assert packed.token() == 7


def test_the_token_of_a_search_answer_is_read_without_the_rest() -> None:
    raw = bytes.fromhex("03000000 626f62 07000000 ffffffff")
    assert SearchAnswer(zlib.compress(raw) + b"behind").token() == 7
    with pytest.raises(MalformedMessage, match="256"):
        SearchAnswer(zlib.compress((257).to_bytes(4, "little") + bytes(2**20))).token()


def test_a_search_answer_of_an_older_client_has_no_private_files() -> None:
    raw = bytes.fromhex("03000000 626f62 07000000 00000000 01 e8030000 02000000")
    assert SearchAnswer(zlib.compress(raw)).unpack().private == ()


def test_a_folder_answer_is_compressed() -> None:
    contents = FolderContents(7, "Music", (Folder("Music", (SONG,)),))
    packed = FolderAnswer.pack(contents)
    assert zlib.decompress(packed.packed) == bytes.fromhex(
        f"07000000 05000000 4d75736963 01000000 05000000 4d75736963 01000000 {SONG_HEX}"
    )
    assert packed.unpack() == contents


def test_a_body_in_compressed_messages_is_opened_by_nobody_on_the_way() -> None:
    assert TO_PEER.decode(9, b"no zlib") == SearchAnswer(b"no zlib")
    with pytest.raises(MalformedMessage):
        SearchAnswer(b"no zlib").unpack()


def test_a_stream_that_is_cut_is_malformed() -> None:
    packed = ShareList.pack([Folder("Music", (SONG,))]).packed
    with pytest.raises(MalformedMessage):
        list(ShareList(packed[:-8]).folders())


def test_a_bomb_is_not_inflated_beyond_its_bound() -> None:
    name = bytes(ANSWER_INFLATED_LIMIT)
    raw = bytes.fromhex("03000000 626f62 07000000 01000000 01") + len(name).to_bytes(4, "little") + name
    with pytest.raises(MalformedMessage, match="inflates"):
        SearchAnswer(zlib.compress(raw, 9)).unpack()


def test_a_bomb_of_many_small_fields_is_not_inflated_beyond_its_bound() -> None:
    reader = InflatingReader(zlib.compress(bytes(300_000)), limit=200_000)
    with pytest.raises(MalformedMessage, match="inflates"):
        list(iter(lambda: reader.take(4), b"never"))


def test_content_of_just_the_bound_is_read_to_its_end() -> None:
    reader = InflatingReader(zlib.compress(bytes(200_000)) + b"behind", limit=200_000)
    assert reader.take(200_000) == bytes(200_000)
    assert reader.exhausted


def test_a_count_allocates_nothing() -> None:
    with pytest.raises(MalformedMessage):
        FROM_SERVER.decode(69, bytes.fromhex("ffffffff 03000000 626f62"))


def test_names_of_users_are_bounded() -> None:
    with pytest.raises(MalformedMessage, match="256"):
        INIT.decode(1, (257).to_bytes(4, "little") + 257 * b"a" + bytes.fromhex("0100000050"))


@pytest.mark.parametrize(
    "raw", [b"plain", "f\u00fcr".encode(), "f\u00fcr".encode("latin-1"), b"\xff\xfe\x00"]
)
def test_text_in_any_encoding_is_sent_back_as_it_came(raw: bytes) -> None:
    assert bytes_of(text_of(raw)) == raw


def test_a_reader_of_nothing_is_exhausted() -> None:
    assert Reader(b"").exhausted


def test_more_files_than_anybody_has_are_refused_before_they_are_read() -> None:
    found = bytes.fromhex("03000000 626f62 07000000") + (10_001).to_bytes(4, "little")
    with pytest.raises(MalformedMessage, match="a list of 10001 where at most 10000"):
        SearchAnswer(zlib.compress(found)).unpack()
    folder = bytes.fromhex("01000000 01000000 61") + (200_001).to_bytes(4, "little")
    with pytest.raises(MalformedMessage, match="a list of 200001 where at most 200000"):
        list(ShareList(zlib.compress(folder)).folders())
