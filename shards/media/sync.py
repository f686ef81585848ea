"""How a file's sound lies to its pictures, and what pipelines that do not look at the stamps make of it.

Read with what packing reads with, and placed by the same rules (timeline.py); only stamps and lengths are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from shards.format import SAMPLE_RATE_HZ, TICKS_PER_SECOND, centers
from shards.media import timeline
from shards.media.container import Declared, File, Kind, examine
from shards.media.decoding import Record, decoded_frames, packets_of
from shards.media.pictures import edits_in, first_of, shown_pictures
from shards.media.pictures import refuse_broken as refuse_broken_pictures
from shards.media.sound import MARGIN_SECONDS
from shards.media.sound import refuse_broken as refuse_broken_sound
from shards.sync import PIPELINES, Edits, Error, Gap, Packing, Pictures, Sound, Sync

# Between two runs of sound, a step of this much or more is a gap (or, backwards, an overlap): a lost packet of any
# codec is longer. Several smaller ones in one direction are drift, which `runs_of_sound` follows in steps of 4 ms.
GAP_SECONDS = 0.015
DRIFT_STEPS = 2
# Pictures whose intervals differ by more than this share of the median one are of variable rate. Containers that count
# in milliseconds make 16 and 17 of 16.7.
VARIABLE_SHARE = 0.25


def measure_sync(file: File, *, seconds: float) -> Sync:
    """Sync of the first `seconds` of a file; raises Rejected and Hidden as reading a clip does."""
    with file.opened() as container:
        declared = examine(container)
        seen = _Seen.read(file, container, declared, seconds=seconds)
    stamps, unit = seen.stamps, seen.unit
    times = np.array([float(stamp * unit) for stamp in stamps])
    known = len(file.parts)
    sound = _Heard.read(file, until=times[0] + seconds)
    if len(file.parts) > max(1, known):  # told by the sound alone: the pictures were read by their own stamps
        return measure_sync(file, seconds=seconds)
    clock = timeline.Ticks(start=stamps[0] * unit, unit=unit)
    fps = declared.video["declared_fps"]
    edits = _edits(file, declared.container["container"], seen)
    errors = naive_errors(times[seen.cut :], fps=fps, sound=sound)
    if edits:
        moved = edits.sound - edits.pictures
        errors["edit_lists_ignored"] = Error(abs(moved), moved)
    return Sync(
        container=declared.container["container"],
        parts=max(1, len(file.parts)),
        offset=sound.starts[0] - times[0],
        pictures=_pictures(
            times, cut=seen.cut, end=float(seen.end * unit), codec=declared.video["codec"], declared_fps=fps
        ),
        sound=sound.described(declared.audio, zero=times[0], left_out=_left_out(file, start=sound.starts[0])),
        edits=edits,
        packing=_packing(
            [clock.first_showing(stamp) for stamp in stamps],
            pictures_end=max(0, clock.first_showing(seen.end)),
            limit=seconds * TICKS_PER_SECOND,
            sound=sound,
            zero=times[0],
            edit_list_ignored=not file.edit_lists,
        ),
        errors=errors,
    )


@dataclass(frozen=True)
class _Seen:
    """The pictures' stamps and the end of the last one, in `unit` seconds.

    shift: what the first edit adds to the stored stamps, None where libav alone obeys the edit lists, if there are any.
    cut: whether the first picture begins before its edit, and only the rest of its time is shown.
    hidden: packets and pictures that edit lists take out.
    """

    stamps: list[int]
    end: int
    unit: Fraction
    shift: int | None
    cut: bool
    hidden: int

    @classmethod
    def read(cls, file: File, container: Any, declared: Declared, *, seconds: float) -> _Seen:
        record = Record()
        timed = shown_pictures(file, container, record)
        latest = first_of(timed, record, declared)
        unit, stamps, corrupt = latest.unit, [latest.stamp], int(latest.frame.is_corrupt)
        edits = edits_in(file, container)
        shift = edits[0].shift if edits else None
        stored = latest.frame.pts
        cut = shift is not None and stored is not None and stored + shift < latest.stamp
        for latest in timed:
            if (latest.stamp - stamps[0]) * unit >= seconds:
                break
            stamps.append(latest.stamp)
            corrupt += latest.frame.is_corrupt
        end = max(latest.stamp + latest.lasts, stamps[-1]) if latest.stamp == stamps[-1] else latest.stamp
        ticks = int((end - stamps[0]) * unit * TICKS_PER_SECOND)
        refuse_broken_pictures(file, record, decoded=len(stamps), corrupt=corrupt, ticks=ticks)
        return cls(stamps, end, unit, shift, cut, record.hidden)


def _pictures(times: np.ndarray, *, cut: bool, end: float, codec: str, declared_fps: float | None) -> Pictures:
    intervals = np.diff(times) if len(times) > 1 else np.zeros(1)
    whole = intervals[cut:] if len(intervals) > 1 else intervals
    spread, span = np.ptp(whole), whole.sum()
    return Pictures(
        codec=codec,
        count=len(times),
        start=float(times[0]),
        end=end,
        declared_fps=declared_fps,
        fps=float(len(whole) / span) if span > 0 else None,
        shortest_interval=float(whole.min()),
        longest_interval=float(whole.max()),
        variable_rate=bool(spread > VARIABLE_SHARE * np.median(whole)),
    )


@dataclass(frozen=True)
class _Heard:
    """A sound's runs: `starts` by their stamps and `counted` by samples since the first, seconds, and their `lasts`."""

    starts: np.ndarray
    counted: np.ndarray
    lasts: np.ndarray
    first_stamp: float
    rate_hz: int

    @classmethod
    def read(cls, file: File, *, until: float) -> _Heard:
        record = Record()
        stamps: list[float] = []
        lengths: list[int] = []
        forms: list[timeline.Form] = []
        with file.opened() as container:
            for frame in decoded_frames(file, container, "audio", record):
                units = frame.pts if frame.pts is not None else frame.dts
                stamp = math.nan if units is None else units * float(frame.time_base)
                if stamp > until + MARGIN_SECONDS:
                    break
                if frame.samples:
                    stamps.append(stamp)
                    lengths.append(frame.samples)
                    forms.append(timeline.Form(frame.format.name, frame.layout.name, frame.sample_rate))
        refuse_broken_sound(record, decoded=len(stamps))
        runs = timeline.runs_of_sound(stamps, lengths, forms)
        runs = [run for run in runs if run.start_seconds < until] or runs[:1]
        starts = np.array([run.start_seconds for run in runs])
        lasts = np.array([sum(lengths[run.first : run.last]) / forms[run.first].rate_hz for run in runs])
        lasts[-1] = min(lasts[-1], max(until - starts[-1], 1 / forms[0].rate_hz))
        first_stamp = float(starts[0]) if math.isnan(stamps[0]) else stamps[0]
        return cls(starts, np.concatenate([[0], np.cumsum(lasts)[:-1]]), lasts, first_stamp, forms[0].rate_hz)

    @property
    def end(self) -> float:
        return float(self.starts[-1] + self.lasts[-1])

    def time_of(self, counted: np.ndarray) -> np.ndarray:
        """When the sample is heard that is `counted` seconds of samples after the first; NaN where there is none."""
        run = np.searchsorted(self.counted, counted, side="right") - 1
        heard = self.starts[run] + counted - self.counted[run]
        return np.where((counted >= 0) & (counted < self.counted[-1] + self.lasts[-1]), heard, np.nan)

    def described(self, declared: dict[str, Any], *, zero: float, left_out: float) -> Sound:
        steps = self.starts[1:] - (self.starts[:-1] + self.lasts[:-1])
        small = steps[np.abs(steps) < GAP_SECONDS]
        drifts = len(small) >= DRIFT_STEPS and len({*np.sign(small)}) == 1
        is_gap = (np.abs(steps) >= GAP_SECONDS) | (not drifts)
        ends = self.starts[:-1] + self.lasts[:-1] - zero
        # The line through the middles of the runs, by how far their stamps have departed from the count of samples.
        departed = np.concatenate([[0], np.cumsum(np.where(is_gap, 0, steps))])
        middles = self.counted + self.lasts / 2
        slope = float(np.polyfit(middles, departed, 1, w=np.sqrt(self.lasts))[0]) if departed.any() else 0.0
        return Sound(
            codec=declared["codec"],
            first_stamp=self.first_stamp,
            start=float(self.starts[0]),
            end=self.end,
            declared_rate_hz=declared["sample_rate_hz"],
            rate_hz=self.rate_hz,
            left_out=left_out,
            runs=len(self.starts),
            gaps=[Gap(float(at), float(step)) for at, step in zip(ends[is_gap], steps[is_gap], strict=True)],
            drift=slope * float(self.lasts.sum()),
            drift_ppm=slope * 1e6,
        )


