"""A stand-in for Microsoft Graph's drives: the smallest that rclone's onedrive backend takes for the real one.

Rule 1: what a session says and does is what the documentation says, with the deviations that are seen in the field as
        switches: `ranges`, `strict`, `hashes`, `ctags`, `times`, `personal`.
Rule 2: faults are addressed by method, pattern and how often the request was met, and are used up by happening.
Rule 3: time is a number that tests move: sessions expire by it.
Rule 4: names are one in whatever case. Content that changes gives a file a new eTag and a new cTag, anything else a new eTag.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import field
from datetime import UTC, datetime
from itertools import count
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from haulier.core.quick_xor import QuickXor
from haulier.core.values import dataclass

GRID: Final = 327_680
LARGEST: Final = 60 * 1024 * 1024
SESSION_S: Final = 3600.0
TOKEN: Final = "a-good-token"
DRIVE: Final = "d1"
ITEM: Final = re.compile(
    r"/v[12]\.0/(?:drives/[^/]+|me/drive)(?:/(root|items/(?P<id>[^/:]+))(?::/(?P<path>[^:]*):?)?)?(?P<rest>/.*)?"
)


@dataclass
class Item:
    """A file or a folder."""

    id: str
    name: str
    parent: str | None
    data: bytes | None
    modified: str
    written: float
    versions: int = 1
    etag: int = 1
    ctag: int = 1
    contents: list[bytes] = field(default_factory=list)
    """Of all its versions that were sent here, the oldest first."""

    def rewrite(self, data: bytes) -> None:
        """Hold other content, by whatever way."""
        self.data, self.etag, self.ctag = data, self.etag + 1, self.ctag + 1


@dataclass
class Session:
    """An upload session."""

    id: str
    parent: str
    name: str
    size: int
    behaviour: str
    modified: str | None
    expires_at: float
    data: bytearray = field(default_factory=bytearray)
    fragments: int = 0
    state: str = "open"
    """open, complete, cancelled, commit_failed."""


@dataclass
class Fault:
    """What happens to the nth request (from 1) of a method whose path matches."""

    method: str
    pattern: str
    status: int | None
    """What it is answered with; None: as if nothing were wrong."""
    nth: int = 1
    retry_after: str | None = None
    after: bool = False
    """Whether the request is carried out before it is answered so."""
    kept: int | None = None
    """Of a fragment, bytes that are kept."""
    meanwhile: Callable[[], object] = lambda: None
    """What somebody else does then: before the request, or where it is carried out nevertheless, after it."""
    always: bool = False
    """Whether it happens to all that come after the nth, too."""
    met: int = 0


class Failure(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.answer = JSONResponse({"error": {"code": code, "message": message}}, status)


class Drive:
    """The state of one drive, and the switches."""

    def __init__(self, drive_id: str = DRIVE) -> None:
        self.id = drive_id
        self.url = ""
        self.now = datetime(2026, 11, 28, tzinfo=UTC).timestamp()
        self.items: dict[str, Item] = {}
        self.sessions: dict[str, Session] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, bool]] = []
        """Method, path, and whether a token was shown."""
        self.ranges = "open"
        """How expected ranges are told: open, closed, pascal, missing."""
        self.strict = True
        """Whether fragments off the grid are refused."""
        self.hashes = 0
        """Questions for an item after which it has a hash; -1: never."""
        self.ctags = True
        """Whether a cTag is told."""
        self.times = True
        """Whether the time that a session brings is kept."""
        self.deny: int | None = None
        """Which fragment of a session, from 1, is not let in any more, nor are those after it."""
        self.personal = False
        """Whether a session that is gone is told as personal drives do."""
        self.session_url: str | None = None
        """Told in the place of a session's address."""
        self.quota: int | None = None
        self.tokens = {TOKEN}
        self.beside: list[Drive] = []
        """Those of other people, with tokens of their own."""
        self.empty_answer: int | None = None
        """What whatever made a file is answered with, without a body; None: with its item."""
        self._ids = count(1)
        self._root = self._add("root", None, None)

    def path(self, name: str) -> Item | None:
        """Return the item at a path."""
        at: Item | None = self._root
        for segment in [part for part in name.split("/") if part]:
            at = at and self.child(at.id, segment)
        return at

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        found = self.path(name)
        assert found is not None, f"there is no file {name}"
        assert found.data is not None, f"{name} is a folder"
        return found.data

    def child(self, parent: str, name: str) -> Item | None:
        """Return the item of that name in a folder; case does not matter."""
        return next(
            (i for i in self.items.values() if i.parent == parent and i.name.casefold() == name.casefold()),
            None,
        )

    def children(self, parent: str) -> list[Item]:
        return [item for item in self.items.values() if item.parent == parent]

    def folder(self, item: Item, path: str) -> tuple[Item, str]:
        """Return the folder in which the last segment of a path is, made where it is missing, and that segment."""
        *folders, name = [part for part in path.split("/") if part]
        for segment in folders:
            item = self.child(item.id, segment) or self._add(segment, item.id, None)
        return item, name

    def store(
        self, parent: str, name: str, data: bytes, behaviour: str, modified: str | None = None
    ) -> tuple[Item, bool]:
        """Make a file, or a version of one; return whether it is new."""
        if self.quota is not None and self._used() + len(data) > self.quota:
            raise Failure(507, "quotaLimitReached", "the drive is full")
        there = self.child(parent, name)
        if there is not None and (behaviour == "fail" or (behaviour == "replace" and there.data is None)):
            raise Failure(409, "nameAlreadyExists", "an item with that name exists")
        if there is not None and behaviour == "rename":
            wanted = PurePosixPath(name)
            tries = (f"{wanted.stem} {n}{wanted.suffix}" for n in count(1))
            name, there = next(new for new in tries if self.child(parent, new) is None), None
        if there is None:
            return self._add(name, parent, data, modified), True
        there.rewrite(data)
        there.contents.append(data)
        there.versions += 1
        there.modified, there.written = modified or self.time(), self.now
        return there, False

    def write(self, name: str, data: bytes) -> Item:
        """Make a file, or a version of one, as somebody else does; also where `name` is a path."""
        parent, last = self.folder(self._root, name)
        return self.store(parent.id, last, data, "replace")[0]

    def time(self) -> str:
        return datetime.fromtimestamp(self.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def new_id(self) -> str:
        return f"I{next(self._ids)}"

    def make_folder(self, parent: str, name: str) -> Item:
        return self._add(name, parent, None)

    def _used(self) -> int:
        return sum(len(item.data or b"") * item.versions for item in self.items.values())

    def _add(self, name: str, parent: str | None, data: bytes | None, modified: str | None = None) -> Item:
        item = Item(self.new_id(), name, parent, data, modified or self.time(), self.now)
        item.contents += [] if data is None else [data]
        self.items[item.id] = item
        return item

    def document(self, item: Item) -> dict[str, Any]:
        """Return an item as Graph describes it."""
        document: dict[str, Any] = {
            "id": item.id,
            "name": item.name,
            "size": len(item.data or b""),
            "eTag": f'"{{{item.id}}},{item.etag}"',
            "createdDateTime": item.modified,
            "lastModifiedDateTime": datetime.fromtimestamp(item.written, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "fileSystemInfo": {"createdDateTime": item.modified, "lastModifiedDateTime": item.modified},
            "parentReference": {"driveId": self.id, "driveType": "business", "id": item.parent or ""},
        }
        if item.data is None:
            folder = {"childCount": len(self.children(item.id))}
            return document | {"folder": folder} | ({} if item.parent else {"root": {}})
        document["@microsoft.graph.downloadUrl"] = f"{self.url}/download/{self.id}/{item.id}?tempauth=secret"
        if self.ctags:
            document["cTag"] = f'"c:{{{item.id}}},{item.ctag}"'
        hashes = {} if self._lacks_hash() else {"hashes": {"quickXorHash": quick_xor(item.data)}}
        return document | {"file": {"mimeType": "application/octet-stream", **hashes}}

    def _lacks_hash(self) -> bool:
        if self.hashes > 0:
            self.hashes -= 1
            return True
        return self.hashes < 0


def quick_xor(data: bytes) -> str:
    total = QuickXor()
    total.update(data)
    return total.text()


class Graph:
    """The HTTP side of a drive, and of those of others beside it."""

    def __init__(self, drive: Drive) -> None:
        self.drive = drive
        """What switches and faults are of, and whose requests are kept."""
        methods = ["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD"]
        self.app = Starlette(routes=[Route("/{path:path}", self.serve, methods=methods)])

    async def serve(self, request: Request) -> Response:
        path = unquote(request.scope["raw_path"].decode("ascii").split("?")[0])
        body = await request.body()
        self.drive.requests.append((request.method, path, "authorization" in request.headers))
        fault = self._fault(request.method, path)
        if fault is not None and not fault.after:
            fault.meanwhile()
        try:
            if fault is not None and fault.status is not None and not fault.after:
                if fault.kept is not None:
                    self.drive.sessions[path.rsplit("/", 1)[-1]].data += body[: fault.kept]
                return _broken(fault)
            answer = self._answer(request, path, body)
        except Failure as failure:
            answer = failure.answer
        if fault is not None and fault.after:
            fault.meanwhile()
        return answer if fault is None or fault.status is None else _broken(fault)

    def _drive_of(self, token: str, path: str) -> Drive:
        """Return the drive that is named, or that is of whoever has the token."""
        named = re.search(r"/drives/([^/]+)", path)
        mine = [each for each in (self.drive, *self.drive.beside) if token in each.tokens]
        if not mine:
            raise Failure(401, "InvalidAuthenticationToken", "the token is not valid")
        if named is None:
            return mine[0]
        if named[1] not in [each.id for each in mine]:
            raise Failure(403, "accessDenied", "it is the drive of somebody else")
        return next(each for each in mine if each.id == named[1])

    def _fault(self, method: str, path: str) -> Fault | None:
        for fault in self.drive.faults:
            if fault.method == method and re.search(fault.pattern, path):
                fault.met += 1
                if fault.met == fault.nth and not fault.always:
                    self.drive.faults.remove(fault)
                if fault.met >= fault.nth:
                    return fault
        return None

    def _answer(self, request: Request, path: str, body: bytes) -> Response:
        if path.startswith("/upload/"):
            key = path.rsplit("/", 1)[-1]
            owner = next((it for it in self.drive.beside if key in it.sessions), self.drive)
            return Graph(owner)._session(request, key, body)
        if path.startswith("/download/"):
            return Response(
                self.drive.items[path.rsplit("/", 1)[-1]].data, media_type="application/octet-stream"
            )
        if path.endswith("/token"):
            token = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600, "refresh_token": "r"}
            return JSONResponse(token)
        drive = self._drive_of(request.headers.get("authorization", "").removeprefix("Bearer "), path)
        found = ITEM.fullmatch(path)
        if found is None:
            raise Failure(400, "invalidRequest", f"unknown address {path}")
        if found[1] is None and not found["rest"]:
            return JSONResponse({"id": drive.id, "driveType": "business"})
        return Graph(drive)._resource(request, found, body)

    def _resource(self, request: Request, found: re.Match[str], body: bytes) -> Response:
        drive, rest, path = self.drive, found["rest"] or "", found["path"]
        base = drive.items.get(found["id"]) if found["id"] not in {None, "root"} else drive.path("")
        if base is None:
            raise Failure(404, "itemNotFound", "there is no such item")
        if rest == "/content" and request.method == "PUT":
            return self._put(request, base, path, body)
        if rest == "/createUploadSession":
            return self._begin(request, base, path, json.loads(body or b"{}"))
        item = base
        for segment in [part for part in (path or "").split("/") if part]:
            child = drive.child(item.id, segment)
            if child is None:
                raise Failure(404, "itemNotFound", "there is no such item")
            item = child
        if rest == "/children":
            return self._children(request, item, body)
        if rest == "/content":
            return Response(item.data, media_type="application/octet-stream")
        return self._item(request, item, body)

    def _item(self, request: Request, item: Item, body: bytes) -> Response:
        drive = self.drive
        if request.method == "DELETE":
            del drive.items[item.id]
            return Response(status_code=204)
        if request.method == "PATCH":
            changes = json.loads(body)
            item.name = changes.get("name", item.name)
            item.modified = changes.get("fileSystemInfo", {}).get("lastModifiedDateTime", item.modified)
            item.versions += "fileSystemInfo" in changes and item.data is not None
            item.etag += 1
        return JSONResponse(drive.document(item))

    def _children(self, request: Request, item: Item, body: bytes) -> Response:
        drive = self.drive
        if request.method == "POST":
            name = json.loads(body)["name"]
            return JSONResponse(
                drive.document(drive.child(item.id, name) or drive.make_folder(item.id, name)), 201
            )
        return JSONResponse({"value": [drive.document(child) for child in drive.children(item.id)]})

    def _put(self, request: Request, base: Item, path: str | None, body: bytes) -> Response:
        behaviour = request.query_params.get("@microsoft.graph.conflictBehavior", "replace")
        if path is None:
            parent, name = self.drive.items[base.parent or ""], base.name
        else:
            parent, name = self.drive.folder(base, path)
        item, new = self.drive.store(parent.id, name, body, behaviour)
        return self._made(item, new=new)

    def _begin(self, request: Request, base: Item, path: str | None, document: dict[str, Any]) -> Response:
        drive, wanted = self.drive, document.get("item", {})
        if path is None:
            parent, name = drive.items[base.parent or ""], base.name
        else:
            parent, name = drive.folder(base, path)
        behaviour = wanted.get("@microsoft.graph.conflictBehavior", "fail")
        if behaviour == "fail" and drive.child(parent.id, name) is not None:
            raise Failure(409, "nameAlreadyExists", "an item with that name exists")
        for other in drive.sessions.values():
            if (other.parent, other.name.lower()) == (parent.id, name.lower()) and self._is_open(other):
                raise Failure(409, "resourceLocked", "another session is open for that name")
        session = Session(
            f"{drive.id}-{drive.new_id()}",
            parent.id,
            name,
            int(wanted.get("fileSize", -1)),
            behaviour,
            wanted.get("fileSystemInfo", {}).get("lastModifiedDateTime"),
            drive.now + SESSION_S,
        )
        drive.sessions[session.id] = session
        host = request.headers["host"]
        url = drive.session_url
        if url is None:
            url = f"http://{host}/upload/{session.id}?tempauth=secret"
        return JSONResponse({"uploadUrl": url, **self._told(session)})

    def _is_open(self, session: Session) -> bool:
        return session.state == "open" and session.expires_at > self.drive.now

    def _told(self, session: Session) -> dict[str, Any]:
        expires = datetime.fromtimestamp(session.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        end = str(session.size - 1) if self.drive.ranges == "closed" and session.size > 0 else ""
        ranges = [f"{len(session.data)}-{end}"]
        if self.drive.ranges == "missing":
            return {"expirationDateTime": expires}
        if self.drive.ranges == "pascal":
            return {"ExpirationDateTime": expires, "NextExpectedRanges": ranges}
        return {"expirationDateTime": expires, "nextExpectedRanges": ranges}

    def _session(self, request: Request, key: str, body: bytes) -> Response:
        session = self.drive.sessions.get(key)
        if session is None or not self._is_open(session):
            if self.drive.personal:
                raise Failure(400, "invalidRequest", "Upload session not found")
            raise Failure(404, "itemNotFound", "the upload session was not found")
        if request.method == "GET":
            return JSONResponse(self._told(session))
        if request.method == "DELETE":
            session.state = "cancelled"
            return Response(status_code=204)
        if "authorization" in request.headers:
            raise Failure(401, "unauthenticated", "no token may be shown to an upload session")
        session.fragments += 1
        if self.drive.deny is not None and session.fragments >= self.drive.deny:
            raise Failure(401, "unauthenticated", "the address has run out")
        return self._fragment(request, session, body)

    def _fragment(self, request: Request, session: Session, body: bytes) -> Response:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", request.headers.get("content-range", ""))
        if found is None:
            raise Failure(400, "invalidRequest", "Content-Range is missing")
        first, last, total = map(int, found.groups())
        if session.size >= 0 and total != session.size:
            raise Failure(400, "invalidRequest", "the total has changed")
        if last - first + 1 != len(body) or len(body) >= LARGEST or not body:
            raise Failure(400, "invalidRequest", "the fragment has another length")
        if first != len(session.data):
            raise Failure(416, "invalidRange", "the fragment overlaps, or leaves a gap")
        if self.drive.strict and last + 1 != total and len(body) % GRID:
            raise Failure(400, "invalidRequest", "a fragment must be a multiple of 320 KiB")
        session.data += body
        if len(session.data) < total:
            return JSONResponse(self._told(session), 202)
        return self._complete(session)

    def _complete(self, session: Session) -> Response:
        drive = self.drive
        try:
            item, new = drive.store(
                session.parent,
                session.name,
                bytes(session.data),
                session.behaviour,
                session.modified if drive.times else None,
            )
        except Failure:
            session.state = "commit_failed"
            raise
        session.state = "complete"
        return self._made(item, new=new)

    def _made(self, item: Item, *, new: bool) -> Response:
        if self.drive.empty_answer is not None:
            return Response(status_code=self.drive.empty_answer)
        return JSONResponse(self.drive.document(item), 201 if new else 200)


def _broken(fault: Fault) -> Response:
    assert fault.status is not None
    fields = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
    if fault.status == 302:
        fields["Location"] = "http://127.0.0.1:9/elsewhere"
    document = {"error": {"code": f"fault{fault.status}", "message": "as planned"}}
    return JSONResponse(document, fault.status, headers=fields)


@contextmanager
def standing_in() -> Iterator[tuple[Drive, str]]:
    """Run a stand-in in a thread; yield its drive and its address."""
    drive = Drive()
    config = uvicorn.Config(Graph(drive).app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    socket.listen()  # else whoever is quicker than the thread is refused
    thread = threading.Thread(target=server.run, args=([socket],))
    thread.start()
    drive.url = f"http://127.0.0.1:{socket.getsockname()[1]}"
    try:
        yield drive, drive.url
    finally:
        server.should_exit = True
        thread.join(30)
        socket.close()


def corrupt(drive: Drive, name: str) -> None:
    """Change one stored byte of a file."""
    item = drive.path(name)
    assert item is not None
    assert item.data is not None
    changed = bytearray(item.data)
    changed[len(changed) // 2] ^= 1
    item.data = bytes(changed)


def enrich(drive: Drive, name: str) -> None:
    """Rewrite a file, as SharePoint does with those of Office."""
    item = drive.path(name)
    assert item is not None
    assert item.data is not None
    item.rewrite(item.data + b"<properties/>")
