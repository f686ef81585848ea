"""The sections of a configuration, typed and strict.

What all networks share stands in `Config`; each family of networks adds its own sections to it. Which network has which
settings, `avc.networks` says; `avc.config` reads files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from shards.store import Url, place

if TYPE_CHECKING:
    from shards.read import Shards

MOST_STEPS = 10**8 - 1  # the names of checkpoints have eight digits
MOST_PAIRS, MOST_CLASSES = 2**20, 10**6  # pairs in a batch: thousands of times what is usual


def _path(value: object) -> object:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a path cannot hold the character NUL")
    try:
        return place(value) if isinstance(value, str) else value
    except RuntimeError as error:  # ~nobody
        raise ValueError(str(error)) from None


FilePath = Annotated[Path, BeforeValidator(_path)]


def _here(path: Path) -> Path:
    if isinstance(path, Url):
        raise ValueError("a run is written to a folder of this machine, and not to a store")
    return path


class Section(BaseModel):
    """A frozen group of settings; names that it does not know are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class RunSettings(Section):
    dir: Annotated[FilePath, AfterValidator(_here)] = Path("runs/unnamed")
    """Folder of the run: settings, metrics, checkpoints, exported weights. The same folder resumes the same run."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Fixes the initial weights and, through the plan, every sample that is ever drawn."""


class WeightedFolder(Section):
    path: FilePath
    weight: int = Field(default=1, ge=1, le=10_000)


_OfList = Annotated[WeightedFolder, BeforeValidator(lambda given: {"path": given} if isinstance(given, str) else given)]
Folders = Annotated[
    Annotated[FilePath, Tag("path")] | Annotated[list[_OfList], Field(min_length=1), Tag("sets")],
    Discriminator(lambda value: "sets" if isinstance(value, list) else "path"),
]


class DataSettings(Section):
    shards: Folders = Path("shards-not-given")
    """Folder that `avc pack` wrote, or a URL to which `avc copy` copied it: s3, gs, az, http or https. Or several sets
    by weight, [{path: A, weight: 3}, {path: B, weight: 1}]: of every four pairs three are of A."""
    cache: FilePath | None = None
    """Folder of this machine that keeps shards at a URL whole, for all ranks and runs; else they are read by ranges."""
    cache_gb: float = Field(default=100, gt=0, le=10**6)
    """Most that the cache may hold, in GB of 10^9 bytes."""
    num_workers: int = Field(default=2, ge=0, le=256)
    """Worker processes per rank that read and decode; 0 reads in the training process."""

    @property
    def sets(self) -> list[WeightedFolder]:
        """The folders of `shards`, one or several."""
        return self.shards if isinstance(self.shards, list) else [WeightedFolder(path=self.shards)]

    def opened(self) -> Shards:
        """The shards, out of the cache if there is one. Raises ValueError as `Shards` and `MixedShards`."""
        from shards.cache import Cache
        from shards.read import Shards

        kept = int(self.cache_gb * 1e9)
        opened = [
            Shards(each.path, cache=Cache(self.cache, limit_bytes=kept) if self.cache else None) for each in self.sets
        ]
        if len(opened) == 1:
            return opened[0]
        from shards.mixed import MixedShards

        return MixedShards(opened, [each.weight for each in self.sets])


