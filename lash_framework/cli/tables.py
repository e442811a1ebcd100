"""Tables for people: drawn with rich on a terminal, aligned columns in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click

from lash_framework.cli.lines import clean

__all__ = ["heading", "moment", "print_table"]


_NARROW = 10
"""Characters; a column that would be narrower says nothing."""


def heading(text: str) -> None:
    """A line over what follows."""
    click.secho(clean(text), bold=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "nothing") -> None:
    """Rows under named columns; `empty` is said instead of a table without rows."""
    texts = [[clean(str(cell)) for cell in row] for row in rows]
    if not texts:
        click.echo(empty)
    elif sys.stdout.isatty():
        _draw(columns, texts)
    else:
        lines = [[*columns], *texts]
        widths = [max(len(row[index]) for row in lines) for index in range(len(columns))]
        for row in lines:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo("  ".join(cells).rstrip())


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    if widths[0] + sum(min(each, _NARROW) + 3 for each in widths[1:]) > console.width:
        _list(columns, rows)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _list(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """One cell a line, where a table would leave out what doesn't fit."""
    width = max(map(len, columns))
    for number, row in enumerate(rows):
        if number:
            click.echo()
        for column, cell in zip(columns, row, strict=True):
            click.echo(f"{column.ljust(width)}  {cell}")


def moment(milliseconds: int) -> str:
    """A point in time as people here read it."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
