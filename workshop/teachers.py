"""Two small networks that know the rendered world's kinds from its frames, teachers for SoundNet.

    python -m workshop.demo --folder demo-world
    python -m workshop.teachers demo-world --out demo-world/teachers
    avc teach demo-world/shards --teacher demo-world/teachers/objects.npy --teacher demo-world/teachers/scenes.npy
    avc train configs/demo_soundnet.yaml data.shards=demo-world/shards run.dir=demo-world/runs/soundnet5
    avc eval agreement demo-world/runs/soundnet5

They stand in for the networks of ImageNet and Places where these are not at hand. `objects` names the kind that sounds,
`scenes` one of four families of kinds; both learn from frames of the training clips alone. The student never meets a
label. A clip of the world lasts 2.6 s, which is the least for one output step of SoundNet-5.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from avc.models.pair import global_max_pool
from avc.models.trunks import Trunk
from avc.models.trunks.vgg import VGG
from avc.teachers.teacher import precompute, to_teacher
from launch.progress import progress
from launch.user_errors import user_errors
from shards import Report
from shards.format import TICKS_PER_SECOND
from shards.read import Shards
from workshop.demo.world.render import read_labels

FAMILIES = {
    "bell": "struck",
    "drum": "struck",
    "clock": "struck",
    "guitar": "played",
    "organ": "played",
    "bird": "alive",
    "cricket": "alive",
    "siren": "machine",
    "motor": "machine",
    "robot": "machine",
    "fan": "air or water",
    "waterfall": "air or water",
}
WIDTH, IMAGE_SIZE, BATCH, LEARNING_RATE = 0.25, 64, 32, 2e-3


class Teacher(nn.Module):
    """A trunk under one linear layer: float32 (N, 3, 64, 64) in ImageNet's normalization → logits (N, classes)."""

    def __init__(self, trunk: Trunk, classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.classify = nn.Linear(self.trunk.out_channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return self.classify(global_max_pool(self.trunk(images)))  # type: ignore[no-any-return]


def train_teachers(
    folder: Annotated[Path, typer.Argument(help="A folder that `workshop.demo` made: world and shards are in it.")],
    out: Annotated[Path, typer.Option(help="Folder for objects.npy and scenes.npy.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the teachers.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Of their training.")] = 250,
    every: Annotated[float, typer.Option(help="Seconds between labeled frames, as `avc teach --every`.")] = 1.0,
) -> None:
    """Train two small teachers, which share a trunk, on the frames of a rendered world; write their probabilities."""
    shards, labels = Shards(folder / "shards"), read_labels(folder / "world")
    kinds = [labels[str(shards.info(clip)["name"])].kind for clip in range(len(shards))]
    classes, targets = {}, {}
    for name, label in (("objects", kinds), ("scenes", [FAMILIES[kind] for kind in kinds])):
        classes[name], targets[name] = np.unique(label, return_inverse=True)
    out.mkdir(parents=True, exist_ok=True)
    with progress("training the teachers", unit="steps") as report:
        teachers = fit(shards, list(targets.values()), steps=steps, seed=seed, report=report)
    for (name, target), teacher in zip(targets.items(), teachers, strict=True):
        right, names = accuracy(teacher, shards, target), ", ".join(classes[name])
        spacing_ticks = round(every * TICKS_PER_SECOND)
        precompute(teacher, shards, out / f"{name}.npy", spacing_ticks=spacing_ticks, size=IMAGE_SIZE)
        print(f"{out / name}.npy: {len(classes[name])} classes ({names}), {right:.1%} right on held-out frames")


def fit(
    shards: Shards, targets: Sequence[NDArray[np.int64]], *, steps: int, seed: int, report: Report
) -> list[Teacher]:
    """Teachers trained on `steps` batches of frames of the training clips; targets: each clip's class, for each."""
    torch.manual_seed(seed)
    trunk = VGG(3, width=WIDTH, stride=True)
    teachers = [Teacher(trunk, int(target.max()) + 1) for target in targets]
    optimizer = torch.optim.Adam(nn.ModuleList(teachers).parameters(), lr=LEARNING_RATE)
    rng = np.random.default_rng(seed)
    clips = shards.clips("train")
    for step in range(steps):
        batch = rng.choice(clips, BATCH)
        images = _images(shards, batch, rng.random(BATCH))
        mirrored = torch.from_numpy(rng.random(BATCH) < 0.5)[:, None, None, None]
        features = global_max_pool(trunk(torch.where(mirrored, images.flip(3), images)))
        losses = [
            F.cross_entropy(teacher.classify(features), torch.from_numpy(target[batch]))
            for teacher, target in zip(teachers, targets, strict=True)
        ]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        report(step + 1, steps, f"loss {losses[0].item():.3f}")
    return [teacher.eval() for teacher in teachers]


@torch.no_grad()
def accuracy(teacher: Teacher, shards: Shards, target: NDArray[np.int64]) -> float:
    """Share of the validation clips whose middle frame the teacher classifies correctly."""
    clips = shards.clips("validation")
    right = 0
    for part in np.array_split(clips, -(-len(clips) // BATCH)):
        logits = teacher(_images(shards, part, np.full(len(part), 0.5)))
        right += int((logits.argmax(dim=1).numpy() == target[part]).sum())
    return right / len(clips)


def _images(shards: Shards, clips: NDArray[np.int64], position: NDArray[np.float64]) -> Tensor:
    """A frame of each clip, `position` from 0, its first, to 1, its last: float32 (N, 3, 64, 64)."""
    images = []
    for clip, share in zip(clips.tolist(), position.tolist(), strict=True):
        row = shards.index[clip]
        tick = int(share * int(row["ticks"] - 1)) // int(row["every"]) * int(row["every"])
        images.append(to_teacher(torch.from_numpy(shards.picture(clip, tick))[None], IMAGE_SIZE))
    return torch.cat(images)


if __name__ == "__main__":
    with user_errors("workshop.teachers"):
        app = typer.Typer(pretty_exceptions_enable=False)
        app.command()(train_teachers)
        app()