class PairData(DataSettings):
    image_size: int = Field(default=224, ge=16, le=4096)
    """Height and width of the network's image: 7/8 of the stored smallest side (224 of 256), or less."""
    max_misalignment_ticks: int = Field(default=25, ge=0, le=10**6)
    """Largest displacement of frame and audio, in ticks of 0.04 s: 25, 1 s, in Objects that Sound 3.3; 12, so that the
    frame lies in its second, in Look, Listen and Learn."""
    brightness: float = Field(default=0.2, ge=0, lt=1)
    """Brightness is multiplied by 1 ± this (jitter as in Objects that Sound 3.3, which gives no amount)."""
    saturation: float = Field(default=0.2, ge=0, lt=1)
    """Saturation is multiplied by 1 ± this (amount not published either)."""
    volume: float = Field(default=0.1, ge=0, lt=1)
    """The second's volume is multiplied by 1 ± this (up to 10 %, Objects that Sound 3.3)."""
    partitions: int = Field(default=1, ge=1, le=10**6)
    """Parts into which the shards are dealt for a run, with pairs inside of a part alone. Each step has as many of
    each, and a rank draws from its own, so that its machine need not hold the others. Best a multiple of the ranks."""
    shuffle_shards: int = Field(default=0, ge=0, le=10**6)
    """Shards that a partition draws from at a time, for sets that are larger than the disks: in each pass its shards
    are shuffled and taken by so many, whose clips serve data.visits times in each class; 0 all, always."""
    visits: int = Field(default=1, ge=1, le=10**6)
    """How often the clips of data.shuffle_shards shards serve in each class before the next shards are taken."""
    shuffle_sound: bool = False
    """Control: positives get the audio of another clip as well, so that nothing can be learnt."""


class LabeledPairData(PairData):
    labels: FilePath | None = None
    """Rows of file name and label (.csv, .tsv or .jsonl)."""


class NegativeSettings(Section):
    source: Literal["independent", "shared", "sync"] = "independent"
    """independent: every pair draws its own frame and sound (the papers' rule). shared: a block of frames and sounds
    serves once as positives and once, deranged, as negatives: half the decoding and trunk work per pair. sync: two
    views of one clip exchange their audio, so negatives are misaligned (Korbar et al. 2018; Owens and Efros 2018)."""
    min_ticks: int = Field(default=51, ge=1, le=10**6)
    """Least distance, in ticks of 0.04 s, of the two views of `source: sync`: at 25 their audio no longer overlaps.
    More than twice data.max_misalignment_ticks, so that no negative is nearer than a positive may be."""
    max_ticks: int = Field(default=145, ge=1, le=10**6)
    """Largest distance of the two views of `source: sync`."""
    grid: Literal["frame", "free"] = "frame"
    """frame: the center of a negative's sound is a multiple of 0.04 s, as a positive's is. free: any sample, the faulty
    rule of which Objects that Sound 3.3 warns, kept as an ablation."""
    block: int = Field(default=16, ge=4, le=MOST_PAIRS)
    """Clips in one block of `source: shared`; negatives are drawn inside a block."""


class ModelSettings(Section):
    name: str = "ave"
    """Which network: a name in `avc.networks.NETWORKS`."""
    width: float = Field(default=1.0, gt=0, le=4)
    """Multiplies the number of channels of every hidden layer; 1 is the paper's."""


class TowerSettings(ModelSettings):
    stride: bool = True
    """First convolution with stride 2 (Objects that Sound, 4 times faster); false is L3-Net as of 2017."""
    spectrogram_pool: int = Field(default=1, ge=1, le=8)
    """Fresh trunks hear means of so many × so many cells of the spectrogram: 1, the papers', its 257 × 199; 2, ours,
    halves a step of the demo's networks, with 87.7 % AVC instead of 88.6 of a ceiling of 91.4 (records/)."""


class PairModel(TowerSettings):
    trunk: str = "vgg"
    """Architecture of both trunks: a name in `avc.models.trunks.TRUNKS`."""
    image: str | None = None
    """What the vision tower begins with, frozen: efficientnet_lite0, a run, an imported file, FILE.py:NAME."""
    audio: str | None = None
    """The same of the audio tower; each needs the other."""
    train_towers: bool = False
    """Train what the towers begin with too."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of what `image` and `audio` give that is left out in training, by the plan's draws."""

    @model_validator(mode="after")
    def _both(self) -> PairModel:
        if (self.image is None) != (self.audio is None) or (self.image is None and (self.train_towers or self.dropout)):
            raise ValueError("image and audio need each other, and train_towers and dropout need both of them")
        return self


class AVOLModel(PairModel):
    pooling: Literal["max", "logmeanexp"] = "max"
    """How the map's logits become the pair's: max, the paper's; logmeanexp, ours, to which every place contributes."""


