"""AVOL-Net: Arandjelović and Zisserman, Objects that Sound, ECCV 2018, section 4."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from avc.models.ave import EMBEDDING
from avc.models.pair import PairNetwork
from avc.models.trunks import build_trunks
from avc.settings import AVOLModel


class AVOLNet(PairNetwork):
    """A sound is compared with every place of an image; the best place speaks for both (Objects that Sound, fig. 4).

    Vision: trunk without pool4, conv5 512 → 128 with ReLU, conv6 128 → 128, both 1×1. Sound: trunk, fc1 512 → 128 with
    ReLU, fc2 128 → 128. No normalization. conv7, 1×1, turns the scalar product at each place into the logit of "this
    makes the sound"; its maximum over the places is the logit of "they correspond", under a logistic loss. (The paper's
    text, version 1, says softmax where its figure has a sigmoid; the sigmoid is built here.)

    `pooling: logmeanexp` takes log-mean-exp over the places instead of the maximum. It is ours, not the paper's, which
    names soft attention as its next step. Under the maximum, a map that is displaced by a constant has the same loss,
    so where the field of view is more than the image, nothing holds the map on the object. With log-mean-exp every
    place has a gradient, and there the map is found on the object.
    """

    def __init__(self, settings: AVOLModel) -> None:
        super().__init__()
        self.pooling = settings.pooling
        self.vision, self.audio = build_trunks(settings)
        self.conv5 = nn.Conv2d(self.vision.out_channels, EMBEDDING, kernel_size=1)
        self.conv6 = nn.Conv2d(EMBEDDING, EMBEDDING, kernel_size=1)
        self.fc1 = nn.Linear(self.audio.out_channels, EMBEDDING)
        self.fc2 = nn.Linear(EMBEDDING, EMBEDDING)
        # conv7 is a 1×1 convolution of one channel to one: a factor and an offset.
        self.conv7_weight = nn.Parameter(torch.tensor(EMBEDDING**-0.5))
        self.conv7_bias = nn.Parameter(torch.tensor(0.0))
        # The paper does not publish how it starts. A large product must mean "corresponds", and products must differ
        # from one another: with torch's own start they all begin near 0, where neither tower moves the other. Hence
        # He et al. 2015 for layers before and after a ReLU, and conv7 the inverse of the spread that numbers of
        # variance 1 would give a product. What a ReLU leaves is positive, so all embeddings would begin much alike and
        # the products say nothing of what differs: weights that sum to 0 take that common part away. One of three
        # seeds stayed near chance for long without it.
        for layer in (self.conv5, self.fc1):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        for layer in (self.conv6, self.fc2):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        for layer in (self.conv5, self.conv6, self.fc1, self.fc2):
            assert layer.bias is not None
            with torch.no_grad():
                layer.weight -= layer.weight.mean(dim=1, keepdim=True)
                layer.bias.zero_()

    def embed_image(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalized images → (N, 128, H', W'), an embedding of each place: 14×14 for 224×224."""
        return self.conv6(torch.relu(self.conv5(self.vision(images))))  # type: ignore[no-any-return]

    def embed_audio(self, spectrograms: Tensor) -> Tensor:
        """(N, 1, 257, 199) log-spectrograms → (N, 128) embeddings."""
        return self.fc2(torch.relu(self.fc1(super().embed_audio(spectrograms))))  # type: ignore[no-any-return]

    def localize(self, image: Tensor, audio: Tensor) -> Tensor:
        """Embeddings of P images and P sounds, row by row → float32 (P, H', W') logits of "this makes the sound"."""
        # A product and a sum, not an einsum: autocast would take that in bf16, whose steps near a map's top are coarse.
        alike = (image.float() * audio.float()[:, :, None, None]).sum(dim=1)
        return alike * self.conv7_weight + self.conv7_bias

    def compare(self, image: Tensor, audio: Tensor) -> Tensor:
        """Embeddings of P images and P sounds, row by row → (P, 2) logits of "no" and "yes".

        "No" is 0 throughout, so that softmax and cross-entropy of the two are the sigmoid and the logistic loss.
        """
        places = self.localize(image, audio).flatten(1)
        if self.pooling == "logmeanexp":
            yes = places.logsumexp(dim=1) - math.log(places.shape[1])
        else:
            yes = places.amax(dim=1)
        return torch.stack([torch.zeros_like(yes), yes], dim=1)
