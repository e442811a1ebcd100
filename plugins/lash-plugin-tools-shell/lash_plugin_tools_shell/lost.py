"""Commands that another process of lash had started: what the conversation tells of them. Pure.

They end with that process, so nothing of ours could hold them. But the model that goes on elsewhere must learn of it,
and what it was told of them is in the conversation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import evolve

from lash_hookspecs.messages import Message, PartKind
from lash_hookspecs.values import frozen

__all__ = ["Lost", "commands_told_of", "notice"]

_FIRST = re.compile(r"(sh-[0-9a-f]{8}): ([^\n]*)\n?")
_NOTE = "\n\n[Note: these commands of this session ended with the process of lash that had started them"
_NAMED = re.compile(r"^- (sh-[0-9a-f]{8})\b", re.MULTILINE)
_MORE = re.compile(r"^- … and \d+ more\]$", re.MULTILINE)
_NOTES = ("shell", "shell_start", "shell_list")
_TELL = ("shell_start", "shell_read", "shell_write", "shell_stop", "shell_signal")
_MOST = 8
_LAST_CHARS = 500


@frozen(kw_only=True)
class Lost:
    """A command, as the model last heard of it: `how` it was, and the `last` that it had printed.

    `told`: it was also told that the command ended with its process.
    """

    id: str
    command: str
    how: str
    last: str
    told: bool = False

    @property
    def ran(self) -> bool:
        """Whether it still ran by then."""
        return self.how.startswith("running")

    def __str__(self) -> str:
        name = f"{self.id} (`{self.command.splitlines()[0][:200]}`)" if self.command.strip() else self.id
        if not self.last:
            return f"{name}, of which no output was read"
        cut = "…" if len(self.last) > _LAST_CHARS else ""
        return f"{name}, whose last output that was read is:\n{cut}{self.last[-_LAST_CHARS:]}"


def commands_told_of(messages: Iterable[Message]) -> dict[str, Lost]:
    """The commands that go on of which results of tools tell, by their ids, in the order in which they were started."""
    found: dict[str, Lost] = {}
    for tool, args, text in _results(messages):
        text, _, note = text.partition(_NOTE) if tool in _NOTES else (text, "", "")
        for id in _named(note, found):
            found[id] = evolve(found[id], told=True)
        first = _FIRST.match(text) if tool in _TELL else None
        if first is None:
            continue
        id, how = first[1], first[2]
        before = found.get(id)
        command = before.command if before is not None else str(args.get("command", ""))
        printed = text[first.end() :].strip()
        kept = before is not None and (how.startswith("sent ") or not printed)
        found[id] = Lost(
            id=id,
            command=command,
            how=before.how if before is not None and how.startswith("sent ") else how,
            last=before.last if before is not None and kept else printed,
        )
    return found


def _named(note: str, known: Mapping[str, Lost]) -> list[str]:
    """The commands that a note tells of: it names the latest, and stands for those before them."""
    named = [id for id in _NAMED.findall(note) if id in known]
    if not named or not _MORE.search(note):
        return named
    before = list(known)[: list(known).index(named[0])]
    return [*before, *named]


def notice(lost: Iterable[Lost], *, again: bool = False) -> str:
    """What a model is told of commands that it believes to run; nothing if there are none.

    `again`: also of those of which it was told in this conversation.
    """
    names = [f"- {each}" for each in lost if each.ran and (again or not each.told)]
    if not names:
        return ""
    more = f"\n- … and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{_NOTE}, and can't be reached any more:\n" + "\n".join(names[-_MOST:]) + more + "]"


def _results(messages: Iterable[Message]) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Tool, arguments and text of each result, those within batches among them."""
    asked: dict[str, Mapping[str, Any]] = {}
    for part in (part for each in messages for part in each.parts):
        if part.kind is PartKind.TOOL_CALL:
            asked[part.tool_call_id or ""] = _object(part.content)
        elif part.kind is PartKind.TOOL_RESULT:
            args = asked.pop(part.tool_call_id or "", {})
            if part.tool_name == "batch":
                yield from _batched(args, _object(part.content))
            else:
                yield part.tool_name or "", args, part.content


def _batched(args: Mapping[str, Any], value: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    calls: list[Any] = next((each for each in args.values() if isinstance(each, list)), [])
    for row in value.get("results") or ():
        if not isinstance(row, dict) or not isinstance(row.get("result"), str):
            continue
        at = row.get("index")
        call = calls[at] if isinstance(at, int) and 0 <= at < len(calls) and isinstance(calls[at], dict) else {}
        given = call.get("parameters")
        yield str(row.get("tool")), given if isinstance(given, dict) else {}, row["result"]


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}  # cut by a budget, say
    return value if isinstance(value, dict) else {}
