"""The hash of what is asked: the same for the same question, in every process, and as cheap as what is new in it."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from asked_kit import ASKED, START, tool_call
from attrs import evolve
from hypothesis import given, strategies as st

from lash_framework import envelope_hash, message_chain
from lash_framework.envelope_hash import EnvelopeHasher
from lash_framework.message_chain import message_digest
from lash_hookspecs import (
    AttachmentRef,
    AwaitEventCommand,
    CheckpointCommand,
    CheckpointKind,
    CustomWait,
    DirectCommand,
    EngineInput,
    ExecCodeCommand,
    ExternalInput,
    GenerationOptions,
    ImageBlock,
    InProcess,
    InTurn,
    JsonObjectOutput,
    LlmAttachment,
    LlmCallCommand,
    LlmMessage,
    LlmMessages,
    LlmRequest,
    LlmRole,
    LlmToolChoice,
    LlmToolSpec,
    MessageRun,
    OnUnknown,
    ProcessAwait,
    ProcessCancel,
    ProcessCommand,
    ProcessOperation,
    ProcessRecovery,
    ProcessSignal,
    ProcessTransfer,
    PromptPiece,
    ProviderReplayMeta,
    RenderedPrompt,
    SessionPolicy,
    SignalWait,
    SleepCommand,
    SyncEnvironmentCommand,
    TextBlock,
    ToolCallBlock,
    ToolCallInput,
    ToolCompletionWait,
    ToolEffect,
    ToolManifest,
    ToolResultBlock,
    ToolSetRecord,
    TurnCancelWait,
    TurnStartCommand,
    TurnStartOutcome,
    TurnTerminalWait,
    WaitKey,
    content_hash,
    llm_text,
)

REFERENCE = AttachmentRef(id="sha256:" + "0" * 64, media_type="image/png", size=3)
REPLAY = ProviderReplayMeta(item_id="i")
SPEC = LlmToolSpec(name="add", description="Add.", input_schema={"type": "object"})


def history(length: int) -> list[LlmMessage]:
    roles = (LlmRole.USER, LlmRole.ASSISTANT)
    return [llm_text(roles[at % 2], f"message {at}") for at in range(length)]


def request(messages: Any = (), **given: Any) -> LlmCallCommand:
    return LlmCallCommand("p", LlmRequest(model="m", messages=messages, **given))


def hash_of(command: Any) -> str:
    return EnvelopeHasher().ask(command).hash


# ---- what enters ----------------------------------------------------------------------------------------------------

BASE = request(history(3), tools=(SPEC,))
OTHERS: dict[str, Any] = {
    "provider": LlmCallCommand("q", BASE.request),
    "model": LlmCallCommand("p", evolve(BASE.request, model="n")),
    "variant": LlmCallCommand("p", evolve(BASE.request, model_variant="high")),
    "choice": LlmCallCommand("p", evolve(BASE.request, tool_choice=LlmToolChoice.NONE)),
    "generation": LlmCallCommand("p", evolve(BASE.request, generation=GenerationOptions(seed=1))),
    "output": LlmCallCommand("p", evolve(BASE.request, output_spec=JsonObjectOutput())),
    "message": request([*history(2), llm_text(LlmRole.USER, "another")], tools=(SPEC,)),
    "role": request([*history(2), llm_text(LlmRole.ASSISTANT, "message 2")], tools=(SPEC,)),
    "fewer": request(history(2), tools=(SPEC,)),
    "order": request(history(3)[::-1], tools=(SPEC,)),
    "prompt": request([llm_text(LlmRole.SYSTEM, "Be brief."), *history(3)], tools=(SPEC,)),
    "tool": LlmCallCommand("p", evolve(BASE.request, tools=(evolve(SPEC, description="Sum."),))),
    "tools": LlmCallCommand("p", evolve(BASE.request, tools=())),
    "attachment": LlmCallCommand("p", evolve(BASE.request, attachments=(LlmAttachment(reference=REFERENCE),))),
    "direct": DirectCommand("p", BASE.request, ""),
}


def test_whatever_is_asked_otherwise_has_another_hash() -> None:
    hashes = {name: hash_of(command) for name, command in {**OTHERS, "base": BASE}.items()}
    assert len(set(hashes.values())) == len(hashes)


OPERATIONS: list[ProcessOperation] = [
    evolve(START, process_id="q"),
    evolve(START, input=EngineInput("e", {"n": 2})),
    evolve(START, input=EngineInput("f", {"n": 1})),
    evolve(START, input=ExternalInput()),
    evolve(START, input=ToolCallInput(tool_call(ToolEffect.PURE).call)),
    evolve(START, recovery=ProcessRecovery.OWNER_BOUND),
    evolve(START, max_attempts=3),
    ProcessAwait("p"),
    ProcessCancel("p"),
    ProcessCancel("p", "late"),
    ProcessSignal(process_id="p", signal_name="go", signal_id="1"),
    ProcessSignal(process_id="p", signal_name="go", signal_id="1", payload=1),
    ProcessTransfer(from_session="s", to_session="t", process_ids=("p", "q")),
    ProcessTransfer(from_session="s", to_session="t", process_ids=("q", "p")),
]
WAITS = [
    WaitKey(InTurn("s", "u"), ToolCompletionWait("c")),
    WaitKey(InTurn("s", "t"), CustomWait("c")),
    WaitKey(InTurn("s", "t"), TurnCancelWait()),
    WaitKey(InTurn("s", "t"), TurnTerminalWait()),
    WaitKey(InProcess("p"), CustomWait("c")),
    WaitKey(InProcess("p"), SignalWait("go", 1)),
    WaitKey(InProcess("p"), SignalWait("go", 2)),
]
COMMANDS = [
    *(command for command, _ in ASKED.values()),
    TurnStartCommand("other"),
    DirectCommand("p", LlmRequest(model="m", messages=()), "other"),
    tool_call(ToolEffect.UNSAFE),
    ExecCodeCommand("python", "2"),
    ExecCodeCommand("lua", "1"),
    CheckpointCommand(CheckpointKind.BEFORE_COMPLETION),
    SyncEnvironmentCommand(False),
    SleepCommand(6),
    *map(ProcessCommand, OPERATIONS),
    *map(AwaitEventCommand, WAITS),
]


def test_every_kind_has_a_hash_of_all_its_fields_and_digests_beside_it() -> None:
    asked = [EnvelopeHasher().ask(command) for command in COMMANDS]
    assert len({each.hash for each in asked}) == len(COMMANDS)
    assert all(each.digests for each in asked)


@pytest.mark.statement(7, page="effects")
def test_bytes_memos_and_the_policy_after_a_crash_never_enter() -> None:
    """Neither bytes of attachments nor what callers keep beside a message are hashed."""
    named = evolve(BASE.request, attachments=(LlmAttachment(reference=REFERENCE),))
    loaded = evolve(BASE.request, attachments=(LlmAttachment(reference=REFERENCE, data=b"png"),))
    assert hash_of(LlmCallCommand("p", named)) == hash_of(LlmCallCommand("p", loaded))
    before = hash_of(BASE)
    for message in BASE.request.messages:
        message.memo["wire"] = object()
    assert hash_of(BASE) == before
    assert hash_of(tool_call(ToolEffect.UNSAFE)) == hash_of(tool_call(ToolEffect.UNSAFE, OnUnknown.WAIT))
    started = [
        ProcessCommand(evolve(START, input=ToolCallInput(tool_call(ToolEffect.UNSAFE, policy).call)))
        for policy in OnUnknown
    ]
    assert len({hash_of(each) for each in started}) == 1


def test_one_text_has_one_digest_whichever_class_and_length_it_is_of() -> None:
    for text in ("", "a", "é\ud83d", "x" * 5000):
        fast, plain = llm_text(LlmRole.USER, text), LlmMessage(LlmRole.USER, (TextBlock(text=text),))
        assert message_digest(fast) == message_digest(plain)
    marked = LlmMessage(LlmRole.USER, (TextBlock(text="a", cache_breakpoint=True),))
    assert message_digest(marked) != message_digest(llm_text(LlmRole.USER, "a"))
    assert message_digest(llm_text(LlmRole.USER, "a\nb")) != message_digest(llm_text(LlmRole.USER, "a\n b"))


def test_messages_that_say_something_else_are_another_chain() -> None:
    """Whatever is in them, also what looks like the chain's own marks, and what JSON has no bytes for."""
    texts = ("", "a", 'a"', "a,", '","', "\n", "é\ud83d", "é\ud83e", "x" * 5000, "x" * 5001)
    said: list[list[LlmMessage]] = [[], [llm_text(LlmRole.USER, "a,a")]]
    for role in (LlmRole.USER, LlmRole.ASSISTANT):
        said += [[llm_text(role, text)] for text in texts]
        said += [[llm_text(role, "a"), llm_text(role, text)] for text in texts]
        for name, text in (("a", "b"), ("ab", ""), ("", "ab"), ("b", "a")):
            said.append([LlmMessage(role, (ToolCallBlock(call_id="c", tool_name=name, input_json=text),))])
            said.append([LlmMessage(role, (ToolResultBlock(call_id="c", tool_name=name, content=text),))])
        said.append([LlmMessage(role, (ToolResultBlock(call_id="c", content="b"),))])
        said.append([LlmMessage(role, (ToolCallBlock(call_id="c", tool_name="a", input_json="b", replay=REPLAY),))])
    assert len({hash_of(request(each)) for each in said}) == len(said)
    for each in said:
        alone = LlmMessages([MessageRun((message,)) for message in each])
        plain = [LlmMessage(message.role, message.blocks) for message in each]
        assert hash_of(request(alone)) == hash_of(request(each)) == hash_of(request(plain))


