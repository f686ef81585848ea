"""The settings of SoundNet's students and of the autoencoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from avc.settings import MOST_CLASSES, Config, DataSettings, FilePath, ModelSettings, Section

TEACHERS = ("objects", "scenes")


class SegmentData(DataSettings):
    sound_seconds: float = Field(default=20.0, gt=0, le=3600)
    """Length of a segment of audio, 20 s in SoundNet's paper; drawn from a longer clip."""


class TaughtSegmentData(SegmentData):
    teachers: FilePath | None = None
    """Folder that `avc teach` wrote; null is `teachers` in the folder of the shards."""
    repeat: bool = True
    """Repeat audio and soft labels of a shorter clip to sound_seconds, as SoundNet's released code does. Off, it gives
    fewer output steps, and none below 9.52 s (soundnet5: 2.6 s)."""


class SoundNetModel(ModelSettings):
    objects: int = Field(default=1000, ge=0, le=MOST_CLASSES)
    """Classes of the teacher `objects` (ImageNet's 1000 in the paper); 0 learns from the other teacher alone."""
    scenes: int = Field(default=401, ge=0, le=MOST_CLASSES)
    """Classes of the teacher `scenes` (401 of Places in the paper, 365 of Places365); 0 as above."""

    @property
    def teachers(self) -> dict[str, int]:
        """The teachers that there are, with their numbers of classes."""
        return {name: classes for name in TEACHERS if (classes := getattr(self, name))}

    @model_validator(mode="after")
    def _taught(self) -> SoundNetModel:
        if not self.teachers or min(self.teachers.values()) < 2:
            raise ValueError(
                f"objects: {self.objects} and scenes: {self.scenes} are no two teachers, nor one: give each at least 2 "
                "classes, or 0 to one of them to learn from the other alone"
            )
        return self


class DistillationSettings(Section):
    loss: Literal["kl", "l2"] = "kl"
    """kl: KL(teacher ‖ student), the paper's. l2: the squared distance of the posteriors, its ablation."""


class SegmentConfig(Config):
    """Settings of networks that take a waveform."""

    data: SegmentData = SegmentData()


class SoundNetConfig(SegmentConfig):
    """Settings of SoundNet's students."""

    data: TaughtSegmentData = TaughtSegmentData()
    model: SoundNetModel = SoundNetModel()
    distillation: DistillationSettings = DistillationSettings()
