"""What JSON has of a transfer to or from a peer."""

from haulier.core.transfer import Direction, Transfer, TransferId
from haulier.core.transfer_document import peer_document, shown


def transfer(direction: Direction) -> Transfer:
    return Transfer(id=TransferId("t"), direction=direction, line="f\udcfcr", size=100, queued_at=0.0)


def test_a_download_tells_its_peer_its_file_and_where_it_goes() -> None:
    begun = transfer(Direction.DOWNLOAD).request().initialize().begin(25, now=1.0)
    document = peer_document(begun, "Music\\a", local="/home/ann/a", retry_of="older")
    assert document == {
        "id": "t",
        "direction": "download",
        "remote": "f\u00fcr",
        "target": "Music\\a",
        "path": "/home/ann/a",
        "phase": "in_progress",
        "step": "uploading",
        "outcome": None,
        "label": "InProgress",
        "priority": "normal",
        "place": None,
        "bytes": 25,
        "size": 100,
        "speed": None,
        "eta_s": None,
        "attempts": 1,
        "digest": None,
        "remote_id": None,
        "stored_as": None,
        "error": None,
        "obstacle": None,
        "wanted": "run",
        "retry_at": None,
        "superseded_by": None,
        "retry_of": "older",
    }


def test_an_upload_tells_no_path_of_ours_and_a_pause_is_a_wish() -> None:
    document = peer_document(transfer(Direction.UPLOAD).pause(), "Music\\a", local="Music\\a", place=3)
    assert (document["path"], document["wanted"], document["place"]) == ("", "pause", 3)


def test_names_that_are_no_text_are_read_as_latin_1() -> None:
    assert shown("f\u00fcr") == "f\u00fcr"
    assert shown("f\udcfcr") == "f\u00fcr"
