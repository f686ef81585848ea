"""Tiny teachers for tests, and shards of clips long enough for SoundNet."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from avc.teachers.teacher import Source, parse_source, precompute
from shards.format import PackSettings
from shards.pack import pack
from shards.read import Shards
from tests.small_videos import render_video


class TinyTeacher(nn.Module):
    """Sees a coarse picture: enough for probabilities that differ from clip to clip."""

    def __init__(self, classes: int, *, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.adaptive_avg_pool2d(torch.relu(self.bn(self.conv(x))), 4).flatten(1)
        return 4 * self.fc(x)  # type: ignore[no-any-return]


def tiny_teachers(folder: Path, shards: Path, *, spacing_ticks: int) -> list[Source]:
    """Probabilities of two small networks, of 6 and of 4 classes, for the frames of packed clips."""
    for name, model in (("objects", TinyTeacher(6, seed=1)), ("scenes", TinyTeacher(4, seed=2))):
        precompute(model.eval(), Shards(shards), folder / f"{name}.npy", spacing_ticks=spacing_ticks, size=32)
    return [parse_source(str(folder / f"{name}.npy")) for name in ("objects", "scenes")]


def long_clips(folder: Path, *, seconds: tuple[float, ...], shard_bytes: int = 256_000_000) -> Path:
    """Shards of one small noisy video for each length; every second one is for validation."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    for seed, length in enumerate(seconds):
        render_video(videos / f"video-{seed:02d}.mp4", seed=seed, seconds=length)
    held_out = folder / "validation.txt"
    held_out.write_text("".join(f"video-{seed:02d}\n" for seed in range(1, len(seconds), 2)))
    settings = PackSettings(side=40, every=5, seconds=20, split=(1.0, 0.0, 0.0))
    pack(
        [videos],
        folder / "shards",
        settings,
        split_lists={"validation": held_out},
        workers=1,
        shard_bytes=shard_bytes,
    )
    return folder / "shards"
