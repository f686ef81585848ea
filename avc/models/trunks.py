"""The convolutional trunk that vision and sound share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

CHANNELS = (64, 128, 256, 512)


class Trunk(nn.Module):
    """Four blocks of two 3×3 convolutions, each with batch norm and ReLU; 2×2 max pools between the blocks.

    Look, Listen and Learn, figure 2; Objects that Sound, figure 2. At full width a 224×224 picture gives conv4_2 maps
    of 512×28×28 and a 257×199 spectrogram 512×32×24; with `stride`, conv1_1 has stride 2 (Objects that Sound,
    figure 2) and the maps are 512×14×14 and 512×16×12.

    in_channels: 3 for pictures, 1 for spectrograms. width: multiplies the channels of every block. in_time: time is a
    third dimension of every convolution and pool, treated as the two others are. blocks: which of the four there are;
    all but the fourth end in their pool.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        width: float,
        stride: bool,
        in_time: bool = False,
        blocks: Sequence[int] = (1, 2, 3, 4),
    ) -> None:
        super().__init__()
        convolution = nn.Conv3d if in_time else nn.Conv2d
        norm = nn.BatchNorm3d if in_time else nn.BatchNorm2d
        pool = nn.MaxPool3d if in_time else nn.MaxPool2d
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for block in blocks:
            out_channels = max(1, round(CHANNELS[block - 1] * width))
            for layer in (1, 2):
                step = 2 if stride and (block, layer) == (1, 1) else 1
                # No bias: batch norm subtracts the mean that it would add to.
                layers[f"conv{block}_{layer}"] = convolution(
                    in_channels, out_channels, kernel_size=3, stride=step, padding=1, bias=False
                )
                layers[f"bn{block}_{layer}"] = norm(out_channels)
                layers[f"relu{block}_{layer}"] = nn.ReLU()
                in_channels = out_channels
            if block < len(CHANNELS):
                layers[f"pool{block}"] = pool(kernel_size=2, stride=2)
        self.layers = nn.Sequential(layers)
        self.out_channels = in_channels
        self.frozen = False
        for module in self.modules():
            if isinstance(module, convolution):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def freeze(self) -> None:
        """Keep weights and batch statistics as they are from now on, in training too."""
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Trunk:
        """Training mode, or evaluation mode where it is frozen."""
        return super().train(mode and not self.frozen)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) float → the maps of conv4_2 after ReLU, (N, out_channels, H', W'), at least 0.

        With `in_time`, (N, in_channels, T, H, W) → (N, out_channels, T', H', W').
        """
        return self.layers(x)  # type: ignore[no-any-return]


class TwoStreams(nn.Module):
    """A stream of frames and one of optical flow, joined before the last block (Objects that Sound, figure 8).

    Each stream is a trunk's first three blocks, of conv, conv and pool; at full size and with `stride` both give maps
    of 256×14×14, which are concatenated in channels and go through conv4_1 and conv4_2 together.

    in_channels, flow_channels: of a frame, and of all its flow.
    """

    def __init__(self, in_channels: int, flow_channels: int, *, width: float, stride: bool) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.frame = Trunk(in_channels, width=width, stride=stride, blocks=(1, 2, 3))
        self.flow = Trunk(flow_channels, width=width, stride=stride, blocks=(1, 2, 3))
        both = self.frame.out_channels + self.flow.out_channels
        self.joined = Trunk(both, width=width, stride=stride, blocks=(4,))
        self.out_channels = self.joined.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels + flow_channels, H, W) float → the maps of conv4_2 after ReLU, as `Trunk` gives them."""
        frame, flow = x[:, : self.in_channels], x[:, self.in_channels :]
        return self.joined(torch.cat([self.frame(frame), self.flow(flow)], dim=1))  # type: ignore[no-any-return]

    def freeze(self) -> None:
        """As `Trunk.freeze`."""
        for trunk in (self.frame, self.flow, self.joined):
            trunk.freeze()


def global_max_pool(maps: Tensor) -> Tensor:
    """(N, C, H, W) or (N, C, T, H, W) → (N, C): pool4 of both papers takes the maximum over the whole map."""
    return maps.amax(dim=tuple(range(2, maps.dim())))
