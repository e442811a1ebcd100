"""What a model is shown of a conversation, and that showing it again costs nothing."""

from __future__ import annotations

import json

import pytest
from attrs import evolve
from machine_kit import PICTURE, PLUGIN, ScriptedHost, assistant, cause, machine, message, part, play, start, user

from lash_framework.machine import (
    ChatProjector,
    MessageSequence,
    ProjectionView,
    projection as projection_module,
    prune_weight,
)
from lash_framework.machine.projection import render_message
from lash_hookspecs.llm import (
    GenerationOptions,
    JsonObjectOutput,
    LlmRequest,
    LlmRequestScope,
    LlmResponse,
    LlmToolChoice,
    LlmToolSpec,
    ReasoningOutput,
    TextOutput,
    ToolCallOutputPart,
)
from lash_hookspecs.llm_messages import (
    ImageBlock,
    LlmMessage,
    LlmRole,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_hookspecs.messages import (
    Cleared,
    Deleted,
    MessageRole,
    PartKind,
    ProviderReasoningMeta,
    ProviderReplayMeta,
    ProviderRoute,
    ResponseTextMeta,
    Summarized,
)
from lash_hookspecs.replay import stamp_response, strip_foreign_replay
from lash_hookspecs.turn_effects import LlmCall

USER, ASSISTANT, SYSTEM, EVENT = MessageRole.USER, MessageRole.ASSISTANT, MessageRole.SYSTEM, MessageRole.EVENT
SPEC = LlmToolSpec(name="look", description="", input_schema={"type": "object"})
SIGNED = ProviderReasoningMeta(signature="sig")


def view(*given_messages, causes=(), **more) -> ProjectionView:
    given = {
        "messages": MessageSequence(given_messages),
        "turn_causes": tuple(causes),
        "events": (),
        "protocol_iteration": 0,
        "use_tools": True,
        "system_prompt": "",
        "tool_specs": (SPEC,),
        "model": "m",
        "model_variant": "high",
        "generation": GenerationOptions(seed=1),
        "output_spec": JsonObjectOutput(),
        "scope": LlmRequestScope(session_id="s", agent_frame_id="main", request_id="t:0:llm"),
    }
    return ProjectionView(**{**given, **more})


def project(*messages, route=None, **more) -> LlmRequest:
    return ChatProjector(route).project(view(*messages, **more))


def blocks(*parts, role=USER) -> tuple:
    rendered, _ = render_message(message("m", role, *parts))
    return rendered.blocks if rendered else ()


# ---- requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_tools", [True, False])
def test_a_request_passes_on_the_settings(use_tools):
    """Model, variant, sampling, output and scope are the session's; tools come with free choice, or not at all."""
    request = project(user("hi"), use_tools=use_tools)
    assert (request.model, request.model_variant) == ("m", "high")
    assert (request.generation, request.output_spec) == (GenerationOptions(seed=1), JsonObjectOutput())
    assert request.scope.request_id == "t:0:llm"
    assert request.tools == ((SPEC,) if use_tools else ())
    assert request.tool_choice is (LlmToolChoice.AUTO if use_tools else LlmToolChoice.NONE)


@pytest.mark.parametrize(("prompt", "first"), [("Be kind.", LlmRole.SYSTEM), (" \n", LlmRole.USER)])
def test_the_system_prompt_comes_first_unless_blank(prompt, first):
    """A system prompt heads the messages; a blank one isn't sent."""
    assert project(user("hi"), system_prompt=prompt).messages[0].role is first


def test_request_ids_tell_turn_and_iteration():
    """A request's id is the same for the same turn and iteration, and no other's."""
    call = play(machine(turn_id="t9", agent_frame_id="sub")).of(LlmCall)[0]
    assert call.request.scope == LlmRequestScope(session_id="s", agent_frame_id="sub", request_id="t9:0:llm")


# ---- parts ----------------------------------------------------------------------------------------------------------


@pytest.mark.statement(19)
def test_an_image_is_a_block_and_an_attachment():
    """An image and a text of the user become the text, a block that points to attachment 0, and that attachment."""
    picture = message("m", USER, part(PartKind.TEXT, "look"), part(PartKind.IMAGE, attachment=PICTURE))
    request = project(picture)
    assert [each.reference for each in request.attachments] == [PICTURE]
    assert request.attachments[0].data == b""
    text, image = request.messages[0].blocks
    assert text == TextBlock(text="look")
    assert image == ImageBlock(attachment_idx=0, attachment=PICTURE)


def test_attachments_are_numbered_through():
    """Images of several messages count on; a message that moves to another place is numbered anew."""
    first, second = (message(f"m{n}", USER, part(PartKind.IMAGE, attachment=PICTURE)) for n in range(2))
    numbers = [each.blocks[0].attachment_idx for each in project(first, user("hi"), second).messages[::2]]
    assert numbers == [0, 1]
    assert project(second).messages[0].blocks[0].attachment_idx == 0


@pytest.mark.parametrize("role", [ASSISTANT, SYSTEM, EVENT])
def test_only_the_users_images_are_shown(role):
    """An image in anybody else's message is left out."""
    assert project(message("m", role, part(PartKind.IMAGE, attachment=PICTURE))).messages == ()


@pytest.mark.parametrize(
    ("media_type", "by_tool", "is_shown"),
    [
        ("application/pdf", False, True),
        ("text/csv", False, True),
        ("application/pdf", True, True),
        ("text/csv", True, False),
        ("application/x-thing", True, False),
    ],
)
def test_a_document_is_shown_as_an_image_is_and_what_else_a_tool_returns_is_named(media_type, by_tool, is_shown):
    """A user says what a document is; a tool may return anything, and no wire takes that."""
    reference = evolve(PICTURE, media_type=media_type)
    (block,) = blocks(part(PartKind.IMAGE, attachment=reference, tool_call_id="c" if by_tool else None))
    if is_shown:
        assert block == ImageBlock(attachment_idx=0, attachment=reference)
    else:
        assert media_type in block.text


@pytest.mark.statement(52)
def test_news_is_told_once_and_by_the_user():
    """A cause of this turn is shown once, last, as the user's; in later turns it is a prefixed event in its place."""
    turn = machine(given=start(user("hi"), turn_causes=(cause("e1", "the build failed"),)))
    request = ScriptedHost().run(turn, until=LlmCall).effects[-1].request
    shown = [each for each in request.messages if "the build failed" in each.blocks[0].text]
    assert shown == [request.messages[-1]]
    assert shown[0].role is LlmRole.USER
    assert "done, event 1 of process proc" in shown[0].blocks[0].text
    later = project(*turn.messages, user("and now?", "u2"))
    assert later.messages[0] == LlmMessage(LlmRole.USER, (TextBlock(text="Runtime event: the build failed"),))
    assert len(later.messages) == 3


@pytest.mark.statement(52)
def test_news_in_the_middle_of_history_moves_to_the_end():
    """A cause that came between other messages leaves its place to its neighbours while it is news."""
    news = [cause("e1", "one"), evolve(cause("e2", "two"), origin=PLUGIN)]
    history = (user("a"), news[0].to_event_message(), assistant("b"), news[1].to_event_message(), user("c", "u2"))
    request = project(*history, causes=news)
    assert [each.blocks[0].text for each in request.messages[:-1]] == ["a", "b", "c"]
    assert request.messages[-1].blocks[0].text.index("one") < request.messages[-1].blocks[0].text.index("two")
    assert "done, from guard" in request.messages[-1].blocks[0].text


def test_a_message_that_shares_a_causes_id_is_shown():
    """Only event messages give way to news."""
    assert len(project(user("hi", "e1"), causes=[cause("e1")]).messages) == 2


def test_notes_are_prefixed_and_tagged():
    """A note says that it is one, and is told as a user's; output and errors in it are marked as such."""
    rendered, _ = render_message(
        message("m", SYSTEM, part(PartKind.TEXT, "see:"), part(PartKind.OUTPUT, "4"), part(PartKind.ERROR, "bad"))
    )
    text = "Runtime note: see:\n<output>\n4\n</output>\n<error>\nbad\n</error>"
    assert rendered == LlmMessage(LlmRole.USER, (TextBlock(text=text),))


@pytest.mark.statement(53)
def test_reasoning_for_people_reaches_no_prompt():
    """Reasoning that no provider wants back is not shown to a model; alone it makes no message at all."""
    thought = part(PartKind.REASONING, "secret", reasoning_meta=ProviderReasoningMeta())
    assert blocks(thought, part(PartKind.PROSE, "hi"), role=ASSISTANT) == (TextBlock(text="hi"),)
    assert blocks(part(PartKind.REASONING, "secret"), role=ASSISTANT) == ()
    assert project(message("m", ASSISTANT, thought), user("hi")).messages == project(user("hi")).messages


@pytest.mark.statement(54)
@pytest.mark.parametrize("text", ["because", ""], ids=["with-text", "opaque"])
def test_reasoning_that_goes_back_is_one_block(text):
    """Reasoning with a provider's state becomes one reasoning block, text or not."""
    found = blocks(part(PartKind.REASONING, text, reasoning_meta=SIGNED), role=ASSISTANT)
    assert found == (ReasoningBlock(text=text, replay=SIGNED),)


@pytest.mark.statement(55)
def test_reasoning_weighs_nothing():
    """Reasoning counts zero when history is weighed for pruning; all else counts what is shown of it."""
    assert prune_weight(part(PartKind.REASONING, "x" * 500, reasoning_meta=SIGNED)) == 0
    assert prune_weight(part(PartKind.PROSE, "four")) == 4
    assert prune_weight(part(PartKind.TOOL_RESULT, "x" * 500, prune_state=Deleted("gone", "hash"))) == 4


@pytest.mark.statement(56)
@pytest.mark.parametrize("content", ["", " \n"], ids=["empty", "blank"])
def test_an_empty_result_is_shown(content):
    """A result without text is a block all the same, since its call needs one."""
    found = blocks(part(PartKind.TOOL_RESULT, content, tool_call_id="c1", tool_name="look"))
    assert found == (ToolResultBlock(call_id="c1", content=content, tool_name="look"),)


@pytest.mark.parametrize("role", [USER, ASSISTANT, SYSTEM, EVENT])
def test_blank_text_is_not_shown(role):
    """Blank text makes no block, whoever wrote it, and no message if there is nothing else."""
    assert blocks(part(PartKind.TEXT, " \n"), role=role) == ()


def test_results_come_before_their_pictures():
    """Within a user's message all results come first, then the rest in its own order."""
    found = blocks(
        part(PartKind.TOOL_RESULT, "1", tool_call_id="c1"),
        part(PartKind.IMAGE, attachment=PICTURE),
        part(PartKind.TOOL_RESULT, "2", tool_call_id="c2"),
        part(PartKind.TEXT, "after"),
    )
    assert [type(each).__name__ for each in found] == ["ToolResultBlock", "ToolResultBlock", "ImageBlock", "TextBlock"]


@pytest.mark.parametrize(
    ("role", "kind"), [(USER, PartKind.TOOL_CALL), (USER, PartKind.REASONING), (ASSISTANT, PartKind.TOOL_RESULT)]
)
def test_parts_in_the_wrong_mouth_are_left_out(role, kind):
    """Users don't call tools, assistants don't answer them: no service would accept it."""
    assert blocks(part(kind, "x", tool_call_id="c", reasoning_meta=SIGNED), role=role) == ()


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (Cleared(), "[This was removed to save space.]"),
        (Deleted("see archive", "h"), "see archive"),
        (Summarized("in short", "h"), "in short"),
    ],
    ids=["cleared", "deleted", "summarized"],
)
def test_pruned_parts_show_a_placeholder(state, shown):
    """What was pruned is shown as its placeholder; calls keep a JSON object as arguments, reasoning is left out."""
    call = part(PartKind.TOOL_CALL, '{"a": 1}', tool_call_id="c", tool_name="look", prune_state=state)
    found = blocks(part(PartKind.PROSE, "long", prune_state=state), call, role=ASSISTANT)
    assert found[0] == TextBlock(text=shown)
    assert json.loads(found[1].input_json) == {"removed": shown}
    result = part(PartKind.TOOL_RESULT, "long", tool_call_id="c", prune_state=state)
    assert blocks(result) == (ToolResultBlock(call_id="c", content=shown),)
    assert blocks(part(PartKind.IMAGE, "", attachment=PICTURE, prune_state=state)) == (TextBlock(text=shown),)
    assert blocks(part(PartKind.REASONING, "x", reasoning_meta=SIGNED, prune_state=state), role=ASSISTANT) == ()


