"""A clip's sound: 48 kHz mono, each piece of it where its time stamp says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK, TICKS_PER_SECOND, Reason
from shards.media import timeline
from shards.media.clip import Rejected
from shards.media.container import File, bound_sound
from shards.media.decoding import Record, frames_into

# Sound is decoded this far around the clip, so that neither resampling nor the smoothing of stamps ends at its edges.
MARGIN_SECONDS = 1


@dataclass(frozen=True)
class Heard:
    """The clip's sound, and what decoding it found."""

    samples: np.ndarray  # int16 (ticks * 1920,)
    begins: int
    ends: int
    facts: dict[str, Any]


def read_sound(file: File, *, start: Fraction, ticks: int, seek: bool) -> Heard:
    record = Record()
    seconds = ticks / TICKS_PER_SECOND
    zero = float(start)
    stamps: list[float] = []  # of the pieces, seconds after `start`; NaN where the file has none
    pieces: list[np.ndarray] = []  # as the decoder gave them
    lengths: list[int] = []
    forms: list[timeline.Form] = []
    position = collected = 0.0
    decoded = beyond = 0
    for frame in frames_into(file, "audio", record, time=start - MARGIN_SECONDS, seek=seek):
        decoded += 1
        units = frame.pts if frame.pts is not None else frame.dts
        position = position if units is None else units * float(frame.time_base) - zero
        lasts = frame.samples / frame.sample_rate
        # A few pieces beyond the end prove that it is reached: a single one may have a wrong stamp. And whole files of
        # equal stamps exist: what is kept is bounded, whatever the stamps say.
        beyond = beyond + 1 if position > seconds + MARGIN_SECONDS else 0
        if beyond > 4 or collected > 2 * seconds + 60:
            break
        if frame.samples and position + lasts > -MARGIN_SECONDS:
            bound_sound(frame.sample_rate, frame.layout.nb_channels)
            stamps.append(math.nan if units is None else position)
            pieces.append(frame.to_ndarray())
            lengths.append(frame.samples)
            forms.append(timeline.Form(frame.format.name, frame.layout.name, frame.sample_rate))
            collected += lasts
        position += lasts
    if record.errors > decoded:
        raise Rejected(Reason.UNDECODABLE, f"{decoded} pieces of sound decode ({record})")
    if not decoded:
        raise Rejected(Reason.NO_AUDIO_SAMPLES, f"nothing comes out of its audio stream ({record})")

    samples = np.zeros(ticks * SAMPLES_PER_TICK, np.int16)
    begins, ends = len(samples), 0
    runs = timeline.runs_of_sound(stamps, lengths, forms)
    for run in runs:
        sound = _mono_at_48_khz(np.concatenate(pieces[run.first : run.last], axis=1), forms[run.first])
        at = round(run.start_seconds * SAMPLE_RATE_HZ)
        low, high = max(0, at), min(len(samples), at + len(sound))
        if low < high:
            samples[low:high] = sound[low - at : high - at]
            begins, ends = min(begins, low), max(ends, high)
    if begins >= ends:
        raise Rejected(Reason.NO_AUDIO_SAMPLES, f"none of its sound falls into the clip's {seconds:.2f} s")
    facts = {"decoded": decoded, "runs": len(runs), "errors": record.errors}
    return Heard(samples=samples, begins=begins, ends=ends, facts=facts)


def _mono_at_48_khz(sound: np.ndarray, form: timeline.Form) -> np.ndarray:
    """Sound as a decoder gives it, as int16 mono at 48 kHz; its first sample keeps its place.

    Down to one channel by libswresample's matrix, scaled so that its weights sum to one: the mean of two channels; of
    surround sound centre, left and right, and the surrounds with falling weights, without the low-frequency channel.
    """
    frame = AudioFrame.from_ndarray(sound, format=form.samples, layout=form.layout)
    frame.sample_rate = form.rate_hz
    resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ, options={"rematrix_maxval": "1.0"})
    out = [*resampler.resample(frame), *resampler.resample(None)]
    mixed = np.concatenate([piece.to_ndarray()[0] for piece in out if piece is not None])
    samples: np.ndarray = np.clip(np.rint(np.nan_to_num(mixed) * 32768), -32768, 32767).astype(np.int16)
    return samples
