"""The compaction: a model sums up what was said long ago, and the latest messages stay as they are."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lash_hookspecs.compaction import CompactReason, FrameSeed
from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.messages import Message, MessageRole, PluginOrigin, text_message
from lash_hookspecs.transcripts import CHARS_PER_TOKEN, estimated_tokens, message_as_text
from lash_plugin_history_rolling.attachments import is_user_turn

if TYPE_CHECKING:
    from lash_hookspecs.context_hooks import CompactHookContext

__all__ = ["compact", "cut_at", "parted", "transcript"]

log = logging.getLogger("lash.history")

SHARE = 0.8
"""How much of the window the messages that are summed up may fill."""

LONGEST = 4_000
"""How many characters of one result or argument are summed up."""

SUMMARY = "summary-"
"""What the ids of summaries begin with."""

LEFT_OUT = "[What was said before is left out here, since it didn't fit, and could not be summed up.]"

INSTRUCTIONS = (
    "Sum up the conversation below for whoever goes on with it, and sees nothing else of it. Say what the user wants "
    "and decided, what was done and found out (with names, paths, numbers and quotes that matter), and what is still "
    "to do. If it begins with a summary, bring that up to date. Write no more than needed, and nothing that isn't "
    "there."
)


async def compact(ctx: CompactHookContext) -> FrameSeed | None:
    """The summary of what others' notes don't tell of, these notes, and the latest messages; None if that is no change.

    Where no model answers, a note stands for the summary, so that the turn can go on; unless somebody asked for it.
    It is no message of the system: a summary may tell what a web page wanted done.
    """
    options, messages = ctx.options, ctx.messages
    window = ctx.context_window
    keep = options.keep_tokens if window is None else min(options.keep_tokens, window // 4)
    at = cut_at(messages, keep)
    latest = messages[at:]
    before, notes, old = parted(messages, at, options.notes_of, None if window is None else window // 2)
    if not old:
        kept = (*before, *notes)
        return None if len(kept) == at else FrameSeed(messages=(*kept, *latest))
    room = None if window is None else int(window * SHARE * _chars_per_token(ctx))
    asked = f"{INSTRUCTIONS} {ctx.instructions}".strip()
    try:
        model = options.model or None
        said = await ctx.completions.complete(transcript([*before, *old], room), instructions=asked, model=model)
        text = f"Summary of the conversation before:\n\n{said.text.strip()}"
    except LlmCallFailed as error:
        if ctx.why is CompactReason.REQUESTED:
            raise
        log.warning("the conversation was cut without a summary: %s", error)
        known = "".join(f"{each.text.removesuffix(LEFT_OUT).strip()}\n\n" for each in before)
        text = f"{known}{LEFT_OUT}"
    summary = text_message(f"{SUMMARY}{ctx.turn_id}-{ctx.why}", MessageRole.USER, text)
    return FrameSeed(messages=(summary, *notes, *latest))


def parted(
    messages: Sequence[Message], at: int, notes_of: Sequence[str], room: int | None
) -> tuple[list[Message], list[Message], list[Message]]:
    """What is before `at`: the summary that was there, notes that stay, the latest in so many tokens, and what is old.

    Old is what has to be summed up: the other notes, and what none tells of. A note tells of all before it, wherever it
    stands, but not of a summary, which is made of what nobody tells of any more.
    """
    before = [each for each in messages[:at] if each.id.startswith(SUMMARY)]
    told = next((place + 1 for place in range(len(messages) - 1, -1, -1) if _is_of(messages[place], notes_of)), 0)
    notes = [each for each in messages[:at] if _is_of(each, notes_of)]
    left, first = math.inf if room is None else room, len(notes)
    while first and (left := left - estimated_tokens(notes[first - 1])) >= 0:
        first -= 1
    untold = [each for each in messages[min(told, at) : at] if not each.id.startswith(SUMMARY)]
    return before, notes[first:], [*notes[:first], *untold]


def _is_of(message: Message, plugin_ids: Sequence[str]) -> bool:
    return isinstance(message.origin, PluginOrigin) and message.origin.plugin_id in plugin_ids


def _chars_per_token(ctx: CompactHookContext) -> float:
    """As the last call of the model counted, of which the conversation was a part: so rather too few."""
    if not ctx.context_tokens:
        return CHARS_PER_TOKEN / 2
    chars = sum(len(part.content) for each in ctx.messages for part in each.parts)
    return min(max(chars / ctx.context_tokens, 1), CHARS_PER_TOKEN)


def cut_at(messages: Sequence[Message], keep_tokens: int) -> int:
    """Where the latest messages begin: with a user, within so many tokens. All are old if the last turn is longer."""
    total, at = 0, len(messages)
    for place in range(len(messages) - 1, -1, -1):
        total += estimated_tokens(messages[place])
        if total > keep_tokens:
            break
        if is_user_turn(messages[place]):
            at = place
    return at


def transcript(messages: Sequence[Message], room: int | None) -> str:
    """What was said, as text of at most `room` characters: a summary before it in any case, then the latest of it."""
    said = [text for each in messages if (text := message_as_text(each, LONGEST))]
    if room is None or sum(map(len, said)) <= room:
        return "\n\n".join(said)
    first = said[:1] if messages[0].id.startswith(SUMMARY) else []
    rest, left = list[str](), room - sum(map(len, first))
    for each in reversed(said[len(first) :]):
        left -= len(each)
        if left < 0:
            break
        rest.append(each)
    return "\n\n".join([*first, "[… some of it is left out here …]", *reversed(rest)])
