"""What `haulier.core.values` makes is what the standard decorator makes of the same class, as far as anybody can see."""

import copy
import dataclasses
import inspect
import pickle
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import FrozenInstanceError, InitVar, asdict, field, fields, is_dataclass
from functools import partial
from importlib import import_module
from typing import Any, ClassVar, Generic, TypeVar

import pytest

import haulier
from haulier.core.values import dataclass as ours
from haulier.core.values import replace

Decorator = Callable[..., Any]
Replace = Callable[..., Any]
T = TypeVar("T")
STANDARD = dataclasses.dataclass  # noqa: TID251 - what ours is compared with
standard_replace = dataclasses.replace  # noqa: TID251 - what ours is compared with


def written_at_once(declared: type | None = None, **options: Any) -> Any:
    """Make one of ours, with all code that it will have once it is called often."""
    if declared is None:
        return partial(written_at_once, **options)
    made: Any = ours(**options)(declared)
    for name in ("__init__", "__replace__"):
        getattr(made, name)
    return made


EACH = pytest.mark.parametrize(
    "dataclass", [STANDARD, ours, written_at_once], ids=["standard", "ours", "ours, written"]
)
EACH_WITH_REPLACE = pytest.mark.parametrize(
    ("dataclass", "replace"),
    [(STANDARD, standard_replace), (ours, replace), (written_at_once, replace)],
    ids=["standard", "ours", "ours, written"],
)


@ours(frozen=True, slots=True, kw_only=True)
class Place:
    """A value with all kinds of fields; of a module, so that it can be pickled."""

    name: str
    size: int = 3
    tags: dict[str, int] = field(default_factory=dict)
    note: str | None = field(default=None, compare=False, repr=False)


def test_a_value_has_its_fields_its_defaults_and_a_factory_of_its_own() -> None:
    one, other = Place(name="a"), Place(name="b", size=4, tags={"x": 1}, note="n")
    assert (one.name, one.size, one.tags, one.note) == ("a", 3, {}, None)
    assert (other.name, other.size, other.tags, other.note) == ("b", 4, {"x": 1}, "n")
    assert one.tags is not Place(name="a").tags
    assert not hasattr(one, "__dict__")


def test_values_are_compared_by_their_fields_and_their_class() -> None:
    @ours(frozen=True)
    class Line:
        name: str

    @ours(frozen=True)
    class Column:
        name: str

    other: object = Column("a")
    assert Line("a") == Line("a")
    assert Line("a") != Line("b")
    assert Line("a") != other
    assert len({Line("a"), Line("a"), Line("b")}) == 2
    assert Place(name="a", note="x") == Place(name="a")


def test_the_standard_functions_work_on_a_value() -> None:
    one = Place(name="a", tags={"x": 1})
    assert standard_replace(one, size=9) == Place(name="a", size=9, tags={"x": 1})
    assert asdict(one) == {"name": "a", "size": 3, "tags": {"x": 1}, "note": None}
    assert [each.name for each in fields(Place)] == ["name", "size", "tags", "note"]
    assert repr(one) == "Place(name='a', size=3, tags={'x': 1})"
    match one:
        case Place(name=name, size=3):
            assert name == "a"
        case _:
            raise AssertionError


def test_a_frozen_value_takes_no_change_and_copies_are_equal() -> None:
    one = Place(name="a", tags={"x": 1}, note="n")
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'name'"):
        one.name = "b"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'name'"):
        del one.name
    for made in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert (made, made.note) == (one, "n")


@pytest.mark.parametrize(
    ("values", "named", "why"),
    [
        ((), {}, "missing 1 required keyword-only argument: 'name'"),
        (("a",), {"name": "a"}, "takes 1 positional argument but 2 positional"),
        ((), {"name": "a", "colour": 1}, "unexpected keyword argument 'colour'"),
    ],
)
def test_a_wrong_call_is_told_in_the_words_of_python(
    values: tuple[Any, ...], named: dict[str, Any], why: str
) -> None:
    with pytest.raises(TypeError, match=r"Place\.__init__\(\)") as told:
        Place(*values, **named)
    assert why in str(told.value)