@given(st.lists(st.integers(0, 7), max_size=5), st.booleans())
def test_how_messages_are_split_into_runs_makes_no_difference(sizes: list[int], prompt: bool) -> None:
    image = LlmMessage(LlmRole.USER, (ImageBlock(attachment_idx=0, attachment=REFERENCE),))
    call = LlmMessage(LlmRole.ASSISTANT, (ToolCallBlock(call_id="c", tool_name="add", input_json="{}"),))
    messages = [llm_text(LlmRole.SYSTEM, "Be brief.")] if prompt else []
    messages += [*history(sum(sizes)), image, call]
    runs, at = [], 0
    for size in [*sizes, len(messages)]:
        runs.append(MessageRun(tuple(messages[at : at + size])))
        at += size
    split = LlmMessages(runs)
    assert hash_of(request(split)) == hash_of(request(messages))
    assert hash_of(request(split)) == hash_of(request(messages))  # from the memos


def test_a_run_behind_another_prompt_or_another_run_is_hashed_anew() -> None:
    shared = MessageRun(tuple(history(4)))
    ahead = MessageRun((llm_text(LlmRole.USER, "first"),))
    prompt = MessageRun((llm_text(LlmRole.SYSTEM, "Be brief."),))
    orders = [[shared], [ahead, shared], [prompt, shared], [prompt, ahead, shared], [shared, shared], [shared]]
    news = [MessageRun((llm_text(LlmRole.USER, text),)) for text in ("one", "two")]
    for runs in [*orders, [shared, news[0]], [shared, news[1]], [shared, *news]]:
        assert hash_of(request(LlmMessages(runs))) == hash_of(request([m for run in runs for m in run.messages]))


