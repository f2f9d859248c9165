"""Options that several commands share; each may come from `HAULIER_<OPTION>` too."""

from pathlib import Path
from typing import Annotated

import typer

from haulier.core.errors import InvalidRequest

DEFAULT_URL = "http://127.0.0.1:8000"


def _check_url(url: str) -> str:
    from haulier.client.wire import check_url

    try:
        return check_url(url)
    except InvalidRequest as error:
        raise typer.BadParameter(error.errors[0].reason) from error


Url = Annotated[
    str,
    typer.Option(
        "--url", envvar="HAULIER_URL", metavar="URL", callback=_check_url, help="Where the service is."
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", envvar="HAULIER_TOKEN", metavar="T", show_envvar=True, help="Sent as a bearer token."
    ),
]
Capsule = Annotated[
    str, typer.Option("--capsule", envvar="HAULIER_CAPSULE", metavar="NAME", help="A separate named space.")
]
Parallel = Annotated[
    int,
    typer.Option("--parallel", envvar="HAULIER_PARALLEL", min=1, max=64, metavar="N", help="Bodies at once."),
]
Json = Annotated[bool, typer.Option("--json", envvar="HAULIER_JSON", help="One JSON object a line.")]
Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar="HAULIER_HOME",
        hidden=True,
        help="Where the state of uploads under way is kept; the platform's user state directory by default.",
    ),
]
