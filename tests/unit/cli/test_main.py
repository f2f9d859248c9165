"""The command line as a whole: its flags, its environment, and what it costs to start."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from haulier.cli.later import Later
from haulier.cli.main import Commands, app
from haulier.config import CLI_VARIABLES, Settings
from haulier.machine import NEW_OBJECTS

PROMISED = {
    "serve": {
        "--host", "--port", "--data-dir", "--workers", "--config", "--no-transfers", "--bandwidth", "--cors-origin",
        "--local-users", "--open",
    },
    "put": {"-r", "--url", "--token", "--capsule", "--parallel", "--digest", "--derivatives", "--json"},
    "ls": {"--mine", "--status", "--since", "--url", "--json"},
    "get": {"-o", "--url", "--json"},
    "rm": {"--url", "--json"},
    "push": {
        "--to", "--priority", "--if-exists", "--id", "--no-wait", "--timeout", "--bandwidth", "--journal", "--json",
    },
    "transfers list": {"--journal", "--json"},
    "transfers show": {"--journal", "--json"},
    "transfers wait": {"--timeout", "--bandwidth", "--journal", "--json"},
    "transfers pause": {"--journal", "--json"},
    "transfers resume": {"--journal", "--json"},
    "transfers cancel": {"--journal", "--json"},
    "transfers retry": {"--journal", "--json"},
    "transfers bump": {"--journal", "--json"},
    "transfers remove": {"--journal", "--json"},
    "remote add": {"--type", "--url", "--option"},
    "remote list": set(),
    "remote test": set(),
    "remote login": set(),
    "remote rm": set(),
    "agent": {"--journal", "--bandwidth"},
    "watch": {"--to", "--bandwidth"},
    "doctor": {"--data-dir", "--through", "--token"},
    "token create": {"--principal", "--capsule", "--scope", "--expires-in", "--data-dir", "--json"},
    "token list": {"--data-dir", "--json"},
    "token revoke": {"--data-dir", "--json"},
    "capsule create": {"--owner", "--data-dir", "--json"},
    "capsule grant": {"--data-dir", "--json"},
    "capsule set": {"--data-dir", "--json"},
    "capsule list": {"--data-dir", "--json"},
    "soulseek rendezvous": {"--host", "--port", "--data-dir", "--report-port"},
    "soulseek share": {
        "--user", "--server", "--listen", "--advertise-port", "--data-dir", "--control", "--slots",
    },
    "soulseek fetch": {"-o", "--user", "--server", "--listen", "--data-dir", "--control", "--json"},
    "soulseek search": {"--user", "--server", "--listen", "--data-dir", "--control", "--json"},
    "soulseek browse": {"--user", "--server", "--listen", "--data-dir", "--control", "--json"},
    "soulseek uploads list": {"--data-dir", "--control", "--json"},
    "soulseek uploads cancel": {"--data-dir", "--control", "--json"},
    "soulseek uploads bump": {"--data-dir", "--control", "--json"},
    "soulseek downloads list": {"--data-dir", "--control", "--json"},
    "soulseek downloads pause": {"--data-dir", "--control", "--json"},
    "soulseek downloads resume": {"--data-dir", "--control", "--json"},
    "soulseek downloads cancel": {"--data-dir", "--control", "--json"},
    "soulseek downloads retry": {"--data-dir", "--control", "--json"},
    "soulseek rescan": {"--data-dir", "--control", "--json"},
}  # fmt: skip


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command by the words that call it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def whole() -> Commands:
    """Return all that the command line can do."""
    group = typer.main.get_group(app)
    assert isinstance(group, Commands)
    group.load_all()
    return group


COMMANDS = dict(commands(whole()))


def flags(command: str) -> set[str]:
    return {name for parameter in COMMANDS[command].params for name in parameter.opts}


@pytest.mark.parametrize("command", PROMISED)
def test_every_promised_flag_is_there(command: str) -> None:
    assert PROMISED[command] <= flags(command)


def test_the_service_tolerates_every_variable_of_the_commands() -> None:
    used = {
        parameter.envvar
        for command in COMMANDS.values()
        for parameter in command.params
        if parameter.envvar is not None
    }
    assert used <= CLI_VARIABLES | {f"HAULIER_{name.upper()}" for name in Settings.model_fields}


def test_a_list_of_commands_says_of_each_what_its_own_help_says_first() -> None:
    listed, loaded = typer.main.get_group(app).commands, whole().commands
    assert list(listed) == list(loaded)
    for name, command in listed.items():
        assert isinstance(command, Later)
        first = (loaded[name].help or "").split("\n\n")[0]
        assert command.help == " ".join(first.split())


def test_listing_commands_loads_none() -> None:
    code = (
        "import sys; from haulier.__main__ import main; sys.argv = ['haulier', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit(any(f'haulier.cli.{it}' in sys.modules for it in ('push', 'put', 'soulseek', 'journal', 'options')))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ran.returncode == 0
    assert "Queue files for a remote" in ran.stdout


LOOKING_FOR_GARBAGE = """
import asyncio, gc, sys
from haulier.__main__ import main
def spy(work, run=asyncio.run):
    print("working", gc.isenabled(), gc.get_freeze_count() > 0, gc.get_threshold()[0])
    return run(work)
asyncio.run = spy
sys.argv = ["haulier", *sys.argv[1:]]
try:
    main()
finally:
    print("ending", gc.get_freeze_count() > 0)
"""


def test_garbage_is_looked_for_while_a_command_works_and_not_when_it_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOOKING_FOR_GARBAGE, "transfers", "list", "--home", str(tmp_path)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, f"working True True {NEW_OBJECTS}\nending True\n")


@pytest.mark.parametrize("statement", ["import haulier", "import haulier.cli"])
@pytest.mark.parametrize(
    "module", ["asyncio", "httpx2", "pydantic", "rich", "structlog", "fastapi", "sqlalchemy", "uvicorn"]
)
def test_starting_loads_no_library_that_only_some_commands_need(statement: str, module: str) -> None:
    code = f"{statement}; import sys; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_client_is_a_public_name() -> None:
    code = "from haulier import Client, Progress, Record, Asset, UploadState; Client('http://127.0.0.1:1')"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_other_name_is_public() -> None:
    import haulier

    with pytest.raises(AttributeError, match="Server"):
        _ = haulier.Server


def test_the_service_never_loads_the_soulseek_node() -> None:
    code = "import haulier.bootstrap, haulier.server.app, haulier.worker, sys; sys.exit(any('haulier.soul' in it for it in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


INTERRUPTED = """
import sys, types
from haulier.__main__ import main
class Loading(types.ModuleType):
    def __getattr__(self, name):
        raise KeyboardInterrupt
sys.modules["haulier.cli"] = Loading("haulier.cli")
main()
"""


def test_an_interrupt_while_the_command_is_loaded_is_one_like_any_other() -> None:
    ran = subprocess.run([sys.executable, "-c", INTERRUPTED], check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (130, "")
