"""What a commit means: two that differ in what was spent are two."""

from __future__ import annotations

import pytest
from attrs import evolve

from lash_hookspecs import OperationId, RuntimeCommit, TokenUsage, UsageDelta
from lash_hookspecs.stores import intent_hash


@pytest.mark.parametrize("other", [TokenUsage(input=1, picodollars=7), TokenUsage(input=1, unpriced=True)])
def test_commits_that_cost_something_else_are_not_the_same(other: TokenUsage) -> None:
    """Money was left out, so another charge for the same tokens passed for a repetition."""
    usage = UsageDelta(source="turn", model="m", usage=TokenUsage(input=1))
    commit = RuntimeCommit(
        session_id="s",
        operation=OperationId("turn", "t"),
        expected_head_revision=0,
        committed_at_ms=1,
        config=b"",
        usage=(usage,),
    )
    assert intent_hash(commit) != intent_hash(evolve(commit, usage=(evolve(usage, usage=other),)))
