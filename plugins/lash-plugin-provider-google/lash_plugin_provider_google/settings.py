"""The settings of `google`: what a user may set, from where, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field
from attrs.validators import ge, gt, in_

from lash_hookspecs.values import frozen

__all__ = ["GoogleSettings"]


def _setting(default: Any, help: str, *, env: tuple[str, ...] = (), secret: bool = False, check: Any = None) -> Any:
    metadata = {"help": help, **({"env": env} if env else {}), **({"secret": True} if secret else {})}
    return field(default=default, repr=not secret, metadata=metadata, validator=check)


@frozen(kw_only=True)
class GoogleSettings:
    """Settings of the provider `google`. All times in seconds."""

    base_url: str = _setting(
        "", "where the API is, if not at Google; without the version", env=("GOOGLE_GEMINI_BASE_URL",)
    )
    api_version: str = _setting("", "`v1beta`, and `v1beta1` for Vertex AI, unless set or in the base URL")
    api_key: str = _setting(
        "", "the key, sent as x-goog-api-key", env=("GEMINI_API_KEY", "GOOGLE_API_KEY"), secret=True
    )
    vertex: bool = _setting(False, "ask Vertex AI instead of the Gemini API", env=("GOOGLE_GENAI_USE_VERTEXAI",))
    project: str = _setting("", "Vertex AI: the project's id", env=("GOOGLE_CLOUD_PROJECT",))
    location: str = _setting("global", "Vertex AI: the location", env=("GOOGLE_CLOUD_LOCATION",))
    access_token: str = _setting("", "a bearer token instead of a key", secret=True)
    token_command: str = _setting(
        "",
        "a command that prints a bearer token, such as `gcloud auth print-access-token`; asked again on a 401",
        secret=True,  # its arguments may hold one
    )
    headers: Mapping[str, str] = field(
        factory=dict,
        repr=lambda headers: f"<{len(headers)} headers>",  # their values may be secret
        metadata={"help": "further headers of every request, such as a gateway's key", "secret": True},
    )
    extra_body: Mapping[str, Any] = field(
        factory=dict,
        metadata={"help": "further fields of every request's JSON, such as `safetySettings`; merged, tools appended"},
    )

    quirks: Mapping[str, Any] = field(
        factory=dict,
        metadata={"help": "what only Gemini's wire asks of a model, by its name: see the plugin's README"},
    )
    include_thoughts: bool = _setting(True, "ask models that think for summaries of their thoughts")
    stream: bool = _setting(True, "`false` asks for whole answers, for gateways that can't stream")

    connect_timeout_s: float = _setting(15.0, "for name lookup, connection and TLS", check=gt(0))
    chunk_timeout_s: float = _setting(120.0, "the longest silence, first answer included", check=gt(0))
    deadline_s: float = _setting(300.0, "for a whole attempt, whatever keeps arriving", check=gt(0))
    retry: Literal["charge_safe", "lenient", "off"] = _setting(
        "charge_safe",
        "`charge_safe` repeats only where no answer was seen; `lenient` also 5xx and cut answers",
        check=in_(("charge_safe", "lenient", "off")),
    )
    max_attempts: int = _setting(4, "how often a call is tried, courtesy waits aside", check=ge(1))
    max_concurrent: int = _setting(0, "calls at a time; 0: no limit", check=ge(0))
    requests_per_minute: int = _setting(0, "requests in any minute; 0: no limit", check=ge(0))
    tokens_per_minute: int = _setting(0, "tokens sent in any minute, by estimate; 0: no limit", check=ge(0))
    capture_requests: bool = _setting(False, "keep the body of each request, without secrets, in the call's record")