def naive_errors(times: np.ndarray, *, fps: float | None, sound: _Heard) -> dict[str, Error]:
    """Errors of the PIPELINES that take numbers of frames or samples for times, at the pictures at `times`."""
    start = sound.starts[0]
    since = times - times[0]
    sounds = {
        "start_ignored": start + since,
        "samples_counted": sound.time_of(times - start),
    }
    if fps:
        numbers = np.arange(len(times)) / fps
        sounds |= {"constant_rate": times[0] + numbers, "all_three": sound.time_of(numbers)}
    errors = {}
    for name in PIPELINES:
        if name in sounds:
            late = (sounds[name] - times)[~np.isnan(sounds[name])]
            if late.size:
                errors[name] = Error(float(np.median(np.abs(late))), float(late[np.abs(late).argmax()]))
    return errors


def _packing(
    shows: Sequence[int], *, pictures_end: int, limit: float, sound: _Heard, zero: float, edit_list_ignored: bool
) -> Packing:
    """`shows`: for each picture the first tick at or after its stamp."""
    sound_end = math.ceil((sound.end - zero) * TICKS_PER_SECOND)
    ticks = timeline.held_ticks(pictures_end, sound_end, limit=max(pictures_end, limit))
    shown = len({tick for tick in shows if tick < ticks})
    offset = sound.starts[0] - zero
    usable = centers(
        ticks=ticks,
        sound_from=max(0, round(offset * SAMPLE_RATE_HZ)),
        sound_to=round((sound.end - zero) * SAMPLE_RATE_HZ),
    )
    return Packing(
        ticks=ticks,
        frames_left_out=len(shows) - shown,
        frames_repeated=pictures_end - shown,
        held=(ticks - pictures_end) / TICKS_PER_SECOND,
        silence=max(0.0, offset),
        cut=max(0.0, -offset),
        edit_list_ignored=edit_list_ignored,
        too_short=not usable,
    )


def _edits(file: File, container: str, seen: _Seen) -> Edits | None:
    if not file.edit_lists or "mp4" not in container:
        return None
    pictures = _shift(file, "video") if seen.shift is None else float(seen.shift * seen.unit)
    edits = Edits(pictures=pictures, sound=_shift(file, "audio"), hidden_pictures=seen.hidden)
    return edits if edits.pictures or edits.sound or seen.hidden else None


def _shift(file: File, kind: Kind) -> float:
    """By how much the file's edit lists move the first packet of a stream, seconds."""
    for place, moved in _packets(file, kind):
        for other_place, stamp in _packets(replace(file, edit_lists=False), kind):
            if place == other_place:
                return moved - stamp
    return 0.0


def _left_out(file: File, *, start: float) -> float:
    """How long before its start the sound's first packet begins, seconds."""
    return next((max(0.0, start - stamp) for _, stamp in _packets(file, "audio")), 0.0)


def _packets(file: File, kind: Kind) -> Iterator[tuple[int, float]]:
    """Where the packets of a stream lie in the file, and their stamps in seconds."""
    with file.opened() as container:
        for packet in packets_of(container, kind, Record()):
            if packet.pts is not None and packet.size:
                yield packet.pos, float(packet.pts * packet.time_base)
