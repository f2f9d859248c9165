"""Log events: told to Structlog, which is loaded with the first one that is to be seen."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from haulier.logs import EventLog, add_context, catch_libraries, get_logger, set_context


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Take back what is set for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    set_context()


def test_events_are_told_with_their_level_and_keys() -> None:
    log = get_logger()
    with capture_logs() as told:
        log.debug("a", n=1)
        log.info("b")
        log.warning("c")
        log.error("d", reason="x")
    assert told == [
        {"event": "a", "n": 1, "log_level": "debug"},
        {"event": "b", "log_level": "info"},
        {"event": "c", "log_level": "warning"},
        {"event": "d", "reason": "x", "log_level": "error"},
    ]


def test_events_carry_what_was_said_about_all_of_them_and_their_own_keys_win() -> None:
    log = get_logger()
    with capture_logs() as told:
        set_context(request="r1", upload="u0")
        set_context(request="r2")
        log.info("a")
        add_context(upload="u1")
        log.info("b", n=1)
        log.info("c", upload="own")
    assert told == [
        {"event": "a", "request": "r2", "log_level": "info"},
        {"event": "b", "request": "r2", "upload": "u1", "n": 1, "log_level": "info"},
        {"event": "c", "request": "r2", "upload": "own", "log_level": "info"},
    ]


def test_an_error_that_is_being_handled_is_told_with_its_traceback() -> None:
    log = get_logger()
    with capture_logs() as told:
        try:
            raise ValueError("cause")
        except ValueError as error:
            log.exception("a")
            log.exception("b", exc_info=error)
            seen = error
    assert [each["exc_info"] for each in told] == [True, seen]
    assert {each["log_level"] for each in told} == {"error"}


def test_what_is_below_the_least_level_is_dropped_and_the_first_other_event_is_prepared_for() -> None:
    log, prepared = EventLog(), list[str]()
    log.show_from(logging.ERROR, prepare=lambda: prepared.append("once"))
    with capture_logs() as told:
        log.warning("a")
        assert prepared == []
        log.error("b")
        log.error("c")
    assert prepared == ["once"]
    assert [each["event"] for each in told] == ["b", "c"]


def test_what_libraries_say_is_told_from_a_level_on() -> None:
    catch_libraries(logging.ERROR)
    with capture_logs() as told:
        logging.getLogger("asyncio").warning("not this")
        logging.getLogger("asyncio").error("it %s", "broke")
    assert told == [
        {"event": "library", "logger": "asyncio", "text": "it broke", "exc_info": None, "log_level": "error"}
    ]


def test_an_event_that_nobody_is_to_see_loads_nothing() -> None:
    code = (
        "import sys, logging; from haulier.logs import get_logger; log = get_logger()\n"
        "log.show_from(logging.ERROR); log.warning('a', n=1); sys.exit('structlog' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


QUIET = """
import asyncio, sys
from pathlib import Path
from haulier import UploadManager
from haulier.logs import get_logger

async def main():
    place = Path(sys.argv[1])
    (place / "file").write_bytes(b"x")
    async with UploadManager(place / "journal.db", {}) as manager:
        queued = await manager.queue(place / "file", "later:a", later=True)
        await manager.cancel(queued)
    get_logger().error("broken", n=1)

"""


@pytest.mark.parametrize(
    ("configured", "shown"),
    [
        ("", ""),
        ("import structlog", ""),
        ("import logging; logging.basicConfig(level=logging.WARNING)", "ERROR:haulier:broken n=1\n"),
    ],
)
def test_a_program_that_says_nothing_about_logs_sees_none(
    tmp_path: Path, configured: str, shown: str
) -> None:
    code = f"{configured}\n{QUIET}\nasyncio.run(main())"
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert (ran.stdout, ran.stderr) == ("", shown)


def test_what_a_program_configures_is_shown_there(caplog: pytest.LogCaptureFixture) -> None:
    structlog.reset_defaults()
    log = get_logger()
    with caplog.at_level(logging.INFO, logger="haulier"):
        log.debug("not this")
        set_context(request="r1")
        log.info("send.queued", transfer="a\nb", joined=False)
        try:
            raise ValueError("cause")
        except ValueError:
            log.exception("broken")
    assert [(it.name, it.levelname, it.getMessage(), it.filename) for it in caplog.records] == [
        ("haulier", "INFO", r"send.queued request='r1' transfer='a\nb' joined=False", "test_logs.py"),
        ("haulier", "ERROR", "broken request='r1'", "test_logs.py"),
    ]
    assert "ValueError: cause" in caplog.text


def test_what_goes_to_the_standard_library_is_not_taken_for_a_library_s() -> None:
    structlog.reset_defaults()
    catch_libraries(logging.WARNING)
    get_logger().warning("a")
    assert not structlog.is_configured()
