"""When decoders say that a flash is seen and a beep heard: each as its users would ask it for frames with sound.

Nothing here is imported before a decoder is used: most of them are no dependencies of this project.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name

import numpy as np

from shards.format import SAMPLE_RATE_HZ, TICKS_PER_SECOND, PackSettings
from workshop.decoders.flash_and_beep import FLASH, HEIGHT, MILLISECOND, WIDTH, chirp, seen_in

BEEPS_APART_SECONDS = 0.1  # at least, where a gap that is not kept has brought them together


@dataclass(frozen=True)
class Decoded:
    """What a decoder gives of a file, on its own clock.

    times: when each frame is shown, seconds. flashes: whether each is one. zero: the time of the file's first frame.
    sound: float (samples,), mono. sound_begins: the time of its first sample.
    """

    times: Sequence[float] | np.ndarray
    flashes: Sequence[bool]
    zero: float
    sound: np.ndarray
    rate_hz: int
    sound_begins: float


@dataclass(frozen=True)
class Heard:
    """When flashes begin and beeps begin, seconds after the first frame, on a decoder's clock."""

    flashes: list[float]
    beeps: list[float]


@dataclass(frozen=True)
class Decoder:
    """A way to decode. needs: modules and programs. frames_hz: of frames of its own, None for the file's."""

    name: str
    package: str
    decode: Callable[[str], Decoded]
    needs: tuple[str, ...] = ()
    frames_hz: float | None = None

    @property
    def lacks(self) -> str | None:
        """The first of its needs that is not installed."""
        return next((need for need in self.needs if not _is_here(need)), None)

    @property
    def version(self) -> str:
        """Version of the package, or of the program."""
        if self.package == "ffmpeg":
            line = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=False).stdout
            return re.sub(r"^ffmpeg version (\S+).*", r"ffmpeg \1", line.partition("\n")[0])
        try:
            return " + ".join(f"{package} {version(package)}" for package in self.package.split(" + "))
        except PackageNotFoundError:
            return "?"

    def find(self, path: str) -> Heard:
        """Flashes and beeps of a file. Raises what the decoder raises."""
        media = self.decode(path)
        begins = [n for n in range(1, len(media.flashes)) if media.flashes[n] and not media.flashes[n - 1]]
        return Heard(
            flashes=[media.times[n] - media.zero for n in begins],
            beeps=[time + media.sound_begins - media.zero for time in beeps_in(media.sound, rate_hz=media.rate_hz)],
        )


def _is_here(need: str) -> bool:
    with suppress(ModuleNotFoundError):  # the package of a module
        return bool(find_spec(need) or shutil.which(need))
    return False


def beeps_in(sound: np.ndarray, *, rate_hz: int) -> list[float]:
    """When each beep begins, seconds after the first sample: peaks of the correlation with one."""
    tone = chirp(rate_hz).astype(np.float64)
    size = 1 << (len(sound) + len(tone)).bit_length()
    spectrum = np.fft.rfft(sound.astype(np.float64), size) * np.conj(np.fft.rfft(tone, size))
    match = np.fft.irfft(spectrum, size)
    match = np.concatenate([match[len(match) - len(tone) :], match[: len(sound)]])  # a beep may have lost its head
    apart = round(BEEPS_APART_SECONDS * rate_hz)
    found: list[int] = []
    limit = match.max() / 2
    while match[peak := int(match.argmax())] > max(limit, 1e-9):
        found.append(peak - len(tone))
        match[max(0, peak - apart) : peak + apart] = 0
    return [at / rate_hz for at in sorted(found)]


def _flashes(frames: Iterable[np.ndarray]) -> list[bool]:
    """Which frames flash, of gray (height, width) ones or those of three colors (height, width, 3)."""
    return [seen_in(frame if frame.ndim == 2 else frame.mean(axis=2))[1] for frame in frames]


def _packing(path: str) -> Decoded:
    import simplejpeg

    from shards.media import read

    clip = read(Path(path), PackSettings(side=48, keep_silent=True, keep_still=True))
    frames = (simplejpeg.decode_jpeg(picture, colorspace="GRAY")[:, :, 0] for picture in clip.pictures)
    times = [tick / TICKS_PER_SECOND for tick in range(clip.ticks)]
    return Decoded(times, _flashes(frames), 0.0, clip.sound / 32768, SAMPLE_RATE_HZ, 0.0)


