"""Tokens that a command prints."""

import sys
from pathlib import Path

import pytest

from haulier.core.errors import ConfigError, PeerBlocked
from haulier.core.transfer import Obstacle
from haulier.remotes.tokens import CommandTokens


def counting(folder: Path) -> str:
    """A command whose nth run prints `token-n`."""
    script = folder / "tokens.py"
    script.write_text(
        "from pathlib import Path\n"
        f"path = Path({str(folder / 'runs')!r})\n"
        "runs = int(path.read_text()) + 1 if path.exists() else 1\n"
        "path.write_text(str(runs))\n"
        "print(f'token-{runs}')\nprint('chatter')\n"
    )
    return f"{sys.executable} '{script}'"


async def test_a_token_is_kept_until_it_is_refused(tmp_path: Path) -> None:
    tokens = CommandTokens(counting(tmp_path))
    assert [await tokens(False), await tokens(False)] == ["token-1", "token-1"]
    assert [await tokens(True), await tokens(False)] == ["token-2", "token-2"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit(3)", "ended with 3"),
        ("pass", "printed no token"),
        ("print('two words')", "printed no token"),
        ("print('x' * 20000)", "printed no token"),
    ],
)
async def test_a_command_without_a_token_blocks(code: str, reason: str) -> None:
    with pytest.raises(PeerBlocked, match=reason) as told:
        await CommandTokens(f'{sys.executable} -c "{code}"')(False)
    assert told.value.obstacle is Obstacle.AUTH


async def test_a_program_that_is_not_there_blocks() -> None:
    with pytest.raises(PeerBlocked, match="cannot be run"):
        await CommandTokens("/nowhere/tokens")(False)


@pytest.mark.parametrize("command", ["", "   ", "a 'b"])
def test_what_is_no_command_is_a_mistake_of_the_operator(command: str) -> None:
    with pytest.raises(ConfigError, match="token_command"):
        CommandTokens(command)
