"""A provider's `Wire`, for the contract's kit, as far as it is the same for all that are made of this package.

::

    class AcmeWire(ServiceWire):
        decoder = AcmeDecoder

        def open(self, setup):
            return AcmeProvider(AcmeSettings(**settings_of(setup)), **opening_of(setup))

What is left to write is the service's own: `stream`, `document`, `error`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from lash_hookspecs.testing.provider import Decoded, ProviderSetup, Wire
from lash_provider_kit.reader import Decoder, Limits, decoded

__all__ = ["ServiceWire", "opening_of", "settings_of"]


class ServiceWire(Wire):
    """A wire whose answers are read by `decoder`, made anew for each."""

    decoder: ClassVar[Callable[[], Decoder]]

    def decode(
        self,
        reads: Iterable[bytes],
        *,
        document: bool = False,
        max_event_bytes: int = Limits().event_bytes,
        max_stream_bytes: int = Limits().stream_bytes,
    ) -> Decoded:
        limits = Limits(event_bytes=max_event_bytes, stream_bytes=max_stream_bytes)
        return Decoded(*decoded(type(self).decoder(), reads, limits, document=document))


def settings_of(setup: ProviderSetup, path: str = "") -> dict[str, Any]:
    """What the setup says of `CallSettings`, and of `base_url` (which ends with `path`) and `api_key` beside them."""
    return {
        "base_url": setup.base_url + path,
        "api_key": setup.api_key,
        "retry": setup.retry,
        "max_attempts": setup.max_attempts,
        "chunk_timeout_s": setup.chunk_timeout_s,
        "deadline_s": setup.deadline_s,
        "capture_requests": setup.capture_requests,
    }


def opening_of(setup: ProviderSetup) -> dict[str, Any]:
    """What a provider takes beside its settings: the setup's waits, clock and limits, and no live calls."""
    return {
        "live_calls_allowed": False,
        "sleep": setup.sleep,
        "wall_clock": setup.wall_clock,
        "limits": Limits(event_bytes=setup.max_event_bytes, stream_bytes=setup.max_stream_bytes),
    }
