"""Where events are sent, as the operator writes it: a list of tables in TOML, or the same as JSON in the environment.

Rule 1: nothing here is ever shown: a URL may hold a secret as well.
"""

import json
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from haulier.core.event import EventKind
from haulier.core.webhook import read_webhook_secret

USUAL: Final = (EventKind.CREATED, EventKind.COMPLETED, EventKind.FAILED, EventKind.DELETED)
MAX_WEBHOOKS: Final = 32
"""Each has a task and asks the database for its own place."""


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

    @field_validator("secrets")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            read_webhook_secret(text)
        return value

    @model_validator(mode="after")
    def _encrypted_or_private(self) -> "Webhook":
        parts = urlsplit(self.url)
        if parts.scheme not in ({"https", "http"} if self.private else {"https"}) or not parts.hostname:
            raise ValueError("https, or http with private = true")
        if parts.username is not None or parts.fragment:
            raise ValueError("no user and no fragment")
        return self


def _parsed(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


Webhooks = Annotated[
    tuple[Webhook, ...], NoDecode, BeforeValidator(_parsed), Field(max_length=MAX_WEBHOOKS, repr=False)
]
