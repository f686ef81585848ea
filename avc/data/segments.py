"""Samples and reads segments of audio with teachers' soft labels, for SoundNet's students.

    (seed, row) -> clip, first tick, ticks, output steps

A row is a function of its number, as in `avc.data.sampler`. One tick is 882 samples at SoundNet's 22,050 Hz.
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

from avc.data.sampler import Integers, mixed_sum
from avc.models.soundnet import ENCODER, SOUNDNETS
from avc.models.waveform import SAMPLE_RATE, steps_of
from avc.sound_settings import TEACHERS
from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK, TICKS_PER_SECOND
from shards.read import Shards
from shards.soft_labels import SoftLabels

WAVEFORM_MODELS = SOUNDNETS | {"autoencoder": ENCODER}
STUDENT_SAMPLES_PER_TICK = SAMPLE_RATE // TICKS_PER_SECOND  # 882, exactly
_ORDER, _START = range(2)  # independent streams of the generator


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
        """Sum over the rows of a 32-bit hash of each, as `PairRows.digest` of avc.data.sampler."""
        return mixed_sum((self.clip, self.first_tick, self.ticks))


class SegmentSampler:
    """The endless sequence of rows over a set of clips; an epoch visits each of them once, in a new order.

    The audio of a row lasts `sound_seconds`, or the clip's length if that is less; in longer clips the segment starts
    at a random tick. repeat: shorter audio is repeated to `sound_seconds`, as in SoundNet's released code. Clips that
    are too short for one output step of the student are excluded.
    student: one of WAVEFORM_MODELS. index: rows of `shards.format.CLIP`; clips: rows of it to sample from.
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
        max_ticks = round(sound_seconds * TICKS_PER_SECOND)
        ticks = np.clip(end - begin, 0, max_ticks)
        length = np.where(ticks > 0, max_ticks, 0) if repeat else ticks
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
        epoch, position = row // self.rows_per_epoch, row % self.rows_per_epoch
        order = np.empty_like(row)
        for number in np.unique(epoch):
            order[epoch == number] = self._order(int(number))[position[epoch == number]]
        # A Philox counter yields four words; a row uses the first one.
        words = self._words(_START, start, 4 * (stop - start))[::4]
        choices = (self._end - self._begin - self._ticks)[order] + 1
        first = self._begin[order] + (words % choices.astype(np.uint64)).astype(np.int64)
        return Segments(self.clips[order], first, self._ticks[order], self._length[order], self._steps[order])

    def _order(self, epoch: int) -> Integers:
        if epoch not in self._orders:
            if len(self._orders) >= 2:  # a batch may span two epochs
                self._orders.clear()
            words = self._words(_ORDER, epoch * self.rows_per_epoch, self.rows_per_epoch)
            self._orders[epoch] = np.argsort(words, kind="stable")
        return self._orders[epoch]

    def _words(self, stream: int, counter: int, count: int) -> NDArray[np.uint64]:
        return np.random.Philox(key=self.seed + (stream << 64), counter=counter).random_raw(count)


class SegmentBatch(NamedTuple):
    """R segments of audio and the teachers' soft labels at each of the student's T output steps.

    audio: int16 (R, S) at 22,050 Hz, shorter rows zero-padded. steps: int64 (R,), number of output steps of each row.
    objects, scenes: float16 (R, T, classes), zero-padded after a row's steps; classes is 0 without such a teacher.
    digest: int64 ().
    """

    audio: Tensor
    steps: Tensor
    objects: Tensor
    scenes: Tensor
    digest: Tensor

    def to(self, device: torch.device) -> SegmentBatch:
        """The same batch on `device`; pinned memory is copied asynchronously."""
        return SegmentBatch(*(tensor.to(device, non_blocking=True) for tensor in self))


