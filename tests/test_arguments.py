"""What callers give that can't be: unknown options, values of another type. They were ignored, or made odd errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agents import agent

from lash_framework import Lash
from lash_hookspecs import ConfigurationError, GenerationOptions, TextItem, TurnInput


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"deadline": 1.0}, "no option `deadline`: did you mean `deadline_s`?"),
        ({"ouput": dict}, "no option `ouput`: did you mean `output`?"),
        ({"foo": 1}, "no option `foo`: known: `deadline_s`"),
        ({"turn_id": 5}, "`turn_id` is `5`, a `int`; expected is text"),
        ({"generation": {"temperature": 1}}, "`generation` is `{'temperature': 1}`, a `dict`"),
        ({"deadline_s": "x"}, "`deadline_s` is `'x'`, a `str`; expected is a number of seconds"),
        ({"deadline_s": True}, "`deadline_s` is `True`"),
        ({"deadline_s": float("nan")}, "`deadline_s`"),
        ({"output": "text"}, "`output` is `'text'`"),
        ({"wait": 1}, "`wait` is `1`"),
        ({"turn_id": "a\ud800"}, "`turn_id` is `'a\\ud800'`, a `str`, which nothing can store: half of a surrogate"),
        ({"max_tokens": 2**64}, "`max_tokens` is `18446744073709551616`, a `int`, which nothing can store"),
        ({"max_tokens": -1}, "`max_tokens` is `-1`; expected is at least 0"),
    ],
    ids=str,
)
async def test_a_turns_options_are_checked(options: dict[str, Any], said: str) -> None:
    async with agent([]) as lash:
        session = await lash.session()
        with pytest.raises(ConfigurationError) as raised:
            await session.run("q", **options)
        assert said in str(raised.value)
        with pytest.raises(ConfigurationError):
            session.turn("q", **options)


WRONG: list[Any] = [None, 5, b"q", ["q"], TurnInput(items=("q",)), TurnInput(items=(TextItem(5),))]  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("given", WRONG)
async def test_what_is_no_input_is_said_to_be_none(given: Any) -> None:
    async with agent([]) as lash:
        with pytest.raises(ConfigurationError, match=r"input is .*; expected is"):
            await (await lash.session()).run(given)


@pytest.mark.parametrize(
    "options",
    [
        {"store": 5},
        {"require_durable": "yes"},
        {"store": Path("a.db")},
        {"model": 5},
        {"mode": 5},
        {"instructions": 5},
        {"max_turns": "x"},
        {"tools": 5},
        {"plugins": 5},
        {"settings": {}},
        {"config": 5},
        {"max_turns": 0},
    ],
    ids=str,
)
async def test_what_a_host_is_opened_with_is_checked(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigurationError, match=rf"`Lash.open`: `{name}` is .*; expected is"):
        async with Lash.open(**options):
            pass


@pytest.mark.parametrize(
    "options",
    [
        {"session_id": 5},
        {"model": 5},
        {"generation": {"temperature": 1}},
        {"instructions": 5},
        {"max_turns": "x"},
        {"recover": 1},
    ],
    ids=str,
)
async def test_what_a_session_is_opened_with_is_checked(options: dict[str, Any]) -> None:
    (name,) = options
    async with agent([]) as lash:
        with pytest.raises(ConfigurationError, match=rf"`Lash.session`: `{name}` is .*; expected is"):
            await lash.session(**options)


@pytest.mark.parametrize(
    "options", [{"session_id": "a\ud800"}, {"instructions": "\udcff"}, {"max_turns": 2**64}], ids=str
)
async def test_what_nothing_can_store_is_refused_where_it_is_said(options: dict[str, Any]) -> None:
    """The store refused such an id, with a text that named none, and each later turn of the session such a number."""
    (name,) = options
    async with agent([]) as lash:
        with pytest.raises(ConfigurationError, match=rf"`Lash.session`: `{name}` is .*, which nothing can store"):
            await lash.session(**options)


async def test_a_session_is_not_configured_so_that_no_turn_can_run() -> None:
    """It was taken, and then each turn failed: its policy couldn't be stored."""
    async with agent(["a"]) as lash:
        session = await lash.session()
        for changes in ({"max_turns": 2**64}, {"budget": {}}):
            with pytest.raises(ConfigurationError, match="can't be configured so"):
                await session.configure(**changes)
        assert (await session.run("q")).text == "a"


@pytest.mark.parametrize("names", ["roll", None, 5], ids=str)
async def test_tools_are_named_in_a_list(names: Any) -> None:
    """A text was taken for its letters: `unknown tool r`."""
    async with agent([]) as lash:
        session = await lash.session()
        for option in ("show", "hide"):
            with pytest.raises(ConfigurationError, match=rf"`{option}` is .*; expected is a list of names"):
                await session.edit_tools(**{option: names})


async def test_what_is_right_is_taken() -> None:
    async with agent(["a", "b"]) as lash:
        session = await lash.session("s", generation=GenerationOptions(seed=1), max_turns=None)
        assert (await session.run("q", turn_id="t", deadline_s=30, wait=True, output=None)).text == "a"
        assert (await session.run(TurnInput.text("q"), deadline_s=30.0)).text == "b"
