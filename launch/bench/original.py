"""What decoding the original video files costs: for each pair, as without packing, and once from the beginning on."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.container import InputContainer

from avc.data.sampler import Rows
from launch.bench.loader import OriginalResult
from shards.file_slice import Descriptor, Window
from shards.format import HALF_SECOND_SAMPLES, SAMPLE_RATE_HZ, TICKS_PER_SECOND
from shards.media.container import CONTAINERS, open_container
from shards.read import Shards
from shards.record import KEY_DIGITS
from shards.sources import Source

OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}


def decode_pair(
    frame_file: Path, sound_file: Path, *, frame_seconds: float, sound_seconds: float, size: tuple[int, int]
) -> bool:
    """Decode the frame at one time of a file and the second of sound at a time of another, or of the same one.

    Times are seconds from the file's beginning. The frame is scaled to `size`, width by height in pixels, as RGB; the
    sound is resampled to 48 kHz mono. False where the files do not give both.
    """
    with contextlib.ExitStack() as stack:
        try:
            first = stack.enter_context(_open(frame_file))
            second = first if sound_file == frame_file else stack.enter_context(_open(sound_file))
            return _decode_frame(first, frame_seconds, size) and _decode_sound(second, sound_seconds)
        except av.error.FFmpegError:
            return False


def decode_stretch(source: Source, seconds: float) -> int:
    """Decode the first `seconds` of a source's pictures and sound and drop them; the number of decoded frames."""
    whole: Path | io.BufferedReader = Path(source.path)
    if source.offset is not None:
        whole = io.BufferedReader(Window(Descriptor(source.path), offset=source.offset, size=source.size))
    frames = 0
    with _open(whole) as container:
        streams = {stream.index: stream for stream in (*container.streams.video[:1], *container.streams.audio[:1])}
        begins = min(float((stream.start_time or 0) * (stream.time_base or 0)) for stream in streams.values())
        pending = set(streams)
        for packet in container.demux(*streams.values()):
            if packet.stream.index not in pending:
                continue
            for frame in _decoded(packet):
                frames += 1
                if frame.time is not None and frame.time >= begins + seconds:
                    pending.discard(packet.stream.index)
            if not pending:
                break
    return frames


def _open(file: Path | io.BufferedReader) -> InputContainer:
    """A video file with its decoders on one thread each: what is compared is processes, one to a core."""
    container = open_container(file, options=OPTIONS)
    for stream in container.streams:
        if stream.type in ("video", "audio") and stream.codec_context is not None:
            stream.codec_context.thread_count = 1
    return container


def _decoded(packet: av.Packet[Any]) -> Sequence[Any]:
    try:
        return packet.decode()
    except av.error.InvalidDataError:  # after a seek, for one, a decoder may lack what came before
        return ()


def _decode_frame(container: InputContainer, seconds: float, size: tuple[int, int]) -> bool:
    stream = container.streams.video[0]
    if stream.time_base is None:
        return False
    target = (stream.start_time or 0) + round(seconds / stream.time_base)
    container.seek(target, stream=stream)
    shown = None
    for frame in (frame for packet in container.demux(stream) for frame in _decoded(packet)):
        if shown is not None and frame.pts is not None and frame.pts > target:
            break
        shown = frame
    if shown is None:
        return False
    shown.to_ndarray(format="rgb24", width=size[0], height=size[1])
    return True


def _decode_sound(container: InputContainer, seconds: float) -> bool:
    stream = container.streams.audio[0]
    if stream.time_base is None:
        return False
    start = (stream.start_time or 0) + round(seconds / stream.time_base)
    container.seek(start, stream=stream)
    resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
    samples = 0
    for frame in (frame for packet in container.demux(stream) for frame in _decoded(packet)):
        if frame.pts is None or (frame.pts - start) * stream.time_base + frame.samples / frame.sample_rate > 0:
            samples += sum(part.to_ndarray().size for part in resampler.resample(frame))
        if samples >= SAMPLE_RATE_HZ:
            return True
    return samples > 0


class Originals:
    """Decodes pair after pair from the video files that the clips came from."""

    def __init__(self, shards: Shards, rows: Rows, folder: Path) -> None:
        clips = np.union1d(rows.frame_clip, rows.audio_clip).tolist()
        self._files = _find_originals(shards, clips, folder)
        self._start = shards.manifest.settings.start_seconds
        self._size = {clip: (int(shards.index[clip]["width"]), int(shards.index[clip]["height"])) for clip in clips}
        self._rows = itertools.cycle(
            zip(
                rows.frame_clip.tolist(),
                rows.frame_tick.tolist(),
                rows.audio_clip.tolist(),
                rows.audio_center.tolist(),
                strict=True,
            )
        )
        self._seconds: list[float] = []
        self._failures = 0

    def run_for(self, seconds: float, *, warm_up: bool) -> None:
        """Decode pairs for so long, and at least one."""
        began = time.perf_counter()
        while (pair_began := time.perf_counter()) - began < seconds or pair_began == began:
            frame_clip, tick, audio_clip, center = next(self._rows)
            came = decode_pair(
                self._files[frame_clip],
                self._files[audio_clip],
                frame_seconds=self._start + tick / TICKS_PER_SECOND,
                sound_seconds=self._start + (center - HALF_SECOND_SAMPLES) / SAMPLE_RATE_HZ,
                size=self._size[frame_clip],
            )
            if not warm_up:
                self._seconds.append(time.perf_counter() - pair_began)
                self._failures += not came

    def result(self, loader_pairs_per_second: float) -> OriginalResult:
        """What all rounds took, beside the loader."""
        mean, median = 1 / statistics.mean(self._seconds), 1 / statistics.median(self._seconds)
        return OriginalResult(
            pairs=len(self._seconds),
            failures=self._failures,
            pairs_per_second=mean,
            median_pair_per_second=median,
            times=loader_pairs_per_second / mean,
            times_median_pair=loader_pairs_per_second / median,
        )


def _find_originals(shards: Shards, clips: Sequence[int], folder: Path) -> dict[int, Path]:
    """The file of each clip, by the name in its record; among several of a name, by its content's hash."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise ValueError(f"--originals is {folder}, which is not a folder: give the one that holds the packed videos")
    by_name: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        by_name.setdefault(path.name, []).append(path)
    files = {}
    for clip in clips:
        name = shards.info(clip)["name"]
        found = by_name.get(name, [])
        if len(found) > 1:
            found = [path for path in found if path.is_file() and _key(path) == shards.key(clip)]
        if not found:
            raise ValueError(
                f"{folder} has no {name}, of which clip {shards.key(clip)} in {shards.folder} was made: give the "
                "folder that was packed, or leave out --originals"
            )
        files[clip] = found[0]
    return files


def _key(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:KEY_DIGITS]
