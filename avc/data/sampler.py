"""The plan: which frame meets which second of sound, under which label. Pure integers.

    (seed, row) -> frame clip, frame tick, sound clip, sound center, label, augmentation numbers

Rank, world size and worker count choose *which rows* a process computes, never *what* a row is; so the samples are the
same on 1 or 16 GPUs, resuming is starting at a row, and every epoch visits every clip.

How a row is drawn. A *view* of a clip is a frame tick and the mid-point of a second of its sound, drawn by one
distribution: the frame uniformly from the clip's centers, the sound's mid-point uniformly from those within the
allowed misalignment. A positive shows the frame and the sound of one view. A negative shows the frame of one view and
the sound of a view of another clip, or with `source="sync"` of another view of the same clip. Hence the distribution
of each modality's own times is the same for both classes, and every mid-point lies on the 0.04 s grid (Objects that
Sound 3.3), whatever the label.

Random words come from Philox, a counter-based generator of four 64-bit words per count: row r owns the counts from 3 r
to 3 r + 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shards.format import HALF_SECOND_SAMPLES, SAMPLES_PER_TICK, centers_of

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]

_COUNTS_PER_ROW = 3  # of four words each
_OF_CLIPS = ("clips", "_first_center", "_last_center", "_last_sample", "_every", "_first_picture", "_pictures")
_ROWS, ORDER, _SHIFT, _BLOCK = range(4)  # streams of the generator, so that no two uses share a word


@dataclass(frozen=True)
class PairRows:
    """A range of the plan: F frames, S seconds of audio, and P pairs of them.

    frame_clip, frame_tick: int64 (F,), the clip's row in the index and the tick of the image.
    audio_clip, audio_center: int64 (S,), the clip's row in the index and the mid-point of the second, in samples.
    image_draws: float32 (F, 5) in [0, 1): crop from the top, crop from the left, flip, brightness, saturation.
    audio_draws: float32 (S, 1) in [0, 1): volume.
    pair_frame, pair_audio: int64 (P,), which frame and which sound make the pair.
    label: int64 (P,), 1 where they belong together.
    """

    frame_clip: Integers
    frame_tick: Integers
    audio_clip: Integers
    audio_center: Integers
    image_draws: NDArray[np.float32]
    audio_draws: NDArray[np.float32]
    pair_frame: Integers
    pair_audio: Integers
    label: Integers

    def digest(self) -> int:
        """The sum over the pairs of 32 bits that mix all a pair is: what a log needs to prove which pairs were used.

        A sum, so that ranges of the plan add up to the digest of the whole, however they were cut and handed out.
        """
        frame, sound = self.pair_frame, self.pair_audio
        numbers = (self.image_draws[frame, 0], self.audio_draws[sound, 0])
        columns = (
            self.label,
            self.frame_clip[frame],
            self.frame_tick[frame],
            self.audio_clip[sound],
            self.audio_center[sound],
            *((column * 2.0**24).astype(np.int64) for column in numbers),
        )
        return mixed_sum(columns)


def mixed_sum(columns: Sequence[Integers]) -> int:
    """The sum over rows of 32 bits that mix a row's numbers; columns: int64 (N,) each."""
    mixed: Words = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return int((mixed >> np.uint64(32)).sum())


