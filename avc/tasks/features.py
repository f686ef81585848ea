"""Features of the encoders that towers begin with, computed once: of a frame and the second about it, twice a second.

The plan draws frames and seconds as ever. For each stands the nearest of the views that were computed, by one rule for
both classes, and all of them lie on the 0.04 s grid.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avc.data.preprocessing import images_to_input
from avc.data.reader import Batch, PairBuffers, PairReader
from avc.data.sampler import Integers, PairRows, PairSampler
from avc.data.windows import mono, resample
from avc.encoders.cache import extract
from avc.encoders.pretrained_trunk import PooledAudio, PooledImage, PretrainedTrunk, pretrained_trunks
from avc.encoders.sources import frames_of_clips, middles, seconds_of_clips
from avc.models.ave import EMBEDDING, euclidean_distance
from avc.models.pair import PairNetwork
from avc.runs.attempt import WEIGHTS, place
from avc.settings import PairConfig
from shards import Report
from shards.format import SAMPLES_PER_TICK
from shards.read import Shards

SECONDS_BETWEEN_LINES = 5.0
CLASSES_LENGTH = 6.0  # of what a head makes of the classes at the start; of all other features, about 1

Encoders = tuple[PooledImage, PooledAudio]


class FeatureReader(PairReader):
    """A `PairReader` of float32 (F, D) and (S, D') in place of images and audio.

    encoders: called when features are first needed; they are then computed, or read from the cache. device: that one,
    or as `training.device`. remarks: what there was to say about that, a line each. Raises ValueError for sound off the
    grid.
    """

    def __init__(
        self,
        shards: Shards,
        sampler: PairSampler,
        encoders: Callable[[], Encoders],
        *,
        device: str | torch.device = "auto",
    ) -> None:
        if sampler.grid == "free":
            raise ValueError("negatives.grid: free needs sound off the grid, and model.audio's features are on it")
        self.shards, self.sampler, self.encoders, self.device = shards, sampler, encoders, device
        self.remarks: list[str] = []
        ticks = [middles(row) for row in shards.index]  # of all splits: other shares of the same clips need no others
        self._first, self._step = (np.array([getattr(each, name) for each in ticks]) for name in ("start", "step"))
        self._count = np.array([len(each) for each in ticks])
        self._end = np.cumsum(self._count)

    def __getstate__(self) -> dict[str, Any]:
        # Workers map the files themselves, which exist by then.
        return {name: value for name, value in self.__dict__.items() if name not in ("rows", "encoders")} | {
            "files": self.files
        }

    @cached_property
    def files(self) -> tuple[Path, Path]:
        """The rows of images and of audio, .npy. Raises ValueError where a record is damaged."""
        image, audio = self.encoders()
        return (
            self._extracted(image, frames_of_clips(image, "embedding", self.shards)),
            self._extracted(audio, seconds_of_clips(audio, "embedding", self.shards)),
        )

    def _extracted(self, encoder: PooledImage | PooledAudio, inputs: Any) -> Path:
        device, clips = torch.device("cpu"), range(len(self.shards))
        if isinstance(self.device, torch.device):
            device = self.device
        elif self.device != "cpu" and torch.cuda.is_available():
            # By its number, since threads, which compute them, begin on the first GPU.
            device = torch.device("cuda", torch.cuda.current_device())
        report = _lines(f"features by {encoder.name}")
        extraction = extract(encoder, "embedding", inputs, clips, devices=[device], cache=None, report=report)
        for name, reason in extraction.unreadable:
            raise ValueError(f"{name} cannot be read: {reason}")
        views = f"features of {len(extraction.features.item):,} views of {len(clips):,} clips by {encoder.name}"
        self.remarks.append(f"{views}: {extraction.origin}")
        return extraction.file

    @cached_property
    def rows(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The features of all views, (V, D) and (V, D'), mapped."""
        image, audio = (np.load(file, mmap_mode="r", allow_pickle=False) for file in self.files)
        return image, audio

    def buffers(self, *, slots: int, rows: int, empty: Callable[..., Tensor] = torch.empty) -> PairBuffers:
        """As `PairReader.buffers`."""
        image, audio = (empty((slots, rows, part.shape[1]), dtype=torch.float32) for part in self.rows)
        return PairBuffers(image, audio)

    def read_into(self, buffers: PairBuffers, slot: int, rows: PairRows) -> None:
        """Fill a slot of `buffers` with the features of what the rows name."""
        positions = (rows.frame_clip, rows.frame_tick), (rows.audio_clip, rows.audio_center // SAMPLES_PER_TICK)
        for into, part, (clip, tick) in zip((buffers.images, buffers.audio), self.rows, positions, strict=True):
            into[slot, : len(clip)] = torch.from_numpy(part[self.nearest(clip, tick)])

    def nearest(self, clip: Integers, tick: Integers) -> Integers:
        """Of clips and ticks, int64 (N,) each, the row of the view that is nearest in time."""
        step, count = self._step[clip], self._count[clip]
        place = ((2 * (tick - self._first[clip]) + step) // (2 * step)).clip(0, count - 1)
        row: Integers = self._end[clip] - count + place
        return row

    def spread(self, clips: Integers, views: int) -> tuple[Integers, Integers]:
        """Of each clip as many views, evenly over it: their rows and ticks, int64 (N · views,), clip by clip."""
        clip = np.repeat(clips, views)
        place = (2 * np.tile(np.arange(views), len(clips)) + 1) * self._count[clip] // (2 * views)
        return self._end[clip] - self._count[clip] + place, self._first[clip] + self._step[clip] * place

    @property
    def training_rows(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Those of the sampler's clips."""
        mine = np.isin(np.repeat(np.arange(len(self._count)), self._count), self.sampler.clips)
        image, audio = (part[mine] for part in self.rows)
        return image, audio


def _lines(title: str) -> Report:
    """Says on standard error how far it is: the first time that features are computed takes minutes."""
    written_at = 0.0

    def report(done: int, total: int, note: str) -> None:
        nonlocal written_at
        if not done or time.monotonic() - written_at >= SECONDS_BETWEEN_LINES:
            written_at = time.monotonic()
            sys.stderr.write(f"{title}: {done:,} of {total:,} clips\n")

    return report


def features_of(network: PairNetwork, batch: Batch, config: PairConfig, *, augment: bool) -> tuple[Tensor, Tensor]:
    """What the heads take of a batch's images and audio: rows of features, float32 (F, D), (S, D').

    The batch has either rows of `FeatureReader`, or images and audio as `avc.data.reader.PairReader` reads them.
    """
    images, audio, trunks = batch.images, batch.audio, trunks_of(network)
    if images.dtype == torch.uint8:
        images = images_to_input(images, batch.image_draws if augment else None, config.data)
        rate = encoders(network)[1].sample_rate_hz
        sounds = torch.from_numpy(np.stack([resample(mono(sound), rate) for sound in audio.cpu().numpy()]))
        audio = sounds[:, None].to(images.device)
        if augment:
            audio = audio * (1 + config.data.volume * (2 * batch.audio_draws[:, :, None] - 1))
    rows = trunks[0].encode(images), trunks[1].encode(audio)
    share = getattr(config.model, "dropout", 0.0)
    if not augment or not share:
        return rows
    draws = batch.image_draws[:, 0], batch.audio_draws[:, 0]
    return trunks[0].thinned(rows[0], draws[0], share), trunks[1].thinned(rows[1], draws[1], share)


def trunks_of(network: Any) -> tuple[PretrainedTrunk, PretrainedTrunk]:
    """Those of a network whose towers begin with encoders."""
    return network.vision, network.audio


def encoders(network: Any) -> Encoders:
    """What its towers begin with."""
    return network.vision.encoder, network.audio.encoder


def encoders_of(config: PairConfig) -> Encoders:
    """What the towers of a configuration begin with. Raises ValueError as `pretrained_trunks` does, and for a size."""
    image, audio = pretrained_trunks(config.model)  # type: ignore[arg-type]  # settings with towers are of pairs
    both: Any = image.encoder, audio.encoder
    _refuse_other_size(config, both[0].size)
    return both  # type: ignore[no-any-return]


def _refuse_other_size(config: PairConfig, size: int) -> None:
    if config.data.image_size != size:
        raise ValueError(
            f"data.image_size is {config.data.image_size}, and what model.image names sees {size} pixels: set "
            f"data.image_size={size}"
        )


def files_of(settings: Any) -> dict[str, Path]:
    """The files that hold what the towers begin with, by the names of their settings, where there are files."""
    folders = {}
    for name in ("image", "audio"):
        source = getattr(settings, name)
        path = Path(source.partition(".py:")[0] + ".py" if ".py:" in source else source).expanduser()
        path = place(path, WEIGHTS) if path.is_dir() else path
        if path.is_file():
            folders[name] = path
    return folders


@torch.no_grad()
def begin(network: PairNetwork, config: PairConfig, reader: PairReader) -> tuple[str, ...]:
    """Standardize the towers' features over the training clips and start the heads; what to say about it, a line each.

    Where both encoders tell ImageNet's classes, linear heads begin with the same directions of them, the principal ones
    of the images: what looks like a dog and what sounds like one are near each other before anything is learnt.
    """
    trunks = trunks_of(network)
    _refuse_other_size(config, encoders(network)[0].size)
    if not isinstance(reader, FeatureReader):  # the towers are trained: what they give at the start
        reader = FeatureReader(reader.shards, reader.sampler, partial(encoders, network), device=config.training.device)
    training = reader.training_rows
    for trunk, rows in zip(trunks, training, strict=True):
        trunk.standardize(rows)
    heads = [getattr(network, name, None) for name in ("vision_head", "audio_head")]
    counts = [trunk.classes.stop - trunk.classes.start for trunk in trunks]
    if 0 < counts[0] == counts[1] and all(isinstance(head, nn.Linear) for head in heads):
        seen, heard = (
            trunk(torch.from_numpy(rows))[:, trunk.classes].flatten(1)
            for trunk, rows in zip(trunks, training, strict=True)
        )
        _, directions = torch.linalg.eigh((seen.T @ seen).double())  # ascending
        directions = directions[:, -EMBEDDING:].float()
        for head, trunk, classes in zip(heads, trunks, (seen, heard), strict=True):
            assert isinstance(head, nn.Linear)
            length = (classes @ directions).square().sum(dim=1).mean().sqrt()
            head.weight[:, trunk.classes] = 0
            head.weight[: directions.shape[1], trunk.classes] = CLASSES_LENGTH / length * directions.T
    _set_border(network, training)
    return tuple(reader.remarks)


def _set_border(network: Any, training: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    """Put fc3's border half-way between the distances of partners and of others, where few steps would not bring it."""
    if not hasattr(network, "fc3"):
        return
    image, audio = (
        network.embed_image(torch.from_numpy(training[0])),
        network.embed_audio(torch.from_numpy(training[1])),
    )
    partners, others = (euclidean_distance(image, part) for part in (audio, audio.roll(len(audio) // 2, dims=0)))
    border, slope = (partners.mean() + others.mean()) / 2, 1 / torch.cat([partners, others]).std().clamp(min=1e-3)
    network.fc3.weight.copy_(torch.stack([slope, -slope])[:, None] / 2)
    network.fc3.bias.copy_(torch.stack([-slope, slope]) * border / 2)
