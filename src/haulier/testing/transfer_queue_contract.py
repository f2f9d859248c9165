"""What every `TransferQueueStore` must do."""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

from haulier.core.transfer import Direction, Outcome, Priority, Transfer, TransferId
from haulier.core.values import replace
from haulier.ports import PeerTransfer, TransferQueueStore
from haulier.sending_ports import JournalQuery

_ODD = "f\udcfcr.mp3"
"""A name with a byte that is no text."""


def kept(id_: str, direction: Direction = Direction.UPLOAD, address: str = "") -> PeerTransfer:
    """Return a transfer that waits."""
    transfer = Transfer(
        id=TransferId(id_),
        direction=direction,
        line="bob",
        size=2**40,
        queued_at=1000.5,
        priority=Priority.HIGH,
    )
    return PeerTransfer(
        transfer=transfer,
        file=rf"Music\{_ODD}",
        target=f"/tmp/{_ODD}",  # noqa: S108 - a value
        address=address,
    )


class TransferQueueContract(ABC):
    """Subclass it and give `store`."""

    @abstractmethod
    def store(self) -> AbstractAsyncContextManager[TransferQueueStore]:
        """Return an empty store, open."""

    async def test_what_was_saved_is_found_as_it_was(self) -> None:
        async with self.store() as store:
            one = kept("a", address="127.0.0.1")
            await store.save([one])
            assert await store.find(TransferId("a")) == one
            assert await store.find(TransferId("b")) is None

    async def test_every_phase_is_kept(self) -> None:
        async with self.store() as store:
            begun = kept("a").transfer.request().initialize().begin(5, now=1.0).confirm(7, now=2.0)
            waiting = kept("b").transfer.request().wait_until(99.5, "gone")
            ended = kept("c").transfer.end(Outcome.REJECTED, now=3.0, reason=_ODD)
            for transfer in (replace(begun, pace=None), waiting, ended):
                one = replace(kept("x"), transfer=transfer, ended_at=3.0 if transfer.outcome else None)
                await store.save([one])
                assert await store.find(transfer.id) == one

    async def test_a_newer_value_takes_the_place_of_an_older_one(self) -> None:
        async with self.store() as store:
            await store.save([kept("a"), kept("b")])
            newer = replace(kept("a"), transfer=kept("a").transfer.request())
            await store.save([newer])
            assert await store.live(Direction.UPLOAD) == [newer, kept("b")]

    async def test_those_that_live_come_in_the_order_in_which_they_came(self) -> None:
        async with self.store() as store:
            await store.save([kept("b"), kept("a"), kept("d", Direction.DOWNLOAD)])
            ended = kept("b").transfer.end(Outcome.SUCCEEDED, now=2.0)
            await store.save([kept("c"), replace(kept("b"), transfer=ended, ended_at=2.0)])
            assert await store.live(Direction.UPLOAD) == [kept("a"), kept("c")]
            assert await store.live(Direction.DOWNLOAD) == [kept("d", Direction.DOWNLOAD)]

    async def test_the_latest_come_first(self) -> None:
        async with self.store() as store:
            await store.save([kept("a"), kept("b"), kept("c")])
            assert await store.latest(2) == [kept("c"), kept("b")]

    async def test_pages_go_on_below_the_number_of_the_last_one(self) -> None:
        async with self.store() as store:
            await store.save([kept("a"), kept("b"), kept("c")])
            await store.save([replace(kept("a"), transfer=kept("a").transfer.request())])
            [first, second] = await store.latest(2)
            assert (first.transfer.id, second.transfer.id) == ("c", "b")
            [third] = await store.latest(2, below=second.number)
            assert third.transfer.id == "a"
            assert await store.latest(2, below=third.number) == []

    async def test_the_latest_of_one_peer_and_of_those_that_live_can_be_asked_for(self) -> None:
        async with self.store() as store:
            ended = replace(
                kept("ended"), transfer=kept("ended").transfer.end(Outcome.SUCCEEDED, now=2.0), ended_at=2.0
            )
            odd = replace(kept("odd"), transfer=replace(kept("odd").transfer, line=_ODD))
            await store.save([ended, odd, kept("live")])
            for query, found in (
                (JournalQuery(live=True), ["live", "odd"]),
                (JournalQuery(live=False), ["ended"]),
                (JournalQuery(remote="bob"), ["live", "ended"]),
                (JournalQuery(remote=_ODD, live=True), ["odd"]),
            ):
                assert [it.transfer.id for it in await store.latest(9, query=query)] == found

    async def test_whether_it_was_surely_the_peer_who_asked_is_kept(self) -> None:
        async with self.store() as store:
            sure = replace(kept("a", address="127.0.0.1"), trusted=True)
            await store.save([sure, kept("b")])
            assert await store.live(Direction.UPLOAD) == [sure, kept("b")]

    async def test_of_which_one_it_is_another_try_is_kept(self) -> None:
        async with self.store() as store:
            again = replace(kept("b"), retry_of=TransferId("a"))
            await store.save([again])
            assert await store.find(TransferId("b")) == again

    async def test_only_what_ended_long_ago_is_forgotten(self) -> None:
        async with self.store() as store:
            old, new = (
                replace(kept(id_), transfer=kept(id_).transfer.end(Outcome.SUCCEEDED, now=at), ended_at=at)
                for id_, at in (("old", 10.0), ("new", 20.0))
            )
            await store.save([old, new, kept("live")])
            assert await store.forget(ended_before=15.0, most=2) == 1
            assert await store.latest(10) == [kept("live"), new]

    async def test_of_many_that_have_ended_the_newest_are_kept_and_all_that_live(self) -> None:
        async with self.store() as store:
            await store.save([kept("live")])
            ended = [
                replace(kept(id_), transfer=kept(id_).transfer.end(Outcome.REJECTED, now=9.0), ended_at=9.0)
                for id_ in "abcd"
            ]
            await store.save(ended)
            assert await store.forget(ended_before=1.0, most=4) == 0
            assert await store.forget(ended_before=1.0, most=2) == 2
            assert await store.latest(10) == [ended[3], ended[2], kept("live")]
