"""Teachers: whatever gives class probabilities for a frame, a network or what one gave before."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from avc.data.preprocessing import center_crop
from shards.atomic import refuse_special, written_aside
from shards.read import Shards
from shards.sidecars import Distribution, frame_ticks
from shards.soft_labels import distribution_problem

GROUP_FRAMES = 64  # that a network is given at once
IMAGE_SIZE = 224  # pixels, of torchvision's classifiers
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images, which such networks subtract


@dataclass(frozen=True)
class Source:
    """Where a teacher comes from: a .npy file of probabilities, or weights of a torchvision network."""

    name: str
    path: Path
    architecture: str = ""  # torchvision's name of the network; empty for probabilities

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
    if not architecture and path.suffix != ".npy":
        raise ValueError(
            f"{text!r} is no teacher: give a .npy file of probabilities, or "
            "torchvision:NETWORK:WEIGHTS, as in objects=torchvision:resnet50:resnet50.pth"
        )
    refuse_special(path)
    return Source(name, path, architecture)


class NetworkTeacher:
    """A network that classifies images: float32 (N, 3, size, size) → logits, float (N, classes)."""

    def __init__(self, network: nn.Module, *, classes: int, name: str, size: int = IMAGE_SIZE) -> None:
        self.network, self.classes, self.name, self.size = network, classes, name, size

    def soft_labels(self, clips: list[int], frames: list[Tensor], device: torch.device) -> list[Distribution]:
        """float16 (frames, classes) for each clip. Raises ValueError where the network's outputs are not finite."""
        x = torch.cat([to_teacher(of_clip.to(device), self.size) for of_clip in frames])
        logits = torch.cat([self.network(part).float() for part in torch.split(x, GROUP_FRAMES)])
        rows = logits.softmax(dim=1).cpu()
        if wrong := distribution_problem(rows.numpy()):
            raise ValueError(f"the teacher {self.name} does not give probabilities for every frame: {wrong}")
        return [part.numpy() for part in torch.split(rows.half(), [len(of_clip) for of_clip in frames])]


class PrecomputedTeacher:
    """Probabilities from elsewhere: floats (clips, classes) or (clips, frames, classes), by the index's rows.

    Of a clip that has fewer frames than the array, the first of its row count.
    """

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
            wrong = distribution_problem(row) or ("" if len(row) == count else f"it has {len(row)} frames of {count}")
            if wrong:
                raise ValueError(f"row {clip} of {self.path} holds no probabilities for the clip: {wrong}")
            parts.append(row.astype(np.float16))
        return parts


@torch.inference_mode()
def precompute(
    network: Callable[[Tensor], Tensor], shards: Shards, out: Path, *, spacing_ticks: int, size: int = IMAGE_SIZE
) -> None:
    """Write what any image classifier says of the frames that `avc teach` labels, as a .npy file that it takes.

    network: float32 (N, 3, size, size) in ImageNet's normalization → logits (N, classes). out: becomes float16 (clips,
    frames, classes), probabilities, zeros after the last frame of a shorter clip.
    """
    labels = []
    for clip in range(len(shards)):
        ticks = frame_ticks(shards.row(clip), spacing_ticks).tolist()
        images = torch.from_numpy(np.stack([shards.picture(clip, tick) for tick in ticks]))
        labels.append(network(to_teacher(images, size)).float().softmax(dim=1).half())
    rows = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True).numpy()
    with written_aside(out) as file:
        np.save(file, rows)


AnyTeacher = NetworkTeacher | PrecomputedTeacher


def to_teacher(frames: Tensor, size: int) -> Tensor:
    """uint8 (N, H, W, 3) → float32 (N, 3, size, size): the middle, scaled to `size`, by ImageNet's means."""
    x = center_crop(frames, size).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (x.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return ((x - mean) / deviation).contiguous()


def open_teacher(source: Source, device: torch.device, shards: Shards) -> AnyTeacher:
    """A teacher of these shards on a device. Raises ValueError where its file is none."""
    if not source.architecture:
        return PrecomputedTeacher(source.path, shards, source.name)
    try:
        from torchvision.models import get_model, list_models
    except ImportError:
        raise ValueError(
            f"torchvision is not installed, and {source.architecture} is its; install it beside torch "
            "(`pip install torchvision`), or give the teacher's probabilities as a .npy file"
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
    return NetworkTeacher(network.eval().to(device), classes=classes, name=source.name)
