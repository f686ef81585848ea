"""A clip's sound: 48 kHz mono, each piece of it where its time stamp says."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from av.error import FFmpegError
from av.filter import Graph

from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK, TICKS_PER_SECOND, Reason
from shards.media import timeline
from shards.media.clip import Rejected, dbfs
from shards.media.container import File, bound_sound, stream_of
from shards.media.decoding import Record, decoded_frames, frames_into

# Sound is decoded this far around the clip, so that neither resampling nor the smoothing of stamps ends at its edges.
MARGIN_SECONDS = 1
# Of fewer than this libswresample gives back less than there was, down to nothing.
FEW_SAMPLES = 512
# As many are resampled in a step: the system maps larger pieces anew each time, which takes longer than the sums.
AT_ONCE = 1 << 14


@dataclass(frozen=True)
class DecodedSound:
    """The clip's sound, and facts about its decoding."""

    samples: np.ndarray  # int16, up to where it ends
    begins: int
    ends: int
    facts: dict[str, Any]

    def first(self, ticks: int) -> DecodedSound:
        """As many ticks of it, int16 (ticks * 1920,); raises Rejected where it has not begun by then."""
        samples = np.zeros(ticks * SAMPLES_PER_TICK, np.int16)
        ends = min(self.ends, len(samples))
        if self.begins >= ends:
            seconds = ticks / TICKS_PER_SECOND
            raise Rejected(Reason.NO_AUDIO_SAMPLES, f"none of its sound falls into the clip's {seconds:.2f} s")
        samples[:ends] = self.samples[:ends]
        return replace(self, samples=samples, ends=ends)


def read_sound(file: File, unread: InputContainer | None, *, start: Fraction, ticks: int, seek: bool) -> DecodedSound:
    """The sound from `start` on, `ticks` of it at most; `unread`: the file, opened, if nothing has been read of it."""
    record = Record()
    if unread is not None and not seek:
        frames = decoded_frames(file, unread, "audio", record)
    else:
        frames = frames_into(file, "audio", record, time=start - MARGIN_SECONDS, seek=seek)
    seconds = ticks / TICKS_PER_SECOND
    zero = float(start)
    stamps: list[float] = []  # of the pieces, seconds after `start`; NaN where the file has none
    pieces: list[np.ndarray] = []  # float32 (samples,), mixed down to one channel
    lengths: list[int] = []
    forms: list[timeline.Form] = []
    mixer: Graph | None = None
    position = collected = 0.0
    decoded = beyond = 0
    for frame in frames:
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
            form = timeline.Form(frame.format.name, frame.layout.name, frame.sample_rate)
            if mixer is None or form != forms[-1]:
                mixer = mixer_of(form, channels=frame.layout.nb_channels)
            stamps.append(math.nan if units is None else position)
            mixer.push(frame)
            pieces.append(mixer.pull().to_ndarray()[0])
            lengths.append(frame.samples)
            forms.append(form)
            collected += lasts
        position += lasts
    refuse_broken(record, decoded=decoded)
    runs = timeline.runs_of_sound(stamps, lengths, forms)
    ends_at = (run.start_seconds + sum(lengths[run.first : run.last]) / forms[run.first].rate_hz for run in runs)
    reach = math.ceil((max(ends_at, default=0) + MARGIN_SECONDS) * SAMPLE_RATE_HZ)
    samples = np.zeros(max(0, min(ticks * SAMPLES_PER_TICK, reach)), np.int16)
    begins, ends = len(samples), 0
    for run in runs:
        sound = _at_48_khz(np.concatenate(pieces[run.first : run.last]), forms[run.first].rate_hz)
        at = round(run.start_seconds * SAMPLE_RATE_HZ)
        low, high = max(0, at), min(len(samples), at + len(sound))
        if low < high:
            samples[low:high] = sound[low - at : high - at]
            begins, ends = min(begins, low), max(ends, high)
    facts = {"decoded": decoded, "runs": len(runs), "errors": record.errors}
    return DecodedSound(samples=samples, begins=begins, ends=ends, facts=facts)


