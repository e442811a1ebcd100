"""Which hooks get which services: one table, and the properties of a `ctx` that follow it.

A service is there where what it does can't be lost or come twice: inside of a recorded effect, or after the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from lash_hookspecs.errors import CapabilityMissing

if TYPE_CHECKING:
    from lash_hookspecs.services import (
        BlobService,
        DirectCompletionClient,
        SessionGraphService,
        SessionLifecycleService,
        SessionStateService,
    )

__all__ = ["SERVICES", "TOOLS", "Provide", "ServiceUser", "ToolServiceUser", "provided"]

Provide = Callable[[str, str, str], Any]
"""From a service, a hook and a plugin, by their names, to what that plugin is given there."""

TOOLS = "tools"
"""Stands in the table where a hook's name would, for the `ctx` of tools."""

_READ, _ASK, _RUN, _APPEND, _BLOBS = "sessions", "completions", "lifecycle", "graph", "blobs"
_RECORDED = (_READ, _ASK)

SERVICES: Mapping[str, tuple[str, ...]] = {
    "lash_prompt_contributions": (_READ,),
    "lash_prepare_context": _RECORDED,
    "lash_compact": _RECORDED,
    "lash_before_turn": _RECORDED,
    "lash_before_llm_call": _RECORDED,
    "lash_assistant_response": _RECORDED,
    "lash_checkpoint": _RECORDED,
    "lash_before_tool_call": _RECORDED,
    "lash_after_tool_call": (*_RECORDED, _BLOBS),
    "lash_tool_result_view": (*_RECORDED, _BLOBS),
    "lash_after_turn": _RECORDED,
    "lash_turn_committed": (_READ, _RUN, _APPEND),
    TOOLS: (_READ, _ASK, _RUN, _BLOBS),
}
"""The services of each hook, by the names that they have at its `ctx`. Hooks that aren't here have none."""


def provided(name: str, where: str, provide: Provide | None, plugin_id: str) -> Any:
    """The service, if there is such a one in that hook and in this runtime. Raises `CapabilityMissing`."""
    if name not in SERVICES.get(where, ()):
        _refuse(name, where)
    if provide is None:
        raise CapabilityMissing(f"`ctx.{name}` is unavailable in this runtime")
    return provide(name, where, plugin_id)


def _refuse(name: str, where: str) -> NoReturn:
    there = ", ".join(f"`{each}`" if each != TOOLS else each for each, names in SERVICES.items() if name in names)
    here = "here" if not where else f"in {where}" if where == TOOLS else f"in `{where}`"
    raise CapabilityMissing(f"`ctx.{name}` is unavailable {here}; it is available in {there}")


class ServiceUser:
    """What has services: each is looked up when it is asked for. All properties raise `CapabilityMissing`."""

    __slots__ = ()

    def _service(self, name: str) -> Any:
        _refuse(name, "")

    @property
    def completions(self) -> DirectCompletionClient:
        """Asks a model outside of the turn's conversation."""
        client: DirectCompletionClient = self._service(_ASK)
        return client

    @property
    def sessions(self) -> SessionStateService:
        """Reads sessions."""
        service: SessionStateService = self._service(_READ)
        return service

    @property
    def blobs(self) -> BlobService:
        """Stores bytes, and reads them."""
        service: BlobService = self._service(_BLOBS)
        return service

    @property
    def lifecycle(self) -> SessionLifecycleService:
        """Creates and closes sessions, and runs turns on them."""
        service: SessionLifecycleService = self._service(_RUN)
        return service

    @property
    def graph(self) -> SessionGraphService:
        """Appends to sessions."""
        service: SessionGraphService = self._service(_APPEND)
        return service


class ToolServiceUser(ServiceUser):
    """The same for the `ctx` of tools."""

    __slots__ = ()
    services: Provide | None
    plugin_id: str

    def _service(self, name: str) -> Any:
        return provided(name, TOOLS, self.services, self.plugin_id)
