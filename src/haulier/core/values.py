"""The dataclasses of this package: those of the standard library, except that their code is written when it is called often.

Rule 1: what a dataclass is, the standard library says: fields, their order, defaults, `replace`, `asdict`. Type checkers see
        nothing else.
Rule 2: declaring one compiles nothing. The standard decorator writes and compiles up to seven functions for each class, which
        takes longer than all the rest of its module; and a command declares many more classes than it makes values of.
        Nor does it make many of each: the first are made by going through the fields, which does what the code will do. A
        call that is not plainly right is left to the code, so that what is wrong is told in Python's words.
Rule 3: a frozen value with slots is made, by its class or by `replace`, as a value of its class's twin: a class of the same
        layout whose fields can be set. When all are, it becomes what it is. To set a field past the `__setattr__` that
        refuses it costs nearly thirty times an assignment.
Rule 4: what is not here is refused where it is declared: `order` and the other options that nobody needs, `InitVar`, a frozen
        class and a changeable one above each other. Signatures have no annotations.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping
from functools import partial
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

__all__ = ["dataclass", "replace"]

V = TypeVar("V")

_STANDARD_REPLACE: Final = dataclasses.replace  # noqa: TID251 - what goes through the class, with all that it does
_WORTH_A_TWIN: Final = 2
"""Fewest fields for which two changes of class cost less than setting each of them past `__setattr__`."""
_OFTEN: Final = 50
"""Calls after which a method's code is written: going through the fields has cost about as much by then as that does."""


def replace(value: V, /, **changes: Any) -> V:
    """Return a value like this one with some fields changed, as the standard function does.

    Raises:
        TypeError: a field cannot be given: there is none of that name, or it has `init=False`; or this is no value of ours.
    """
    try:
        make_anew = value.__replace__  # type: ignore[attr-defined]
    except AttributeError:
        raise TypeError(f"{type(value).__name__} is no dataclass of haulier.core.values") from None
    changed: V = make_anew(**changes)
    return changed


if TYPE_CHECKING:
    from dataclasses import dataclass  # noqa: TID251 - what the other way below stands for
else:

    def dataclass(
        declared: type | None = None,
        *,
        repr: bool = True,  # noqa: A002 - the words of the standard decorator
        eq: bool = True,
        frozen: bool = False,
        slots: bool = False,
        kw_only: bool = False,
    ) -> type | Callable[[type], type]:
        """Make a dataclass, with or without arguments as the standard decorator; see the head of this file."""

        def make(declared: type) -> type:
            # What the class itself says: from Python 3.13 on the standard decorator adds `__replace__` to it.
            own = dict(vars(declared))
            # The standard decorator describes a class without a docstring by its signature, which takes long.
            declared.__doc__ = declared.__doc__ or declared.__name__
            fields_of = dataclasses.dataclass(  # noqa: TID251 - rule 1
                init=False, repr=False, eq=False, slots=slots, kw_only=kw_only
            )
            made = fields_of(declared)
            _require_possible(made, frozen=frozen)
            for name, method in _methods_of(made, repr=repr, eq=eq, frozen=frozen).items():
                # Who has an `__eq__` of its own and no `__hash__` has None from Python, which nobody wrote.
                if own.get(name) is None:
                    setattr(made, name, method)
            return made

        return make if declared is None else make(declared)


def _require_possible(made: Any, *, frozen: bool) -> None:
    """Refuse what the standard decorator refuses, or can do and this one cannot. Raises TypeError."""
    for each in made.__dataclass_fields__.values():
        if "InitVar" in str(each.type):
            raise TypeError(f"{made.__name__}.{each.name} is an InitVar; give __post_init__ a field instead")
    optional = ""
    for each in dataclasses.fields(made):
        if each.init and not each.kw_only:
            if each.default is not dataclasses.MISSING or each.default_factory is not dataclasses.MISSING:
                optional = each.name
            elif optional:
                raise TypeError(
                    f"{made.__name__}.{each.name} has no default and stands behind {optional}, which has one"
                )
    bases: tuple[Any, ...] = made.__mro__[1:]
    for base in bases:
        if hasattr(base, "__dataclass_fields__") and (base.__setattr__ is _refuse_set) is not frozen:
            raise TypeError(f"{made.__name__} and {base.__name__} must both be frozen, or both not")


def _methods_of(made: Any, *, repr: bool, eq: bool, frozen: bool) -> dict[str, Any]:  # noqa: A002 - as above
    """Return what a class gets, by name."""
    set_all = partial(_set_all, object.__setattr__ if frozen else setattr)
    methods: dict[str, Any] = {"__replace__": _replace_by_class}
    lines_of: _Lines = _put_all if frozen else _assign_all
    if frozen and _can_have_twin(made):
        methods["__replace__"] = _WrittenLate(made, "__replace__", _write_twin_replace, _replace_all)
        lines_of = _set_by_twin
    methods["__init__"] = _WrittenLate(made, "__init__", partial(_write_init, lines_of), set_all)
    if repr:
        methods["__repr__"] = _repr
    if eq:
        methods["__eq__"] = _WrittenLate(made, "__eq__", _write_eq)
        methods["__hash__"] = _WrittenLate(made, "__hash__", _write_hash) if frozen else None
    if frozen:
        methods.update(_FROZEN)
    return methods


