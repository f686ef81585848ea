"""AVE+OF: Arandjelović and Zisserman, Objects that Sound, ECCV 2018, section 3.2 and figure 8."""

from __future__ import annotations

from typing import ClassVar

from avc.data.sight import Sight
from avc.models.ave import AVENet
from avc.models.trunks import TwoStreams

FLOW_FRAMES = 10  # of two channels each (Objects that Sound, figure 8)


class AVEOFNet(AVENet):
    """AVE-Net that sees a frame and 10 steps of optical flow around it, in two streams (Objects that Sound, fig. 8)."""

    sight: ClassVar[Sight] = Sight(flow_frames=FLOW_FRAMES)

    def _vision(self, *, width: float, stride: bool) -> TwoStreams:
        return TwoStreams(3, 2 * FLOW_FRAMES, width=width, stride=stride)
