"""What a network and a dying server do to a delivery, on any remote: derive, and give the fixtures."""

from random import Random

import pytest

from haulier.core.errors import PeerBusy, PeerUnreachable, RemoteSessionLost
from haulier.core.outgoing import Held, RemoteSession, Stored
from haulier.sending_ports import Remote
from haulier.testing.remote_contract import Delivery, Sources, delivery_of
from tests.support.fault_plan import Drop, Flow, Plan
from tests.support.fault_proxy import FaultProxy

TRIES = 8
"""Times that a delivery is taken up again; more faults than that are never planned."""


async def deliver(delivery: Delivery, session: RemoteSession | None = None) -> Stored:
    """Bring a file over as the manager does: after what passes it asks, after a loss it begins anew."""
    for _ in range(TRIES):
        try:
            session = session or await delivery.remote.create(delivery.outgoing)
            return await delivery.finish(session)
        except RemoteSessionLost:
            session = None
        except (PeerUnreachable, PeerBusy):
            continue
    raise AssertionError("the faults do not end")


class NetworkFaults:
    """The fixture `remote` speaks through `proxy`."""

    SEVERAL_CHUNKS: int
    """Bytes of a file that takes at least three chunks."""
    WAITS_FOR_THE_DEAD: bool = False
    """Whether a chunk sent again waits there until the first one, silent, is given up: a minute or more."""
    CUT_AT = 100_000
    """Bytes of a connection, its head included, after which it is cut: inside a chunk."""

    @pytest.fixture
    def remote(self) -> Remote:
        raise NotImplementedError

    async def read_back(self, remote: Remote, stored: Stored) -> bytes:
        """Return the bytes of a file, by a way that is not the remote under test."""
        raise NotImplementedError

    @pytest.fixture
    def proxy(self) -> FaultProxy:
        raise NotImplementedError

    @pytest.mark.parametrize("how", [Drop.FIN, Drop.RST, Drop.HALF_OPEN])
    async def test_a_cut_inside_a_chunk_costs_that_chunk_at_most(
        self, remote: Remote, proxy: FaultProxy, sources: Sources, how: Drop
    ) -> None:
        if how is Drop.HALF_OPEN and self.WAITS_FOR_THE_DEAD:
            pytest.skip("a chunk that is sent again waits there for a minute")
        data = Random(21).randbytes(self.SEVERAL_CHUNKS)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        first, second = list(delivery.spans(session, Held()))[:2]
        await delivery.send(session, *first)
        before = proxy.passed_up
        await proxy.drop(Drop.RST)
        proxy.default = Plan(up=Flow(drop=how, after=self.CUT_AT))
        with pytest.raises((PeerUnreachable, PeerBusy)):
            await delivery.send(session, *second)
        proxy.default = Plan()
        held = await remote.offset(delivery.outgoing, session)
        assert held.ranges.covers(*first)
        stored = await deliver(delivery, session)
        assert await self.read_back(remote, stored) == data
        sent_again = proxy.passed_up - before - (len(data) - first[1])
        assert sent_again < (second[1] - second[0]) + 64 * 1024  # one chunk, and the heads of requests

    async def test_lost_answers_to_every_request_are_outlived(
        self, remote: Remote, proxy: FaultProxy, sources: Sources
    ) -> None:
        data = Random(22).randbytes(self.SEVERAL_CHUNKS)
        delivery = delivery_of(remote, sources, data)
        proxy.plan(*[Plan(down=Flow(drop=Drop.RST, after=0))] * 4)
        stored = await deliver(delivery)
        assert await self.read_back(remote, stored) == data

    async def test_a_lost_answer_to_the_last_request_makes_no_second_file(
        self, remote: Remote, proxy: FaultProxy, sources: Sources
    ) -> None:
        data = Random(23).randbytes(self.SEVERAL_CHUNKS)
        delivery = delivery_of(remote, sources, data)
        session = await remote.create(delivery.outgoing)
        await self._send_but_the_last(delivery, session)
        await proxy.drop(Drop.RST)
        # All answers: libraries of some remotes repeat short requests by themselves.
        proxy.default = Plan(down=Flow(drop=Drop.RST, after=0))
        with pytest.raises(PeerUnreachable):
            await delivery.end(session)
        proxy.default = Plan()
        await proxy.drop(Drop.RST)
        stored = await deliver(delivery, session)
        assert await self.read_back(remote, stored) == data
        assert await self.count(remote, stored) in {1, None}

    async def count(self, remote: Remote, stored: Stored) -> int | None:
        """Return how many files, or versions of one, this delivery has made; None where nothing can tell."""
        return None

    async def _send_but_the_last(self, delivery: Delivery, session: RemoteSession) -> None:
        spans = list(delivery.spans(session, Held()))
        for start, stop in spans[:-1] if session.commits_itself else spans:
            await delivery.send(session, start, stop)
