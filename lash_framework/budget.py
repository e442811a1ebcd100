"""What a turn may spend: each model call is charged when its answer comes in, and judged before it is made.

The judgement is a part of the call's record, and what is spent is added up from records. So a replay, and whoever goes
on after a crash, decides nothing again, and begins from what was spent before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from lash_hookspecs.canonical import canonical_bytes
from lash_hookspecs.costs import Budget, Cost
from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import LlmCallError, LlmRequest, LlmResponse, TokenUsage
from lash_hookspecs.llm_messages import ImageBlock, LlmMessage
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.models import ModelCapability, ModelPrices
from lash_hookspecs.sessions import AssembledTurn, SessionUsageReport
from lash_hookspecs.turn_events import ChildTokenUsage
from lash_hookspecs.turn_outcomes import OverBudget
from lash_hookspecs.values import frozen, mutable

if TYPE_CHECKING:
    from lash_framework.assembly import TurnAssembler
    from lash_framework.turn_plan import TurnPlan

__all__ = [
    "Need",
    "Payer",
    "TurnBudget",
    "charged",
    "judge",
    "over_budget_error",
    "request_tokens",
    "require_prices",
    "rest",
    "spent",
]

OVER_BUDGET = "over_budget"

_CHARACTERS = 4
"""Of text in a token, about."""
_IMAGE = 1_000
"""Tokens of an image, about; of a document at least."""
_DOCUMENT = 40
"""Bytes of a document for each of its tokens, about: a page has some thousand tokens, and takes as many dozen bytes."""
_NO_PRICES = ModelPrices()
_PICO = 10**12
_NOTHING = TokenUsage()
_OWN = ""
"""The key of the turn's own call, of which there is one at a time."""


@frozen(kw_only=True)
class Need:
    """What a call is expected to need: tokens in, those out that are bounded, and what both cost at most."""

    input: int
    output: int = 0
    picodollars: int = 0


def judge(budget: Budget, before: TokenUsage, here: TokenUsage, need: Need) -> OverBudget | None:
    """Which limit a call would break; `before` is what the session spent until now, and `here` what the turn did."""
    whole = before + here
    for name, usage in (("", here), ("session_", whole)):
        dollars, tokens = getattr(budget, f"{name}max_cost"), getattr(budget, f"{name}max_tokens")
        money = None if dollars is None else Cost.of_usd(dollars).picodollars
        rows = (
            (f"{name}max_cost", money, _at_most(usage), need.picodollars),
            (f"{name}max_tokens", tokens, usage.total, need.input + need.output),
        )
        for limit, allowed, used, next in rows:
            # What is used up is used up, even if the next call should be free.
            if allowed is not None and (used + next > allowed or (used >= allowed and (used or not allowed))):
                return OverBudget(limit=limit, allowed=allowed, spent=used, next=next)
    return None


@mutable(eq=False)
class Payer:
    """Who waits for a turn on another session, and pays for it: the budget that waits, and, once it began, the turn's.

    `begins` is told what was `found` spent of it, before it goes on; `before` is how much of that is paid; `ended` is
    the turn when it is over. Turns that run at the same time share what is left: each of their calls is judged by what
    all have spent until then.
    """

    waits: TurnBudget
    begins: Callable[[TokenUsage], Awaitable[None]]
    before: TokenUsage = _NOTHING
    found: TokenUsage = _NOTHING
    turn: TurnBudget | None = None
    ended: AssembledTurn | None = None

    @property
    def spent(self) -> TokenUsage:
        """What is to be paid until now; how much a call that is under way will cost, nobody knows.

        No less than what was found: the turn may be cut before it is where it had been.
        """
        known = self.found if self.turn is None else self.turn.known
        most = {each: max(getattr(known, each), getattr(self.found, each)) for each in TokenUsage.COUNTERS}
        return rest(evolve(known, at_least=True, **most), self.before)

    @property
    def bound(self) -> TokenUsage:
        """The same with what the calls need that are under way."""
        return _NOTHING if self.turn is None else rest(self.turn.bound, self.before)