def channel_levels(file: File, *, start: Fraction, ticks: int, seek: bool) -> list[float]:
    """The level of each channel of the clip's sound before they are mixed, dBFS: root mean square without the mean."""
    end = start + Fraction(ticks, TICKS_PER_SECOND)
    splitter: Graph | None = None
    form: timeline.Form | None = None
    sums: list[np.ndarray] = []  # of each piece: number of samples, sum and sum of squares of each channel
    for frame in frames_into(file, "audio", Record(), time=start, seek=seek):
        units = frame.pts if frame.pts is not None else frame.dts
        if units is not None and units * frame.time_base >= end:
            break
        channels = frame.layout.nb_channels
        if not frame.samples or (sums and sums[0].shape[1] != channels):
            continue
        piece_form = timeline.Form(frame.format.name, frame.layout.name, frame.sample_rate)
        if splitter is None or piece_form != form:
            splitter, form = _graph(piece_form, ("aformat", "sample_fmts=flt")), piece_form
        splitter.push(frame)
        piece = np.nan_to_num(splitter.pull().to_ndarray().reshape(-1, channels).astype(np.float64))
        sums.append(np.stack([np.full(channels, len(piece)), piece.sum(axis=0), (piece**2).sum(axis=0)]))
    if not sums:
        return []
    count, total, squares = np.sum(sums, axis=0)
    return [dbfs(float(deviation)) for deviation in np.sqrt(np.maximum(0, squares / count - (total / count) ** 2))]


def side_level(file: File, *, seconds: float) -> float | None:
    """The level of what two channels do not share, relative to what they do, dB, over the first `seconds`.

    None where there are not two, or nothing is heard.
    """
    middle = side = held = 0.0
    with file.opened() as container:
        if stream_of(container, "audio").codec_context.channels != 2:
            return None
        for frame in decoded_frames(file, container, "audio", Record()):
            if frame.layout.nb_channels != 2 or held >= seconds:
                break
            samples = frame.to_ndarray().astype(np.float64)
            left, right = samples if len(samples) == 2 else samples.reshape(-1, 2).T
            middle, side = middle + float(np.square(left + right).sum()), side + float(np.square(left - right).sum())
            held += frame.samples / frame.sample_rate
    return dbfs(math.sqrt(side / middle)) if middle else None


def refuse_broken(record: Record, *, decoded: int) -> None:
    """Raises Rejected where `decoded` pieces of sound are too few."""
    if record.errors > decoded:
        raise Rejected(Reason.UNDECODABLE, f"{decoded} pieces of sound decode ({record})")
    if not decoded:
        raise Rejected(Reason.NO_AUDIO_SAMPLES, f"nothing comes out of its audio stream ({record})")


def mixer_of(form: timeline.Form, *, channels: int) -> Graph:
    """Mixes sound of this form down to one channel, as float32 at the same rate.

    By libswresample's matrix, scaled so that its weights sum to one: the mean of two channels; of surround sound
    center, left and right, and the surrounds with falling weights, without the low-frequency channels and those above
    or behind that the matrix has no weight for. Where the file does not name its channels, and where there is no
    matrix, the mean of all: libswresample would guess names by their number, and leave one out as low-frequency.

    libav does it and not numpy: PyAV reads past the end of its pointers where sound is in eight planes or more.
    """
    mono = ("aformat", f"sample_fmts=flt:channel_layouts=mono:sample_rates={form.rate_hz}")
    if form.layout != f"{channels} channels":  # libav's name for a number of channels without names
        with contextlib.suppress(FFmpegError):
            return _graph(form, ("aresample", "rematrix_maxval=1.0"), mono)
    mean = "mono|c0<" + "+".join(f"c{channel}" for channel in range(channels))
    return _graph(form, ("aformat", "sample_fmts=flt"), ("pan", mean), mono)  # of 16 bits pan would make 16 bits


def _graph(form: timeline.Form, *filters: tuple[str, str]) -> Graph:
    graph = Graph()
    source = graph.add("abuffer", sample_fmt=form.samples, channel_layout=form.layout, sample_rate=str(form.rate_hz))
    chain = [graph.add(name, arguments) for name, arguments in filters]
    graph.link_nodes(source, *chain, graph.add("abuffersink")).configure()
    return graph


def _at_48_khz(sound: np.ndarray, rate_hz: int) -> np.ndarray:
    """Sound of one channel, float32 (samples,), as int16 at 48 kHz; its first sample keeps its place."""
    length = None
    if len(sound) < FEW_SAMPLES:
        length = -(-len(sound) * SAMPLE_RATE_HZ // rate_hz)
        sound = np.pad(sound, (0, FEW_SAMPLES), mode="symmetric")
    resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
    frames = (_mono(sound[begin : begin + AT_ONCE], rate_hz) for begin in range(0, len(sound), AT_ONCE))
    resampled = chain.from_iterable(map(resampler.resample, chain(frames, [None])))
    return np.concatenate([_as_int16(piece.to_ndarray()[0]) for piece in resampled if piece is not None])[:length]


def _mono(sound: np.ndarray, rate_hz: int) -> AudioFrame:
    frame = AudioFrame.from_ndarray(sound[None], format="flt", layout="mono")
    frame.sample_rate = rate_hz
    return frame


def _as_int16(sound: np.ndarray) -> np.ndarray:
    samples: np.ndarray = np.clip(np.rint(np.nan_to_num(sound) * 32768), -32768, 32767).astype(np.int16)
    return samples
