"""A turn's input as it is accepted: all that another process needs to run the turn, as data.

Image bytes are in the store by then; extensions and plugin inputs are told by the id of their registered class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve, field

from lash_framework.composition import Composition
from lash_framework.cut_calls import is_cut
from lash_framework.modes import load_extension, store_extension
from lash_hookspecs.codec import decode, encode, structure, unstructure
from lash_hookspecs.effect_commands import RuntimeEffectKind
from lash_hookspecs.effect_outcomes import TurnStartOutcome
from lash_hookspecs.errors import CodecError, ConfigurationError, ReplayError, StoreCorrupt
from lash_hookspecs.inbox import InboxItem
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_hookspecs.llm import JsonSchemaOutput
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.sessions import SessionPolicy, TurnInput
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.budget import Payer
    from lash_framework.structured import OutputWish

__all__ = [
    "ABSENT",
    "AcceptedTurn",
    "TurnRequest",
    "accepted_bytes",
    "accepted_with",
    "bare_request",
    "changed_versions",
    "lacking",
    "restored",
    "what_was_accepted",
]


@frozen(kw_only=True)
class TurnRequest:
    """What a turn is asked with. `images`: its images and documents, stored, by name; `wish`: the caller's class.

    `payer` is there where a turn of another session waits for it.
    """

    turn_id: str
    turn_input: TurnInput
    input_hash: str
    images: Mapping[str, AttachmentRef] = field(factory=dict)
    wish: OutputWish | None = None
    payer: Payer | None = None


@frozen(kw_only=True)
class AcceptedTurn:
    """The payload of an inbox item. `plugins` are the versions of those that were there, by id, for upgrade checks."""

    turn_input: TurnInput
    policy: SessionPolicy
    images: Mapping[str, AttachmentRef] = field(factory=dict)
    extension: Mapping[str, Any] | None = None
    plugin_inputs: Mapping[str, Any] = field(factory=dict)
    plugins: Mapping[str, str] = field(factory=dict)


ABSENT = "-"
"""In the place of a version."""


def changed_versions(item: InboxItem, composition: Callable[[str], Composition]) -> tuple[tuple[str, str, str], ...]:
    """The plugins whose version isn't the one that the item was accepted with: id, then, now. Raises nothing."""
    try:
        accepted = decode(AcceptedTurn, item.payload)
    except CodecError:
        return ()  # who needs what is in it says so
    try:
        now = composition(accepted.policy.mode_id).versions
    except ConfigurationError:
        now = {}
    both = {**accepted.plugins, **now}
    changed = [(id, accepted.plugins.get(id, ABSENT), now.get(id, ABSENT)) for id in sorted(both)]
    return tuple(each for each in changed if each[1] != each[2])


def lacking(versions: Iterable[tuple[str, str, str]]) -> tuple[str, ...]:
    """Those of `changed_versions` that aren't here."""
    return tuple(id for id, _, now in versions if now == ABSENT)


def accepted_bytes(request: TurnRequest, policy: SessionPolicy, composition: Composition) -> bytes:
    """The request as data. Raises `ConfigurationError`, by name, for what no other process could read again."""
    given = request.turn_input
    inputs = given.context.plugin_inputs
    bare = given
    if given.image_blobs or given.document_blobs or given.mode_extension is not None or inputs:
        context = evolve(given.context, plugin_inputs={})
        bare = evolve(given, image_blobs={}, document_blobs={}, mode_extension=None, context=context)
    accepted = AcceptedTurn(
        turn_input=bare,
        policy=policy,
        images=request.images,
        extension=store_extension(composition.mode, "turn", given.mode_extension),
        plugin_inputs={plugin_id: _stored_input(composition, plugin_id, value) for plugin_id, value in inputs.items()},
        plugins=composition.versions,
    )
    try:
        return encode(accepted)
    except CodecError as error:
        raise ConfigurationError(f"the input of turn `{request.turn_id}` can't be stored: {error}") from error