class TurnBudget:
    """One turn's. `assembler` knows what its own calls have spent, and `directs` what those of plugins in it did.

    `unanswered` is what a reply has cost that the machine hasn't been given (yet): the turn may end before it is.
    `pays` are the turns on other sessions that this one waits for.
    """

    def __init__(self, plan: TurnPlan, directs: Callable[[], Iterable[ChildTokenUsage]]) -> None:
        limits, said = plan.policy.budget, plan.turn_input.context.budget
        self._limits = limits if said is None or limits is None else said.over(limits)
        self._limits = self._limits or said
        self._plan = plan
        self._directs = directs
        self.assembler: TurnAssembler | None = None
        self.unanswered = _NOTHING
        self.pays: list[Payer] = []
        self._payer = plan.payer
        if self._payer is not None:
            self._payer.turn = self
        self._known: tuple[int, int] | None = None
        self._under_way: dict[str, TokenUsage] = {}

    def answered(self, request: LlmRequest, result: LlmResponse | LlmCallError) -> None:
        """The conversation's next request begins with this one, whose size is known now."""
        self.settled(_OWN)
        if self._limits is not None and result.usage is not None and result.usage.total:
            self._known = len(request.messages), result.usage.total

    def refuse(self, request: LlmRequest, plan: TurnPlan, key: str | None = None) -> OverBudget | None:
        """Why the model of a plan must not be asked this; None: it may be.

        With a `key` others may be asked meanwhile: what it needs counts as spent until it is `settled`.
        """
        if self._limits is None and self._payer is None:
            return None
        require_prices(self._limits, f"{plan.provider_id}:{plan.model}", plan.capability)
        begun = self._known if plan is self._plan else None
        if begun is not None and begun[0] <= len(request.messages):
            input = begun[1] + request_tokens(request.messages[begun[0] :])
        else:
            input = request_tokens(request.messages, request)
        output = request.generation.output_token_cap or 0
        prices = plan.capability.prices or _NO_PRICES
        tier = plan.capability.service_tier
        need = Need(input=input, output=output, picodollars=prices.most(input, output, tier))
        turn: TurnBudget | None = self
        while turn is not None:  # and then those who wait for it, and pay
            refused = turn._judged(need)
            if refused is not None:
                return refused
            turn = None if turn._payer is None else turn._payer.waits
        if key is None and self._payer is not None:
            key = _OWN
        if key is not None:
            self._under_way[key] = TokenUsage(input=input, output=output, picodollars=need.picodollars)
        return None

    def _judged(self, need: Need) -> OverBudget | None:
        """Whether this turn can bear a call, of its own or of one that it waits for."""
        if self._limits is None:
            return None
        before = SessionUsageReport(self._plan.conversation.usage).total
        return judge(self._limits, before, self.bound, need)

    @property
    def known(self) -> TokenUsage:
        """What has been spent in the turn, as far as it is known."""
        own = self.unanswered if self.assembler is None else self.assembler.usage + self.unanswered
        return spent(own, self._directs())

    @property
    def bound(self) -> TokenUsage:
        """What is spent, and what the calls need that are under way, also in the turns that it waits for."""
        here = sum(self._under_way.values(), self.known)
        return sum((each.bound for each in self.pays), here)

    def left(self, paid: TokenUsage = _NOTHING) -> Budget | None:
        """What a turn that this one waits for may spend; None: nothing is limited. Never less than nothing.

        `paid` is what was paid of it before, which it may have spent as well.
        """
        limits = self._limits
        if limits is None:
            return None
        before, here = SessionUsageReport(self._plan.conversation.usage).total, self.bound
        cost = [
            allowed - (_at_most(used) - _at_most(paid)) / _PICO
            for allowed, used in ((limits.max_cost, here), (limits.session_max_cost, before + here))
            if allowed is not None
        ]
        tokens = [
            allowed - used.total + paid.total
            for allowed, used in ((limits.max_tokens, here), (limits.session_max_tokens, before + here))
            if allowed is not None
        ]
        return Budget(
            max_cost=max(0.0, min(cost)) if cost else None, max_tokens=max(0, min(tokens)) if tokens else None
        )

    def settled(self, key: str) -> None:
        """A call is over: what it has cost is known, or never will be."""
        self._under_way.pop(key, None)


