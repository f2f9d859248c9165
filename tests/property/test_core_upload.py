"""What clients may call things: whatever is taken is safe, whatever is ordinary is taken."""

import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from haulier.core.upload import check_content_type, check_filename, check_metadata, check_path
from tests.support.oracles import check_free_text, check_media_type, check_names

# Letters, digits, marks, symbols and punctuation of every script, and blanks between them; with the marks
# that Arabic, Hebrew and Persian write and the joiners and selectors of emoji.
ORDINARY = st.characters(
    categories=["L", "M", "N", "P", "S", "Zs"],
    exclude_characters="/\\",
    include_characters="\u200c\u200d\u200e\u200f\u061c\ufe0f",
)
# Three bytes of UTF-8 and an emoji's four stay below 255 for up to 60 of them.
NAMES = (
    st.text(ORDINARY, min_size=1, max_size=60)
    .map(lambda text: unicodedata.normalize("NFC", text))
    .filter(lambda text: text not in {"", ".", ".."} and len(text.encode()) <= 255)
)
ANYTHING = (
    st.text()
    | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Zs"]))
    | st.text(st.sampled_from("./\\ ab\u0308\u202e\u200f\ud800\n\x00"), max_size=30)
)
TOKENS = st.text(
    st.sampled_from("abcXYZ019!#$%&'*+.^_`|~-"),
    min_size=1,
    max_size=20,
)
QUOTED = st.text(st.sampled_from('ab ;,="\\/\t~'), max_size=20).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
MEDIA_SHARDS = st.lists(
    st.sampled_from(["text", "/", "plain", ";", " ", "\t", "charset", "=", "utf-8", '"', "\\", ",", "\n", "\xe9"]), max_size=40
).map("".join)  # fmt: skip


@given(NAMES)
def test_ordinary_names_are_taken(name: str) -> None:
    assert not [*check_filename(name)]
    assert not [*check_path(name)]


@given(st.lists(NAMES, min_size=1, max_size=8))
def test_ordinary_paths_are_taken(names: list[str]) -> None:
    # A mark at the beginning of a name composes with nothing: a slash is a starter that takes none.
    assert not [*check_path("/".join(names))]


@given(ANYTHING)
@example("a" * 65_536)
@example("/" * 65_536)
@example("../" * 21_845)
@example("\ud800" * 65_536)
@example("u\u0308" * 1365)
@example("\u0344" * 2048)
def test_no_name_that_is_taken_is_dangerous(text: str) -> None:
    check_names(text)


@given(
    kind=st.sampled_from(["text/plain", "image/svg+xml", "application/vnd.a-b.c+json"]),
    parameters=st.lists(st.tuples(TOKENS, TOKENS | QUOTED), max_size=3),
    gap=st.sampled_from([";", "; ", " ;\t", "; ;"]),
)
def test_media_types_are_taken_with_any_parameters(
    kind: str, parameters: list[tuple[str, str]], gap: str
) -> None:
    text = kind + "".join(f"{gap}{name}={value}" for name, value in parameters)
    assert bool([*check_content_type(text)]) == (len(text) > 255)


@given(ANYTHING | MEDIA_SHARDS | MEDIA_SHARDS.map(lambda rest: "text/plain;" + rest))
@example("a/b" + " ;" * 126)
@example("a/b" + " ;" * 125 + "!")
@example("a/b" + "; " * 125 + "!")
@example("a/b;" + " " * 250 + "!")
@example("a/b" + ";" * 32_768)
def test_no_media_type_that_is_taken_is_dangerous(text: str) -> None:
    check_media_type(text)


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=20))
def test_ordinary_metadata_is_taken(metadata: dict[str, str]) -> None:
    texts = [*metadata, *metadata.values()]
    assert bool([*check_metadata(metadata)]) == any("\0" in text for text in texts)


@given(ANYTHING)
@example("a" * 65_536)
@example("\ud800" * 65_536)
def test_no_free_text_that_is_taken_breaks_its_store(text: str) -> None:
    check_free_text(text)