def _stored_input(composition: Composition, plugin_id: str, value: object) -> Any:
    declared = composition.turn_inputs.get(plugin_id)
    if declared is None or type(value) is not declared:
        known = f"takes a `{declared.__name__}`" if declared else "declared none: `PluginInfo(turn_input=…)` does"
        raise ConfigurationError(
            f"the input for plugin `{plugin_id}` is a `{type(value).__name__}`, and the plugin {known}"
        )
    return unstructure(value)  # whose hash is known can be stored


def restored(item: InboxItem, composition_of: Any) -> tuple[TurnRequest, AcceptedTurn]:
    """What was accepted, as a request; `composition_of` gives a mode's composition.

    Raises `StoreCorrupt` for a payload that can't be read, and `ConfigurationError` for a mode, an extension or a
    plugin's input that isn't known here any more, or is another class by now.
    """
    try:
        accepted = decode(AcceptedTurn, item.payload)
    except CodecError as error:
        raise StoreCorrupt(f"inbox item {item.no} of session `{item.session_id}` can't be read: {error}") from error
    composition: Composition = composition_of(accepted.policy.mode_id)
    turn_input = accepted.turn_input
    if accepted.extension is not None or accepted.plugin_inputs:
        inputs: dict[str, Any] = {}
        for plugin_id, data in accepted.plugin_inputs.items():
            declared = composition.turn_inputs.get(plugin_id)
            if declared is None:
                raise ConfigurationError(f"the turn has an input for plugin `{plugin_id}`, which takes none here")
            try:
                inputs[plugin_id] = structure(data, declared)
            except CodecError as error:
                text = f"for plugin `{plugin_id}` doesn't fit the `{declared.__name__}` that it takes here: {error}"
                raise ConfigurationError(f"the turn's input {text}") from error
        try:
            extension = load_extension(composition.mode, "turn", accepted.extension)
        except CodecError as error:
            raise ConfigurationError(
                f"the turn's extension doesn't fit mode `{composition.mode.mode_id}`: {error}"
            ) from error
        turn_input = evolve(
            turn_input, mode_extension=extension, context=evolve(turn_input.context, plugin_inputs=inputs)
        )
    request = TurnRequest(
        turn_id=item.turn_id or item.source_key,
        turn_input=turn_input,
        input_hash=item.content_hash,
        images=accepted.images,
    )
    return request, accepted


def what_was_accepted(
    item: InboxItem, rows: Sequence[JournalRow], composition_of: Callable[[str], Composition]
) -> tuple[TurnRequest, SessionPolicy]:
    """The request as it was accepted, and the policy that the turn began with, if its `rows` say so, or will.

    Raises what `restored` does, and `ReplayError` for a first row that can't be read.
    """
    request, accepted = restored(item, composition_of)
    output = request.turn_input.output
    if isinstance(output, JsonSchemaOutput):
        from lash_framework.structured import OutputWish

        request = evolve(request, wish=OutputWish(None, output))
    first = next((row for row in rows if not is_cut(row)), None)
    if first is None or first.kind != RuntimeEffectKind.TURN_START or first.status is not JournalStatus.DONE:
        return request, accepted.policy
    try:
        begun_with = decode(TurnStartOutcome, first.body)
    except CodecError as error:
        text = f"the first record of turn `{item.turn_id}` can't be read: {error}"
        raise ReplayError("runtime_effect_corrupt", text) from error
    if request.turn_input.context.model is None:
        return request, begun_with.policy
    return request, evolve(begun_with.policy, model=accepted.policy.model)  # the turn's own model isn't the session's


def accepted_with(item: InboxItem) -> Mapping[str, str]:
    """The plugins that were there when the item was accepted, with their versions; none if it can't be read."""
    try:
        return decode(AcceptedTurn, item.payload).plugins
    except CodecError:
        return {}


def bare_request(item: InboxItem) -> TurnRequest:
    """What was said, without all that plugins, modes and models make of it: for a turn that isn't run any more."""
    try:
        accepted = decode(AcceptedTurn, item.payload)
        given = accepted.turn_input
        said, images = TurnInput(items=given.items, compact=given.compact, told_by=given.told_by), accepted.images
    except CodecError:
        said, images = TurnInput.text("[The input of this turn can't be read.]"), {}
    turn_id = item.turn_id or item.source_key
    return TurnRequest(turn_id=turn_id, turn_input=said, input_hash=item.content_hash, images=images)
