"""Settings that name what nobody here has: most likely slips, which would go unnoticed otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lash_hookspecs.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from lash_framework.host import PluginHost
    from lash_framework.settings import Settings

__all__ = ["mode_faults", "plugin_faults", "provider_faults", "slips"]


def slips(settings: Settings, host: PluginHost) -> Iterator[str]:
    """Provider tables without a provider, and switched-off plugins that aren't installed: each with its place."""
    report = host.report
    absent = {each.plugin_id for each in report.failed} | {each.plugin_id for each in report.blocked}
    for provider_id in settings.provider:
        if provider_id not in host.providers:
            path = f"provider.{provider_id}"
            hint = nearest(provider_id, host.providers)
            if absent and "did you mean" not in hint:
                hint = "no plugin that is loaded offers it"
            yield f"{settings.source_of(path)}: `{path}` is for an unknown provider: {hint}"
    for model in settings.models:
        if model.partition(":")[0] not in host.providers:
            hint = nearest(model.partition(":")[0], host.providers)
            yield f'{settings.source_of(f"models.{model}")}: `models."{model}"` is for an unknown provider: {hint}'
    known = {each.plugin_id for each in report.loaded} | {each.plugin_id for each in report.blocked}
    known |= {each.plugin_id for each in report.failed if each.distribution is not None}  # else it is in settings only
    place = settings.source_of("plugins.disabled")
    for plugin_id in settings.plugins.disabled:
        if plugin_id not in known:
            yield f"{place}: `plugins.disabled` names the unknown plugin `{plugin_id}`: {nearest(plugin_id, known)}"


def mode_faults(settings: Settings, host: PluginHost) -> Iterator[tuple[str, str]]:
    """Modes of your own that can't be put together, each with the reason."""
    for mode_id in settings.modes:
        try:
            host.composition(mode_id)
        except ConfigurationError as error:
            yield mode_id, f"{settings.source_of(f'modes.{mode_id}')}: {error}"


def plugin_faults(settings: Settings, host: PluginHost) -> Iterator[str]:
    """Options that aren't of the right name and type, but for those that the mode in the settings trips over."""
    loaded = {each.plugin_id for each in host.report.loaded}
    told = ""
    try:
        host.composition(settings.mode)
    except ConfigurationError as error:
        told = str(error)
    for plugin_id in settings.plugin:
        if plugin_id in loaded:
            try:
                host.options_of(plugin_id)
            except ConfigurationError as error:
                if str(error) != told:
                    yield str(error)


def provider_faults(settings: Settings, host: PluginHost, *, without: str = "") -> Iterator[str]:
    """Settings of known providers, and of their models, that aren't of the right name and type.

    `without` is not looked at.
    """
    from lash_framework.settings import model_settings, provider_settings

    for provider_id in settings.provider:
        if provider_id in host.providers and provider_id != without:
            try:
                provider_settings(host.providers[provider_id].value, settings)
            except ConfigurationError as error:
                yield str(error)
    for provider_id in host.providers:
        try:
            model_settings(settings, provider_id)
        except ConfigurationError as error:
            yield str(error)
