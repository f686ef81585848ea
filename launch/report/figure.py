"""Pictures for reports whose words come from data: file names, labels, names of folders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shards.atomic import written_aside


@contextmanager
def drawn(png: Path, *, size: tuple[float, float], panels: int = 1) -> Iterator[tuple[Any, list[Any]]]:
    """A figure of `size` inches and its panels, side by side; written to `png` at the end of the block.

    No text in it is taken for mathematics, as matplotlib would take whatever stands between two dollar signs.
    Raises ValueError where the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"text.parse_math": False}):
        figure, axes = pyplot.subplots(1, panels, figsize=size, layout="constrained", squeeze=False)
        try:
            yield figure, list(axes[0])
            with written_aside(png) as file:
                figure.savefig(file, dpi=110, format="png")
        except OSError as error:
            raise ValueError(f"{png} cannot be written: {error.strerror}") from None
        finally:
            pyplot.close(figure)
