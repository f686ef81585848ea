"""Decodes a clip's sound to 48 kHz mono and places its pieces by their timestamps."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
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
from shards.media.container import File, check_sound_format, choose_stream
from shards.media.decoding import DecodeLog, decode_frames, decode_frames_from
from shards.media.edits import parse_edits

# Sound is decoded with this margin around the clip, against edge effects of resampling and timestamp smoothing.
MARGIN_SECONDS = 1
# Of fewer samples than this libswresample drops some or all.
MIN_RESAMPLED = 512
# Samples per call of the resampler: the system maps larger buffers anew each time, which costs more than resampling.
CHUNK_SAMPLES = 1 << 14


@dataclass(frozen=True)
class DecodedSound:
    """The clip's sound, int16 (samples,), and facts of its decoding; samples outside start and end are padding."""

    samples: np.ndarray
    start_sample: int
    end_sample: int
    facts: dict[str, Any]

    def trim(self, ticks: int) -> DecodedSound:
        """The first `ticks` ticks, int16 (ticks * 1920,); raises Rejected where sound begins only after them."""
        samples = np.zeros(ticks * SAMPLES_PER_TICK, np.int16)
        end_sample = min(self.end_sample, len(samples))
        if self.start_sample >= end_sample:
            seconds = ticks / TICKS_PER_SECOND
            raise Rejected(Reason.NO_AUDIO_SAMPLES, f"none of its sound falls into the clip's {seconds:.2f} s")
        samples[:end_sample] = self.samples[:end_sample]
        return replace(self, samples=samples, end_sample=end_sample)


def read_sound(file: File, unread: InputContainer | None, *, start: Fraction, ticks: int, seek: bool) -> DecodedSound:
    """The sound from `start` (seconds), at most `ticks` of it; unread: the open container, if it was not read from."""
    log = DecodeLog()
    frames = decode_sound(file, unread, log, since=start - MARGIN_SECONDS, seek=seek)
    seconds = ticks / TICKS_PER_SECOND
    zero = float(start)
    stamps: list[float] = []  # of the pieces, seconds after `start`; NaN for none
    pieces: list[np.ndarray] = []  # float32 (samples,), mono
    lengths: list[int] = []
    formats: list[timeline.SoundFormat] = []
    mixer: Graph | None = None
    position = seconds_collected = 0.0
    decoded = pieces_beyond = 0
    for frame in frames:
        decoded += 1
        units = frame.pts if frame.pts is not None else frame.dts
        position = position if units is None else units * float(frame.time_base) - zero
        seconds_of_piece = frame.samples / frame.sample_rate
        # Several pieces beyond the end are required: a single one may have a wrong timestamp. The amount is bounded
        # also, since there are files in which all timestamps are equal.
        pieces_beyond = pieces_beyond + 1 if position > seconds + MARGIN_SECONDS else 0
        if pieces_beyond > 4 or seconds_collected > 2 * seconds + 60:
            break
        if frame.samples and position + seconds_of_piece > -MARGIN_SECONDS:
            check_sound_format(frame.sample_rate, frame.layout.nb_channels)
            sound_format = timeline.SoundFormat(frame.format.name, frame.layout.name, frame.sample_rate)
            if mixer is None or sound_format != formats[-1]:
                mixer = make_mixer(sound_format, channels=frame.layout.nb_channels)
            stamps.append(math.nan if units is None else position)
            mixer.push(frame)
            pieces.append(mixer.pull().to_ndarray()[0])
            lengths.append(frame.samples)
            formats.append(sound_format)
            seconds_collected += seconds_of_piece
        position += seconds_of_piece
    reject_broken(log, decoded=decoded)
    runs = timeline.runs_of_sound(stamps, lengths, formats)
    run_ends = (run.start_seconds + sum(lengths[run.first : run.last]) / formats[run.first].rate_hz for run in runs)
    length = math.ceil((max(run_ends, default=0) + MARGIN_SECONDS) * SAMPLE_RATE_HZ)
    samples = np.zeros(max(0, min(ticks * SAMPLES_PER_TICK, length)), np.int16)
    start_sample, end_sample = len(samples), 0
    for run in runs:
        sound = _resample(np.concatenate(pieces[run.first : run.last]), formats[run.first].rate_hz)
        offset = round(run.start_seconds * SAMPLE_RATE_HZ)
        low, high = max(0, offset), min(len(samples), offset + len(sound))
        if low < high:
            samples[low:high] = sound[low - offset : high - offset]
            start_sample, end_sample = min(start_sample, low), max(end_sample, high)
    facts = {"decoded": decoded, "runs": len(runs), "errors": log.errors}
    return DecodedSound(samples=samples, start_sample=start_sample, end_sample=end_sample, facts=facts)


