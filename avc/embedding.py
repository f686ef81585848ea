"""Embeddings of packed clips: of one frame, and of the second of audio around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from avc.data.reader import PairReader
from avc.data.sampler import PairRows, PairSampler
from avc.data.windows import mono, resample
from avc.inference import Network
from shards.read import Shards

Features = NDArray[np.float32]
Integers = NDArray[np.int64]
Report = Callable[[int, int, str], None]

_BATCH = 64


@dataclass(frozen=True)
class ClipEmbeddings:
    """Embeddings of V views, each a frame and its second of audio.

    clip, tick: int64 (V,), row of the index and tick of the frame; sorted by clip. image, audio: float32 (V, D), D 0
    where the network does not see, or does not hear.
    """

    clip: Integers
    tick: Integers
    image: Features
    audio: Features


def views_of(sampler: PairSampler, start: int, stop: int) -> PairRows:
    """Views [start, stop) of a plan of independent pairs: its positives alone, each clip once in len(sampler.clips)."""
    rows = sampler.rows(2 * start, 2 * stop)
    pairs = np.arange(stop - start)
    return PairRows(
        frame_clip=rows.frame_clip[::2],
        frame_tick=rows.frame_tick[::2],
        audio_clip=rows.audio_clip[::2],
        audio_center=rows.audio_center[::2],
        image_draws=rows.image_draws[::2],
        audio_draws=rows.audio_draws[::2],
        pair_frame=pairs,
        pair_audio=pairs,
        label=rows.label[::2],
    )


def drawn_views(network: Network, shards: Shards, clips: Integers, *, passes: int = 1) -> tuple[Integers, Integers]:
    """Clips and ticks of the frames that `embed_clips` embeds, in its order: int64 (V,) each."""
    rows = views_of(_sampler(network, shards, clips), 0, passes * len(clips))
    order = np.argsort(rows.frame_clip, kind="stable")
    return rows.frame_clip[order], rows.frame_tick[order]


@torch.no_grad()
def embed_clips(
    network: Network, shards: Shards, clips: Integers, *, passes: int = 1, report: Report | None = None
) -> ClipEmbeddings:
    """Embed `passes` random views of each clip, as Objects that Sound 3.1 does with one; the run's seed draws them.

    `report`, if given, is told how many views are done, of how many. Raises ValueError for fewer than two clips,
    shards.read.BadRecord for damaged shards.
    """
    sampler = _sampler(network, shards, clips)
    hears, sees = network.encoders.audio, network.encoders.image
    visual = {"image_size": sees.size, "visual_input": sees.visual_input} if sees else {"image_size": 1}
    reader = PairReader(shards, sampler, augment=False, **visual)
    total = passes * len(clips)
    clip, tick, image, audio = [], [], [], []
    for start in range(0, total, _BATCH):
        rows = views_of(sampler, start, min(start + _BATCH, total))
        batch = reader.read(rows)
        if sees is not None:
            image.append(network.embed_crops(batch.images).numpy())
        if hears is not None:
            sounds = [resample(mono(sound), hears.sample_rate_hz) for sound in batch.audio.numpy()]
            audio.append(network.embed_windows(torch.from_numpy(np.stack(sounds))).numpy())
        clip.append(rows.frame_clip)
        tick.append(rows.frame_tick)
        if report is not None:
            report(start + len(rows.label), total, "")
    order = np.argsort(np.concatenate(clip), kind="stable")
    return ClipEmbeddings(
        clip=np.concatenate(clip)[order],
        tick=np.concatenate(tick)[order],
        image=np.concatenate(image)[order] if image else np.zeros((total, 0), np.float32),
        audio=np.concatenate(audio)[order] if audio else np.zeros((total, 0), np.float32),
    )


def _sampler(network: Network, shards: Shards, clips: Integers) -> PairSampler:
    return PairSampler(shards.index, clips, seed=network.config.run.seed, max_misalignment_ticks=0)
