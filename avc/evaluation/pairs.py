"""Is a clip's own sound nearer to its frames than another clip's is, and among the nearest of all?

A clip is judged as a whole: its embeddings are the means of those of several views, a frame and the second of audio
around it. Beside it single views, and a control: the same with each clip's sound dealt to another one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avc.data.labels import names_of, read_labels
from avc.data.sampler import Integers
from avc.encoders.load import load
from avc.encoders.sources import ClipEmbeddings, embed_clips
from avc.encoders.trained import Trained
from avc.evaluation import options
from avc.evaluation.measures import Request, Result
from avc.tasks.correspondence import has_features
from avc.tasks.evaluators import among_nearest
from avc.tasks.features import FeatureReader, encoders
from avc.tasks.held_out import evaluation_sampler
from shards.read import Shards
from shards.text import name_forms

DRAWS = 2000  # of the bootstrap
DEPTH = 10
DEALS = 20
Shares = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """Mean over the clips, 0 to 1, and its 95 % intervals, where clips, or sources, are a sample of more.

    Each clip has the share of the others that its own is nearer than, of sounds for its frames and of frames for its
    sound. interval_sources: None with fewer than two sources.
    """

    key: str
    name: str
    clips: int
    mean: float
    interval_95: tuple[float, float]
    interval_sources: tuple[float, float] | None


def scores(image: NDArray[Any], audio: NDArray[Any]) -> Shares:
    """Embeddings of N clips, (N, D) each → cosines of each image (row) with each sound, float64 (N, N)."""
    x, y = (part / np.linalg.norm(part, axis=1, keepdims=True).clip(1e-12) for part in (image, audio))
    return np.asarray(x @ y.T, np.float64)


def own_above_other(score: Shares, among: NDArray[np.bool_]) -> Shares:
    """Share of the others that a clip's own sound, and frames, are above: float64 (N,), a tie is half; NaN without any.

    score: of each clip's frames with each clip's sound; among: bool (N, N), which clips count as others.
    """
    matching = np.diag(score)
    others = among & ~np.eye(len(score), dtype=bool)
    above = [
        np.where(others, (matching[:, None] > way) + 0.5 * (matching[:, None] == way), 0.0).sum(axis=1)
        for way in (score, score.T)
    ]
    count = others.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray((above[0] + above[1]) / 2 / count)


def recall_at(score: Shares, depth: int) -> Shares:
    """Whether a clip's own is among the `depth` nearest, both ways in the mean, float64 (N,); ties by lot."""
    similarity = torch.from_numpy(score)
    ways = [among_nearest([depth], way, way.diagonal())[:, 0] for way in (similarity, similarity.T)]
    return np.asarray((ways[0] + ways[1]) / 2)


