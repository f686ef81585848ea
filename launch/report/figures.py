"""Figures whose words come from data: file names, labels, names of folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from sklearn.manifold import TSNE

from avc.encoders.cache import Extraction
from avc.evaluation.classifiers import Rows, z_scores
from avc.evaluation.kinds import LabeledClips
from launch.progress import printable
from shards.atomic import written_aside

PERPLEXITY = 30


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


def draw_tsne(png: Path, features: Mapping[str, Extraction], clips: LabeledClips) -> None:
    """A panel for each kind of features: t-SNE of the clips' mean rows, colored by label.

    Raises ValueError where the figure cannot be written.
    """
    with drawn(png, size=(5 * len(features), 5.5), columns=len(features)) as (figure, [panels]):
        colors = colormaps["tab20"]
        for panel, (name, extraction) in zip(panels, features.items(), strict=True):
            rows, item = extraction.features.rows, extraction.features.item
            tested = np.intersect1d(item, np.flatnonzero(clips.fold == 0))
            means = np.stack([rows[item == clip].mean(axis=0) for clip in tested])
            mean, scale = z_scores(Rows(means, np.arange(len(means))))
            perplexity = min(PERPLEXITY, len(tested) / 4)
            points: Any = TSNE(random_state=0, init="pca", perplexity=perplexity).fit_transform((means - mean) * scale)
            for number, label in enumerate(clips.classes):
                x, y = points[clips.label[tested] == number].T
                color = colors(number % colors.N)
                panel.scatter(x, y, s=12, color=color, label=printable(label))
            panel.set(title=printable(name), xticks=[], yticks=[])
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=8)