# ---- provenance of opaque state -------------------------------------------------------------------------------------

HERE = ProviderRoute("openai", "https://api", "gpt")
THERE = evolve(HERE, model="other")


def spoken(origin: ProviderRoute | None):
    return message(
        "a1",
        ASSISTANT,
        part(PartKind.REASONING, "hm", reasoning_meta=ProviderReasoningMeta(signature="s", origin=origin)),
        part(PartKind.PROSE, "hi", response_meta=ResponseTextMeta(id="r", origin=origin)),
        part(PartKind.TOOL_CALL, "{}", tool_call_id="c", tool_replay=ProviderReplayMeta(opaque="o", origin=origin)),
    )


@pytest.mark.statement(61)
@pytest.mark.parametrize("origin", [THERE, None], ids=["foreign", "unstamped"])
def test_foreign_state_is_left_out(origin):
    """State of another route, or of an unknown one, is dropped; the neutral text and the call stay."""
    (shown,) = project(spoken(origin), route=HERE).messages
    assert shown.blocks == (TextBlock(text="hi"), ToolCallBlock(call_id="c", tool_name="", input_json="{}"))
    assert project(spoken(origin), route=HERE).messages == (shown,)


@pytest.mark.statement(61)
def test_own_state_is_kept():
    """State of the same provider, endpoint and model goes back unchanged, and the very same objects with it."""
    said = spoken(HERE)
    (shown,) = project(said, route=HERE).messages
    assert shown.blocks[0].replay.signature == "s"
    assert (shown.blocks[1].response_meta.id, shown.blocks[2].replay.opaque) == ("r", "o")
    assert shown is project(said).messages[0]
    assert strip_foreign_replay(shown, HERE) is shown


