"""AVE+OF: Arandjelović and Zisserman, Objects that Sound, ECCV 2018, section 3.2 and figure 8."""

from __future__ import annotations

from typing import ClassVar

from avc.models.ave import AVENet
from avc.models.inputs import VisualInput
from avc.models.trunks import Trunk
from avc.models.trunks.vgg import TwoStreams
from avc.settings import TowerSettings

FLOW_FRAMES = 10  # of two channels each (Objects that Sound, figure 8)


class AVEOFNet(AVENet):
    """AVE-Net that sees a frame and 10 steps of optical flow around it, in two streams (Objects that Sound, fig. 8)."""

    visual_input: ClassVar[VisualInput] = VisualInput(flow_frames=FLOW_FRAMES)

    def _vision(self, trunk: str, settings: TowerSettings) -> Trunk:
        return TwoStreams(3, 2 * FLOW_FRAMES, width=settings.width, stride=settings.stride)
