"""What SoundNet's students read: a segment of a clip's audio, and what teachers saw while it sounded.

    (seed, row) -> clip, first tick, ticks, output steps

A row depends on its number alone, as in `avc.data.sampler`. One tick is 882 samples at SoundNet's 22,050 Hz.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from avc.data.sampler import Integers
from avc.models.soundnet import ENCODER, SOUNDNETS
from avc.models.waveform import SAMPLE_RATE, steps_of
from avc.sound_settings import TEACHERS
from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK, TICKS_PER_SECOND
from shards.read import Shards
from shards.soft_labels import SoftLabels

WAVEFORM_MODELS = SOUNDNETS | {"autoencoder": ENCODER}
STUDENT_SAMPLES_PER_TICK = SAMPLE_RATE // TICKS_PER_SECOND  # 882, exactly
_ORDER, _START = range(2)  # streams of the generator, so that no two uses share a word


@dataclass(frozen=True)
class Segments:
    """R segments of audio. clip, first_tick, ticks, length, steps: int64 (R,).

    ticks: of the clip's own audio, which is repeated to `length` ticks. steps: of the student's output.
    """

    clip: Integers
    first_tick: Integers
    ticks: Integers
    length: Integers
    steps: Integers

    def digest(self) -> int:
        """The sum over the rows of 32 bits that mix all a row is, as `PairRows.digest` of avc.data.sampler does."""
        mixed = np.zeros(len(self.clip), dtype=np.uint64)
        for column in (self.clip, self.first_tick, self.ticks):
            mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        return int((mixed >> np.uint64(32)).sum())


class SegmentSampler:
    """The endless sequence of rows over a set of clips; an epoch visits each of them once, in a new order.

    The audio of a row lasts `sound_seconds`, or as long as the clip's if that is less; where it is more, the segment
    begins at a random tick. repeat: shorter audio is repeated to `sound_seconds`, as in SoundNet's released code. Clips
    whose sound is too short for one output step of the student are left out.
    student: one of WAVEFORM_MODELS. index: rows of `shards.format.CLIP`; clips: rows of it to draw from.
    Raises ValueError where no clip is long enough.
    """

    pairs_per_row = 1
    group_size = 1
    group_name = "clips"

    def __init__(
        self,
        index: NDArray[np.void],
        clips: Integers,
        *,
        student: str,
        sound_seconds: float,
        seed: int,
        repeat: bool = False,
    ) -> None:
        rows = index[clips]
        begin, end = sound_ticks(rows)
        wanted = round(sound_seconds * TICKS_PER_SECOND)
        ticks = np.clip(end - begin, 0, wanted)
        length = np.where(ticks > 0, wanted, 0) if repeat else ticks
        steps = steps_of(WAVEFORM_MODELS[student], length * STUDENT_SAMPLES_PER_TICK)
        usable = steps > 0
        self.too_short = int((~usable).sum())
        if not usable.any():
            longest = int(length.max(initial=0)) / TICKS_PER_SECOND
            raise ValueError(
                f"none of the {len(clips)} clips is long enough for one output step of {student}: the longest "
                f"segment of audio is {longest:g} s. Pack with --seconds 20, as the paper has it, and leave "
                "data.sound_seconds at 20"
            )
        self.clips = np.asarray(clips, dtype=np.int64)[usable]
        self._begin, self._end, self._ticks, self._steps = begin[usable], end[usable], ticks[usable], steps[usable]
        self._length = length[usable]
        self.longest_ticks, self.most_steps = int(self._length.max()), int(self._steps.max())
        self.rows_per_epoch = len(self.clips)
        self.seed = seed
        self._orders: dict[int, Integers] = {}

    def rows(self, start: int, stop: int) -> Segments:
        """Rows [start, stop) of the plan."""
        row = np.arange(start, stop)
        epoch, turn = row // self.rows_per_epoch, row % self.rows_per_epoch
        which = np.empty_like(row)
        for e in np.unique(epoch):
            which[epoch == e] = self._order(int(e))[turn[epoch == e]]
        # A Philox counter owns four words; a row uses the first of its own.
        words = self._words(_START, start, 4 * (stop - start))[::4]
        choices = (self._end - self._begin - self._ticks)[which] + 1
        first = self._begin[which] + (words % choices.astype(np.uint64)).astype(np.int64)
        return Segments(self.clips[which], first, self._ticks[which], self._length[which], self._steps[which])

    def _order(self, epoch: int) -> Integers:
        if epoch not in self._orders:
            if len(self._orders) >= 2:  # this epoch's and the next one's: rows straddle the border
                self._orders.clear()
            words = self._words(_ORDER, epoch * self.rows_per_epoch, self.rows_per_epoch)
            self._orders[epoch] = np.argsort(words, kind="stable")
        return self._orders[epoch]

    def _words(self, stream: int, counter: int, count: int) -> NDArray[np.uint64]:
        return np.random.Philox(key=self.seed + (stream << 64), counter=counter).random_raw(count)


class SegmentBatch(NamedTuple):
    """R segments of audio and the teachers' soft labels at each of the student's T output steps.

    audio: int16 (R, S) at 22,050 Hz, the end of shorter rows 0. steps: int64 (R,), how many of the T are a row's own.
    objects, scenes: float16 (R, T, classes), 0 beyond a row's steps; without classes where there is no such teacher.
    digest: int64 ().
    """

    audio: Tensor
    steps: Tensor
    objects: Tensor
    scenes: Tensor
    digest: Tensor

    def to(self, device: torch.device) -> SegmentBatch:
        """The same batch on `device`; pinned memory is copied without waiting."""
        return SegmentBatch(*(tensor.to(device, non_blocking=True) for tensor in self))


@dataclass(frozen=True)
class SegmentBuffers:
    """Memory for the large parts of batches: those of SegmentBatch, with a dimension of slots before."""

    audio: Tensor
    objects: Tensor
    scenes: Tensor

    def batch(self, slot: int, rows: Segments) -> SegmentBatch:
        """The batch of `rows` that was read into a slot, as long as its longest row; it shares the slot's memory."""
        count, samples = len(rows.clip), int(rows.length.max()) * STUDENT_SAMPLES_PER_TICK
        steps = int(rows.steps.max())
        return SegmentBatch(
            self.audio[slot, :count, :samples],
            torch.from_numpy(rows.steps),
            self.objects[slot, :count, :steps],
            self.scenes[slot, :count, :steps],
            torch.tensor(rows.digest()),
        )


