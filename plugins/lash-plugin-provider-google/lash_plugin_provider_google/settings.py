"""The settings of `google`: what a user may set, from where, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lash_hookspecs.values import frozen
from lash_provider_kit.settings import CallSettings, setting, table

__all__ = ["GoogleSettings"]


@frozen(kw_only=True)
class GoogleSettings(CallSettings):
    """Settings of the provider `google`. All times in seconds."""

    base_url: str = setting(
        "", "where the API is, if not at Google; without the version", env=("GOOGLE_GEMINI_BASE_URL",)
    )
    api_version: str = setting("", "`v1beta`, and `v1beta1` for Vertex AI, unless set or in the base URL")
    api_key: str = setting("", "the key, sent as x-goog-api-key", env=("GEMINI_API_KEY", "GOOGLE_API_KEY"), secret=True)
    vertex: bool = setting(False, "ask Vertex AI instead of the Gemini API", env=("GOOGLE_GENAI_USE_VERTEXAI",))
    project: str = setting("", "Vertex AI: the project's id", env=("GOOGLE_CLOUD_PROJECT",))
    location: str = setting("global", "Vertex AI: the location", env=("GOOGLE_CLOUD_LOCATION",))
    access_token: str = setting("", "a bearer token instead of a key", secret=True)
    token_command: str = setting(
        "",
        "a command that prints a bearer token, such as `gcloud auth print-access-token`; asked again on a 401",
        secret=True,  # its arguments may hold one
    )
    extra_body: Mapping[str, Any] = table(
        "further fields of every request's JSON, such as `safetySettings`; merged, tools appended"
    )

    quirks: Mapping[str, Any] = table("what only Gemini's wire asks of a model, by its name: see the plugin's README")
    include_thoughts: bool = setting(True, "ask models that think for summaries of their thoughts")
    stream: bool = setting(True, "`false` asks for whole answers, for gateways that can't stream")