def _can_have_twin(made: Any) -> bool:
    """Whether values of a class are all slots and are made by nothing but our code, and it is worth it."""
    plain = not made.__dictoffset__ and made.__new__ is object.__new__ and "__init__" not in vars(made)
    # A twin has none of its class's methods, so nothing that an abstract base asks for.
    whole = not any(getattr(base, "__abstractmethods__", None) for base in made.__mro__)
    return plain and whole and len(dataclasses.fields(made)) >= _WORTH_A_TWIN


_Source = tuple[str, Mapping[str, Any]]
"""Python text of one function, and the names that it uses."""


class _WrittenLate:
    """Stands for a method of a class until it has been asked for often; threads that ask at once write the same twice.

    Args:
        made: the class.
        name: of the method.
        write: returns its code.
        at_first: called with this object, the instance and the arguments, for the first `_OFTEN` calls; it does the same
            without code, or leaves it to `written`. None: the code is written at the first call.
    """

    def __init__(
        self,
        made: type,
        name: str,
        write: Callable[[Any], _Source],
        at_first: Callable[..., Any] | None = None,
    ) -> None:
        self.made: Final[Any] = made
        self._name = name
        self._write = write
        self._at_first = at_first
        self._asked = 0

    def __get__(self, instance: object, owner: type) -> Any:
        self._asked += 1
        # Asked of no instance, it is somebody who looks: signatures are the code's.
        if not isinstance(instance, self.made) or self._at_first is None or self._asked > _OFTEN:
            return self.written().__get__(instance, owner)
        return partial(self._at_first, self, instance)

    def written(self) -> Any:
        """Write the method, and put it in this one's place."""
        text, names = self._write(self.made)
        scope = dict(names)
        exec(text, scope)  # noqa: S102 - as the standard decorator does
        method = scope[self._name]
        method.__qualname__ = f"{self.made.__qualname__}.{self._name}"
        setattr(self.made, self._name, method)
        return method


def _set_all(
    put: Callable[[Any, str, Any], None], late: _WrittenLate, value: Any, /, *unnamed: Any, **named: Any
) -> None:
    """Set all fields of a value, as its `__init__` does."""
    described = dataclasses.fields(late.made)
    order = [each.name for each in described if each.init and not each.kw_only]
    given = dict(zip(order, unnamed, strict=False)) | named
    is_right = len(given) == len(unnamed) + len(named)
    values = dict[str, Any]()
    for each in described:
        if each.init and each.name in given:
            values[each.name] = given.pop(each.name)
        elif each.default is not dataclasses.MISSING:
            values[each.name] = each.default
        elif each.default_factory is not dataclasses.MISSING:
            values[each.name] = each.default_factory()
        else:
            is_right = is_right and not each.init
    if given or not is_right:
        late.written()(value, *unnamed, **named)
    else:
        for name, one in values.items():
            put(value, name, one)
        if hasattr(late.made, "__post_init__"):
            value.__post_init__()


def _replace_by_class(value: Any, /, **changes: Any) -> Any:
    """Return a value made anew by its class, as the standard `replace` of Python 3.13 does. Raises TypeError."""
    for each in dataclasses.fields(value):
        if not each.init and each.name in changes:
            raise TypeError(f"{each.name!r} of {type(value).__name__} cannot be given, so not replaced")
    return _STANDARD_REPLACE(value, **changes)


def _replace_all(late: _WrittenLate, value: Any, /, **changes: Any) -> Any:
    """Return a value made anew, as `__replace__` does."""
    if changes.keys() <= {each.name for each in dataclasses.fields(late.made) if each.init}:
        return _STANDARD_REPLACE(value, **changes)
    return late.written()(value, **changes)


_Lines = Callable[[Mapping[str, str]], list[str]]
"""Makes the lines that set fields to these expressions."""


def _write_init(lines_of: _Lines, made: Any) -> _Source:
    parameters, values, names = _arguments(made)
    if lines_of is _set_by_twin:
        names |= {"__made__": made, "__twin__": _twin_of(made)}
    lines = [*lines_of(values), *_last_step(made, "__self__"), "return None"]
    return _function("__init__", ["__self__", *parameters], lines), names


def _assign_all(values: Mapping[str, str]) -> list[str]:
    return [f"__self__.{name} = {value}" for name, value in values.items()]


