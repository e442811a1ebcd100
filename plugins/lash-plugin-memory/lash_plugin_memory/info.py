"""What the plugin says of itself, and its options."""

from __future__ import annotations

from typing import Any

from attrs import field

from lash_hookspecs.option_checks import at_least
from lash_hookspecs.plugins import PluginInfo
from lash_hookspecs.values import frozen

__all__ = ["INFO", "MemoryOptions"]


def _option(default: Any, help: str, check: Any = None) -> Any:
    return field(default=default, validator=check, metadata={"help": help})


@frozen(kw_only=True)
class MemoryOptions:
    """When notes are made, shown and condensed, in tokens as they are estimated: four characters each."""

    observe_tokens: int = _option(6_000, "how much is said before notes are made of it", at_least(1))
    activate_tokens: int = _option(30_000, "how much is shown in full before notes take its place", at_least(1))
    reflect_tokens: int = _option(40_000, "how long the notes may get before they are condensed", at_least(1))
    chunk_tokens: int = _option(24_000, "how much the observer reads at once", at_least(100))
    part_chars: int = _option(2_000, "how much of one result of a tool, or text, it reads", at_least(1))
    model: str = _option("", "who makes the notes, as `provider:name`; else the turn's model")


INFO = PluginInfo(
    id="memory",
    version="0.1.0",
    summary="Notes take the place of what was said long ago; `recall` searches them.",
    options=MemoryOptions,
    # It asks a model on its own, and changes what the session's is shown: a mode names it.
    enabled_by_default=False,
)
