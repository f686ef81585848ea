"""What embeddings are worth, watched while a network is trained (`validation.evaluators`).

A task's own score says how well it does its task; what people want of it are its features. On clips of the
validation split: the rank of the embeddings, how near those of one clip are and how evenly all are spread, whether each
finds its partner, and what a linear classifier makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avc.data.labels import labeled, read_labels
from avc.distributed.world import World
from avc.models.pair import PairNetwork
from avc.settings import PairValidation
from shards.read import Shards

MOST_CLIPS = 2048
RECALL_QUERIES = 256  # at once
RIDGE = 1e-2  # of the probe, times the mean square of the features
TESTED = 4  # of the labeled clips, the probe is tested on every fourth and fitted on the others


class Views:
    """One view of each of up to 2,048 clips, evenly spread over those of a split: its embeddings of image and audio.

    clips: int64, rows of the index; total: how many the index has.
    """

    def __init__(self, clips: NDArray[np.int64], total: int) -> None:
        chosen = np.linspace(0, len(clips) - 1, min(MOST_CLIPS, len(clips))).round().astype(np.int64)
        self._wanted = torch.zeros(total, dtype=torch.bool)
        self._wanted[torch.from_numpy(np.sort(clips)[chosen])] = True
        self._parts: list[tuple[Tensor, ...]] = []

    def add(self, clip: Tensor, image: Tensor, audio: Tensor) -> None:
        """Keep what is wanted of these; embeddings of places are not."""
        clip = clip.cpu()
        rows = self._wanted[clip].nonzero()[:, 0]
        vectors = (
            x[rows.to(x.device)].float().cpu() for x in (image if image.dim() == 2 else image[:, :0, 0, 0], audio)
        )
        self._parts.append((clip[rows], *vectors))

    def of_all_ranks(self, world: World) -> tuple[Tensor, Tensor, Tensor]:
        """Clips, ascending, and their embeddings; every rank must call it."""
        parts = [part for of_rank in world.gather_objects(self._parts) for part in of_rank]
        clip, image, audio = (torch.cat(columns) for columns in zip(*parts, strict=True))
        order = clip.argsort()
        return clip[order], image[order], audio[order]


def evaluate_embeddings(
    views: Views, world: World, *, network: PairNetwork, shards: Shards, settings: PairValidation
) -> dict[str, float]:
    """The numbers that `settings.evaluators` asks for beside the accuracy; every rank must call it.

    Raises ValueError where the clips have no labels.
    """
    if settings.evaluators == ["pairs"]:
        return {}
    clip, image, audio = views.of_all_ranks(world)
    vectors = {name: x for name, x in (("image", image), ("audio", audio)) if x.shape[1]}
    together = network.one_space and len(vectors) == 2
    values: dict[str, float] = {}
    if "rankme" in settings.evaluators:
        values |= {f"rankme_{name}": rank_me(x) for name, x in vectors.items()}
        if together:
            values |= {f"uniformity_{name}": uniformity(x) for name, x in vectors.items()}
            values["alignment"] = alignment(image, audio)
    if "retrieval" in settings.evaluators and together:
        for k in (1, 10):
            values[f"image_to_audio_recall_at_{k}"] = float(recalls([k], image, audio).mean())
            values[f"audio_to_image_recall_at_{k}"] = float(recalls([k], audio, image).mean())
    if "probe" in settings.evaluators and settings.labels is not None:
        known = labeled(shards, clip.numpy(), read_labels(settings.labels))
        rows = np.flatnonzero(np.isin(clip.numpy(), known.clips))
        label = torch.from_numpy(known.sets[:, 0])
        values |= {f"probe_{name}": ridge_accuracy(x[rows], label) for name, x in vectors.items()}
    return values


def label_warnings(shards: Shards, settings: PairValidation) -> list[str]:
    """What the labels of the probe and the clips that it judges do not have in common, a line for each thing.

    Raises ValueError where fewer than two of the clips have a label.
    """
    if settings.labels is None:
        return []
    known = labeled(shards, shards.clips(settings.split), read_labels(settings.labels))
    counts = known.counts(settings.labels, f"the {settings.split} split")
    return counts if known.unlabeled or known.unread else []


def rank_me(x: Tensor) -> float:
    """RankMe: the effective rank of embeddings (N, D), 1 to D (Garrido et al. 2023, arXiv 2210.02885, equation 1)."""
    singular = torch.linalg.svdvals(x.double())
    share = singular / singular.sum().clamp(min=1e-12) + 1e-7
    return float((-(share * share.log()).sum()).exp())


def alignment(image: Tensor, audio: Tensor) -> float:
    """Mean squared distance of partners of length 1, 0 to 4 (Wang and Isola 2020, arXiv 2005.10242, section 4.1)."""
    return float((image - audio).square().sum(dim=1).mean())


def uniformity(x: Tensor) -> float:
    """log of the mean Gaussian potential of embeddings of length 1 (the same paper, 4.1.2); lower is more even."""
    return float(torch.pdist(x).square().mul(-2).exp().mean().log())


def recalls(ks: Sequence[int], queries: Tensor, items: Tensor) -> Tensor:
    """Of each query, whether its partner is among the k nearest: float64 (N, len(ks)), 0 to 1; (N, D) of length 1.

    Equally near items are put in order by lot, so embeddings that are all alike do not find what they look for. Memory
    grows with N.
    """
    hits = []
    for start in range(0, len(queries), RECALL_QUERIES):
        similarity = queries[start : start + RECALL_QUERIES] @ items.T
        hits.append(among_nearest(ks, similarity, similarity.diagonal(start)))
    return torch.cat(hits)


def among_nearest(ks: Sequence[int], similarity: Tensor, partner: Tensor) -> Tensor:
    """`recalls` of queries by their similarity to all items, (Q, N), and to their partners, (Q,)."""
    partner = partner[:, None]
    farther, equal = (compared.sum(dim=1)[:, None] for compared in (similarity < partner, similarity == partner))
    nearer = similarity.shape[1] - farther - equal  # what is no number finds nothing
    return ((torch.tensor(ks, dtype=torch.float64) - nearer) / equal.clamp(min=1)).clamp(0, 1)


def ridge_accuracy(x: Tensor, label: Tensor) -> float:
    """A linear probe in closed form: ridge regression onto classes. x: (N, D); label: int64 (N,)."""
    x = F.pad((x - x.mean(dim=0)).double(), (0, 1), value=1.0)
    tested = torch.arange(len(x)) % TESTED == 0
    fitted, target = x[~tested], F.one_hot(label)[~tested].double()
    scatter = fitted.T @ fitted
    scatter += RIDGE * scatter.diagonal().mean() * torch.eye(len(scatter), dtype=scatter.dtype)
    chosen = (x[tested] @ torch.linalg.solve(scatter, fitted.T @ target)).argmax(dim=1)
    return float((chosen == label[tested]).double().mean())