class ClassifierModel(PairModel):
    num_classes: int = Field(default=34, ge=2, le=MOST_CLASSES)
    """Number of different labels (34 in Look, Listen and Learn)."""


class OptimSettings(Section):
    batch_pairs: int = Field(default=256, ge=2, le=MOST_PAIRS)
    """Pairs in one optimizer step over all ranks; half are positives. SoundNet: clips."""
    micro_batch_pairs: int = Field(default=64, ge=2, le=MOST_PAIRS)
    """Most pairs that one rank takes through the network at once; the rest of its share is accumulated."""
    optimizer: Literal["adam", "muon"] = "adam"
    """adam, the papers'; muon, ours, for the weights of convolutions and linear layers, with Adam for all else: fewer
    steps, each a little dearer (`avc.training.optimizer`)."""
    lr: float = Field(default=1e-4, gt=0, le=1000)
    """Adam's learning rate (1e-4 in Look, Listen and Learn; found by grid search in Objects that Sound)."""
    weight_decay: float = Field(default=1e-5, ge=0, le=1000)
    """Adam's weight decay (1e-5 in both papers)."""
    lr_decay: float = Field(default=0.94, gt=0, le=1)
    """The learning rate is multiplied by this ..."""
    lr_decay_epochs: int = Field(default=16, ge=1, le=MOST_STEPS)
    """... every so many epochs (0.94 and 16 in Objects that Sound 3.3; Look, Listen and Learn has no decay, 1)."""


class TrainingSettings(Section):
    steps: int = Field(default=1000, ge=1, le=MOST_STEPS)
    """Optimizer steps of the whole run."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes CUDA where there is any."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the networks under autocast; weights, statistics and the loss stay in fp32."""
    gradients: Literal["fp32", "bf16"] = "fp32"
    """What ranks send each other gradients in. bf16 halves the bytes, which pays on slow networks (docs/SCALE.md)."""
    compile: Literal["auto"] | bool = "auto"
    """Compile transforms, network and loss to one graph with torch.compile; auto does so on CUDA."""
    deterministic: bool = False
    """On CUDA, only kernels that give the same bits each time, and fp32 without TF32: slower, but a resumed run ends
    with the bits of an uninterrupted one. On the CPU it always does."""
    sync_batchnorm: bool = False
    """Batch-normalize over the micro-batches of all ranks instead of each rank's own."""
    process_group_timeout_seconds: int = Field(default=300, ge=1, le=10**6)
    """A rank that keeps the others waiting for longer, in a collective or for a micro-batch, ends the run on all."""
    heartbeat_timeout_seconds: float = Field(default=10, ge=2, le=10**6)
    """A rank without a sign of life for so long ends the run on all; more where ranks are debugged or suspended."""
    first_step_timeout_seconds: int = Field(default=1800, ge=1, le=10**6)
    """The same until the first step is done, in which the network is compiled and data is read for the first time."""


class ValidationSettings(Section):
    every_steps: int = Field(default=500, ge=0, le=MOST_STEPS)
    """Validate after every so many steps and at the end; 0 never."""
    split: Literal["train", "validation", "test"] = "validation"
    """Split of the shards that is validated on."""
    passes: int = Field(default=1, ge=1, le=10**6)
    """How often each clip is drawn as a positive (and as a negative's frame, and as a negative's sound)."""
    batch_pairs: int = Field(default=64, ge=2, le=MOST_PAIRS)
    """Pairs that one rank takes through the network at once."""
    max_time_share: float = Field(default=1, gt=0, le=1)
    """Largest share of the time that goes to validation: one that is due too soon is left out, but for the last."""


class PairValidation(ValidationSettings):
    evaluators: list[Literal["pairs", "rankme", "retrieval", "probe"]] = Field(default=["pairs", "rankme"])
    """pairs: accuracy, by which the best weights are chosen. Of the embeddings of up to 2,048 clips: rankme, their
    effective rank, alignment and uniformity; retrieval, recall between image and audio; probe, a linear classifier."""
    labels: FilePath | None = None
    """Of the evaluator `probe`: rows of file name and label (.csv, .tsv or .jsonl)."""


