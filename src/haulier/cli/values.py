"""Values of options and arguments, read without Pydantic where they are plainly right.

Typer reads every value by a schema of Pydantic, whose import takes longer than most commands do. What is plainly of its
type needs none; whatever is not is left to Typer, and so is how a mistake is told.
"""

import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import typer
from typer._coercion import RuntimeParam, TypeDescriptor
from typer._param_types import coerce_cli_path
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

NUMBERS: Final = {
    int: re.compile(r"\d{1,15}", re.ASCII),
    float: re.compile(r"\d{1,15}(\.\d{1,15})?", re.ASCII),
}
"""As people write them; Pydantic knows more ways."""


class NotPlainError(Exception):
    """Typer is to judge this value."""


class PlainCommand(TyperCommand):
    """A command whose parameters take plain values by themselves."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return its parameters, those that Typer adds itself included."""
        return [_taking_plain(each) for each in super().get_params(ctx)]


class PlainGroup(TyperGroup):
    """A group whose parameters do."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return its parameters, those that Typer adds itself included."""
        return [_taking_plain(each) for each in super().get_params(ctx)]


def take_plain_values(command: TyperCommand | TyperGroup) -> None:
    """Let the parameters of a command, and of all below it, take plain values by themselves."""
    if type(command) is TyperCommand:
        command.__class__ = PlainCommand
    elif type(command) is TyperGroup:
        command.__class__ = PlainGroup
        for each in command.commands.values():
            assert isinstance(each, TyperCommand | TyperGroup)
            take_plain_values(each)


class _Option(TyperOption):
    def get_runtime_param(self) -> Any:
        return _Values(super().get_runtime_param)


class _Argument(TyperArgument):
    def get_runtime_param(self) -> Any:
        return _Values(super().get_runtime_param)


def _taking_plain(parameter: Any) -> Any:
    if type(parameter) is TyperOption:
        parameter.__class__ = _Option
    elif type(parameter) is TyperArgument:
        parameter.__class__ = _Argument
    return parameter


class _Values:
    """What Typer asks for the value of a parameter."""

    def __init__(self, otherwise: Callable[[], RuntimeParam]) -> None:
        self._otherwise = otherwise

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value as the command takes it."""
        _require_path(value, param, ctx)
        try:
            if param.multiple or param.nargs == -1:
                return _plain_list(value, param, ctx)
            return None if value is None else _plain(value, param.type_descriptor.annotation, param, ctx)
        except NotPlainError:
            return self._otherwise().coerce(value, param=param, ctx=ctx)


def _require_path(value: Any, param: Any, ctx: Any) -> None:
    # Python takes an empty path for the directory we are in, and means it; a script whose variable is empty does not.
    given = value if isinstance(value, list | tuple) else [value]
    annotation = param.type_descriptor.annotation
    if "" in given and Path in {annotation, *get_args(annotation)}:
        raise typer.BadParameter("must not be empty", ctx=ctx, param=param)


def _plain_list(value: Any, param: Any, ctx: Any) -> Any:
    if value is None:
        return ()
    annotation = param.type_descriptor.annotation
    if get_origin(annotation) is not list or not isinstance(value, list | tuple):
        raise NotPlainError
    return [_plain(each, get_args(annotation)[0], param, ctx) for each in value]


def _plain(value: Any, annotation: Any, param: Any, ctx: Any) -> Any:
    descriptor: TypeDescriptor = param.type_descriptor
    info = descriptor.parameter_info
    if info.parser is not None:
        raise NotPlainError
    if annotation is str and type(value) is str:
        return value
    if annotation is Path and isinstance(value, str | Path):
        return coerce_cli_path(Path(value), info, path_type=Path, param=param, ctx=ctx)
    if annotation in NUMBERS:
        return _plain_number(value, annotation, info)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        for member in annotation:
            if value is member or (type(value) is str and value == member.value):
                return member
    raise NotPlainError


def _plain_number(value: Any, annotation: type[int] | type[float], info: Any) -> int | float:
    if type(value) is str and NUMBERS[annotation].fullmatch(value):
        value = annotation(value)
    if type(value) is not annotation or info.clamp:
        raise NotPlainError
    if (info.min is not None and value < info.min) or (info.max is not None and value > info.max):
        raise NotPlainError
    return value