def test_a_request_that_was_hashed_can_still_be_copied() -> None:
    before = hash_of(BASE)
    assert hash_of(copy.deepcopy(BASE)) == before


def test_the_hash_is_the_same_in_another_process() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_journal_hash import *\n"
        "print(','.join(map(hash_of, [*COMMANDS, *OTHERS.values()])))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    given = [sys.executable, "-c", code, str(Path(__file__).parent)]
    found = subprocess.run(given, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert found == ",".join(map(hash_of, [*COMMANDS, *OTHERS.values()]))


HASHES = {
    "turn_start": "6cc6d009362b0c1f",
    "turn_end": "fe1d8f9005d47a38",
    "llm_call": "7f299a95af124329",
    "assistant_response": "1533a18a0bf0d53c",
    "direct": "aa548b7a31d9a85d",
    "tool_call": "abf9a84b56bae810",
    "tool_hooks": "08703b20061739b3",
    "exec_code": "3bd5edfcc46acb2e",
    "checkpoint": "cd5ea580fa68b32f",
    "compact": "ab10dedbc4e393b7",
    "sync_execution_environment": "b1ddd3bfa3cbd211",
    "sleep": "e4bb805ea7effe5e",
    "process": "8fdfd5a52b4a2d16",
    "await_event": "d0848616133116c5",
}


def test_hashes_are_those_that_journals_hold_already() -> None:
    """Whoever changes one makes each unfinished turn of the version before a mismatch: the changelog must say so."""
    assert {kind: hash_of(command)[:16] for kind, (command, _) in ASKED.items()} == HASHES
    assert hash_of(BASE)[:16] == "6ca867921ab8025e"


# ---- what it costs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [10, 100, 1000, 10_000])
def test_a_request_costs_the_digests_of_what_is_new_in_it(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def counted(function: Any) -> Any:
        def call(message: LlmMessage) -> Any:
            nonlocal made
            made += 1
            return function(message)

        return call

    monkeypatch.setattr(message_chain, "_token", counted(message_chain._token))
    monkeypatch.setattr(envelope_hash, "message_digest", counted(message_digest))
    hasher, old = EnvelopeHasher(), MessageRun(tuple(history(length)))

    def ask(prompt: str, *news: str) -> Any:
        nonlocal made
        system = MessageRun((llm_text(LlmRole.SYSTEM, prompt),))
        new = MessageRun(tuple(llm_text(LlmRole.USER, each) for each in news))
        asked, before = hasher.ask(request(LlmMessages([system, old, new]))), made
        assert asked.digests
        return asked, before

    ask("Be brief.", "one")
    made = 0
    # The prompt, and three messages; then the two that are new since the request before have digests of their own.
    asked, hashed = ask("Be briefer.", "one", "two", "three")
    assert hashed == 4
    assert made == 6
    assert [path for path in asked.digests if path.startswith("messages/")] == [
        f"messages/{length + 2}",
        f"messages/{length + 3}",
        "messages/all",
    ]


def test_long_messages_are_hashed_once_and_short_ones_keep_no_memo() -> None:
    long, short = llm_text(LlmRole.USER, "x" * 5000), llm_text(LlmRole.USER, "x")
    hash_of(request([long, short]))
    assert long.memo
    assert not short.memo


def test_a_tool_is_hashed_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = evolve(SPEC, name="once")
    hash_of(request(tools=(spec,)))
    monkeypatch.setattr(envelope_hash, "_SPECS_KEPT", 0)
    assert envelope_hash._spec_digest(spec) == envelope_hash._spec_digest(spec)
    assert envelope_hash._spec_digest(evolve(spec)) == envelope_hash._spec_digest(spec)  # the table was emptied


# ---- digests --------------------------------------------------------------------------------------------------------


def piece(owner: str, text: str, start: int) -> PromptPiece:
    return PromptPiece(
        owners=(owner,), start=start, end=start + len(text), sha256=content_hash(text.encode()), section="Guidance"
    )


def test_digests_name_the_owner_of_each_piece_of_the_prompt_and_of_each_tool() -> None:
    texts = [("mine", "Be kind."), ("yours", "Be brief."), ("mine", "Be quick.")]
    pieces = tuple(piece(owner, text, 0) for owner, text in texts)
    prompt = RenderedPrompt(text="Be kind.\nBe brief.\nBe quick.", pieces=pieces)
    hasher = EnvelopeHasher({"add": "mine"})
    hasher.note_prompt(prompt)
    asked = hasher.ask(request([llm_text(LlmRole.SYSTEM, prompt.text), *history(1)], tools=(SPEC,)))
    hasher.note_prompt(RenderedPrompt())  # what comes later changes nothing
    named = {path for path in asked.digests if "@" in path}
    assert named == {"prompt/Guidance/1@mine", "prompt/Guidance/1@yours", "prompt/Guidance/2@mine", "tools/add@mine"}
    assert asked.digests["prompt/Guidance/1@mine"] == content_hash(b"Be kind.")[:12]


def test_digests_name_the_owner_of_connected_tools_too() -> None:
    """The composition doesn't know them: the record of the turn's start does."""
    hasher = EnvelopeHasher({"sub": "mine"})
    offered = tuple(ToolManifest(name=name) for name in ("add", "sub"))
    toolset = ToolSetRecord(plugin_id="remote", name="calc", tools=offered)
    hasher.note(TurnStartOutcome(started_at_ms=1, policy=SessionPolicy(model="test:model"), toolsets=(toolset,)))
    asked = hasher.ask(request(history(1), tools=(SPEC, evolve(SPEC, name="sub"))))
    assert {path for path in asked.digests if "@" in path} == {"tools/add@remote", "tools/sub@mine"}


def test_a_prompt_that_nobody_rendered_has_one_digest() -> None:
    digests = EnvelopeHasher().ask(request([llm_text(LlmRole.SYSTEM, "Be brief.")])).digests
    assert [path for path in digests if path.startswith("prompt")] == ["prompt"]


def test_a_call_has_a_digest_for_each_argument() -> None:
    command = tool_call(ToolEffect.PURE)
    digests = EnvelopeHasher().ask(evolve(command, call=evolve(command.call, args={"a": 1, "b": {"c": 2}}))).digests
    assert {"args/a", "args/b", "call_id", "tool_name@bank", "effect@bank", "plugin_id@bank"} <= digests.keys()
    assert all(len(each) == 12 for each in digests.values())
