"""A host's open model providers: found by name, opened at first use, closed with the host."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from lash_framework.discovery import none_offered
from lash_framework.faults import failure_text, pass_on
from lash_framework.hooks import Owned
from lash_hookspecs.errors import ConfigurationError, PluginError, UnknownName, nearest
from lash_hookspecs.llm import Provider, ProviderContext, ProviderSpec
from lash_hookspecs.models import ModelCapability

__all__ = ["LIVE_CALLS_VARIABLE", "Providers", "split_model"]

LIVE_CALLS_VARIABLE = "LASH_ALLOW_LIVE_CALLS"


def _examples(name: str, known: Mapping[str, Owned[ProviderSpec]]) -> str:
    """What to type. Which provider has a model isn't guessed from its name, so all are told."""
    shown = [f"`{each}:{name}`" for each in known if each != "scripted"] or ["`provider:name`"]
    return f"{', '.join(shown)}, or `scripted:demo` to work offline"


def split_model(model: str, known: Mapping[str, Owned[ProviderSpec]]) -> tuple[str, str]:
    """`provider:name` as its two halves. Raises `ConfigurationError` that says what to type."""
    provider_id, colon, name = model.partition(":")
    if not model.strip():
        raise ConfigurationError(f"model `{model}` is empty: type {_examples('NAME', known)}")
    if not colon and model not in known:
        raise ConfigurationError(f"model `{model}` names no provider: type {_examples(model, known)}")
    if provider_id not in known:
        raise UnknownName("provider", provider_id, known, _hint(provider_id, known))
    if not name.strip():
        examples = known[provider_id].value.models
        example = f", such as `{provider_id}:{examples[0]}`" if examples else ""
        what = "has no name after the colon" if colon else "names a provider, and none of its models"
        raise ConfigurationError(f"model `{model}` {what}: type `{provider_id}:NAME`{example}")
    return provider_id, name


def _hint(provider_id: str, known: Mapping[str, Owned[ProviderSpec]]) -> str | None:
    variants = sorted(each for each in known if each.startswith(f"{provider_id}-"))
    if variants:
        return f"type `{variants[0]}:NAME`"
    if provider_id == "scripted" and known:
        return (
            f"{nearest('', known)}; it works offline, once `pip install lash-plugin-provider-scripted` has brought it"
        )
    return none_offered(known)


class Providers:
    """Open providers by id.

    `settings` makes a provider's typed settings from its spec, `models` what the user says of a provider's models.
    """

    def __init__(
        self,
        specs: Mapping[str, Owned[ProviderSpec]],
        settings: Callable[[ProviderSpec], Any],
        models: Callable[[str], Mapping[str, ModelCapability]] = lambda provider_id: {},
    ) -> None:
        self._specs = specs
        self._settings = settings
        self._models = models
        self._said: dict[str, Mapping[str, ModelCapability]] = {}
        self._open: dict[str, Provider] = {}

    def get(self, provider_id: str) -> Provider:
        """The provider, opened if this is its first use. Raises `ConfigurationError` if that fails."""
        found = self._open.get(provider_id)
        if found is None:
            plugin_id, spec = self._specs[provider_id]
            self._said[provider_id] = self._models(provider_id)
            context = ProviderContext(
                provider_id=provider_id,
                settings=self._settings(spec),
                live_calls_allowed=_live_calls_allowed(),
                models=self._said[provider_id],
            )
            found = self._open[provider_id] = _opened(plugin_id, spec, context)
        return found

    def capability(self, provider_id: str, model: str) -> ModelCapability:
        """What a model can do; what the user says of it is stronger than what its provider does.

        Raises `ConfigurationError` for a provider that can't say.
        """
        try:
            known: object = self.get(provider_id).capability(model)
            if not isinstance(known, ModelCapability):
                raise TypeError(f"it returned a `{type(known).__name__}`, where a `ModelCapability` was expected")
            said = self._said[provider_id].get(model)
            return known if said is None else said.over(known)
        except ConfigurationError:
            raise
        except Exception as error:
            text = f"provider `{provider_id}` can't say what `{model}` can do: {type(error).__name__}: {error}"
            raise ConfigurationError(text) from error

    async def aclose(self) -> None:
        """Close all; errors are grouped, and stop nothing."""
        errors: list[Exception] = []
        while self._open:
            provider_id, provider = self._open.popitem()
            try:
                await provider.aclose()
            except Exception as error:
                text = f"provider `{provider_id}` can't be closed: {failure_text(error)}"
                errors.append(PluginError(self._specs[provider_id].plugin_id, "lash_providers", text))
                errors[-1].__cause__ = error
        if errors:
            raise ExceptionGroup("closing model providers failed", errors)


def _opened(plugin_id: str, spec: ProviderSpec, context: ProviderContext) -> Provider:
    who = f"provider `{spec.provider_id}` of plugin `{plugin_id}`"
    try:
        provider = spec.open(context)
    except ConfigurationError:
        raise  # it says already what to mend
    except BaseException as error:
        pass_on(error)
        raise ConfigurationError(f"{who} can't be opened: {failure_text(error)}") from error
    if not isinstance(provider, Provider):
        what = "None" if provider is None else f"a `{type(provider).__name__}`"
        raise ConfigurationError(f"{who} can't be opened: its `open` returned {what}, which is no `Provider`")
    return provider


def _live_calls_allowed() -> bool:
    """Whether services that may cost money can be called: always, but in a test only when it opts in."""
    return "PYTEST_CURRENT_TEST" not in os.environ or os.environ.get(LIVE_CALLS_VARIABLE) == "1"
