"""Everybody outside who is told or asked: the embedding program's hooks, and those and the webhooks of the settings.

A part of `bootstrap`, which is where it is wired.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import httpx2

from haulier.adapters.http_hooks import HttpHook, HttpHooks, Locate
from haulier.adapters.signed_posts import Target
from haulier.adapters.webhooks import Endpoint, HttpReceiver
from haulier.core.upload import UploadDetails
from haulier.core.webhook import read_webhook_secret
from haulier.engine.background import Background
from haulier.engine.courier import Courier, HookReceiver, Receiver
from haulier.engine.hooks import Hooks
from haulier.engine.outbox import Feed
from haulier.machine import Clock, Identifiers
from haulier.ports import UnitOfWork, Workers
from haulier.webhook_settings import HookSetting, Webhook


class Deliveries:
    """The couriers of one service process."""

    def __init__(
        self,
        webhooks: Sequence[Webhook],
        hooks: Hooks,
        *,
        work: UnitOfWork[UploadDetails],
        feed: Feed,
        workers: Workers,
        clock: Clock,
        holder: str,
        others: Sequence[Receiver] = (),
    ) -> None:
        """`others` are receivers of our own."""
        self._others = others
        self._webhooks = webhooks
        self._hooks = hooks
        self._clock = clock
        self._courier = partial(
            Courier,
            work=work,
            feed=feed,
            workers=workers,
            clock=clock,
            holder=holder,
            chance=random.random,
        )

    @asynccontextmanager
    async def running(self, background: Background) -> AsyncIterator[None]:
        """Bring events to all of them; a delivery that the end cuts is made again after the next start."""
        async with httpx2.AsyncClient(timeout=None, trust_env=False) as client:
            couriers = [self._courier(receiver) for receiver in self._receivers(client)]
            for courier in couriers:
                await courier.prepare()
            tasks = [
                background.keep_running("deliveries", courier.run, clock=self._clock, chance=random.random)
                for courier in couriers
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _receivers(self, client: httpx2.AsyncClient) -> Iterator[Receiver]:
        yield from self._others
        if self._hooks.on_record is not None:
            yield HookReceiver(self._hooks.on_record)
        for webhook in self._webhooks:
            yield HttpReceiver(_endpoint(webhook), client=client, clock=self._clock)


def http_hooks(
    settings: Sequence[HookSetting], *, clock: Clock, ids: Identifiers, locate: Locate
) -> HttpHooks:
    """Return the hooks that the settings name; `locate` tells where a blob is."""
    hooks = [
        HttpHook(
            on=hook.on,
            target=Target(
                url=hook.url,
                keys=tuple(read_webhook_secret(text) for text in hook.secrets),
                private=hook.private,
                timeout_s=hook.timeout_s,
            ),
            fail=hook.fail,
            tells_path=hook.tells_path,
        )
        for hook in settings
    ]
    return HttpHooks(hooks, clock=clock, ids=ids, locate=locate)


def _endpoint(webhook: Webhook) -> Endpoint:
    return Endpoint(
        name=webhook.name,
        target=Target(
            url=webhook.url,
            keys=tuple(read_webhook_secret(text) for text in webhook.secrets),
            private=webhook.private,
        ),
        kinds=frozenset(webhook.kinds),
    )
