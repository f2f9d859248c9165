"""Where log events go: standard error, as lines for people or as JSON.

Rule 1: a log line never fails what it is about.
Rule 2: what libraries say through the standard library's logging comes out the same way.
"""

import json
import logging
import re
import sys
import time
from collections.abc import MutableMapping, Sequence
from typing import Any, Final, Literal, TextIO

import structlog

from haulier.core.instants import iso_time_finely
from haulier.logs import Show, catch_libraries, get_logger

Event = MutableMapping[str, Any]

_SHOWN_FROM: Final = logging.INFO
_LEVELS: Final = {
    level: logging.getLevelName(level).lower()
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
}
"""As structlog names them."""
_LIBRARIES_FROM: Final = logging.WARNING
"""What libraries say below it is for their own developers; uvicorn tells every start there."""


class LossyLog:
    """Standard error without its faults: a full disk or a closed pipe loses log lines, never a request.

    Structlog calls its methods by the names of levels. One write is one line, whatever other threads tell meanwhile.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        """Write a line, if it can be written."""
        try:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            return

    debug = info = warning = error = critical = msg


def configure_logging(form: Literal["console", "json"], *, worker: str | None = None) -> None:
    """Send log events to standard error; `worker` is named on every line, where there are several."""
    structlog.configure(
        processors=[
            *([] if worker is None else [_with_worker(worker)]),
            structlog.processors.add_log_level,
            _stamp,
            *_rendering(form),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_SHOWN_FROM),
        logger_factory=lambda *_: LossyLog(sys.stderr),
    )
    catch_libraries(_LIBRARIES_FROM)


def keep_logging(form: Literal["console", "json"], *, worker: str | None = None) -> None:
    """As `configure_logging`, for good: in a process that serves there is a line for each request."""
    configure_logging(form, worker=worker)
    get_logger().show_by(_shower(structlog.get_config()["processors"], LossyLog(sys.stderr)), _SHOWN_FROM)


def _shower(processors: Sequence[structlog.typing.Processor], log: LossyLog) -> Show:
    """Return what shows events as a logger of structlog would, without its steps from one to the next."""

    def show(level: int, event: Event) -> None:
        shown: Any = event
        for process in processors:
            shown = process(log, _LEVELS[level], shown)
        log.msg(shown)

    return show


def _stamp(_logger: object, _name: str, event: Event) -> Event:
    """Say when, by the machine's own clock; as structlog's own stamp does, in a third of its time."""
    event["timestamp"] = iso_time_finely(time.time())  # noqa: TID251 - whatever clock the service goes by
    return event


def _with_worker(worker: str) -> structlog.typing.Processor:
    def add(_logger: object, _name: str, event: Event) -> Event:
        event["worker"] = worker
        return event

    return add


def _rendering(form: Literal["console", "json"]) -> list[structlog.typing.Processor]:
    if form == "json":
        return [structlog.processors.format_exc_info, _as_json]
    return [_console(colors=sys.stderr.isatty())]


def _as_json(_logger: object, _name: str, event: Event) -> str:
    return _encode(event)


_encode: Final = json.JSONEncoder(default=repr).encode
"""Made once; structlog has a new encoder made for each line."""


def _console(*, colors: bool) -> structlog.typing.Processor:
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors,
        # Plain tracebacks: richer ones show every variable, and so headers, tokens and bytes.
        exception_formatter=structlog.dev.plain_traceback,
    )
    return renderer if colors else _plainly(renderer)


def _plainly(renderer: structlog.typing.Processor) -> structlog.typing.Processor:
    """Return what shows plain events as `renderer` does without colours, in a fifth of the time: each request is one."""

    def render(logger: object, name: str, event: Event) -> Any:
        if not _ELABORATE.isdisjoint(event):
            return renderer(logger, name, event)
        at, level, what = event.pop("timestamp", ""), event.pop("level", ""), event.pop("event", "")
        pairs = sorted(event.items())
        # One look at all texts together: those of nearly every event need no more.
        if _PLAIN.fullmatch("".join([value for _, value in pairs if isinstance(value, str)])):
            told = [
                f"{key}={value}" if isinstance(value, str) else f"{key}={value!r}" for key, value in pairs
            ]
        else:
            told = [f"{key}={_readable(value)}" for key, value in pairs]
        return f"{at} [{level:<9}] {what:<30} {' '.join(told)}".rstrip()

    return render


def _readable(value: object) -> str:
    alone = isinstance(value, str) and value.isprintable() and _AMBIGUOUS.search(value) is None
    return f"{value}" if alone else repr(value)


_ELABORATE: Final = frozenset({"exc_info", "exception", "stack", "logger", "logger_name"})
"""What structlog shows in a place of its own."""
_AMBIGUOUS: Final = re.compile(r"""[ ='"]""")
_PLAIN: Final = re.compile(r"[!#-&(-<>-~]*")
"""Nearly all that is told: printable ASCII without the characters above."""
