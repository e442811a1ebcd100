"""`Settings`: typed values, each with the place it came from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve, field

from lash_framework.settings.keys import BY_PATH, KEYS
from lash_hookspecs.errors import ConfigurationError, nearest
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_hookspecs.costs import Budget
    from lash_hookspecs.llm import GenerationOptions
    from lash_hookspecs.modes import Mode

__all__ = [
    "Context",
    "Durability",
    "Observers",
    "Origin",
    "PluginChoice",
    "Rank",
    "Settings",
    "default_store",
    "redacted_url",
]


class Rank(IntEnum):
    """How strong a source is: a higher one wins."""

    DEFAULT = 0
    FILE = 1
    ENVIRONMENT = 2
    CALLER = 3


@frozen
class Origin:
    """Where a value came from. `text` is it as it was typed, where it was typed as text."""

    label: str
    rank: Rank
    text: str | None = field(default=None, repr=False)


@frozen(kw_only=True)
class PluginChoice:
    """Which plugins may load at all; `only` None means all but the disabled ones.

    `lock` is the file of what they may be and do: None for the one beside the settings file, `off` for none.
    """

    disabled: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    lock: str | None = None
    lock_versions: bool = False


@frozen(kw_only=True)
class Durability:
    """How turns survive. `lease_ttl_s`: after so many silent seconds a session's holder is taken for dead.

    With `keep_journal_h` above 0 the journals of committed turns stay for so many hours, for `lash replay`.
    `partial_text`: whether a turn that ends with a reply that was cut off keeps what there was of it.
    """

    effects: str = "journal"
    recover: bool = True
    lease_ttl_s: float = 30.0
    keep_journal_h: float = 0.0
    partial_text: Literal["drop", "keep"] = "drop"


@frozen(kw_only=True)
class Context:
    """How sessions stay in their models' windows: from which part of one on a plugin compacts; 0: only when asked."""

    compact_at: float = 0.8


@frozen(kw_only=True)
class Observers:
    """What is kept for those who watch sessions: so many activities of each."""

    ring: int = 2048


def default_store() -> str:
    """The URL of the store that is used when none is named: one SQLite file per user."""
    from platformdirs import user_data_path

    return f"sqlite:///{user_data_path('lash', appauthor=False) / 'lash.db'}"


