"""Measures a file's synchronization of sound and pictures, and the errors of pipelines that ignore timestamps.

Uses the readers and the rules (timeline.py) of packing, but keeps only timestamps and lengths.
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
from shards.media.container import Declaration, File, Kind, read_declaration
from shards.media.decoding import DecodeLog, demux_packets
from shards.media.pictures import decode_pictures, first_picture, video_edits
from shards.media.pictures import reject_broken as reject_broken_pictures
from shards.media.sound import MARGIN_SECONDS, decode_sound
from shards.media.sound import reject_broken as reject_broken_sound
from shards.sync import PIPELINES, Edits, Error, Gap, Packing, Pictures, Sound, Sync

# Between two runs of sound a step of this much or more is a gap or an overlap: a lost packet of any codec is longer.
# Several smaller steps in one direction are drift, which `runs_of_sound` follows in steps of 4 ms.
GAP_SECONDS = 0.015
DRIFT_STEPS = 2
# The frame rate is variable where intervals differ by more than this share of their median. Containers that count in
# milliseconds round 16.7 to 16 and 17.
VARIABLE_SHARE = 0.25


def measure_sync(file: File, *, seconds: float) -> Sync:
    """Sync of the first `seconds` of a file; raises Rejected and BadEditList as reading a clip does."""
    with file.open() as container:
        declared = read_declaration(container)
        pictures = _PictureStamps.read(file, container, declared, seconds=seconds)
    stamps, unit = pictures.stamps, pictures.unit
    times = np.array([float(stamp * unit) for stamp in stamps])
    parts_before = len(file.parts)
    sound = _SoundRuns.read(file, until=times[0] + seconds)
    if len(file.parts) > max(1, parts_before):  # only the sound revealed them: read the pictures again
        return measure_sync(file, seconds=seconds)
    clock = timeline.TickClock(start=stamps[0] * unit, unit=unit)
    fps = declared.video["declared_fps"]
    edits = _edits(file, declared.container["container"], pictures)
    errors = naive_errors(times[pictures.cut :], fps=fps, sound=sound)
    if edits:
        shift = edits.sound - edits.pictures
        errors["edit_lists_ignored"] = Error(abs(shift), shift)
    return Sync(
        container=declared.container["container"],
        parts=max(1, len(file.parts)),
        offset=sound.starts[0] - times[0],
        pictures=_picture_summary(
            times, cut=pictures.cut, end=float(pictures.end * unit), codec=declared.video["codec"], declared_fps=fps
        ),
        sound=sound.summary(declared.audio, zero=times[0], left_out=_priming_seconds(file, start=sound.starts[0])),
        edits=edits,
        packing=_packing_summary(
            [clock.first_tick(stamp) for stamp in stamps],
            pictures_end=max(0, clock.first_tick(pictures.end)),
            limit=seconds * TICKS_PER_SECOND,
            sound=sound,
            zero=times[0],
            edit_list_ignored=not file.edit_lists,
        ),
        errors=errors,
    )


@dataclass(frozen=True)
class _PictureStamps:
    """Presentation timestamps of the pictures and the end of the last one, in `unit` seconds.

    shift: added to the stored timestamps by the first edit; None where there are no edits or libav applies them.
    cut: whether the first picture begins before its edit, which shortens it.
    hidden: number of packets and pictures that edit lists remove.
    """

    stamps: list[int]
    end: int
    unit: Fraction
    shift: int | None
    cut: bool
    hidden: int

    @classmethod
    def read(cls, file: File, container: Any, declared: Declaration, *, seconds: float) -> _PictureStamps:
        log = DecodeLog()
        decoded = decode_pictures(file, container, log)
        latest = first_picture(decoded, log, declared)
        unit, stamps, corrupt = latest.unit, [latest.stamp], int(latest.frame.is_corrupt)
        edits = video_edits(file, container)
        shift = edits[0].shift if edits else None
        stored = latest.frame.pts
        cut = shift is not None and stored is not None and stored + shift < latest.stamp
        for latest in decoded:
            if (latest.stamp - stamps[0]) * unit >= seconds:
                break
            stamps.append(latest.stamp)
            corrupt += latest.frame.is_corrupt
        end = max(latest.stamp + latest.duration, stamps[-1]) if latest.stamp == stamps[-1] else latest.stamp
        ticks = int((end - stamps[0]) * unit * TICKS_PER_SECOND)
        reject_broken_pictures(file, log, decoded=len(stamps), corrupt=corrupt, ticks=ticks)
        return cls(stamps, end, unit, shift, cut, log.hidden)


def _picture_summary(times: np.ndarray, *, cut: bool, end: float, codec: str, declared_fps: float | None) -> Pictures:
    intervals = np.diff(times) if len(times) > 1 else np.zeros(1)
    complete = intervals[cut:] if len(intervals) > 1 else intervals
    spread, span = np.ptp(complete), complete.sum()
    return Pictures(
        codec=codec,
        count=len(times),
        start=float(times[0]),
        end=end,
        declared_fps=declared_fps,
        fps=float(len(complete) / span) if span > 0 else None,
        shortest_interval=float(complete.min()),
        longest_interval=float(complete.max()),
        variable_rate=bool(spread > VARIABLE_SHARE * np.median(complete)),
    )


@dataclass(frozen=True)
class _SoundRuns:
    """The gapless runs of a sound, float64 (runs,) each, seconds."""

    starts: np.ndarray  # by timestamps
    counted_starts: np.ndarray  # by the number of samples since the first
    durations: np.ndarray
    first_stamp: float
    rate_hz: int

    @classmethod
    def read(cls, file: File, *, until: float) -> _SoundRuns:
        log = DecodeLog()
        stamps: list[float] = []
        lengths: list[int] = []
        formats: list[timeline.SoundFormat] = []
        for frame in decode_sound(file, None, log):
            units = frame.pts if frame.pts is not None else frame.dts
            stamp = math.nan if units is None else units * float(frame.time_base)
            if stamp > until + MARGIN_SECONDS:
                break
            if frame.samples:
                stamps.append(stamp)
                lengths.append(frame.samples)
                formats.append(timeline.SoundFormat(frame.format.name, frame.layout.name, frame.sample_rate))
        reject_broken_sound(log, decoded=len(stamps))
        runs = timeline.runs_of_sound(stamps, lengths, formats)
        runs = [run for run in runs if run.start_seconds < until] or runs[:1]
        starts = np.array([run.start_seconds for run in runs])
        durations = np.array([sum(lengths[run.first : run.last]) / formats[run.first].rate_hz for run in runs])
        durations[-1] = min(durations[-1], max(until - starts[-1], 1 / formats[0].rate_hz))
        first_stamp = float(starts[0]) if math.isnan(stamps[0]) else stamps[0]
        return cls(starts, np.concatenate([[0], np.cumsum(durations)[:-1]]), durations, first_stamp, formats[0].rate_hz)

    @property
    def end(self) -> float:
        return float(self.starts[-1] + self.durations[-1])

    def time_of(self, counted: np.ndarray) -> np.ndarray:
        """Presentation times of the samples `counted` seconds of samples after the first; NaN where there are none."""
        run = np.searchsorted(self.counted_starts, counted, side="right") - 1
        times = self.starts[run] + counted - self.counted_starts[run]
        return np.where((counted >= 0) & (counted < self.counted_starts[-1] + self.durations[-1]), times, np.nan)

    def summary(self, declared: dict[str, Any], *, zero: float, left_out: float) -> Sound:
        steps = self.starts[1:] - (self.starts[:-1] + self.durations[:-1])
        small = steps[np.abs(steps) < GAP_SECONDS]
        drifts = len(small) >= DRIFT_STEPS and len({*np.sign(small)}) == 1
        is_gap = (np.abs(steps) >= GAP_SECONDS) | (not drifts)
        ends = self.starts[:-1] + self.durations[:-1] - zero
        # A line is fitted to the difference of timestamps and sample count at the middles of the runs.
        departures = np.concatenate([[0], np.cumsum(np.where(is_gap, 0, steps))])
        middles = self.counted_starts + self.durations / 2
        slope = float(np.polyfit(middles, departures, 1, w=np.sqrt(self.durations))[0]) if departures.any() else 0.0
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
            drift=slope * float(self.durations.sum()),
            drift_ppm=slope * 1e6,
        )


def naive_errors(times: np.ndarray, *, fps: float | None, sound: _SoundRuns) -> dict[str, Error]:
    """Errors of the PIPELINES that use numbers of frames or samples as times, over pictures at `times`, seconds."""
    start = sound.starts[0]
    elapsed = times - times[0]
    sound_times = {
        "start_ignored": start + elapsed,
        "samples_counted": sound.time_of(times - start),
    }
    if fps:
        numbers = np.arange(len(times)) / fps
        sound_times |= {"constant_rate": times[0] + numbers, "all_three": sound.time_of(numbers)}
    errors = {}
    for name in PIPELINES:
        if name in sound_times:
            delays = (sound_times[name] - times)[~np.isnan(sound_times[name])]
            if delays.size:
                errors[name] = Error(float(np.median(np.abs(delays))), float(delays[np.abs(delays).argmax()]))
    return errors


def _packing_summary(
    pictures: Sequence[int], *, pictures_end: int, limit: float, sound: _SoundRuns, zero: float, edit_list_ignored: bool
) -> Packing:
    """Summarizes packing; pictures: the first tick at or after each picture's timestamp."""
    sound_end = math.ceil((sound.end - zero) * TICKS_PER_SECOND)
    ticks = timeline.clip_ticks(pictures_end, sound_end, limit=max(pictures_end, limit))
    shown_count = len({tick for tick in pictures if tick < ticks})
    offset = sound.starts[0] - zero
    usable = centers(
        ticks=ticks,
        sound_from=max(0, round(offset * SAMPLE_RATE_HZ)),
        sound_to=round((sound.end - zero) * SAMPLE_RATE_HZ),
    )
    return Packing(
        ticks=ticks,
        frames_left_out=len(pictures) - shown_count,
        frames_repeated=pictures_end - shown_count,
        held=(ticks - pictures_end) / TICKS_PER_SECOND,
        silence=max(0.0, offset),
        cut=max(0.0, -offset),
        edit_list_ignored=edit_list_ignored,
        too_short=not usable,
    )


