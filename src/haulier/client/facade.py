"""The client: every call of the native API that a program needs.

One module although it is long: it is the whole interface, and most of it is what each call takes and promises.
"""

import asyncio
import mimetypes
import os
import secrets
import sys
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

import httpx2
from platformdirs import user_state_path

from haulier.client.chunks import ChunkUpload, Key, make_record
from haulier.client.download import Download
from haulier.client.lanes import TwoLanes, is_unusable
from haulier.client.order import Order, Report
from haulier.client.pictures import PictureMaker
from haulier.client.resource import POLL_S, ask_state, require_done, upload_path
from haulier.client.resume import Entry, Identity
from haulier.client.source import FileSource
from haulier.client.streams import StreamUpload
from haulier.client.values import Link, ProgressCallback, Record, RecordPage, UploadState, unreadable
from haulier.client.whole import WholeUpload
from haulier.client.wire import RESTART, Wire
from haulier.core.digest import parse_digest_name
from haulier.core.errors import InvalidRequest, LanesFailed, PeerCorrupted, SourceChanged, WaitTimeout
from haulier.core.given import given_path, given_text, given_text_or_none, require_number
from haulier.core.link import USUAL_LINK_S
from haulier.core.processing import is_image
from haulier.core.record import AssetKind
from haulier.core.retry import RetryPolicy
from haulier.core.upload import DEFAULT_CONTENT_TYPE, IMAGE_TYPES, check_key, require_valid
from haulier.engine.tasks import in_thread

ONE_REQUEST: Final = 8 * 1024 * 1024
"""Files below go in one request. The service's default chunk size: one chunk cannot be resumed anyway."""
PAGE: Final = 200
"""Records asked for at once: the largest page the service gives."""


