"""Why a page isn't there, as the model and programs read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lash_hookspecs.tool_declarations import ToolRetryNever, ToolRetrySafe
from lash_hookspecs.tools import ToolError, ToolFailureClass

__all__ = ["BadUrl", "FetchFailed", "Refused", "within"]


class Refused(ToolError):
    """The rules forbid to connect there. `code` is `refused_…`; no retry changes that."""

    def __init__(self, what: str, message: str) -> None:
        super().__init__(message, code=f"refused_{what}", failure_class=ToolFailureClass.PERMISSION_DENIED)


class BadUrl(ToolError):
    """What was given is no URL that can be fetched."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_url", failure_class=ToolFailureClass.INVALID_REQUEST)


class FetchFailed(ToolError):
    """The network or the other side failed. `again`: the same call may be made again, after `after_ms` if given."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        kind: ToolFailureClass = ToolFailureClass.EXTERNAL,
        again: bool = False,
        after_ms: int | None = None,
    ) -> None:
        retry = ToolRetrySafe(after_ms=after_ms) if again else ToolRetryNever()
        super().__init__(message, code=code, failure_class=kind, retry=retry)


@contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """Cancels what is inside after so many seconds. Raises `FetchFailed`, which names `what`."""
    import anyio

    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError:
        text = f"{what} took longer than {seconds:g} s"
        raise FetchFailed("timeout", text, kind=ToolFailureClass.TIMEOUT, again=True) from None
