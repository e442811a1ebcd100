"""What the kit for providers has beside its cases, tried on providers and settings that are wrong on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import find

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import (
    LlmCallError,
    LlmEventSender,
    LlmRequest,
    LlmResponse,
    ProviderFailureKind as Kind,
    StreamDelta,
    TokenUsage,
)
from lash_hookspecs.llm_messages import LlmMessage, LlmRole, TextBlock, llm_text
from lash_hookspecs.testing.provider import (
    KEY,
    MODEL,
    Caller,
    any_message,
    asked,
    assistant,
    check_settings,
    refused,
    system,
    unheard,
    user,
)
from lash_hookspecs.values import frozen

ANSWER = LlmResponse(parts=(), usage=TokenUsage())


@define
class Fake:
    """Streams a text, then answers or fails."""

    outcome: object = ANSWER
    shown: str = ""
    asked: list[LlmRequest] = field(factory=list)
    closed: bool = False

    def __repr__(self) -> str:
        return f"Fake({self.shown})"

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> object:
        assert not self.closed
        self.asked.append(request)
        await send([StreamDelta("Hi")])
        if isinstance(self.outcome, LlmCallError):
            raise LlmCallFailed(self.outcome)
        return self.outcome

    async def aclose(self) -> None:
        self.closed = True


# ---- a caller


async def test_a_caller_asks_hears_and_closes() -> None:
    provider = Fake()
    caller = Caller(provider)
    assert await caller.call() is ANSWER
    assert not provider.closed
    assert await caller.ask(asked(model="other")) is ANSWER
    assert provider.closed
    assert [each.model for each in provider.asked] == [MODEL, "other"]
    assert (caller.text, caller.events) == ("HiHi", [StreamDelta("Hi")] * 2)
    await caller.sleep(2.5)
    assert caller.waits == [2.5]


async def test_it_closes_a_provider_that_fails_too() -> None:
    error = LlmCallError(message="no", code="x")
    provider = Fake(error)
    assert await Caller(provider).fail() == error
    assert provider.closed
    with pytest.raises(LlmCallFailed):
        await Fake(error).complete(asked(), unheard)


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        (Fake(), "had to fail"),
        (Fake("text"), "`LlmResponse` was expected"),
        (Fake(LlmCallError(message=f"wrong key {KEY}")), "key is shown"),
        (Fake(LlmCallError(message="no"), shown=KEY), "key is shown"),
    ],
    ids=["answers", "answers with a text", "key in the error", "key in the repr"],
)
async def test_a_failure_that_is_none_or_shows_the_key_is_told(provider: Fake, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        await Caller(evolve(provider, closed=False)).fail()


# ---- requests


def test_messages_are_as_a_conversation_has_them() -> None:
    assert user("a") == llm_text(LlmRole.USER, "a")
    assert system("a") == llm_text(LlmRole.SYSTEM, "a")
    assert assistant("a", TextBlock(text="b")).blocks == (TextBlock(text="a"), TextBlock(text="b"))
    assert assistant() == LlmMessage(LlmRole.ASSISTANT, ())


def test_any_message_is_also_of_what_is_given() -> None:
    mark = TextBlock(text="mark", cache_breakpoint=True)
    assert find(any_message(mark), lambda message: mark in message.blocks).blocks == (mark,)


VALIDATION = LlmCallError(message="no", kind=Kind.VALIDATION, code="x")


def raising(error: LlmCallError) -> Any:
    raise LlmCallFailed(error)


def test_a_request_is_refused_for_good_and_for_free() -> None:
    assert refused(lambda: raising(VALIDATION)) == VALIDATION
    for wrong in ({"kind": Kind.HTTP}, {"retryable": True}, {"usage": TokenUsage()}):
        with pytest.raises(AssertionError, match="no refusal"):
            refused(lambda wrong=wrong: raising(evolve(VALIDATION, **wrong)))
    with pytest.raises(AssertionError, match="had to be refused"):
        refused(lambda: b"{}")


# ---- settings


def declared(default: Any = "", **metadata: Any) -> Any:
    return field(default=default, repr=not metadata.get("secret"), metadata={"help": "what it is", **metadata})


@frozen(kw_only=True)
class Good:
    url: str = declared("http://x", env=("ACME_URL",))
    key: str = declared(secret=True, env=("ACME_KEY",))
    headers: Mapping[str, str] = field(factory=dict, repr=False, metadata={"help": "more", "secret": True})


@frozen(kw_only=True)
class NoDefault(Good):
    name: str = field(metadata={"help": "what it is"})


@frozen(kw_only=True)
class NoHelp(Good):
    name: str = declared(help="")


@frozen(kw_only=True)
class Unmarked(Good):
    token: str = declared()
    headers: Mapping[str, str] = field(factory=dict, metadata={"help": "more"})


@frozen(kw_only=True)
class OtherVariable(Good):
    key: str = declared(secret=True, env=("ACME_SECRET",))


@frozen(kw_only=True)
class Shown(Good):
    headers: Mapping[str, str] = field(factory=dict, metadata={"help": "more", "secret": True})


SAID: dict[str, Any] = {"secrets": {"key", "headers"}, "env": {"url": ("ACME_URL",), "key": ("ACME_KEY",)}}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (NoDefault, "default or a help text: .*name"),
        (NoHelp, "default or a help text: .*name"),
        (Unmarked, "marked as secret: .*key"),
        (OtherVariable, "have variables: .*ACME_SECRET"),
        (Shown, "secret is shown"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_settings_that_say_too_little_or_too_much(settings: type[Any], words: str) -> None:
    check_settings(Good, **SAID)
    with pytest.raises(AssertionError, match=words):
        check_settings(settings, **SAID)
