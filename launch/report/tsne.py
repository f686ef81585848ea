"""A map of features: each tested clip a point in the plane, near to those that are like it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from sklearn.manifold import TSNE

from avc.evaluation.classifiers import Rows, z_scores
from avc.evaluation.clips import LabeledClips
from avc.evaluation.extraction import Extraction
from launch.progress import printable
from launch.report.figure import drawn

PERPLEXITY = 30


def draw_tsne(features: Mapping[str, Extraction], known: LabeledClips, png: Path) -> None:
    """A panel for each kind of features: t-SNE of the clips' mean rows, colored by label.

    Raises ValueError where the figure cannot be written.
    """
    with drawn(png, size=(5 * len(features), 5.5), columns=len(features)) as (figure, [panels]):
        colors = colormaps["tab20"]
        for panel, (name, extraction) in zip(panels, features.items(), strict=True):
            rows, item = extraction.features.rows, extraction.features.item
            tested = np.intersect1d(item, np.flatnonzero(known.fold == 0))
            means = np.stack([rows[item == clip].mean(axis=0) for clip in tested])
            mean, scale = z_scores(Rows(means, np.arange(len(means))))
            perplexity = min(PERPLEXITY, len(tested) / 4)
            points: Any = TSNE(random_state=0, init="pca", perplexity=perplexity).fit_transform((means - mean) * scale)
            for number, label in enumerate(known.classes):
                x, y = points[known.label[tested] == number].T
                color = colors(number % colors.N)
                panel.scatter(x, y, s=12, color=color, label=printable(label))
            panel.set(title=printable(name), xticks=[], yticks=[])
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=8)
