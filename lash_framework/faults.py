"""What foreign code (a tool, a hook, a provider) raises, and what of it is that code's own failure. Pure.

A cancellation by whoever runs the code, and an interrupt by the user, belong to the caller and pass through. All else
is a failure of that code, also when it comes as something else than an `Exception`: `sys.exit()`, and the cancellation
of a task that it awaited.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

__all__ = ["IN_RESULT", "failure_text", "is_failure", "leaves", "pass_on", "storable_text"]

IN_RESULT: Mapping[str, object] = {"in_result": True}
"""What marks a record of the log whose text is in the turn's result too: who shows that needs no record."""


def is_failure(error: BaseException) -> bool:
    """Whether this is the failure of the code that was called, and nobody else's business."""
    if isinstance(error, (Exception, SystemExit)):
        return True
    if isinstance(error, BaseExceptionGroup):
        return all(is_failure(each) for each in error.exceptions)
    return _is_stray_cancellation(error)


def pass_on(error: BaseException) -> None:
    """Raise again what of this isn't the called code's own failure; of a group, the part of it that isn't."""
    if is_failure(error):
        return
    rest = error.split(is_failure)[1] if isinstance(error, BaseExceptionGroup) else error
    raise rest or error


def _is_stray_cancellation(error: BaseException) -> bool:
    """Whether a `CancelledError` came from something that the code awaited, and not from who cancels this task.

    Only asyncio lets one task's cancellation surface in another that awaits it.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not isinstance(error, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return True  # there is no asyncio loop that could have meant it
    return task is not None and not task.cancelling()


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group, and in the groups within; one that is no group is its own only leaf."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


def failure_text(error: BaseException) -> str:
    """An exception in one line, for people; a group as what is in it."""
    return "; ".join(_line(each) for each in leaves(error))


def _line(error: BaseException) -> str:
    if isinstance(error, TypeError):
        from lash_framework.value_slips import slip_text

        if (slip := slip_text(error)) is not None:
            return slip
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def storable_text(text: str) -> str:
    """The text with its lone surrogates, which UTF-8 has no bytes for, replaced by U+FFFD; nearly always as it is."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
