"""The promises of `Remote` on the one that is shipped for tests, both ways that remotes take bytes."""

import pytest

from haulier.adapters.memory.remote import ANY_ORDER, IN_ORDER, MemoryRemote
from haulier.core.outgoing import Stored
from haulier.sending_ports import Remote
from haulier.testing import RemoteContract


class _InMemory(RemoteContract):
    async def read_back(self, remote: Remote, stored: Stored) -> bytes:
        assert isinstance(remote, MemoryRemote)
        return remote.files[stored.name][-1]


class TestRemoteInOrder(_InMemory):
    @pytest.fixture
    def remote(self) -> MemoryRemote:
        return MemoryRemote(IN_ORDER)


class TestRemoteInAnyOrder(_InMemory):
    @pytest.fixture
    def remote(self) -> MemoryRemote:
        return MemoryRemote(ANY_ORDER)
