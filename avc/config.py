"""Every setting there is, typed and strict: YAML and `section.name=value` in, frozen objects out.

A file names the sections below; whatever it leaves out keeps the default written here. An unknown name, a wrong type
or an impossible combination is a ValueError that says where it stands and what was probably meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from avc.settings import parse_yaml, read_settings, refusal


def _path(value: object) -> object:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a path cannot hold the character NUL")
    try:
        return Path(value).expanduser() if isinstance(value, str) else value
    except RuntimeError as error:  # ~nobody
        raise ValueError(str(error)) from None


FilePath = Annotated[Path, BeforeValidator(_path)]
MOST_STEPS = 10**8 - 1  # the names of checkpoints have eight digits
MOST_PAIRS = 2**20  # in a batch: thousands of times what is usual
MOST_CLASSES = 10**6


class Section(BaseModel):
    """A frozen group of settings; names that it does not know are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class RunSettings(Section):
    dir: FilePath = Path("runs/unnamed")
    """Folder of the run: settings, metrics, checkpoints, exported weights. The same folder resumes the same run."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Fixes the initial weights and, through the plan, every sample that is ever drawn."""


class DataSettings(Section):
    shards: FilePath = Path("shards-not-given")
    """Folder that `avc pack` wrote."""
    num_workers: int = Field(default=2, ge=0, le=256)
    """Worker processes per rank that read and decode; 0 reads in the training process."""
    image_size: int = Field(default=224, ge=16, le=4096)
    """Height and width of the network's picture: 7/8 of the stored smallest side (224 of 256), or less."""
    max_misalignment_ticks: int = Field(default=25, ge=0, le=10**6)
    """Frame and sound are displaced by up to so many ticks of 0.04 s (1 s in Objects that Sound 3.3)."""
    brightness: float = Field(default=0.2, ge=0, lt=1)
    """Brightness is multiplied by 1 ± this (jitter as in Objects that Sound 3.3, which gives no amount)."""
    saturation: float = Field(default=0.2, ge=0, lt=1)
    """Saturation is multiplied by 1 ± this (amount not published either)."""
    teachers: FilePath | None = None
    """SoundNet: folder that `avc teach` wrote; null is `teachers` in the folder of the shards."""
    sound_seconds: float = Field(default=20.0, gt=0, le=3600)
    """SoundNet: length of the sound in a row, 20 s in the paper; from a longer clip a stretch is drawn."""
    volume: float = Field(default=0.1, ge=0, lt=1)
    """The second's volume is multiplied by 1 ± this (up to 10 %, Objects that Sound 3.3)."""
    shuffle_sound: bool = False
    """Control: give positives the sound of another clip as well, so that nothing can be learnt."""
    labels: FilePath | None = None
    """Of `model.name: supervised`: rows of file name and label (.csv, .tsv or .jsonl). No other network sees labels."""


class NegativeSettings(Section):
    source: Literal["independent", "shared"] = "independent"
    """independent: every pair draws its own frame and sound (the papers' rule). shared: a block of frames and sounds
    serves once as positives and once, deranged, as negatives: half the decoding and trunk work per pair."""
    grid: Literal["frame", "free"] = "frame"
    """frame: the centre of a negative's sound is a multiple of 0.04 s, as a positive's is. free: any sample, the faulty
    rule of which Objects that Sound 3.3 warns, kept as an ablation."""
    block: int = Field(default=16, ge=4, le=MOST_PAIRS)
    """Clips in one block of `source: shared`; negatives are drawn inside a block."""
    hard_from_step: int = Field(default=0, ge=0, le=MOST_STEPS)
    """From this step on, each frame's negative is the sound of its block that its embedding finds nearest, other than
    its own, as far as each sound serves one frame; 0 never. Needs `source: shared` and a network of the AVE family."""


