"""The error tree: as it is drawn, what its leaves say, which calls are worth repeating."""

import inspect
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from haulier.core import errors
from haulier.core.errors import (
    AccessDenied,
    AssetNotFound,
    BodyCut,
    BodyMalformed,
    CapsuleNotFound,
    CapsuleTaken,
    ChunkConflict,
    ChunkOutOfRange,
    ChunksMissing,
    ChunkTooLong,
    ChunkTooShort,
    ConfigError,
    ContentInvalid,
    DigestMalformed,
    DigestMismatch,
    DirectoryNotCreatable,
    FieldProblem,
    FileEmpty,
    FileMissing,
    HaulierError,
    HookUnavailable,
    IdempotencyKeyReused,
    ImageUnusable,
    InvalidRequest,
    JournalBusy,
    LaneFailed,
    LanesFailed,
    LengthExceeded,
    LengthInconsistent,
    LinkNotFound,
    NameNotAccepted,
    NodeBusy,
    OffsetMismatch,
    PeerBlocked,
    PeerBusy,
    PeerCorrupted,
    PeerRefused,
    PeerUnreachable,
    PeerUnreadable,
    QueueFull,
    QuotaExceeded,
    RecordNotFound,
    RemoteHeld,
    RemoteSessionLost,
    ServiceStopping,
    SourceChanged,
    StorageFull,
    StorageNotWritable,
    StorageUnavailable,
    TokenNotFound,
    TransferNotFound,
    TransferRemoved,
    TransferTimeout,
    TypeNotAccepted,
    Unauthenticated,
    UploadBusy,
    UploadComplete,
    UploadGone,
    UploadNotFound,
    UploadRefused,
    VisitorNotFound,
    WaitTimeout,
)
from haulier.core.transfer import Obstacle

LANES = (
    LaneFailed("original", "original", StorageFull(9)),
    LaneFailed("derivatives", "display", StorageFull(5)),
    LaneFailed("derivatives", "thumbnail", StorageFull(5)),
)

