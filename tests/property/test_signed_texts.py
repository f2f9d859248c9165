"""What we sign is read as it was written, and nothing else is, whatever is sent."""

from hypothesis import given
from hypothesis import strategies as st

from haulier.core.link import Disposition, Link, read_link
from haulier.core.record import AssetKind, RecordId
from haulier.core.visitor import read_visitor, sign_visitor
from haulier.server.browsers import cookies_named

KEYS = st.binary(min_size=1, max_size=64)
LINKS = st.builds(
    Link,
    record=st.uuids().map(lambda it: RecordId(str(it))),
    kind=st.sampled_from(AssetKind),
    expires_at=st.integers(0, 10**12 - 1),
    disposition=st.sampled_from(Disposition),
)
IDS = st.text(st.characters(codec="ascii", exclude_categories=("C", "Z")), min_size=1, max_size=64)


@given(link=LINKS, key=KEYS)
def test_a_link_comes_back_as_it_was_given(link: Link, key: bytes) -> None:
    assert read_link(link.signed(key), key) == link


@given(link=LINKS, key=KEYS, data=st.data())
def test_a_link_that_was_changed_anywhere_is_none(link: Link, key: bytes, data: st.DataObject) -> None:
    text = link.signed(key)
    # The last of 43 letters has bits that say nothing; we write them in one way only.
    assert read_link(data.draw(changes_of(text)), key) is None


@given(visitor_id=IDS, key=KEYS, data=st.data())
def test_a_visitor_is_read_as_it_was_signed_and_no_change_of_it_is(
    visitor_id: str, key: bytes, data: st.DataObject
) -> None:
    text = sign_visitor(visitor_id, key)
    assert read_visitor(text, key) == visitor_id
    assert read_visitor(data.draw(changes_of(text)), key) is None


@given(text=st.text(), key=KEYS)
def test_what_nobody_signed_names_nothing(text: str, key: bytes) -> None:
    assert read_link(text, key) is None
    assert read_visitor(text, key) is None


@given(lines=st.lists(st.binary(max_size=200), max_size=4))
def test_whatever_is_sent_as_cookies_is_read(lines: list[bytes]) -> None:
    scope = {"headers": [(b"cookie", line) for line in lines]}
    for value in cookies_named(scope, "haulier_visitor_8000"):
        assert value == value.strip()
        assert ";" not in value


@given(
    values=st.lists(st.text(st.characters(codec="ascii", exclude_characters=' ;,="\\'), min_size=1)),
    noise=st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters=";")),
)
def test_every_cookie_of_the_name_is_found_among_others(values: list[str], noise: str) -> None:
    values = [value.strip() for value in values if value.strip()]
    line = "; ".join([f"x{noise}", *(f"mine={value}" for value in values), "theirs=1"])
    assert list(cookies_named({"headers": [(b"cookie", line.encode())]}, "mine")) == values


def changes_of(text: str) -> st.SearchStrategy[str]:
    """Return texts that differ from this one in one place."""
    places = st.integers(0, len(text) - 1)
    letters = st.characters()
    other = st.tuples(places, letters).map(lambda it: text[: it[0]] + it[1] + text[it[0] + 1 :])
    shorter = places.map(lambda at: text[:at] + text[at + 1 :])
    longer = st.tuples(st.integers(0, len(text)), letters).map(
        lambda it: text[: it[0]] + it[1] + text[it[0] :]
    )
    return st.one_of(other, shorter, longer).filter(lambda changed: changed != text)
