"""A mode's driver, and those laid around it, with a plugin's name on each message that one of them makes.

What a model said and what tools returned is nobody's, as long as it is what the mode's own driver makes of it. A driver
around another one signs whatever the other one didn't make. A request has the names of those that ask something else
than what shows the conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from attrs import evolve

from lash_framework.request_changes import request_change
from lash_hookspecs.llm import LlmRequest
from lash_hookspecs.messages import Message, MessageRole, PartKind, PluginOrigin
from lash_hookspecs.turn_interventions import TurnIntervention, TurnInterventionKind
from lash_hookspecs.turn_steps import ProtocolDriver, StartCheckpoint, StartLlm, Step

__all__ = ["QUESTIONS", "SignedDriver", "signed", "whose_error"]

QUESTIONS = tuple(name for name in vars(ProtocolDriver) if not name.startswith("_"))
"""What a driver is asked."""

_Made = list[tuple[LlmRequest, tuple[TurnIntervention, ...]]]
"""Requests, each with who changed the one before."""

_RAISED_BY = "lash_raised_by"
"""In an exception: whose driver raised it."""

_MADE = "lash.made-by-driver"
"""In a message's memo: some driver made it, and signed it if that has to be. Who changes it makes another message."""


class SignedDriver:
    """The driver of a plugin; `is_around` another one. Whatever isn't asked by the machine is the driver's own."""

    def __init__(self, driver: Any, plugin_id: str, *, is_around: bool) -> None:
        self._driver = driver
        self._origin = PluginOrigin(plugin_id)
        self._is_around = is_around
        for name in QUESTIONS:
            if hasattr(driver, name):  # what it lacks is told where it is asked
                setattr(self, name, self._signing(getattr(driver, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def _signing(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*given: Any, **named: Any) -> Any:
            try:
                step = ask(*given, **named)
            except Exception as error:
                if whose_error(error) is None:  # else it is that of the driver within
                    with suppress(Exception):  # one that can't be changed has nobody's name
                        setattr(error, _RAISED_BY, self._origin.plugin_id)
                raise
            if not isinstance(step, Step):
                return step
            if step.messages or step.turn_limit_final:
                step = self._signed(step)
            start = step.next
            if isinstance(start, StartCheckpoint):
                start = start.on_empty
            if not isinstance(start, StartLlm):
                return step
            made: _Made | None = getattr(given[0] if given else named.get("ctx"), "requests", None)
            if made is None or (made and made[-1][0] is start.request and made[-1][1] == start.did):
                return step  # as it mostly is
            signed = self._signed_request(start, made)
            next = evolve(step.next, on_empty=signed) if isinstance(step.next, StartCheckpoint) else signed
            return evolve(step, next=next)

        return asked

    def _signed_request(self, start: StartLlm, made: _Made) -> StartLlm:
        """With whose drivers changed the request, of those that were `made` so far."""
        did = next((did for request, did in reversed(made) if request is start.request), None)
        if did is None:
            before, did = made[-1] if made else (None, ())
            if change := request_change(before, start.request):
                kind = TurnInterventionKind.REQUEST_CHANGED
                did = (*did, TurnIntervention(plugin_id=self._origin.plugin_id, kind=kind, detail=change))
            made.append((start.request, did))
        return start if did == start.did else evolve(start, did=did)

    def _signed(self, step: Step) -> Step:
        messages = tuple(map(self._own, step.messages))
        changed: Mapping[str, Any] = {"messages": messages} if messages != step.messages else {}
        final = step.turn_limit_final
        if final is not None and (own := self._own(final)) is not final:
            changed = {**changed, "turn_limit_final": own}
        return evolve(step, **changed) if changed else step

    def _own(self, message: Message) -> Message:
        if not isinstance(message, Message) or _MADE in message.memo:
            return message
        if message.origin is None and (self._is_around or _is_said_to_the_model(message)):
            message = evolve(message, origin=self._origin)
        message.memo[_MADE] = True
        return message


def whose_error(error: BaseException) -> str | None:
    """The plugin whose driver raised it; None for what no driver raised."""
    plugin_id: str | None = getattr(error, _RAISED_BY, None)
    return plugin_id


def signed(driver: Any, plugin_id: str) -> Any:
    """A mode's own driver with its plugin's name; what is laid around one has its names already."""
    return driver if isinstance(driver, SignedDriver) else SignedDriver(driver, plugin_id, is_around=False)


def _is_said_to_the_model(message: Message) -> bool:
    """Whether it is neither the model's, nor a tool's result."""
    return message.role is not MessageRole.ASSISTANT and any(
        each.kind is not PartKind.TOOL_RESULT and each.attachment is None for each in message.parts
    )