def _edits(file: File, container: str, stamps: _PictureStamps) -> Edits | None:
    if not file.edit_lists or "mp4" not in container:
        return None
    pictures = _edit_shift(file, "video") if stamps.shift is None else float(stamps.shift * stamps.unit)
    edits = Edits(pictures=pictures, sound=_edit_shift(file, "audio"), hidden_pictures=stamps.hidden)
    return edits if edits.pictures or edits.sound or stamps.hidden else None


def _edit_shift(file: File, kind: Kind) -> float:
    """Shift of the first packet of a stream by the file's edit lists, seconds."""
    for position, edited_stamp in _packet_stamps(file, kind):
        for other_position, stamp in _packet_stamps(replace(file, edit_lists=False), kind):
            if position == other_position:
                return edited_stamp - stamp
    return 0.0


def _priming_seconds(file: File, *, start: float) -> float:
    """Time between the first packet of the sound and its start, seconds: the codec's priming."""
    return next((max(0.0, start - stamp) for _, stamp in _packet_stamps(file, "audio")), 0.0)


def _packet_stamps(file: File, kind: Kind) -> Iterator[tuple[int, float]]:
    """Byte positions of the packets of a stream and their timestamps in seconds."""
    with file.open() as container:
        for packet in demux_packets(container, kind, DecodeLog()):
            if packet.pts is not None and packet.size:
                yield packet.pos, float(packet.pts * packet.time_base)