class SegmentReader:
    """Reads ranges of a SegmentSampler: `reader[start, stop]` is the batch of rows [start, stop).

    The posterior of an output step is the mean of those of the frames in its part of the row, which the steps divide
    evenly: 5 s each in 20 s, as in the paper. Where audio is repeated, so are its frames. Where there is no frame in a
    part, the one nearest to its middle stands for it. Without soft labels it reads the audio alone.
    """

    def __init__(self, shards: Shards, sampler: SegmentSampler, soft_labels: SoftLabels | None = None) -> None:
        self.shards, self.sampler, self.soft_labels = shards, sampler, soft_labels

    def __getitem__(self, row_range: tuple[int, int]) -> SegmentBatch:
        rows = self.sampler.rows(*row_range)
        buffers = self.buffers(slots=1, rows=len(rows.clip))
        self.read_into(buffers, 0, rows)
        return buffers.batch(0, rows)

    def buffers(self, *, slots: int, rows: int, empty: Callable[..., Tensor] = torch.empty) -> SegmentBuffers:
        """Memory for batches of up to `rows` rows, one in each of `slots` slots; made by `empty`."""
        samples = self.sampler.longest_ticks * STUDENT_SAMPLES_PER_TICK
        teachers = () if self.soft_labels is None else self.soft_labels.teachers
        classes = {teacher.name: teacher.classes for teacher in teachers}
        return SegmentBuffers(
            empty((slots, rows, samples), dtype=torch.int16),
            *(
                empty((slots, rows, self.sampler.most_steps, classes.get(name, 0)), dtype=torch.float16)
                for name in TEACHERS
            ),
        )

    def read_into(self, buffers: SegmentBuffers, slot: int, rows: Segments) -> None:
        """Read what the rows name into a slot of `buffers`. Raises shards.read.BadRecord where files are damaged."""
        read_audio(self.shards, rows, buffers.audio[slot].numpy())
        if self.soft_labels is None:
            return
        targets = buffers.objects[slot].numpy(), buffers.scenes[slot].numpy()
        columns = (rows.clip, rows.first_tick, rows.ticks, rows.length, rows.steps)
        for i, (clip, first, ticks, length, steps) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            frames = self.soft_labels.ticks(clip)
            parts = repeated_parts(frames, first=first, ticks=ticks, length=length, steps=steps)
            for number, teacher in enumerate(self.soft_labels.teachers):
                if teacher.name not in TEACHERS:
                    continue
                target = targets[TEACHERS.index(teacher.name)]
                seen = self.soft_labels.read(clip, number).astype(np.float32)
                target[i, steps:] = 0
                for step, frames in enumerate(parts):
                    target[i, step] = seen[frames].mean(axis=0)


