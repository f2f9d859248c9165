"""`haulier remote`: places that files are sent to."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final

import typer

from haulier.cli.display import print_json, printable
from haulier.cli.journal import HomeDirectory, complete_remote, log_to_stderr, open_places
from haulier.cli.options import Json, Token
from haulier.cli.outcome import DONE, FAILED, USAGE, exit_code, explain, run, tell
from haulier.core.errors import ConfigError, PeerError
from haulier.core.hosts import shown_address
from haulier.core.secret import Secret

if TYPE_CHECKING:
    from haulier.remotes.catalogue import RemoteSettings

app = typer.Typer(no_args_is_help=True, help="Set up the places that files are sent to.")

SECRET_OPTIONS: Final = "header."  # noqa: S105 - how their names begin
"""Options that begin so are never shown: headers carry credentials."""


Name = Annotated[
    str, typer.Argument(metavar="NAME", help="What it is called.", autocompletion=complete_remote)
]


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is to be called.")],
    kind: Annotated[
        str,
        typer.Option(
            "--type", envvar="HAULIER_TYPE", metavar="haulier|tus|s3|onedrive", help="What it speaks."
        ),
    ],
    url: Annotated[str, typer.Option("--url", envvar="HAULIER_URL", metavar="URL", help="Where it is.")],
    option: Annotated[
        list[str] | None,
        typer.Option("--option", envvar="HAULIER_OPTION", metavar="KEY=VALUE", help="One more setting."),
    ] = None,
    token: Token = None,
    as_json: Json = False,
    home: HomeDirectory = None,
    *,
    context: typer.Context,
) -> None:
    """Set a remote up, or set it up anew. Nothing is asked of it; see 'haulier remote test'.

    A token is taken from HAULIER_TOKEN; 'haulier remote login' asks for it. Both are kept in a file that only you can
    read.
    """
    options = dict(_pair(text) for text in option or [])

    def work() -> int:
        from haulier.remotes.catalogue import RemoteSettings, takes_secret

        places = open_places(home)
        # The variable is for every command: a kind without tokens has no use for it, and does not keep it.
        source = context.get_parameter_source("token")
        meant = source is not None and source.name == "COMMANDLINE"
        kept = token is not None and (meant or takes_secret(kind, "token"))
        secrets = {"token": Secret(token)} if token is not None and kept else {}
        settings = RemoteSettings(name=name, type=kind, url=url, options=options, secrets=secrets)
        new = places.put(settings)
        _print(settings, as_json=as_json) if as_json else print(
            f"{'added' if new else 'changed'} {printable(name)}"
        )
        return DONE

    _run(work)


@app.command("list")
def list_remotes(as_json: Json = False, home: HomeDirectory = None) -> None:
    """List the remotes, never their secrets."""

    def work() -> int:
        for settings in open_places(home).settings().values():
            _print(settings, as_json=as_json)
        return DONE

    _run(work)


@app.command("test")
def probe(name: Name, home: HomeDirectory = None) -> None:
    """Ask whether a remote answers and takes the credentials; changes nothing there."""
    log_to_stderr(quiet=True)

    async def work() -> int:
        places = open_places(home)
        try:
            await places.require(name).probe()
        except PeerError as error:
            # Cures of the other commands are for a service of ours.
            tell(f"{name}: {error}")
            return exit_code(error)
        finally:
            await places.close()
        print(f"{printable(name)} answers, and takes the credentials")
        return DONE

    run(work())


@app.command()
def login(name: Name, home: HomeDirectory = None) -> None:
    """Enter a remote's secret, or sign in. What is entered is not shown, and kept in a file that only you can read."""

    async def work() -> int:
        from haulier.places import with_secret
        from haulier.remotes.catalogue import secrets_of, sign_in_of

        places = open_places(home)
        settings = places.require_settings(name)
        if not secrets_of(settings) and "login" not in settings.options:
            raise ConfigError(
                "remote",
                name,
                f"there is nothing to enter for {settings.type}; its options say where tokens come from",
            )
        for secret in secrets_of(settings):
            given = typer.prompt(f"{secret} of {name}", hide_input=True, err=True)
            settings = with_secret(settings, secret, Secret(given.strip()))
        tokens = sign_in_of(settings)
        if tokens is not None:
            await tokens.sign_in(lambda words: tell(printable(words)))
        places.put(settings)
        done = "kept the secrets of" if tokens is None else "signed in for"
        print(f"{done} {printable(name)}")
        return DONE

    run(work())


@app.command()
def rm(name: Name, home: HomeDirectory = None) -> None:
    """Forget a remote; transfers to it are blocked.

    They go on when one of that name is set up again, and they are resumed.
    """

    def work() -> int:
        open_places(home).remove(name)
        print(f"removed {printable(name)}")
        return DONE

    _run(work)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        # What was given is not shown: it may be a secret without its name.
        raise typer.BadParameter("it must be KEY=VALUE", param_hint="--option")
    return key, value


def _print(settings: "RemoteSettings", *, as_json: bool) -> None:
    options = {
        key: "***" if key.startswith(SECRET_OPTIONS) else value for key, value in settings.options.items()
    }
    secrets, url = sorted(settings.secrets), shown_address(settings.url)
    if as_json:
        print_json(
            {
                "name": settings.name,
                "type": settings.type,
                "url": url,
                "options": options,
                "secrets": secrets,
            }
        )
        return
    shown = " ".join(
        [*(f"{key}={value}" for key, value in options.items()), *(f"{name}=***" for name in secrets)]
    )
    print(f"{settings.name:20}  {settings.type:8}  {printable(url)}  {printable(shown)}".rstrip())


def _run(work: Callable[[], int]) -> None:
    try:
        code = work()
    except ConfigError as error:
        tell(explain(error))
        raise typer.Exit(USAGE) from error
    except OSError as error:
        tell(explain(error))
        raise typer.Exit(FAILED) from error
    raise typer.Exit(code)
