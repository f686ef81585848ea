"""What the loop and the loader ask of a family's plan, reader and batches, whatever is in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor


class AnyPlan(Protocol):
    """An endless sequence of rows over `clips`; what a row is depends on its number alone.

    A row makes `pairs_per_row` pairs (what a step counts, a step's loss is the mean over), rows come in multiples of
    `granule`, and `granule_in_words` says why.
    """

    clips: NDArray[Any]
    rows_per_epoch: int
    pairs_per_row: int
    granule: int
    granule_in_words: str

    def rows(self, start: int, stop: int) -> Any:
        """Rows [start, stop); both are multiples of `granule`."""


class AnyBatch(Protocol):
    """What rows name, read. digest: int64 (), of all that a pair is, to be summed."""

    @property
    def digest(self) -> Tensor:
        """int64 ()."""

    def pinned(self) -> Self:
        """A copy in pinned memory."""

    def copied(self) -> Self:
        """A copy in memory of its own."""

    def to(self, device: torch.device) -> Self:
        """The same batch on `device`."""


B = TypeVar("B", bound=AnyBatch)
B_co = TypeVar("B_co", bound=AnyBatch, covariant=True)


class Reader(Protocol[B_co]):
    """Reads stretches of a plan, at once or into memory that several processes share.

    A room has a method `batch(place, rows)` that gives what `fill(room, place, rows)` has read into one of its places.
    """

    @property
    def plan(self) -> AnyPlan:
        """What the rows come from."""

    def __getitem__(self, stretch: tuple[int, int]) -> B_co:
        """The batch of rows [start, stop). Raises shards.read.BadRecord where the shards are damaged."""

    def room(self, *, places: int, rows: int, empty: Callable[..., Tensor] = torch.empty) -> Any:
        """Memory for batches of up to `rows` rows, one in each of `places` places; from torch or as `empty` does."""

    def fill(self, room: Any, place: int, rows: Any) -> None:
        """Read what the rows name into a place of `room`."""