class Client:
    """A Haulier service, from the other side.

    ```python
    async with Client("http://127.0.0.1:8000") as client:
        record = await client.upload("film.mkv")
        await client.download(record.id, "copy.mkv")
    ```

    One client may run any number of uploads and downloads at once; `parallel` bounds the bodies that are
    sent at the same time by all of them. It belongs to one event loop.

    Args:
        url: where the service is.
        token: sent as a bearer token.
        capsule: where uploads go and lists look.
        parallel: bodies at once, 1 or more.
        retry: patience with a service that has answered before, and of uploads from their first attempt on; the
            default outlasts a restart.
        home: where the state that lets a killed upload go on is kept; the platform's user state
            directory by default.
        transport: another way to the service than sockets, for one in the same process
            (`httpx2.ASGITransport`).
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: str | None = None,
        capsule: str = "default",
        parallel: int = 4,
        retry: RetryPolicy | None = None,
        home: str | os.PathLike[str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        given_text("url", url, secret=isinstance(url, str))  # a password may be in it
        given_text("capsule", capsule)
        if token is not None:
            given_text("token", token, secret=True)
        require_number("parallel", parallel, what="a number of bodies, 1 or more", least=1, whole=True)
        self.capsule = capsule
        self._parallel = parallel
        self._gate = asyncio.Semaphore(parallel)
        self._wire = Wire(
            url,
            token=token,
            connections=parallel,
            policy=retry or RetryPolicy(),
            restart=retry or RESTART,
            transport=transport,
        )
        root = user_state_path("haulier", appauthor=False) if home is None else Path(home)
        self._resume_dir = root / "uploads"
        self._maker = PictureMaker()

    @property
    def url(self) -> str:
        """The service's address, without a trailing slash."""
        return self._wire.url

    async def __aenter__(self) -> Self:
        await self._wire.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._maker.close()
        await self._wire.__aexit__(*exception)

    async def upload(  # noqa: PLR0913 - one keyword a thing to say
        self,
        source: str | os.PathLike[str] | AsyncIterable[bytes],
        *,
        filename: str | None = None,
        path: str | None = None,
        digest: str = "sha-256",
        key: str | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        derivatives: str = "server",
        progress: ProgressCallback | None = None,
    ) -> Record:
        """Bring one file, or a stream of bytes, over and return its verified record.

        A file is sent in parallel chunks. If this process dies, the next upload of the same unchanged file
        to the same place goes on where it stopped. A cancel leaves the upload in that state, too. A stream
        survives cuts and restarts of the service, but not the end of this process.

        Args:
            source: a path, or an async iterable of bytes of unknown length (which needs `filename`).
            filename: the record's name; the file's own by default.
            path: the record's relative path, with `/`, in Unicode form NFC.
            digest: what both sides compute and compare: `sha-256`, `sha-512`, `blake3`, `crc32c`, `md5`
                or `none`.
            key: an idempotency key of your own; then nothing is kept on disk, and repeating the call with
                the same key goes on with, or returns, the same upload.
            content_type: guessed by the service when not given.
            metadata: free pairs of text.
            derivatives: who makes smaller pictures of a picture: `server`, after this returns; `local`, this process,
                before it is sent beside them (needs haulier[images]); or `none`.
            progress: called with how far it is; of an image and its pictures, made here, with how far each lane is.

        Raises:
            OSError: the file cannot be read, or `home` not be written to.
            SourceChanged: the file changed while it was sent; the upload was aborted.
            PeerCorrupted: what arrived is not what was sent; the upload was aborted.
            LanesFailed: of an image and its pictures, made here, not all arrived: each has its cause. What arrived is
                kept, and the same call does only the rest; without the pictures of an image that none can be made of,
                the record is made all the same, and told with the error.
            PeerRefused: the service refuses (its `status`, `slug` and `detail` say why).
            PeerUnreachable: no answer after all retries; a later call goes on from there.
            RequestError: an argument is malformed.
        """
        if not isinstance(source, AsyncIterable):
            given_path("source", source)
        given_text_or_none("filename", filename)
        if given_text("derivatives", derivatives) not in {"server", "local", "none"}:
            raise InvalidRequest.of("derivatives", "must be server, local or none")
        if key is not None:
            require_valid(check_key(given_text("key", key)))
        order = self._order(
            _own_name(source) if filename is None else filename,
            path=path,
            digest=digest,
            content_type=content_type,
            metadata=metadata,
            derivatives=derivatives == "server",
        )
        if isinstance(source, AsyncIterable):
            report = Report(progress, None)
            stream = StreamUpload(self._wire, source, order, key=key or _new_key(), report=report)
            return await stream.run()
        async with _opened(source) as file:
            if derivatives == "local" and is_image(content_type or _guess_type(order.filename)):
                return await self._upload_lanes(file, order, key, progress)
            return await self._upload_file(file, order, key, Report(progress, file.size))

    def _order(
        self,
        filename: str,
        *,
        path: str | None,
        digest: str,
        metadata: Mapping[str, str] | None,
        derivatives: bool,
        content_type: str | None = None,
    ) -> Order:
        """Return what was asked for. Raises InvalidRequest, and DigestMalformed: it cannot be meant."""
        _require_pairs(metadata)
        return Order(
            filename=filename,
            capsule=self.capsule,
            digest=parse_digest_name(given_text("digest", digest), field="digest"),
            path=given_text_or_none("path", path),
            content_type=given_text_or_none("content_type", content_type),
            metadata=metadata or {},
            derivatives=derivatives,
        )

    async def _upload_lanes(
        self, file: FileSource, order: Order, key: str | None, progress: ProgressCallback | None
    ) -> Record:
        async with self._lanes(file, order, key, progress) as lanes:
            failures = await lanes.run()
            if failures and not is_unusable(failures):
                raise LanesFailed(failures)
            record = await lanes.finalise()
        if failures:
            raise LanesFailed(failures, record)
        return record

    @asynccontextmanager
    async def lanes(
        self,
        source: str | os.PathLike[str],
        *,
        path: str | None = None,
        key: str | None = None,
        digest: str = "sha-256",
        metadata: Mapping[str, str] | None = None,
        progress: ProgressCallback | None = None,
    ) -> AsyncIterator[TwoLanes]:
        """Open an image to be sent with its smaller pictures, step by step.

        ```python
        async with client.lanes("photo.jpg") as lanes:
            while failures := await lanes.run():
                ...  # each has its lane, asset and cause; run again, or: await lanes.abandon(); break
            else:
                record = await lanes.finalise()
        ```

        Raises: as `upload`, except for what `TwoLanes.run` returns.
        """
        given_path("source", source)
        given_text_or_none("key", key)
        order = self._order(Path(source).name, path=path, digest=digest, metadata=metadata, derivatives=False)
        async with _opened(source) as file, self._lanes(file, order, key, progress) as lanes:
            yield lanes

    @asynccontextmanager
    async def _lanes(
        self, file: FileSource, order: Order, key: str | None, progress: ProgressCallback | None
    ) -> AsyncIterator[TwoLanes]:
        async with AsyncExitStack() as stack:
            keys = {
                kind: await stack.enter_async_context(self._key(file, key and f"{key}.{kind}", asset=kind))
                for kind in AssetKind
            }
            lanes = TwoLanes(
                self._wire,
                file,
                order,
                keys=keys,
                maker=self._maker,
                gate=self._gate,
                parallel=self._parallel,
                progress=progress,
            )
            yield await stack.enter_async_context(lanes)
            if not lanes.ended:
                for each in keys.values():
                    each.kept = True

    async def _upload_file(self, file: FileSource, order: Order, key: str | None, report: Report) -> Record:
        if file.size < ONE_REQUEST and not order.metadata and key is None:
            return await WholeUpload(self._wire, file, order, gate=self._gate, report=report).run()
        async with self._key(file, key) as current:
            upload: ChunkUpload[Record] = ChunkUpload(
                self._wire,
                file,
                order,
                key=current,
                gate=self._gate,
                parallel=self._parallel,
                report=report,
                ending=make_record,
            )
            return await upload.run()

    @asynccontextmanager
    async def _key(
        self, file: FileSource, given: str | None, *, asset: AssetKind | None = None
    ) -> AsyncIterator[Key]:
        """Keep the key where a later run finds it, until the upload has come to an end."""
        entry = None if given is not None else await in_thread(self._entry, file, asset, undo=_close)
        if entry is None:
            # The caller's own key, or another process sends the same file right now.
            yield Key(given or _new_key(), _new_key)
            return
        try:
            key = Key(entry.key, entry.renew)
            yield key
            if not key.kept:
                entry.remove()
        except (SourceChanged, PeerCorrupted):
            entry.remove()
            raise
        finally:
            entry.close()

    def _entry(self, file: FileSource, asset: AssetKind | None) -> Entry | None:
        identity = Identity(
            url=self._wire.url,
            capsule=self.capsule,
            path=str(file.path.absolute()),
            size=file.size,
            mtime_ns=file.fingerprint.mtime_ns,
            inode=file.fingerprint.inode,
            asset=asset,
        )
        return Entry.open(self._resume_dir, identity)

    async def list(
        self, prefix: str = "", *, status: str | None = None, since: str | None = None, mine: bool = False
    ) -> AsyncIterator[Record]:
        """Yield the capsule's records, newest first; pages are fetched as they are needed.

        Args:
            prefix: only records whose path begins so.
            status: only records of that status.
            since: only records made at or after that ISO 8601 time.
            mine: only the caller's own.

        Raises:
            PeerRefused, PeerUnreachable: as `upload`.
        """
        given_text("prefix", prefix)
        given_text_or_none("status", status)
        given_text_or_none("since", since)
        given = {"path": prefix, "status": status, "from": since, "mine": "true" if mine else None}
        params = {"capsule": self.capsule, "limit": str(PAGE), **{k: v for k, v in given.items() if v}}
        cursor: str | None = ""
        while cursor is not None:
            page_params = {**params, "cursor": cursor} if cursor else params
            answer = await self._wire.call("GET", "/api/records", params=page_params)
            page = RecordPage.parse(answer.content)
            for item in page.items:
                yield Record.read(item)
            if page.next == cursor:
                raise unreadable("the page that follows it is the same one again")
            cursor = page.next

    async def record(self, record_id: str) -> Record:
        """Return the record.

        Raises:
            PeerRefused, PeerUnreachable: as `upload`; 404 `record-not-found`.
        """
        return Record.parse((await self._wire.call("GET", _record_path(record_id))).content)

    async def download(
        self,
        record_id: str,
        target: str | os.PathLike[str],
        *,
        kind: str = "original",
        resume: bool = True,
        overwrite: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Path:
        """Fetch an asset into the file `target`, verify it, and return the target.

        The target appears only when it is whole and verified. What was fetched before a cut or a kill is
        kept in a hidden file beside it and not fetched again, unless `resume` is false.

        Raises:
            FileExistsError: the target exists and `overwrite` is false.
            InvalidRequest: it is a device or a pipe; or another process is fetching the same.
            PeerCorrupted: the bytes are not what the record says; none of them are kept.
            PeerRefused, PeerUnreachable: as `upload`.
            OSError: the target's folder cannot be written to.
        """
        given_text("kind", kind)
        given_path("target", target)
        record = await self.record(record_id)
        asset = record.asset(kind)
        report = Report(progress, None if asset is None else asset.size)
        download = Download(self._wire, record, kind, Path(target), report=report)
        return await download.run(resume=resume, overwrite=overwrite)

    async def link(
        self,
        record_id: str,
        *,
        expires_in_s: float = USUAL_LINK_S,
        kind: str = "original",
        disposition: str = "attachment",
    ) -> Link:
        """Return a link that opens one of the record's assets for whoever has it.

        Args:
            record_id: of a record that this client may read.
            expires_in_s: seconds from now, up to 30 days.
            kind: which asset.
            disposition: `attachment`, or `inline` for a browser that shall show it.

        Raises:
            PeerRefused, PeerUnreachable: as `upload`; 404 `record-not-found`.
        """
        given_text("kind", kind)
        given_text("disposition", disposition)
        require_number(
            "expires_in_s", expires_in_s, what="a number of seconds", least=0, most=sys.float_info.max
        )
        wanted = {"kind": kind, "expires_in": expires_in_s, "disposition": disposition}
        answer = await self._wire.call("POST", f"{_record_path(record_id)}/links", json=wanted)
        return Link.parse(answer.content)

    async def delete(self, record_id: str, *, now: bool = False) -> None:
        """Delete the record; with `now` its bytes go at once, else it can be restored for a while.

        Raises:
            PeerRefused, PeerUnreachable: as `upload`; 404 `record-not-found`.
        """
        params = {"now": "true"} if now else None
        require_done(await self._wire.call("DELETE", _record_path(record_id), params=params))

    async def state(self, upload_id: str) -> UploadState:
        """Return where the upload stands; disturbs nobody.

        Raises:
            PeerRefused, PeerUnreachable: as `upload`; 404 `upload-not-found`.
        """
        given_text("upload_id", upload_id)
        return await self._wire.persevere(lambda: ask_state(self._wire, upload_id))

    async def wait(self, upload_id: str, *, timeout_s: float | None = None) -> UploadState:
        """Return the upload's state once it has ended, whenever that was.

        Raises:
            WaitTimeout: it has not ended within `timeout_s`.
            PeerRefused, PeerUnreachable: as `state`.
        """
        if timeout_s is not None:
            require_number("timeout_s", timeout_s, what="a number of seconds, or None")
        state = await self.state(upload_id)
        try:
            async with asyncio.timeout(timeout_s):
                while not state.ended:
                    state = await self._wire.persevere(
                        lambda: ask_state(self._wire, upload_id, wait_s=POLL_S)
                    )
        except TimeoutError:
            raise WaitTimeout(state.status, state.received_bytes, state.size) from None
        return state

    async def abort(self, upload_id: str) -> None:
        """End the upload and free its bytes; may be repeated.

        Raises:
            PeerRefused, PeerUnreachable: as `upload`; 409 `upload-complete` when it is committed.
        """
        given_text("upload_id", upload_id)
        require_done(await self._wire.call("DELETE", upload_path(upload_id)))

    async def events(self, upload_id: str) -> AsyncIterator[UploadState]:
        """Yield the upload's state now, on every change, and a last time when it has ended.

        Raises:
            PeerUnreachable: the stream of events was cut; asking again goes on.
            PeerRefused: as `state`.
        """
        given_text("upload_id", upload_id)
        async with self._wire.events(f"{upload_path(upload_id)}/events") as source:
            async for event in source:
                if event.data:
                    yield UploadState.parse(event.data)


def _record_path(record_id: str) -> str:
    # Quoted whole: what was mistyped is an unknown id and never another address or parameter.
    return f"/api/records/{quote(given_text('record_id', record_id), safe='')}"


def _require_pairs(metadata: object) -> None:
    """Refuse metadata that are no pairs of text. Raises InvalidRequest."""
    if metadata is None:
        return
    if not isinstance(metadata, Mapping):
        raise InvalidRequest.of("metadata", f"must be pairs of text, not {metadata!r}")
    for pair in metadata.items():
        for text in pair:
            given_text("metadata", text)


@asynccontextmanager
async def _opened(source: str | os.PathLike[str]) -> AsyncIterator[FileSource]:
    file = await in_thread(FileSource.open, Path(source), undo=FileSource.close)
    try:
        yield file
    finally:
        file.close()


def _own_name(source: str | os.PathLike[str] | AsyncIterable[bytes]) -> str:
    if isinstance(source, AsyncIterable):
        raise TypeError("a stream needs a filename")
    return Path(source).name


def _guess_type(filename: str) -> str:
    known = IMAGE_TYPES.get(Path(filename).suffix.lower())
    return known or mimetypes.guess_type(filename, strict=False)[0] or DEFAULT_CONTENT_TYPE


def _close(entry: Entry | None) -> None:
    if entry is not None:
        entry.close()


def _new_key() -> str:
    return secrets.token_hex(16)
