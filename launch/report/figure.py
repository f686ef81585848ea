"""Figures whose words come from data: file names, labels, names of folders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shards.atomic import written_aside


@contextmanager
def drawn(
    png: Path, *, size: tuple[float, float], rows: int = 1, columns: int = 1, **options: Any
) -> Iterator[tuple[Any, Any]]:
    """A figure of `size` inches and its axes, an array (rows, columns); written to `png` at the end of the block.

    options: further ones of matplotlib's `Figure.subplots`. No text in it is taken for mathematics, as matplotlib would
    take whatever stands between two dollar signs. Raises ValueError where the file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False, **options)
        try:
            with written_aside(png) as file:
                figure.savefig(file, dpi=110, format="png")
        except OSError as error:
            raise ValueError(f"{png} cannot be written: {error.strerror}") from None
