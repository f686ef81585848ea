"""A displaced map is found without labels and shifted back, by the right amount and in the right direction."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from avc.encoders.sources import middles
from avc.encoders.trained import Trained
from avc.evaluation.registration import offset, register
from shards.read import Shards
from tests.avc.test_localization import network_of

CELL = 16  # pixels of the input from one place of the map to the next


def maps_at(network: Trained, row: int, column: int) -> torch.Tensor:
    """Embeddings of an image of 4 by 8 places, of which one alone is like `sound`."""
    maps = torch.zeros(1, 128, 4, 8)
    maps[0, :, row, column] = 1
    return maps


def test_a_map_that_lies_right_and_below_is_shifted_left_and_up() -> None:
    network, sound = network_of("avol"), torch.ones(1, 128)
    shifted = replace(network, map_shift=(2.0 * CELL, 1.0 * CELL))
    back = shifted.compare_maps(maps_at(network, 2, 5), sound)[0]
    torch.testing.assert_close(back[1, 3], network.compare_maps(maps_at(network, 2, 5), sound)[0, 2, 5])
    assert back.argmax() == 1 * 8 + 3


def test_half_a_cell_is_shared_between_two_and_beyond_the_edge_the_map_goes_on() -> None:
    network, sound = network_of("avol"), torch.ones(1, 128)
    logits = torch.logit(replace(network, map_shift=(CELL / 2, 0.0)).compare_maps(maps_at(network, 2, 5), sound))[0]
    torch.testing.assert_close(logits[2, 4], logits[2, 5])
    edge = replace(network, map_shift=(3.0 * CELL, 0.0)).compare_maps(maps_at(network, 0, 7), sound)[0]
    assert (edge[0, 4:] == edge.max()).all() and (edge[0, :4] < edge.max()).all()


def displaced(network: Trained, *, columns: int, rows: int) -> Trained:
    """The network with its trunk's map moved right and down by whole places, as no loss would notice."""

    class Moved(torch.nn.Module):
        def __init__(self, trunk: torch.nn.Module) -> None:
            super().__init__()
            self.trunk, self.stride = trunk, network.model.vision.stride

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.roll(self.trunk(images), (rows, columns), dims=(2, 3))

    network.model.vision = Moved(network.model.vision)  # type: ignore[assignment]
    return network


def test_the_offset_of_a_frame_grows_by_as_much_as_the_map_is_displaced() -> None:
    torch.manual_seed(2)
    image = torch.full((1, 64, 128, 3), 127, dtype=torch.uint8)
    image[:, 16:32, 32:48] = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8)
    second = torch.randint(-9000, 9000, (1, 48_000), dtype=torch.int16)
    plain = offset(network_of("avol"), image, second)
    moved = offset(displaced(network_of("avol"), columns=1, rows=1), image, second)
    cells = np.round((moved - plain) / CELL, decimals=3)
    assert (cells % (4, 2)).tolist() == [1, 1]  # the map has 4 by 2 places, and what leaves it comes in again


def test_registering_is_of_training_clips_alone_and_needs_no_labels(small_world) -> None:
    shards = Shards(small_world)
    clips = shards.clips("train")
    plain = network_of("avol")
    network, measured = register(plain, shards, clips, frames=4)
    assert measured.frames == 4 and measured.side == 32
    assert network.map_shift == measured.pixels and plain.map_shift != measured.pixels
    offsets = []
    for clip in clips[[0, 8, 15, 23]]:  # evenly spread over 24; of each the middle frame, with a second around it
        ticks = middles(shards.index[clip])
        tick = ticks[len(ticks) // 2]
        image, audio = shards.picture(clip, tick), shards.sound(clip, 1920 * tick - 24_000)
        offsets.append(offset(plain, torch.from_numpy(image)[None], torch.from_numpy(audio)[None]))
    assert np.ptp(offsets, axis=0).min() > 0
    np.testing.assert_allclose(measured.pixels, np.mean(offsets, axis=0))
    np.testing.assert_allclose(measured.std_pixels, np.std(offsets, axis=0))
    with pytest.raises(ValueError, match="no training clips"):
        register(network_of("avol"), shards, shards.clips("test"))
    with pytest.raises(ValueError, match=r"model\.name=l3, and only avol"):
        register(network_of("l3"), shards, shards.clips("train"))
