"""Tokens that a command prints."""

import asyncio
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


def sleeping(folder: Path, *, left: bool) -> str:
    """A command that writes its number down and never ends; or that leaves its output to one that does not."""
    script = folder / "sleeping.sh"
    last = "sleep 20 & wait" if left else "exec sleep 20"
    script.write_text(f"echo $$ > '{folder}/pid.new'\nmv '{folder}/pid.new' '{folder}/pid'\n{last}\n")
    return f"sh '{script}'"


def is_left(folder: Path) -> bool:
    """Whether the process is there still, if only as a zombie."""
    return Path(f"/proc/{(folder / 'pid').read_text().strip()}").exists()


@pytest.mark.parametrize("left", [False, True])
async def test_a_command_that_takes_too_long_is_ended_and_leaves_no_zombie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, left: bool
) -> None:
    monkeypatch.setattr("haulier.remotes.tokens.DEADLINE_S", 0.5)
    with pytest.raises(PeerBlocked, match="took longer"):
        await CommandTokens(sleeping(tmp_path, left=left))(False)
    assert not is_left(tmp_path)


@pytest.mark.parametrize("left", [False, True])
async def test_a_cancel_ends_the_command_and_leaves_no_zombie(tmp_path: Path, *, left: bool) -> None:
    asking = asyncio.get_running_loop().create_task(CommandTokens(sleeping(tmp_path, left=left))(False))
    async with asyncio.timeout(20):
        while not (tmp_path / "pid").exists():  # noqa: ASYNC110 - another process sets no event of ours
            await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not is_left(tmp_path)
