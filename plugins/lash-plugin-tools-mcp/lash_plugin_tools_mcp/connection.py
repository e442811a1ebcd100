"""One server's connection: made when somebody needs it, kept, and made anew when it broke, but not too soon.

Nothing here imports the SDK, which takes a second: that is done in a thread, by the first attempt to connect.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from lash_hookspecs.connected_tools import ListTools, ToolsNotReady
from lash_hookspecs.errors import LashError
from lash_hookspecs.tools import Tool, ToolError, ToolFailureClass
from lash_plugin_tools_mcp.asking import Desk
from lash_plugin_tools_mcp.backoff import Backoff
from lash_plugin_tools_mcp.ends import End
from lash_plugin_tools_mcp.listing import Offer, offers
from lash_plugin_tools_mcp.options import ServerOptions, secrets_of
from lash_plugin_tools_mcp.texts import Redactor, brief, failure_leaf

if TYPE_CHECKING:
    from mcp.client import Client

    from lash_plugin_tools_mcp.sieve import Sieve

__all__ = ["Connection", "Live"]

log = logging.getLogger("lash.mcp")

SHORT_WAIT_S = 1.0
"""How long a turn waits for a server that two turns have waited for in vain."""

PROBE_S = 5.0
"""How long a server that left a call unanswered may take to say that it is still there."""

CLOSE_S = 2.0
"""How long a server may take to let go of a connection, beside what the end of its process takes."""


class Live:
    """A connection that is there, and what its server offered last."""

    def __init__(self, client: Client, end: End, sieve: Sieve) -> None:
        self.client = client
        self.end = end
        self.sieve = sieve
        self.is_suspect = False
        """A call got no answer: it is looked after before the next one."""
        self.has_changed = True
        """The list of tools isn't known, or isn't true any more."""
        self.offers: list[Offer] | None = None
        self.lock = anyio.Lock()


class _Attempt(Enum):
    """What came of an attempt to connect. `CUT_OFF`: the server ended before it had said who it is."""

    LIVED = "lived"
    CUT_OFF = "cut off"
    FAILED = "failed"


class Connection:
    """Keeps the connection to one server, for a host."""

    def __init__(self, name: str, options: ServerOptions) -> None:
        self.name = name
        self.options = options
        self.desk = Desk(options)
        self.redactor = Redactor()
        self._backoff = Backoff()
        self._legacy = options.protocol == "legacy"
        self._live: Live | None = None
        self._reason = ""
        self._left_out: dict[str, str] = {}
        self._waited_in_vain = 0

    def __str__(self) -> str:
        return f"MCP server `{self.name}`"

    # ---- keeping it -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ListTools]:
        """Keep it, until this is left. Nothing is connected before somebody asks for tools."""
        self._wanted, self._settled, self._closing = anyio.Event(), anyio.Event(), anyio.Event()
        self._attempt: anyio.CancelScope | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep)
            self.run: Callable[..., object] = tasks.start_soon
            try:
                yield self.list_tools
            finally:
                self._closing.set()
                self._wanted.set()
                if self.desk.parked is not None:
                    self.desk.parked.abandon()
                if self._live is not None:
                    self._live.end.tell("the host is closing")
                elif self._attempt is not None:
                    self._attempt.cancel()

    async def _keep(self) -> None:
        while True:
            await self._wanted.wait()
            with anyio.move_on_after(self._backoff.remaining(anyio.current_time())):
                await self._closing.wait()
            if self._closing.is_set():
                self._settle()
                return
            self._wanted = anyio.Event()
            found = await self._connect_once()
            if found is _Attempt.CUT_OFF and self.options.protocol == "auto" and not self._closing.is_set():
                # It ended when it was asked what it speaks, as old ones do that know one first question only.
                self._legacy = not self._legacy
                if self._legacy:
                    found = await self._connect_once()
            if found is not _Attempt.LIVED:
                self._settle()

    def _settle(self) -> None:
        """There is a connection, or there will be none before another attempt: who waits looks again."""
        settled, self._settled = self._settled, anyio.Event()
        settled.set()

    async def _connect_once(self) -> _Attempt:
        """Connect, and stay until it is over."""
        end, began = End(), math.inf
        failed: BaseException | None = None
        try:
            with anyio.CancelScope() as self._attempt:
                sdk = await anyio.to_thread.run_sync(import_module, "lash_plugin_tools_mcp.sdk", abandon_on_cancel=True)
                self._attempt.deadline = anyio.current_time() + self.options.start_timeout_s
                async with sdk.connected(self, end, legacy=self._legacy) as live, anyio.create_task_group() as tasks:
                    began, self._attempt.deadline = anyio.current_time(), math.inf
                    self._live = live
                    self._settle()
                    tasks.start_soon(sdk.listen, live)
                    await end.wait()
                    self._live = None
                    self._attempt.deadline = anyio.current_time() + CLOSE_S
                    tasks.cancel_scope.cancel()
            if self._attempt.cancelled_caught and began == math.inf:
                text = f"it took longer than {self.options.start_timeout_s:g} s to start (`start_timeout_s`)"
                failed = TimeoutError(text)
        except Exception as error:
            failed = failure_leaf(error)
        finally:
            self._live = self._attempt = None
        now = anyio.current_time()
        was_lost = end.reason and (failed is None or sdk_says_lost(failed))
        self._tell(end.reason if was_lost else self._failure(failed, end.hint))
        if began < math.inf:
            self._backoff.ended(now, now - began)
            return _Attempt.LIVED
        self._backoff.failed(now)
        return _Attempt.CUT_OFF if was_lost and self.options.command else _Attempt.FAILED

    def _tell(self, reason: str) -> None:
        self._reason = reason = self.redacted(reason)
        log.info("%s is not connected: %s", self, reason)

    def _failure(self, error: BaseException | None, hint: str) -> str:
        if isinstance(error, FileNotFoundError) and self.options.command:
            where = f" (in `{self.options.cwd}`)" if self.options.cwd else ""
            key = f"plugin.tools-mcp.servers.{self.name}.command"
            return f"`{self.options.command}` was not found{where}: install it, or give its whole path as `{key}`"
        if error is None:
            return "it ended"
        told = isinstance(error, TimeoutError | LashError) or hasattr(error, "code")  # by who knows how to tell it
        text = str(error) if told else f"{type(error).__name__}: {error}"
        return f"{text} ({hint})" if hint else text

    @property
    def live(self) -> Live | None:
        """The connection, if there is one now."""
        return self._live

    def redacted(self, text: str) -> str:
        """A line that may be shown."""
        return brief(self.redactor.text(text))

    # ---- using it ---------------------------------------------------------------------------------------------------

    async def ready(self, wait_s: float, *, patient: bool = False) -> Live:
        """The connection, which is made if there is none. Who is `patient` also waits until it may be tried again.

        Raises `ToolsNotReady`, which says why there is none.
        """
        deadline = anyio.current_time() + wait_s
        while True:
            live = self._live
            if live is not None and not live.end.is_over:
                if not live.is_suspect:
                    return live
                await self._look_after(live)
                continue
            settled, rest = self._settled, self._backoff.remaining(anyio.current_time())
            self._wanted.set()
            if rest and self._attempt is None and not patient:
                raise ToolsNotReady(f"{self._reason}; it is tried again in {rest:.1f} s", code="mcp_unavailable")
            with anyio.move_on_after(deadline - anyio.current_time()) as waiting:
                await settled.wait()
            if waiting.cancelled_caught and self._live is None:
                before = f"; before that: {self._reason}" if self._reason else ""
                told = f"it is still starting after {wait_s:g} s{before}"
                raise ToolsNotReady(told, code="mcp_unavailable", failure_class=ToolFailureClass.UNAVAILABLE)
            if self._live is None and not patient:
                raise ToolsNotReady(self._reason, code="mcp_unavailable", failure_class=ToolFailureClass.UNAVAILABLE)

    async def _look_after(self, live: Live) -> None:
        """Whether it still answers after a call that got none."""
        async with live.lock:
            if not live.is_suspect or live.end.is_over:
                return
            with anyio.move_on_after(min(PROBE_S, self.options.wait_s / 2)):
                try:
                    await self._list(live)
                    live.is_suspect = False
                    return
                except Exception as error:
                    log.info("%s doesn't list its tools: %s", self, self.redacted(str(error)))
            live.end.tell("it didn't answer any more", hopeless=True)

    async def list_tools(self) -> Iterable[Tool]:
        """What the server offers: asked when it is new, or said that it has changed. Raises `ToolsNotReady`."""
        from lash_plugin_tools_mcp.tools import tools_of

        wait_s = self.options.wait_s
        self._waited_in_vain += 1  # unless it comes to something
        live = await self.ready(wait_s if self._waited_in_vain <= 2 else min(wait_s, SHORT_WAIT_S))
        self._waited_in_vain = 0
        async with live.lock:
            if live.has_changed:
                await self._refresh(live)
        return tools_of(self, live.offers or (), live.client)

    async def _refresh(self, live: Live) -> None:
        reason = f"it took longer than {self.options.wait_s:g} s to list its tools (`wait_s`)"
        with anyio.move_on_after(self.options.wait_s) as waiting:
            try:
                await self._list(live)
            except Exception as error:
                reason = f"it doesn't list its tools: {self.redacted(str(failure_leaf(error)))}"
            else:
                return
        if live.offers is not None and not live.end.is_over:
            log.warning("%s: %s; what it listed before is kept", self, reason)
        else:
            if waiting.cancelled_caught:
                live.end.tell(reason, hopeless=True)
            raise ToolsNotReady(live.end.reason or reason, code="mcp_unavailable")

    async def _list(self, live: Live) -> None:
        from lash_plugin_tools_mcp.sdk import listed

        live.has_changed = False  # what changes from now on is news
        try:
            tools = await listed(live, self.options.max_tools)
            found, left_out = offers(self.name, self.options, tools, self.redactor)
        except BaseException:
            live.has_changed = True
            raise
        live.offers = found
        if left_out != self._left_out:
            self._left_out = left_out
            for name, why in left_out.items():
                log.warning("tool `%s` of %s is left out: %s", name, self, why)

    def prepare(self) -> None:
        """Know the secrets of now, before anything could show one."""
        self.redactor = Redactor(secrets_of(self.options))


def sdk_says_lost(error: BaseException) -> bool:
    """Whether the SDK only says that there is no connection any more, which is told better by who saw its end."""
    code = getattr(error, "code", None)
    return isinstance(error, anyio.BrokenResourceError | anyio.ClosedResourceError | ToolError) or code == -32000
