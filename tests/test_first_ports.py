"""What goes wrong in a first model provider, or a first store: each slip is told with whose it is, and ends no host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from agents import NoSettings, agent, plugin

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import (
    AssembledTurn,
    ConfigurationError,
    LlmResponse,
    ModelCapability,
    PluginError,
    ProviderSpec,
    StoreSpec,
    StreamDelta,
)
from lash_hookspecs.stores import Capability, StoreContext

# ---- providers ------------------------------------------------------------------------------------------------------


class Mine:
    """A provider that says one word."""

    def capability(self, model: str) -> Any:
        return ModelCapability()

    async def complete(self, request: object, send: Any) -> Any:
        return LlmResponse(full_text="Yes.")

    async def aclose(self) -> None:
        """There is nothing to close."""


class SaysNumbers(Mine):
    async def complete(self, request: object, send: Any) -> Any:
        text: Any = 42
        return LlmResponse(full_text=text)


class HasParts(Mine):
    async def complete(self, request: object, send: Any) -> Any:
        parts: Any = ["Yes."]
        return LlmResponse(full_text="Yes.", parts=parts)


class HasTexts(Mine):
    async def complete(self, request: object, send: Any) -> Any:
        parts: Any = ("Yes.",)
        return LlmResponse(full_text="Yes.", parts=parts)


class SendsOne(Mine):
    async def complete(self, request: object, send: Any) -> Any:
        await send(StreamDelta("Yes."))
        return LlmResponse(full_text="Yes.")


class CanText(Mine):
    def capability(self, model: str) -> Any:
        return "everything"


class KeepsOpen(Mine):
    async def aclose(self) -> None:
        raise ValueError("stuck")


async def answered(provider: Mine) -> AssembledTurn:
    def lash_providers() -> list[ProviderSpec]:
        return [ProviderSpec(provider_id="mine", settings=NoSettings, open=lambda _: provider, live=False)]

    settings = load_settings(env={})
    own = plugin("own", lash_providers)
    async with Lash.open("sqlite://", model="mine:x", plugins=[own], settings=settings) as lash:
        return await (await lash.session("s")).run("Well?")


ANSWERS: dict[str, tuple[type[Mine], str]] = {
    "a number for text": (
        SaysNumbers,
        "provider `mine` returned a `LlmResponse` whose `full_text` is a `int`; expected is text",
    ),
    "a list for parts": (
        HasParts,
        "provider `mine` returned a `LlmResponse` whose `parts` is a `list`; expected is a tuple",
    ),
    "text for a part": (
        HasTexts,
        "provider `mine` returned a `LlmResponse` with a `str` among its `parts`: write `TextOutput(text=…)`, "
        "for instance",
    ),
    "one event for a sequence": (
        SendsOne,
        "provider `mine` failed: TypeError: 'StreamDelta' object is not iterable",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_a_providers_slip_is_the_turns_error_with_its_name(case: str) -> None:
    """The mode's plugin was said to have failed, or the turn was left with a bare error."""
    provider, message = ANSWERS[case]
    turn = await answered(provider())
    assert [each.message for each in turn.errors] == [message]


async def test_a_provider_that_says_nonsense_of_its_model_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"provider `mine` can't say what `x` can do: .* returned a `str`"):
        await answered(CanText())


async def test_a_provider_that_cannot_be_closed_is_named() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await answered(KeepsOpen())
    (error,) = caught.value.exceptions
    assert isinstance(error, PluginError)
    assert str(error) == "plugin `own`, hook `lash_providers`: provider `mine` can't be closed: ValueError: stuck"


# ---- stores ---------------------------------------------------------------------------------------------------------


class Half:
    """A store with nothing but what any store has."""

    persistent = False
    location = "nowhere"

    def __init__(self, *capabilities: Capability) -> None:
        self.capabilities = frozenset(capabilities)
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True


async def nothing(context: StoreContext) -> Any:
    return None


async def raises(context: StoreContext) -> Any:
    raise KeyError("drawer")


def forgets_async(context: StoreContext) -> Any:
    return Half()


Opens = Callable[[StoreContext], Awaitable[Any]]
STORES: dict[str, tuple[Opens, str]] = {
    "nothing": (nothing, "can't be opened: its `open` returned None, which is no `Store`"),
    "an error of its own": (raises, "can't be opened: KeyError: 'drawer'"),
    "without async": (forgets_async, "can't be opened: TypeError: "),
}


def opened_by(open_it: Opens) -> Any:
    def lash_stores() -> list[StoreSpec]:
        return [StoreSpec(schemes=("drawer",), open=open_it)]

    return agent([], store="drawer://", plugins=[plugin("own", lash_stores)])


@pytest.mark.parametrize("case", STORES)
async def test_a_stores_slip_is_told_with_its_plugin(case: str) -> None:
    """They were an `AttributeError`, a `TypeError` and a `KeyError` out of `Lash.open`."""
    open_it, message = STORES[case]
    with pytest.raises(ConfigurationError) as caught:
        async with opened_by(open_it):
            """It doesn't come so far."""
    assert str(caught.value).startswith(f"the store for `drawer:` of plugin `own` {message}")


NEEDED = (Capability.SESSIONS, Capability.BLOBS, Capability.LOCKS)


@pytest.mark.parametrize(
    ("capabilities", "lacks"),
    [((), "blobs, locks, sessions"), (NEEDED, "`commit`, `create_session`, ")],
    ids=["capabilities", "methods"],
)
async def test_a_store_that_lacks_something_is_told_what_and_closed(
    capabilities: tuple[Capability, ...], lacks: str
) -> None:
    store = Half(*capabilities)

    async def half(context: StoreContext) -> Any:
        return store

    with pytest.raises(ConfigurationError) as caught:
        async with opened_by(half):
            """It doesn't come so far."""
    assert str(caught.value).startswith(f"the store for `drawer:` of plugin `own` lacks {lacks}")
    assert store.closed
