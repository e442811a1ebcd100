"""Which settings there are, as tables: the parser, the environment's twins and the documentation follow from them."""

from __future__ import annotations

from typing import Any, Literal

from lash_hookspecs.values import frozen

__all__ = [
    "BY_PATH",
    "GENERATION",
    "GROUPS",
    "KEYS",
    "MODE_KEYS",
    "TABLES",
    "TABLES_BY_NAME",
    "Key",
    "Table",
    "environment_name",
]


@frozen(kw_only=True)
class Key:
    """A setting of a fixed name. `path` is dotted, as in `lash.toml`; `type` is what it must be."""

    path: str
    type: Any
    help: str
    default: str = ""
    minimum: float | None = None


@frozen(kw_only=True)
class Table:
    """Settings whose names are open: the value stands `depth` names below the table."""

    name: str
    depth: int
    help: str


KEYS = (
    Key(
        path="store",
        type=str,
        help="URL of the store; a relative `sqlite:///` path in a file is relative to that file",
        default="sqlite:///<user data folder>/lash/lash.db",
    ),
    Key(path="model", type=str, help="the model, as `provider:name`", default="scripted:demo"),
    Key(path="mode", type=str, help="the mode of new sessions", default="standard"),
    Key(path="instructions", type=str, help="instructions for the model, added to every prompt"),
    Key(path="max_turns", type=int, help="how many iterations a turn may take", minimum=1),
    Key(path="generation.output_token_cap", type=int, help="most tokens of one answer", minimum=1),
    Key(path="generation.temperature", type=float, help="sampling temperature"),
    Key(path="generation.seed", type=int, help="sampling seed, where the provider has one"),
    Key(path="generation.stop_sequences", type=tuple[str, ...], help="texts that end an answer"),
    Key(path="budget.max_cost", type=float, help="US dollars that a turn may cost", minimum=0),
    Key(path="budget.max_tokens", type=int, help="tokens that a turn may take, in and out", minimum=0),
    Key(path="budget.session_max_cost", type=float, help="US dollars that a session may cost", minimum=0),
    Key(path="budget.session_max_tokens", type=int, help="tokens that a session may take, in and out", minimum=0),
    Key(
        path="durability.effects",
        type=str,
        help="`journal`: turns survive their process; `inline`: they are committed at their end only; or a plugin's",
        default="journal",
    ),
    Key(
        path="durability.recover",
        type=bool,
        help="go on with interrupted turns when a session is opened",
        default="true",
    ),
    Key(
        path="durability.lease_ttl_s",
        type=float,
        help="seconds after which a silent holder loses its session",
        default="30",
        minimum=0.1,
    ),
    Key(
        path="durability.keep_journal_h",
        type=float,
        help="hours for which `lash replay` can replay a turn",
        default="0",
        minimum=0,
    ),
    Key(
        path="durability.partial_text",
        type=Literal["drop", "keep"],
        help="what becomes of the text of a reply that is cut off when its turn ends",
        default="drop",
    ),
    Key(
        path="context.compact_at",
        type=float,
        help="from which part of the model's window on a plugin compacts the conversation; 0: only when asked",
        default="0.8",
        minimum=0,
    ),
    Key(
        path="observers.ring",
        type=int,
        help="how many activities of a session are kept for observers who are slow, or come back",
        default="2048",
        minimum=1,
    ),
    Key(path="plugins.disabled", type=tuple[str, ...], help="plugins that are not even imported"),
    Key(path="plugins.only", type=tuple[str, ...], help="the only plugins that are imported"),
    Key(
        path="plugins.lock",
        type=str,
        help="file with what plugins may be and do (`lash plugins lock` writes it), or `off`; relative to the file",
        default="`lash.lock` beside `lash.toml`",
    ),
    Key(
        path="plugins.lock_versions",
        type=bool,
        help="refuse other versions of plugins than the locked ones, too",
        default="false",
    ),
)

TABLES = (
    Table(name="provider", depth=2, help="`provider.<provider id>.<key>`: settings of a model provider"),
    Table(name="plugin", depth=2, help="`plugin.<plugin id>.<key>`: options of a plugin"),
    Table(name="modes", depth=2, help="`modes.<name>.<key>`: modes of your own"),
    Table(name="models", depth=2, help='`models."<provider id>:<name>".<key>`: what a model can do, and what it costs'),
    Table(name="store_options", depth=1, help="`store_options.<key>`: settings of the store"),
)

MODE_KEYS: dict[str, tuple[Any, str]] = {
    "extends": (str, "the mode that this one builds on"),
    "plugins": (tuple[str, ...], "plugins to switch on"),
    "without": (tuple[str, ...], "plugins of the extended mode to leave out"),
    "prompt": (Any, "text, or tables with `content`, `slot`, `title`, `priority`, `tools`, or an array of these"),
    "options": (dict[str, Any], "options of the mode's driver"),
    "plugin_options": (dict[str, dict[str, Any]], "tables by plugin: as the `plugin` settings, for this mode"),
    "generation": (dict[str, Any], "as the `generation` settings, for this mode"),
    "max_turns": (int, "how many iterations a turn may take"),
    "summary": (str, "one line for `lash modes list`"),
}

BY_PATH = {each.path: each for each in KEYS}
GROUPS = {each.path.partition(".")[0] for each in KEYS if "." in each.path}
TABLES_BY_NAME = {each.name: each for each in TABLES}
GENERATION = {each.path.partition(".")[2]: each for each in KEYS if each.path.startswith("generation.")}


def environment_name(path: str) -> str:
    """The environment's twin of a key: `plugins.disabled` is `LASH_PLUGINS_DISABLED`.

    Below a table the names are joined by two underscores: `provider.openai-chat.base_url` is
    `LASH_PROVIDER__OPENAI_CHAT__BASE_URL`.
    """
    head, _, rest = path.partition(".")
    joined = "__".join((head, *rest.split(".", 1))) if head in TABLES_BY_NAME else path.replace(".", "_")
    return "LASH_" + joined.replace("-", "_").upper()
