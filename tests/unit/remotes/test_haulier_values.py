"""What another Haulier service's answers say, and what ours are."""

from typing import Any

import pytest

from haulier.core.digest import DigestName
from haulier.core.outgoing import Checksum, IfExists, Outgoing, Stored
from haulier.core.ranges import Ranges
from haulier.core.values import replace
from haulier.remotes.haulier import DigestSum, _check_way, _key, _read_record, _State

OUT = Outgoing(
    id="t",
    name="in/a.bin",
    size=5,
    content_type=None,
    modified_at=1.5,
    intended_at=0.0,
    if_exists=IfExists.REPLACE,
)
RECORD: dict[str, Any] = {"id": "r", "filename": "a.bin", "path": "in/a.bin", "size": 5}


class TestKey:
    def test_it_is_the_same_for_the_same_content_of_the_same_transfer(self) -> None:
        assert _key(OUT) == _key(replace(OUT, intended_at=99.0, content_type="image/png"))
        assert len(_key(OUT)) <= 64

    @pytest.mark.parametrize(
        "change", [{"id": "u"}, {"size": 6}, {"modified_at": 1.6}, {"name": "in/b.bin"}, {"name": "\udcff"}]
    )
    def test_it_is_another_for_anything_else(self, change: dict[str, Any]) -> None:
        assert _key(OUT) != _key(replace(OUT, **change))


class TestRecord:
    def test_its_id_is_text_whatever_it_is_there(self) -> None:
        assert _read_record({**RECORD, "id": 7}).id == "7"

    def test_it_is_read(self) -> None:
        assert _read_record({**RECORD, "digest": {"sha-256": "ab"}}) == Stored(
            name="in/a.bin", id="r", size=5, checksum=Checksum("sha-256", "ab")
        )

    @pytest.mark.parametrize("digest", [None, {}, {"sha-256": None}])
    def test_one_without_a_digest_has_none(self, digest: object) -> None:
        assert _read_record({**RECORD, "digest": digest}).checksum is None

    def test_one_without_a_path_has_its_name(self) -> None:
        assert _read_record({**RECORD, "path": None}).name == "a.bin"

    @pytest.mark.parametrize("missing", ["id", "size"])
    def test_what_must_be_there_is_missed(self, missing: str) -> None:
        with pytest.raises(KeyError):
            _read_record({name: value for name, value in RECORD.items() if name != missing})


class TestState:
    def test_ranges_are_put_in_order(self) -> None:
        state = _State.read({"status": "open", "received": [[8, 9], [0, 4], [4, 6]]})
        assert (state.status, state.received, state.result) == ("open", Ranges(((0, 6), (8, 9))), None)
        assert state.error == "no reason given"

    def test_a_result_is_a_record(self) -> None:
        state = _State.read({"status": "committed", "result": RECORD, "error": None})
        assert state.result == Stored(name="in/a.bin", id="r", size=5)
        assert state.received == Ranges()

    def test_why_it_failed_is_kept(self) -> None:
        assert (
            _State.read({"status": "failed", "error": "the disk lost bytes"}).error == "the disk lost bytes"
        )


@pytest.mark.parametrize("way", list(IfExists))
def test_nothing_is_replaced_there_so_only_that_is_taken(way: IfExists) -> None:
    problems = list(_check_way(replace(OUT, if_exists=way)))
    assert [problem.field for problem in problems] == ([] if way is IfExists.REPLACE else ["if_exists"])


def test_the_sum_is_told_in_hex_under_its_own_name() -> None:
    total = DigestSum(DigestName.SHA_256)
    total.update(b"a")
    total.update(b"bc")
    # Of "abc". Source: FIPS 180-4, examples.
    assert total.checksum() == Checksum(
        "sha-256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
