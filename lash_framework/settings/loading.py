"""Reading settings from all their sources, the weakest first, and typing each value as it comes in."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lash_framework.settings.keys import (
    BY_PATH,
    GENERATION,
    GROUPS,
    KEYS,
    MODE_KEYS,
    TABLES,
    TABLES_BY_NAME,
    environment_name,
)
from lash_framework.settings.sources import (
    TRUSTED,
    display_path,
    find_file,
    lookup_line,
    read_file,
    split_setting,
    toml_value,
)
from lash_framework.settings.typed import Mismatch, from_text, from_value, inside
from lash_framework.settings.values import Context, Durability, Observers, Origin, PluginChoice, Rank, Settings
from lash_hookspecs.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from lash_hookspecs.llm import GenerationOptions
    from lash_hookspecs.modes import Mode

__all__ = ["load_settings"]

_FLAGS = {"plugins.only": "--no-plugins", "plugins.lock": "--lock"}  # options that aren't called like their setting
# Names with a meaning of their own.
_FREE_VARIABLES = (
    "LASH_ALLOW_",
    "LASH_COMMAND",
    "LASH_CONFIG",
    "LASH_MCP_SERVER",
    "LASH_TEST_",
    TRUSTED,
)


def load_settings(
    config: str | Path | None = None,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    options: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    doubted: bool = False,
    finds: bool = True,
) -> Settings:
    """Settings from all sources.

    `config` names a file instead of the `lash.toml` that is found from `cwd`, if it `finds` one. If that is `doubted`,
    or `LASH_TRUSTED` is set, it is held against what its user has trusted: `UntrustedSettings` tells what of it reaches
    further. `options` are the command line's, by dotted path (their source reads `--path`); None counts as not given.
    `sets` are `key.of.setting=value` texts. Raises `ConfigurationError` that points at file and line, variable or
    option, and names the nearest right key.
    """
    env = os.environ if env is None else env
    cwd = Path.cwd() if cwd is None else cwd
    loading = _Loading()
    named = config or env.get("LASH_CONFIG")
    path = (cwd / Path(named).expanduser()) if named else find_file(cwd) if finds else None
    if path is not None:
        shown = display_path(path, cwd)
        document, lines = read_file(path, shown)
        if not named and (doubted or env.get(TRUSTED)):
            from lash_framework.settings.reaches import reaches_of
            from lash_framework.settings.trust import require_trust

            require_trust(path, shown, env, reaches_of(document, lines))
        loading.take_file(path, shown, document, lines)
    loading.take_environment(env)
    for text in sets:
        loading.take_set(text)
    for name, value in (options or {}).items():
        if value is not None:
            loading.put(tuple(name.split(".")), value, Origin(_FLAGS.get(name, f"--{name}"), Rank.CALLER))
    return loading.finish(path)


class _Loading:
    """Values as they come in, strongest last."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {}
        self.origins: dict[str, Origin] = {}
        self.warnings: list[str] = []
        self._shown = ""
        self._lines: dict[tuple[str, ...], int] = {}

    # -- sources

    def take_file(self, path: Path, shown: str, document: Mapping[str, Any], lines: dict[tuple[str, ...], int]) -> None:
        """A file's settings, as they were read."""
        self._shown, self._lines = shown, lines

        def origin(at: tuple[str, ...]) -> Origin:
            return Origin(self._place(at), Rank.FILE)

        def walk(table: Mapping[str, Any], prefix: tuple[str, ...]) -> None:
            for name, value in table.items():
                at = (*prefix, name)
                if self._is_open(at, origin(at)):
                    if not isinstance(value, Mapping):
                        raise ConfigurationError(f"{origin(at).label}: `{_dotted(at)}` must be a table")
                    self.origins.setdefault(_dotted(at), origin(at))
                    walk(value, at)
                else:
                    self.put(at, value, origin(at))

        walk(document, ())
        store = self.tree.get("store")
        if isinstance(store, str) and store.startswith("sqlite:///") and store != "sqlite:///:memory:":
            location = store.removeprefix("sqlite:///")
            self.tree["store"] = f"sqlite:///{_beside(path, location)}" if location else store
        lock = self.tree.get("plugins", {}).get("lock")
        if isinstance(lock, str) and lock != "off":
            self.tree["plugins"]["lock"] = _beside(path, lock)

    def _place(self, at: tuple[str, ...]) -> str:
        number = lookup_line(self._lines, at)
        return f"{self._shown}:{number}" if number else self._shown

    def _misfit(self, dotted: str, fault: Mismatch, origin: Origin) -> ConfigurationError:
        """The error for a value that doesn't fit: at the line of that member of it, where the file has one."""
        within = tuple(part.rstrip("]") for part in fault.at.replace("[", ".").split(".") if part)
        label = self._place((*dotted.split("."), *within)) if origin.rank is Rank.FILE else origin.label
        return ConfigurationError(f"{label}: `{dotted}{fault.at}` {fault.with_value()}")

    def take_environment(self, env: Mapping[str, str]) -> None:
        fixed = {environment_name(each.path): each.path for each in KEYS}
        open_names = {f"LASH_{each.name.upper()}__": each for each in TABLES}
        for variable in sorted(name for name in env if name.startswith("LASH_") and env[name]):
            origin = Origin(f"env {variable}", Rank.ENVIRONMENT, env[variable])
            if variable in fixed:
                self.put(tuple(fixed[variable].split(".")), env[variable], origin)
                continue
            table = next((each for prefix, each in open_names.items() if variable.startswith(prefix)), None)
            parts = variable.lower().split("__")[1:]
            if table is not None and all(parts) and len(parts) >= table.depth:
                if table.depth == 2:
                    parts[0] = self._owner(table.name, parts[0])
                self.put((table.name, *parts), env[variable], origin)
            elif not variable.startswith(_FREE_VARIABLES):
                self.warnings.append(f"env {variable} is no setting: {nearest(variable, fixed)}")

    def take_set(self, text: str) -> None:
        path, value = split_setting(text)
        origin = Origin(f"--set {_dotted(path)}", Rank.CALLER, value)
        if self._is_open(path, origin):
            raise ConfigurationError(f"{origin.label}: `{_dotted(path)}` is a table; name a key in it")
        self.put(path, value, origin)

    def _owner(self, table: str, name: str) -> str:
        """Environment names have no hyphens: the id meant is one that is known already, else the one with hyphens."""
        known: dict[str, str] = {each.replace("-", "_"): each for each in self.tree.get(table, ())}
        return known.get(name, name.replace("_", "-"))

    # -- values

    def _is_open(self, path: tuple[str, ...], origin: Origin) -> bool:
        """Whether it is a table of settings rather than a setting. Raises `ConfigurationError` for unknown names."""
        head = path[0]
        if head in TABLES_BY_NAME:
            return len(path) <= TABLES_BY_NAME[head].depth
        if _dotted(path) in BY_PATH:
            return False
        if len(path) == 1 and head in GROUPS:
            return True
        known = {each for each in BY_PATH if each.startswith(f"{head}.")} if head in GROUPS else set()
        if head == "plugins" and not nearest(path[-1], {each.partition(".")[2] for each in known}).startswith("did"):
            text = f"unknown setting `{_dotted(path)}`: a plugin's options are in `[plugin.{path[1]}]`, without an s"
            raise ConfigurationError(f"{origin.label}: {text}")
        known = known or set(BY_PATH) | GROUPS | TABLES_BY_NAME.keys()
        raise ConfigurationError(f"{origin.label}: unknown setting `{_dotted(path)}`: {nearest(_dotted(path), known)}")

    def put(self, path: tuple[str, ...], value: Any, origin: Origin) -> None:
        """Take one value, typed by the tables above."""
        dotted = _dotted(path)
        key = BY_PATH.get(dotted)
        if key is not None:
            value = self._typed(value, key.type, dotted, origin)
            _within(key.minimum, value, dotted, origin)
        elif path[0] == "modes":
            value = self._mode_value(path, value, origin)
        elif origin.text is not None:
            value = toml_value(origin.text)
        node = self.tree
        for part in path[:-1]:
            inner = node.get(part)
            node[part] = dict(inner) if isinstance(inner, Mapping) else {}
            node = node[part]
        node[path[-1]] = value
        self.origins[dotted] = origin

    def _typed(self, value: Any, tp: Any, dotted: str, origin: Origin) -> Any:
        try:
            return from_value(value, tp) if origin.text is None else from_text(origin.text, tp)
        except Mismatch as fault:
            raise self._misfit(dotted, fault, origin) from None

    def _mode_value(self, path: tuple[str, ...], value: Any, origin: Origin) -> Any:
        name, dotted = path[2], _dotted(path)
        if name not in MODE_KEYS:
            raise ConfigurationError(f"{origin.label}: unknown setting `{dotted}`: {nearest(name, MODE_KEYS)}")
        if len(path) > 3:  # `--set modes.x.generation.seed=1` names one key, a file the whole table
            if name == "generation":
                return self._generation_value(path[3], value, dotted, origin)
            return value if origin.text is None else toml_value(origin.text)
        value = self._typed(value, MODE_KEYS[name][0], dotted, origin)
        if name == "generation":
            inner = Origin(origin.label, origin.rank)
            return {key: self._generation_value(key, each, f"{dotted}.{key}", inner) for key, each in value.items()}
        _within(1 if name == "max_turns" else None, value, dotted, origin)
        return value

    def _generation_value(self, name: str, value: Any, dotted: str, origin: Origin) -> Any:
        key = GENERATION.get(name)
        if key is None:
            raise ConfigurationError(f"{origin.label}: unknown setting `{dotted}`: {nearest(name, GENERATION)}")
        value = self._typed(value, key.type, dotted, origin)
        _within(key.minimum, value, dotted, origin)
        return value

    def finish(self, path: Path | None) -> Settings:
        tree = self.tree
        plain: dict[str, Any] = {
            name: tree[name] for name in ("store", "model", "mode", "instructions", "max_turns") if name in tree
        }
        if "budget" in tree:
            from lash_hookspecs.costs import Budget

            plain["budget"] = Budget(**tree["budget"])
        if "generation" in tree:
            plain["generation"] = _generation(tree["generation"])
        return Settings(
            durability=Durability(**tree.get("durability", {})),
            context=Context(**tree.get("context", {})),
            observers=Observers(**tree.get("observers", {})),
            plugins=PluginChoice(**tree.get("plugins", {})),
            provider=tree.get("provider", {}),
            plugin=tree.get("plugin", {}),
            models=tree.get("models", {}),
            modes={name: self._mode(name, table) for name, table in tree.get("modes", {}).items()},
            store_options=tree.get("store_options", {}),
            origins=self.origins,
            file=path,
            warnings=tuple(self.warnings),
            **plain,
        )

    def _mode(self, name: str, table: Mapping[str, Any]) -> Mode:
        from lash_hookspecs.modes import Mode

        given = {key: value for key, value in table.items() if key not in ("prompt", "generation")}
        if "generation" in table:
            given["generation"] = _generation(table["generation"])
        if "prompt" in table:
            path = f"modes.{name}.prompt"
            try:
                given["prompt"] = _prompt(table["prompt"])
            except Mismatch as fault:
                raise self._misfit(path, fault, self.origins[path]) from None
            except ValueError as fault:
                raise ConfigurationError(f"{self.origins[path].label}: `{path}` {fault}") from None
        return Mode(mode_id=name, **given)