def read_audio(shards: Shards, rows: Segments, audio: NDArray[np.int16]) -> None:
    """Read the rows' audio, each repeated to its length, into (R, S); what is left of a row becomes 0."""
    columns = (rows.clip, rows.first_tick, rows.ticks, rows.length)
    for i, (clip, first, ticks, length) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        samples = length * STUDENT_SAMPLES_PER_TICK
        audio[i, :samples] = np.resize(student_sound(shards, clip, first, ticks), samples)
        audio[i, samples:] = 0


def sound_ticks(rows: NDArray[np.void]) -> tuple[Integers, Integers]:
    """The first tick of clips' sound and the one behind its last; rows: of `shards.format.CLIP`.

    All but at most one tick at either end is sound, as for `shards.format.centers`.
    """
    begin = rows["sound_from"].astype(np.int64) // SAMPLES_PER_TICK
    end = np.minimum(rows["ticks"].astype(np.int64), -(-rows["sound_to"].astype(np.int64) // SAMPLES_PER_TICK))
    return begin, end


def student_sound(shards: Shards, clip: int, first_tick: int, ticks: int) -> NDArray[np.int16]:
    """int16 (ticks * 882,): a segment of a clip's audio at 22,050 Hz."""
    sound = shards.sound(clip, first_tick * SAMPLES_PER_TICK, ticks * SAMPLES_PER_TICK)
    # In floating point: libsoxr adds noise where it rounds to 16 bits itself.
    lower = soxr.resample(sound.astype(np.float32), SAMPLE_RATE_HZ, SAMPLE_RATE)
    return lower.round().clip(-32768, 32767).astype(np.int16)  # type: ignore[no-any-return]


def parts_of(frames: Integers, *, first: int, ticks: int, steps: int) -> list[Integers]:
    """For each of `steps` equal parts of [first, first + ticks): which of the frames at these ticks lie in it."""
    part = (frames - first) * steps // ticks
    middles = first + (2 * np.arange(steps) + 1) * ticks / (2 * steps)
    return [
        own if len(own := np.flatnonzero(part == step)) else np.array([np.argmin(np.abs(frames - middles[step]))])
        for step in range(steps)
    ]


def repeated_parts(frames: Integers, *, first: int, ticks: int, length: int, steps: int) -> list[Integers]:
    """`parts_of` for [first, first + ticks) repeated to `length` ticks, with its frames."""
    if length == ticks:
        return parts_of(frames, first=first, ticks=ticks, steps=steps)
    inside = np.flatnonzero((first <= frames) & (frames < first + ticks))
    if not len(inside):
        inside = np.array([np.argmin(np.abs(frames - first - ticks / 2))])
    copies = np.arange(-(-length // ticks))
    times = (frames[inside] + ticks * copies[:, None]).ravel()
    which = np.tile(inside, len(copies))
    return [which[part] for part in parts_of(times, first=first, ticks=length, steps=steps)]
