"""Image features for a linear probe.

Look, Listen and Learn's: the vision trunk's map after its last ReLU, max-pooled to 4×4×512.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from avc.data.media import read_rgb
from avc.data.preprocessing import center_crop
from avc.data.transforms import images_to_input
from avc.evaluation.extraction import Extractor, Unreadable
from avc.models.inputs import VisualInput
from avc.models.pair import PairNetwork
from avc.models.trunks import Trunk
from avc.settings import PairData


def read_image(path: Path, size: int) -> Tensor:
    """The middle of an image file as uint8 (1, size, size, 3) RGB, by `center_crop`.

    Raises Unreadable for what cannot be decoded or is too large.
    """
    try:
        rgb = read_rgb(path)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    return center_crop(torch.from_numpy(np.array(rgb))[None], size)


def pool_image(trunk: Trunk, images: Tensor) -> Tensor:
    """(N, 3, H, W) normalized → the trunk's map after its last ReLU, max-pooled: (N, 16 · channels)."""
    return F.adaptive_max_pool2d(trunk(images), (4, 4)).flatten(1)


def require_single_frames(model: PairNetwork) -> None:
    """Raise ValueError for a network whose visual input is more than one frame."""
    if model.visual_input != VisualInput():
        raise ValueError("AVE+MF and AVE+OF see motion and have no features of single images; give another run")


def trunk_image_features(model: PairNetwork, data: PairData, *, name: str) -> Extractor[Path]:
    """The vision trunk's map after its last ReLU, max-pooled to 4×4: 8192 numbers at full width, one row an image."""
    require_single_frames(model)
    return Extractor(
        name,
        f"trunk after ReLU, {data.image_size} pixels",
        model.vision.eval(),
        lambda path: (read_image(path, data.image_size), False),
        lambda trunk, x: pool_image(trunk, images_to_input(x, None, data)),
    )
