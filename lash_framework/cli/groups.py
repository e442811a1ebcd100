"""Groups of commands, such as `lash sessions`, that know what was meant."""

from __future__ import annotations

import click

__all__ = ["NearestGroup"]


class NearestGroup(click.Group):
    """A group that names the nearest right command for a wrong one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, but for a wrong name."""
        name = args[0]
        if not name.startswith("-") and name not in self.commands:
            from lash_hookspecs.errors import nearest

            raise click.UsageError(f"unknown command `{ctx.info_name} {name}`: {nearest(name, self.commands)}", ctx)
        return super().resolve_command(ctx, args)
