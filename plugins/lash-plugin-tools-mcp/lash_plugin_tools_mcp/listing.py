"""From what a server lists to tools that a model can be told of. Pure; one bad tool costs only itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Protocol

import orjson

from lash_hookspecs.codec import encode
from lash_hookspecs.tools import ToolActivation, ToolEffect, ToolManifest
from lash_hookspecs.values import frozen
from lash_plugin_tools_mcp.options import ServerOptions
from lash_plugin_tools_mcp.texts import Redactor, visible

__all__ = ["LONGEST", "Listed", "Offer", "offers", "tool_names"]

LONGEST = 64
"""Characters of a tool's name, which no model service takes more of."""

MOST_OF_A_SCHEMA = 32 * 1024
DEEPEST_SCHEMA = 40
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]")


class Listed(Protocol):
    """A tool as the SDK has it."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str | None: ...
    @property
    def description(self) -> str | None: ...
    @property
    def input_schema(self) -> dict[str, Any]: ...


@frozen
class Offer:
    """A tool for the model, and its name at the server."""

    name: str
    manifest: ToolManifest


def offers(
    server: str, options: ServerOptions, listed: Iterable[Listed], redactor: Redactor = Redactor()
) -> tuple[list[Offer], dict[str, str]]:
    """The tools that a server offers, and why others are left out, by their names there. No secret is in either."""
    left_out: dict[str, str] = {}
    wanted: dict[str, Listed] = {}
    for each in listed:
        if each.name in wanted:
            left_out[each.name] = "it is listed twice; the first one counts"
        elif options.offers(each.name):
            wanted[each.name] = each
    names = tool_names(server, list(wanted))
    found: list[Offer] = []
    for name, each in wanted.items():
        if len(found) == options.max_tools:
            left_out[name] = f"there are more than {options.max_tools} (`max_tools`): say with `tools` which you want"
            continue
        try:
            found.append(Offer(name, _manifest(names[name], options, each, redactor)))
        except (ValueError, TypeError) as error:
            left_out[name] = str(error)
    return found, {visible(redactor.text(name), 80): redactor.text(why) for name, why in left_out.items()}


def tool_names(server: str, listed: Sequence[str]) -> dict[str, str]:
    """Names for the model, by the names at the server.

    What a model service doesn't take is replaced by `_`. Where that makes two tools one, or a name is too long, it ends
    in a digest of the tool's own name: so it doesn't depend on the order of the list.
    """
    prefix = f"mcp__{server}__"
    plain = {name: prefix + _FOREIGN.sub("_", name) for name in listed}
    shared = Counter(plain.values())
    made = {}
    for name, told in plain.items():
        is_own = told == prefix + name
        if not name or len(told) > LONGEST or (shared[told] > 1 and not is_own):
            digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            told = f"{told[: LONGEST - 9]}_{digest}"
        made[name] = told
    return made


def _manifest(name: str, options: ServerOptions, listed: Listed, redactor: Redactor) -> ToolManifest:
    limit = options.max_description_chars
    effect = options.effect_of(listed.name)
    if options.asks and effect is ToolEffect.UNSAFE:
        effect = ToolEffect.IDEMPOTENT  # its steps are recorded each, and those are unsafe: see `asking`
    manifest = ToolManifest(
        name=name,
        description=visible(redactor.text(listed.description or listed.title or ""), limit),
        input_schema=_input_schema(redactor.value(listed.input_schema), limit),
        activation=ToolActivation.DEFERRED if options.deferred else ToolActivation.ALWAYS,
        effect=effect,
        attaches=options.images,
    )
    encode(manifest)  # raises for what can't be stored
    return manifest


def _input_schema(schema: Mapping[str, Any], limit: int) -> dict[str, Any]:
    size = len(orjson.dumps(schema))
    if size > MOST_OF_A_SCHEMA:
        raise ValueError(f"its schema has {size:,} bytes, and may have {MOST_OF_A_SCHEMA:,}")
    if schema.get("type", "object") != "object":
        raise ValueError("its schema is not that of an object, so no model can call it")
    made = _cleaned({"type": "object", **schema}, limit, DEEPEST_SCHEMA)
    if not isinstance(made.setdefault("properties", {}), dict):
        raise ValueError("its schema has `properties` that are no object")
    return dict(made)


def _cleaned(value: Any, limit: int, levels: int) -> Any:
    """The schema with nothing invisible in its texts. What is no description is short, or the model's to see."""
    if levels == 0:
        raise ValueError(f"its schema is more than {DEEPEST_SCHEMA} levels deep")
    if isinstance(value, Mapping):
        return {visible(name, limit): _cleaned(each, limit, levels - 1) for name, each in value.items()}
    if isinstance(value, list):
        return [_cleaned(each, limit, levels - 1) for each in value]
    return visible(value, limit) if isinstance(value, str) else value
