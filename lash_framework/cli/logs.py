"""Python's logging on the command line: one line a record, tracebacks only with `-vv`, never glued to the answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from lash_framework.cli.exits import complain
from lash_hookspecs.texts import without_controls

__all__ = ["LineHandler", "start_logging"]

_NOISY = ("httpx", "httpcore", "asyncio")


class LineHandler(logging.Handler):
    """Writes records to standard error. `said` holds the warnings that were shown, so that nobody says them twice."""

    def __init__(self, verbosity: int) -> None:
        super().__init__()
        self.said: list[str] = []
        self._verbose = verbosity > 0
        self._tracebacks = verbosity >= 2
        self._make_room: Callable[[], None] | None = None
        self._format = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """One record; without `-v` none that the turn's end tells anyhow."""
        if not self._verbose and getattr(record, "in_result", False):
            return
        try:
            if self._make_room is not None:
                self._make_room()
            message = record.getMessage()
            if record.levelno >= logging.WARNING:
                self.said.append(message)
                complain(f"{record.levelname.lower()}: {message}")
            else:
                click.echo(without_controls(f"{record.levelname} {record.name}: {message}"), err=True)
            if self._tracebacks and record.exc_info:
                click.echo(without_controls(self._format.formatException(record.exc_info)), err=True)
        except Exception:
            self.handleError(record)

    @contextmanager
    def beside(self, make_room: Callable[[], None]) -> Iterator[None]:
        """Call `make_room` before each record meanwhile: it ends the line on which the answer stands."""
        self._make_room = make_room
        try:
            yield
        finally:
            self._make_room = None


def start_logging(verbosity: int) -> LineHandler:
    """Send what is logged to standard error: warnings; with `-v` what happens, with `-vv` everything."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbosity, 2)]
    root = logging.getLogger()
    for each in [each for each in root.handlers if isinstance(each, LineHandler)]:
        root.removeHandler(each)  # of an earlier command in this process
    handler = LineHandler(verbosity)
    handler.setLevel(level)
    root.addHandler(handler)
    root.setLevel(level)
    if verbosity < 2:
        for noisy in _NOISY:
            logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
    return handler