@EACH
def test_what_can_change_is_compared_and_has_no_hash(dataclass: Decorator) -> None:
    @dataclass
    class Counter:
        count: int = 0

    one = Counter()
    one.count += 1
    assert one == Counter(1)
    assert Counter.__hash__ is None


@EACH
def test_what_is_not_compared_is_equal_to_itself_alone(dataclass: Decorator) -> None:
    @dataclass(eq=False, slots=True)
    class Lease:
        line: str

    one = Lease("a")
    assert one == one  # noqa: PLR0124 - that is the fact
    assert one != Lease("a")
    assert len({one, one}) == 1


@EACH
def test_a_field_that_is_not_given_is_set_from_its_default(dataclass: Decorator) -> None:
    @dataclass(slots=True)
    class Line:
        name: str
        seen: list[int] = field(init=False, default_factory=list)
        count: int = field(init=False, default=7)
        later: int = field(init=False)

        def __post_init__(self) -> None:
            self.later = self.count + 1

    one = Line("a")
    assert (one.name, one.seen, one.count, one.later) == ("a", [], 7, 8)
    assert one.seen is not Line("a").seen


@EACH
def test_fields_that_need_their_name_come_last_and_constants_are_none(dataclass: Decorator) -> None:
    @dataclass(frozen=True)
    class Base:
        kind: ClassVar[str] = "k"
        first: int
        second: int = field(default=2, kw_only=True)

    @dataclass(frozen=True)
    class Leaf(Base):
        third: int = 3

    assert Leaf(1, 5).third == 5
    assert Leaf(1, 5, second=4) == Leaf(first=1, second=4, third=5)
    assert Leaf(1) != Base(1)
    # Last: whoever asks for it has the code written.
    assert str(inspect.signature(Leaf)).replace(": int", "").replace(" -> None", "").replace(" ", "") == (
        "(first,third=3,*,second=2)"
    )


@EACH
def test_methods_of_a_class_are_kept(dataclass: Decorator) -> None:
    @dataclass(frozen=True, repr=False)
    class Secret:
        text: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Secret)

        def __hash__(self) -> int:
            return 5

    assert Secret("a") == Secret("b")
    assert hash(Secret("a")) == 5
    assert "a" not in repr(Secret("a")).partition(" object at ")[0].rpartition(".")[2]


@EACH
def test_who_says_only_what_is_equal_has_the_hash_of_its_fields(dataclass: Decorator) -> None:
    @dataclass(frozen=True)
    class Name:  # noqa: PLW1641 - that is the fact
        text: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Name) and other.text == self.text

    assert len({Name("a"), Name("a"), Name("b")}) == 2


@EACH
def test_a_class_without_fields_can_be_made(dataclass: Decorator) -> None:
    @dataclass(frozen=True)
    class Nothing:
        pass

    assert Nothing() == Nothing()


@EACH
@pytest.mark.parametrize("frozen", [True, False])
def test_what_can_change_and_what_cannot_are_not_above_each_other(dataclass: Decorator, frozen: bool) -> None:
    one, other = {"frozen": frozen}, {"frozen": not frozen}

    @dataclass(**one)
    class Base:
        size: int

    with pytest.raises(TypeError, match="frozen"):

        @dataclass(**other)
        class Leaf(Base):
            pass


def test_what_is_only_for_making_a_value_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Line\.seed is an InitVar"):

        @ours
        class Line:
            seed: InitVar[int]


@EACH
def test_a_class_below_is_made_by_the_code_of_its_base(dataclass: Decorator) -> None:
    @dataclass(frozen=True)
    class Base:
        size: int

    class Below(Base):
        pass

    assert Below(3).size == 3
    assert Below(3) == Below(3)
    assert Base(3).size == 3


