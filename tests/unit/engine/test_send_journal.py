"""What one process hears of what others write into the journal that they share."""

import pytest

from haulier.adapters.memory.journal import MemoryJournal, MemoryJournalFile
from haulier.core.transfer import TransferId
from haulier.engine.send_journal import SharedJournal
from haulier.testing.journal_contract import put, row


async def test_what_others_wrote_is_told_once_though_we_wrote_before_it_while_we_looked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = MemoryJournalFile()
    mine, theirs = MemoryJournal(file), MemoryJournal(file)
    shared = SharedJournal(mine, hindered=lambda _: None)
    await shared.begin()
    told = list[TransferId]()

    async def tell(transfer_id: TransferId) -> None:
        told.append(transfer_id)

    look = mine.commits_of_others

    async def look_late() -> int:
        monkeypatch.setattr(mine, "commits_of_others", look)
        await shared.write(put(row("ours")))
        await theirs.write(put(row("theirs")))
        return await look()

    monkeypatch.setattr(mine, "commits_of_others", look_late)
    assert await shared.hear(tell)
    assert not await shared.hear(tell)
    await theirs.write(put(row("last")))
    assert await shared.hear(tell)
    assert told == ["theirs", "last"]
