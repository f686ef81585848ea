"""Tables on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from launch.progress import printable


def print_table(header: Sequence[str | Column], rows: Iterable[Sequence[str]], **options: Any) -> None:
    """Print a table; an empty row is a line across it.

    Cells may hold what others wrote: neither markup nor control characters in them have an effect. options: further
    ones of rich's `Table`.
    """
    table = Table(*header, **options)
    for row in rows:
        if row:
            table.add_row(*(escape(printable(cell)) for cell in row))
        else:
            table.add_section()
    Console().print(table)