@pytest.mark.statement(61)
def test_a_message_of_foreign_state_alone_vanishes():
    """Reasoning of another route leaves nothing to show."""
    thought = message("a1", ASSISTANT, part(PartKind.REASONING, "hm", reasoning_meta=evolve(SIGNED, origin=THERE)))
    assert project(thought, user("hi"), route=HERE).messages == project(user("hi")).messages
    assert strip_foreign_replay(render_message(thought)[0], HERE) is None


def test_what_was_stripped_is_remembered():
    """The same stripped object comes back for the same route, so that its encoding is found again."""
    said = render_message(spoken(THERE))[0]
    assert strip_foreign_replay(said, HERE) is strip_foreign_replay(said, HERE)
    assert strip_foreign_replay(said, THERE) is said


def test_a_stamp_is_put_on_once():
    """An answer's opaque state gets the route it came by; a stamp that is there stays."""
    answer = LlmResponse(
        parts=(
            TextOutput(text="a", response_meta=ResponseTextMeta(id="r")),
            ReasoningOutput(text="b", replay=SIGNED),
            ToolCallOutputPart(call_id="c", tool_name="x", input_json="{}", replay=ProviderReplayMeta(item_id="i")),
            ReasoningOutput(text="d", replay=evolve(SIGNED, origin=THERE)),
            TextOutput(text="e"),
        )
    )
    stamped = stamp_response(answer, HERE)
    metas = [getattr(each, "response_meta", None) or getattr(each, "replay", None) for each in stamped.parts]
    assert [meta and meta.origin for meta in metas] == [HERE, HERE, HERE, THERE, None]
    assert stamp_response(stamped, HERE) is stamped


