"""AVE+MF: Arandjelović and Zisserman, Objects that Sound, ECCV 2018, section 3.2."""

from __future__ import annotations

from typing import ClassVar

from avc.data.sight import Sight
from avc.models.ave import AVENet
from avc.models.trunks import Trunk


class AVEMFNet(AVENet):
    """AVE-Net that sees 25 frames, one second, by 3-D convolutions (Objects that Sound 3.2).

    The paper says no more than that. Here every 3×3 becomes 3×3×3, and time is strided and pooled as height and width
    are: at full size 25×224×224 gives conv4_2 maps of 512×1×14×14. pool4 takes the maximum over time as well.
    """

    sight: ClassVar[Sight] = Sight(frames=25)

    def _vision(self, *, width: float, stride: bool) -> Trunk:
        return Trunk(3, width=width, stride=stride, in_time=True)
