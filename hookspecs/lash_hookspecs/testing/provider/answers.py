"""Cases: what a whole answer says, and how it is streamed."""

from __future__ import annotations

from lash_hookspecs.llm import LlmTerminalReason, TextOutput
from lash_hookspecs.testing.provider.kit import USAGE, Cases, Scene, hello, same
from lash_hookspecs.testing.provider.wire import Text

__all__ = ["CASES"]

CASES = Cases("answers")


@CASES("text")
async def text(scene: Scene) -> None:
    """Text is streamed as it comes, and is whole in the answer, with the usage and the reason of its end."""
    scene.server.answer(scene.say(*hello(Text("Hel"), Text("lo"), Text(" there"))))
    answer = await scene.ask()
    same(scene.text, "Hello there")
    same(answer.full_text, "Hello there")
    same(answer.parts, (TextOutput(text="Hello there"),))
    same(answer.usage, USAGE)
    same(answer.terminal_reason, LlmTerminalReason.STOP)
