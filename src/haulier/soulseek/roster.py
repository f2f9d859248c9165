"""The uploads that have not ended, and who of their users is away.

Rule 1: an upload is registered, put into its line and its user watched in one step; all of it ends in one step, too.
Rule 2: whatever becomes of one is kept. What a stop puts back is not: what is kept still says that it ran, so that it
        goes first next time.
"""

from collections.abc import Iterator

from haulier.core.transfer import Outcome, Phase, Transfer, TransferId
from haulier.engine.registry import Registry
from haulier.soulseek.queue import Hold, UploadQueue
from haulier.soulseek.surroundings import Surroundings
from haulier.soulseek.upload import Totals, Upload


class Roster:
    """Uploads by id, and by user and file.

    Args:
        around: The node.
        queue: Where they wait.
    """

    def __init__(self, around: Surroundings, queue: UploadQueue) -> None:
        self._around = around
        self._queue = queue
        self._registry: Registry[Upload] = Registry()
        self._absent_since: dict[str, float] = {}
        self.totals = Totals()

    def __iter__(self) -> Iterator[Upload]:
        """Return all; they may end meanwhile."""
        return iter(self._registry)

    def find(self, transfer: TransferId) -> Upload | None:
        """Return one by its id."""
        return self._registry.find(_id_key(transfer))

    def of_file(self, user: str, path: str) -> Upload | None:
        """Return that of a file to a user."""
        return self._registry.find(_file_key(user, path))

    def take_in(self, upload: Upload, *, at_head: bool = False) -> None:
        """Let it wait for its turn."""
        keys = (_id_key(upload.id), _file_key(upload.user, upload.path))
        upload.registration = self._registry.register(upload, *keys)
        assert upload.registration is not None, "one file is uploaded to a user once at a time"
        self._queue.add(upload.request, at_head=at_head)
        self._around.link.watch(upload.user, self)

    def forget(self, upload: Upload) -> None:
        """Let go of it; what is kept stays."""
        assert upload.registration is not None
        upload.registration.end()
        self._queue.forget(upload.id)
        if not self._queue.has(upload.user):
            self._around.link.unwatch(upload.user, self)
            self.note_return(upload.user)

    def keep(self, upload: Upload, *, moved: bool = False) -> None:
        """Keep how it stands; `moved` when only its progress is new."""
        self._around.ledger.put(upload.kept(now=self._around.clock.now()), moved=moved)

    def become(self, upload: Upload, transfer: Transfer) -> None:
        """Take its next value from the attempt that is made."""
        before, upload.transfer = upload.transfer, transfer
        moved = before.phase is transfer.phase is Phase.IN_PROGRESS
        if moved:
            self.totals.bytes_sent += max(0, transfer.done - before.done)
        if not moved or transfer.done != before.done:
            upload.moved_at = self._around.clock.monotonic()
        self.keep(upload, moved=moved)

    def end(self, upload: Upload, outcome: Outcome, reason: str | None) -> None:
        """End it; one that has ended stays as it is."""
        if upload.transfer.phase is Phase.ENDED:
            return
        upload.transfer = upload.transfer.end(outcome, now=self._around.clock.now(), reason=reason)
        self.keep(upload)
        self.forget(upload)
        upload.ended.set()
        self.totals.ended[outcome] = self.totals.ended.get(outcome, 0) + 1
        self._around.log(
            "upload.ended",
            user=upload.user,
            file=upload.path,
            transfer=upload.id,
            outcome=outcome.value,
            reason=reason,
        )

    def note_absence(self, user: str) -> None:
        """A user of whom something waits is away, and is passed over."""
        self._absent_since.setdefault(user, self._around.clock.now())
        self._queue.hold(user, Hold.ABSENT)

    def note_return(self, user: str) -> None:
        """A user is there, or nothing of it waits any more."""
        self._absent_since.pop(user, None)
        self._queue.let_go(user, Hold.ABSENT)

    def away_since(self, time: float) -> set[str]:
        """Return the users who are away since then or longer."""
        return {user for user, since in self._absent_since.items() if since <= time}


def _id_key(transfer: TransferId) -> tuple[str, str]:
    return ("id", transfer)


def _file_key(user: str, path: str) -> tuple[str, str, str]:
    return ("file", user, path)