# Each leaf once, with the words that it must say.
SAID: list[tuple[HaulierError, str]] = [
    (ConfigError("port", "x", "a number"), "port='x' cannot be used: a number"),
    (
        InvalidRequest((FieldProblem("size", "must be given"), FieldProblem("path", "must be relative"))),
        "size: must be given; path: must be relative",
    ),
    (Unauthenticated("the token has expired"), "the token has expired"),
    (AccessDenied("write to capsule 'attic'"), "not allowed: write to capsule 'attic'"),
    (CapsuleNotFound("attic"), "there is no capsule 'attic'"),
    (UploadNotFound("u1"), "there is no upload 'u1'"),
    (
        LinkNotFound(),
        "nothing is behind this link: it is over, or what it opened is gone, or it is not one of ours",
    ),
    (VisitorNotFound(), "this browser has no visitor; its first upload makes one"),
    (RecordNotFound("r1"), "there is no record 'r1'"),
    (AssetNotFound("r1", "display"), "record 'r1' has no asset 'display'"),
    (UploadRefused("it holds a virus"), "the upload is refused: it holds a virus"),
    (UploadGone("u1", "expired"), "upload 'u1' is expired"),
    (UploadGone("u1", "failed", "wrong digest"), "upload 'u1' is failed: wrong digest"),
    (UploadComplete("u1", "r1"), "upload 'u1' is complete; its record is 'r1'"),
    (UploadComplete("u1", None), "upload 'u1' is complete"),
    (UploadBusy("u1", "it is being finished"), "upload 'u1' is busy: it is being finished"),
    (ChunkConflict(3), "chunk 3 was accepted with other bytes"),
    (ChunkOutOfRange(7, 4), "there is no chunk 7: this upload has 4, counted from 0"),
    (ChunkTooLong(3, 100), "chunk 3 must have exactly 100 bytes; the body has more"),
    (ChunkTooShort(3, 100, 99), "chunk 3 must have exactly 100 bytes; the body has 99"),
    (BodyCut(17), "the body ended early, after 17 bytes"),
    (
        BodyMalformed(17),
        "after 17 bytes the body breaks the rules of its transfer coding and cannot be read on",
    ),
    (ChunksMissing(((0, 10), (20, 25))), "15 bytes are still missing"),
    (OffsetMismatch(10, 12), "the upload continues at offset 10, not at 12"),
    (LengthExceeded(100), "more bytes than the 100 that are allowed"),
    (LengthExceeded(100, "a.csv"), "'a.csv' has more bytes than the 100 that are allowed"),
    (LengthInconsistent(10, 12), "the length of the upload cannot be 12 where 10 bytes are said or here"),
    (FileEmpty(1), "the file is empty; this capsule takes files from 1 byte on"),
    (FileEmpty(2), "the file is empty; this capsule takes files from 2 bytes on"),
    (FileEmpty(1, "a.csv"), "'a.csv' is empty; forms take files that have something in them"),
    (FileMissing(), "the form has no file; give it at least one part with a file name"),
    (ContentInvalid("a.csv", "3 fields, not 2", 4, 1), "a.csv: 3 fields, not 2 (line 4, column 1)"),
    (ContentInvalid("a.csv", "is odd", 4), "a.csv: is odd (line 4)"),
    (ContentInvalid("a.png", "this is no picture"), "a.png: this is no picture"),
    (
        TypeNotAccepted(accepted=("image/*", "text/csv"), provided="text/html"),
        "this capsule takes image/*, text/csv, not text/html",
    ),
    (
        NameNotAccepted("a.exe", (".csv", ".txt"), ".exe"),
        "'a.exe' ends in .exe; forms take files that end in .csv, .txt",
    ),
    (
        NameNotAccepted(".csv", (".csv", ".txt"), ""),
        "'.csv' has no extension; forms take files that end in .csv, .txt",
    ),
    (CapsuleTaken("attic"), "there is a capsule 'attic' already"),
    (TokenNotFound("t1"), "there is no token 't1'"),
    (DigestMismatch("md5", "aa", "bb"), "md5 is bb, expected aa"),
    (DigestMalformed("Repr-Digest", "is odd"), "Repr-Digest: is odd"),
    (IdempotencyKeyReused("k"), "idempotency key 'k' belongs to a different request"),
    (QuotaExceeded("sessions", 100, "owner"), "the limit of 100 sessions per owner is reached"),
    (TransferNotFound("t", 0.0), "there is no transfer 't'"),
    (TransferNotFound("t", 5.01), "there is no transfer 't' after 5.0 s"),
    (TransferRemoved("t", "it was removed"), "transfer 't' is gone: it was removed"),
    (JournalBusy("17"), "process 17 runs this journal already"),
    (TransferTimeout("t", "queued", 0, 9, None), "transfer 't' is still queued with 0 of 9 bytes"),
    (
        TransferTimeout("t", "paused", 5, 9, "cut"),
        "transfer 't' is still paused with 5 of 9 bytes; the last error was: cut",
    ),
    (WaitTimeout("open", 5, 10), "still open with 5 of 10 bytes"),
    (WaitTimeout("open", 5, None), "still open with 5 of an unknown number of bytes"),
    (
        SourceChanged("a.bin", "its size is 7, it was 5"),
        "a.bin changed while it was being sent: its size is 7, it was 5",
    ),
    (StorageFull(100), "no room for 100 bytes"),
    (StorageFull(100, 7), "no room for 100 bytes, 7 are free"),
    (StorageUnavailable("EIO"), "storage is unavailable: EIO"),
    (StorageNotWritable("/data"), "/data is not writable: permission denied"),
    (StorageNotWritable("/data", "read-only"), "/data is not writable: read-only"),
    (DirectoryNotCreatable("/data", "a file is there"), "/data cannot be created: a file is there"),
    (HookUnavailable("on_begin"), "on_begin does not answer"),
    (RemoteHeld(), "the remote asks to wait"),
    (QueueFull("a check"), "too many wait for a check; try again in a moment"),
    (
        ServiceStopping(),
        "the service is stopping; continue in a moment, or send again what has no address and no key",
    ),
    (PeerRefused(404, "upload-not-found", "no such upload"), "no such upload (upload-not-found, 404)"),
    (
        NodeBusy("the node of .storage", "17"),
        "process 17 runs the node of .storage already; stop that one, or use it through its --data-dir",
    ),
    (PeerUnreadable(200, "it is a page"), "it is a page (unreadable-answer, 200; it can pass)"),
    (PeerUnreachable("http://127.0.0.1:1", "refused"), "http://127.0.0.1:1 cannot be reached: refused"),
    (PeerBusy(503, "it is busy"), "it is busy (503; it can pass)"),
    (PeerBlocked(Obstacle.QUOTA, "the drive is full"), "the drive is full (quota)"),
    (RemoteSessionLost("it expired"), "the remote's session is gone: it expired"),
    (PeerCorrupted("record 'r1'", "aa", "bb"), "record 'r1' has digest bb, expected aa"),
    (ImageUnusable("image-broken", "It is damaged."), "It is damaged. (image-broken)"),
    (LaneFailed("derivatives", "display", StorageFull(5)), "display: no room for 5 bytes"),
    (LanesFailed(LANES), "original: no room for 9 bytes; display, thumbnail: no room for 5 bytes"),
    (LanesFailed(LANES[1:], record="r"), "display, thumbnail: no room for 5 bytes; the original is stored"),
]
RETRYABLE = {
    "BodyCut",
    "HookUnavailable",
    "PeerBusy",
    "PeerUnreachable",
    "PeerUnreadable",
    "RemoteHeld",
    "RemoteSessionLost",
    "QueueFull",
    "ServiceStopping",
    "StorageFull",
    "StorageNotWritable",
    "StorageUnavailable",
    "TransferTimeout",
    "UploadBusy",
    "WaitTimeout",
}


