"""Cross-modal and intra-modal retrieval, nDCG@30 (Objects that Sound 3.1 and A.2).

One random frame and its second of sound for each clip. Every frame and every sound is a query: what is nearest to it
among all frames (im-im), all sounds (im-aud), and so on? Within a modality the query itself is left out; across
modalities its own partner is there to be found. Features are L2-normalized. Items equally near share their places and
their gains. Beside it recall: is the other modality of the query's own clip among the nearest? It needs no labels.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from avc.data.labels import Labeled, labeled, read_labels
from avc.data.ontology import INSTRUMENTS, Ontology, Relevance, flat_relevance
from avc.data.sampler import Integers
from avc.encoders.load import load, load_any
from avc.encoders.sources import Floats, embed_clips
from avc.encoders.trained import Trained
from avc.evaluation import options
from avc.evaluation.cca import CCA, COMPONENTS, fit_cca, fitting_views
from avc.evaluation.measures import Request, Result
from avc.intervals import wilson_interval
from avc.tasks.evaluators import recalls
from shards import Report
from shards.read import Shards

Gain = Literal["exponential", "linear"]
DEPTH = 30
RANDOM_DIMENSIONS = 128
RECALL_DEPTHS = (1, 5, 10)

_CHUNK_SCORES = 2**25  # scores held at once, 128 MiB: memory grows with items × embedding and not with items²


@dataclass(frozen=True)
class Score:
    """Mean nDCG over the queries with something to find, 0 to 1; its 95 % interval over queries, and half of that."""

    mean: float
    low: float
    high: float
    half: float
    queries: int


@dataclass(frozen=True)
class Recall:
    """Share of the queries whose own clip's other modality is among the k nearest, 0 to 1; interval as of Score."""

    k: int
    mean: float
    low: float
    high: float
    half: float


@dataclass(frozen=True)
class Row:
    """What one kind of features scores in each direction; None where it has no features for one.

    key: network, network_cca, given, given_cca or random. im_aud_recall, aud_im_recall: at RECALL_DEPTHS, empty where a
    modality is missing.
    """

    key: str
    name: str
    im_im: Score | None
    im_aud: Score | None
    aud_im: Score | None
    aud_aud: Score | None
    im_aud_recall: tuple[Recall, ...] = ()
    aud_im_recall: tuple[Recall, ...] = ()


