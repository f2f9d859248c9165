"""What must hold after every step, whatever the schedule and the faults.

Rule 1: rows are compared with the rows before, with the bytes on the disk, and with what clients were told.
Rule 2: a fault excuses delay, never a lost byte; so nothing here asks whether something failed.
"""

import hashlib
from collections.abc import Mapping

import xxhash

from haulier.core.digest import Digest, DigestName
from haulier.core.ranges import Ranges
from haulier.core.record import TRANSITIONS as RECORD_TRANSITIONS
from haulier.core.record import Record
from haulier.core.session import TRANSITIONS, Chunk, Mode, Session, SessionId, SessionStatus
from haulier.core.upload import UploadDetails
from tests.simulation.ledger import Truth
from tests.simulation.server import TTL_S, Server
from tests.simulation.world import World

Upload = Session[UploadDetails]

EARLY_S = 1.0
"""Tolerance of an expiry, for rows that were read a moment ago."""


class Invariants:
    """Watches one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._require = world.trace.require
        self._rows = world.database._rows
        self._seen: dict[SessionId, tuple[Upload, bytes, Truth | None, object]] = {}
        self._active_at: dict[SessionId, float] = {}
        self._held_since: dict[SessionId, float] = {}
        self.ended_at: dict[SessionId, float] = {}
        """Virtual time at which the row got its result."""
        self.results: dict[SessionId, Upload] = {}
        """Rows with a result, which never change again."""

    def check(self) -> None:
        """Look at everything that may have changed, and pass on what a client has found."""
        if self._world.trace.violation is not None:
            raise self._world.trace.violation
        self._watch_claims()
        rows = self._world.database._rows
        if rows is not self._rows:
            before, self._rows = self._rows, rows
            for key in {**before.sessions, **rows.sessions}:
                self._compare(before.sessions.get(key), rows.sessions.get(key))
            for record_id in {**before.records, **rows.records}:
                self._compare_records(before.records.get(record_id), rows.records.get(record_id))
            self._check_sums()
        for session in rows.sessions.values():
            if session.status.live:
                self._check_bytes(session, rows.chunks.get(session.id, {}))
        self._check_blobs()

    def _watch_claims(self) -> None:
        now = self._world.loop.time()
        held = {session_id for server in self._world.servers for session_id in server.claims._counts}
        self._held_since = {session_id: self._held_since.get(session_id, now) for session_id in held}

    # --- rows ----------------------------------------------------------------------------------------

    def _compare(self, old: Upload | None, new: Upload | None) -> None:
        if old is new:
            return
        if new is None:
            self._check_removed(old)
            return
        if old is None:
            empty = new.spec.mode is Mode.APPEND and new.size == 0  # whole from the start
            born = SessionStatus.FINISHING if empty else SessionStatus.OPEN
            short = new.spec.mode is Mode.APPEND and new.spec.key is None and not empty
            whole = short and new.status is SessionStatus.COMMITTED
            self._require(whole or new.status is born, f"{new.id} was born {new.status}")
        else:
            self._check_change(old, new)
        if not new.status.live:
            self._check_end(new)
        elif old is None or new.last_seen_at != old.last_seen_at:
            self._active_at[new.id] = self._world.loop.time()

    def _check_removed(self, old: Upload | None) -> None:
        assert old is not None
        known = old.id in self._world.ledger.uploads
        self._require(not (old.status.live and known), f"live upload {old.id} was removed")
        self._seen.pop(old.id, None)

    def _check_change(self, old: Upload, new: Upload) -> None:
        self._require(old.status.live, f"the result of {old.id} changed: {old} -> {new}")
        legal = new.status is old.status or new.status in TRANSITIONS[old.status]
        self._require(legal, f"{old.id} went from {old.status} to {new.status}")
        self._require(new.fence >= old.fence, f"the fence of {old.id} went back")
        if old.status is SessionStatus.FINISHING and new.status is SessionStatus.OPEN:
            self._check_rejected(new)

    def _check_rejected(self, new: Upload) -> None:
        """Let a whole be called wrong only for the bytes that are there."""
        part = self._world.disk.parts.get(new.id)
        actual = hashlib.sha256(b"" if part is None else part.data[: new.size]).hexdigest()
        self._require(f"is {actual}" in (new.error or ""), f"{new.id} was rejected for other bytes")

    def _check_end(self, new: Upload) -> None:
        """Let nothing but finish, abort, expiry and a failed append end an upload."""
        world = self._world
        world.trace.note("rows", f"{new.id} is {new.status}: {new.error}")
        self.ended_at[new.id] = world.loop.time()
        self.results[new.id] = new
        truth = world.ledger.uploads.get(new.id)
        if new.status is SessionStatus.ABORTED:
            self._require(truth is None or truth.aborting, f"{new.id} was aborted by nobody")
        elif new.status is SessionStatus.EXPIRED:
            self._check_expiry(new)
        elif new.status is SessionStatus.FAILED:
            self._require(
                new.spec.mode is Mode.APPEND or new.details.adds_to_record, f"chunks of {new.id} failed"
            )
        else:
            asked = truth is None or truth.finishing or new.spec.mode is Mode.APPEND
            self._require(asked, f"{new.id} was finished by nobody")
            self._check_committed(new, truth)

    def _check_expiry(self, new: Upload) -> None:
        """Let nobody expire early, except where a restart and a jump hide how much time has passed."""
        active, world = self._active_at.get(new.id, 0.0), self._world
        hidden = active < world.started_at and active < world.clock.jumped_at
        age = world.loop.time() - active
        held_for = world.loop.time() - self._held_since.get(new.id, world.loop.time())
        self._require(held_for < EARLY_S, f"{new.id} expired although it is held since {held_for} s")
        self._require(hidden or age > TTL_S - EARLY_S, f"{new.id} expired {age} s after it was active")

    def _check_committed(self, new: Upload, truth: Truth | None) -> None:
        blob = self._world.disk.blobs.get(new.blob_key or "")
        self._require(blob is not None, f"{new.id} is committed without a blob")
        assert blob is not None
        data = bytes(blob.data)
        self._require(len(data) == new.size, f"{new.id} is committed with {len(data)} bytes")
        digests = {new.details.digest, new.details.promised or new.details.expected} - {None}
        actual = Digest(DigestName.SHA_256, hashlib.sha256(data).digest())
        self._require(digests == {actual}, f"{new.id} is committed with a wrong digest")
        if truth is not None:
            self._check_content(new, truth, data)
        record = self._rows.records.get(new.details.record) if new.details.record else None
        named = record is not None and any(asset.blob_key == new.blob_key for asset in record.assets)
        self._require(named, f"{new.id} is committed, but no record names its bytes")

    def _check_content(self, session: Upload, truth: Truth, data: bytes) -> None:
        """Compare what is stored with what was sent and acknowledged."""
        if truth.mode is Mode.APPEND:
            strange = next((at for at, byte in enumerate(data) if not truth.allows(at, byte)), None)
            self._require(
                strange is None, lambda: f"{session.id} has a byte at {strange} that was never taken"
            )
            return
        for index in range(session.chunk_count):
            stored = data[index * truth.chunk_size : (index + 1) * truth.chunk_size]
            right = xxhash.xxh3_128_digest(stored) in truth.fingerprints(index)
            self._require(right, f"chunk {index} of {session.id} is not what was acknowledged")

    def _compare_records(self, old: Record | None, new: Record | None) -> None:
        if old is None or new is None or old is new:
            return
        legal = new.status is old.status or new.status in RECORD_TRANSITIONS[old.status]
        self._require(legal, f"record {old.id} went from {old.status} to {new.status}")

    def _check_sums(self) -> None:
        """Let the capsule hold exactly what its rows say; of a size that was unknown, what has come."""
        rows = self._rows
        specs = [(it.spec.size, it.offset) for it in rows.sessions.values() if it.status.live]
        reserved = sum(offset if size is None else size for size, offset in specs)
        used = sum(asset.size for record in rows.records.values() for asset in record.assets)
        capsule = rows.capsules["default"]
        self._require(
            (capsule.reserved, capsule.used) == (reserved, used),
            f"the capsule has {capsule}, its rows {reserved} reserved and {used} used",
        )

    # --- bytes ---------------------------------------------------------------------------------------

    def _check_bytes(self, session: Upload, chunks: Mapping[int, Chunk]) -> None:
        part = self._world.disk.parts.get(session.id)
        data = b"" if part is None else bytes(part.data)
        truth = self._world.ledger.uploads.get(session.id)
        seen = (session, data, truth, None if truth is None else (truth.prefix, len(truth.accepted)))
        if self._seen.get(session.id) == seen:
            return
        self._seen[session.id] = seen
        if session.spec.mode is Mode.CHUNKS:
            self._check_chunks(session, chunks, data, truth)
        else:
            self._check_append(session, data, truth)

    def _check_chunks(
        self, session: Upload, chunks: Mapping[int, Chunk], data: bytes, truth: Truth | None
    ) -> None:
        ranges = Ranges.of(session.chunk_range(index) for index in chunks)
        self._require(ranges == session.received, f"the received set of {session.id} is not its chunks")
        for index, chunk in chunks.items():
            start, stop = session.chunk_range(index)
            stored = xxhash.xxh3_128_digest(data[start:stop])
            whole = stop <= len(data) and stored == chunk.fingerprint
            self._require(whole, f"chunk {index} of {session.id} is not what was accepted")
            known = truth is None or chunk.fingerprint in truth.fingerprints(index)
            self._require(known, f"chunk {index} of {session.id} is not what was acknowledged")
        if truth is not None:
            lost = {index for index in truth.accepted if not truth.replacing[index]} - set(chunks)
            self._require(not lost, f"acknowledged chunks {sorted(lost)} of {session.id} are lost")

    def _check_append(self, session: Upload, data: bytes, truth: Truth | None) -> None:
        self._require(len(data) >= session.offset, f"{session.id} has fewer bytes than its offset")
        if truth is None:
            return
        kept = session.offset >= len(truth.prefix) and data.startswith(truth.prefix)
        self._require(kept, f"acknowledged bytes of {session.id} are lost or changed")
        strange = next((at for at in range(session.offset) if not truth.allows(at, data[at])), None)
        self._require(strange is None, lambda: f"{session.id} has a byte at {strange} that was never taken")

    def _check_blobs(self) -> None:
        """Let every asset have its bytes."""
        blobs = self._world.disk.blobs
        for record in self._rows.records.values():
            for asset in record.assets:
                blob = blobs.get(asset.blob_key)
                whole = blob is not None and len(blob.data) == asset.size
                self._require(whole, f"the {asset.kind} of record {record.id} has lost its bytes")

    # --- the end -------------------------------------------------------------------------------------

    def check_end(self) -> None:
        """After everything has ended and was swept, let nothing be left over."""
        world, rows = self._world, self._rows
        live = [session.id for session in rows.sessions.values() if session.status.live]
        self._require(not live, f"still live: {live}")
        self._require(not world.disk.parts, f"parts are left: {list(world.disk.parts)}")
        named = [asset.blob_key for record in rows.records.values() for asset in record.assets]
        self._require(sorted(named) == sorted(world.disk.blobs), "blobs and assets are not the same")
        for session_id, result in self.results.items():
            kept = rows.sessions.get(session_id)
            self._require(kept is None or kept == result, f"the result of {session_id} changed")
        for server in world.servers:
            self._check_server(server)

    def _check_server(self, server: Server) -> None:
        leaks = server.leaks()
        self._require(not leaks, lambda: "; ".join(leaks))
        tasks = self._world.loop.running(server.process)
        self._require(not tasks, lambda: f"tasks are left: {tasks}")
