"""Screens: what becomes of a turn's activities. `screen_for` picks one; the one for terminals is in `terminal.py`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from lash_framework.cli.exits import complain
from lash_framework.cli.lines import call_line, footer, problems, retry_line, waiting_line
from lash_framework.cli.streams import same_file

if TYPE_CHECKING:
    from lash_hookspecs.activity import TurnActivity
    from lash_hookspecs.sessions import AssembledTurn

__all__ = ["JsonLinesScreen", "JsonScreen", "PlainScreen", "Screen", "screen_for"]


class Screen:
    """Shows a turn. Its base shows nothing on the way, and problems at the end.

    `follows`: where a turn is handed to another session, that one's turn is shown next.
    """

    follows = False
    _ended: frozenset[str] = frozenset()  # the calls whose end was shown

    def show(self, activity: TurnActivity) -> None:
        """Something happened: calls the method named `on_<tag>` of the event, if there is one.

        A turn that goes on once a person has answered tells its calls again: each is shown once.
        """
        event: Any = activity.event
        if event.tag in ("tool_call_started", "tool_call_completed") and event.call_id is not None:
            if event.call_id in self._ended:
                return
            if event.tag == "tool_call_completed":
                self._ended |= {event.call_id}
        handler: Any = getattr(self, f"on_{event.tag}", None)
        if handler is not None:
            handler(event, activity.correlation_id)

    def pause(self) -> None:
        """The turn waits for a person, who is asked below, and then goes on here."""
        self.close()

    def wait_for(self, session_id: str) -> None:
        """Another process runs a turn on the session."""
        complain(f"{waiting_line(session_id)}, which runs a turn elsewhere")

    def end(self, turn: AssembledTurn, location: str | None = None, *, said: Sequence[str] = ()) -> None:
        """The turn is committed; `said` are the warnings that the log has shown."""
        self._ended = frozenset()
        for problem in problems(turn, said, follows=self.follows):
            complain(problem)

    def make_room(self) -> None:
        """Somebody else writes a line to stderr: end the unfinished one, if it stands there too."""

    def close(self) -> None:
        """Nothing more comes; safe to call at any time, and twice."""


class PlainScreen(Screen):
    """Text for pipes and files: the answer's text to `out` as it comes, everything else to `notes`."""

    def __init__(self, out: IO[str], notes: IO[str]) -> None:
        self._out = out
        self._notes = notes
        self._row: str | None = None  # whose text stands on the unfinished line
        self._text_shown = False
        self._retry = ""  # the line of the last wait
        self._together = same_file(out, sys.stderr)

    def on_assistant_prose_delta(self, event: Any, correlation_id: str) -> None:
        """More text of the answer."""
        if self._row not in (None, correlation_id):
            self._break()
        self._row = correlation_id
        self._text_shown = True
        self._out.write(event.text)
        self._out.flush()

    def on_model_request_started(self, event: Any, correlation_id: str) -> None:
        """What a provider waits for from now on is news."""
        self._retry = ""

    def on_model_attempt_reset(self, event: Any, correlation_id: str) -> None:
        """What has left through a pipe can't be taken back, so it is said."""
        if self._row == correlation_id:
            self._break()
            self.note("the text above broke off; the answer starts again")

    def on_retry_status(self, event: Any, correlation_id: str) -> None:
        """The provider waits before it asks again; where it is told to wait so time and again, one line is enough."""
        self._break()
        if (line := retry_line(event)) != self._retry:
            self._retry = line
            self.note(line)

    def on_tool_call_completed(self, event: Any, correlation_id: str) -> None:
        """One line per call."""
        self._break()
        self.note(call_line(event))

    def note(self, line: str) -> None:
        """A line beside the answer."""
        self._notes.write(line + "\n")
        self._notes.flush()

    def end(self, turn: AssembledTurn, location: str | None = None, *, said: Sequence[str] = ()) -> None:
        """The text, if nothing of it was streamed, then problems, usage and place."""
        if not self._text_shown and turn.text:
            self._out.write(turn.text)
            self._row = "end"
        self.close()
        super().end(turn, location, said=said)
        self.note(footer(turn, location))
        self._text_shown = False  # of the next turn, where this one was handed off

    def make_room(self) -> None:
        """End the line if notes and answer share a place; in a pipe of its own the answer stays whole."""
        if self._together:
            self._break()

    def close(self) -> None:
        """Finish the line."""
        self._break()
        self._out.flush()

    def _break(self) -> None:
        if self._row is not None:
            self._row = None
            self._out.write("\n")
            self._out.flush()


class JsonScreen(Screen):
    """Exactly one JSON object, at the end, to `out`; turns that were handed off before it are in it."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._handed_off: list[Mapping[str, Any]] = []

    def end(self, turn: AssembledTurn, location: str | None = None, *, said: Sequence[str] = ()) -> None:
        """Print it; problems go to stderr as always."""
        from lash_framework.cli.output import print_json, turn_object

        told = turn_object(turn)
        goes_on = getattr(turn.outcome, "turn_id", "") != ""
        if self.follows and goes_on:
            self._handed_off.append(told)
        else:
            more = {"handed_off": self._handed_off} if self._handed_off else {}
            print_json({**told, **more}, file=self._out)
        super().end(turn, location, said=said)


class JsonLinesScreen(JsonScreen):
    """Each activity as a line of JSON, and the turn's object last."""

    def show(self, activity: TurnActivity) -> None:
        """Print it at once."""
        from lash_framework.cli.output import print_json
        from lash_hookspecs.codec import unstructure

        print_json(unstructure(activity), file=self._out)


def screen_for(
    out: IO[str], *, json: bool = False, jsonl: bool = False, notes_on_stdout: bool = False, reasoning: bool = False
) -> Screen:
    """The screen that fits the options and what `out` is."""
    if jsonl:
        return JsonLinesScreen(out)
    if json:
        return JsonScreen(out)
    if out.isatty():
        from lash_framework.cli.terminal import TerminalScreen

        return TerminalScreen(out, reasoning=reasoning)
    return PlainScreen(out, out if notes_on_stdout else sys.stderr)