class Scorer:
    """nDCG of features by what finding is worth.

    sets, item_sets: int64 (Q, M), (N, M'), classes of each query and item, as in `Labeled`; the items are the queries'
    clips where they are not given. relevance: float64 (C, C), greatest on its diagonal; a pair's is the greatest over
    their pairs of classes. gain: exponential is 2**relevance − 1, linear the relevance (docs/evaluation.md says which
    library counts which).
    """

    def __init__(
        self,
        sets: Integers,
        item_sets: Integers | None = None,
        *,
        relevance: Relevance,
        gain: Gain = "exponential",
        depth: int = DEPTH,
    ) -> None:
        self._sets, self._items = sets, sets if item_sets is None else item_sets
        self._gains = np.exp2(relevance) - 1 if gain == "exponential" else relevance
        self._depth = depth
        self._ideal: dict[bool, NDArray[np.float64]] = {}  # it is that of any features

    def ndcg(self, queries: Floats, items: Floats, *, leave_self_out: bool = False) -> NDArray[np.float64]:
        """nDCG@depth of each query, float64 (Q,); NaN where no item has any relevance.

        queries, items: float32 (Q, D), (N, D), normalized here. leave_self_out: query i is item i and not to be found.
        """
        if leave_self_out not in self._ideal:
            self._ideal[leave_self_out] = self._best(leave_self_out)
        discounts = self._discounts(leave_self_out)
        scores = np.empty(len(queries))
        item_rows = _unit(items)
        step = max(1, _CHUNK_SCORES // len(items))
        for start in range(0, len(queries), step):
            here = slice(start, start + step)
            similarity = _unit(queries[here]) @ item_rows.T
            if leave_self_out:
                similarity.diagonal(start).fill_(-math.inf)
            scores[here] = self._gained(similarity, self._sets[here], len(discounts)) @ discounts
        with np.errstate(invalid="ignore"):
            return np.asarray(scores / self._ideal[leave_self_out])

    def score(self, queries: Floats, items: Floats) -> Score:
        """One direction, (N, D) each; within one array, no query finds itself."""
        return summary(self.ndcg(queries, items, leave_self_out=queries is items))

    def four_directions(self, key: str, name: str, image: Floats, audio: Floats) -> Row:
        """The features of N frames and of N sounds, row by row of the same clips, in the directions that there are."""
        pairs = ((image, image), (image, audio), (audio, image), (audio, audio))
        im_im, im_aud, aud_im, aud_aud = (self.score(x, y) if x.size and y.size else None for x, y in pairs)
        recalls_of = (recall(image, audio), recall(audio, image)) if im_aud else ((), ())
        return Row(key, name, im_im, im_aud, aud_im, aud_aud, *recalls_of)

    def _gained(self, similarity: torch.Tensor, sets: Integers, depth: int) -> NDArray[np.float64]:
        """Gains at the first `depth` places of each query, nearest first; similarity (Q, N), sets (Q, M)."""
        nearest = similarity.topk(depth, dim=1)
        gained = _pair_gains(sets, self._items[nearest.indices.numpy()], self._gains)
        least = nearest.values[:, -1:]
        tied = (nearest.values.diff(dim=1) == 0).any(dim=1) | ((similarity >= least).sum(dim=1) > depth)
        for query in tied.nonzero()[:, 0].tolist():
            near = (similarity[query] >= least[query]).numpy()
            worth = _pair_gains(sets[[query]], self._items[near][None], self._gains)[0]
            # Items of one similarity share the mean of their gains.
            _, group, sizes = np.unique(-similarity[query].numpy()[near], return_inverse=True, return_counts=True)
            gained[query] = np.repeat(np.bincount(group, worth) / sizes, sizes)[:depth]
        return gained

    def _discounts(self, leave_self_out: bool) -> NDArray[np.float64]:
        depth = min(self._depth, len(self._items) - leave_self_out)
        return np.asarray(1 / np.log2(np.arange(2, depth + 2)))

    def _best(self, leave_self_out: bool) -> NDArray[np.float64]:
        """DCG of the best order of the items for each query; time grows with the square of the number of sets."""
        discounts = self._discounts(leave_self_out)
        length = len(discounts) + leave_self_out
        query_kinds, query_kind = np.unique(np.sort(self._sets, axis=1), axis=0, return_inverse=True)
        item_kinds, copies = np.unique(np.sort(self._items, axis=1), axis=0, return_counts=True)
        ideal = np.empty(len(query_kinds))
        for i, kind in enumerate(query_kinds):
            each = _pair_gains(kind[None], item_kinds[None], self._gains)[0]
            order = np.argsort(-each, kind="stable")[:length]
            best = np.repeat(each[order], np.minimum(copies[order], length))[:length]
            # What is left out is the query, to which nothing is more relevant than itself.
            ideal[i] = best[leave_self_out:] @ discounts
        return ideal[query_kind.reshape(-1)]


def recall(queries: Floats, items: Floats) -> tuple[Recall, ...]:
    """How often the item of the same row is among the nearest; (N, D), normalized here. Chance is k / N."""
    means = recalls(RECALL_DEPTHS, _unit(queries), _unit(items)).mean(dim=0).tolist()
    intervals = [wilson_interval(mean, len(queries)) for mean in means]
    return tuple(
        Recall(k, mean, low, high, (high - low) / 2)
        for k, mean, (low, high) in zip(RECALL_DEPTHS, means, intervals, strict=True)
    )


def summary(scores: NDArray[np.float64]) -> Score:
    """Mean of the scores that are numbers, with its 95 % interval by the normal distribution."""
    scores = scores[~np.isnan(scores)]
    if not len(scores):
        raise ValueError("no query has a relevant item: every clip's label is its own; give labels that several share")
    mean = float(scores.mean())
    half = 1.959964 * float(scores.std(ddof=1)) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan
    return Score(mean, mean - half, mean + half, half, len(scores))


def evaluate_retrieval(
    network: Trained,
    shards: Shards,
    labeled_clips: Labeled,
    *,
    relevance: Relevance,
    gain: Gain,
    beside: Trained | None = None,
    report: Report | None = None,
) -> tuple[Row, ...]:
    """Rows for the network, for L3-Net with CCA, for another network's images, and, measured too, for random ones.

    L3-Net's two embeddings lie in spaces of their own, so it has a second row with CCA, fitted on the training clips,
    each direction of which is weighted by its correlation squared (avc.evaluation.cca).
    beside: the other, of the very frames; scored alone and, through CCA, with the network's sounds.
    Raises ValueError for AVOL-Net, which embeds slots, and for another network without embeddings of images.
    """
    if network.localizes:
        raise ValueError(
            f"{network.title} embeds the places of an image and not the image: retrieval needs a run of another network"
        )
    if beside is not None:
        if not beside.image.embeds_pictures:
            raise ValueError(f"{beside.title} has no embedding of a single picture as a whole: give another network")
        beside = replace(beside, hears=None, config=network.config)  # whose seed draws the frames
    scorer = Scorer(labeled_clips.sets, relevance=relevance, gain=gain)
    views = embed_clips(network, shards, labeled_clips.clips, report=report)
    rng = np.random.default_rng(network.config.run.seed)
    chance = rng.standard_normal((2, len(labeled_clips.clips), RANDOM_DIMENSIONS), dtype=np.float32)
    network_row = ("network", network.title, views.image, views.audio)
    pairs = [network_row]
    given: list[tuple[str, str, Floats, Floats]] = []
    if not network.one_space or beside is not None:
        fitting = fitting_views(network, shards, report)
        if not network.one_space:
            pairs.append(_joined(network_row, fit_cca(fitting.image, fitting.audio)))
        if beside is not None:
            rows = embed_clips(beside, shards, labeled_clips.clips, report=report).image
            given.append(("given", beside.name, rows, views.audio[:, :0]))
            if views.audio.size:
                cca = fit_cca(fitting_views(beside, shards, report).image, fitting.audio)
                pairs.append(_joined((*given[0][:3], views.audio), cca))
    return tuple(scorer.four_directions(*pair) for pair in [*given, *pairs, ("random", "random", *chance)])


def retrieval(request: Request, chosen: options.Retrieval) -> Result:
    """The measure of that name. Raises ValueError for options that do not go together."""
    tree = Ontology(chosen.ontology) if chosen.ontology else None
    if chosen.instruments and tree is None:
        raise ValueError("instruments=true takes classes of the AudioSet ontology: give its file by ontology=FILE")
    network = load(request.source, device=request.device)
    data, split = request.data(network.config, request.source)
    labels = read_labels(chosen.labels)
    if chosen.instruments and tree is not None:
        labels = tree.restrict(labels, INSTRUMENTS)
    labeled_clips = labeled(data, data.clips(split), labels)
    with request.progress("embedding", unit="views") as report:
        rows = evaluate_retrieval(
            network,
            data,
            labeled_clips,
            relevance=tree.relevance(labeled_clips.classes) if tree else flat_relevance(len(labeled_clips.classes)),
            gain=chosen.gain,
            beside=load_any(chosen.features, device=request.device) if chosen.features is not None else None,
            report=report,
        )
    notes = labeled_clips.counts(chosen.labels, f"the {split} split")
    clips = len(labeled_clips.clips)
    if alone := clips - min(score.queries for row in rows for score in (row.im_im, row.aud_aud) if score):
        notes.append(f"im-im and aud-aud leave out {alone:,} clips that share no class with another")
    about: dict[str, Any] = {"run": str(request.source), "split": split}
    about |= {"gain": chosen.gain, "instruments": chosen.instruments}
    about |= request.judged(f"the {split} split") | {"classes": len(labeled_clips.classes), "notes": notes}
    about |= {"ontology": str(chosen.ontology) if tree else None}
    about |= {"relevance": "the ontology" if tree else "shared labels"}
    counts = {
        "clips": clips,
        "unlabeled": labeled_clips.unlabeled,
        "names": labeled_clips.names,
        "names_met": labeled_clips.met,
    }
    chance = [min(1, k / clips) for k in RECALL_DEPTHS]
    return Result(about | counts | {"rows": [asdict(row) for row in rows], "chance": chance})


def _joined(pair: tuple[str, str, Floats, Floats], cca: CCA) -> tuple[str, str, Floats, Floats]:
    key, name, x, y = pair
    components = len(cca.correlations)
    fewer = "" if components == COMPONENTS else f" ({components} components, all there are)"
    return f"{key}_cca", f"{name} + CCA{fewer}", cca.of_x(x), cca.of_y(y)


def _unit(features: Floats) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32)), dim=1)


def _pair_gains(query_sets: Integers, item_sets: Integers, gains: Relevance) -> NDArray[np.float64]:
    """Gain of each query (Q, M) and each of K items for it (Q, K, M'): float64 (Q, K)."""
    best = np.zeros(item_sets.shape[:2])
    for query_class in query_sets.T:
        for m in range(item_sets.shape[2]):
            np.maximum(best, gains[query_class[:, None], item_sets[:, :, m]], out=best)
    return best
