"""The screen for terminals: streamed text, a spinner while nothing comes, colours. The only user of rich for turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from lash_framework.cli.lines import call_line, call_text, clean, footer, problems, retry_line, waiting_line
from lash_framework.cli.screens import Screen

if TYPE_CHECKING:
    from rich.status import Status

    from lash_hookspecs.sessions import AssembledTurn

__all__ = ["TerminalScreen"]


class TerminalScreen(Screen):
    """Streams to the terminal. The spinner is only there while the cursor stands at a line's beginning."""

    def __init__(self, out: IO[str] | None = None, *, reasoning: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, file=out)
        self._console.width = self._console.width or 80  # of a terminal that knows no width, rich would write nothing
        self._reasoning = reasoning
        self._status: Status | None = None
        self._row: tuple[str, str] | None = None
        self._text_shown = False
        self._retry = ""  # the line of the last wait
        self._tools: dict[str, str] = {}

    # ---- text -------------------------------------------------------------------------------------------------------

    def on_assistant_prose_delta(self, event: Any, correlation_id: str) -> None:
        """More text of the answer."""
        self._text_shown = True
        self._stream(("text", correlation_id), event.text, "")

    def on_reasoning_delta(self, event: Any, correlation_id: str) -> None:
        """Reasoning is shown on demand only; without it the spinner says that there is some."""
        if self._reasoning:
            self._stream(("reasoning", correlation_id), event.text, "dim italic")
        elif self._row is None:
            self._spin("thinking …")

    def _stream(self, row: tuple[str, str], text: str, style: str) -> None:
        self._still()
        if self._row not in (None, row):
            self._break()
        self._row = row
        self._console.print(Text(clean(text), style=style), end="", soft_wrap=True)

    def on_model_attempt_reset(self, event: Any, correlation_id: str) -> None:
        """What stands above belongs to a failed attempt."""
        if self._row is not None:
            self.note("the text above broke off; the answer starts again", "yellow")

    # ---- waiting ----------------------------------------------------------------------------------------------------

    def wait_for(self, session_id: str) -> None:
        """Another process runs a turn on the session."""
        self._break()
        self._spin(f"{waiting_line(session_id)} …")

    def on_model_request_started(self, event: Any, correlation_id: str) -> None:
        """A model is asked."""
        self._break()
        self._retry = ""
        self._spin("waiting for the model …")

    def on_retry_status(self, event: Any, correlation_id: str) -> None:
        """The provider waits before it asks again."""
        if (line := retry_line(event)) != self._retry:
            self._retry = line
            self.note(line, "yellow")
        self._spin(f"waiting {event.wait_seconds:.1f} s …")

    def on_tool_call_started(self, event: Any, correlation_id: str) -> None:
        """The spinner names what runs."""
        self._break()
        self._tools[correlation_id] = call_text(event.name, event.args)
        self._spin(", ".join(self._tools.values()))

    def on_tool_call_progress(self, event: Any, correlation_id: str) -> None:
        """How far one of them has come."""
        part = "" if event.done is None else f" {event.done:.0%}"
        self._spin(f"{self._tools.get(correlation_id, '')}{part} {clean(event.text)}")

    def on_plugin_surface(self, event: Any, correlation_id: str) -> None:
        """The last line of what a running call shows, such as a command's output, stands in the spinner."""
        text = event.payload.get("text") if isinstance(event.payload, Mapping) else None
        if correlation_id in self._tools and isinstance(text, str):
            line = clean(text).strip().rpartition("\n")[2]
            self._spin(
                f"{self._tools[correlation_id].partition('(')[0]}: {line}" if line else self._tools[correlation_id]
            )

    def on_tool_call_completed(self, event: Any, correlation_id: str) -> None:
        """One line per call."""
        self._tools.pop(correlation_id, None)
        self.note(call_line(event), "cyan" if event.output.outcome.tag == "success" else "red")
        if self._tools:
            self._spin(", ".join(self._tools.values()))

    # ---- the end ----------------------------------------------------------------------------------------------------

    def end(self, turn: AssembledTurn, location: str | None = None, *, said: Sequence[str] = ()) -> None:
        """The text, if nothing of it was streamed, then problems, usage and place."""
        if not self._text_shown and turn.text:
            self._stream(("text", "end"), turn.text, "")
        self.close()
        for call in self._tools.values():
            self.note(f"→ {call} did not finish", "red")
        for problem in problems(turn, said, follows=self.follows):
            self.note(problem, "yellow" if problem.startswith("note: ") else "red")
        self.note(footer(turn, location), "dim")
        # Of the next turn, where this one was handed off.
        self._text_shown, self._tools, self._ended = False, {}, frozenset()

    def note(self, line: str, style: str = "") -> None:
        """A line of its own."""
        self._break()
        self._console.print(Text(line, style=style), soft_wrap=True)

    def make_room(self) -> None:
        """End the line; the spinner needs none, it stays below."""
        if self._row is not None:
            self._break()

    def pause(self) -> None:
        """Nothing runs meanwhile: the spinner would write over the question."""
        self._tools = {}
        self.close()

    def close(self) -> None:
        """Stop the spinner and finish the line."""
        self._break()

    def _break(self) -> None:
        self._still()
        if self._row is not None:
            self._row = None
            self._console.print()

    def _spin(self, text: str) -> None:
        text = text if len(text) < 70 else text[:69] + "…"
        if self._status is None:
            self._status = self._console.status(Text(text, style="dim"), spinner="dots")
            self._status.start()
        else:
            self._status.update(Text(text, style="dim"))

    def _still(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