def tree(root: type[HaulierError]) -> Iterator[type[HaulierError]]:
    """All classes of errors.py itself; a server's own leaves live elsewhere."""
    if root.__module__ == errors.__name__:
        yield root
        for child in root.__subclasses__():
            yield from tree(child)


def leaves() -> set[type[HaulierError]]:
    return {error for error in tree(HaulierError) if not any(it for it in tree(error) if it is not error)}


def drawn_parents() -> dict[str, str]:
    """Read the drawing: which class hangs under which."""
    drawing = (inspect.getdoc(errors) or "").split("```")[1]
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in drawing.strip().splitlines():
        depth = (len(line) - len(line.lstrip("│├└─ "))) // 4
        names = re.match(r"\w+(?: · \w+)*", line.lstrip("│├└─ "))
        assert names is not None, line
        for name in names[0].split(" · "):
            if depth:
                parents[name] = above[depth - 1]
        above[depth:] = [names[0]]
    return parents


@pytest.mark.parametrize(("error", "text"), SAID, ids=[text for _, text in SAID])
def test_a_leaf_says_its_fields(error: HaulierError, text: str) -> None:
    assert str(error) == text


def test_every_leaf_has_words() -> None:
    assert {type(error) for error, _ in SAID} == leaves()


def test_the_drawn_tree_is_the_real_one() -> None:
    real = {error.__name__: error.__bases__[0].__name__ for error in tree(HaulierError)}
    assert real.pop("HaulierError") == "Exception"
    assert drawn_parents() == real


def test_only_what_time_can_cure_is_retryable() -> None:
    assert {error.__name__ for error in tree(HaulierError) if error.retryable} == RETRYABLE


def test_one_problem_makes_a_request_invalid() -> None:
    assert InvalidRequest.of("size", "must be given").errors == (FieldProblem("size", "must be given"),)


def test_an_error_is_itself_only_and_can_be_kept_in_a_set() -> None:
    assert ChunkConflict(3) != ChunkConflict(3)
    assert len({ChunkConflict(3), ChunkConflict(3)}) == 2


def test_what_a_peer_did_not_say_is_not_added() -> None:
    first = PeerRefused(404, "upload-not-found", "no such upload")
    with pytest.raises(TypeError, match="assignment"):
        first.fields["upload"] = "u1"  # type: ignore[index] # the point
    assert first.fields == {}


def test_fields_are_given_in_order_or_by_name() -> None:
    first, second = ChunkOutOfRange(3, 2), ChunkOutOfRange(3, chunk_count=2)
    assert (first.index, first.chunk_count) == (second.index, second.chunk_count) == (3, 2)
    assert repr(first) == repr(second) == "ChunkOutOfRange(index=3, chunk_count=2)"


def test_a_field_with_a_default_may_be_left_out() -> None:
    assert PeerBusy(503, "later").retry_after_s == 0
    assert PeerBusy(503, "later", 1.5).retry_after_s == 1.5


def test_a_leaf_has_the_fields_of_its_family_too() -> None:
    class ChunkStrange(ChunkOutOfRange):
        why: str

    error = ChunkStrange(3, 2, "odd")
    assert (error.index, error.chunk_count, error.why) == (3, 2, "odd")
    assert repr(ChunkOutOfRange(3, 2)) == "ChunkOutOfRange(index=3, chunk_count=2)"


def test_a_leaf_that_declares_a_field_of_its_family_again_has_it_once() -> None:
    class ChunkStranger(ChunkOutOfRange):
        chunk_count: int = 9

    error = ChunkStranger(3)
    assert ChunkStranger.field_names == ("index", "chunk_count")
    assert (error.index, error.chunk_count) == (3, 9)


def test_annotations_in_which_no_constant_can_be_told_are_refused() -> None:
    with pytest.raises(TypeError, match="annotations that are text"):

        class Vague(ChunkOutOfRange):
            retryable: "ClassVar[bool]" = True


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((3,), {}),
        ((3, 2, 1), {}),
        ((3, 2), {"index": 3}),
        ((3, 2), {"other": 1}),
        ((3, 2), {"retryable": True}),
        ((3,), {"index": 2, "chunk_count": 2}),
    ],
)
def test_an_error_cannot_be_made_of_other_than_its_fields(
    values: tuple[int, ...], named: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match="ChunkOutOfRange"):
        ChunkOutOfRange(*values, **named)
