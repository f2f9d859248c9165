"""The options of `haulier soulseek`, and what they mean."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from haulier.core.errors import ConfigError

if TYPE_CHECKING:
    from haulier.soulseek.node import NodeSettings

DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir", envvar="HAULIER_DATA_DIR", metavar="DIR", help="Where the node keeps what it knows."
    ),
]
User = Annotated[
    str | None, typer.Option("--user", envvar="HAULIER_USER", metavar="NAME", help="Whom to log in as.")
]
Server = Annotated[
    str | None,
    typer.Option("--server", envvar="HAULIER_SERVER", metavar="HOST:PORT", help="Where users meet."),
]
Listen = Annotated[
    str, typer.Option("--listen", envvar="HAULIER_LISTEN", metavar="HOST:PORT", help="Where peers reach us.")
]
Password = Annotated[
    str | None,
    typer.Option(
        "--password", envvar="HAULIER_SOULSEEK_PASSWORD", hidden=True, help="Better in the environment."
    ),
]
ControlAt = Annotated[
    str | None,
    typer.Option(
        "--control",
        envvar="HAULIER_CONTROL",
        metavar="HOST:PORT",
        help="Where the running node is controlled.",
    ),
]
ControlToken = Annotated[
    str | None,
    typer.Option("--control-token", envvar="HAULIER_CONTROL_TOKEN", hidden=True, help="For --control."),
]
Log = Annotated[str, typer.Option("--log", envvar="HAULIER_LOG", hidden=True, help="console or json.")]
Advertised = Annotated[
    int | None,
    typer.Option(
        "--advertise-port",
        envvar="HAULIER_ADVERTISE_PORT",
        min=1,
        max=65535,
        metavar="N",
        help="Told to others.",
    ),
]
SlotCount = Annotated[
    int, typer.Option("--slots", envvar="HAULIER_SLOTS", min=0, metavar="N", help="Uploads at once; 0: any.")
]
FirstCome = Annotated[
    bool,
    typer.Option("--first-come", envvar="HAULIER_FIRST_COME", help="No turns of users: who asked first."),
]
Buddies = Annotated[
    list[str] | None,
    typer.Option(
        "--buddy", envvar="HAULIER_BUDDY", metavar="NAME", help="Goes before others; may be repeated."
    ),
]
Banned = Annotated[
    list[str] | None,
    typer.Option("--ban", envvar="HAULIER_BAN", metavar="NAME", help="Gets nothing; may be repeated."),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate", envvar="HAULIER_RATE", min=1, metavar="B", help="Bytes per second of all uploads."
    ),
]
UserRate = Annotated[
    float | None,
    typer.Option(
        "--user-rate", envvar="HAULIER_USER_RATE", min=1, metavar="B", help="Bytes per second of one user."
    ),
]
Id = Annotated[str, typer.Argument(metavar="T", help="The transfer's id, as list shows it.")]


def settings(
    user: str | None, password: str | None, server: str | None, listen: str, **more: Any
) -> "NodeSettings":
    """Return how a node is run; raises ConfigError."""
    from haulier.core.secret import Secret
    from haulier.soulseek.node import NodeSettings
    from haulier.soulseek.server_link import Identity

    if user is None:
        raise ConfigError("user", "", "say whom to log in as, with --user NAME")
    if server is None:
        raise ConfigError("server", "", "say where users meet, with --server HOST:PORT")
    if not password:
        raise ConfigError("soulseek_password", "", "give it in the environment: HAULIER_SOULSEEK_PASSWORD")
    where, here = address("server", server), address("listen", listen)
    check_ipv4("listen", here[0])
    identity = Identity(user=user, password=Secret(password), host=where[0], port=where[1])
    return NodeSettings(identity=identity, host=here[0], port=here[1], **more)


def address(setting: str, text: str) -> tuple[str, int]:
    """Return the host and the port of a setting; raises ConfigError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not int(port) < 65536:
        raise ConfigError(setting, text, "expected HOST:PORT")
    return host.strip("[]"), int(port)


def check_ipv4(setting: str, host: str) -> None:
    """Raise ConfigError for an address that the protocol has no room for."""
    if ":" in host:
        raise ConfigError(
            setting, host, "peers tell each other IPv4 addresses; listen on one, like 127.0.0.1"
        )


def named_port(text: str) -> tuple[str, int]:
    """Return the name and the port of NAME=PORT; raises ConfigError."""
    name, equals, port = text.rpartition("=")
    if not equals or not name or not port.isdecimal() or not int(port) < 65536:
        raise ConfigError("report_port", text, "expected NAME=PORT")
    return name, int(port)


def announce(command: str) -> Callable[[str], None]:
    """Return what prints the first line of a command that goes on."""

    def tell(address: str) -> None:
        print(f"haulier soulseek {command} ready on {address}", flush=True)

    return tell
