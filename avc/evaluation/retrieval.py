"""Cross-modal and intra-modal retrieval, nDCG@30 (Objects that Sound 3.1 and A.2).

One random frame and its second of sound for each clip. Every frame and every sound is a query: what is nearest to it
among all frames (im-im), all sounds (im-aud), and so on? Within a modality the query itself is left out; across
modalities its own partner is there to be found. Features are L2-normalized. Items equally near share their places and
their gains. Beside it recall: is the other modality of the query's own clip among the nearest? It needs no labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from avc.data.labels import Labeled
from avc.data.ontology import Relevance
from avc.embedding import ClipEmbeddings, Features, Integers, Report, drawn_views, embed_clips
from avc.evaluation.cca import CCA, COMPONENTS, fit_cca
from avc.evaluation.given import GivenFeatures
from avc.inference import Network
from avc.intervals import wilson_interval
from avc.tasks.evaluators import recalls
from shards.read import Shards

Gain = Literal["exponential", "linear"]
GAINS: tuple[Gain, ...] = ("exponential", "linear")
DEPTH = 30
FITTED_VIEWS = 4096  # that CCA is fitted on where there are fewer training clips: several views of each,
VIEWS_OF_A_CLIP = 8  # but no more than this, for they are much alike
RANDOM_DIMENSIONS = 128
RECALL_DEPTHS = (1, 5, 10)

_CHUNK_SCORES = 2**25  # scores held at once, 128 MiB: memory grows with items × embedding and not with items²


@dataclass(frozen=True)
class Score:
    """Mean nDCG over the queries that have something to find, 0 to 1, and its 95 % interval over queries."""

    mean: float
    low: float
    high: float
    queries: int


@dataclass(frozen=True)
class Recall:
    """Share of the queries whose own clip's other modality is among the k nearest, 0 to 1, with its 95 % interval."""

    k: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """What one kind of features scores in each direction; None where it has no features for one.

    im_aud_recall, aud_im_recall: at RECALL_DEPTHS, empty where a modality is missing.
    """

    name: str
    im_im: Score | None
    im_aud: Score | None
    aud_im: Score | None
    aud_aud: Score | None
    im_aud_recall: tuple[Recall, ...] = ()
    aud_im_recall: tuple[Recall, ...] = ()


