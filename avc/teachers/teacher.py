"""Teachers: whatever gives class probabilities for a frame, a network or what one gave before."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avc.data.preprocessing import center_crop
from avc.teachers.exported import USUAL_SIZE, Program, ProgramError, noise, open_program
from avc.teachers.trial import try_programs
from shards.atomic import refuse_special
from shards.read import Shards
from shards.sidecars import Distribution
from shards.soft_labels import not_distributions

GROUP_FRAMES = 64  # that a network is given at once
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images, which such networks subtract


@dataclass(frozen=True)
class Source:
    """Where a teacher comes from: a .pt2 program, a .npy file of probabilities, or weights of a torchvision network."""

    name: str
    path: Path
    architecture: str = ""  # torchvision's name of the network; empty for the other two

    @property
    def sha256(self) -> str:
        """Of the file, and of the architecture's name where there is one. Raises ValueError for no file."""
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"the teacher {self.path} is not a file")  # a pipe would be waited for
        try:
            with open(self.path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        except OSError as error:
            raise ValueError(f"the teacher {self.path} cannot be read: {error.strerror}") from None
        digest.update(self.architecture.encode())
        return digest.hexdigest()


def parse_source(text: str) -> Source:
    """`[NAME=]FILE` or `[NAME=]torchvision:NETWORK:FILE`; without NAME the file's, up to its ending.

    Raises ValueError for another form, and for what is no file.
    """
    name, equals, place = text.partition("=")
    if not equals:
        name, place = "", text
    architecture = ""
    if place.startswith("torchvision:"):
        _, architecture, place = (place + "::").split(":", 2)
        place = place.rstrip(":")
    path = Path(place).expanduser()
    name = name or path.stem.lower()
    if not re.fullmatch(r"[a-z0-9_-]+", name):
        raise ValueError(f"the teacher's name {name!r} must be of a-z, 0-9, _ and -; give it as NAME={place}")
    if not architecture and path.suffix not in (".pt2", ".npy"):
        raise ValueError(
            f"{text!r} is no teacher: give a .pt2 program, a .npy file of probabilities, or "
            "torchvision:NETWORK:WEIGHTS, as in objects=torchvision:resnet50:resnet50.pth"
        )
    refuse_special(path)
    return Source(name, path, architecture)


class ExportedTeacher:
    """A network that classifies images. Whether it gives probabilities or logits is found on two images of noise."""

    def __init__(self, program: Program, name: str) -> None:
        self.program, self.classes, self.name = program, program.classes, name
        device = next((p.device for p in program.module.parameters()), torch.device("cpu"))
        with torch.inference_mode():
            rows = self._run(noise(program).to(device)).cpu()
        self.gives_probabilities = not not_distributions(rows.numpy())

    def soft_labels(self, clips: list[int], frames: list[Tensor], device: torch.device) -> list[Distribution]:
        """float16 (frames, classes) for each clip. Raises ValueError where the network's outputs are not finite."""
        x = torch.cat([to_teacher(of_clip.to(device), self.program.size) for of_clip in frames])
        rows = torch.cat([self._run(part) for part in torch.split(x, GROUP_FRAMES)])
        if not self.gives_probabilities:
            rows = rows.softmax(dim=1)
        if wrong := not_distributions(rows.cpu().numpy()):
            raise ValueError(f"the teacher {self.name} does not give probabilities for every frame: {wrong}")
        parts = torch.split(rows.half().cpu(), [len(of_clip) for of_clip in frames])
        return [part.numpy() for part in parts]

    def _run(self, images: Tensor) -> Tensor:
        try:
            return self.program(images)
        except ProgramError as error:
            raise ValueError(f"the teacher {self.name} cannot be used: {error}") from None


class PrecomputedTeacher:
    """Probabilities from elsewhere: floats (clips, classes) or (clips, frames, classes), by the index's rows."""

    def __init__(self, path: Path, shards: Shards, name: str) -> None:
        try:
            self.rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path} is not a .npy file of numbers: {error}") from None
        if self.rows.ndim not in (2, 3) or len(self.rows) != len(shards) or self.rows.dtype.kind != "f":
            raise ValueError(
                f"{path} holds {self.rows.dtype} {self.rows.shape}; wanted are floating-point numbers of shape (clips, "
                f"classes) or (clips, frames, classes) with a row for each of the {len(shards):,} rows of the index"
            )
        self.classes, self.path, self.name = self.rows.shape[-1], path, name

    def soft_labels(self, clips: list[int], frames: list[Tensor], device: torch.device) -> list[Distribution]:
        """float16 (frames, classes) for each clip. Raises ValueError for missing frames and for no probabilities."""
        parts = []
        for clip, count in zip(clips, map(len, frames), strict=True):
            row = np.asarray(self.rows[clip])
            row = np.broadcast_to(row, (count, self.classes)) if row.ndim == 1 else row[:count]
            wrong = not_distributions(row) or ("" if len(row) == count else f"it has {len(row)} frames of {count}")
            if wrong:
                raise ValueError(f"row {clip} of {self.path} holds no probabilities for the clip: {wrong}")
            parts.append(row.astype(np.float16))
        return parts


AnyTeacher = ExportedTeacher | PrecomputedTeacher


def to_teacher(frames: Tensor, size: int) -> Tensor:
    """uint8 (N, H, W, 3) → float32 (N, 3, size, size): the middle, scaled to `size`, by ImageNet's means."""
    x = center_crop(frames, size).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (x.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return ((x - mean) / deviation).contiguous()


def try_teachers(sources: Sequence[Source]) -> None:
    """Run the .pt2 programs among the teachers once, in a process of its own. Raises ValueError for one that fails."""
    try_programs({s.path: s.sha256 for s in sources if s.path.suffix == ".pt2" and not s.architecture})


def open_teacher(source: Source, device: torch.device, shards: Shards) -> AnyTeacher:
    """A teacher of these shards on a device. Raises ValueError where its file is none.

    A program that crashes does so here: `try_teachers` comes first.
    """
    if source.path.suffix == ".npy":
        return PrecomputedTeacher(source.path, shards, source.name)
    if source.architecture:
        return ExportedTeacher(_torchvision(source, device), source.name)
    return ExportedTeacher(open_program(source.path, device), source.name)


def _torchvision(source: Source, device: torch.device) -> Program:
    """A network of torchvision with weights from a file; nothing is downloaded."""
    try:
        from torchvision.models import get_model, list_models
    except ImportError:
        raise ValueError(
            f"torchvision is not installed, and {source.architecture} is its; install it beside torch "
            "(`pip install torchvision`), or give the teacher as a .pt2 program"
        ) from None
    if source.architecture not in list_models():
        raise ValueError(f"torchvision has no network {source.architecture!r}")
    try:
        weights = torch.load(source.path, map_location="cpu", weights_only=True)
        weights = weights.get("state_dict", weights)
        weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
        classes = len(list(weights.values())[-1])  # the bias of the last layer
        network = get_model(source.architecture, weights=None, num_classes=classes)
        network.load_state_dict(weights)
    except Exception as error:  # torch.load raises what it meets in the file
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{source.path} does not hold weights of {source.architecture}: {reason}") from None
    return Program(network.eval().to(device), USUAL_SIZE, classes, None)