def decode_sound(
    file: File, unread: InputContainer | None, log: DecodeLog, *, since: Fraction = Fraction(0), seek: bool = False
) -> Iterator[Any]:
    """The pieces of sound of a file with its edit lists applied; by seeking to before `since` (seconds), if `seek`.

    libav begins every edit after the first with a whole packet, and plays the track's beginning in a gap between two.
    Here every edit keeps its pieces in place; a piece in which an edit begins or ends is whole. unread: an open
    container of the file, if it was not read from.
    """
    with contextlib.nullcontext(unread) if unread else file.open() as container:
        stream = choose_stream(container, "audio")
        unit, edits = Fraction(stream.time_base), []
        if file.edit_lists and "mp4" in container.format.name and len(file.headers) == 1:
            edits = parse_edits(file.content, track=stream.id, unit=unit)
        if len(edits) < 2 and not any(edit.hold or (edit.end is None and edit.shown_at) for edit in edits):
            if seek:
                yield from decode_frames_from(file, "audio", log, time=since, seek=seek)
            else:
                yield from decode_frames(file, container, "audio", log)
            return
    for edit in edits:
        time = max(edit.start, int(since / unit) - edit.shift)
        if edit.hold or (edit.end is not None and edit.end <= time):
            continue
        unedited = replace(file, edit_lists=False)
        for frame in decode_frames_from(unedited, "audio", log, time=time * unit, seek=True):
            if frame.pts is None:
                continue
            if edit.end is not None and frame.pts >= edit.end:
                break
            if frame.pts * unit + Fraction(frame.samples, frame.sample_rate) > edit.start * unit:
                frame.pts += edit.shift
                yield frame


def channel_levels(file: File, *, start: Fraction, ticks: int, seek: bool) -> list[float]:
    """Level of each channel of the clip's sound before mixing, dBFS: the standard deviation."""
    end = start + Fraction(ticks, TICKS_PER_SECOND)
    splitter: Graph | None = None
    sound_format: timeline.SoundFormat | None = None
    sums: list[np.ndarray] = []  # of each piece: number of samples, sum and sum of squares of each channel
    for frame in decode_sound(file, None, DecodeLog(), since=start, seek=seek):
        units = frame.pts if frame.pts is not None else frame.dts
        if units is not None and units * frame.time_base >= end:
            break
        channels = frame.layout.nb_channels
        if not frame.samples or (sums and sums[0].shape[1] != channels):
            continue
        piece_format = timeline.SoundFormat(frame.format.name, frame.layout.name, frame.sample_rate)
        if splitter is None or piece_format != sound_format:
            splitter, sound_format = _graph(piece_format, ("aformat", "sample_fmts=flt")), piece_format
        splitter.push(frame)
        piece = np.nan_to_num(splitter.pull().to_ndarray().reshape(-1, channels).astype(np.float64))
        sums.append(np.stack([np.full(channels, len(piece)), piece.sum(axis=0), (piece**2).sum(axis=0)]))
    if not sums:
        return []
    count, total, squares = np.sum(sums, axis=0)
    return [dbfs(float(deviation)) for deviation in np.sqrt(np.maximum(0, squares / count - (total / count) ** 2))]


