"""What the plugin registers: the mode `standard` and the tool `batch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lash_hookspecs.markers import hookimpl
from lash_hookspecs.modes import Mode, ModeDriver
from lash_hookspecs.plugins import PluginInfo

if TYPE_CHECKING:
    from lash_hookspecs.tools import Tool
    from lash_hookspecs.turn_steps import ProtocolDriver


def _driver() -> ProtocolDriver:
    from lash_plugin_mode_standard.driver import StandardDriver

    return StandardDriver()


@hookimpl
def lash_plugin_info() -> PluginInfo:
    return PluginInfo(id="mode-standard", version="0.1.0", summary="A model calls tools until it has answered.")


@hookimpl
def lash_modes() -> list[Mode]:
    from lash_plugin_mode_standard.options import StandardOptions
    from lash_plugin_mode_standard.prompts import EXECUTION_PROMPT

    driver = ModeDriver(make=_driver, execution_prompt=EXECUTION_PROMPT, options=StandardOptions)
    return [Mode(mode_id="standard", driver=driver, summary="A model calls native tools until it has answered.")]


@hookimpl
def lash_tools() -> list[Tool]:
    from lash_plugin_mode_standard.batch import BatchTool

    return [BatchTool()]
