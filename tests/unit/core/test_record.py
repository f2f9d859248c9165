"""Records: their states, their assets, and when they are complete."""

import pytest

from haulier.core.digest import Digest, DigestName
from haulier.core.record import (
    ENDS,
    TRANSITIONS,
    Asset,
    AssetKind,
    Lane,
    Record,
    RecordId,
    RecordStatus,
    fold,
    lane_of,
)
from haulier.core.values import replace

UPLOADING = Record(
    id=RecordId("019aa0b4-5a3c-7c1e-9d43-0f6a5f3a2b11"),
    capsule="default",
    owner="local",
    filename="holiday.mp4",
    content_type="video/mp4",
    size=None,
    created_at=1000.0,
)
ORIGINAL = Asset(
    kind=AssetKind.ORIGINAL,
    blob_key="0b8a3c1e",
    size=5,
    digest=Digest(DigestName.MD5, bytes(16)),
    content_type="video/mp4",
)


def in_status(status: RecordStatus) -> Record:
    return replace(UPLOADING, status=status)


def test_the_state_machine_is_this_one() -> None:
    assert {status: sorted(TRANSITIONS[status]) for status in RecordStatus} == {
        "uploading": ["cancelled", "completed", "expired", "failed", "uploaded"],
        "uploaded": ["processing"],
        "processing": ["completed", "failed"],
        "completed": ["processing"],
        "failed": ["processing"],
        "cancelled": [],
        "expired": [],
    }


def test_a_new_record_is_uploading_and_has_nothing() -> None:
    assert UPLOADING.status is RecordStatus.UPLOADING
    assert UPLOADING.assets == ()
    assert UPLOADING.metadata == {}
    assert (UPLOADING.path, UPLOADING.digest, UPLOADING.error) == (None, None, None)
    assert (UPLOADING.uploaded_at, UPLOADING.finished_at, UPLOADING.deleted_at) == (None, None, None)


def test_completing_takes_size_and_digest_from_the_original() -> None:
    assert UPLOADING.complete(ORIGINAL, now=1007.0) == replace(
        UPLOADING,
        status=RecordStatus.COMPLETED,
        assets=(ORIGINAL,),
        size=5,
        digest=Digest(DigestName.MD5, bytes(16)),
        uploaded_at=1007.0,
        finished_at=1007.0,
    )


@pytest.mark.parametrize("end", sorted(ENDS))
def test_an_end_without_result_keeps_its_reason(end: RecordStatus) -> None:
    ended = UPLOADING.end(end, error="gone", now=1007.0)
    assert ended == replace(UPLOADING, status=end, error="gone", finished_at=1007.0)


@pytest.mark.parametrize("status", sorted(set(RecordStatus) - ENDS))
def test_only_an_end_ends_a_record(status: RecordStatus) -> None:
    with pytest.raises(ValueError, match="not an end without a result"):
        UPLOADING.end(status, error=None, now=1007.0)


@pytest.mark.parametrize(
    "status", sorted(set(RecordStatus) - {RecordStatus.UPLOADING, RecordStatus.PROCESSING})
)
def test_only_what_runs_can_end_or_complete(status: RecordStatus) -> None:
    record = in_status(status)
    for end in ENDS:
        with pytest.raises(AssertionError, match=f"cannot go from {status} to {end}"):
            record.end(end, error=None, now=1007.0)
    with pytest.raises(AssertionError, match=f"cannot go from {status} to completed"):
        record.complete(ORIGINAL, now=1007.0)


def test_an_asset_is_found_by_its_kind() -> None:
    record = UPLOADING.complete(ORIGINAL, now=1007.0)
    assert record.asset(AssetKind.ORIGINAL) is ORIGINAL
    assert record.asset(AssetKind.THUMBNAIL) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Report.PDF", "report.pdf"),
        ("GRÖSSE", "größe"),
        ("Größe", "Gro\u0308ße"),
        ("ΣΑΣ", "σας"),
        ("\u0345\u0301", "\u0301\u0345"),
    ],
)
def test_equal_names_fold_alike(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("o", "ö"), ("a", "b"), ("a", "a ")])
def test_different_names_stay_different(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def test_a_bare_letter_is_no_part_of_its_accented_sibling() -> None:
    assert fold("o") not in fold("Gro\u0308ße")


def test_an_original_may_leave_something_to_do() -> None:
    record = UPLOADING.complete(ORIGINAL, now=1007.0, more=True)
    assert (record.status, record.uploaded_at, record.finished_at) == (RecordStatus.UPLOADED, 1007.0, None)
    assert record.unprocessed
    assert not UPLOADING.unprocessed


def test_each_attempt_has_a_fence_of_its_own_and_may_be_given_back() -> None:
    first = UPLOADING.complete(ORIGINAL, now=1007.0, more=True).process("a", now=1008.0)
    assert (first.status, first.processing_started_at) == (RecordStatus.PROCESSING, 1008.0)
    assert (first.fence, first.attempts, first.holder) == (1, 1, "a")
    second = first.process("b", now=1009.0)
    assert (second.fence, second.attempts, second.holder) == (2, 2, "b")
    back = second.give_back()
    assert (back.status, back.fence, back.attempts, back.holder) == (RecordStatus.PROCESSING, 2, 1, None)
    ended = back.settle(RecordStatus.COMPLETED, error="image-broken", now=1010.0)
    assert (ended.status, ended.error, ended.finished_at) == (
        RecordStatus.COMPLETED,
        "image-broken",
        1010.0,
    )
    assert not ended.unprocessed


def test_only_what_is_processed_is_given_back() -> None:
    with pytest.raises(AssertionError, match="is not being processed"):
        UPLOADING.give_back()


def test_every_asset_has_its_lane() -> None:
    assert [lane_of(kind) for kind in AssetKind] == [Lane.ORIGINAL, *[Lane.DERIVATIVES] * 3]
