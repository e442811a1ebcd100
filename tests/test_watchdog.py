"""A hook that blocks is named while it blocks."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from agents import agent, plugin

from lash_framework.watchdog import Watchdog


class Release(logging.Handler):
    """Lets the blocked hook go as soon as somebody names it."""

    def __init__(self) -> None:
        super().__init__()
        self.named = threading.Event()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        if "still does" in record.getMessage():
            self.named.set()


@pytest.fixture
def release() -> Any:
    handler = Release()
    logger = logging.getLogger("lash.hooks")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_a_hook_that_blocks_is_named_while_it_does(release: Release) -> None:
    """It used to be named only after it had returned, so one that never did was never named."""

    def lash_before_turn(ctx: Any) -> None:
        assert release.named.wait(30)

    async with agent(["a"], plugins=[plugin("heavy", lash_before_turn)]) as lash:
        with Watchdog(interval_s=0.02):
            turn = await (await lash.session()).run("q")
    assert turn.text == "a"
    assert any("`heavy`" in each and "`lash_before_turn`" in each for each in release.messages)


async def test_a_coroutine_that_blocks_between_awaits_is_named_too(release: Release) -> None:
    async def lash_checkpoint(ctx: Any) -> None:
        assert release.named.wait(30)

    async with agent(["a"], plugins=[plugin("async-heavy", lash_checkpoint)]) as lash:
        with Watchdog(interval_s=0.02):
            await (await lash.session()).run("q")
    assert any("`async-heavy`" in each for each in release.messages)