def _within(minimum: float | None, value: Any, dotted: str, origin: Origin) -> None:
    if minimum is not None and not minimum <= value < math.inf:
        wanted = f"at least {minimum}" if math.isfinite(value) else "a finite number"
        raise ConfigurationError(f"{origin.label}: `{dotted}` must be {wanted}")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ConfigurationError(f"{origin.label}: `{dotted}` must have no more than 64 bits")


def _dotted(path: Sequence[str]) -> str:
    return ".".join(path)


def _beside(file: Path, location: str) -> str:
    """A path that is written in a file: relative to it, unless it begins at the root or at home."""
    return location if location.startswith("~/") else str(file.resolve().parent / location)


def _generation(table: Mapping[str, Any]) -> GenerationOptions:
    from lash_hookspecs.llm import GenerationOptions

    return GenerationOptions(**table)


def _prompt(value: Any) -> Any:
    """A prompt layer from text, a table, or an array of these. Raises `Mismatch` or ValueError."""
    from lash_hookspecs.prompts import PromptContribution, PromptLayer

    layer = PromptLayer()
    for number, each in enumerate(value if isinstance(value, list) else [value]):
        at = f"[{number}]" if isinstance(value, list) else ""
        table = {"content": each} if isinstance(each, str) else each
        if not isinstance(table, Mapping) or not isinstance(table.get("content"), str):
            raise Mismatch("must be text, or a table with `content`, or an array of these", at=at)
        layer = layer.with_contribution(inside(at, table, PromptContribution))
    return layer
