"""What clients get: a record's document is what the description of the interface says."""

import json

from pydantic_core import to_json

from haulier.core.digest import Digest, DigestName
from haulier.core.record import Asset, AssetKind, Record, RecordId, RecordStatus
from haulier.server.schemas import RecordOut, record_document

RECORD = Record(
    id=RecordId("019aa0b4-5a3c-7c1e-9d43-0f6a5f3a2b11"),
    capsule="default",
    owner="local",
    filename="häuser.png",
    path="2026",
    content_type="image/png",
    size=5,
    metadata={"place": "Rome"},
    created_at=1_700_000_000.5,
)
WHOLE = RECORD.complete(
    Asset(
        kind=AssetKind.ORIGINAL,
        blob_key="secret-place",
        size=5,
        digest=Digest(DigestName.SHA_256, bytes(32)),
        content_type="image/png",
    ),
    now=1_700_000_001.25,
)


def test_a_record_s_document_has_the_fields_that_are_promised_in_their_order() -> None:
    for record in (RECORD, WHOLE):
        document = record_document(record, "http://127.0.0.1:8000")
        promised = RecordOut.model_validate(document, strict=True)
        assert to_json(document) == promised.model_dump_json().encode()


def test_a_complete_record_is_told_with_its_asset_and_without_the_place_of_its_bytes() -> None:
    document = record_document(WHOLE, "http://127.0.0.1:8000")
    assert document["status"] == RecordStatus.COMPLETED.value
    assert (document["created_at"], document["finished_at"]) == (
        "2023-11-14T22:13:20.500Z",
        "2023-11-14T22:13:21.250Z",
    )
    assert document["assets"] == [
        {
            "kind": "original",
            "size": 5,
            "content_type": "image/png",
            "digest": {"sha-256": "00" * 32},
            "width": None,
            "height": None,
            "url": f"http://127.0.0.1:8000/api/records/{RECORD.id}/assets/original",
            "data_url": None,
        }
    ]
    assert "secret-place" not in json.dumps(document)
