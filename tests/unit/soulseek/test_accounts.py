"""Who may log in at a rendezvous, as it is kept."""

from pathlib import Path

import pytest

from haulier.core.errors import ConfigError
from haulier.soulseek.accounts import Accounts


async def test_half_a_line_of_a_crash_is_cut_off_and_all_others_hold(tmp_path: Path) -> None:
    file = tmp_path / "accounts.jsonl"
    before = Accounts(file)
    assert await before.admit("ann", "first")
    with file.open("ab") as rest:
        rest.write(b'{"name": "bob", "ha')
    after = Accounts(file)
    await after.load()
    assert (after.knows("ann"), after.knows("bob")) == (True, False)
    assert await after.admit("bob", "second")
    again = Accounts(file)
    await again.load()
    assert await again.admit("ann", "first")
    assert not await again.admit("bob", "first")


async def test_what_is_no_list_of_accounts_is_told(tmp_path: Path) -> None:
    file = tmp_path / "accounts.jsonl"
    file.write_text("[1]\n")
    with pytest.raises(ConfigError, match="no list of accounts"):
        await Accounts(file).load()
