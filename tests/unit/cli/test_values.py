"""Values that are read without Pydantic: they are what Typer makes of them, and what is wrong is told by Typer."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
import typer.main
from typer.core import TyperArgument, TyperCommand, TyperOption
from typer.testing import CliRunner

from haulier.cli.values import take_plain_values


class Kind(StrEnum):
    LOW = "low"
    HIGH = "high"


def command(**options: Any) -> tuple[TyperCommand, dict[str, Any]]:
    """Return a command with every kind of parameter, and what it was last called with."""
    app, seen = typer.Typer(add_completion=False), dict[str, Any]()

    @app.command()
    def run(
        files: Annotated[list[Path] | None, typer.Argument()] = None,
        kind: Kind = Kind.LOW,
        word: str | None = None,
        seconds: Annotated[float | None, typer.Option(min=0)] = None,
        port: Annotated[int, typer.Option(min=0, max=65535)] = 1,
        folder: Annotated[Path | None, typer.Option(exists=True, file_okay=False)] = None,
        option: list[str] | None = None,
        quick: Annotated[bool, typer.Option("--quick", envvar="QUICK")] = False,
        parsed: Annotated[int | None, typer.Option(parser=int)] = None,
    ) -> None:
        seen.update(
            files=files, kind=kind, word=word, seconds=seconds, port=port, folder=folder, option=option,
            quick=quick, parsed=parsed,
        )  # fmt: skip

    made = typer.main.get_command(app)
    assert isinstance(made, TyperCommand)
    return made, seen


def run(made: TyperCommand, *arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app._add_completion = False
    with CliRunner().isolation() as streams:
        try:
            made.main(list(arguments), prog_name="run", standalone_mode=True)
        except SystemExit as ended:
            return int(ended.code or 0), streams[1].getvalue().decode() + streams[0].getvalue().decode()
    return 0, ""


ARGUMENTS: list[list[str]] = [
    [],
    ["a", "b/c", "-"],
    ["--kind", "high"],
    ["--kind", "HIGH"],
    ["--kind", "other"],
    ["--word", ""],
    ["--word", "  blank "],
    ["--seconds", "1.5"],
    ["--seconds", "7"],
    ["--seconds", "1e3"],
    ["--seconds", " 2 "],
    ["--seconds", "-1"],
    ["--seconds", "nan"],
    ["--seconds", "soon"],
    ["--seconds", "٣"],
    ["--port", "0"],
    ["--port", "65536"],
    ["--port", "007"],
    ["--port", "1_0"],
    ["--port", "1.0"],
    ["--folder", "/"],
    ["--folder", "/etc/hostname"],
    ["--folder", "/nowhere"],
    ["--option", "a=1", "--option", "b"],
    ["--quick"],
    ["--parsed", "3"],
    ["--parsed", "x"],
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=" ".join)
def test_each_value_and_each_mistake_is_as_typer_has_it(arguments: list[str]) -> None:
    plain, seen = command()
    take_plain_values(plain)
    theirs, expected = command()
    assert run(plain, *arguments) == run(theirs, *arguments)
    assert (seen, [type(each) for each in seen.values()]) == (
        expected,
        [type(each) for each in expected.values()],
    )


def test_plain_values_are_not_left_to_typer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: object) -> Callable[..., Any]:
        raise AssertionError("left to Typer")

    monkeypatch.setattr(TyperOption, "get_runtime_param", refuse)
    monkeypatch.setattr(TyperArgument, "get_runtime_param", refuse)
    made, seen = command()
    take_plain_values(made)
    given = [
        "x",
        "--kind",
        "high",
        "--word",
        "w",
        "--seconds",
        "2",
        "--port",
        "80",
        "--folder",
        "/",
        "--option",
        "a",
    ]
    assert run(made, *given)[0] == 0
    assert (seen["files"], seen["kind"], seen["seconds"], seen["port"]) == ([Path("x")], Kind.HIGH, 2.0, 80)


@pytest.mark.parametrize("arguments", [["--folder", ""], ["a", ""]], ids=["option", "argument"])
def test_an_empty_path_is_a_mistake_and_not_the_folder_that_we_are_in(arguments: list[str]) -> None:
    made, seen = command()
    take_plain_values(made)
    code, *words = run(made, *arguments)
    assert (code, seen) == (2, {})
    assert "must not be empty" in str(words)
