"""The optical flow between the pictures of a clip.

By dense inverse search (Kroeger et al., ECCV 2016), OpenCV's DIS at its "medium" setting. Objects that Sound (figure 8)
uses TV-L1, which minimizes over the whole picture and takes a hundred times as long: minutes for a clip. DIS matches
patches from coarse to fine and refines what it found in a few steps of a variational method; where a patch has nothing
to hold on to, or moves far, the two differ. BENCHMARKS.md has by how much.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from shards.flow import encode_flow

METHOD = f"DIS, medium, OpenCV {cv2.__version__}"  # versions differ by hundredths of a pixel, in every pixel


class Flow:
    """Follows a clip picture by picture."""

    def __init__(self, *, quality: int) -> None:
        cv2.setNumThreads(1)  # the packer runs a process for each core
        self._search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._quality = quality
        self._before: np.ndarray | None = None
        self._rest = b""

    def show(self, luma: np.ndarray, *, ticks: int) -> list[bytes]:
        """The steps that end in a picture which is shown for `ticks` ticks: from the one before, then of no motion."""
        now = np.array(luma)  # the caller's memory is used again
        if self._before is None:
            self._rest = encode_flow(np.zeros((*now.shape, 2), np.float32), quality=self._quality)
            steps = []
        else:
            steps = [encode_flow(self._search.calc(self._before, now, None), quality=self._quality)]
        self._before = now
        return steps + [self._rest] * (ticks - 1)