class CheckpointSettings(Section):
    every_steps: int = Field(default=500, ge=1, le=MOST_STEPS)
    """Save after every so many steps and at the end."""
    every_minutes: float = Field(default=0, ge=0, le=10**6)
    """Save after so many minutes as well, by the clock of rank 0; 0 by steps alone."""
    keep: int = Field(default=2, ge=1, le=10**6)
    """Newest checkpoints that stay; older ones are deleted."""


class LogSettings(Section):
    every_steps: int = Field(default=20, ge=1, le=MOST_STEPS)
    """Write a line of metrics after every so many steps."""
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto is online where a W&B account is set up, offline where none is, and disabled where W&B is not installed."""
    wandb_project: str = "avc"
    """Project under which W&B files the run."""
    group: str | None = None
    """What the run belongs to on W&B: several seeds of one network, for instance."""
    tags: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(default=[])
    """Words by which W&B finds the run."""
    notes: str | None = None
    """What the run is for, in a sentence or two."""
    media: bool = True
    """Send W&B 64 held-out pairs at each validation, to look at and listen to: 1 to 3 MB, at most 256 MB from one start
    of the run. False sends numbers alone."""


class Config(Section):
    """Settings that every network has. Read one with `avc.config`."""

    run: RunSettings = RunSettings()
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    optim: OptimSettings = OptimSettings()
    training: TrainingSettings = TrainingSettings()
    validation: ValidationSettings = ValidationSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    log: LogSettings = LogSettings()


class PairConfig(Config):
    """Settings of networks that compare a frame with a second of audio."""

    data: PairData = PairData()
    negatives: NegativeSettings = NegativeSettings()
    model: TowerSettings = PairModel()
    validation: PairValidation = PairValidation()

    @model_validator(mode="after")
    def _possible(self) -> PairConfig:
        if self.negatives.source != "independent" and self.negatives.grid == "free":
            raise ValueError(
                "negatives.grid: free needs negatives.source: independent, because otherwise the same second of audio "
                "serves a positive, which is on the grid, and a negative, which would not be"
            )
        if self.negatives.source == "sync":
            if not 2 * self.data.max_misalignment_ticks < self.negatives.min_ticks <= self.negatives.max_ticks:
                raise ValueError(
                    f"negatives.min_ticks: {self.negatives.min_ticks} must be more than twice "
                    f"data.max_misalignment_ticks ({self.data.max_misalignment_ticks}), or a negative would be better "
                    f"aligned than a positive, and no more than negatives.max_ticks ({self.negatives.max_ticks})"
                )
            if self.data.shuffle_sound:
                raise ValueError("data.shuffle_sound needs negatives.source: independent or shared")
        if self.data.visits > 1 and not self.data.shuffle_shards:
            raise ValueError("data.visits needs data.shuffle_shards, the shards whose clips serve so often")
        if len(self.data.sets) > 1 and (self.data.partitions > 1 or self.validation.split == "train"):
            raise ValueError(
                "several sets in data.shards need data.partitions: 1, and another validation.split than train"
            )
        if "pairs" not in self.validation.evaluators:
            raise ValueError("validation.evaluators must have pairs among them: the best weights are chosen by it")
        if ("probe" in self.validation.evaluators) != (self.validation.labels is not None):
            raise ValueError("validation.labels and the evaluator `probe` in validation.evaluators need each other")
        if self.optim.batch_pairs % 2 or self.validation.batch_pairs % 2:
            raise ValueError("batch_pairs must be even: half of the pairs are positives")
        return self


class PairTrunkConfig(PairConfig):
    """Those whose trunks can be exchanged."""

    model: PairModel = PairModel()


class AVOLConfig(PairTrunkConfig):
    """Settings of AVOL-Net."""

    model: AVOLModel = AVOLModel()


class ClassifierConfig(PairTrunkConfig):
    """Settings of the supervised baseline."""

    data: LabeledPairData = LabeledPairData()
    model: ClassifierModel = ClassifierModel()
