"""Everybody who is told events: the embedding program's hook and the webhooks of the settings, each with its courier.

A part of `bootstrap`, which is where it is wired.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import httpx2

from haulier.adapters.webhooks import Endpoint, HttpReceiver
from haulier.core.upload import UploadDetails
from haulier.core.webhook import read_webhook_secret
from haulier.engine.background import Background
from haulier.engine.courier import Courier, HookReceiver, Receiver
from haulier.engine.hooks import Hooks
from haulier.engine.outbox import Feed
from haulier.ports import Clock, UnitOfWork, Workers
from haulier.webhook_settings import Webhook


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
    ) -> None:
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
            tasks = [background.start(courier.run(), name="webhook") for courier in couriers]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _receivers(self, client: httpx2.AsyncClient) -> Iterator[Receiver]:
        if self._hooks.on_record is not None:
            yield HookReceiver(self._hooks.on_record)
        for webhook in self._webhooks:
            yield HttpReceiver(_endpoint(webhook), client=client, clock=self._clock)


def _endpoint(webhook: Webhook) -> Endpoint:
    return Endpoint(
        name=webhook.name,
        url=webhook.url,
        keys=tuple(read_webhook_secret(text) for text in webhook.secrets),
        kinds=frozenset(webhook.kinds),
        private=webhook.private,
    )
