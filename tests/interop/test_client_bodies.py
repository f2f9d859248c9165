"""The bodies of the client's chunks go from the page cache to the socket."""

import os
from pathlib import Path

import pytest

from haulier import Client
from tests.support.files import MIB, make_file, sha256
from tests.support.processes import serving


async def test_chunks_are_sent_by_sendfile_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    really = os.sendfile

    def counting(to: int, source: int, offset: int, count: int) -> int:
        sent.append(really(to, source, offset, count))
        return sent[-1]

    monkeypatch.setattr(os, "sendfile", counting)
    source = make_file(tmp_path / "large.bin", 20 * MIB + 3)
    with serving(tmp_path / "data") as service:
        async with Client(service.url, home=tmp_path / "home") as client:
            record = await client.upload(source)
    assert sum(sent) == 20 * MIB + 3
    assert record.digest == {"sha-256": sha256(source)}
