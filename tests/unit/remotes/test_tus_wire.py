"""What a tus server's answers say."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulier.body.answers import Answer, Headers
from haulier.core.errors import PeerBusy, PeerCorrupted, PeerUnreadable, RemoteSessionLost
from haulier.core.outgoing import IfExists, Outgoing
from haulier.remotes.sessions import cargo_of
from haulier.remotes.tus import _metadata, _offset_of, _require_at, _rest
from haulier.remotes.tus_wire import Offers, Place, _sha1, require_number


def said(**fields: str) -> Answer:
    return Answer(
        status_code=200, headers=Headers([(name.replace("_", "-"), value) for name, value in fields.items()])
    )


def outgoing(name: str = "in/a.bin", *, size: int = 10, content_type: str | None = None) -> Outgoing:
    return Outgoing(
        id="t",
        name=name,
        size=size,
        content_type=content_type,
        modified_at=0.0,
        intended_at=0.0,
        if_exists=IfExists.REPLACE,
    )


class TestOffers:
    def test_what_is_announced_is_read(self) -> None:
        offers = Offers.read(
            said(
                Tus_Extension="creation, checksum,termination,",
                Tus_Max_Size="1000",
                Tus_Checksum_Algorithm="md5, sha1",
            )
        )
        assert offers.extensions == {"creation", "checksum", "termination"}
        assert (offers.max_size, offers.algorithm) == (1000, "sha1")

    def test_who_says_nothing_is_believed_to_do_the_least(self) -> None:
        assert Offers.read(said()) == Offers()

    @pytest.mark.parametrize("text", ["0", "-1", "many", "", "1e6", "²"])
    def test_a_bound_that_is_none_bounds_nothing(self, text: str) -> None:
        assert Offers.read(said(Tus_Max_Size=text)).max_size is None

    def test_a_checksum_that_is_not_ours_is_not_used(self) -> None:
        assert Offers.read(said(Tus_Checksum_Algorithm="md5,crc32")).algorithm is None


class TestPlace:
    def test_what_is_said_is_read_and_nothing_else(self) -> None:
        assert Place.read(said(Upload_Offset="5", Upload_Length="10")) == Place(
            offset=5, length=10, deferred=False
        )
        assert Place.read(said(Upload_Offset="0", Upload_Defer_Length="1")) == Place(
            offset=0, length=None, deferred=True
        )
        assert Place.read(said()) == Place(offset=None, length=None)

    @pytest.mark.parametrize("text", ["-1", "5.0", "", "five", "\u0665", "9" * 20, " 5"])
    def test_what_is_no_number_cannot_be_read(self, text: str) -> None:
        with pytest.raises(PeerUnreadable, match="Upload-Offset is"):
            Place.read(said(Upload_Offset=text))

    def test_what_must_be_said_is_missed(self) -> None:
        assert require_number(0, "Upload-Offset") == 0
        with pytest.raises(PeerUnreadable, match="tells no Upload-Offset"):
            require_number(None, "Upload-Offset")


class TestOffsets:
    @pytest.mark.parametrize("offset", [0, 5, 10])
    def test_an_offset_within_the_file_is_one(self, offset: int) -> None:
        assert _offset_of(outgoing(), Place(offset=offset, length=10)) == offset
        assert _offset_of(outgoing(), Place(offset=offset, length=None)) == offset

    def test_one_behind_the_file_is_of_other_bytes(self) -> None:
        with pytest.raises(PeerCorrupted):
            _offset_of(outgoing(), Place(offset=11, length=None))

    def test_an_upload_of_another_length_is_not_ours(self) -> None:
        with pytest.raises(RemoteSessionLost, match="length of 11"):
            _offset_of(outgoing(), Place(offset=5, length=11))

    def test_a_server_that_is_elsewhere_is_asked_again(self) -> None:
        _require_at(5, 5)
        for offset in (4, 6):
            with pytest.raises(PeerBusy, match=f"at {offset} of 5"):
                _require_at(offset, 5)


class TestMetadata:
    @given(st.text(min_size=1), st.one_of(st.none(), st.just("image/png")))
    def test_every_name_can_be_told(self, name: str, kind: str | None) -> None:
        field = _metadata(outgoing(name, content_type=kind))["Upload-Metadata"]
        assert re.fullmatch(r"[a-zA-Z]+ [A-Za-z0-9+/=]*(,[a-zA-Z]+ [A-Za-z0-9+/=]*)*", field)
        pairs = {
            key: base64.b64decode(value) for key, value in (each.split(" ") for each in field.split(","))
        }
        assert pairs["relativePath"] == name.encode("utf-8", "surrogatepass")
        assert pairs["filename"] == pairs["name"] == name.rsplit("/", 1)[-1].encode("utf-8", "surrogatepass")
        assert pairs["filetype"] == pairs["type"] == (kind or "application/octet-stream").encode()


class TestRest:
    @given(st.integers(0, 20), st.integers(0, 20), st.one_of(st.none(), st.integers(1, 20)))
    def test_what_is_left_is_told_as_a_part_of_the_whole(
        self, start: int, left: int, most: int | None
    ) -> None:
        content = bytes(range(40))
        moved: list[int] = []

        async def before_end() -> None:
            """Only known."""

        whole = cargo_of(content)
        whole = type(whole)(
            source=whole.source, start=3, stop=3 + start + left, moved=moved.append, before_end=before_end
        )
        rest = _rest(whole, start, most=most)
        size = left if most is None else min(left, most)
        assert rest.source.read(rest.start, rest.stop) == content[3 + start : 3 + start + size]
        rest.moved(size)
        assert moved == [start + size]
        assert (rest.before_end is before_end) is (size == left)


def test_the_checksum_is_of_the_cargo_alone() -> None:
    whole = cargo_of(b"xxabcxx")
    part = type(whole)(source=whole.source, start=2, stop=5)
    # Of "abc". Source: FIPS 180-4, examples.
    assert base64.b64decode(_sha1(part)).hex() == "a9993e364706816aba3e25717850c26c9cd0d89d"
