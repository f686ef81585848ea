"""The VGG-like trunk of both papers, in its variants for frames in time and for optical flow."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from avc.models.trunks import Trunk
from avc.models.trunks.means import Means

CHANNELS = (64, 128, 256, 512)


class VGG(Trunk):
    """Four blocks of two 3×3 convolutions, each with batch norm and ReLU; 2×2 max pools between the blocks.

    Look, Listen and Learn, figure 2; Objects that Sound, figure 2. At full width a 224×224 image gives conv4_2 maps
    of 512×28×28 and a 257×199 spectrogram 512×32×24; with `stride`, conv1_1 has stride 2 (Objects that Sound,
    figure 2) and the maps are 512×14×14 and 512×16×12.

    in_channels: 3 for images, 1 for spectrograms. width: multiplies the channels of every block. in_time: time is a
    third dimension of every convolution and pool, treated as the two others are except in pool3, which leaves it: of 25
    frames 3 (with stride, else 6) reach conv4. blocks: which of the four there are;
    all but the fourth end in their pool. pool: of a spectrogram, means of so many × so many cells; 0 for images.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        width: float,
        stride: bool,
        in_time: bool = False,
        blocks: Sequence[int] = (1, 2, 3, 4),
        pool: int = 0,
    ) -> None:
        super().__init__()
        convolution = nn.Conv3d if in_time else nn.Conv2d
        norm = nn.BatchNorm3d if in_time else nn.BatchNorm2d
        max_pool = nn.MaxPool3d if in_time else nn.MaxPool2d
        layers: OrderedDict[str, nn.Module] = OrderedDict({"means": Means(pool)} if pool else {})
        for block in blocks:
            out_channels = max(1, round(CHANNELS[block - 1] * width))
            for layer in (1, 2):
                step = 2 if stride and (block, layer) == (1, 1) else 1
                # No bias: batch norm subtracts the mean that it would add to.
                layers[f"conv{block}_{layer}"] = convolution(
                    in_channels, out_channels, kernel_size=3, stride=step, padding=1, bias=False
                )
                layers[f"bn{block}_{layer}"] = norm(out_channels)
                if layer == 2 and block < len(CHANNELS):
                    # The same numbers as after the ReLU, whose work is then a quarter.
                    layers[f"pool{block}"] = max_pool((1, 2, 2) if in_time and block == 3 else 2)
                layers[f"relu{block}_{layer}"] = nn.ReLU()
                in_channels = out_channels
        self.layers = nn.Sequential(layers)
        self.out_channels = in_channels
        self.stride = max(1, pool) * 2 ** (min(len(blocks), 3) + stride)  # pools, and perhaps conv1_1
        for module in self.modules():
            if isinstance(module, convolution):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        """As `Trunk.features`: conv4_2 after its batch norm. With `in_time`, time comes before height and width."""
        *layers, _ = self.layers
        for layer in layers:
            x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """As `Trunk.forward`; blocks that end in a pool give what comes out of it."""
        return self.layers(x)  # type: ignore[no-any-return]


class TwoStreams(Trunk):
    """A stream of frames and one of optical flow, joined before the last block (Objects that Sound, figure 8).

    Each stream is the first three blocks, of conv, conv and pool; at full size and with `stride` both give maps of
    256×14×14, which are concatenated in channels and go through conv4_1 and conv4_2 together.

    in_channels, flow_channels: of a frame, and of all its flow.
    """

    def __init__(self, in_channels: int, flow_channels: int, *, width: float, stride: bool) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.frame = VGG(in_channels, width=width, stride=stride, blocks=(1, 2, 3))
        self.flow = VGG(flow_channels, width=width, stride=stride, blocks=(1, 2, 3))
        both = self.frame.out_channels + self.flow.out_channels
        self.joined = VGG(both, width=width, stride=stride, blocks=(4,))
        self.out_channels, self.stride = self.joined.out_channels, self.frame.stride

    def features(self, x: Tensor) -> Tensor:
        """As `Trunk.features`, of (N, in_channels + flow_channels, H, W)."""
        frame, flow = x[:, : self.in_channels], x[:, self.in_channels :]
        return self.joined.features(torch.cat([self.frame(frame), self.flow(flow)], dim=1))
