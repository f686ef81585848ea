"""What the loop asks of samplers, readers and batches, whatever is in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor


class AnySampler(Protocol):
    """An endless sequence of rows over `clips`; what a row is depends on its number alone.

    A row makes `pairs_per_row` pairs (what a step counts, a step's loss is the mean over), rows come in multiples of
    `group_size`, and `group_name` says why.
    """

    clips: NDArray[Any]
    rows_per_epoch: int
    pairs_per_row: int
    group_size: int
    group_name: str

    def rows(self, start: int, stop: int) -> Any:
        """Rows [start, stop); both are multiples of `group_size`."""


class AnyBatch(Protocol):
    """What rows name, read: a named tuple of tensors. digest: int64 (), of all that a pair is, to be summed."""

    @property
    def digest(self) -> Tensor:
        """int64 ()."""

    def __iter__(self) -> Iterator[Tensor]:
        """Its tensors."""

    def to(self, device: torch.device) -> Self:
        """The same batch on `device`."""


B = TypeVar("B", bound=AnyBatch)
B_co = TypeVar("B_co", bound=AnyBatch, covariant=True)


def copied(batch: B, copy: Callable[[Tensor], Tensor]) -> B:
    """A batch of copies, each made by `copy`."""
    return type(batch)(*map(copy, batch))


class Buffers(Protocol[B_co]):
    """Memory for batches, one in each of its slots."""

    def batch(self, slot: int, rows: Any) -> B_co:
        """What `Reader.read_into` has read into a slot for these rows; it shares the slot's memory."""


class Reader(Protocol[B_co]):
    """Reads ranges of rows, at once or into memory that several processes share.

    What its sampler's rows are is between the two and its buffers.
    """

    @property
    def sampler(self) -> AnySampler:
        """What the rows come from."""

    def __getitem__(self, row_range: tuple[int, int]) -> B_co:
        """The batch of rows [start, stop). Raises shards.read.BadRecord where the shards are damaged."""

    def buffers(self, *, slots: int, rows: int, empty: Callable[..., Tensor] = torch.empty) -> Buffers[B_co]:
        """Memory for batches of up to `rows` rows, one in each of `slots` slots; made by `empty`."""

    def read_into(self, buffers: Any, slot: int, rows: Any) -> None:
        """Read what the rows name into a slot of `buffers`."""
