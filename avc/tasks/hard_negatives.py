"""Hard negatives: each frame meets the sound of its block that its own embedding finds nearest, other than its own.

With one condition: each sound of the block still serves exactly one negative. Where every frame took its own nearest,
a few sounds would be most of the negatives, "this sound, so no" would be right more often than not, and the network
could learn from the sound alone. So frames and sounds are matched one to one, at the least sum of distances. Where the
nearest sounds of the frames differ, that is the nearest sound of each.

The plan's own negatives decide between distances that are equal, up to the steps below. So embeddings that have fallen
together give the random negatives back, and the choice does not hang on an embedding's last bits. A block is never
divided between ranks or micro-batches, so the choice depends on its micro-batch and not on the number of ranks.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from avc.data.reader import Batch

_STEPS_PER_UNIT = 1000  # that distances are rounded to; embeddings of length 1 are 0 to 2 apart


@torch.compiler.disable  # type: ignore[untyped-decorator]
@torch.no_grad()
def hard_negatives(image: Tensor, audio: Tensor, batch: Batch, *, block: int) -> Tensor:
    """`batch.pair_audio`, int64 (P,), with the sounds of the negatives chosen anew inside of each block.

    image, audio: (F, D), embeddings of the batch's frames and sounds in one space. block: the plan's, of
    `negatives.source: shared`, of whose blocks the batch is made. Where a distance is not a number, nothing is changed:
    the loss will not be one either.
    """
    distance = torch.cdist(image.double(), audio.double(), compute_mode="donot_use_mm_for_euclid_dist").cpu()
    pair_audio = batch.pair_audio.clone()
    if not distance.isfinite().all():
        return pair_audio
    cost = 2 * (distance * _STEPS_PER_UNIT).round()
    negatives = (batch.label == 0).nonzero()[:, 0]
    frame, planned = batch.pair_frame[negatives].cpu(), batch.pair_audio[negatives].cpu()
    cost[frame, planned] -= 1
    never = 4 * float(cost.max() + 1) * block  # more than a whole block can cost
    cost[batch.frame_clip.cpu()[:, None] == batch.audio_clip.cpu()] = never
    chosen = torch.empty(len(cost), dtype=torch.int64)
    for start in range(0, len(cost), block):
        here = slice(start, start + block)
        _, sound = linear_sum_assignment(cost[here, here].numpy())
        chosen[here] = start + torch.from_numpy(sound)
    pair_audio[negatives] = chosen[frame].to(pair_audio.device)
    return pair_audio
