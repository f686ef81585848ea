"""What a network sees of a clip around a tick."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sight:
    """frames: pictures of consecutive ticks, the drawn tick's in their middle; an odd number, at most 25.

    A clip has them wherever it has the half second of sound on either side that a drawn tick needs, which is 12.5 ticks
    (`shards.format.centres`). So the plan draws the same ticks for every network, and for both classes.
    """

    frames: int = 1

    def __post_init__(self) -> None:
        assert self.frames % 2 == 1
        assert self.frames <= 25

    def first_tick(self, tick: int) -> int:
        """The tick of the first picture, for the drawn tick."""
        return tick - self.frames // 2

    def shape(self, side: int) -> tuple[int, ...]:
        """Shape of what is seen, square pictures of `side` pixels: (side, side, 3), or (frames, side, side, 3)."""
        return (side, side, 3) if self.frames == 1 else (self.frames, side, side, 3)