@EACH_WITH_REPLACE
def test_a_value_with_slots_may_be_generic_and_have_a_base(dataclass: Decorator, replace: Replace) -> None:
    @dataclass(frozen=True, slots=True)
    class Base(Generic[T]):
        first: T
        second: list[int] = field(default_factory=list)

    @dataclass(frozen=True, slots=True)
    class Leaf(Base[T]):
        third: int = 3

    one = Leaf("a", third=5)
    assert (type(one), one.first, one.second, one.third) == (Leaf, "a", [], 5)
    assert replace(one, first="b") == Leaf("b", [], 5)
    assert Base("a").second is not Base("a").second
    for value in (one, Base(1)):
        with pytest.raises(FrozenInstanceError):
            value.first = "c"  # type: ignore[misc]


@EACH_WITH_REPLACE
@pytest.mark.parametrize("slots", [True, False])
def test_a_class_below_a_value_is_made_and_replaced_as_itself(
    dataclass: Decorator, replace: Replace, slots: bool
) -> None:
    options = {"frozen": True, "slots": slots}

    @dataclass(**options)
    class Base:
        first: int
        second: int = 2

    class Below(Base):
        note = "n"

    one = Below(1)
    assert (type(one), one.first, one.second) == (Below, 1, 2)
    other = replace(one, second=5)
    assert (type(other), other.first, other.second) == (Below, 1, 5)


@EACH_WITH_REPLACE
def test_a_value_that_looks_at_itself_when_it_is_made_does_so_when_it_is_replaced(
    dataclass: Decorator, replace: Replace
) -> None:
    @dataclass(frozen=True, slots=True)
    class Span:
        start: int
        stop: int
        length: int = field(init=False)

        def __post_init__(self) -> None:
            if self.stop < self.start:
                raise ValueError("backwards")
            object.__setattr__(self, "length", self.stop - self.start)

    one = Span(1, 4)
    assert one.length == 3
    assert replace(one, stop=9).length == 8
    with pytest.raises(ValueError, match="backwards"):
        replace(one, stop=0)
    with pytest.raises(TypeError, match="middle"):
        replace(one, middle=2)


@EACH_WITH_REPLACE
@pytest.mark.parametrize("name", ["__init__", "__new__"])
def test_who_makes_its_values_itself_makes_the_replaced_too(
    dataclass: Decorator, replace: Replace, name: str
) -> None:
    made = []

    def init(self: Any, first: int, second: int) -> None:
        made.append("init")
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "second", second)

    def new(cls: Any, first: int, second: int) -> Any:
        made.append("new")
        return object.__new__(cls)

    space = {"__annotations__": {"first": int, "second": int}, name: init if name == "__init__" else new}
    pair = dataclass(frozen=True, slots=True)(type("Pair", (), space))
    other = replace(pair(1, 2), second=3)
    assert (other.first, other.second, len(made)) == (1, 3, 2)


@EACH_WITH_REPLACE
def test_a_default_that_fails_is_told_and_replace_does_not_ask_for_it(
    dataclass: Decorator, replace: Replace
) -> None:
    def fail() -> int:
        raise RuntimeError("no more")

    @dataclass(frozen=True, slots=True)
    class Line:
        name: str
        number: int = field(default_factory=fail)

    with pytest.raises(RuntimeError, match="no more"):
        Line("a")
    assert replace(Line("a", 1), number=2) == Line("a", 2)


@pytest.mark.parametrize("dataclass", [ours, written_at_once])
@pytest.mark.parametrize("slots", [True, False])
def test_what_no_call_can_give_is_not_replaced(dataclass: Decorator, slots: bool) -> None:
    options = {"frozen": True, "slots": slots}

    @dataclass(**options)
    class Line:
        name: str
        number: int = field(init=False, default=3)

    with pytest.raises(TypeError, match="'number'"):
        replace(Line("a"), number=2)
    with pytest.raises(TypeError, match="str is no dataclass"):
        replace("a", number=2)


@EACH
def test_what_has_no_default_does_not_stand_behind_what_has_one(dataclass: Decorator) -> None:
    with pytest.raises(TypeError, match="default"):

        @dataclass(frozen=True, slots=True)
        class Line:
            name: str = "a"
            length: int  # type: ignore[misc]


