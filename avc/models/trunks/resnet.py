"""ResNet-18 as a trunk: He et al., Deep Residual Learning for Image Recognition, CVPR 2016."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avc.models.trunks import Trunk
from avc.models.trunks.means import Means

CHANNELS = (64, 128, 256, 512)
FEWEST_CHANNELS = 8  # of a stage: training on fewer ends the process on a CPU with AVX2 alone (oneDNN of torch 2.13)


class ResNet18(Trunk):
    """Stem, max pool, and four stages of two blocks (table 1); names of the weights are torchvision's.

    At full width a 224×224 image gives 512×7×7 and a 257×199 spectrogram 512×9×7. in_channels: 3 for images, 1 for
    spectrograms. width: multiplies the channels, down to FEWEST_CHANNELS. stride: the stem's is 2 as published, or
    1. pool: of a spectrogram, means of so many × so many cells; 0 for images.
    """

    def __init__(self, in_channels: int, *, width: float, stride: bool, pool: int = 0) -> None:
        super().__init__()
        widths = [max(FEWEST_CHANNELS, round(channels * width)) for channels in CHANNELS]
        self.means = Means(pool) if pool else nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, widths[0], kernel_size=7, stride=1 + stride, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(widths[0], widths[0], stride=1)
        self.layer2 = _stage(widths[0], widths[1], stride=2)
        self.layer3 = _stage(widths[1], widths[2], stride=2)
        self.layer4 = _stage(widths[2], widths[3], stride=2)
        self.out_channels, self.stride = widths[3], max(1, pool) * (32 if stride else 16)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        """As `Trunk.features`: what the last block adds up."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(self.means(x)))))
        *blocks, last = (*self.layer1, *self.layer2, *self.layer3, *self.layer4)
        for block in blocks:
            x = torch.relu(block(x))
        return last(x)  # type: ignore[no-any-return]


def _stage(in_channels: int, channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(_Block(in_channels, channels, stride=stride), _Block(channels, channels, stride=1))


class _Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride > 1 or in_channels != channels:
            shortcut = nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The block before its last ReLU."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return y + (x if self.downsample is None else self.downsample(x))  # type: ignore[no-any-return]