def _pyav(path: str, *, stamps: bool) -> Decoded:
    """Every frame by its stamp, or by its number; the same of pieces of sound."""
    import av

    with av.open(path) as container:
        rate = float(container.streams.video[0].average_rate or TICKS_PER_SECOND)
        frames = list(container.decode(video=0))
    times = [frame.time or 0.0 if stamps else n / rate for n, frame in enumerate(frames)]
    flashes = _flashes(frame.to_ndarray(format="gray") for frame in frames)
    with av.open(path) as container:
        resampler = av.AudioResampler(format="flt", layout="mono")
        pieces = [piece for frame in container.decode(audio=0) for piece in resampler.resample(frame)]
    rate_hz = pieces[0].sample_rate
    sounds = [piece.to_ndarray()[0] for piece in pieces]
    if not stamps:
        return Decoded(times, flashes, 0.0, np.concatenate(sounds), rate_hz, 0.0)
    begins = pieces[0].time or 0.0
    places = [round(((piece.time or 0.0) - begins) * rate_hz) for piece in pieces]
    line = np.zeros(max(place + len(sound) for place, sound in zip(places, sounds, strict=True)), np.float32)
    for place, sound in zip(places, sounds, strict=True):
        line[max(0, place) : place + len(sound)] = sound[max(0, -place) :]
    return Decoded(times, flashes, times[0], line, rate_hz, begins)


def _torchcodec(path: str, *, mode: str) -> Decoded:
    """The frame that is played at every tick, and all samples from where it says that they begin."""
    from torchcodec.decoders import AudioDecoder, VideoDecoder

    decoder = VideoDecoder(path, seek_mode=mode, num_ffmpeg_threads=1)
    begins, ends = decoder.metadata.begin_stream_seconds, decoder.metadata.end_stream_seconds
    ticks = [begins + tick / TICKS_PER_SECOND for tick in range(int((ends - begins) * TICKS_PER_SECOND))]
    asked = [tick + float(MILLISECOND) for tick in ticks]  # stamps may be rounded
    try:
        batch = decoder.get_frames_played_at(asked)
    except (IndexError, RuntimeError):  # a declared end may lie behind the last frame
        batch = decoder.get_frames_played_at(asked[:-10])
    samples = AudioDecoder(path, num_channels=1).get_all_samples()
    flashes = _flashes(frame.permute(1, 2, 0).numpy() for frame in batch.data)
    zero = float(batch.pts_seconds[0])
    return Decoded(ticks, flashes, zero, samples.data[0].numpy(), samples.sample_rate, samples.pts_seconds)


def _energon(path: str) -> Decoded:
    """All frames and all samples: of frames it says when the first begins and the last ends."""
    from megatron.energon.av import AVDecoder

    with open(path, "rb") as file:
        decoder = AVDecoder(file, suppress_warnings=True)
        media = decoder.get_video_with_audio()
        rate_hz = decoder.get_metadata().audio_sample_rate
    [frames], [sound] = media.video_clips, media.audio_clips
    begins, ends = media.video_timestamps[0]
    times = np.linspace(begins, ends, len(frames), endpoint=False)
    flashes = _flashes(frame.permute(1, 2, 0).numpy() for frame in frames)
    return Decoded(times, flashes, begins, sound.float().mean(0).numpy(), rate_hz, media.audio_timestamps[0][0])


def _decord(path: str) -> Decoded:
    """As its AVReader does: stamps of frames, sound padded to begin at zero."""
    from decord import AudioReader, VideoReader, cpu

    frames = VideoReader(path, ctx=cpu(0), num_threads=1)
    sound = AudioReader(path, ctx=cpu(0), sample_rate=SAMPLE_RATE_HZ, mono=True)
    sound.add_padding()
    times = [float(frames.get_frame_timestamp(n)[0]) for n in range(len(frames))]
    flashes = _flashes(frames[n].asnumpy() for n in range(len(frames)))
    return Decoded(times, flashes, times[0], sound._array[0], SAMPLE_RATE_HZ, 0.0)


def _ffmpeg(path: str, *, frames: Sequence[str], sound: Sequence[str]) -> Decoded:
    """Frames at 25 a second and a sound file, by two calls of the program: both begin at zero."""

    def output(*arguments: str) -> bytes:
        asked = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", "-i", path, *arguments, "-"]
        return subprocess.run(asked, capture_output=True, check=True).stdout

    raw = output("-map", "0:v:0", *frames, "-pix_fmt", "gray", "-f", "rawvideo")
    grays = np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT, WIDTH)
    heard = output("-map", "0:a:0", *sound, "-ac", "1", "-ar", str(SAMPLE_RATE_HZ), "-f", "f32le")
    times = [n / TICKS_PER_SECOND for n in range(len(grays))]
    return Decoded(times, _flashes(grays), 0.0, np.frombuffer(heard, np.float32), SAMPLE_RATE_HZ, 0.0)