@EACH_WITH_REPLACE
def test_a_value_may_have_whatever_fields_python_can_name(dataclass: Decorator, replace: Replace) -> None:
    @dataclass(frozen=True, slots=True)
    class Line:
        self: str
        value: int = 3
        late: int = field(init=False)
        later: int = field(init=False)

    for _ in range(2):
        one = replace(Line("a"), value=4)
        assert (one.self, one.value, hasattr(one, "late")) == ("a", 4, False)


@EACH_WITH_REPLACE
def test_a_value_may_set_all_of_its_fields_itself_and_have_an_abstract_base(
    dataclass: Decorator, replace: Replace
) -> None:
    class Base(ABC):
        __slots__ = ()

        @abstractmethod
        def size(self) -> int: ...

    @dataclass(frozen=True, slots=True)
    class Line(Base):
        first: int = field(init=False)
        second: int = field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "first", 1)
            object.__setattr__(self, "second", 2)

        def size(self) -> int:
            return self.first + self.second

    assert Line().size() == 3
    assert replace(Line()) == Line()


def test_a_value_that_holds_itself_can_be_shown() -> None:
    @ours
    class Node:
        following: "Node | None" = None

    one = Node()
    one.following = one
    assert repr(one).endswith("Node(following=...)")


def is_written(made: type, name: str) -> bool:
    return inspect.isfunction(vars(made)[name])


def test_declaring_a_class_writes_no_code_nor_does_a_first_call() -> None:
    @ours(frozen=True, slots=True)
    class Line:
        name: str
        length: int = 3

    assert replace(Line("a"), length=4).length == 4
    assert not any(is_written(Line, name) for name in ("__init__", "__replace__", "__eq__", "__hash__"))


def test_the_code_of_what_is_called_often_is_written() -> None:
    @ours(frozen=True, slots=True)
    class Line:
        name: str
        length: int = 3

    made = [Line("a", length) for length in range(100)]
    assert [(each.name, each.length) for each in made] == [("a", length) for length in range(100)]
    assert vars(Line)["__init__"].__qualname__ == f"{Line.__qualname__}.__init__"
    assert not is_written(Line, "__replace__")
    assert [replace(Line("a"), length=each.length) for each in made] == made
    assert is_written(Line, "__replace__")


def test_the_code_that_compares_is_written_when_it_is_first_called() -> None:
    @ours(frozen=True, slots=True)
    class Line:
        name: str

    assert isinstance(hash(Line("a")), int)
    assert is_written(Line, "__hash__")
    assert not is_written(Line, "__eq__")
    assert Line("a") == Line("a")
    assert is_written(Line, "__eq__")


def test_a_call_that_is_wrong_writes_the_code_that_tells_so() -> None:
    @ours(frozen=True, slots=True)
    class Line:
        name: str
        length: int = 3

    wrong: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
        ((), {}),
        (("a", 1, 2), {}),
        (("a",), {"name": "b"}),
        (("a",), {"colour": 1}),
    )
    for unnamed, named in wrong:
        with pytest.raises(TypeError, match=r"Line\.__init__\(\)"):
            Line(*unnamed, **named)
    with pytest.raises(TypeError, match=r"__replace__\(\) got an unexpected keyword argument 'colour'"):
        replace(Line("a"), colour=1)


def test_a_class_without_a_docstring_is_described_by_its_name() -> None:
    @ours
    class Line:
        name: str

    assert Line.__doc__ == "Line"


def test_every_value_of_ours_that_is_made_as_its_twin_can_be() -> None:
    """Where the layouts differed, the code would fail, and only once it is written."""
    made = 0
    for module in pkgutil.walk_packages(haulier.__path__, "haulier."):
        if module.name.endswith("__main__"):
            continue
        for each in vars(import_module(module.name)).values():
            code = getattr(getattr(each, "__init__", None), "__globals__", {}) if is_dataclass(each) else {}
            if isinstance(each, type) and "__twin__" in code:
                value: Any = object.__new__(each)
                object.__setattr__(value, "__class__", code["__twin__"])
                value.__class__ = each
                made += 1
    assert made > 150