class ModelSettings(Section):
    name: Literal["l3", "ave", "ave_mf", "ave_of", "avol", "supervised", "soundnet8", "soundnet5", "autoencoder"] = (
        "ave"
    )
    """l3: L3-Net (Look, Listen and Learn); supervised: its trunks trained on labels, its baseline. ave: AVE-Net;
    ave_mf: AVE+MF, which sees 25 frames; ave_of: AVE+OF, which sees a frame and optical flow; avol: AVOL-Net (all
    Objects that Sound). soundnet8, soundnet5: SoundNet's students, which hear and learn from what teachers saw;
    autoencoder: their baseline, which learns to give back what it hears."""
    width: float = Field(default=1.0, gt=0, le=4)
    """Multiplies the trunks' 64, 128, 256 and 512 channels, or those of SoundNet's hidden layers; 1 is the papers'."""
    stride: bool = True
    """conv1_1 with stride 2 (Objects that Sound, 4 times faster); false is L3-Net as of 2017."""
    kinds: int = Field(default=34, ge=2, le=MOST_CLASSES)
    """Of `supervised`: how many different labels there are (34 in Look, Listen and Learn)."""
    trunks: FilePath | None = None
    """Folder of a run whose trunks are taken and stay as they are, so that only what is on top of them is trained."""
    objects: int = Field(default=1000, ge=2, le=MOST_CLASSES)
    """SoundNet: classes of the teacher `objects` (ImageNet's 1000 in the paper)."""
    scenes: int = Field(default=401, ge=2, le=MOST_CLASSES)
    """SoundNet: classes of the teacher `scenes` (401 of Places in the paper, 365 of Places365)."""


class OptimSettings(Section):
    batch_pairs: int = Field(default=256, ge=2, le=MOST_PAIRS)
    """Pairs in one optimiser step over all ranks; half are positives. SoundNet: clips."""
    micro_batch_pairs: int = Field(default=64, ge=2, le=MOST_PAIRS)
    """Most pairs that one rank takes through the network at once; the rest of its share is accumulated."""
    lr: float = Field(default=1e-4, gt=0, le=1000)
    """Adam's learning rate (1e-4 in Look, Listen and Learn; found by grid search in Objects that Sound)."""
    weight_decay: float = Field(default=1e-5, ge=0, le=1000)
    """Adam's weight decay (1e-5 in both papers)."""
    lr_decay: float = Field(default=0.94, gt=0, le=1)
    """The learning rate is multiplied by this ..."""
    lr_decay_epochs: int = Field(default=16, ge=1, le=MOST_STEPS)
    """... every so many epochs (0.94 and 16 in Objects that Sound 3.3)."""


class TrainingSettings(Section):
    steps: int = Field(default=1000, ge=1, le=MOST_STEPS)
    """Optimiser steps of the whole run."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is any."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the networks under autocast; weights, statistics and the loss stay in fp32."""
    channels_last: bool = True
    """Memory layout of pictures and convolutions."""
    compile: bool = False
    """Compile the network with torch.compile."""
    sync_batchnorm: bool = False
    """Batch-normalise over the micro-batches of all ranks instead of each rank's own."""
    process_group_timeout_seconds: int = Field(default=300, ge=1, le=10**6)
    """A rank that keeps the others waiting for longer, in a collective or for a micro-batch, ends the run on all.

    Compiling the network counts as well: it must fit in, in the first step.
    """


class ValidationSettings(Section):
    every_steps: int = Field(default=500, ge=0, le=MOST_STEPS)
    """Validate after every so many steps and at the end; 0 never."""
    split: Literal["train", "validation", "test"] = "validation"
    """Split of the shards that is validated on."""
    passes: int = Field(default=1, ge=1, le=10**6)
    """How often each clip is drawn as a positive (and as a negative's frame, and as a negative's sound)."""
    batch_pairs: int = Field(default=64, ge=2, le=MOST_PAIRS)
    """Pairs that one rank takes through the network at once."""