def ndcg(
    queries: Features,
    items: Features,
    *,
    query_sets: Integers,
    item_sets: Integers,
    relevance: Relevance,
    gain: Gain = "exponential",
    depth: int = DEPTH,
    leave_self_out: bool = False,
    ideal: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """nDCG@depth of each query, float64 (Q,); NaN where no item has any relevance.

    queries, items: float32 (Q, D), (N, D), normalized here. query_sets, item_sets: int64 (Q, M), (N, M'), classes of
    each, as in `Labeled`. relevance: float64 (C, C), greatest on its diagonal. A pair's relevance is the greatest over
    their pairs of classes. gain: exponential is 2**relevance − 1, linear the relevance (docs/evaluation.md says which
    library counts which). leave_self_out: query i is item i and not to be found. ideal: from `ideal_dcg`, if known.
    """
    if ideal is None:
        ideal = ideal_dcg(query_sets, item_sets, relevance, gain=gain, depth=depth, leave_self_out=leave_self_out)
    gains = _gains(relevance, gain)
    discounts = _discounts(depth, items=len(items) - leave_self_out)
    depth = len(discounts)
    scores = np.empty(len(queries))
    item_rows = _unit(items)
    step = max(1, _CHUNK_SCORES // len(items))
    for start in range(0, len(queries), step):
        here = slice(start, start + step)
        similarity = _unit(queries[here]) @ item_rows.T
        if leave_self_out:
            similarity.diagonal(start).fill_(-math.inf)
        nearest = similarity.topk(depth, dim=1)
        scores[here] = _pair_gains(query_sets[here], item_sets[nearest.indices.numpy()], gains) @ discounts
        least = nearest.values[:, -1:]
        tied = (nearest.values.diff(dim=1) == 0).any(dim=1) | ((similarity >= least).sum(dim=1) > depth)
        for query in tied.nonzero()[:, 0].tolist():
            near = (similarity[query] >= least[query]).numpy()
            gained = _pair_gains(query_sets[[start + query]], item_sets[near][None], gains)[0]
            scores[start + query] = _averaged_over_ties(similarity[query].numpy()[near], gained, depth) @ discounts
    with np.errstate(invalid="ignore"):
        return np.asarray(scores / ideal)


class Scorer:
    """Scores features of the same N clips. sets: int64 (N, M), their classes; relevance and gain as in `ndcg`."""

    def __init__(self, sets: Integers, *, relevance: Relevance, gain: Gain) -> None:
        self._sets, self._relevance, self._gain = sets, relevance, gain
        self._ideal: dict[bool, NDArray[np.float64]] = {}  # it is that of any features

    def score(self, queries: Features, items: Features) -> Score:
        """One direction, (N, D) each; within one array, no query finds itself."""
        same = queries is items
        if same not in self._ideal:
            self._ideal[same] = ideal_dcg(self._sets, self._sets, self._relevance, gain=self._gain, leave_self_out=same)
        return summary(
            ndcg(
                queries,
                items,
                query_sets=self._sets,
                item_sets=self._sets,
                relevance=self._relevance,
                gain=self._gain,
                leave_self_out=same,
                ideal=self._ideal[same],
            )
        )

    def four_directions(self, name: str, image: Features, audio: Features) -> Row:
        """The features of N frames and of N sounds, row by row of the same clips, in the directions that there are."""
        pairs = ((image, image), (image, audio), (audio, image), (audio, audio))
        im_im, im_aud, aud_im, aud_aud = (self.score(x, y) if x.size and y.size else None for x, y in pairs)
        recalls_of = (recall(image, audio), recall(audio, image)) if im_aud else ((), ())
        return Row(name, im_im, im_aud, aud_im, aud_aud, *recalls_of)


def recall(queries: Features, items: Features, *, depths: Sequence[int] = RECALL_DEPTHS) -> tuple[Recall, ...]:
    """How often the item of the same row is among the nearest; (N, D), normalized here. Chance is k / N."""
    means = recalls(depths, _unit(queries), _unit(items)).mean(dim=0).tolist()
    return tuple(Recall(k, mean, *wilson_interval(mean, len(queries))) for k, mean in zip(depths, means, strict=True))


def summary(scores: NDArray[np.float64]) -> Score:
    """Mean of the scores that are numbers, with its 95 % interval by the normal distribution."""
    scores = scores[~np.isnan(scores)]
    if not len(scores):
        raise ValueError("no query has a relevant item: every clip's label is its own; give labels that several share")
    mean = float(scores.mean())
    half = 1.959964 * float(scores.std(ddof=1)) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan
    return Score(mean, mean - half, mean + half, len(scores))


def evaluate_retrieval(
    network: Network,
    shards: Shards,
    known: Labeled,
    *,
    relevance: Relevance,
    gain: Gain,
    features: GivenFeatures | None = None,
    report: Report | None = None,
) -> tuple[Row, ...]:
    """Rows for the network, for L3-Net with CCA, for foreign features, and, measured too, for random ones.

    L3-Net's two embeddings lie in spaces of their own, so it has a second row with CCA, fitted on the training clips,
    each direction of which is weighted by its correlation squared (avc.evaluation.cca).
    features: others' of the frames that are drawn; scored alone and, through CCA, with the network's sounds.
    Raises ValueError for AVOL-Net, which embeds slots, and for features that lack a frame.
    """
    if network.localizes:
        raise ValueError(
            f"{network.title} embeds the places of an image and not the image: retrieval needs a run of another network"
        )
    if features is not None:
        features.of(shards, *drawn_frames(network, shards, known.clips))  # refused before anything is embedded
    scorer = Scorer(known.sets, relevance=relevance, gain=gain)
    views = embed_clips(network, shards, known.clips, report=report)
    pairs = [(network.title, views.image, views.audio)]
    rows: list[Row] = []
    if not network.one_space or features is not None:
        fitting = _fitting_views(network, shards, report)
        if not network.one_space:
            cca = fit_cca(fitting.image, fitting.audio)
            pairs.append((_with_cca(network.title, cca), cca.of_x(views.image), cca.of_y(views.audio)))
        if features is not None:
            given = features.of(shards, views.clip, views.tick)
            rows.append(scorer.four_directions("given features", given, views.audio[:, :0]))
            if views.audio.size:
                cca = fit_cca(features.of(shards, fitting.clip, fitting.tick), fitting.audio)
                pairs.append((_with_cca("given features", cca), cca.of_x(given), cca.of_y(views.audio)))
    rng = np.random.default_rng(network.config.run.seed)
    chance = rng.standard_normal((2, len(known.clips), RANDOM_DIMENSIONS), dtype=np.float32)
    pairs.append(("random", chance[0], chance[1]))
    rows += [scorer.four_directions(*pair) for pair in pairs]
    return tuple(sorted(rows, key=lambda row: row.name == "random"))


def fitted_cca(network: Network, shards: Shards, report: Report | None = None) -> CCA:
    """The CCA that joins a network's two spaces, fitted on the training clips. Raises ValueError for fewer than two."""
    fitting = _fitting_views(network, shards, report)
    return fit_cca(fitting.image, fitting.audio)


def drawn_frames(network: Network, shards: Shards, clips: Integers) -> tuple[Integers, Integers]:
    """Rows of the index and ticks of all frames that others' features are needed of: int64 (V,) each.

    Those of `clips`, which are judged, and those of training clips that CCA is fitted on.
    """
    judged = drawn_views(network, shards, clips)
    training, passes = _fitting_clips(shards)
    fitting = drawn_views(network, shards, training, passes=passes)
    return np.concatenate([judged[0], fitting[0]]), np.concatenate([judged[1], fitting[1]])


def _fitting_clips(shards: Shards) -> tuple[Integers, int]:
    clips = shards.clips("train")
    if len(clips) < 2:
        raise ValueError(f"{shards.folder} has {len(clips)} training clips, and CCA is fitted on these")
    return clips, min(VIEWS_OF_A_CLIP, math.ceil(FITTED_VIEWS / len(clips)))


def _fitting_views(network: Network, shards: Shards, report: Report | None) -> ClipEmbeddings:
    clips, passes = _fitting_clips(shards)
    return embed_clips(network, shards, clips, passes=passes, report=report)


def _with_cca(name: str, cca: CCA) -> str:
    components = len(cca.correlations)
    return f"{name} + CCA" if components == COMPONENTS else f"{name} + CCA ({components} components, all there are)"


def _unit(features: Features) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32)), dim=1)


