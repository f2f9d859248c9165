"""Values of a file on its way to a remote."""

import pytest

from haulier.core.errors import InvalidRequest, PeerBusy, PeerCorrupted
from haulier.core.outgoing import (
    Basis,
    Checksum,
    ChunkPace,
    Outgoing,
    RemoteLimits,
    Stored,
    VerifyMode,
    VerifyPolicy,
)

KIB, MIB = 1024, 1024 * 1024
OURS = Checksum("sha-256", "aa")
OTHER = Checksum("sha-256", "bb")


def outgoing(name: str = "Photos/a.jpg", size: int = 5) -> Outgoing:
    return Outgoing(id="t", name=name, size=size, modified_at=0.0, intended_at=0.0)


def stored(size: int | None = 5, checksum: Checksum | None = None) -> Stored:
    return Stored(name="a.jpg", size=size, checksum=checksum)


class TestOutgoing:
    def test_filename_is_the_last_segment(self) -> None:
        assert outgoing("Photos/2026/a.jpg").filename == "a.jpg"
        assert outgoing("a.jpg").filename == "a.jpg"

    @pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", ".", "a/../b", "a/."])
    def test_a_name_with_segments_that_mean_something_else_is_refused(self, name: str) -> None:
        with pytest.raises(InvalidRequest, match=r"must not have empty segments, \. or \.\."):
            outgoing(name).check_segments()

    @pytest.mark.parametrize("name", ["a", "a/b", "...", "a/..b"])
    def test_a_name_of_ordinary_segments_is_not(self, name: str) -> None:
        outgoing(name).check_segments()


class TestChunkPace:
    limits = RemoteLimits(
        max_size=None, grid=320 * KIB, first_chunk=10 * MIB, least_chunk=320 * KIB, most_chunk=60 * MIB - 1
    )

    def test_it_begins_on_the_grid(self) -> None:
        assert ChunkPace.start(self.limits).size == 10 * MIB
        # As an attempt had them that went to a remote with another grid.
        for size in (1, 7_000_001, 2**40):
            begun = ChunkPace.start(self.limits, size).size
            assert begun % self.limits.grid == 0
            assert self.limits.least_chunk <= begun <= self.limits.most_chunk
        odd = RemoteLimits(max_size=None, grid=1000, first_chunk=5500, least_chunk=10)
        assert ChunkPace.start(odd).size == 5000

    def test_a_chunk_takes_about_ten_seconds(self) -> None:
        pace = ChunkPace.start(self.limits).took(10 * MIB, 8.1)
        assert pace.size == 12_779_520  # 39 steps of the grid; ten seconds would be 39.5
        assert pace.size % (320 * KIB) == 0

    def test_it_grows_to_the_double_and_no_further(self) -> None:
        assert ChunkPace.start(self.limits).took(10 * MIB, 0.1).size == 20 * MIB

    def test_it_stays_between_the_limits(self) -> None:
        pace = ChunkPace.start(self.limits)
        for _ in range(5):
            pace = pace.took(pace.size, 0.1)
        assert pace.size == 59 * MIB + 704 * KIB
        assert pace.took(1, 1000.0).took(1, 1000.0).took(1, 1000.0).size >= 320 * KIB

    def test_a_slow_chunk_weighs_three_tenths(self) -> None:
        pace = ChunkPace.start(self.limits).took(10 * MIB, 10.0).took(10 * MIB, 20.0)
        assert pace.speed == pytest.approx(0.85 * MIB)

    def test_it_halves_and_forgets_the_speed(self) -> None:
        pace = ChunkPace.start(self.limits).took(10 * MIB, 10.0).halve()
        assert (pace.size, pace.speed) == (5 * MIB, None)

    def test_no_time_and_no_bytes_teach_nothing(self) -> None:
        pace = ChunkPace.start(self.limits)
        assert pace.took(10, 0.0) is pace
        assert pace.took(0, 1.0) is pace

    def test_a_grid_above_the_least_chunk_is_one_step_at_least(self) -> None:
        limits = RemoteLimits(max_size=None, grid=1000, first_chunk=10, least_chunk=10)
        assert ChunkPace.start(limits).size == 1000


class TestVerifyPolicy:
    @pytest.mark.parametrize(
        ("text", "mode", "extensions"),
        [
            ("strict", VerifyMode.STRICT, set()),
            ("size", VerifyMode.SIZE, set()),
            ("off", VerifyMode.OFF, set()),
            ("tolerate:docx, .XLSX,", VerifyMode.TOLERATE, {"docx", "xlsx"}),
        ],
    )
    def test_it_is_read(self, text: str, mode: VerifyMode, extensions: set[str]) -> None:
        assert VerifyPolicy.parse(text) == VerifyPolicy(mode, frozenset(extensions))

    @pytest.mark.parametrize("text", ["", "loose", "tolerate", "tolerate:", "strict:docx", "STRICT"])
    def test_other_words_are_refused(self, text: str) -> None:
        with pytest.raises(InvalidRequest, match="verify"):
            VerifyPolicy.parse(text)

    def test_equal_checksums_are_the_basis(self) -> None:
        assert VerifyPolicy().compare(outgoing(), OURS, stored(checksum=OURS)) is Basis.CHECKSUM

    def test_other_bytes_are_told(self) -> None:
        with pytest.raises(PeerCorrupted, match=r"a.jpg \(sha-256\) has digest bb, expected aa"):
            VerifyPolicy().compare(outgoing(), OURS, stored(checksum=OTHER))

    def test_another_size_is_told_before_all_else(self) -> None:
        with pytest.raises(PeerCorrupted, match=r"its size.*has digest 6, expected 5"):
            VerifyPolicy().compare(outgoing(), OURS, stored(size=6, checksum=OURS))

    @pytest.mark.parametrize("theirs", [None, Checksum("md5", "aa")])
    def test_without_a_common_checksum_the_size_is_the_basis(self, theirs: Checksum | None) -> None:
        assert VerifyPolicy().compare(outgoing(), OURS, stored(checksum=theirs)) is Basis.SIZE
        assert VerifyPolicy().compare(outgoing(), None, stored(checksum=OURS)) is Basis.SIZE

    def test_a_remote_that_tells_nothing_is_no_basis(self) -> None:
        assert VerifyPolicy().compare(outgoing(), OURS, stored(size=None)) is Basis.NOTHING

    def test_by_size_a_checksum_is_not_looked_at(self) -> None:
        policy = VerifyPolicy(VerifyMode.SIZE)
        assert not policy.sums
        assert policy.compare(outgoing(), OURS, stored(checksum=OTHER)) is Basis.SIZE

    def test_off_compares_nothing(self) -> None:
        assert VerifyPolicy(VerifyMode.OFF).compare(outgoing(), OURS, stored(size=6)) is Basis.NOTHING

    def test_only_named_extensions_are_tolerated(self) -> None:
        policy = VerifyPolicy.parse("tolerate:docx")
        assert policy.sums
        assert policy.compare(outgoing("a.DOCX"), OURS, stored(size=6)) is Basis.TOLERATED
        assert policy.compare(outgoing("a.docx"), OURS, stored(checksum=OTHER)) is Basis.TOLERATED
        with pytest.raises(PeerCorrupted):
            policy.compare(outgoing("a.doc"), OURS, stored(size=6))


class TestErrors:
    def test_a_gateway_that_gave_up_is_too_slow(self) -> None:
        assert PeerBusy(504, "Gateway Timeout").too_slow
        assert not PeerBusy(503, "busy").too_slow
