"""The example plugin, as its entry point hands it to a host."""

from importlib.metadata import entry_points
from types import ModuleType

import pytest


@pytest.fixture
def plugin() -> ModuleType:
    (entry,) = entry_points(group="lash", name="hello")
    return entry.load()


def test_its_entry_point_leads_to_both_hooks(plugin: ModuleType) -> None:
    marked = {name for name, value in vars(plugin).items() if hasattr(value, "lash_impl")}
    assert marked == {"lash_tools", "lash_checkpoint"}


def test_its_tool_is_described_by_its_function(plugin: ModuleType) -> None:
    (tool,) = plugin.lash_tools(None)
    assert tool.manifest.name == "roll"
    assert tool.manifest.description.startswith("Roll a die")
    assert tool.manifest.input_schema["properties"]["sides"]["type"] == "integer"
    assert "sides" not in tool.manifest.input_schema.get("required", ())


async def test_its_tool_rolls_within_its_sides(plugin: ModuleType) -> None:
    (tool,) = plugin.lash_tools(None)
    assert await tool.call(None, {"sides": 1}) == 1


async def test_its_checkpoint_leaves_a_turn_alone(plugin: ModuleType) -> None:
    assert not await plugin.lash_checkpoint(None)