def side_level(file: File, *, seconds: float) -> float | None:
    """Level of the side signal (left - right) relative to the middle (left + right), dB, over the first `seconds`.

    None where there are not two channels, or the middle is digital silence.
    """
    middle = side = seconds_read = 0.0
    with file.open() as container:
        if choose_stream(container, "audio").codec_context.channels != 2:
            return None
        for frame in decode_frames(file, container, "audio", DecodeLog()):
            if frame.layout.nb_channels != 2 or seconds_read >= seconds:
                break
            samples = frame.to_ndarray().astype(np.float64)
            left, right = samples if len(samples) == 2 else samples.reshape(-1, 2).T
            middle, side = middle + float(np.square(left + right).sum()), side + float(np.square(left - right).sum())
            seconds_read += frame.samples / frame.sample_rate
    return dbfs(math.sqrt(side / middle)) if middle else None


def reject_broken(log: DecodeLog, *, decoded: int) -> None:
    """Raises Rejected where `decoded` pieces of sound are too few."""
    if log.errors > decoded:
        raise Rejected(Reason.UNDECODABLE, f"{decoded} pieces of sound decode ({log})")
    if not decoded:
        raise Rejected(Reason.NO_AUDIO_SAMPLES, f"nothing comes out of its audio stream ({log})")


def make_mixer(sound_format: timeline.SoundFormat, *, channels: int) -> Graph:
    """A filter graph that mixes sound of this format down to mono, as float32 at the same rate.

    By libswresample's matrix with weights that sum to one: the mean of two channels; of surround sound center, left,
    right and the surrounds with falling weights, without low-frequency channels and those without a weight. The mean of
    all channels where they have no names or there is no matrix: libswresample would guess the names by their number
    and drop one as low-frequency. The first one of ambisonics, which has all sound.

    Done by libav, not numpy: PyAV reads past the end of its pointers where sound has eight planes or more.
    """
    mono = ("aformat", f"sample_fmts=flt:channel_layouts=mono:sample_rates={sound_format.rate_hz}")
    if sound_format.layout != f"{channels} channels":  # libav's name for unnamed channels
        with contextlib.suppress(FFmpegError):
            return _graph(sound_format, ("aresample", "rematrix_maxval=1.0"), mono)
    heard = 1 if sound_format.layout.startswith("ambisonic") else channels  # the others of it are directions
    mean = "mono|c0<" + "+".join(f"c{channel}" for channel in range(heard))
    return _graph(sound_format, ("aformat", "sample_fmts=flt"), ("pan", mean), mono)  # pan keeps the sample format


def _graph(of: timeline.SoundFormat, *filters: tuple[str, str]) -> Graph:
    graph = Graph()
    source = graph.add("abuffer", sample_fmt=of.samples, channel_layout=of.layout, sample_rate=str(of.rate_hz))
    chain = [graph.add(name, arguments) for name, arguments in filters]
    graph.link_nodes(source, *chain, graph.add("abuffersink")).configure()
    return graph


def _resample(sound: np.ndarray, rate_hz: int) -> np.ndarray:
    """Resamples mono sound, float32 (samples,), to int16 at 48 kHz; the first sample keeps its time."""
    length = None
    if len(sound) < MIN_RESAMPLED:
        length = -(-len(sound) * SAMPLE_RATE_HZ // rate_hz)
        sound = np.pad(sound, (0, MIN_RESAMPLED), mode="symmetric")
    resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
    starts = range(0, len(sound), CHUNK_SAMPLES)
    frames = (_mono_frame(sound[start : start + CHUNK_SAMPLES], rate_hz) for start in starts)
    resampled = chain.from_iterable(map(resampler.resample, chain(frames, [None])))
    return np.concatenate([_as_int16(piece.to_ndarray()[0]) for piece in resampled if piece is not None])[:length]


def _mono_frame(sound: np.ndarray, rate_hz: int) -> AudioFrame:
    frame = AudioFrame.from_ndarray(sound[None], format="flt", layout="mono")
    frame.sample_rate = rate_hz
    return frame


def _as_int16(sound: np.ndarray) -> np.ndarray:
    samples: np.ndarray = np.clip(np.rint(np.nan_to_num(sound) * 32768), -32768, 32767).astype(np.int16)
    return samples
