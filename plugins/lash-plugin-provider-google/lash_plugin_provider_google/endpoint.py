"""Where a model is asked: Google's Gemini API, Vertex AI, or what stands in front of either."""

from __future__ import annotations

import re
from urllib.parse import quote

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.values import frozen
from lash_plugin_provider_google.settings import GoogleSettings
from lash_provider_kit.redact import checked_url

__all__ = ["Endpoint", "endpoint_of"]

_GEMINI = "https://generativelanguage.googleapis.com"
_VERSION = re.compile(r"/v\d\w*$")
_NAME = re.compile(r"[\w.:-]+")
# Jurisdictions of several regions, which have host names of another form.
_WIDE = frozenset({"us", "eu"})


@frozen(kw_only=True)
class Endpoint:
    """A base URL with its version, and where below it models are: `parent`, then `family`."""

    url: str
    parent: str
    family: str
    is_google: bool
    is_vertex: bool

    @property
    def name(self) -> str:
        """The URL below which the models are, without a query: gateways may want their key there."""
        return self.url.partition("?")[0] + self.parent

    def url_of(self, model: str, *, stream: bool) -> str:
        """Where `model` is asked. A name with slashes is that of a resource, such as `tunedModels/x`."""
        named = model.strip().strip("/")
        if named.startswith("projects/"):
            path = f"/{quote(named)}"
        elif "/" in named:
            path = f"{self.parent}/{quote(named)}"
        else:
            path = f"{self.parent}{self.family}/{quote(named, safe='')}"
        plain, _, query = self.url.partition("?")
        queries = [each for each in ("alt=sse" if stream else "", query) if each]
        method = "streamGenerateContent" if stream else "generateContent"
        return f"{plain}{path}:{method}" + (f"?{'&'.join(queries)}" if queries else "")


def endpoint_of(settings: GoogleSettings, provider_id: str) -> Endpoint:
    """The endpoint that settings mean; raises `ConfigurationError` where they can't be meant."""
    prefix = f"provider.{provider_id}"
    given, parent = settings.base_url.strip(), ""
    if settings.vertex and settings.project:
        project = _checked(settings.project, f"{prefix}.project")
        parent = f"/projects/{project}/locations/{_checked(settings.location, f'{prefix}.location')}"
    base = checked_url(given or _default(settings, parent), f"{prefix}.base_url")
    plain, mark, query = base.partition("?")
    plain = plain.rstrip("/")
    if not _VERSION.search(plain):
        version = settings.api_version.strip("/ ") or ("v1beta1" if settings.vertex else "v1beta")
        plain = f"{plain}/{_checked(version, f'{prefix}.api_version')}"
    return Endpoint(
        url=plain + mark + query,
        parent=parent,
        family="/publishers/google/models" if settings.vertex else "/models",
        is_google=not given,
        is_vertex=settings.vertex,
    )


def _default(settings: GoogleSettings, parent: str) -> str:
    if not settings.vertex:
        return _GEMINI
    location = settings.location.strip()
    if location == "global" or not parent:  # without a project it is a key that says whose call it is
        return "https://aiplatform.googleapis.com"
    if location in _WIDE:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def _checked(value: str, setting: str) -> str:
    if not _NAME.fullmatch(value.strip()):
        raise ConfigurationError(f"`{setting}` can't be {value!r}: it may have letters, digits, `-`, `.`, `:` and `_`")
    return value.strip()
