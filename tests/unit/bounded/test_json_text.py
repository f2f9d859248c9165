"""JSON that streams past: exactly RFC 8259, wherever the pieces are cut."""

import pytest

from haulier.bounded.json_text import MAX_DEPTH, MAX_NUMBER, JsonInvalid, JsonScanner


def scan(text: str, *, size: int = 1 << 18) -> int:
    """Judge a text in pieces of that size; return its record count."""
    scanner = JsonScanner()
    for start in range(0, len(text), size):
        scanner.feed(text[start : start + size])
    scanner.finish()
    return scanner.record_count


def place_of_fault(text: str, *, size: int) -> tuple[int, int]:
    with pytest.raises(JsonInvalid) as caught:
        scan(text, size=size)
    return caught.value.line, caught.value.column


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 18])
@pytest.mark.parametrize(
    ("text", "records"),
    [
        ("0", 1),
        ("-0.5e+10", 1),
        (' "a\\u00e9\\n\\/" ', 1),
        ("null", 1),
        ("{}", 1),
        ("[]", 0),
        ("[ ]\n", 0),
        ('[1,"2",{"3":[4]},[],{},null , true]', 7),
        ("[1, 2,\t3]", 3),
        ("[[1,2],[3,4]]", 2),
        ('{"a":[1,2,3],"b":{"c":{}}}', 1),
        ('{"a":"\\ud800"}', 1),
        ('["\x7f","é","😀"]', 3),
        ('[{"a":1},{"a":[2]},{"a":{"b":3}}]', 3),
    ],
)
def test_what_is_json_passes_however_it_is_cut(text: str, records: int, size: int) -> None:
    assert scan(text, size=size) == records


@pytest.mark.parametrize("size", [1, 2, 3, 1 << 18])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", (1, 1)),
        (" \n ", (1, 1)),
        ("[1,2", (1, 5)),
        ("[1,]", (1, 4)),
        ("[1 2]", (1, 4)),
        ("[,1]", (1, 2)),
        ("{,}", (1, 2)),
        ('{"a"}', (1, 5)),
        ('{"a":}', (1, 6)),
        ('{"a":1,}', (1, 8)),
        ("{a:1}", (1, 2)),
        ("{'a':1}", (1, 2)),
        ("[01]", (1, 2)),
        ("[+1]", (1, 2)),
        ("[1.]", (1, 2)),
        ("[.5]", (1, 2)),
        ("[1e]", (1, 2)),
        ("[0x1]", (1, 2)),
        ("[NaN]", (1, 2)),
        ("[[Infinity]]", (1, 3)),
        ("[[1],[-Infinity]]", (1, 7)),
        ("[nul]", (1, 2)),
        ("[True]", (1, 2)),
        ('["\t"]', (1, 3)),
        ('["\\x"]', (1, 3)),
        ('["\\u12g4"]', (1, 3)),
        ('["a', (1, 4)),
        ("[1]]", (1, 4)),
        ("[1} ", (1, 3)),
        ("{} {}", (1, 4)),
        ("1 2", (1, 3)),
        ("nul", (1, 1)),
        ("\ufeff1", (1, 1)),
        ("/* no */ 1", (1, 1)),
        ('{"a":1,\n "b":é}', (2, 6)),
        ('[\n\n{"x":[1,2,{"y":!}]}]', (3, 16)),
        ('[{"é":1},{"é":[2}]', (1, 17)),
        ("\u00a0[]", (1, 1)),
    ],
)
def test_what_is_no_json_is_told_with_its_place(text: str, place: tuple[int, int], size: int) -> None:
    assert place_of_fault(text, size=size) == place


def test_deep_nesting_has_a_limit_wherever_it_is_met() -> None:
    fits = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert scan(fits) == 1
    assert scan(f"[{fits[1:-1]},{fits[1:-1]}]") == 2
    for size in (1, 1000, 1 << 18):
        assert place_of_fault(f"[{fits}]", size=size) == (1, MAX_DEPTH + 1)
        assert place_of_fault(f"[1,2,{fits}]", size=size) == (1, MAX_DEPTH + 5)
        assert place_of_fault("[" * 100_000, size=size) == (1, MAX_DEPTH + 1)
        objects = '{"a":' * MAX_DEPTH
        assert place_of_fault(f"[1,{objects}1", size=size) == (1, 3 + 5 * (MAX_DEPTH - 1) + 1)


def test_wide_is_not_deep() -> None:
    row = "[" + ",".join(["[[1]]"] * 2000) + "]"
    assert scan(f"[{row},{row}]") == 2
    assert scan(f'{{"a":{row},"b":{row}}}') == 1


def test_strings_and_runs_longer_than_any_piece_pass() -> None:
    assert scan('["' + "x" * 100_000 + '","' + "\\n" * 50_000 + '"]', size=1000) == 2
    assert scan("[" + ",".join(map(str, range(50_000))) + "]", size=1000) == 50_000


def test_a_number_has_a_limit() -> None:
    assert scan("[" + "9" * 5000 + "]", size=MAX_NUMBER) == 1
    assert scan(f"[1,{'9' * 5000},[{'8' * 5000}]]", size=MAX_NUMBER) == 3
    for size in (MAX_NUMBER, 1000):
        assert place_of_fault("[" + "9" * (MAX_NUMBER + 1) + "]", size=size) == (1, 2)


def test_many_values_cut_by_their_piece_end_all_pass() -> None:
    nested = '{"a":' * 20 + "[1,[2,{}]]" + "}" * 20
    text = "[" + ",".join([nested] * 50) + "]"
    for size in (64, 300, 1000):
        assert scan(text, size=size) == 50
