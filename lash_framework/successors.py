"""Sessions that a turn makes with its commit, the one that it is handed to among them; and following such turns.

What is made follows from the turn's records alone: directives of hooks, controls of its calls, and how it ended. Its
first input is an item of its inbox, written with the commit: whoever opens it, or follows the turn, goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attrs import evolve

from lash_framework.accepted import TurnRequest
from lash_framework.arguments import check_given
from lash_framework.budget import require_prices
from lash_framework.forking import require_forks
from lash_framework.inputs import input_hash
from lash_framework.providers import split_model
from lash_framework.recorded_only import RecordedOnly
from lash_hookspecs.codec import decode, encode
from lash_hookspecs.errors import CodecError, ConfigurationError, LashError, PluginError
from lash_hookspecs.forks import NewSession
from lash_hookspecs.handoffs import CreateSession, HandoffSession, child_session_id, first_turn_id, handoff_to
from lash_hookspecs.inbox import NewInboxItem
from lash_hookspecs.sessions import AssembledTurn, FollowedTurn, SessionPolicy, TextItem, TurnInput
from lash_hookspecs.turn_outcomes import Handoff
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.lash import Lash
    from lash_framework.turn import TurnRun

__all__ = ["MOST_HANDOFFS", "follow", "new_sessions", "refuse_unfit"]

MOST_HANDOFFS = 16
"""How many are followed, one after the other, unless said otherwise."""


@frozen
class _Wanted:
    """A session that is to be made: who wants it, what it is, its id, and what it is told in which turn.

    `owner` is whom its ids follow from: the plugin, or the tool's call.
    """

    plugin_id: str
    owner: str
    wish: CreateSession
    task: str | None

    def id(self, session_id: str, turn_id: str) -> str:
        return self.wish.session_id or child_session_id(session_id, turn_id, self.owner, self.wish.key)

    def turn_id(self, session_id: str, turn_id: str) -> str:
        return first_turn_id(session_id, turn_id, self.owner, self.wish.key)

    def contradicts(self, other: _Wanted) -> bool:
        """Whether one turn, that has its id of both, would be told different things."""
        return None not in (self.task, other.task) and self.task != other.task


def _wanted(plugin_id: str, owner: str, asked: CreateSession | HandoffSession) -> _Wanted:
    if isinstance(asked, HandoffSession):
        return _Wanted(plugin_id, owner, asked.create, asked.task)
    return _Wanted(plugin_id, owner, asked, asked.task)


# ---- what can't be done ---------------------------------------------------------------------------------------------


def refuse_unfit(
    lash: Lash, policy: SessionPolicy, session_id: str, plugin_id: str, asked: CreateSession | HandoffSession
) -> None:
    """Raise `PluginError` for what can't be made here: no such mode or model, no store or journal for it."""
    name = type(asked).__name__
    wanted = _wanted(plugin_id, plugin_id, asked)
    try:
        _policy(lash, policy, wanted)
        require_forks(lash, f"`{name}`")
        if wanted.task is not None:
            lash.require_journal(f"`{name}` with a task")
    except LashError as error:
        raise PluginError(plugin_id, name, str(error)) from error
    if wanted.wish.session_id == session_id:
        raise PluginError(plugin_id, name, f"session `{session_id}` is the turn's own: enqueue messages instead")
    if wanted.wish.session_id is not None and not wanted.wish.session_id.strip():
        raise PluginError(plugin_id, name, "the session id is blank")
    if not wanted.wish.key.strip():
        raise PluginError(plugin_id, name, "the key is blank; it tells apart what a plugin makes in a turn")


def _policy(lash: Lash, base: SessionPolicy, wanted: _Wanted) -> SessionPolicy:
    """How the session runs. Raises `ConfigurationError` for a mode or a model that isn't there."""
    policy, wish = base, wanted.wish
    if wish.mode_id is not None and wish.mode_id != base.mode_id:
        policy = evolve(policy, mode_id=wish.mode_id, options={}, extension=None)  # which are the other mode's
    if wish.model is not None:
        policy = evolve(policy, model=wish.model, model_variant=None)
    if wish.max_turns is not None:
        policy = evolve(policy, max_turns=wish.max_turns)
    if wish.instructions is not None:
        policy = policy.with_instructions(wish.instructions, wanted.plugin_id)
    lash.host.composition(policy.mode_id)
    split_model(policy.model, lash.host.providers)
    return policy


def _require_prices(lash: Lash, policy: SessionPolicy) -> None:
    """Raise `ConfigurationError` for a session that could ask no model: nobody could hold its limit in dollars."""
    provider_id, model = split_model(policy.model, lash.host.providers)
    require_prices(policy.budget, f"{provider_id}:{model}", lash.providers.capability(provider_id, model))


# ---- with the commit ------------------------------------------------------------------------------------------------


