"""Where events are sent and who is asked, as the operator writes it: a list of tables in TOML, or the same as JSON in the environment.

Rule 1: nothing here is ever shown: a URL may hold a secret as well.
"""

import json
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from haulier.core.event import EventKind
from haulier.core.webhook import read_webhook_secret

USUAL: Final = (EventKind.CREATED, EventKind.COMPLETED, EventKind.FAILED, EventKind.DELETED)
MAX_WEBHOOKS: Final = 32
"""Each has a task and asks the database for its own place."""


MAX_HOOKS: Final = 8
"""Each of them holds up every upload."""
MAX_HOOK_S: Final = 20.0
"""Seconds that one may take; the request waits meanwhile, and many proxies give up after 30 s."""

AnAddress = TypeVar("AnAddress", bound="Webhook | HookSetting")


def _require_secrets(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        read_webhook_secret(text)
    return value


def _require_address(setting: AnAddress) -> AnAddress:
    """An encrypted way, or a private one."""
    parts = urlsplit(setting.url)
    if parts.scheme not in ({"https", "http"} if setting.private else {"https"}) or not parts.hostname:
        raise ValueError("https, or http with private = true")
    if parts.username is not None or parts.fragment:
        raise ValueError("no user and no fragment")
    return setting


class Webhook(BaseModel):
    """One receiver of events."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    """Its place in the stream of events is kept under this name; another URL is still the same receiver."""
    url: Annotated[str, Field(repr=False)]
    secrets: Annotated[tuple[str, ...], Field(repr=False, min_length=1, max_length=4)]
    """`whsec_...`; each of them signs."""
    kinds: tuple[EventKind, ...] = USUAL
    private: bool = False
    """Whether its address may be a private one."""

    _readable = field_validator("secrets")(_require_secrets)
    _encrypted_or_private = model_validator(mode="after")(_require_address)


class HookSetting(BaseModel):
    """One address that is asked at a turning point of uploads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: Literal["begin", "finish"]
    url: Annotated[str, Field(repr=False)]
    secrets: Annotated[tuple[str, ...], Field(repr=False, min_length=1, max_length=4)]
    fail: Literal["open", "closed"]
    """What a hook that does not answer means; there is no default, because both are wrong for somebody."""
    timeout_s: Annotated[float, Field(gt=0, le=MAX_HOOK_S)] = 5.0
    private: bool = False
    tells_path: bool = False
    """Whether it is told where the file is."""

    _readable = field_validator("secrets")(_require_secrets)
    _encrypted_or_private = model_validator(mode="after")(_require_address)


def _parsed(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


Webhooks = Annotated[
    tuple[Webhook, ...], NoDecode, BeforeValidator(_parsed), Field(max_length=MAX_WEBHOOKS, repr=False)
]
HookSettings = Annotated[
    tuple[HookSetting, ...], NoDecode, BeforeValidator(_parsed), Field(max_length=MAX_HOOKS, repr=False)
]