# ---- flat cost ------------------------------------------------------------------------------------------------------


@pytest.fixture
def rendered(monkeypatch):
    """Ids of messages whose rendering was looked at, in order."""
    seen = []
    real = projection_module.render_message

    def watch(each, first_attachment=0):
        seen.append(each.id)
        return real(each, first_attachment)

    monkeypatch.setattr(projection_module, "render_message", watch)
    return seen


def test_history_is_rendered_once(rendered):
    """Each message is looked at once: not again in the next iteration, nor in the next turn, nor on a fork."""
    projector = ChatProjector()
    base = MessageSequence(user(f"{n}", f"b{n}") for n in range(50))
    first = base.extended([user("one", "u1")])
    projector.project(view(messages=first))
    assert len(rendered) == 51
    second = first.extended([assistant("two", "a1")])
    projector.project(view(messages=second))
    projector.project(view(messages=second))
    assert rendered[51:] == ["a1"]
    fork = first.extended([assistant("other", "a2")])
    projector.project(view(messages=fork))
    assert rendered[52:] == ["a2"]
    projector.project(view(messages=base))
    assert len(rendered) == 53


def test_the_same_objects_come_back():
    """Requests of one conversation share their messages, the system prompt and the news: providers cache in them."""
    turn = machine(given=start(user("hi"), turn_causes=(cause("e1"),)), system_prompt="Be kind.")
    host = ScriptedHost()
    first = host.run(turn, until=LlmCall).effects[-1].request
    again = ChatProjector().project(
        view(messages=turn.messages, system_prompt="Be kind.", turn_causes=turn.turn_causes)
    )
    assert len(first.messages) == 3
    assert all(a is b for a, b in zip(first.messages, again.messages, strict=True))
    assert project(*turn.messages).messages[1] is first.messages[1]


def test_shorter_views_of_a_longer_history_are_right():
    """A sequence that others have continued shows its own messages and attachments only."""
    picture = message("m", USER, part(PartKind.IMAGE, attachment=PICTURE))
    base = MessageSequence([user("hi")])
    longer = base.extended([picture, assistant("nice")])
    whole = ChatProjector().project(view(messages=longer))
    short = ChatProjector().project(view(messages=base))
    assert (len(whole.messages), len(whole.attachments)) == (3, 1)
    assert (len(short.messages), len(short.attachments)) == (1, 0)