@dataclass(frozen=True)
class SegmentBuffers:
    """Memory for the large tensors of batches: those of SegmentBatch with a leading dimension of slots."""

    audio: Tensor
    objects: Tensor
    scenes: Tensor

    def batch(self, slot: int, rows: Segments) -> SegmentBatch:
        """The batch of `rows` in a slot, as long as its longest row; it shares the slot's memory."""
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

    The output steps divide a row evenly: 5 s each in 20 s, as in the paper. The soft label of a step is the mean over
    the frames in its part, or that of the frame nearest to its middle where it has none. Where audio is repeated, so
    are its frames. Without soft labels it reads only audio.
    """

    def __init__(self, shards: Shards, sampler: SegmentSampler, soft_labels: SoftLabels | None = None) -> None:
        self.shards, self.sampler, self.soft_labels = shards, sampler, soft_labels

    def __getitem__(self, row_range: tuple[int, int]) -> SegmentBatch:
        rows = self.sampler.rows(*row_range)
        buffers = self.buffers(slots=1, rows=len(rows.clip))
        self.read_into(buffers, 0, rows)
        return buffers.batch(0, rows)

    def buffers(self, *, slots: int, rows: int, empty: Callable[..., Tensor] = torch.empty) -> SegmentBuffers:
        """Memory for `slots` batches of up to `rows` rows; allocated by `empty`."""
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
        """Read the rows into a slot of `buffers`. Raises shards.read.BadRecord where files are damaged."""
        audio = buffers.audio[slot].numpy()
        columns = (rows.clip, rows.first_tick, rows.ticks, rows.length, rows.steps)
        for i, (clip, first, ticks, length, steps) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            samples = length * STUDENT_SAMPLES_PER_TICK
            audio[i, :samples] = np.resize(student_sound(self.shards, clip, first, ticks), samples)
            audio[i, samples:] = 0
            if self.soft_labels is None:
                continue
            frames = self.soft_labels.ticks(clip)
            parts = split_repeated_frames(frames, first=first, ticks=ticks, length=length, steps=steps)
            for number, teacher in enumerate(self.soft_labels.teachers):
                if teacher.name not in TEACHERS:
                    continue
                target = getattr(buffers, teacher.name)[slot, i].numpy()
                soft_labels = self.soft_labels.read(clip, number).astype(np.float32)
                target[steps:] = 0
                for step, frames in enumerate(parts):
                    target[step] = soft_labels[frames].mean(axis=0)


def sound_ticks(rows: NDArray[np.void]) -> tuple[Integers, Integers]:
    """First tick and end (exclusive) of the clips' sound; rows: of `shards.format.CLIP`.

    At most one tick at either end is padding, as for `shards.format.centers`.
    """
    begin = rows["sound_from"].astype(np.int64) // SAMPLES_PER_TICK
    end = np.minimum(rows["ticks"].astype(np.int64), -(-rows["sound_to"].astype(np.int64) // SAMPLES_PER_TICK))
    return begin, end


def student_sound(shards: Shards, clip: int, first_tick: int, ticks: int) -> NDArray[np.int16]:
    """int16 (ticks * 882,): a segment of a clip's audio at 22,050 Hz."""
    sound = shards.sound(clip, first_tick * SAMPLES_PER_TICK, ticks * SAMPLES_PER_TICK)
    # In floating point: libsoxr adds dither when it rounds to 16 bits.
    lower = soxr.resample(sound.astype(np.float32), SAMPLE_RATE_HZ, SAMPLE_RATE)
    return lower.round().clip(-32768, 32767).astype(np.int16)  # type: ignore[no-any-return]


def split_frames(frames: Integers, *, first: int, ticks: int, steps: int) -> list[Integers]:
    """Indices of the frames (at these ticks) in each of `steps` equal parts of [first, first + ticks).

    A part without a frame gets the one nearest to its middle.
    """
    part = (frames - first) * steps // ticks
    middles = first + (2 * np.arange(steps) + 1) * ticks / (2 * steps)
    return [
        inside if len(inside := np.flatnonzero(part == step)) else np.array([np.argmin(np.abs(frames - middles[step]))])
        for step in range(steps)
    ]


def split_repeated_frames(frames: Integers, *, first: int, ticks: int, length: int, steps: int) -> list[Integers]:
    """`split_frames` for [first, first + ticks) with its frames, repeated to `length` ticks."""
    if length == ticks:
        return split_frames(frames, first=first, ticks=ticks, steps=steps)
    inside = np.flatnonzero((first <= frames) & (frames < first + ticks))
    if not len(inside):
        inside = np.array([np.argmin(np.abs(frames - first - ticks / 2))])
    copies = np.arange(-(-length // ticks))
    times = (frames[inside] + ticks * copies[:, None]).ravel()
    indices = np.tile(inside, len(copies))
    return [indices[part] for part in split_frames(times, first=first, ticks=length, steps=steps)]
