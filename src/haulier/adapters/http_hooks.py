"""The turning points of uploads, asked over HTTP: `on_begin` and `on_finish` behind addresses of the operator's.

Rule 1: an answer decides only if it is one: a good status with a JSON object, or nothing, in time. Everything else is a
        fault of the hook, and what a fault means was said by the operator: `open` goes on without it, `closed` does
        not let the upload through.
Rule 2: what a hook amends is judged like any other request, by the engine.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol

import httpx2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from haulier.adapters.signed_posts import PostFailed, SignedPost, Target
from haulier.core.caller import Caller
from haulier.core.digest import Digest
from haulier.core.errors import HookUnavailable, UploadRefused
from haulier.core.instants import iso_time
from haulier.core.upload import BeginUpload
from haulier.core.values import dataclass, replace
from haulier.engine.hooks import FinishedUpload, Hooks
from haulier.logs import get_logger
from haulier.machine import Clock, Identifiers

MAX_ANSWER: Final = 64 * 1024
"""Bytes; amended metadata may have 16 KiB."""
MAX_REASON: Final = 1000
"""Characters of a refusal that its caller is told."""

log = get_logger()


class Locate(Protocol):
    """Tells where a blob is."""

    def __call__(self, blob_key: str) -> Path:
        """Return its path on this machine."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpHook:
    """One address that is asked."""

    on: Literal["begin", "finish"]
    target: Target
    fail: Literal["open", "closed"]
    tells_path: bool = False
    """Whether it is told where the file is; it runs on this machine then."""


class _Amended(BaseModel):
    """What a hook may change of a begin; what it does not name stays as it is, null takes away what may lack."""

    model_config = ConfigDict(extra="forbid", strict=True)

    filename: str = ""
    path: str | None = None
    content_type: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    refuse: Annotated[str, Field(min_length=1, max_length=MAX_REASON)] | None = None
    amend: _Amended | None = None


class HttpHooks:
    """All addresses; `close` it in the end."""

    def __init__(self, hooks: Sequence[HttpHook], *, clock: Clock, ids: Identifiers, locate: Locate) -> None:
        self._hooks = hooks
        self._clock = clock
        self._ids = ids
        self._locate = locate
        self._client: httpx2.AsyncClient | None = None

    def after(self, own: Hooks) -> Hooks:
        """Return hooks that ask the embedding program first, then every address in turn."""
        begin = [hook for hook in self._hooks if hook.on == "begin"]
        finish = [hook for hook in self._hooks if hook.on == "finish"]

        async def on_begin(request: BeginUpload, caller: Caller) -> BeginUpload | None:
            if own.on_begin is not None:
                request = await own.on_begin(request, caller) or request
            for hook in begin:
                request = await self._begin(hook, request, caller)
            return request

        async def on_finish(finished: FinishedUpload) -> None:
            if own.on_finish is not None:
                await own.on_finish(finished)
            for hook in finish:
                await self._ask(hook, self._finish_document(hook, finished))

        return replace(
            own,
            on_begin=on_begin if begin else own.on_begin,
            on_finish=on_finish if finish else own.on_finish,
        )

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        if self._client is not None:
            await self._client.aclose()

    async def _begin(self, hook: HttpHook, request: BeginUpload, caller: Caller) -> BeginUpload:
        answer = await self._ask(hook, _begin_document(request, caller))
        if answer.amend is None:
            return request
        return replace(request, **answer.amend.model_dump(exclude_unset=True))

    async def _ask(self, hook: HttpHook, data: Mapping[str, Any]) -> _Answer:
        """Return the answer, or an empty one in place of none.

        Raises:
            UploadRefused · HookUnavailable
        """
        kind = f"upload.{hook.on}"
        document = {"type": kind, "timestamp": iso_time(self._clock.now()), "data": data}
        body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        try:
            content = await self._post(hook).send(f"hook_{self._ids.row_id()}", body, read=MAX_ANSWER)
            answer = _Answer.model_validate_json(content) if content.strip() else _Answer()
        except (PostFailed, ValidationError) as error:
            reason = str(error) if isinstance(error, PostFailed) else "its answer cannot be read"
            log.warning("hook.failed", hook=kind, fail=hook.fail, error=reason)
            if hook.fail == "open":
                return _Answer()
            raise HookUnavailable(f"on_{hook.on}") from error
        if answer.refuse is not None:
            raise UploadRefused(answer.refuse)
        return answer

    def _post(self, hook: HttpHook) -> SignedPost:
        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=None, trust_env=False)
        return SignedPost(hook.target, client=self._client, clock=self._clock)

    def _finish_document(self, hook: HttpHook, finished: FinishedUpload) -> Mapping[str, Any]:
        upload, details = finished.upload, finished.details
        document = {
            "upload": upload.id,
            "owner": upload.spec.owner,
            "capsule": details.capsule,
            "record": details.record,
            "asset": details.asset.value,
            "filename": details.filename,
            "path": details.path,
            "content_type": details.content_type,
            "metadata": dict(details.metadata),
            "size": finished.size,
            "digest": _digest(details.digest),
        }
        if hook.tells_path:
            assert upload.blob_key is not None
            document["file"] = str(self._locate(upload.blob_key))
        return document


def _begin_document(request: BeginUpload, caller: Caller) -> Mapping[str, Any]:
    return {
        "owner": caller.owner,
        "capsule": request.capsule,
        "record": request.record,
        "asset": request.asset.value,
        "filename": request.filename,
        "path": request.path,
        "content_type": request.content_type,
        "metadata": dict(request.metadata),
        "size": request.size,
        "digest": _digest(request.expected),
        "protocol": request.protocol,
    }


def _digest(digest: Digest | None) -> Mapping[str, str] | None:
    return None if digest is None else {digest.name.value: digest.hex}
