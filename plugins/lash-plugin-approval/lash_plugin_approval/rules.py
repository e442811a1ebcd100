"""Which rule decides about a call. Pure: the most restrictive of all that fit, whatever their order."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase

from attrs import asdict

from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.values import frozen
from lash_plugin_approval.calls import (
    MOST_DEEP,
    MOST_LEAVES,
    MOST_PLACES,
    Facts,
    has_too_many,
    is_too_deep,
    places_of,
    readings_of,
)
from lash_plugin_approval.lines import Lines
from lash_plugin_approval.options import ApprovalOptions, Decision, Rule
from lash_plugin_approval.patterns import fits, plain
from lash_plugin_approval.project import own_folders

__all__ = ["DEFAULT", "PASSES_ON", "Ruled", "fitting", "ruled"]

DEFAULT = "default"

_LONGEST_PATH = 4096
_STRICT = {"allow": 0, "ask": 1, "deny": 2}

PASSES_ON = Rule(
    name="passes on", tool="batch", owner="mode-standard", decide="allow", reason="its calls are decided one by one"
)
"""What `batch` does is what the calls in it do, and each of those is decided on its own."""


@frozen(kw_only=True)
class Ruled:
    """What is decided, by which rule, and why; `always`: whether a person may decide it for good.

    `asking` are all rules that ask, by what they say: whoever answers for more calls than one does so for these rules.
    """

    decision: Decision
    rule: str
    reason: str = ""
    always: bool = True
    asking: tuple[str, ...] = ()


def ruled(options: ApprovalOptions, facts: Facts) -> Ruled:
    """Deny beats ask beats allow; of equals the first one is named. Where none fits it is the default."""
    if has_too_many(facts.leaves):
        reason = f"it has more than {MOST_LEAVES} arguments, or too long names: make several calls of it"
        return Ruled(decision="deny", rule="too many arguments", reason=reason)
    if len(facts.places) > MOST_PLACES:
        reason = f"it names more than {MOST_PLACES} paths: make several calls of it"
        return Ruled(decision="deny", rule="too many paths", reason=reason)
    if is_too_deep(facts.args):
        reason = f"its arguments are nested more than {MOST_DEEP} deep"
        return Ruled(decision="deny", rule="too deep", reason=reason)
    if _names_own(options, facts):
        reason = "what was said, approved and trusted is written there by nobody else"
        return Ruled(decision="deny", rule="own file", reason=reason)
    found = fitting(options, facts)
    if not found:
        is_pure = facts.effect == "pure"
        name, decision = ("pure", options.pure) if is_pure else (DEFAULT, options.default)
        return Ruled(decision=decision, rule=name, asking=(DEFAULT,) if decision == "ask" else ())
    name, rule = max(found, key=lambda each: _STRICT[each[1].decide])  # the first of the strictest
    if rule.decide != "ask":
        return Ruled(decision=rule.decide, rule=name, reason=rule.reason)
    asking = [(name, each) for name, each in found if each.decide == "ask"]
    return Ruled(
        decision="ask",
        rule="`, `".join(name for name, _ in asking),
        reason="; ".join(each.reason for _, each in asking if each.reason),
        always=all(each.always for _, each in asking),
        asking=tuple(_said_by(each) for _, each in asking),
    )


def _said_by(rule: Rule) -> str:
    """What names a rule by what it says: another one in its place, or itself once it was changed, is another one."""
    return stable_hash("lash-plugin-approval.rule", asdict(rule))[:16]


_OWN_NAMES = ("lash", "approvals", "trusted")


def _names_own(options: ApprovalOptions, facts: Facts) -> bool:
    """Whether an argument, be it known as a path or not, leads to lash's own folders: who writes there approves."""
    root = os.path.abspath(options.root)  # noqa: PTH100  # texts
    others = (
        place
        for each, text in facts.leaves.items()
        if len(text) <= _LONGEST_PATH and any(name in plain(text) for name in _OWN_NAMES)
        for place in places_of(each, text, root)
    )
    paths = {path for each in (*facts.places, *others) for path in (each.written, each.real)}
    led_to = [each for each in map(plain, paths) if _OWN_NAMES[0] in each]
    if not led_to:  # as it mostly is
        return False
    folders = tuple(f"{plain(way)}/" for own in own_folders() for way in (own, os.path.realpath(own)))
    return any(f"{each}/".startswith(folders) for each in led_to)


def fitting(options: ApprovalOptions, facts: Facts) -> list[tuple[str, Rule]]:
    """All rules that fit, by name."""
    numbered = [(each.name or f"rule {at}", each) for at, each in enumerate(options.rules, 1)]
    lines = Lines(facts.leaves if any(each.args and each.decide != "allow" for each in options.rules) else {})
    known = [*numbered, (PASSES_ON.name, PASSES_ON)]
    return [(name, each) for name, each in known if _fits(each, options, facts, lines)]


def _fits(rule: Rule, options: ApprovalOptions, facts: Facts, lines: Lines) -> bool:
    narrow = rule.decide == "allow"
    return (
        fits(rule.tool, facts.tool, narrow=narrow)
        and fits(rule.owner, facts.owner, narrow=narrow)
        and rule.effect in ("", facts.effect)
        and (rule.spent_above is None or _has_spent(rule.spent_above, facts, narrow))
        and (not rule.args or _args_fit(rule, facts, lines))
        and (not rule.path or _paths_fit(rule, options, facts, narrow))
    )


def _has_spent(dollars: float, facts: Facts, narrow: bool) -> bool:
    """What a price that nobody knows may have added is enough to ask or deny, and not to allow."""
    return facts.spent >= dollars or (facts.at_least and not narrow)


def _args_fit(rule: Rule, facts: Facts, lines: Lines) -> bool:
    """Every pattern fits an argument; where that allows, every argument has a pattern, and all of its patterns fit."""
    if rule.decide != "allow":
        return all(lines.fit(key, pattern) for key, pattern in rule.args.items())
    for key, pattern in rule.args.items():
        named = [text for name, text in facts.leaves.items() if fnmatchcase(name, key)]
        if not named or not all(fits(pattern, each, narrow=True) for each in named):
            return False
    return all(any(fnmatchcase(name, key) for key in rule.args) for name in facts.leaves)


def _paths_fit(rule: Rule, options: ApprovalOptions, facts: Facts, narrow: bool) -> bool:
    """Some path is within; where that allows, there is one, and all are."""
    if not facts.places:
        return False
    root = os.path.abspath(options.root)  # noqa: PTH100  # texts
    patterns = [read for each in rule.path for read in readings_of(each, root, narrow=narrow)]
    found = [place.within(patterns, narrow=narrow) for place in facts.places]
    return all(found) if narrow else any(found)
