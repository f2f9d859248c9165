"""Commands whose modules are loaded when they are called.

Rule 1: whatever lists commands (help, completion, a mistyped name) loads none of them: the first line of their help stands
        in the table of their group, and a test holds it against theirs.
Rule 2: a command that was found is loaded, and is then what Typer makes of its module.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar, Final

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from haulier.cli.values import PlainGroup, take_plain_values

Table = Mapping[str, tuple[str, str]]
"""By the word that calls it: `module:name` of a function or of a `typer.Typer`, and the first line of its help."""

PLACE: Final = "haulier.cli."


class Later(TyperCommand):
    """Stands for a command in lists."""

    def __init__(self, name: str, place: str, first_line: str) -> None:
        super().__init__(name, help=first_line)
        self._place = place

    def load(self) -> TyperCommand | TyperGroup:
        """Import the command's module, and make the command."""
        module, _, attribute = self._place.partition(":")
        found = getattr(import_module(PLACE + module), attribute)
        command = typer.main.get_group(found) if isinstance(found, typer.Typer) else self._alone(found)
        command.name = self.name
        take_plain_values(command)
        return command

    def _alone(self, function: Callable[..., None]) -> TyperCommand:
        app = typer.Typer(add_completion=False)
        app.command(self.name)(function)
        command = typer.main.get_command(app)
        assert isinstance(command, TyperCommand)
        return command


class LaterGroup(PlainGroup):
    """A group whose commands stand in `table`."""

    table: ClassVar[Table] = {}

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        for name, (place, first_line) in self.table.items():
            self.add_command(Later(name, place, first_line))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that is called, and load it."""
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, Later):
            command = command.load()
            self.add_command(command)
        return name, command, rest

    def load_all(self) -> None:
        """Load every command, for whoever wants to see them whole."""
        for command in list(self.commands.values()):
            if isinstance(command, Later):
                self.add_command(command.load())
