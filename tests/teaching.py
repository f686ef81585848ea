"""Tiny teachers for tests, exported as .pt2, and shards of clips long enough for SoundNet."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from shards.format import PackSettings
from shards.pack import pack
from tests.small_videos import render_video


class TinyTeacher(nn.Module):
    """Sees a coarse picture: enough for probabilities that differ from clip to clip."""

    def __init__(self, classes: int, *, seed: int, probabilities: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 16, classes)
        self.probabilities = probabilities

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.adaptive_avg_pool2d(torch.relu(self.bn(self.conv(x))), 4).flatten(1)
        logits = 4 * self.fc(x)
        return logits.softmax(dim=1) if self.probabilities else logits


def export_teacher(path: Path, model: nn.Module, *, size: int = 32, batch: int | None = None) -> Path:
    """Write a model as a .pt2 program of pictures of `size` pixels, for any batch or for one of `batch` alone."""
    shapes = None if batch else {"x": {0: Dim("batch")}}
    program = torch.export.export(model.eval(), (torch.zeros(batch or 2, 3, size, size),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


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