async def new_sessions(lash: Lash, run: TurnRun, turn: AssembledTurn, policy: SessionPolicy) -> tuple[NewSession, ...]:
    """What the turn's commit makes. Raises `PluginError` for what can't be made, in the name of who wants it."""
    if run.hook_failed:
        return ()
    here, id = run.plan.session_id, run.plan.turn_id
    said: dict[tuple[str, str], _Wanted] = {}
    made: list[NewSession] = []
    policies: dict[str, SessionPolicy] = {}
    for wanted, asked in _all_wanted(run, turn):
        refuse_unfit(lash, policy, here, wanted.plugin_id, asked)
        session_id = wanted.id(here, id)
        name = session_id, wanted.turn_id(here, id)
        if wanted.contradicts(said.setdefault(name, wanted)):
            text = f"key `{wanted.wish.key}` stands for two different tasks in this turn: give each a `key` of its own"
            raise PluginError(wanted.plugin_id, type(asked).__name__, text)
        try:
            base = policies.get(session_id) or await _base(lash, policy, session_id, asked)
            settled = _policy(lash, base, wanted)
            if not isinstance(run.plan.controller, RecordedOnly):  # else it was made, whatever its model costs by now
                _require_prices(lash, settled)
            policies.setdefault(session_id, settled)
            new = _new_session(lash, run, settled, wanted)
        except (ConfigurationError, CodecError) as error:
            raise PluginError(wanted.plugin_id, type(asked).__name__, str(error)) from error
        if new.item is not None or all(each.session_id != session_id for each in made):
            made.append(new)  # who makes it, and who tells it something, may be several
        if wanted.task is not None:
            said[name] = wanted
    return tuple(made)


def _all_wanted(run: TurnRun, turn: AssembledTurn) -> Iterator[tuple[_Wanted, CreateSession | HandoffSession]]:
    """What is to be made of all that was asked for: of handoffs, the one that the turn ended with."""
    here, id = run.plan.session_id, run.plan.turn_id
    asked: list[tuple[str, str, object]] = [(each.plugin_id, each.plugin_id, each.directive) for each in run.sessions]
    done = [each for each in turn.tool_calls if each.output.is_success]
    asked += [(each.plugin_id or each.tool_name, each.call_id, each.output.control) for each in done]
    handoffs = [
        each
        for each in asked
        if isinstance(each[2], HandoffSession) and turn.outcome == handoff_to(here, id, each[1], each[2])
    ]
    counts = handoffs[-1:]  # which has the last word
    for each in asked:
        plugin_id, owner, wish = each
        if isinstance(wish, CreateSession) or (isinstance(wish, HandoffSession) and each in counts):
            yield _wanted(plugin_id, owner, wish), wish


async def _base(
    lash: Lash, policy: SessionPolicy, session_id: str, asked: CreateSession | HandoffSession
) -> SessionPolicy:
    """What the wish adds to: how a session that is there runs, else how the turn's own does.

    Raises `ConfigurationError` for a handoff to one that was deleted: nobody would go on.
    """
    wish = asked.create if isinstance(asked, HandoffSession) else asked
    if wish.session_id is None:
        return policy
    if await lash.store.session_was_deleted(session_id):
        if wish is not asked:
            raise ConfigurationError(f"session `{session_id}` was deleted, and its id is spent: hand off to another")
        return policy
    head = await lash.store.load_head(session_id)
    return decode(SessionPolicy, head.config) if head is not None and head.config else policy


def _new_session(lash: Lash, run: TurnRun, policy: SessionPolicy, wanted: _Wanted) -> NewSession:
    here, id = run.plan.session_id, run.plan.turn_id
    session_id = wanted.id(here, id)
    item = None
    if wanted.task is not None:
        given = TurnInput(items=(TextItem(wanted.task),), told_by=wanted.plugin_id)
        item = _item(lash, session_id, wanted.turn_id(here, id), given, policy)
    return NewSession(session_id=session_id, config=encode(policy), forks=wanted.wish.fork, item=item)


def _item(lash: Lash, session_id: str, turn_id: str, given: TurnInput, policy: SessionPolicy) -> NewInboxItem:
    request = TurnRequest(turn_id=turn_id, turn_input=given, input_hash=input_hash(given))
    composition = lash.host.composition(policy.mode_id)
    return lash.require_journal("a first turn").item(session_id, request, policy, composition)


# ---- following ------------------------------------------------------------------------------------------------------


async def follow(lash: Lash, turn: AssembledTurn, at_most: int | None) -> FollowedTurn:
    """The turn, and those that it was handed to, each run to its end, or found committed."""
    check_given("the turn to follow", turn, (AssembledTurn, "an `AssembledTurn`, as `session.run` returns it"))
    turns, most = [turn], MOST_HANDOFFS if at_most is None else at_most
    while isinstance(turn.outcome, Handoff) and turn.outcome.turn_id and len(turns) <= most:
        turn = await _first_turn(lash, turn.outcome)
        turns.append(turn)
    return FollowedTurn(tuple(turns))


async def _first_turn(lash: Lash, successor: Handoff) -> AssembledTurn:
    from lash_framework.accepted_job import AcceptedJob  # it knows of turns, and they of us

    session = await lash.session(successor.session_id, recover=False)
    return await AcceptedJob(session._resident, successor.turn_id).run(None)
