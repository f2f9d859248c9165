"""Every message of every table survives being written and read, in any pieces and with bytes behind it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulier.soulseek.codec import (
    Address,
    Boolean,
    Kind,
    Message,
    Number,
    Several,
    String,
    Structure,
    Table,
    layout_of,
    text_of,
)
from haulier.soulseek.messages import FROM_SERVER, INIT, TO_SERVER, LoginAnswer, RoomList, WatchedUser
from haulier.soulseek.peer_messages import (
    TO_PEER,
    FileEntry,
    Folder,
    FolderAnswer,
    FolderContents,
    Found,
    SearchAnswer,
    ShareList,
    TransferRequest,
    TransferResponse,
    UserInfo,
)
from haulier.soulseek.protocol import Frames

TABLES = {"to server": TO_SERVER, "from server": FROM_SERVER, "init": INIT, "peer": TO_PEER}
TEXTS = st.binary(max_size=16).map(text_of)
ADDRESSES = st.ip_addresses(v=4).map(str)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
RANGES = {"<B": st.integers(0, 255), "<H": st.integers(0, 2**16 - 1), "<I": U32, "<Q": U64}
RANGES["<i"] = st.integers(-(2**31), 2**31 - 1)


def values(kind: Kind[Any]) -> st.SearchStrategy[Any]:
    match kind:
        case Number():
            return RANGES[kind.format]
        case Boolean():
            return st.booleans()
        case String():
            return TEXTS
        case Address():
            return ADDRESSES
        case Several():
            return st.lists(values(kind.of), max_size=3).map(tuple)
        case Structure():
            return structures(kind.of)
        case _:
            raise AssertionError(kind)


def structures(cls: type[Any]) -> st.SearchStrategy[Any]:
    return st.builds(cls, **{each.name: values(each.kind) for each in layout_of(cls)})


FOLDERS = st.lists(structures(Folder), max_size=2)
FILES = st.lists(structures(FileEntry), max_size=2).map(tuple)
FOUND = st.builds(
    Found,
    user=TEXTS,
    token=U32,
    files=FILES,
    slot_free=st.booleans(),
    speed=U32,
    queue_length=U32,
    private=FILES,
)
OWN: dict[type[Message], st.SearchStrategy[Message]] = {
    LoginAnswer: st.one_of(
        st.builds(LoginAnswer, st.just(False), TEXTS, st.none() | TEXTS),
        st.builds(LoginAnswer, st.just(True), TEXTS, ip=ADDRESSES, digest=TEXTS, supporter=st.booleans()),
    ),
    WatchedUser: st.one_of(
        st.builds(WatchedUser, TEXTS, st.booleans()),
        st.builds(WatchedUser, TEXTS, st.booleans(), U32, U32, U32, U32, U32, U32, st.none() | TEXTS),
    ),
    RoomList: st.just(RoomList()),
    ShareList: st.builds(ShareList.pack, FOLDERS, FOLDERS),
    SearchAnswer: st.builds(SearchAnswer.pack, FOUND),
    FolderAnswer: st.builds(FolderAnswer.pack, structures(FolderContents)),
    UserInfo: st.builds(UserInfo, TEXTS, st.none() | st.binary(), U32, U32, st.booleans(), st.none() | U32),
    TransferRequest: st.one_of(
        st.builds(TransferRequest, U32.filter(lambda direction: direction != 1), U32, TEXTS),
        st.builds(TransferRequest, st.just(1), U32, TEXTS, U64),
    ),
    TransferResponse: st.one_of(
        st.builds(TransferResponse, U32, st.just(False), reason=TEXTS),
        st.builds(TransferResponse, U32, st.just(True), size=st.none() | U64),
    ),
}
"""Messages whose fields hang on each other, or that are compressed."""

ALL = [(name, cls) for name, table in TABLES.items() for cls in table]


def messages(cls: type[Message]) -> st.SearchStrategy[Message]:
    return OWN[cls] if cls in OWN else structures(cls)


def any_of(table: Table) -> st.SearchStrategy[Message]:
    return st.one_of([messages(cls) for cls in table])


@pytest.mark.parametrize(("name", "cls"), ALL, ids=lambda it: it if isinstance(it, str) else it.__name__)
@given(data=st.data())
def test_a_message_survives_being_written_and_read(
    name: str, cls: type[Message], data: st.DataObject
) -> None:
    message = data.draw(messages(cls))
    frames = Frames(TABLES[name], TABLES[name])
    frames.receive_data(TABLES[name].encode(message))
    assert list(frames.events()) == [message]


@pytest.mark.parametrize("name", TABLES)
@given(data=st.data())
def test_messages_arrive_whole_and_in_order_in_pieces_of_any_size(name: str, data: st.DataObject) -> None:
    table = TABLES[name]
    sent = data.draw(st.lists(any_of(table), max_size=5))
    stream = b"".join(map(table.encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    frames = Frames(table, table)
    got: list[object] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        frames.receive_data(stream[start:end])
        got += frames.events()
    assert got == sent


@given(FOLDERS, FOLDERS)
def test_folders_survive_being_packed(folders: list[Folder], private: list[Folder]) -> None:
    expected = [(folder, False) for folder in folders] + [(folder, True) for folder in private]
    assert list(ShareList.pack(folders, private).folders()) == expected


@given(FOUND)
def test_findings_survive_being_packed(found: Found) -> None:
    assert SearchAnswer.pack(found).unpack() == found


@given(structures(FolderContents))
def test_contents_of_folders_survive_being_packed(contents: FolderContents) -> None:
    assert FolderAnswer.pack(contents).unpack() == contents