def _interval(means: Shares) -> tuple[float, float]:
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def choice(key: str, name: str, shares: Shares, source: Integers, rng: np.random.Generator) -> Choice | None:
    """The mean of what is no NaN, with intervals by the bootstrap over clips and over sources; None without any."""
    here = ~np.isnan(shares)
    shares, source = shares[here], np.unique(source[here], return_inverse=True)[1]
    if not len(shares):
        return None
    sums, counts = np.bincount(source, weights=shares), np.bincount(source)
    by_source = None
    if len(counts) > 1:
        drawn = rng.integers(0, len(counts), (DRAWS, len(counts)))
        by_source = _interval(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    by_clip = _interval(shares[rng.integers(0, len(shares), (DRAWS, len(shares)))].mean(axis=1))
    return Choice(key, name, len(shares), float(shares.mean()), by_clip, by_source)


def judge_clips(views: ClipEmbeddings, source: Integers, *, seed: int) -> tuple[tuple[Choice, ...], tuple[Choice, ...]]:
    """Own above another's, in its rows, and recall at 10, of clips whose views are as many each; source: int64 (N,)."""
    clips = len(source)
    rng = np.random.default_rng(seed)
    each = [part.reshape(clips, -1, part.shape[1]) for part in (views.image, views.audio)]
    image, audio = (part.mean(axis=1) for part in each)
    whole, every, same = scores(image, audio), np.ones((clips, clips), bool), source[:, None] == source
    dealt: list[tuple[Shares, Shares]] = []  # one deal alone is often two percent from chance
    for _ in range(DEALS):
        order, other = rng.permutation(clips), np.empty(clips, np.int64)
        other[order] = np.roll(order, 1)  # no clip keeps its own
        deal = whole[:, other]
        dealt.append((own_above_other(deal, every), recall_at(deal, DEPTH)))
    dealt_above, dealt_near = np.mean(dealt, axis=0)
    single = np.mean(
        [own_above_other(scores(each[0][:, k], each[1][:, k]), every) for k in range(each[0].shape[1])], axis=0
    )
    above = [
        ("clips", "clips", own_above_other(whole, every)),
        ("across", "clips of other sources", own_above_other(whole, ~same)),
        ("within", "clips of the same source", own_above_other(whole, same)),
        ("views", "single views", single),
        ("dealt", "sounds of other clips (control)", dealt_above),
    ]
    near = [
        ("clips", "clips", recall_at(whole, DEPTH)),
        ("dealt", "control", dealt_near),
    ]
    rows = ([choice(key, name, x, source, rng) for key, name, x in part] for part in (above, near))
    first, second = (tuple(row for row in part if row is not None) for part in rows)
    return first, second


@torch.no_grad()
def embed_features(network: Trained, data: Shards, split: str, *, passes: int) -> ClipEmbeddings:
    """As `embed_clips`, from features as those that the network was trained on; views are evenly over each clip."""
    sampler, model = evaluation_sampler(network.pair_config, data, split=split), network.model
    reader = FeatureReader(data, sampler, partial(encoders, model), device=network.device)
    rows, tick = reader.spread(sampler.clips, passes)
    image, audio = (torch.from_numpy(part[rows]).to(network.device) for part in reader.rows)
    clip, embedded = np.repeat(sampler.clips, passes), (model.embed_image(image), model.embed_audio(audio))
    return ClipEmbeddings(clip, tick, *(part.cpu().numpy() for part in embedded))


def pairs(request: Request, chosen: options.Pairs) -> Result:
    """The measure of that name. Raises ValueError for a network of two spaces, and for sources of other videos."""
    network = load(request.source, device=request.device)
    if network.localizes or None in (network.hears, network.sees) or not network.one_space:
        raise ValueError(f"{network.title} has no embeddings of images and of audio in one space: give another run")
    data, split = request.data(network.config, request.source)
    clips = data.clips(split)
    source, notes = np.arange(len(clips)), []
    if chosen.sources is not None:
        labels = read_labels(chosen.sources)
        names = names_of(data, clips)
        called = [next((form for form in name_forms(name) if labels.get(form)), "") for name in names]
        if called and not any(called):
            raise ValueError(
                f"{chosen.sources} has no source of any of the {len(names)} clips of the {split} split, which go by "
                f"the video's file name, such as {names[0]}"
            )
        if unknown := called.count(""):
            notes.append(f"{chosen.sources} has no source of {unknown:,} clips, each of which counts as one of its own")
        whence = [labels[name][0] if name else f"clip {number}" for number, name in enumerate(called)]
        source = np.unique(whence, return_inverse=True)[1]
    if has_features(network.config.model):
        views = embed_features(network, data, split, passes=chosen.passes)
    else:
        with request.progress("embedding", unit="views") as report:
            views = embed_clips(network, data, clips, passes=chosen.passes, report=report)
    above, near = judge_clips(views, source, seed=network.config.run.seed)
    if chosen.sources is None:  # of which nothing is known: each clip was one of its own
        above = tuple(row for row in above if row.key not in ("across", "within"))
        above, near = (tuple(replace(row, interval_sources=None) for row in rows) for rows in (above, near))
    about: dict[str, Any] = {"run": str(request.source), "split": split, "clips": len(clips), "views": chosen.passes}
    about |= {"sources": len(np.unique(source)) if chosen.sources else None, "chance": min(1, DEPTH / len(clips))}
    about |= request.judged(f"the {split} split") | {"notes": notes}
    return Result(about | {"above": [asdict(row) for row in above], "near": [asdict(row) for row in near]})
