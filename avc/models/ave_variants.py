"""AVE-Net that sees motion (Objects that Sound, ECCV 2018, section 3.2 and figure 8), or learns by contrast."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from avc.models.ave import AVENet
from avc.models.pair import VisualInput
from avc.models.trunks import Trunk
from avc.models.trunks.vgg import VGG, TwoStreams
from avc.settings import PairModel, TowerSettings

FLOW_FRAMES = 10  # of two channels each (Objects that Sound, figure 8)


class AVEMFNet(AVENet):
    """AVE-Net that sees 25 frames, one second, by 3-D convolutions (Objects that Sound 3.2).

    The paper says no more than that. Here every 3×3 becomes 3×3×3, and time is strided and pooled as height and width
    are, except in pool3: at full size 25×224×224 gives maps of 512×3×14×14. Were it pooled there too, one step would
    reach conv4, and two thirds of its weights would see padding alone. pool4 takes the maximum over time as well.
    """

    visual_input: ClassVar[VisualInput] = VisualInput(frames=25)

    def _trunks(self, settings: TowerSettings) -> tuple[Trunk, Trunk]:
        shape: dict[str, Any] = {"width": settings.width, "stride": settings.stride}
        return VGG(3, in_time=True, **shape), VGG(1, pool=settings.spectrogram_pool, **shape)


class AVEOFNet(AVENet):
    """AVE-Net that sees a frame and 10 steps of optical flow around it, in two streams (Objects that Sound, fig. 8)."""

    visual_input: ClassVar[VisualInput] = VisualInput(flow_frames=FLOW_FRAMES)

    def _trunks(self, settings: TowerSettings) -> tuple[Trunk, Trunk]:
        shape: dict[str, Any] = {"width": settings.width, "stride": settings.stride}
        return TwoStreams(3, 2 * FLOW_FRAMES, **shape), VGG(1, pool=settings.spectrogram_pool, **shape)


class ContrastiveAVENet(AVENet):
    """AVE-Net with a learnt temperature, from 0.07 and not below 0.01 (Radford et al. 2021, section 2.5)."""

    def __init__(self, settings: PairModel) -> None:
        super().__init__(settings)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied by, float32 ()."""
        return self.log_scale.exp().clamp(max=100.0)

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """As AVE-Net's; training it has no say in the embeddings."""
        return super().compare(image.detach(), audio.detach())
