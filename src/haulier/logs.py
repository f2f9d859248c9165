"""Log events: a name and keys, told by `get_logger()`.

Structlog shows them where it was configured, by a command of ours or by the program that we are a part of. Everywhere else they go to
the standard library's logging under the name `haulier`, which shows nothing before the program says where: a library writes on nobody's
standard output. Structlog is loaded with the first event that a command is to show: it brings more with it than a short command
does in all, and most of those have nothing to log.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final

_LEVELS: Final = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO)
"""Those above the lowest, which Structlog knows too."""

NAME: Final = "haulier"
"""Of our logger in the standard library's logging."""

_PLAIN: Final = logging.getLogger(NAME)
# Else the standard library shows warnings on standard error where nothing was said about logs.
_PLAIN.addHandler(logging.NullHandler())

_context: Final[ContextVar[Mapping[str, str]]] = ContextVar("haulier.logs", default=MappingProxyType({}))
"""What every event carries. One variable for all keys: structlog's own context has one for each, and is found by a search."""

Show = Callable[[int, dict[str, Any]], None]
"""Shows an event of a level: its keys, of which `event` is its name. It may change them."""


class EventLog:
    """Tells events; one for all modules."""

    def __init__(self) -> None:
        self._least = logging.NOTSET
        self._prepare: Callable[[], None] | None = None
        self._show: Show | None = None
        """What shows events; None: what Structlog says at each."""

    def show_by(self, show: "Show", level: int) -> None:
        """Show events from a level on by this, however Structlog is configured from now on.

        To ask it each time who shows events, and to go through its loggers, takes as long as to show a short one.
        """
        self._least = level
        self._prepare = None
        self._show = show

    def show_from(self, level: int, *, prepare: Callable[[], None] | None = None) -> None:
        """Drop events below a level, and call `prepare` before the first one that is not dropped."""
        self._least = level
        self._prepare = prepare
        self._show = None

    def log(self, level: int, event: str, **keys: Any) -> None:
        """Tell an event."""
        self._tell(level, event, keys)

    def debug(self, event: str, **keys: Any) -> None:
        """Tell what only whoever looks for a mistake wants to know."""
        self._tell(logging.DEBUG, event, keys)

    def info(self, event: str, **keys: Any) -> None:
        """Tell what has happened."""
        self._tell(logging.INFO, event, keys)

    def warning(self, event: str, **keys: Any) -> None:
        """Tell what somebody may have to look at."""
        self._tell(logging.WARNING, event, keys)

    def error(self, event: str, **keys: Any) -> None:
        """Tell what somebody has to look at."""
        self._tell(logging.ERROR, event, keys)

    def exception(self, event: str, **keys: Any) -> None:
        """Tell an error with the traceback of what is being handled."""
        self._tell(logging.ERROR, event, {"exc_info": True, **keys})

    def _tell(self, level: int, event: str, keys: dict[str, Any]) -> None:
        if level < self._least:
            return
        prepare, self._prepare = self._prepare, None
        if prepare is not None:
            prepare()
        context = _context.get()
        if self._show is not None:
            keys["event"] = event
            for key, value in context.items():
                keys.setdefault(key, value)
            self._show(level, keys)
        elif (structlog := sys.modules.get("structlog")) is not None and structlog.is_configured():
            structlog.get_logger().log(level, event, **{**context, **keys})
        elif _PLAIN.isEnabledFor(level):
            _tell_plainly(level, event, {**context, **keys})


def _tell_plainly(level: int, event: str, keys: dict[str, Any]) -> None:
    exc_info = keys.pop("exc_info", None)
    # As Python writes them: no value begins a line of its own.
    told = [event, *(f"{key}={value!r}" for key, value in keys.items())]
    _PLAIN.log(level, "%s", " ".join(told), exc_info=exc_info, stacklevel=4)


class LibraryLog(logging.Handler):
    """Turns a library's log records into events."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell what a library says."""
        if record.name == NAME:
            return  # told by us already, where nothing else shows events
        # A library may have levels of its own, for which Structlog has no name.
        level = next((level for level in _LEVELS if level <= record.levelno), logging.DEBUG)
        get_logger().log(
            level, "library", logger=record.name, text=record.getMessage(), exc_info=record.exc_info
        )


def catch_libraries(least: int) -> None:
    """Let what libraries say through the standard library's logging, from a level on, be told as events."""
    logging.basicConfig(handlers=[LibraryLog()], level=least, force=True)


def set_context(**keys: str) -> None:
    """Have each event from here on carry these keys and no others, in this task and those that it begins."""
    _context.set(keys)


def add_context(**keys: str) -> None:
    """Have each event from here on carry these keys too."""
    _context.set({**_context.get(), **keys})


_LOG = EventLog()


def get_logger() -> EventLog:
    """Return what events are told to."""
    return _LOG
