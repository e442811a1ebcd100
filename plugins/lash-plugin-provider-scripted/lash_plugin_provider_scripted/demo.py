"""`scripted:demo`: a model that answers with text, two tool calls at once, and then with what they returned.

It keeps no state. What it says follows from the conversation alone, so a run that was killed and resumed in another
process goes on with the same words.
"""

from __future__ import annotations

from lash_hookspecs.llm import LlmRequest, TokenUsage
from lash_hookspecs.llm_messages import LlmRole, TextBlock, ToolCallBlock, ToolResultBlock
from lash_plugin_provider_scripted.script import Call, Reply

__all__ = ["demo_reply"]

_WANTED = ("now", "add")


def demo_reply(request: LlmRequest) -> Reply:
    """What the demo model says to `request`."""
    results = _results_of_last_calls(request)
    usage = TokenUsage(input=20 * len(request.messages), output=24)
    if results:
        told = "\n".join(f"- {name} returned {content}" for name, content in results)
        return Reply(text=f"Both tools have answered:\n{told}\nThat is all this demo can do.", usage=usage)
    offered = {tool.name for tool in request.tools}
    if not offered.issuperset(_WANTED):
        return Reply(
            text=f'You said: "{_last_question(request)}" I am a script, not a model. '
            "Try `lash demo`, which gives me the tools `now` and `add` to call.",
            usage=usage,
        )
    number = sum(message.role is LlmRole.ASSISTANT for message in request.messages) + 1
    return Reply(
        text="I am a script, not a model, but the tools are real. Let me call two of them at once.",
        tool_calls=(
            Call("now", {"tz": "UTC"}, f"demo-{number}-now"),
            Call("add", {"a": 19, "b": 23}, f"demo-{number}-add"),
        ),
        usage=usage,
    )


def _results_of_last_calls(request: LlmRequest) -> list[tuple[str, str]]:
    """Names and results of the calls in the last assistant message; empty if it made none."""
    for index in range(len(request.messages) - 1, -1, -1):
        message = request.messages[index]
        if message.role is LlmRole.ASSISTANT:
            names = {block.call_id: block.tool_name for block in message.blocks if isinstance(block, ToolCallBlock)}
            after = (block for later in request.messages[index:] for block in later.blocks)
            found = {block.call_id: block.content for block in after if isinstance(block, ToolResultBlock)}
            return [(name, found[call_id]) for call_id, name in names.items() if call_id in found]
    return []


def _last_question(request: LlmRequest) -> str:
    for message in reversed(request.messages):
        texts = [block.text for block in message.blocks if isinstance(block, TextBlock)]
        if message.role is LlmRole.USER and texts:
            return " ".join(texts)[:200]
    return ""