def _put_all(values: Mapping[str, str]) -> list[str]:
    return [f"__put__(__self__, {name!r}, {value})" for name, value in values.items()]


def _set_by_twin(values: Mapping[str, str]) -> list[str]:
    return [
        "if __self__.__class__ is __made__:",
        "    __put__(__self__, '__class__', __twin__)",
        *(f"    {line}" for line in _assign_all(values)),
        "    __self__.__class__ = __made__",
        "else:",  # a class below this one, which may have another layout
        *(f"    {line}" for line in _put_all(values) or ["pass"]),
    ]


def _last_step(made: Any, which: str) -> list[str]:
    return [f"{which}.__post_init__()"] if hasattr(made, "__post_init__") else []


def _function(name: str, parameters: list[str], lines: list[str]) -> str:
    return "\n    ".join([f"def {name}({', '.join(parameters)}):", *lines])


def _arguments(made: Any) -> tuple[list[str], dict[str, str], dict[str, Any]]:
    """Return what makes a value: parameters, the expressions of the fields, and the names in these, which no field has."""
    names: dict[str, Any] = {"__put__": object.__setattr__, "__unset__": object()}
    parameters: dict[bool, list[str]] = {False: [], True: []}
    values = dict[str, str]()
    for field in dataclasses.fields(made):
        value, default = field.name, f"__default_{field.name}__"
        if field.default_factory is not dataclasses.MISSING:
            names[default] = field.default_factory
            value = f"{default}() if {value} is __unset__ else {value}" if field.init else f"{default}()"
            default = "__unset__"
        elif field.default is not dataclasses.MISSING:
            names[default] = field.default
            value = value if field.init else default
        else:
            default = ""
        if field.init:
            parameters[bool(field.kw_only)].append(f"{field.name}={default}" if default else field.name)
        if field.init or default:
            values[field.name] = value
    star = ["*"] if parameters[True] else []
    return [*parameters[False], *star, *parameters[True]], values, names


def _write_twin_replace(made: Any) -> _Source:
    _, values, names = _arguments(made)
    names |= {"__made__": made, "__new__": object.__new__, "__twin__": _twin_of(made)}
    names["__standard__"] = _STANDARD_REPLACE
    given = [field.name for field in dataclasses.fields(made) if field.init]
    values |= {name: f"__self__.{name} if {name} is __unset__ else {name}" for name in given}
    changes = ", ".join(f"{name!r}: {name}" for name in given)
    lines = [
        "if __self__.__class__ is not __made__:",
        f"    __given__ = {{{changes}}}.items()",
        "    return __standard__(__self__, **{name: value for name, value in __given__ if value is not __unset__})",
        "__changed__ = __new__(__twin__)",
        *(f"__changed__.{name} = {value}" for name, value in values.items()),
        "__changed__.__class__ = __made__",
        *_last_step(made, "__changed__"),
        "return __changed__",
    ]
    return _function("__replace__", ["__self__", "*", *(f"{name}=__unset__" for name in given)], lines), names


def _twin_of(made: Any) -> type:
    """Return a class of the same layout, whose fields can be set; each class has one."""
    own = vars(made)
    if "__twin__" not in own:
        body = {"__slots__": own["__slots__"], "__setattr__": object.__setattr__}
        bases = own.get("__orig_bases__", made.__bases__)
        made.__twin__ = types.new_class(
            f"{made.__name__}Twin", bases, exec_body=lambda space: space.update(body)
        )
    twin: type = own["__twin__"]
    return twin


def _write_eq(made: Any) -> _Source:
    ours, theirs = _compared(made, "self"), _compared(made, "other")
    same = "other.__class__ is self.__class__"
    return f"def __eq__(self, other): return {ours} == {theirs} if {same} else NotImplemented", {}


def _write_hash(made: Any) -> _Source:
    return f"def __hash__(self): return hash({_compared(made, 'self')})", {}


def _compared(made: Any, which: str) -> str:
    return f"({''.join(f'{which}.{each.name},' for each in dataclasses.fields(made) if each.compare)})"


@recursive_repr("...")
def _repr(self: Any) -> str:
    told = [f"{each.name}={getattr(self, each.name)!r}" for each in dataclasses.fields(self) if each.repr]
    return f"{type(self).__qualname__}({', '.join(told)})"


def _refuse_set(self: object, name: str, value: object) -> NoReturn:  # noqa: ARG001 - Python calls it with both
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: object, name: str) -> NoReturn:  # noqa: ARG001 - as above
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, each.name) for each in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for each, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, each.name, value)


_FROZEN: Final[Mapping[str, Any]] = {
    "__setattr__": _refuse_set,
    "__delattr__": _refuse_delete,
    "__getstate__": _state,
    "__setstate__": _set_state,
}
"""What every frozen class has; copies are made by the state, past what refuses."""
