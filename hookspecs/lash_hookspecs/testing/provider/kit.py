"""What the cases are made of: a client of the provider under test, a server that plays its service, and checks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from attrs import evolve, field

from lash_hookspecs.llm import LlmRequest, LlmResponse, LlmTerminalReason, TokenUsage
from lash_hookspecs.testing.provider.asking import asked
from lash_hookspecs.testing.provider.caller import KEY, Client
from lash_hookspecs.testing.provider.server import Answer, WireServer, document, raw, status
from lash_hookspecs.testing.provider.wire import (
    Ability,
    Decoded,
    Ends,
    Fault,
    ProviderSetup,
    Said,
    Text,
    Used,
    Wire,
)
from lash_hookspecs.values import frozen

__all__ = [
    "NOW",
    "Cases",
    "ProviderCase",
    "Scene",
    "check",
    "hello",
    "same",
]

NOW = 1_750_000_000.0
"""What time it is for a provider, until a case says otherwise."""

USAGE = TokenUsage(input=12, output=7)


def hello(*before: Said, usage: TokenUsage = USAGE, reason: LlmTerminalReason | str = LlmTerminalReason.STOP) -> Any:
    """A plain whole answer, or one that says `before`."""
    return (*(before or (Text("Hel"), Text("lo"))), Used(usage), Ends(reason))


class Scene(Client):
    """One provider against one server. Use it as a context manager; what it opened, it closes."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.wire = wire
        self.server = WireServer()
        self.now = NOW
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._closing.enter_context(self.server)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    # ---- the provider

    def open(self, **changes: Any) -> Any:
        """The provider, opened with these settings; `ask` opens one itself."""
        setup = ProviderSetup(base_url=self.server.origin, api_key=KEY, sleep=self.sleep, wall_clock=lambda: self.now)
        self.provider = self.wire.open(evolve(setup, **changes))
        self._closing.push_async_callback(self.provider.aclose)
        return self.provider

    @property
    def request(self) -> LlmRequest:
        """A plain request."""
        return asked()

    async def warm(self) -> None:
        """Make a call with a provider of its own, so that what is imported then falls into no short time limit."""
        self.server.answer(self.say(*hello()))
        await self.open().complete(asked(), self.listen)
        self.events.clear()
        self.server.requests.clear()

    async def ask(self, request: LlmRequest | None = None) -> LlmResponse:
        """The answer; where no provider is open, one is opened."""
        if self.provider is None:
            self.open()
        return await self.call(request)

    async def sleep(self, seconds: float) -> None:
        """Note a wait down, after which it is that much later."""
        await super().sleep(seconds)
        self.now += seconds

    # ---- the service

    def say(self, *said: Said, **options: Any) -> Answer:
        """An answer, each event in a write of its own. Options are those of `server.raw`."""
        return raw(*self.wire.stream(said), **{"content_type": self.wire.content_type, **options})

    def one_piece(self, body: bytes, content_type: str = "application/json") -> Answer:
        """A 200 with this body."""
        return document(body, content_type=content_type)

    def refuse(
        self, fault: Fault, code: int | None = None, message: str = "no, says the service", **headers: str
    ) -> Answer:
        """An error answer, with the status that is usual for it; `retry_after="2"` is the header `retry-after`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return status(code or self.wire.statuses[fault], self.wire.error(fault, message), headers=named)

    # ---- what was seen

    @property
    def tries(self) -> int:
        """How many requests have come."""
        return len(self.server.requests)

    def decode(self, reads: Iterable[bytes], **options: Any) -> Decoded:
        """What the decoder alone makes of these reads."""
        return self.wire.decode(reads, **options)


Run = Callable[[Scene], Awaitable[None]]


@frozen
class ProviderCase:
    """One statement about a provider. `needs` are the abilities that its check uses.

    `invariant` is the number of the providers' invariant that it shows, where it shows one. `network`: it is about time
    or connections, so an event loop may make a difference; the others are about bytes.
    """

    id: str
    statement: str
    needs: frozenset[Ability]
    invariant: int | None
    network: bool
    _run: Run = field(repr=False)

    def reason_to_skip(self, wire: Wire) -> str | None:
        """Why the wire can't be asked this."""
        return next((wire.cannot[each] for each in (self.id, *sorted(self.needs)) if each in wire.cannot), None)

    async def run(self, wire: Wire) -> None:
        """Check it. Raises `AssertionError` if it doesn't hold."""
        async with Scene(wire) as scene:
            await self._run(scene)


class Cases:
    """Collects the cases of one module; a case's id is `PART.NAME`, its statement its docstring.

    `network` is that of its cases, where they don't say.
    """

    def __init__(self, part: str, *, network: bool = False) -> None:
        self.part = part
        self.all: list[ProviderCase] = []
        self._network = network

    def add(
        self,
        name: str,
        statement: str,
        run: Run,
        *needs: Ability,
        invariant: int | None = None,
        network: bool | None = None,
    ) -> None:
        """A case that is a row of a table."""
        told = self._network if network is None else network
        self.all.append(ProviderCase(f"{self.part}.{name}", statement, frozenset(needs), invariant, told, run))

    def __call__(
        self, name: str, *needs: Ability, invariant: int | None = None, network: bool | None = None
    ) -> Callable[[Run], Run]:
        """A case that is a function."""

        def added(run: Run) -> Run:
            self.add(name, " ".join((run.__doc__ or "").split()), run, *needs, invariant=invariant, network=network)
            return run

        return added


def same(got: object, wanted: object) -> None:
    if got != wanted:
        raise AssertionError(f"got    {got!r}\nwanted {wanted!r}")


def check(holds: object, what: str) -> None:
    if not holds:
        raise AssertionError(what)
