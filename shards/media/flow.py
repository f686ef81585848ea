"""Computes the optical flow between the pictures of a clip.

By dense inverse search (Kroeger et al., ECCV 2016), OpenCV's DIS at its "medium" setting. Objects that Sound (figure 8)
uses TV-L1, which optimizes over the entire picture and takes a hundred times as long: minutes for a clip. DIS matches
patches from coarse to fine and refines the flow in a few steps of a variational method. The two differ in patches
without texture and in large motions; BENCHMARKS.md has by how much.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from shards.flow import encode_flow

METHOD = f"DIS, medium, OpenCV {cv2.__version__}"  # versions differ by hundredths of a pixel, in every pixel


class Flow:
    """Computes the flow of a clip, picture by picture."""

    def __init__(self, *, quality: int) -> None:
        cv2.setNumThreads(1)  # the packer runs a process for each core
        self._method: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._quality = quality
        self._previous: np.ndarray | None = None
        self._zero_flow = b""

    def add_picture(self, luma: np.ndarray, *, ticks: int) -> list[bytes]:
        """The flow to a picture that is shown for `ticks` ticks: one step from the previous picture, then zero flow."""
        current = np.array(luma)  # the caller reuses its memory
        if self._previous is None:
            self._zero_flow = encode_flow(np.zeros((*current.shape, 2), np.float32), quality=self._quality)
            steps = []
        else:
            steps = [encode_flow(self._method.calc(self._previous, current, None), quality=self._quality)]
        self._previous = current
        return steps + [self._zero_flow] * (ticks - 1)
