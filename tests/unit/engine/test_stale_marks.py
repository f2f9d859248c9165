"""A look at the rows that began before this process took a session, and ended after, changes nothing."""

from typing import Any

import pytest

from tests.support.bodies import FakeBody
from tests.support.engine import ME, beside, engine


@pytest.mark.parametrize("moment", ["before the claim", "before the begin"])
async def test_a_look_from_before_stops_no_append(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    async with engine() as one:
        upload = await one.begin_append(10)
        before = await one.database.read(lambda tx: tx.sessions.marks([upload.id]))
        if moment == "before the begin":
            before = {}
        body = FakeBody(b"hello", b"world", held=True)
        append = beside(one.uploads.append(upload.id, 0, body, caller=ME))
        await body.reached.wait()

        async def read(_: Any) -> Any:
            late.undo()
            return before

        with monkeypatch.context() as late:
            late.setattr(one.database, "read", read)
            await one.uploads._sessions._attention.hear([upload.id])
        assert not body.stopped
        body.release()
        assert (await append).upload.received.total == 10
