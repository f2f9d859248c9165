"""`haulier doctor`: the start-up checks without a start."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from haulier.cli.options import Token
from haulier.cli.outcome import DONE, FAILED, explain, load_extra, tell
from haulier.cli.through import look_through
from haulier.core.errors import ConfigError


def doctor(
    data_dir: Annotated[
        Path | None, typer.Option(help="The service's data directory.  [default: .storage]")
    ] = None,
    through: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The address that clients use: look at what a proxy there does to uploads instead.",
        ),
    ] = None,
    token: Token = None,
) -> None:
    """Run the checks of 'haulier serve' without starting it; ends with 1 when something is wrong."""
    start_checks = load_extra("haulier.start_checks", command="doctor", extra="server")
    from haulier.config import load_settings
    from haulier.server.logs import configure_logging

    try:
        settings = load_settings({"data_dir": data_dir})
    except ConfigError as error:
        tell(explain(error))
        raise typer.Exit(FAILED) from error
    if through is not None:
        _look(through, token, interim=settings.interim_responses)
    # What the checks log goes to standard error; the verdicts stand alone on standard output.
    configure_logging(settings.log)
    checks = start_checks.check_service(settings)
    _report([(check.name, check.ok, check.detail) for check in checks])


def _look(url: str, token: str | None, *, interim: bool) -> NoReturn:
    """Tell what a proxy does."""
    findings = look_through(url, token, interim=interim)
    _report([(found.name, found.ok, found.detail) for found in findings])


def _report(verdicts: Sequence[tuple[str, bool, str]]) -> NoReturn:
    for name, ok, detail in verdicts:
        print(f"{'ok   ' if ok else 'WRONG'}  {name}: {detail}")
    raise typer.Exit(DONE if all(ok for _, ok, _ in verdicts) else FAILED)
