"""Every network there is: the one list.

A row names the class in `avc/models/` and the task in `avc/tasks/` by module and class. They are imported when they are
needed, so that settings can be read without torch.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from avc.settings import AVOLConfig, ClassifierConfig, Config, PairConfig, PairTrunkConfig
from avc.sound_settings import SegmentConfig, SoundNetConfig


@dataclass(frozen=True)
class NetworkSpec:
    """title: in tables and figures. model: its class, made from `config.model`. config: all its settings.

    task: the class that trains and validates it, made from the configuration and the shards. about: one sentence.
    """

    title: str
    model: str
    config: type[Config]
    about: str
    task: str


NETWORKS = {
    "l3": NetworkSpec(
        title="L3-Net",
        model="avc.models.l3:L3Net",
        config=PairTrunkConfig,
        task="avc.tasks.correspondence:Correspondence",
        about="two trunks, concatenated and classified (Look, Listen and Learn)",
    ),
    "ave": NetworkSpec(
        title="AVE-Net",
        model="avc.models.ave:AVENet",
        config=PairTrunkConfig,
        task="avc.tasks.correspondence:Correspondence",
        about="two towers that embed image and audio in one space (Objects that Sound)",
    ),
    "ave_mf": NetworkSpec(
        title="AVE+MF",
        model="avc.models.ave_variants:AVEMFNet",
        config=PairConfig,
        task="avc.tasks.correspondence:Correspondence",
        about="AVE-Net that sees 25 frames (Objects that Sound)",
    ),
    "ave_of": NetworkSpec(
        title="AVE+OF",
        model="avc.models.ave_variants:AVEOFNet",
        config=PairConfig,
        task="avc.tasks.correspondence:Correspondence",
        about="AVE-Net that sees a frame and optical flow (Objects that Sound)",
    ),
    "avol": NetworkSpec(
        title="AVOL-Net",
        model="avc.models.avol:AVOLNet",
        config=AVOLConfig,
        task="avc.tasks.correspondence:Correspondence",
        about="compares audio with every place of an image, and so localizes it (Objects that Sound)",
    ),
    "ave_nce": NetworkSpec(
        title="AVE-Net, contrastive",
        model="avc.models.ave_variants:ContrastiveAVENet",
        config=PairTrunkConfig,
        task="avc.tasks.contrastive:Contrastive",
        about="AVE-Net's towers under InfoNCE over all pairs of the batch (the loss is CLIP's)",
    ),
    "supervised": NetworkSpec(
        title="supervised",
        model="avc.models.l3:SupervisedNet",
        config=ClassifierConfig,
        task="avc.tasks.classification:Classification",
        about="L3-Net's trunks trained on labels, its baseline (Look, Listen and Learn)",
    ),
    "soundnet8": NetworkSpec(
        title="SoundNet-8",
        model="avc.models.soundnet:SoundNet",
        config=SoundNetConfig,
        task="avc.tasks.distillation:Distillation",
        about="8 layers on the waveform, taught by vision networks (SoundNet)",
    ),
    "soundnet5": NetworkSpec(
        title="SoundNet-5",
        model="avc.models.soundnet:SoundNet",
        config=SoundNetConfig,
        task="avc.tasks.distillation:Distillation",
        about="5 layers on the waveform, taught by vision networks (SoundNet)",
    ),
    "autoencoder": NetworkSpec(
        title="autoencoder",
        model="avc.models.soundnet:Autoencoder",
        config=SegmentConfig,
        task="avc.tasks.reconstruction:Reconstruction",
        about="convolutional autoencoder of the waveform, SoundNet's baseline (SoundNet)",
    ),
}


# Encoders that come with their weights, by the names that commands take: made without arguments.
ENCODERS = {
    "efficientnet_lite0": "avc.encoders.efficientnet:EfficientNetLite0",
    "mfcc": "avc.encoders.handmade:MFCC",
}


def network_of(name: object) -> NetworkSpec:
    """The row of a network. Raises ValueError for a name that is not in the list."""
    if not isinstance(name, str) or name not in NETWORKS:
        import difflib

        short = str(name).lower().removesuffix("net").rstrip("-_")  # AVE-Net is `ave`
        near = difflib.get_close_matches(short, NETWORKS, n=1)
        means = f"did you mean `{near[0]}`?" if near else f"it must be one of {', '.join(NETWORKS)}"
        raise ValueError(f"there is no network {reprlib.repr(name)} (`model.name`); {means}")
    return NETWORKS[name]


def resolve(place: str) -> Any:
    """What `module:name` names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
