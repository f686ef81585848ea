"""What an explorer shows of a clip, one frame and its second of audio, as a network embeds them, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import minmax_scale, normalize

from avc.data.labels import labeled, names_of
from avc.data.sampler import Integers
from avc.encoders.sources import Floats, embed_clips
from avc.encoders.trained import Trained
from avc.evaluation.cca import CCA, fit_cca, fitting_views
from avc.models.pair import VisualInput
from launch.progress import progress
from shards import Report
from shards.format import SAMPLE_RATE_HZ, second_start
from shards.read import Shards

SEED = 1  # of the moments: the same for every run, whatever seed it was trained with
PERPLEXITY = 30
FITTED = 5_000  # moments that t-SNE lays out, in about half a minute; the others go to those that they are nearest to
NEIGHBORS = 5
_SLICE = 1024  # clips at a time: AVOL-Net embeds each place, 100 kB a frame


@dataclass(frozen=True)
class Moments:
    """One moment of each of N clips: clip, tick, int64 (N,); names of the files; labels, class numbers of each clip."""

    clip: Integers
    tick: Integers
    names: list[str]
    classes: tuple[str, ...]
    labels: list[list[int]]

    def __len__(self) -> int:
        return len(self.clip)

    def taken(self, order: Integers) -> Moments:
        """The same in another order, int64 (N,)."""
        names, labels = ([column[i] for i in order.tolist()] for column in (self.names, self.labels))
        return replace(self, clip=self.clip[order], tick=self.tick[order], names=names, labels=labels)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Embedder:
    """A run that searches: frames and sounds become unit vectors of one space, whose products compare them.

    title: of the network; run: its folder's name; about: how it searches, where that is not its own comparison.
    """

    network: Trained
    run: str
    title: str
    cca: CCA | None
    about: str

    def image(self, embedded: Floats) -> Floats:
        """What the network makes of images → float32 (N, D), of unit length."""
        if embedded.ndim == 4:
            embedded = embedded.mean(axis=(2, 3))
        return _unit(self.cca.of_x(embedded) if self.cca else embedded)

    def audio(self, embedded: Floats) -> Floats:
        """What the network makes of seconds of audio → float32 (N, D), of unit length."""
        return _unit(self.cca.of_y(embedded) if self.cca else embedded)

    def picture(self, images: torch.Tensor) -> Floats:
        """uint8 (N, H, W, 3) pictures of anybody's → as `image`. Raises ValueError where the network takes more."""
        if self.network.image.visual_input != VisualInput():
            raise ValueError(f"{self.title} takes frames in motion, and a picture is one of them")
        return self.image(self.network.embed_image(images).numpy())

    def second(self, seconds: torch.Tensor) -> Floats:
        """int16 (N, 48000) seconds of anybody's sound → as `audio`."""
        return self.audio(self.network.embed_seconds(seconds).numpy())


def embedder(network: Trained, run: Path, shards: Shards) -> Embedder:
    """A loaded run as an Embedder. Raises ValueError where L3-Net's CCA lacks training clips to be fitted on."""
    settings = network.config.run.model_copy(update={"seed": SEED})
    network = replace(network, config=network.config.model_copy(update={"run": settings}))
    title = network.title
    cca, about = None, ""
    if network.localizes:
        about = "It compares a sound with every place of a frame; here the mean of the places stands for the frame."
    elif network.hears is None or network.sees is None:
        about = f"It only {'sees' if network.sees else 'hears'}, and finds what is alike to that."
    elif not network.one_space:
        with progress(f"fitting CCA for {title}", unit="views") as report:
            views = fitting_views(network, shards, report)
        cca = fit_cca(views.image, views.audio)
        about = "Its frames and sounds lie in two spaces, joined by CCA fitted on the training clips."
    return Embedder(network, run.name or str(run), title, cca, about)


