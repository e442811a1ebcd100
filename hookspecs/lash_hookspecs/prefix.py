"""What providers' caches are about: that a request begins as the one before it did, and who is behind it where not."""

from __future__ import annotations

from enum import StrEnum

from lash_hookspecs.values import frozen

__all__ = ["PrefixChange", "PrefixPart"]


class PrefixPart(StrEnum):
    """Which part of what comes before a model changed."""

    PROMPT = "prompt"
    TOOL = "tool"
    MESSAGE = "message"
    VIEW = "view"
    FRAME = "frame"
    SETTING = "setting"
    PLUGIN = "plugin"


@frozen(kw_only=True)
class PrefixChange:
    """Something before a model that isn't as it was in the call before: `name` of it, `change` in words, whose it is.

    Of what a turn shows in its own calls only (a transient message, a view) the next turn's prefix is free again.
    `sha256` is of a view: two turns that show the same, and go on with all that was said since, have the same.
    """

    part: PrefixPart
    name: str
    change: str
    plugin_ids: tuple[str, ...] = ()
    sha256: str = ""
