"""What remotes keep of what they have begun, and for which place it is."""

import json
from typing import Any

import pytest

from haulier.core.errors import RemoteSessionLost
from haulier.core.outgoing import Outgoing, RemoteSession
from haulier.core.secret import Secret
from haulier.core.transfer import TransferId
from haulier.remotes.catalogue import RemoteSettings, make_remote
from haulier.remotes.onedrive import MAX_LATEST, _Latest
from haulier.remotes.sessions import Sessions

OUTGOING = Outgoing(id=TransferId("t"), name="n", size=1, modified_at=0.0, intended_at=0.0)
STATE = {"id": "1", "token": "t", "url": "http://elsewhere/1", "key": "n", "upload": "u", "name": "n"}
"""All that any of them keeps."""
REMOTES = [
    RemoteSettings(name="r", type="haulier", url="http://127.0.0.1:9"),
    RemoteSettings(name="r", type="tus", url="http://127.0.0.1:9"),
    RemoteSettings(name="r", type="s3", url="http://127.0.0.1:9", options={"bucket": "b"}),
    RemoteSettings(name="r", type="onedrive", url="http://127.0.0.1:9", options={"token_command": "true"}),
]


def kept(**state: str) -> RemoteSession:
    return RemoteSession(state=Secret(json.dumps(state)), chunk_size=1, commits_itself=True)


def test_what_is_kept_is_read_again() -> None:
    sessions = Sessions("here")
    session = sessions.keep({"id": "1"}, chunk_size=5, commits_itself=False)
    assert (session.chunk_size, session.commits_itself) == (5, False)
    assert sessions.read(session)["id"] == "1"


@pytest.mark.parametrize("settings", REMOTES, ids=[each.type for each in REMOTES])
@pytest.mark.parametrize("session", [kept(place="elsewhere", **STATE), kept(**STATE)], ids=["told", "untold"])
async def test_what_was_begun_elsewhere_is_lost_and_nobody_is_asked_for_it(
    settings: RemoteSettings, session: RemoteSession
) -> None:
    remote = make_remote(settings)
    with pytest.raises(RemoteSessionLost, match="it was begun elsewhere"):
        await remote.offset(OUTGOING, session)
    with pytest.raises(RemoteSessionLost, match="it was begun elsewhere"):
        await remote.cancel(OUTGOING, session)
    await remote.close()


@pytest.mark.parametrize("settings", REMOTES, ids=[each.type for each in REMOTES])
@pytest.mark.parametrize("text", ["", "garbage", "[]", "null"])
async def test_what_is_damaged_is_lost_and_nobody_is_asked_for_it(
    settings: RemoteSettings, text: str
) -> None:
    remote = make_remote(settings)
    session = RemoteSession(state=Secret(text), chunk_size=None, commits_itself=False)
    with pytest.raises(RemoteSessionLost, match="cannot be read"):
        await remote.offset(OUTGOING, session)
    await remote.close()


async def test_what_an_older_version_kept_of_onedrive_is_lost() -> None:
    remote = make_remote(REMOTES[-1])
    session = kept(place="onedrive http://127.0.0.1:9", url="http://127.0.0.1:9/upload/1")
    with pytest.raises(RemoteSessionLost):
        await remote.offset(OUTGOING, session)
    await remote.close()


def test_of_transfers_whose_session_let_nobody_in_the_latest_are_known() -> None:
    latest = _Latest()
    for number in range(MAX_LATEST + 1):
        latest.add(str(number))
    assert "0" not in latest
    assert "1" in latest
    latest.discard("1")
    latest.discard("1")
    assert "1" not in latest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"type": "haulier"}, {"type": "haulier", "options": {"capsule": "photos"}}),
        ({"type": "s3", "options": {"bucket": "b"}}, {"type": "s3", "options": {"bucket": "c"}}),
        (
            {"type": "s3", "options": {"bucket": "b"}},
            {"type": "s3", "options": {"bucket": "b", "prefix": "old/"}},
        ),
    ],
    ids=["capsule", "bucket", "prefix"],
)
async def test_places_differ_by_all_that_tells_where_a_file_goes(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    here, there = (
        make_remote(RemoteSettings(name="r", url="http://127.0.0.1:9", **it)) for it in (one, other)
    )
    session = here._sessions.keep(STATE, chunk_size=1, commits_itself=True)  # type: ignore[attr-defined]
    with pytest.raises(RemoteSessionLost, match="it was begun elsewhere"):
        await there.offset(OUTGOING, session)
    for remote in (here, there):
        await remote.close()
