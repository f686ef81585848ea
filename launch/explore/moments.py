"""What an explorer shows of a clip: one frame and its second of audio, as a network embeds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.preprocessing import normalize

from avc.data.labels import labeled, names_of
from avc.embedding import Features, Integers, Report, embed_clips
from avc.evaluation.cca import CCA
from avc.evaluation.retrieval import fitted_cca
from avc.inference import Network
from avc.models.pair import VisualInput
from launch.progress import progress
from shards.format import SAMPLE_RATE_HZ, second_start
from shards.read import Shards

SEED = 1  # of the moments: the same for every run, whatever seed it was trained with
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

    network: Network
    run: str
    title: str
    cca: CCA | None
    about: str

    def image(self, embedded: Features) -> Features:
        """What the network makes of images → float32 (N, D), of unit length."""
        if embedded.ndim == 4:
            embedded = embedded.mean(axis=(2, 3))
        return _unit(self.cca.of_x(embedded) if self.cca else embedded)

    def audio(self, embedded: Features) -> Features:
        """What the network makes of seconds of audio → float32 (N, D), of unit length."""
        return _unit(self.cca.of_y(embedded) if self.cca else embedded)

    def picture(self, images: torch.Tensor) -> Features:
        """uint8 (N, H, W, 3) pictures of anybody's → as `image`. Raises ValueError where the network takes more."""
        if self.network.image.visual_input != VisualInput():
            raise ValueError(f"{self.title} takes frames in motion, and a picture is one of them")
        return self.image(self.network.embed_image(images).numpy())

    def second(self, seconds: torch.Tensor) -> Features:
        """int16 (N, 48000) seconds of anybody's sound → as `audio`."""
        return self.audio(self.network.embed_audio(seconds).numpy())

    @property
    def localizes(self) -> bool:
        """Whether it says where in a frame a sound is."""
        return self.network.localizes


def embedder(network: Network, run: Path, shards: Shards) -> Embedder:
    """A loaded run as an Embedder. Raises ValueError where L3-Net's CCA lacks training clips to be fitted on."""
    settings = network.config.run.model_copy(update={"seed": SEED})
    network = replace(network, config=network.config.model_copy(update={"run": settings}))
    title = network.title
    cca, about = None, ""
    if network.localizes:
        about = "It compares a sound with every place of a frame; here the mean of the places stands for the frame."
    elif network.encoders.audio is None or network.encoders.image is None:
        about = f"It only {'sees' if network.encoders.image else 'hears'}, and finds what is alike to that."
    elif not network.one_space:
        with progress(f"fitting CCA for {title}", unit="views") as report:
            cca = fitted_cca(network, shards, report)
        about = "Its frames and sounds lie in two spaces, joined by CCA fitted on the training clips."
    return Embedder(network, run.name or str(run), title, cca, about)


def embed(
    embedders: Sequence[Embedder],
    shards: Shards,
    clips: Integers,
    labels: Mapping[str, Sequence[str]] | None,
    report: Report,
) -> tuple[Moments, list[tuple[Features, Features]]]:
    """Draw a moment of each clip and embed it with every run: image and audio, float32 (N, D) each.

    Raises ValueError for fewer than two clips, BadRecord for damaged shards.
    """
    slices = np.array_split(clips, max(1, len(clips) // _SLICE))
    done = 0

    def reported(more: int, _: int, note: str) -> None:
        report(done + more, len(embedders) * len(clips), note)

    places: list[tuple[Integers, Integers]] = []
    vectors: list[tuple[Features, Features]] = []
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


def heats(network: Network, shards: Shards, moments: Moments, report: Report) -> list[torch.Tensor]:
    """AVOL-Net's maps of each moment's frame: float32 (3, H', W'), 0 to 1.

    Under its own sound, under that of the moment half the list away, and under silence.
    """
    count = len(moments)
    sounds = [second(shards, moments, i) for i in range(count)]
    batches = [np.stack(sounds[i : i + 64]) for i in range(0, count, 64)]
    audio = torch.cat([network.embed_audio(torch.from_numpy(batch)) for batch in batches])
    silence = network.embed_audio(torch.zeros(1, SAMPLE_RATE_HZ, dtype=torch.int16))[0]
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
    known = labeled(shards, clips, labels)
    sets = dict(zip(known.clips.tolist(), known.sets.tolist(), strict=True))
    return known.classes, [sorted(set(sets.get(clip, ()))) for clip in clips.tolist()]


def _unit(features: Features) -> Features:
    unit: Features = np.ascontiguousarray(features, dtype=np.float32)
    return normalize(unit) if unit.size else unit
