"""What follows from a commit alone, before any transaction: its size, its hashes, the ids that its nodes must have."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field

from lash_hookspecs.canonical import content_hash
from lash_hookspecs.errors import BudgetExceeded, CodecError, CommitRefused
from lash_hookspecs.stores import (
    ComponentChanged,
    NodeKind,
    NodeRecord,
    RuntimeCommit,
    frame_node_id,
    intent_hash,
    is_root_frame,
    node_id,
)
from lash_hookspecs.values import frozen

__all__ = ["CONFIG", "Draft", "Ref", "Slot", "blank", "draft", "measure"]

Slot = tuple[str, str]
"""What a session uses a blob for: (`component`, its key), (`config`, ""), (`blob`, its id)."""

CONFIG: Slot = ("config", "")


@frozen
class Ref:
    """A blob by its hash (hex), and the encoding version of what is in it."""

    hash: str
    version: int = 1


@frozen(kw_only=True)
class Draft:
    """A commit with its hashes. `bodies` are the bytes that it brings, by hash; `refs` the slots that they fill.

    `ids` are the ids that its nodes ought to have; None where a node's kind and frame key don't fit together.
    """

    commit: RuntimeCommit
    intent_hash: str
    ids: tuple[str | None, ...]
    refs: Mapping[Slot, Ref]
    bodies: Mapping[str, bytes] = field(repr=False)


def blank(session_id: str) -> bool:
    """Whether an id is none."""
    return not session_id or session_id.isspace()


def measure(commit: RuntimeCommit) -> int:
    """The commit's size in bytes. Raises `BudgetExceeded` if its size or its rows are over its budget."""
    changed = [each for each in (commit.components or {}).values() if isinstance(each, ComponentChanged)]
    size = len(commit.config) + len(commit.result)
    size += sum(len(node.body) for node in commit.nodes) + sum(len(each.body) for each in changed)
    size += sum(map(len, commit.blobs))
    size += sum(len(new.config) + (len(new.item.payload) if new.item is not None else 0) for new in commit.creates)
    rows = len(commit.nodes) + len(changed) + len(commit.blobs) + len(commit.adopted_blobs) + len(commit.usage)
    for unit, amount, bound in (
        ("bytes", size, commit.budget.max_bytes),
        ("rows", rows, commit.budget.max_rows),
    ):
        if bound is not None and amount > bound:
            raise BudgetExceeded(
                f"commit `{commit.operation.key}` of session `{commit.session_id}` has {amount:,} {unit}, its budget "
                f"is {bound:,}"
            )
    return size


def draft(commit: RuntimeCommit) -> Draft:
    """Hash what the commit brings. Raises `CommitRefused` with the code `text` for text that isn't valid Unicode."""
    refs: dict[Slot, Ref] = {}
    bodies: dict[str, bytes] = {}

    def bring(slot: Slot, body: bytes, version: int = 1) -> None:
        digest = content_hash(body)
        refs[slot] = Ref(digest, version)
        bodies[digest] = body

    if commit.config:
        bring(CONFIG, commit.config)
    for name, entry in (commit.components or {}).items():
        if isinstance(entry, ComponentChanged):
            bring(("component", name), entry.body, entry.version)
    for body in commit.blobs:
        digest = content_hash(body)
        bring(("blob", f"sha256:{digest}"), body)
    rooted = bool(commit.nodes) and is_root_frame(commit.nodes[0])  # a root frame is not counted
    try:
        ids = tuple(_derived_id(commit, ordinal - rooted, node) for ordinal, node in enumerate(commit.nodes))
        return Draft(commit=commit, intent_hash=intent_hash(commit), ids=ids, refs=refs, bodies=bodies)
    except CodecError as error:
        raise CommitRefused("text", f"commit {commit.operation!r} can't be encoded: {error}") from error


def _derived_id(commit: RuntimeCommit, ordinal: int, node: NodeRecord) -> str | None:
    if (node.kind is NodeKind.FRAME_OPEN) != (node.frame_key is not None):
        return None
    if node.frame_key is not None:
        return frame_node_id(commit.session_id, node.frame_key)
    return node_id(commit.session_id, commit.operation, ordinal)