class CheckpointSettings(Section):
    every_steps: int = Field(default=500, ge=1, le=MOST_STEPS)
    """Save after every so many steps and at the end."""
    keep: int = Field(default=2, ge=1, le=10**6)
    """Newest checkpoints that stay; older ones are deleted."""


class LogSettings(Section):
    every_steps: int = Field(default=20, ge=1, le=MOST_STEPS)
    """Write a line of metrics after every so many steps."""
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto is online where a W&B account is set up and offline otherwise."""
    wandb_project: str = "avc"
    """Project under which W&B files the run."""


class Config(Section):
    """All settings of a run."""

    run: RunSettings = RunSettings()
    data: DataSettings = DataSettings()
    negatives: NegativeSettings = NegativeSettings()
    model: ModelSettings = ModelSettings()
    optim: OptimSettings = OptimSettings()
    training: TrainingSettings = TrainingSettings()
    validation: ValidationSettings = ValidationSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _possible(self) -> Config:
        if self.negatives.source == "shared" and self.negatives.grid == "free":
            raise ValueError(
                "negatives.grid: free needs negatives.source: independent, because with `shared` the same second of "
                "sound serves a positive, which is on the grid, and a negative, which would not be"
            )
        if self.negatives.hard_from_step:
            self._refuse_hard_negatives()
        pairs_have_labels = not self.model.name.startswith(("soundnet", "autoencoder"))
        if pairs_have_labels and (self.optim.batch_pairs % 2 or self.validation.batch_pairs % 2):
            raise ValueError("batch_pairs must be even: half of the pairs are positives")
        return self

    def _refuse_hard_negatives(self) -> None:
        wanted = "negatives.hard_from_step needs"
        if self.negatives.source != "shared":
            raise ValueError(f"{wanted} negatives.source: shared, for a frame chooses among the sounds of its block")
        if self.model.name not in ("ave", "ave_mf", "ave_of"):
            raise ValueError(
                f"{wanted} frames and sounds that are embedded in one space, as by model.name: ave, ave_mf or ave_of; "
                f"{self.model.name} does not"
            )
        if self.data.shuffle_sound:
            raise ValueError(f"{wanted} data.shuffle_sound: false: that control draws its negatives at random")


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file and apply `section.name=value` overrides, whose values are YAML too.

    Raises ValueError for an unreadable file, an unknown name (with the nearest right one), a wrong type or an
    impossible combination.
    """
    path = Path(path)
    tree = read_settings(path, missing=f"there is no configuration file {path}", example="data: {shards: FOLDER}")
    return parse_config(tree, overrides, origin=str(path))


def parse_config(tree: Mapping[str, Any], overrides: Iterable[str] = (), *, origin: str = "settings") -> Config:
    """Check a nested dictionary, as `load_config` does with a file's content."""
    tree = {name: dict(section) if isinstance(section, dict) else section for name, section in tree.items()}
    for override in overrides:
        name, equals, text = override.partition("=")
        section, dot, field = name.partition(".")
        if not equals or not dot or not field:
            raise ValueError(f"`{override}` is not of the form section.name=value, as in optim.lr=1e-3")
        try:
            value = parse_yaml(text, origin=name)
        except ValueError:  # the name of a folder, for instance
            value = text
        group = tree.setdefault(section, {})
        if not isinstance(group, dict):
            raise ValueError(f"{origin}: `{section}` must be a section of settings")
        group[field] = value
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise refusal(error, origin=origin, names=_names()) from None


def dump_config(config: Config) -> str:
    """The whole configuration as YAML, defaults included; `load_config` reads it back to an equal object."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _names() -> list[str]:
    names = []
    for section, field in Config.model_fields.items():
        names.append(section)
        kind = field.annotation
        assert isinstance(kind, type) and issubclass(kind, Section), get_args(kind)
        names += [f"{section}.{name}" for name in kind.model_fields]
    return names