def embed(
    embedders: Sequence[Embedder],
    shards: Shards,
    clips: Integers,
    labels: Mapping[str, Sequence[str]] | None,
    report: Report,
) -> tuple[Moments, list[tuple[Floats, Floats]]]:
    """Draw a moment of each clip and embed it with every run: image and audio, float32 (N, D) each.

    Raises ValueError for fewer than two clips, BadRecord for damaged shards.
    """
    slices = np.array_split(clips, max(1, len(clips) // _SLICE))
    done = 0

    def reported(more: int, _: int, note: str) -> None:
        report(done + more, len(embedders) * len(clips), note)

    places: list[tuple[Integers, Integers]] = []
    vectors: list[tuple[Floats, Floats]] = []
    for each in embedders:
        parts = []
        places = []
        for part in slices:
            views = embed_clips(each.network, shards, part, report=reported)
            done += len(part)
            parts.append((each.image(views.image), each.audio(views.audio)))
            places.append((views.clip, views.tick))
        image, audio = (np.concatenate(column) for column in zip(*parts, strict=True))
        vectors.append((image, audio))
    clip, tick = (np.concatenate(column) for column in zip(*places, strict=True))
    classes, sets = _classes(shards, clip, labels)
    return Moments(clip, tick, names_of(shards, clip), classes, sets), vectors


def heats(network: Trained, shards: Shards, moments: Moments, report: Report) -> list[torch.Tensor]:
    """AVOL-Net's maps of each moment's frame: float32 (3, H', W'), 0 to 1.

    Under its own sound, under that of the moment half the list away, and under silence.
    """
    count = len(moments)
    sounds = np.stack([second(shards, moments, i) for i in range(count)])
    audio = network.embed_seconds(torch.from_numpy(sounds))
    silence = network.embed_seconds(torch.zeros(1, SAMPLE_RATE_HZ, dtype=torch.int16))[0]
    maps = []
    for i in range(count):
        frame = shards.picture(int(moments.clip[i]), int(moments.tick[i]))
        image = network.embed_image_map(torch.from_numpy(frame)[None]).expand(3, -1, -1, -1)
        maps.append(network.compare_maps(image, torch.stack([audio[i], audio[other(i, count)], silence])))
        report(i + 1, count, "")
    return maps


def other(moment: int, count: int) -> int:
    """The moment whose sound is the other one of `moment`: half the list away, and so unlike it."""
    return (moment + count // 2) % count


def second(shards: Shards, moments: Moments, i: int) -> np.ndarray:
    """The second of audio around moment i: int16 (48000,)."""
    return shards.sound(int(moments.clip[i]), second_start(int(moments.tick[i])))


def _classes(
    shards: Shards, clips: Integers, labels: Mapping[str, Sequence[str]] | None
) -> tuple[tuple[str, ...], list[list[int]]]:
    if labels is None:
        return (), [[] for _ in clips]
    labeled_clips = labeled(shards, clips, labels)
    sets = dict(zip(labeled_clips.clips.tolist(), labeled_clips.sets.tolist(), strict=True))
    return labeled_clips.classes, [sorted(set(sets.get(clip, ()))) for clip in clips.tolist()]


def _unit(features: Floats) -> Floats:
    unit: Floats = np.ascontiguousarray(features, dtype=np.float32)
    return normalize(unit) if unit.size else unit


def map_of(image: Floats, audio: Floats) -> Floats:
    """Points of the moments, near to those that look and sound alike: float32 (N, 2), 0 to 1.

    t-SNE of both unit vectors in a row; of more than FITTED moments, of so many evenly spread.
    """
    features = np.concatenate([image, audio], axis=1)
    count = len(features)
    if count < 4:
        return np.stack([np.linspace(0, 1, count), np.full(count, 0.5)], axis=1).astype(np.float32)
    fitted = np.unique(np.linspace(0, count - 1, min(FITTED, count)).round().astype(np.int64))
    perplexity = min(PERPLEXITY, (len(fitted) - 1) / 3)
    points = TSNE(random_state=0, init="random", perplexity=perplexity).fit_transform(features[fitted])
    placed = np.empty((count, 2), dtype=np.float32)
    placed[fitted] = points
    rest = np.setdiff1d(np.arange(count), fitted)
    if len(rest):
        near = KNeighborsRegressor(NEIGHBORS, weights="distance").fit(features[fitted], points)
        placed[rest] = near.predict(features[rest])
    scaled: Floats = minmax_scale(placed)
    return scaled


def along(points: Floats) -> Integers:
    """An order of points in the plane in which neighbors are mostly near to each other (Morton's): int64 (N,)."""
    code = np.zeros(len(points), dtype=np.int64)
    for axis in (0, 1):
        rank = np.argsort(np.argsort(points[:, axis], kind="stable"), kind="stable")
        for bit in range(20):
            code |= (rank >> bit & 1) << (2 * bit + axis)
    return np.argsort(code, kind="stable")
