"""Log lines: whose they are, and that libraries write the same."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog

from haulier.logs import add_context, get_logger, set_context
from haulier.server.logs import configure_logging, keep_logging

Configure = Callable[[Literal["console", "json"]], None]


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Take back what a start sets for its whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("library").setLevel(logging.NOTSET)
    structlog.reset_defaults()
    get_logger().show_from(logging.NOTSET)
    set_context()


def test_each_line_names_its_worker_where_there_are_several(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", worker="w1")
    structlog.get_logger().info("hello", upload="u")
    configure_logging("json")
    structlog.get_logger().info("hello")
    one, alone = map(json.loads, capsys.readouterr().err.splitlines())
    assert (one["event"], one["worker"], one["upload"], one["level"]) == ("hello", "w1", "u", "info")
    assert "worker" not in alone


def test_a_process_that_serves_looks_once_how_lines_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    keep_logging("json", worker="w1")
    structlog.reset_defaults()
    set_context(request="r1")
    get_logger().debug("hidden")
    get_logger().info("hello", upload="u")
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["worker"], line["request"], line["upload"]) == ("hello", "w1", "r1", "u")


def test_what_all_lines_carry_stands_behind_their_own_keys(capsys: pytest.CaptureFixture[str]) -> None:
    keep_logging("json", worker="w1")
    set_context(request="r1")
    add_context(upload="u1")
    get_logger().info("hello", upload="own", n=1)
    line = json.loads(capsys.readouterr().err)
    assert list(line) == ["upload", "n", "event", "request", "worker", "level", "timestamp"]
    assert (line["upload"], line["request"]) == ("own", "r1")


@pytest.mark.parametrize("form", ["json", "console"])
def test_it_shows_them_as_a_logger_of_structlog_does(
    capsys: pytest.CaptureFixture[str], form: Literal["json", "console"]
) -> None:
    keep_logging(form, worker="w1")
    for log in (get_logger(), structlog.get_logger()):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            log.log(level, "hello", upload="u", status=201)
        try:
            raise ValueError("cause")
        except ValueError:
            log.exception("it.broke", upload="u")
    lines = capsys.readouterr().err.splitlines()
    ours, theirs = (_without_moments(half) for half in (lines[: len(lines) // 2], lines[len(lines) // 2 :]))
    assert ours == theirs
    assert "ValueError: cause" in "".join(ours)


def _without_moments(lines: list[str]) -> list[str]:
    return [re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "", line) for line in lines]


def test_what_libraries_say_looks_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", worker="w1")
    logging.getLogger("uvicorn.error").info("not for operators")
    set_context(request="r1")
    logging.getLogger("uvicorn.error").error("it %s", "broke")
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["logger"], line["text"]) == ("library", "uvicorn.error", "it broke")
    assert (line["level"], line["request"], line["worker"]) == ("error", "r1", "w1")


@pytest.mark.parametrize("configure", [configure_logging, keep_logging])
@pytest.mark.parametrize(
    ("level", "shown"), [(50, "critical"), (60, "critical"), (35, "warning"), (25, "info"), (5, None)]
)
def test_a_level_of_a_library_s_own_is_the_one_below_it(
    capsys: pytest.CaptureFixture[str], configure: Configure, level: int, shown: str | None
) -> None:
    configure("json")
    logging.getLogger("library").setLevel(1)
    logging.getLogger("library").log(level, "it broke")
    lines = [json.loads(line)["level"] for line in capsys.readouterr().err.splitlines()]
    assert lines == ([] if shown is None else [shown])


def test_a_library_s_traceback_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    try:
        raise ValueError("cause")
    except ValueError:
        logging.getLogger("asyncio").exception("it broke")
    assert "ValueError: cause" in json.loads(capsys.readouterr().err)["exception"]


def test_lines_without_colours_are_those_of_structlog(capsys: pytest.CaptureFixture[str]) -> None:
    told: dict[str, Any] = {
        "path": "/a b",
        "status": 201,
        "nothing": None,
        "quoted": "it's",
        "x": "a=b",
        "id": "1-2",
    }
    configure_logging("console")
    log = structlog.get_logger()
    log.info("request", **told)
    log.warning("a.longer.event.than.its.column.is.wide", error="line\nline")
    ours = capsys.readouterr().err
    *processors, _ = structlog.get_config()["processors"]
    structlog.configure(processors=[*processors, structlog.dev.ConsoleRenderer(colors=False)])
    log.info("request", **told)
    log.warning("a.longer.event.than.its.column.is.wide", error="line\nline")
    assert _without_times(ours) == _without_times(capsys.readouterr().err)


def test_lines_in_json_are_those_of_structlog(capsys: pytest.CaptureFixture[str]) -> None:
    told: dict[str, Any] = {
        "path": "/ä\u2028b\x1b",
        "status": 201,
        "took": 0.5,
        "nothing": None,
        "error": ValueError("x"),
        "many": [1, {"a": Path("b")}],
    }
    configure_logging("json", worker="w1")
    log = structlog.get_logger()
    log.info("request", **told)
    ours = capsys.readouterr().err
    *processors, _ = structlog.get_config()["processors"]
    structlog.configure(processors=[*processors, structlog.processors.JSONRenderer()])
    log.info("request", **told)
    assert _without_moments([ours]) == _without_moments([capsys.readouterr().err])


def test_a_line_says_when_it_was_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_logging("json")
    monkeypatch.setattr("haulier.server.logs.time.time", lambda: 1_795_975_200.000012)
    get_logger().info("hello")
    assert json.loads(capsys.readouterr().err)["timestamp"] == "2026-11-29T18:00:00.000012Z"


def _without_times(text: str) -> list[str]:
    return [line.partition(" ")[2] for line in text.splitlines()]


def test_no_line_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("console")
    structlog.get_logger().info("request", path="/\x1b[2J")
    assert "path='/\\x1b[2J'" in capsys.readouterr().err


def test_people_get_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("console", worker="w1")
    structlog.get_logger().warning("hello", upload="u")
    assert "worker=w1" in capsys.readouterr().err