def _opencv_librosa(path: str) -> Decoded:
    """Frame n at n / CAP_PROP_FPS, sound from its first sample."""
    import cv2
    import librosa

    capture = cv2.VideoCapture(path)
    rate = capture.get(cv2.CAP_PROP_FPS)
    flashes = _flashes(frame for _, frame in iter(capture.read, (False, None)))
    with warnings.catch_warnings(action="ignore"):  # for each file, of its way to decode
        sound, rate_hz = librosa.load(path, sr=None, mono=True)
    return Decoded([n / rate for n in range(len(flashes))], flashes, 0.0, sound, int(rate_hz), 0.0)


def decoder_of(function: str, *, frames_hz: float | None = None) -> Decoder:
    """The row of anyone's own loader, package.module:function. Raises ValueError where there is none.

    It is called with a file's path and returns five things: frames, uint8 (N, H, W) or (N, H, W, 3), of any size; when
    each is shown, seconds (N,); the sound, float32 (samples,), mono; its rate, samples per second; the time of its
    first sample, seconds, on the clock of the frames.
    """
    try:
        found = resolve_name(function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"--mine is {function!r} and must be package.module:function: {error}") from None
    if not callable(found):
        raise ValueError(f"--mine is {function!r}, which is no function")
    if frames_hz is not None and not frames_hz * FLASH > 1:
        raise ValueError(f"--fps is {frames_hz:g}, and a flash of {float(FLASH)} s would fall between the frames")
    return Decoder(function, re.split("[.:]", function)[0], partial(_own, function=function), frames_hz=frames_hz)


def _own(path: str, *, function: str) -> Decoded:
    frames, times, sound, rate_hz, begins = resolve_name(function)(path)
    frames, times, sound = np.asarray(frames), [float(time) for time in times], np.asarray(sound)
    if frames.dtype != np.uint8 or (frames.ndim != 3 and frames.shape[3:] != (3,)):
        raise ValueError(f"frames are {frames.dtype} {frames.shape}, and not uint8 (N, H, W) or (N, H, W, 3)")
    if not len(frames) or len(frames) != len(times):
        raise ValueError(f"{len(frames)} frames and {len(times)} times")
    if not np.isfinite([*times, begins]).all():
        raise ValueError("a time is not finite")
    if sound.dtype != np.float32 or sound.ndim != 1:
        raise ValueError(f"sound is {sound.dtype} {sound.shape}, and not float32 (samples,)")
    return Decoded(times, _flashes(frames), times[0], sound, int(rate_hz), float(begins))


DECODERS = {
    decoder.name: decoder
    for decoder in (
        Decoder("avc pack", "av", _packing, ("av",), frames_hz=TICKS_PER_SECOND),
        Decoder("PyAV, stamps", "av", partial(_pyav, stamps=True), ("av",)),
        Decoder("PyAV, frame and sample numbers", "av", partial(_pyav, stamps=False), ("av",)),
        Decoder(
            "torchcodec, exact",
            "torchcodec",
            partial(_torchcodec, mode="exact"),
            ("torchcodec",),
            frames_hz=TICKS_PER_SECOND,
        ),
        Decoder(
            "torchcodec, approximate",
            "torchcodec",
            partial(_torchcodec, mode="approximate"),
            ("torchcodec",),
            frames_hz=TICKS_PER_SECOND,
        ),
        Decoder("Energon, AVDecoder", "megatron-energon", _energon, ("megatron.energon", "av")),
        Decoder("decord2, AVReader", "decord2", _decord, ("decord",)),
        Decoder(
            "ffmpeg -r 25, and a wav",
            "ffmpeg",
            partial(_ffmpeg, frames=("-r", "25"), sound=()),
            ("ffmpeg",),
            frames_hz=TICKS_PER_SECOND,
        ),
        Decoder(
            "OpenCV and librosa",
            "opencv-python-headless + librosa",
            _opencv_librosa,
            ("cv2", "librosa", "ffmpeg"),
        ),
    )
}
