"""What every provider must do, as cases that its own tests run against a scripted server on a real socket.

A provider's tests write its `Wire` once: how the provider is opened, and how its service's answers look in bytes. Then
one line is enough, with pytest::

    test_provider = conformance(AcmeWire())

A wire, for a service whose stream is lines of JSON after `data:`::

    class AcmeWire(Wire):
        provider_id = "acme"
        cannot: Mapping[str, str] = {Ability.SEED: "Acme takes no seed", "limits.large-event": "…"}

        def open(self, setup):
            return AcmeProvider(url=setup.base_url, key=setup.api_key, sleep=setup.sleep, …)

        def stream(self, said):
            events = []
            for step in said:
                match step:
                    case Text(text):
                        events.append({"say": text})
                    case Used(usage):
                        events.append({"in": usage.input, "out": usage.output})
                    case Ends(reason):
                        events.append({"end": WORDS.get(reason, reason)})
                    …
            return [sse(event) for event in events]

        def error(self, fault, message):
            return json.dumps({"error": {"code": CODES[fault], "message": message}}).encode()

With anything but pytest: `for case in provider_cases(wire): await case.run(wire)`, on asyncio or trio. The cases know
no test framework: one that fails raises `AssertionError`. Ids are stable. What a wire can't do is left out by name,
with the reason that its `cannot` gives; `provider_cases` leaves those out, `conformance` has them skipped.

Two more lines fuzz the decoder, without sockets: `test_fuzz = decoding(wire)` is short, and driven by hypothesis;
`soak(wire, 1_000_000)` damages a million events.

For what is the provider's own: a `Caller` asks it once, against a `WireServer`, and `unheard` listens where there are
more calls; `user`, `assistant`, `system` and `asked` make requests, `PNG` and `LOADED` an image of theirs,
`any_message` the messages of a property; `refused` is why a request that can't be sent; `check_settings` looks at
what its settings say of themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lash_hookspecs.testing.provider import (
    answers,
    captured,
    chunking,
    connections,
    failures,
    limits,
    replay,
    requests,
    retries,
    secrets,
)
from lash_hookspecs.testing.provider.asking import (
    LOADED,
    NOT_LOADED,
    PNG,
    any_message,
    asked,
    assistant,
    refused,
    system,
    user,
)
from lash_hookspecs.testing.provider.caller import KEY, Caller, unheard
from lash_hookspecs.testing.provider.conformance import checked, pytest_of
from lash_hookspecs.testing.provider.fuzz import attack, decoding, soak
from lash_hookspecs.testing.provider.kit import ProviderCase, Scene
from lash_hookspecs.testing.provider.server import Answer, RecordedRequest, WireServer
from lash_hookspecs.testing.provider.settings import check_settings
from lash_hookspecs.testing.provider.wire import (
    MODEL,
    RESPONSE_ID,
    STATUSES,
    Ability,
    Call,
    Decoded,
    Ends,
    Fails,
    Fault,
    Novelty,
    ProviderSetup,
    Reasoning,
    Refusal,
    Said,
    Sealed,
    Text,
    Used,
    Wire,
)

__all__ = [
    "KEY",
    "LOADED",
    "MODEL",
    "NOT_LOADED",
    "PNG",
    "RESPONSE_ID",
    "STATUSES",
    "Ability",
    "Answer",
    "Call",
    "Caller",
    "Decoded",
    "Ends",
    "Fails",
    "Fault",
    "Novelty",
    "ProviderCase",
    "ProviderSetup",
    "Reasoning",
    "RecordedRequest",
    "Refusal",
    "Said",
    "Scene",
    "Sealed",
    "Text",
    "Used",
    "Wire",
    "WireServer",
    "any_message",
    "asked",
    "assistant",
    "attack",
    "check_settings",
    "conformance",
    "decoding",
    "every_case",
    "provider_cases",
    "refused",
    "soak",
    "system",
    "unheard",
    "user",
]

_PARTS = (answers, captured, chunking, connections, failures, limits, replay, requests, retries, secrets)


def every_case() -> list[ProviderCase]:
    """All cases, in the order of their ids."""
    return sorted((case for part in _PARTS for case in part.CASES.all), key=lambda case: case.id)


def provider_cases(wire: Wire) -> list[ProviderCase]:
    """The cases that the wire can be asked."""
    return [case for case in checked(wire, every_case()) if case.reason_to_skip(wire) is None]


def conformance(wire: Wire) -> Callable[..., Awaitable[None]]:
    """A pytest test of every case, to be bound to a name that begins with `test_`.

    What the wire can't do is skipped, with its reason. All cases run on asyncio, and on trio those that are about time
    or connections. The extra `testing` brings pytest and trio.
    """
    return pytest_of(wire, checked(wire, every_case()))