class PairSampler:
    """The endless sequence of rows over a set of clips.

    With `source="independent"` a row is one pair; even rows are positives, odd rows negatives, and an epoch is two rows
    per clip: each clip's frame and sound serve once in each class. With `source="shared"` a row is one view, which
    makes one positive and one negative within its block of `block` rows; an epoch is one row per clip. With
    `source="sync"` two rows are views of one clip, `min_ticks` to `max_ticks` apart, which exchange their sounds to
    make negatives; an epoch is two rows per clip, and clips too short for that are left out.

    clips: int64, rows of `index` to draw from; index: rows of `shards.format.CLIP`; too_short: how many are left out.
    partition: its number where the clips are some of a run's (`avc.data.partitions`), for random words of its own.
    Raises ValueError where there are too few clips to draw negatives from.
    """

    WORDS_PER_ROW = 4 * _COUNTS_PER_ROW

    def __init__(
        self,
        index: NDArray[np.void],
        clips: Integers,
        *,
        seed: int,
        source: Literal["independent", "shared", "sync"] = "independent",
        grid: Literal["frame", "free"] = "frame",
        block: int = 16,
        min_ticks: int = 51,
        max_ticks: int = 145,
        max_misalignment_ticks: int = 25,
        shuffle_sound: bool = False,
        partition: int = 0,
    ) -> None:
        clips = np.asarray(clips, dtype=np.int64)
        count = len(clips)
        refuse_few(count, source=source, block=block)
        self.seed, self.source, self.grid, self.block, self.partition = seed, source, grid, block, partition
        self.max_misalignment_ticks, self.shuffle_sound = max_misalignment_ticks, shuffle_sound
        self.pairs_per_row = 1 if source == "independent" else 2
        self.group_size = block if source == "shared" else 2  # rows come in multiples of this
        names = {"independent": "a positive and a negative", "sync": "two views of a clip"}
        self.group_name = names.get(source, f"blocks of {block} clips")

        rows = index[clips]
        spans = [centers_of(row) for row in rows]
        ticks = np.array([(span.start, span.stop - 1) for span in spans], dtype=np.int64)
        if source == "sync":
            self._apart = range(min_ticks, max_ticks + 1)
            two = _two_views(ticks, rows["every"].astype(np.int64), self._apart)
            clips, rows, ticks = clips[two], rows[two], ticks[two]
        self.clips, self.too_short = clips, count - len(clips)
        self.rows_per_epoch = len(clips) if source == "shared" else 2 * len(clips)
        self._first_center, self._last_center = ticks.T
        ends = np.minimum(rows["ticks"].astype(np.int64) * SAMPLES_PER_TICK, rows["sound_to"] + SAMPLES_PER_TICK)
        self._last_sample = ends - HALF_SECOND_SAMPLES
        self._every = rows["every"].astype(np.int64)
        self._first_picture = -(-self._first_center // self._every)
        self._pictures = self._last_center // self._every - self._first_picture + 1
        if (self._pictures < 1).any():
            unusable = rows["key"][np.argmax(self._pictures < 1)].decode()
            raise ValueError(f"clip {unusable} has no image around which there is one second of sound; pack it again")
        self._orders: dict[tuple[int, int], Integers] = {}

    def rows(self, start: int, stop: int) -> PairRows:
        """Rows [start, stop) of the plan; both are multiples of `group_size`."""
        assert 0 <= start < stop and start % self.group_size == 0 and stop % self.group_size == 0, (start, stop)
        words = self._words(_ROWS, _COUNTS_PER_ROW * start, self.WORDS_PER_ROW * (stop - start))
        words = words.reshape(stop - start, self.WORDS_PER_ROW)
        row = np.arange(start, stop)
        return {"independent": self._independent, "shared": self._shared, "sync": self._sync}[self.source](row, words)

    def over(self, which: Integers, *, partition: int) -> PairSampler:
        """The plan over some of `clips`, by their places there, with the random words of another partition."""
        plan = PairSampler.__new__(PairSampler)
        vars(plan).update(vars(self) | {name: vars(self)[name][which] for name in _OF_CLIPS})
        plan.rows_per_epoch = self.rows_per_epoch // len(self.clips) * len(plan.clips)
        plan.partition, plan._orders = partition, {}
        return plan

    def row_from_words(self, row: int, words: Words) -> PairRows:
        """What a row of independent pairs would be had it these random words: uint64 (N, WORDS_PER_ROW) → N rows."""
        assert self.source == "independent", self.source
        return self._independent(np.full(len(words), row), words)

    def _independent(self, row: Integers, words: Words) -> PairRows:
        epoch, turn = row // self.rows_per_epoch, row % self.rows_per_epoch // 2
        label = 1 - row % 2
        count = len(self.clips)
        frame_of = np.empty_like(row)
        sound_of = np.empty_like(row)
        for e in np.unique(epoch):
            for value in (0, 1):
                here = (epoch == e) & (label == value)
                order = self._order(int(e), value)
                frame_of[here] = order[turn[here]]
                # A cyclic shift of a random order pairs every clip with another one, each exactly once an epoch.
                paired = value == 1 and not self.shuffle_sound
                shift = 0 if paired else 1 + int(self._words(_SHIFT, 2 * int(e) + value, 1)[0] % np.uint64(count - 1))
                sound_of[here] = order[(turn[here] + shift) % count]
        frame_tick, own_center = self._view(frame_of, words[:, 0], words[:, 1])
        _, other_center = self._view(sound_of, words[:, 2], words[:, 3])
        center = np.where(sound_of == frame_of, own_center, other_center) * SAMPLES_PER_TICK
        if self.grid == "free":
            offset = (words[:, 4] % np.uint64(SAMPLES_PER_TICK)).astype(np.int64)
            center = np.where(label == 0, np.minimum(center + offset, self._last_sample[sound_of]), center)
        return self._finish(frame_of, frame_tick, sound_of, center, words, np.arange(len(row)), label)

    def _shared(self, row: Integers, words: Words) -> PairRows:
        clip = self._visited(row // self.rows_per_epoch, row % self.rows_per_epoch)
        tick, center = self._view(clip, words[:, 0], words[:, 1])
        here = np.arange(len(row))
        positives, negatives = [], []
        for first in range(0, len(row), self.block):
            block = here[first : first + self.block]
            draws = self._words(_BLOCK, int(row[first]) // self.block, 2)
            ring, apart = _ring(clip[block], words[block, 11])
            choices = np.uint64(self.block - 2 * apart + 1)
            shifts = apart + (draws % choices).astype(np.int64)
            partner = np.empty_like(block)
            partner[ring] = np.roll(ring, -int(shifts[0]))
            negatives.append(block[partner])
            if self.shuffle_sound:
                partner[ring] = np.roll(ring, -int(shifts[1]))
                positives.append(block[partner])
            else:
                positives.append(block)
        label, pair_audio = np.repeat([1, 0], len(row)), np.concatenate(positives + negatives)
        return self._finish(clip, tick, clip, center * SAMPLES_PER_TICK, words, pair_audio, label)

    def _sync(self, row: Integers, words: Words) -> PairRows:
        clip = self._visited(row // self.rows_per_epoch, row % self.rows_per_epoch // 2)
        drawn = np.repeat(words[::2], 2, axis=0)  # both views are drawn with the words of the first
        every, images = self._every[clip], self._pictures[clip]
        least, most = -(-self._apart.start // every), np.minimum(images - 1, self._apart[-1] // every)
        step = least + _below(most - least + 1, drawn[:, 0])
        first = (self._first_picture[clip] + _below(images - step, drawn[:, 1])) * every
        # One misalignment for both: the two seconds are as far apart as the two frames.
        low = np.maximum(self._first_center[clip] - first, -self.max_misalignment_ticks)
        high = np.minimum(self._last_center[clip] - first - step * every, self.max_misalignment_ticks)
        frame = first + row % 2 * step * every
        center = (frame + low + _below(high - low + 1, drawn[:, 2])) * SAMPLES_PER_TICK
        label, here = np.repeat([1, 0], len(row)), np.arange(len(row))
        return self._finish(clip, frame, clip, center, words, np.concatenate([here, here ^ 1]), label)

    def _view(self, clip: Integers, frame_word: Words, sound_word: Words) -> tuple[Integers, Integers]:
        """Frame tick and sound mid-point (both in ticks) of one view of each clip."""
        frame = (self._first_picture[clip] + _below(self._pictures[clip], frame_word)) * self._every[clip]
        low = np.maximum(self._first_center[clip], frame - self.max_misalignment_ticks)
        high = np.minimum(self._last_center[clip], frame + self.max_misalignment_ticks)
        return frame, low + _below(high - low + 1, sound_word)

    def _finish(
        self,
        frame_of: Integers,
        frame_tick: Integers,
        sound_of: Integers,
        audio_center: Integers,
        words: Words,
        pair_audio: Integers,
        label: Integers,
    ) -> PairRows:
        numbers = (words[:, 5:11] >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        return PairRows(
            frame_clip=self.clips[frame_of],
            frame_tick=frame_tick,
            audio_clip=self.clips[sound_of],
            audio_center=audio_center,
            image_draws=numbers[:, :5],
            audio_draws=numbers[:, 5:],
            pair_frame=np.arange(len(label)) % len(words),
            pair_audio=pair_audio,
            label=label.astype(np.int64),
        )

    def _visited(self, epoch: Integers, turn: Integers) -> Integers:
        clip = np.empty_like(turn)
        for e in np.unique(epoch):
            clip[epoch == e] = self._order(int(e), 1)[turn[epoch == e]]
        return clip

    def _order(self, epoch: int, which: int) -> Integers:
        """The order in which an epoch visits the clips; `which` tells positives' order from negatives'."""
        if (epoch, which) not in self._orders:
            if len(self._orders) >= 4:  # an epoch's two and the next one's: rows straddle the border
                self._orders.clear()
            words = self._words(ORDER, (2 * epoch + which) * len(self.clips), len(self.clips))
            # argsort of words and not Generator.permutation, whose stream numpy may change between versions.
            self._orders[epoch, which] = np.argsort(words, kind="stable")
        return self._orders[epoch, which]

    def _words(self, stream: int, counter: int, count: int) -> Words:
        return np.random.Philox(key=self.seed + (stream + 4 * self.partition << 64), counter=counter).random_raw(count)


def refuse_few(count: int, *, source: str, block: int) -> None:
    """Raises ValueError where negatives cannot be drawn from `count` clips."""
    least = {"independent": 2, "shared": 4, "sync": 1}[source]
    if count < least:
        raise ValueError(f"{count} clips are too few to draw negatives from; at least {least} are needed")
    if source == "shared" and 2 * (math.ceil(block / count) + 1) > block:
        raise ValueError(f"{count} clips are too few for blocks of {block}; lower negatives.block or pack more clips")


def _two_views(ticks: Integers, every: Integers, apart: range) -> NDArray[np.bool_]:
    """Which clips have two images `apart` ticks from each other. ticks: (N, 2), the first and the last center."""
    farthest = ticks[:, 1] // every - -(-ticks[:, 0] // every)
    two = -(-apart.start // every) <= np.minimum(farthest, apart[-1] // every)
    if not two.any():
        raise ValueError(
            f"none of {len(ticks)} clips has two frames {apart.start} to {apart[-1]} ticks apart with one second of "
            "sound around each; lower negatives.min_ticks or pack longer clips"
        )
    return two


def _below(count: Integers, word: Words) -> Integers:
    """An integer in [0, count) from a 64-bit word; the bias is below count / 2**64."""
    return (word % count.astype(np.uint64)).astype(np.int64)


def _ring(clip: Integers, word: Words) -> tuple[Integers, int]:
    """A random circular order in which copies of one clip are neighbors, and the most copies that a clip has.

    Where a block straddles two epochs it can hold a clip twice. On this ring, moving on by at least that many slots,
    and at most the block less that many, always leads to another clip.
    """
    _, which, copies = np.unique(clip, return_inverse=True, return_counts=True)
    shared_word = np.full(len(copies), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(shared_word, which, word)
    return np.lexsort((np.arange(len(clip)), clip, shared_word[which])), int(copies.max())
