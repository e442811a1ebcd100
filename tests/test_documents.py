"""Documents that a user sends or a tool returns: to the model that takes them, and what is said where none does."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from agents import agent, plugin
from attrs import evolve
from wires_kit import anthropic_text, gemini_text, over, responses_text

from lash_framework import Lash
from lash_framework.budget import request_tokens
from lash_hookspecs import (
    AttachmentRef,
    ConfigurationError,
    DocumentRefItem,
    EnqueueMessages,
    ProviderFailureKind,
    Stopped,
    StopReason,
    ToolCallOutput,
    ToolCallSuccess,
    TurnInput,
    attachment_id,
    tool,
)
from lash_hookspecs.llm_messages import ImageBlock, LlmMessage, LlmRole, TextBlock, ToolResultBlock
from lash_hookspecs.testing.provider.server import WireServer
from lash_plugin_provider_scripted import ScriptedProvider
from lash_plugin_provider_scripted.script import Call, Reply

PDF = b"%PDF-1.7\n" + bytes(range(256))
READ = TurnInput.text("What does it say?").with_document("report", PDF)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (TurnInput.text("x").with_document("d", b"no PDF at all"), "document `d` is no PDF"),
        (TurnInput.text("x").with_document("d", b""), "document `d` is empty"),
        (TurnInput.text("x").with_document("d", PDF, "PDF"), "no media type"),
        (TurnInput.text("x").with_document("d", PDF, "application/pdf; q=1"), "no media type"),
        (TurnInput.text("x").with_document("d", PDF, "image/png"), "with_image"),
        (TurnInput(items=(DocumentRefItem("d"),)), "document `d` has no bytes"),
        (TurnInput(items=READ.items[:1], document_blobs={"d": PDF}), "document `d` is in no item"),
        (READ.with_image("report", b"\x89PNG\r\n\x1a\n"), "an image and a document"),
    ],
)
async def test_what_is_no_document_is_refused_before_the_turn(given: TurnInput, why: str) -> None:
    async with agent(["never"]) as lash:
        with pytest.raises(ConfigurationError, match=why):
            await (await lash.session()).run(given)


async def test_a_document_reaches_the_model_in_its_turn_in_later_ones_and_in_another_process(tmp_path: Path) -> None:
    """It was refused as no image; one that a tool returned was told as text."""
    model, store = ScriptedProvider(lambda request: "It says a lot."), f"sqlite:///{tmp_path / 'a.db'}"
    csv = TurnInput.text("and this?").with_document("table", b"a,b\n1,2\n", "text/csv")
    async with agent(model, store=store) as lash:
        session = await lash.session("s")
        await session.run(READ, turn_id="t1")
        assert await session.run(READ, turn_id="t1")  # the same question
        await session.run(csv)
    async with agent(model, store=store) as lash:
        await (await lash.session("s")).run("and?")
    assert len(model.requests) == 3
    for request in model.requests:
        assert request.attachments[0].data == PDF
        text, document = request.messages[1].blocks
        assert text == TextBlock(text="What does it say?")
        assert isinstance(document, ImageBlock)
        assert document.attachment == AttachmentRef(attachment_id(PDF), "application/pdf", len(PDF))
    assert model.requests[-1].attachments[1].reference.media_type == "text/csv"


async def test_a_document_that_waits_in_the_inbox_is_there_when_its_turn_runs() -> None:
    model = ScriptedProvider(lambda request: "read")
    async with agent(model) as lash:
        session = await lash.session("s")
        await session.enqueue(READ)
        await session.run("and?")
    assert any(each.data == PDF for request in model.requests for each in request.attachments)


# ---- on the wires


DATA = b64encode(PDF).decode()
WIRES = {
    "anthropic:claude-opus-5-5": (
        anthropic_text,
        lambda sent: sent["messages"][0]["content"][1],
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": DATA},
            "cache_control": {"type": "ephemeral"},
        },
    ),
    "openai:gpt-5": (
        responses_text,
        lambda sent: {name: value for name, value in sent["input"][0]["content"][1].items() if name != "filename"},
        {"type": "input_file", "file_data": f"data:application/pdf;base64,{DATA}"},
    ),
    "google:gemini-3.8-flash": (
        gemini_text,
        lambda sent: sent["contents"][0]["parts"][1],
        {"inlineData": {"mimeType": "application/pdf", "data": DATA}},
    ),
}


@pytest.mark.parametrize("model", WIRES)
async def test_a_document_of_a_session_is_on_the_wire(model: str) -> None:
    answer, found, wanted = WIRES[model]
    with WireServer(answer()) as server:
        settings = over(server, model.partition(":")[0])
        async with Lash.open("sqlite://", model=model, settings=settings) as lash:
            turn = await (await lash.session()).run(READ)
        assert turn.text == "Read.", turn.errors
        (sent,) = server.requests
    assert found(sent.json) == wanted


@pytest.mark.parametrize("notes", [False, True])
async def test_a_wire_without_documents_refuses_a_user_s_before_anything_is_sent(notes: bool) -> None:
    """The turn ends typed and explained, and is paid for by nobody; the session goes on without the document.

    Also where a plugin says something behind the user, which is told in a user's role.
    """

    async def lash_before_turn(ctx: Any) -> Any:
        return [EnqueueMessages.note("It rains.")] if notes else []

    with WireServer() as server:
        settings = over(server, "openai-chat")
        said = [plugin("weather", lash_before_turn)]
        async with Lash.open("sqlite://", model="openai-chat:m", settings=settings, plugins=said) as lash:
            session = await lash.session()
            turn = await session.run(READ)
            assert server.requests == []
            await session.run("Never mind.")
        assert b"An attachment that this model doesn't take: application/pdf" in server.requests[0].body
    assert turn.outcome == Stopped(StopReason.PROVIDER_ERROR)
    (issue,) = turn.errors
    assert (issue.code, issue.provider_failure_kind) == (
        "unsupported_attachment_capability",
        ProviderFailureKind.VALIDATION,
    )
    assert "application/pdf" in issue.message


class Reader(ScriptedProvider):
    """A model of which it is known whether it takes documents."""

    def __init__(self, documents: bool | None) -> None:
        super().__init__([Reply(tool_calls=[Call("scan")]), "Read.", "Read again."])
        self._capability = evolve(self._capability, documents=documents)


@pytest.mark.parametrize("documents", [True, None, False])
async def test_a_document_of_a_tool_is_shown_or_only_named_where_the_model_takes_none(documents: bool | None) -> None:
    """A tool can't know the model. Refused, its result would be so in every later call, and end the conversation."""
    kept: list[AttachmentRef] = []

    @tool
    async def scan() -> ToolCallOutput:
        """Scan it."""
        return ToolCallOutput(ToolCallSuccess("scanned", tuple(kept)))

    model = Reader(documents)
    async with agent(model, tools=[scan]) as lash:
        kept.append(await lash.store.put_blob(PDF, "application/pdf"))
        session = await lash.session()
        assert (await session.run("scan it")).text == "Read."
        assert (await session.run("and again")).text == "Read again."
    for request in model.requests[1:]:
        result, shown = request.messages[3].blocks
        assert isinstance(result, ToolResultBlock)
        if documents is False:
            assert isinstance(shown, TextBlock)
            assert "application/pdf" in shown.text
        else:
            assert isinstance(shown, ImageBlock)
            assert request.attachments[0].data == PDF


def test_a_document_weighs_more_than_an_image_in_a_budget() -> None:
    """Its pages are read by the model, and there may be many."""

    def tokens(media_type: str, size: int) -> int:
        block = ImageBlock(attachment_idx=0, attachment=AttachmentRef("sha256:x", media_type, size))
        return request_tokens([LlmMessage(LlmRole.USER, (block,))])

    assert tokens("image/png", 4_000_000) == tokens("application/pdf", 100) == 1_000
    assert tokens("application/pdf", 4_000_000) == 100_000
