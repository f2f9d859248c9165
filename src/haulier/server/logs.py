"""Where log events go: standard error, as lines for people or as JSON.

Rule 1: a log line never fails what it is about.
Rule 2: what libraries say through the standard library's logging comes out the same way.
"""

import contextlib
import logging
import re
import sys
from collections.abc import MutableMapping, Sequence
from typing import Any, Final, Literal, TextIO

import structlog

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
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = critical = msg


def configure_logging(form: Literal["console", "json"], *, worker: str | None = None) -> None:
    """Send log events to standard error; `worker` is named on every line, where there are several."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *([] if worker is None else [_with_worker(worker)]),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
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


def _with_worker(worker: str) -> structlog.typing.Processor:
    def add(_logger: object, _name: str, event: Event) -> Event:
        event["worker"] = worker
        return event

    return add


def _rendering(form: Literal["console", "json"]) -> list[structlog.typing.Processor]:
    if form == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [_console(colors=sys.stderr.isatty())]


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
        time, level, what = (event.pop(key, "") for key in ("timestamp", "level", "event"))
        pairs = " ".join([_pair(key, event[key]) for key in sorted(event)])
        return f"{time} [{level:<9}] {what:<30} {pairs}".rstrip()

    return render


def _pair(key: str, value: object) -> str:
    plain = isinstance(value, str) and (_PLAIN.fullmatch(value) is not None or _reads_alone(value))
    return f"{key}={value if plain else repr(value)}"


def _reads_alone(text: str) -> bool:
    return text.isprintable() and _AMBIGUOUS.search(text) is None


_ELABORATE: Final = frozenset({"exc_info", "exception", "stack", "logger", "logger_name"})
"""What structlog shows in a place of its own."""
_AMBIGUOUS: Final = re.compile(r"""[ ='"]""")
_PLAIN: Final = re.compile(r"[!#-&(-<>-~]*")
"""Nearly all that is told: printable ASCII without the characters above."""
