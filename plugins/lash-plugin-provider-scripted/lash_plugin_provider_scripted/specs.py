"""The provider's spec and its settings."""

from __future__ import annotations

from attrs import field

from lash_hookspecs.llm import Provider, ProviderContext, ProviderSpec
from lash_hookspecs.values import frozen

__all__ = ["SCRIPTED", "ScriptedSettings"]


@frozen(kw_only=True)
class ScriptedSettings:
    """Settings of the provider `scripted`."""

    context_window: int | None = field(
        default=None, metadata={"help": "the context window, in tokens, that scripted models claim to have"}
    )


def _open(context: ProviderContext) -> Provider:
    from lash_plugin_provider_scripted.provider import open_scripted

    return open_scripted(context)


SCRIPTED = ProviderSpec(
    provider_id="scripted",
    settings=ScriptedSettings,
    open=_open,
    live=False,
    models=("demo", "replies.toml"),
    summary="Offline: replies from a script, for demos and tests.",
)
