"""A tool that rolls a die, and a hook between the steps of a turn."""

from random import randint

from lash_hookspecs import hookimpl, tool


@tool
async def roll(sides: int = 6) -> int:
    """Roll a die with that many sides."""
    return randint(1, sides)


@hookimpl
def lash_tools(ctx):
    return [roll]


@hookimpl
async def lash_checkpoint(ctx):
    return []  # directives: nothing to add to this turn
