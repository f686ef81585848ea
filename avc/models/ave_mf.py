"""AVE+MF: Arandjelović and Zisserman, Objects that Sound, ECCV 2018, section 3.2."""

from __future__ import annotations

from typing import ClassVar

from avc.models.ave import AVENet
from avc.models.inputs import VisualInput
from avc.models.trunks import Trunk
from avc.models.trunks.vgg import VGG
from avc.settings import TowerSettings


class AVEMFNet(AVENet):
    """AVE-Net that sees 25 frames, one second, by 3-D convolutions (Objects that Sound 3.2).

    The paper says no more than that. Here every 3×3 becomes 3×3×3, and time is strided and pooled as height and width
    are, except in pool3: at full size 25×224×224 gives maps of 512×3×14×14. Were it pooled there too, one step would
    reach conv4, and two thirds of its weights would see padding alone. pool4 takes the maximum over time as well.
    """

    visual_input: ClassVar[VisualInput] = VisualInput(frames=25)

    def _vision(self, trunk: str, settings: TowerSettings) -> Trunk:
        return VGG(3, width=settings.width, stride=settings.stride, in_time=True)
