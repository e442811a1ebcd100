"""The two hooks: what is decided before a call, and what is learnt from what a person said about it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
from attrs import evolve

from lash_hookspecs.costs import Cost
from lash_hookspecs.directives import DenyToolCall, EmitEvents, EmitTrace, SurfaceEvent
from lash_hookspecs.questions import ALLOW, DENY, AskPerson, PersonAnswer, PersonChoice
from lash_hookspecs.tool_contexts import AnsweredContext, BeforeToolCallContext, ToolHookContext
from lash_plugin_approval import project
from lash_plugin_approval.calls import Facts, leaves, places
from lash_plugin_approval.options import ApprovalOptions, Remembered
from lash_plugin_approval.rules import Ruled, ruled

__all__ = ["decide", "facts_of", "learn"]

log = logging.getLogger("lash.approval")

SAME, TOOL, PROJECT = "same", "tool", "project"
"""What may be said besides `allow` and `deny`."""

REMEMBERED = 500
"""How many calls, and how many tools, a session remembers; the oldest is asked about again."""


NOTHING = Cost()

LEADS = 10
"""So many paths that lead elsewhere than they say are told of."""


async def decide(ctx: BeforeToolCallContext) -> list[Any]:
    """What the rules, and what a person said before, make of the call."""
    options: ApprovalOptions = ctx.options
    spent = NOTHING
    if any(each.spent_above is not None for each in options.rules):
        spent = (await ctx.sessions.snapshot_current()).state.token_usage.cost
    facts = facts_of(ctx, spent)
    found = ruled(options, facts)
    if found.decision == "ask" and found.always and (by := await _known(ctx, facts, found)) is not None:
        found = evolve(found, decision="allow", rule=by)
    told = {"tool": facts.tool, "owner": facts.owner, "call_id": ctx.call_id}
    trace = EmitTrace("decided", {**told, "decision": found.decision, "rule": found.rule})
    why = f" ({found.reason})" if found.reason else ""
    match found.decision:
        case "allow":
            return [trace]
        case "deny":
            text = f"`{facts.tool}` may not be called so: rule `{found.rule}` of the approvals denies it{why}"
            return [trace, DenyToolCall(text, code="denied_by_rule")]
    asked = SurfaceEvent(name="approval.asked", payload={**told, "rule": found.rule})
    return [trace, EmitEvents((asked,)), _question(options, facts, found, why)]


async def learn(ctx: AnsweredContext, answer: PersonAnswer) -> list[Any]:
    """Remember what is to be asked no more: exactly what the person was shown, and only if they allowed it."""
    facts, state = facts_of(ctx), ctx.state
    told = {"tool": facts.tool, "owner": facts.owner, "call_id": ctx.call_id, "choice": answer.choice}
    said: list[Any] = [EmitTrace("answered", told)]
    if not answer.allows or answer.choice is None:
        return said
    memo = json.loads(answer.memo)
    tools = {TOOL: [f"{facts.owner}:{facts.tool}"], **memo["groups"]}.get(answer.choice, ())
    if new := [f"{tool}:{rule}" for tool in tools for rule in memo["asking"]]:
        ctx.set_state(evolve(state, tools=_with(state.tools, *new)))
    if answer.choice in (SAME, PROJECT):
        ctx.set_state(evolve(state, calls=_with(state.calls, facts.digest)))
    if answer.choice == PROJECT:
        try:
            await anyio.to_thread.run_sync(project.add, ctx.options.root, facts.owner, facts.tool, facts.args)
        except OSError as error:
            text = f"allowed in this session only: {error.strerror or error}"
            log.warning("%s: %s", project.file_of(ctx.options.root), text)
            said.append(EmitEvents((SurfaceEvent(name="approval.not_written", payload={**told, "why": text}),)))
    return said


def facts_of(ctx: ToolHookContext, spent: Cost = NOTHING) -> Facts:
    """The call, as it stands."""
    options: ApprovalOptions = ctx.options
    found = leaves(ctx.args)
    return Facts(
        tool=ctx.tool_name,
        owner=ctx.tool_owner,
        effect=ctx.manifest.effect.value,
        args=ctx.args,
        leaves=found,
        places=places(found, options.path_arguments, str(Path(options.root).absolute())),
        spent=float(spent.usd),
        at_least=spent.at_least,
    )


async def _known(ctx: BeforeToolCallContext, facts: Facts, found: Ruled) -> str | None:
    """Why it needn't be asked: a person said so before, in this session or in this project."""
    state: Remembered = ctx.state
    if found.asking and all(f"{facts.owner}:{facts.tool}:{rule}" in state.tools for rule in found.asking):
        return "the tool, in this session"
    if facts.digest in state.calls:
        return "the same call, in this session"
    if _has_project(ctx.options):
        root = ctx.options.root
        if await anyio.to_thread.run_sync(project.allows, root, facts.owner, facts.tool, facts.args):
            return "the same call, in this project"
    return None


def _question(options: ApprovalOptions, facts: Facts, found: Ruled, why: str) -> AskPerson:
    leads = [f"`{each.argument}` is {json.dumps(each.real)}" for each in facts.places if each.real != each.written]
    if len(leads) > LEADS:
        leads = [*leads[:LEADS], f"(and {len(leads) - LEADS} more lead elsewhere)"]
    rules = f"Rules `{found.rule}` ask" if len(found.asking) > 1 else f"Rule `{found.rule}` asks"
    text = f"May `{facts.tool}` of plugin `{facts.owner}` be called? {rules}{why}."
    groups = {name: tools for name, tools in options.groups.items() if f"{facts.owner}:{facts.tool}" in tools}
    more = [
        PersonChoice(choice_id=SAME, text="this call, and the very same again in this session", allows=True),
        _for_several(TOOL, [facts.tool]),
        *(_for_several(name, [each.partition(":")[2] for each in tools]) for name, tools in groups.items()),
    ]
    if _has_project(options):
        text_of = "this call, and the very same in every session here (kept in your user folder, not in the project)"
        more.append(PersonChoice(choice_id=PROJECT, text=text_of, allows=True))
    choices = (ALLOW, *(more if found.always else ()), DENY)
    memo = json.dumps({"asking": found.asking, "groups": groups})
    return AskPerson(" ".join([text, *leads]), choices, options.timeout_s, memo)


def _has_project(options: ApprovalOptions) -> bool:
    return options.project and project.can_be_kept() and project.is_kept_apart(options.root)


def _for_several(choice_id: str, tools: Sequence[str]) -> PersonChoice:
    names = " and ".join(f"`{each}`" for each in tools)
    return PersonChoice(
        choice_id=choice_id, text=f"every call of {names} in this session, unless another rule asks", allows=True
    )


def _with(known: tuple[str, ...], *new: str) -> tuple[str, ...]:
    return (*(each for each in known if each not in new), *new)[-REMEMBERED:]
