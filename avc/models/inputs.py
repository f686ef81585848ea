"""What the vision tower of a network takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VisualInput:
    """frames: images of consecutive ticks, the drawn tick's in their middle; an odd number, at most 25.

    flow_frames: steps of optical flow from tick to tick, as many before the drawn tick as after it; an even number.

    A clip has them wherever it has the half second of sound on either side that a drawn tick needs, which is 12.5 ticks
    (`shards.format.centers`). So the plan draws the same ticks for every network, and for both classes.
    """

    frames: int = 1
    flow_frames: int = 0

    def __post_init__(self) -> None:
        assert self.frames in range(1, 26, 2)
        assert self.flow_frames in range(0, 25, 2)
        assert self.frames == 1 or not self.flow_frames

    def first_frame(self, tick: int) -> int:
        """The tick of the first frame, for the drawn tick."""
        return tick - self.frames // 2

    def first_flow(self, tick: int) -> int:
        """The tick from which the first step of optical flow leads to the next one, for the drawn tick."""
        return tick - self.flow_frames // 2

    @property
    def channels(self) -> int:
        """Red, green and blue, then two of motion for each step of optical flow, to the right and down."""
        return 3 + 2 * self.flow_frames

    def shape(self, side: int) -> tuple[int, ...]:
        """Shape of the input at `side` pixels: (side, side, channels), or (frames, side, side, channels)."""
        image = (side, side, self.channels)
        return image if self.frames == 1 else (self.frames, *image)
