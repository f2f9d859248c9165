"""Checks of content in real children: large files in little memory, answers as values."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from haulier.bounded.limits import Limits
from haulier.bounded.processor import BoundedProcessor
from haulier.core.processing import ContentFault, ContentProblem, FileMetadata, ProcessingFailure, Unprocessed

MIB = 1024 * 1024
LITTLE = Limits(address_space=128 * MIB)
"""Python itself takes about 50 MiB of it."""


def write(path: Path, pieces: Iterator[bytes]) -> Path:
    with path.open("wb") as file:
        file.writelines(pieces)
    return path


def long_string() -> Iterator[bytes]:
    yield b'["'
    yield from (b"x" * MIB for _ in range(200))
    yield b'"]'


def many_records() -> Iterator[bytes]:
    yield b'[{"n":0}'
    record = b',\n{"name":"somebody","tags":["a","b"],"address":{"street":"long","number":[1,2]}}'
    yield from (record * 1000 for _ in range(200))
    yield b"]"


@pytest.mark.parametrize(("pieces", "records"), [(long_string, 1), (many_records, 200_001)])
async def test_large_json_is_judged_in_little_memory(tmp_path: Path, pieces: object, records: int) -> None:
    assert callable(pieces)
    path = write(tmp_path / "file", pieces())
    async with BoundedProcessor(limits=LITTLE) as processor:
        found = await processor.check(path, filename="Large.JSON")
    assert isinstance(found, FileMetadata)
    assert (found.valid_json, found.record_count) == (True, records)


async def test_a_line_of_200_megabytes_is_judged_in_little_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "file", (b"x" * MIB for _ in range(200)))
    async with BoundedProcessor(limits=LITTLE) as processor:
        table = await processor.check(path, filename="line.csv")
        text = await processor.check(path, filename="line.txt")
    assert isinstance(table, FileMetadata)
    assert [(problem.fault, problem.line) for problem in table.errors] == [(ContentFault.CSV_INVALID, 1)]
    assert isinstance(text, FileMetadata)
    assert (text.line_count, text.errors) == (1, ())


async def test_memory_that_is_not_enough_is_told_as_too_large(tmp_path: Path) -> None:
    path = write(tmp_path / "file", (b"xy," * MIB + b"\n" for _ in range(4)))
    async with BoundedProcessor(limits=Limits(address_space=60 * MIB)) as processor:
        outcome = await processor.check(path, filename="wide.csv")
    assert outcome == Unprocessed(ProcessingFailure.CHECK_TOO_LARGE, "out of memory")


async def test_what_is_wrong_comes_back_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "file", iter([b'{"a": 1,\n "b" 2}']))
    async with BoundedProcessor() as processor:
        found = await processor.check(path, filename="dir/settings.json")
    assert isinstance(found, FileMetadata)
    assert found.errors == (ContentProblem(ContentFault.JSON_INVALID, "a colon is expected here", 2, 6),)


async def test_the_declared_encoding_reaches_the_child(tmp_path: Path) -> None:
    path = write(tmp_path / "file", iter(["naïve".encode("latin-1")]))
    async with BoundedProcessor() as processor:
        found = await processor.check(path, filename="a.txt", charset="iso-8859-1")
    assert isinstance(found, FileMetadata)
    assert (found.encoding, found.preview) == ("iso8859-1", "naïve")
