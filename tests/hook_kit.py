"""A host for tests of hooks: a model that says what it is told, a database of its own, no settings from outside."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import AssembledTurn, PluginInfo, ProviderSpec, Stopped, hookimpl
from lash_plugin_provider_scripted import Reply, ScriptedProvider, ScriptedSettings

__all__ = [
    "MEMORY",
    "Plugin",
    "Told",
    "asked",
    "failure",
    "file_store",
    "installed",
    "opened",
    "opened_with_installed",
    "system_prompt",
]

MEMORY = "sqlite:///:memory:"


def file_store(folder: Path) -> str:
    return f"sqlite:///{folder / 'sessions.db'}"


class Told(ScriptedProvider):
    """A scripted model, and the plugin that offers it as `told:model`."""

    @hookimpl
    def lash_plugin_info(self) -> PluginInfo:
        return PluginInfo(id="told")

    @hookimpl
    def lash_providers(self) -> list[ProviderSpec]:
        return [ProviderSpec(provider_id="told", settings=ScriptedSettings, open=lambda _: self, live=False)]


class Plugin:
    """A base for plugins in tests: the id is given, hooks are added by subclasses; `calls` is what happened."""

    def __init__(self, id: str = "mine", **info: Any) -> None:
        self.info = PluginInfo(id=id, **info)
        self.calls: list[Any] = []

    @hookimpl
    def lash_plugin_info(self) -> PluginInfo:
        return self.info


@contextmanager
def installed(plugins: Mapping[str, object]) -> Iterator[None]:
    """Plugins by id, installed for a while: each a distribution of its own with an entry point, as pip leaves them."""
    module = ModuleType("installed_for_a_test")
    vars(module).update(plugins)
    with TemporaryDirectory() as folder:
        for id in plugins:
            info = Path(folder) / f"installed_{id}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: installed-{id}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[lash]\n{id} = {module.__name__}:{id}\n")
        sys.modules[module.__name__] = module
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            sys.path.remove(folder)
            del sys.modules[module.__name__]


@asynccontextmanager
async def opened_with_installed(*plugins: object, **options: Any) -> AsyncIterator[Lash]:
    """A host that finds these installed, and so lives with those of them that are broken."""
    by_id = {each.info.id if isinstance(each, Plugin) else type(each).__name__: each for each in plugins}
    with installed(by_id):
        async with opened(**options) as lash:
            yield lash


@asynccontextmanager
async def opened(
    *plugins: object,
    says: Sequence[Reply | str] | ScriptedProvider = ("Done.",),
    store: str = MEMORY,
    toml: str = "",
    folder: Path | None = None,
    **options: Any,
) -> AsyncIterator[Lash]:
    """An open host with these plugins. `says` is the model, or what it says; `toml` the text of a `lash.toml`."""
    told = says if isinstance(says, ScriptedProvider) else Told(says)
    config = None
    if toml:
        assert folder is not None
        config = folder / "lash.toml"
        config.write_text(toml, encoding="utf-8")
    settings = load_settings(config, env={}, cwd=Path("/"))
    options = {"model": "told:model", **options}
    async with Lash.open(store, settings=settings, plugins=[*plugins, told], **options) as lash:
        yield lash


def asked(model: ScriptedProvider, call: int = -1) -> str:
    """Everything that the model was shown in one of its calls, as text."""
    blocks = [block for message in model.requests[call].messages for block in message.blocks]
    return "\n".join(str(getattr(block, "text", "") or getattr(block, "content", "")) for block in blocks)


def system_prompt(model: ScriptedProvider, call: int = -1) -> str:
    """What the model was told first."""
    first = model.requests[call].messages[0]
    assert first.role == "system"
    return "\n".join(str(getattr(block, "text", "")) for block in first.blocks)


def failure(turn: AssembledTurn) -> tuple[str, str | None]:
    """Why a turn stopped, and the code of its blocking issue."""
    assert isinstance(turn.outcome, Stopped), turn.outcome
    (issue,) = [each for each in turn.errors if each.blocking]
    return str(turn.outcome.reason), issue.code