def _at_most(usage: TokenUsage) -> int:
    """What it may have cost: what has no price of its own isn't free."""
    return usage.picodollars + usage.unpriced_at_most


def request_tokens(messages: Sequence[LlmMessage], request: LlmRequest | None = None) -> int:
    """About how many tokens these take, and the request's tools: a quarter of their characters."""
    characters = attached = 0
    for message in messages:
        for block in message.blocks:
            if isinstance(block, ImageBlock):
                attached += _attached(block.attachment)
            else:
                texts = (getattr(block, name, "") for name in ("text", "input_json", "tool_name", "content"))
                characters += sum(map(_length, texts))
    if request is not None:
        characters += sum(
            len(each.description) + len(canonical_bytes(dict(each.input_schema))) for each in request.tools
        )
    return -(-characters // _CHARACTERS) + attached


def _attached(reference: AttachmentRef | None) -> int:
    if reference is None or reference.media_type.startswith("image/"):
        return _IMAGE
    return max(_IMAGE, reference.size // _DOCUMENT)


def _length(text: Any) -> int:
    if isinstance(text, str):
        return len(text)
    return sum(_length(getattr(each, "text", "")) for each in text) if isinstance(text, tuple) else 0


def require_prices(budget: Budget | None, model: str, capability: ModelCapability) -> None:
    """Raise `ConfigurationError` where a limit in dollars meets a model whose price isn't known."""
    if budget is None or (budget.max_cost is None and budget.session_max_cost is None):
        return
    known, tier, where = capability.prices, capability.service_tier, ""
    if known is not None and tier is not None:
        known, where = known.tiers.get(tier), f" in the tier `{tier}`"
    if known is None or known.input is None or known.output is None:
        example = "{input = …, output = …}" if not where else f"{{tiers = {{{tier} = {{input = …, output = …}}}}}}"
        raise ConfigurationError(
            f"nobody can hold `max_cost` with model `{model}`, whose price{where} isn't known: say it in `lash.toml` "
            f'(`[models."{model}"]`, `prices = {example}`, dollars for a million tokens), '
            "or bound tokens, with `max_tokens`"
        )


def charged(plan: TurnPlan, result: Any) -> Any:
    """An answer, or a failure, with what it cost; a provider that knows that itself has said so."""
    usage = result.usage
    if usage is None or usage.picodollars:
        return result
    after = (plan.capability.prices or _NO_PRICES).charge(usage)
    return result if after == usage else evolve(result, usage=after)


def rest(usage: TokenUsage, before: TokenUsage) -> TokenUsage:
    """What is to be paid yet of a turn, of which a part was."""
    return evolve(usage, **{each: max(0, getattr(usage, each) - getattr(before, each)) for each in TokenUsage.COUNTERS})


def spent(usage: TokenUsage, children: Iterable[ChildTokenUsage]) -> TokenUsage:
    """What a turn has spent: its own calls, and those that plugins made in it."""
    return sum((each.cumulative for each in children), usage)


def over_budget_error(refused: OverBudget) -> LlmCallError:
    """The same as a failure of the call, which cost nothing."""
    return LlmCallError(message=told(refused), code=OVER_BUDGET)


def told(refused: OverBudget) -> str:
    """The numbers, for people."""
    if refused.limit.endswith("max_cost"):
        amounts = [str(Cost(each)) for each in (refused.allowed, refused.spent, refused.next)]
    else:
        amounts = [f"{each} tokens" for each in (refused.allowed, refused.spent, refused.next)]
    allowed, used, next = amounts
    return f"`{refused.limit}` is {allowed}; {used} are spent, and the next call needs about {next}"