def _pair_gains(query_sets: Integers, item_sets: Integers, gains: Relevance) -> NDArray[np.float64]:
    """Gain of each query (Q, M) and each of K items for it (Q, K, M'): float64 (Q, K)."""
    best = np.zeros(item_sets.shape[:2])
    for query_class in query_sets.T:
        for m in range(item_sets.shape[2]):
            np.maximum(best, gains[query_class[:, None], item_sets[:, :, m]], out=best)
    return best


def _averaged_over_ties(similarity: Features, gains: NDArray[np.float64], depth: int) -> NDArray[np.float64]:
    """Gain at each place, nearest first, float64 (depth,): the mean of gains (K,) over items of one similarity (K,)."""
    _, group, sizes = np.unique(-similarity, return_inverse=True, return_counts=True)
    return np.repeat(np.bincount(group, gains) / sizes, sizes)[:depth]


def _gains(relevance: Relevance, gain: Gain) -> Relevance:
    return np.exp2(relevance) - 1 if gain == "exponential" else relevance


def _discounts(depth: int, *, items: int) -> NDArray[np.float64]:
    return np.asarray(1 / np.log2(np.arange(2, min(depth, items) + 2)))


def ideal_dcg(
    query_sets: Integers,
    item_sets: Integers,
    relevance: Relevance,
    *,
    gain: Gain = "exponential",
    depth: int = DEPTH,
    leave_self_out: bool = False,
) -> NDArray[np.float64]:
    """DCG@depth of the best order of the items for each query, float64 (Q,); the arguments are those of `ndcg`.

    Its time grows with the square of the number of different sets of classes.
    """
    gains, discounts = _gains(relevance, gain), _discounts(depth, items=len(item_sets) - leave_self_out)
    wanted = len(discounts) + leave_self_out
    query_kinds, query_kind = np.unique(np.sort(query_sets, axis=1), axis=0, return_inverse=True)
    item_kinds, copies = np.unique(np.sort(item_sets, axis=1), axis=0, return_counts=True)
    ideal = np.empty(len(query_kinds))
    for i, kind in enumerate(query_kinds):
        each = _pair_gains(kind[None], item_kinds[None], gains)[0]
        order = np.argsort(-each, kind="stable")[:wanted]
        best = np.repeat(each[order], np.minimum(copies[order], wanted))[:wanted]
        # What is left out is the query, to which nothing is more relevant than itself.
        ideal[i] = best[leave_self_out:] @ discounts
    return ideal[query_kind.reshape(-1)]
