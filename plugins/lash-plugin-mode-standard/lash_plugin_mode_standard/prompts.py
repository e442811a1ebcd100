"""What the mode tells the model about itself."""

from __future__ import annotations

__all__ = ["EXECUTION_PROMPT"]

EXECUTION_PROMPT = (
    "Call tools to look and to act. Calls that you make in one answer run at the same time, so make together what "
    "doesn't depend on each other's results; `batch` does the same for many calls at once. When nothing is left to do, "
    "answer in words without calling a tool: that ends the turn."
)
