"""Who put a line into the prompt: found in a stored turn, or in a turn that is begun in memory and asks no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from lash_framework.hooks import Owned
from lash_framework.implementations import HookImpl, watching
from lash_framework.lash import Lash
from lash_hookspecs.directives import AbortTurn
from lash_hookspecs.markers import hookimpl
from lash_hookspecs.plugins import PluginInfo
from lash_hookspecs.prompts import DropReason, PromptContribution
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.explain import ExplainedPrompt, Explanation
    from lash_framework.settings import Settings

__all__ = ["FoundLine", "Prompt", "begun", "find_lines"]

REASONS = {
    DropReason.BLANK: "it is blank",
    DropReason.GATED: "none of the tools that it is about can be called in this mode",
    DropReason.RESET: "a layer above it empties its slot",
    DropReason.NO_PLACE: "the template in force has no place for its slot",
}


@frozen(kw_only=True)
class FoundLine:
    """A line that is in the prompt, or (with why not in `dropped`) was to be."""

    text: str
    plugin_ids: tuple[str, ...]
    place: str
    dropped: str | None = None


@frozen(kw_only=True)
class Prompt:
    """A prompt as it was explained; `offered` is what there was to say, as far as it is known, with its owners."""

    explanation: Explanation
    offered: Sequence[Owned[PromptContribution]] = ()


class _Beginning:
    """The plugin that lets a turn begin and keeps it from asking a model."""

    @hookimpl
    def lash_plugin_info(self) -> PluginInfo:
        return PluginInfo(id="lash-plugins-why", summary="Ends a turn where the model would be asked.")

    @hookimpl(trylast=True)
    def lash_before_turn(self) -> AbortTurn:
        return AbortTurn(code="prompt_only", message="the turn was only begun, to see its prompt")


async def begun(settings: Settings) -> Prompt:
    """The prompt of a turn with these settings: hooks are called as ever, the store is memory, no model is asked."""
    offered: list[Owned[PromptContribution]] = []

    def watch(impl: HookImpl) -> HookImpl:
        if impl.hook != "lash_prompt_contributions":
            return impl

        async def function(*args: Any) -> Any:
            said = impl.function(*args)
            said = await said if hasattr(said, "__await__") else said
            listed = said if isinstance(said, Sequence) else (said,)
            offered.extend(Owned(impl.plugin_id, each) for each in listed if isinstance(each, PromptContribution))
            return said

        return HookImpl(impl.plugin_id, function, impl.argnames, impl.hook, impl.limit_s)

    settings = evolve(settings, store_options={}, plugins=evolve(settings.plugins, lock="off"))
    token = watching.set(watch)
    try:
        async with Lash.open("sqlite://", settings=settings, plugins=[_Beginning()]) as lash:
            session = await lash.session()
            turn = await session.run("What would the model be told?")
            layers = (*session.composition.prompt_layers, Owned(lash.layer_source, lash.layer))
            for owner, layer in layers:
                offered += [Owned(owner, each) for slot in layer.slots.values() for each in slot.contributions]
            return Prompt(explanation=await lash.explain(turn.turn_id), offered=offered)
    finally:
        watching.reset(token)


def find_lines(prompt: Prompt, wanted: str) -> list[FoundLine]:
    """The lines that hold this text, case and blanks apart: those that are in the prompt first."""
    found = [
        FoundLine(text=line, plugin_ids=piece.plugin_ids, place=_place(piece))
        for piece in prompt.explanation.prompt
        if piece.dropped is None
        for line in _holding(piece.text, wanted)
    ]
    for piece in prompt.explanation.prompt:
        if piece.dropped is not None:
            texts = [each.value.content for each in prompt.offered if _same(piece, each)]
            lines = [line for text in texts for line in _holding(text, wanted)] or list(
                _holding(piece.title or "", wanted)
            )
            why = next((text for reason, text in REASONS.items() if reason == piece.dropped), piece.dropped)
            found += [
                FoundLine(text=line, plugin_ids=piece.plugin_ids, place=_place(piece), dropped=why) for line in lines
            ]
    return found


def _same(piece: ExplainedPrompt, offered: Owned[PromptContribution]) -> bool:
    said = offered.value
    return (*piece.plugin_ids, piece.slot, piece.title) == (offered.plugin_id, said.slot.value, said.title)


def _holding(text: str, wanted: str) -> Iterator[str]:
    needle = " ".join(wanted.split()).casefold()
    return (line.strip() for line in text.splitlines() if needle in " ".join(line.split()).casefold())


def _place(piece: ExplainedPrompt) -> str:
    named = {"section": piece.section, "slot": piece.slot, "title": piece.title}
    return ", ".join(f"{what} {name}" for what, name in named.items() if name) or "-"
