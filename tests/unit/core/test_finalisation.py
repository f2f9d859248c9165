"""What may be asked when records are made of uploads, and which requests are the same."""

from haulier.core.errors import FieldProblem
from haulier.core.finalisation import AssetSource, Finalisation
from haulier.core.record import AssetKind
from haulier.core.session import SessionId
from haulier.core.values import replace

ORIGINAL = AssetSource(kind=AssetKind.ORIGINAL, upload=SessionId("u1"))
DISPLAY = AssetSource(kind=AssetKind.DISPLAY, upload=SessionId("u2"))
OTHER = AssetSource(kind=AssetKind.ORIGINAL, upload=SessionId("u3"))


def asked(*records: tuple[AssetSource, ...], key: str | None = None) -> Finalisation:
    return Finalisation(capsule="default", records=records, key=key)


def problems(request: Finalisation) -> list[FieldProblem]:
    return list(request.problems())


def test_one_original_for_each_record_is_enough() -> None:
    assert problems(asked((ORIGINAL,), key="k")) == []
    assert problems(asked((ORIGINAL, DISPLAY), (OTHER,))) == []


def test_a_request_names_records_an_original_each_and_no_kind_twice() -> None:
    missing = "must have an 'original'; the others can be added to a record later"
    assert problems(asked()) == [FieldProblem("records", "must be 1 to 1000")]
    assert problems(asked((DISPLAY,))) == [FieldProblem("assets", missing)]
    assert problems(asked((ORIGINAL, OTHER))) == [FieldProblem("assets", "must have one 'original' only")]


def test_more_records_than_one_transaction_holds_are_refused() -> None:
    def many(count: int) -> Finalisation:
        uploads = (SessionId(f"u{number}") for number in range(count))
        return asked(*((AssetSource(kind=AssetKind.ORIGINAL, upload=upload),) for upload in uploads))

    assert problems(many(1000)) == []
    assert problems(many(1001)) == [FieldProblem("records", "must be 1 to 1000")]


def test_an_upload_is_named_once_in_all_records() -> None:
    reason = "must name each upload once, and 'u1' only once"
    assert problems(asked((ORIGINAL,), (ORIGINAL,))) == [FieldProblem("assets", reason)]


def test_a_picture_has_both_sides_or_neither() -> None:
    reason = "must have 'width' and 'height' together, or neither"
    assert problems(asked((replace(ORIGINAL, width=1, height=2),))) == []
    assert problems(asked((replace(ORIGINAL, width=1),))) == [FieldProblem("assets", reason)]
    assert problems(asked((replace(ORIGINAL, height=1),))) == [FieldProblem("assets", reason)]


def test_a_key_has_the_limits_of_every_idempotency_key() -> None:
    reason = "must be 1 to 255 printable ASCII characters"
    assert problems(asked((ORIGINAL,), key="ä")) == [FieldProblem("Idempotency-Key", reason)]


def test_the_order_of_assets_and_the_key_do_not_make_another_request() -> None:
    one = asked((ORIGINAL, DISPLAY), (OTHER,), key="k").fingerprint()
    assert asked((DISPLAY, ORIGINAL), (OTHER,)).fingerprint() == one
    assert asked((OTHER,), (ORIGINAL, DISPLAY)).fingerprint() != one
    assert asked((ORIGINAL,), (OTHER,)).fingerprint() != one
