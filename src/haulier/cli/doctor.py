"""`haulier doctor`: the start-up checks without a start."""

from pathlib import Path
from typing import Annotated

import typer

from haulier.cli.outcome import DONE, FAILED, explain, load_extra, tell
from haulier.core.errors import ConfigError


def doctor(
    data_dir: Annotated[
        Path | None, typer.Option(help="The service's data directory.  [default: .storage]")
    ] = None,
) -> None:
    """Run the checks of 'haulier serve' without starting it; ends with 1 when something is wrong."""
    bootstrap = load_extra("haulier.bootstrap", command="doctor", extra="server")
    start_checks = load_extra("haulier.start_checks", command="doctor", extra="server")
    from haulier.config import load_settings

    try:
        settings = load_settings({"data_dir": data_dir})
    except ConfigError as error:
        tell(explain(error))
        raise typer.Exit(FAILED) from error
    # What the checks log goes to standard error; the verdicts stand alone on standard output.
    bootstrap.configure_logging(settings.log)
    checks = start_checks.check_service(settings)
    for check in checks:
        print(f"{'ok   ' if check.ok else 'WRONG'}  {check.name}: {check.detail}")
    raise typer.Exit(DONE if all(check.ok for check in checks) else FAILED)
