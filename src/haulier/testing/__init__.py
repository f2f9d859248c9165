"""For tests of code that uses Haulier: shipped fakes, a manual clock, and the contract suites of the ports.

Needs pytest. The suites show values when an assertion fails only if pytest rewrites them, so this module
says so before it imports them.
"""

import pytest

pytest.register_assert_rewrite(
    "haulier.testing.access_rows_contract",
    "haulier.testing.byte_sink_contract",
    "haulier.testing.concatenation_contract",
    "haulier.testing.delivery_rows_contract",
    "haulier.testing.event_rows_contract",
    "haulier.testing.journal_contract",
    "haulier.testing.overview_contract",
    "haulier.testing.processing_rows_contract",
    "haulier.testing.record_rows_contract",
    "haulier.testing.remote_contract",
    "haulier.testing.session_ends_contract",
    "haulier.testing.session_rows_contract",
    "haulier.testing.unit_of_work_contract",
    "haulier.testing.visitor_rows_contract",
)

from haulier.adapters.memory.files import MemoryFiles  # noqa: E402 - after the line above, see there
from haulier.adapters.memory.journal import MemoryJournal, MemoryJournalFile  # noqa: E402 - as above
from haulier.adapters.memory.remote import Accident, MemoryRemote  # noqa: E402 - as above
from haulier.adapters.memory.rows import MemoryDatabase  # noqa: E402 - as above
from haulier.adapters.memory.sink import MemoryDisk, MemorySink  # noqa: E402 - as above
from haulier.testing.byte_sink_contract import ByteSinkContract  # noqa: E402 - as above
from haulier.testing.chance import ManualClock, SeededIdentifiers  # noqa: E402 - as above
from haulier.testing.journal_contract import JournalContract  # noqa: E402 - as above
from haulier.testing.remote_contract import RemoteContract  # noqa: E402 - as above
from haulier.testing.unit_of_work_contract import UnitOfWorkContract  # noqa: E402 - as above

__all__ = [
    "Accident",
    "ByteSinkContract",
    "JournalContract",
    "ManualClock",
    "MemoryDatabase",
    "MemoryDisk",
    "MemoryFiles",
    "MemoryJournal",
    "MemoryJournalFile",
    "MemoryRemote",
    "MemorySink",
    "RemoteContract",
    "SeededIdentifiers",
    "UnitOfWorkContract",
]