def redacted_url(url: str) -> str:
    """The URL without the password in it, and without what may be a key: some gateways want theirs in the query."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    # First, since a password may have a question mark in it.
    userinfo, at, _ = rest.partition("/")[0].rpartition("@")
    rest = rest[len(userinfo + at) :]
    if at and ":" in userinfo:
        userinfo = f"{userinfo.partition(':')[0]}:***"
    place, mark, query = rest.partition("?")
    if mark:
        query = "&".join(_without_value(each, scheme in ("http", "https")) for each in query.split("&"))
    return f"{scheme}{separator}{userinfo}{at}{place}{mark}{query}"


def _without_value(field: str, whatever: bool) -> str:
    name, equals, _ = field.partition("=")
    if not equals:
        return "***" if whatever else field
    return f"{name}=***" if whatever or any(word in name.lower() for word in _SECRET_WORDS) else field


def _no_generation() -> GenerationOptions:
    from lash_hookspecs.llm import GenerationOptions

    return GenerationOptions()


def _no_budget() -> Budget:
    from lash_hookspecs.costs import Budget

    return Budget()


@frozen(kw_only=True)
class Settings:
    """All settings. Raw tables (`provider`, `plugin`, `store_options`) may hold secrets and are in no repr.

    `warnings` are texts for people: variables that look like ours but aren't. `file` is the `lash.toml` that was read.
    """

    _store: str | None = field(default=None, repr=lambda url: url and redacted_url(url))
    model: str | None = None
    mode: str = "standard"
    instructions: str | None = None
    max_turns: int | None = None
    generation: GenerationOptions = field(factory=_no_generation)
    budget: Budget = field(factory=_no_budget)
    durability: Durability = Durability()
    context: Context = Context()
    observers: Observers = Observers()
    plugins: PluginChoice = PluginChoice()
    provider: Mapping[str, Mapping[str, Any]] = field(factory=dict, repr=False)
    plugin: Mapping[str, Mapping[str, Any]] = field(factory=dict, repr=False)
    models: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    modes: Mapping[str, Mode] = field(factory=dict)
    store_options: Mapping[str, Any] = field(factory=dict, repr=False)
    origins: Mapping[str, Origin] = field(factory=dict, repr=False, eq=False)
    file: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def store(self) -> str:
        """The store's URL. Where none is named, that is the user's own file, which is looked for when somebody asks."""
        return default_store() if self._store is None else self._store

    def origin_of(self, path: str) -> Origin:
        """Where the value at a dotted path came from: of a table its strongest member, of a member else its table."""
        nowhere = Origin("default", Rank.DEFAULT)
        if path in BY_PATH:  # the table around it may be there for another key
            return self.origins.get(path, nowhere)
        while path:
            if (origin := self.origins.get(path)) is not None:
                return origin
            # A variable or an option names a member alone.
            members = [each for key, each in self.origins.items() if key.startswith(f"{path}.")]
            if members:
                return max(members, key=lambda each: each.rank)
            path = path.rpartition(".")[0]
        return nowhere

    def source_of(self, path: str) -> str:
        """The same for people: `lash.toml:3`, `env LASH_MODEL`, `--model`, `default`."""
        return self.origin_of(path).label

    def is_from_file(self, path: str) -> bool:
        """Whether it was read from `lash.toml`, so that the environment is stronger."""
        return self.origin_of(path).rank is Rank.FILE

    def text_of(self, path: str) -> str | None:
        """The value as it was typed; None if it wasn't typed as text."""
        origin = self.origins.get(path)
        return None if origin is None else origin.text

    def override(self, source: str = "code", **values: Any) -> Settings:
        """These settings with `store`, `model`, `mode`, `instructions`, `max_turns`, `budget`, `effects` of a caller.

        None changes nothing. `effects` is `durability.effects`.
        """
        given = {name: value for name, value in values.items() if value is not None}
        changes, paths = {}, []
        if (budget := given.pop("budget", None)) is not None:
            changes["budget"] = budget.over(self.budget)
            paths += [f"budget.{name}" for name in ("max_cost", "max_tokens") if getattr(budget, name) is not None]
        if (effects := given.pop("effects", None)) is not None:
            changes["durability"] = evolve(self.durability, effects=effects)
            paths.append("durability.effects")
        for name in given:
            if name not in BY_PATH:
                raise ConfigurationError(f"{source}: unknown setting `{name}`: {nearest(name, BY_PATH)}")
        origins = dict.fromkeys((*paths, *given), Origin(source, Rank.CALLER))
        return evolve(self, origins={**self.origins, **origins}, **changes, **given)

    def rows(self, secrets: Collection[str] = ()) -> Iterator[tuple[str, str, str]]:
        """Key, value and source of everything that is set or has a default; `secrets` are paths not to be shown."""
        for key in KEYS:
            value: Any = self
            for part in key.path.split("."):
                value = getattr(value, part)
            if key.path == "store":
                value = redacted_url(value)
            if value is not None and value != ():
                yield key.path, _shown(value), self.source_of(key.path)
        for name, table in (("provider", self.provider), ("plugin", self.plugin), ("models", self.models)):
            for owner, values in table.items():
                for leaf, value in values.items():
                    path = f"{name}.{owner}.{leaf}"
                    yield path, _shown(value, leaf, path in secrets), self.source_of(path)
        for leaf, value in self.store_options.items():
            path = f"store_options.{leaf}"
            yield path, _shown(value, leaf, path in secrets), self.source_of(path)
        for mode_id in self.modes:
            yield f"modes.{mode_id}", "(a mode)", self.source_of(f"modes.{mode_id}")


_SECRET_WORDS = ("key", "token", "secret", "password", "auth", "credential", "header")


def _shown(value: Any, name: str = "", secret: bool = False) -> str:
    if secret or isinstance(value, Mapping) or any(word in name.lower() for word in _SECRET_WORDS):
        return "***"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return redacted_url(value) if isinstance(value, str) else str(value)
