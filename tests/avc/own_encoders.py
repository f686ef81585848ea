"""Two small encoders as a file of one's own, and settings of towers that begin with them."""

from tests.avc.launching import write_config

ENCODERS = """
import torch
from torch.nn import functional as F
from avc.encoders.encoder import TOWER, AudioEncoder, ImageEncoder

class Eye(ImageEncoder):
    size = 28
    layers, unit_layers, tower_classes = ("embedding", TOWER), ("embedding",), 6

    def __init__(self):
        super().__init__("Eye")
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 18).view(6, 3))

    def maps(self, x, layer):
        return F.avg_pool2d(x.permute(0, 3, 1, 2).float(), 7) / 255

    def features(self, x, layer):
        mean = self.maps(x, layer).mean(dim=(2, 3))
        return torch.cat([self.maps(x, layer).flatten(1), mean @ self.weight.T], dim=1) if layer == TOWER else mean

class Ear(AudioEncoder):
    sample_rate_hz = 16_000
    layers, tower_classes = ("embedding", TOWER), 6

    def __init__(self):
        super().__init__("Ear")
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 96).view(6, 16))

    def features(self, x, layer):
        bands = torch.stft(x, 512, window=torch.hann_window(512), return_complex=True).abs()
        bands = bands[:, :256].log1p().mean(dim=2).view(len(x), 16, 16).mean(dim=2)
        return torch.cat([bands, bands @ self.weight.T], dim=1) if layer == TOWER else bands
"""


def written(tmp_path, shards, towers, **model):
    name = {"name": "ave_nce"} | towers | {"dropout": 0.25, "width": 1.0} | model
    optim = {"batch_pairs": 32, "micro_batch_pairs": 32, "lr": 1e-2}
    return write_config(tmp_path, shards, model=name, optim=optim)
