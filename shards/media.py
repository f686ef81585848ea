"""A video file becomes pictures on the tick grid and 48 kHz mono sound, by time stamps and nothing else.

The only module that imports av. Two passes over the clip's part of the file, pictures first: they say where time zero
is and how long the clip lasts, so that the second pass keeps only the sound that belongs to it.

Nothing that a file says about itself is trusted: containers come from a list of formats that hold their own streams,
no other file or address can be opened, sizes are bounded before anything is decoded, and the stamps of decoded pictures
and sound rule over declared rates and durations.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Literal

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from shards import picture, timeline
from shards.clip import STILL_GREY_LEVELS, Clip, Rejected, refuse_useless
from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK, TICKS_PER_SECOND, PackSettings, Reason

__all__ = ["Clip", "Rejected", "read"]

av.logging.set_level(None)  # many decoders' lines on one stderr help nobody: Rejected and Clip.source say what matters

# Containers that hold their streams themselves. Playlists, manifests, scripts and session descriptions (hls, dash,
# concat, sdp, imf ...) are left out, and so are single images and devices.
CONTAINERS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,ogg,asf,flv,mxf,nut,rm,dv,nsv,wtv,ivf,wav,mp3,aac,flac"
)

# Those that declare the size of their pictures: where it is missing, libav found it impossible and dropped it.
SIZED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "asf")

# How files of the kinds above begin: what tells a broken one from one of another kind.
MP4_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"wide", b"free", b"skip")
SIGNATURES = (b"\x1aE\xdf\xa3", b"OggS", b"FLV\x01", b"0&\xb2u\x8ef\xcf\x11", b"\0\0\x01\xba", b"\0\0\x01\xb3")

MAX_SIDE = 16_384  # pixels
MAX_PIXELS = 8_192 * 4_352  # 8K in full; a decoder that keeps 16 reference pictures of it needs about 1 GB
MAX_ASPECT = 16  # long side to short side of the shown picture
MIN_RATE_HZ, MAX_RATE_HZ = 2_000, 384_000
MAX_CHANNELS = 64
MAX_SAMPLES_PER_SECOND = 16 * 192_000  # of all channels together

# A start this far in is sought; an earlier one is reached by decoding from the beginning, which cannot go wrong.
SEEK_FROM_SECONDS = 20
# Seeking aims this much early: decoders of sound need a running start (mp3's bit reservoir, opus's 80 ms).
RUN_UP_SECONDS = 2
# Sound is decoded this far around the clip, so that neither resampling nor the smoothing of stamps ends at its edges.
MARGIN_SECONDS = 1
# A stream is given up when this many packets failed, and more than decoded.
PATIENCE = 200

UNTURNED = (1, 0, 0, 0, 1)  # the first five of a display matrix that changes nothing

Kind = Literal["video", "audio"]


def read(source: Path | BinaryIO, settings: PackSettings) -> Clip:
    """Reads the clip that `settings` names out of a video file, which must be seekable.

    Raises Rejected for everything that cannot be packed.
    """
    with _bytes_of(source) as content:
        try:
            return _read(_File(content), settings)
        except _Hidden:
            return _read(_File(content, edit_lists=False), settings)
        except av.error.MemoryError as error:
            raise Rejected(Reason.TOO_LARGE, "decoding it takes more memory than there is") from error
        except av.error.FFmpegError as error:
            raise Rejected(Reason.UNDECODABLE, f"libav gave up: {error.strerror}") from error


@contextlib.contextmanager
def _bytes_of(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    if not isinstance(source, Path):
        yield source
        return
    try:
        content = source.open("rb")
    except OSError as error:
        raise Rejected(Reason.UNREADABLE, str(error)) from error
    with content:
        yield content


def _read(file: _File, settings: PackSettings) -> Clip:
    with file.opened() as container:
        declared = _examine(container)
        shown = _read_pictures(file, container, settings=settings, declared=declared)
    if not shown.ticks:
        raise Rejected(Reason.TOO_SHORT, f"its pictures end before {settings.start_seconds} s")
    heard = _read_sound(file, start=shown.start, ticks=shown.ticks, seek=_is_far(settings))
    clip = Clip(
        pictures=shown.pictures,
        width=shown.width,
        height=shown.height,
        ticks=shown.ticks,
        sound=heard.samples,
        sound_from=heard.begins,
        sound_to=heard.ends,
        source=declared.container | {"video": declared.video | shown.facts, "audio": declared.audio | heard.facts},
    )
    refuse_useless(clip, settings, difference=shown.difference)
    return clip


# --- opening -----------------------------------------------------------------------------------------------------


class _Bytes:
    """The one file that libav may read. It has no name, and closing a container does not close it."""

    def __init__(self, content: BinaryIO) -> None:
        self.read = content.read
        self.seek = content.seek
        self.tell = content.tell


def _refuse(url: str, flags: int, options: dict[str, str]) -> Any:
    raise Rejected(Reason.NOT_MEDIA, f"it wants another file opened: {url}")


def _begins_like_a_container(content: BinaryIO) -> bool:
    content.seek(0)
    head = content.read(16)
    return head[4:8] in MP4_BOXES or head.startswith(SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


@dataclass(frozen=True)
class _File:
    """A file of unknown content, to be opened as often as needed."""

    content: BinaryIO
    edit_lists: bool = True  # obey mp4's edit lists

    @contextlib.contextmanager
    def opened(self) -> Iterator[InputContainer]:
        """The file from its beginning, as a container; raises Rejected if it is none that is known."""
        self.content.seek(0)
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS)}
        if not self.edit_lists:
            options["ignore_editlist"] = "1"
        try:
            container = av.open(
                _Bytes(self.content), mode="r", options=options, metadata_errors="replace", io_open=_refuse
            )
        except av.error.MemoryError as error:
            raise Rejected(Reason.TOO_LARGE, "its tables do not fit into memory") from error
        except av.error.FFmpegError as error:
            if _begins_like_a_container(self.content):
                raise Rejected(Reason.UNDECODABLE, f"its container is broken or cut short: {error.strerror}") from error
            raise Rejected(Reason.NOT_MEDIA, f"no known container: {error.strerror}") from error
        with container:
            yield container


def _stream(container: InputContainer, kind: Kind) -> Any:
    """The stream that a player would choose, or None; cover art is no video."""
    streams = [s for s in container.streams if s.type == kind and not s.disposition & Disposition.attached_pic]
    best = container.streams.best(kind)
    return best if best in streams else next(iter(streams), None)


@dataclass(frozen=True)
class _Declared:
    """What a container says about itself."""

    pixel_aspect: Fraction
    container: dict[str, Any]
    video: dict[str, Any]
    audio: dict[str, Any]


def _examine(container: InputContainer) -> _Declared:
    """Reads the declarations; raises Rejected for a missing stream and for sizes beyond the bounds."""
    video, audio = _stream(container, "video"), _stream(container, "audio")
    streams = f"{container.format.name} with {', '.join(s.type for s in container.streams) or 'no streams'}"
    if video is None:
        raise Rejected(Reason.NO_VIDEO_STREAM, streams)
    if audio is None:
        raise Rejected(Reason.NO_AUDIO_STREAM, streams)
    for stream in (video, audio):
        if stream.codec_context is None:
            raise Rejected(Reason.UNDECODABLE, f"no decoder for its {stream.type} stream")
    eye, ear = video.codec_context, audio.codec_context
    aspect = video.sample_aspect_ratio or Fraction(1)
    _bound_picture(eye.width, eye.height, aspect)
    _bound_sound(ear.sample_rate, ear.channels)
    return _Declared(
        pixel_aspect=aspect,
        container={
            "container": container.format.name,
            "declared_seconds": container.duration / av.time_base if container.duration else None,
        },
        video={
            "codec": eye.name,
            "width": eye.width,
            "height": eye.height,
            "pixel_aspect": str(aspect),
            "declared_fps": float(video.average_rate) if video.average_rate else None,
        },
        audio={"codec": ear.name, "sample_rate_hz": ear.sample_rate, "channels": ear.channels},
    )


def _bound_picture(width: int, height: int, pixel_aspect: Fraction) -> None:
    too_many = max(width, height) > MAX_SIDE or width * height > MAX_PIXELS
    aspect = Fraction(width or 1, height or 1) * pixel_aspect  # zero where only the decoder will know
    if too_many or not Fraction(1, MAX_ASPECT) <= aspect <= MAX_ASPECT:
        raise Rejected(Reason.TOO_LARGE, f"pictures of {width}x{height} pixels, each {pixel_aspect} as wide as high")


def _bound_sound(rate: int, channels: int) -> None:
    known = rate > 0  # some containers leave it to the decoder
    too_much = channels > MAX_CHANNELS or rate * channels > MAX_SAMPLES_PER_SECOND
    if (known and not MIN_RATE_HZ <= rate <= MAX_RATE_HZ) or too_much:
        raise Rejected(Reason.TOO_LARGE, f"sound of {channels} channels at {rate} Hz")


# --- decoding ----------------------------------------------------------------------------------------------------


@dataclass
class _Record:
    """What happened to the packets of one stream."""

    errors: int = 0
    last_error: str = "none"
    hidden: int = 0  # packets that an edit list takes out

    def note(self, error: Exception) -> None:
        self.errors += 1
        self.last_error = str(error)

    def __str__(self) -> str:
        return f"{self.errors} errors, the last: {self.last_error}"


def _decoded(container: InputContainer, kind: Kind, record: _Record) -> Iterator[Any]:
    """The frames of one stream from where the container stands; packets that do not decode are noted and skipped."""
    stream = _stream(container, kind)
    context = stream.codec_context
    if not context.is_open:
        context.thread_count = 1  # the packer runs a process for each core
        context.options = {"max_pixels": str(MAX_PIXELS)}
    for other in container.streams:
        other.discard = Discard.default if other is stream else Discard.all
    packets = container.demux(stream)
    frames = 0
    ended = False
    while not ended:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            record.note(error)
            packet = None
        if packet is None:
            ended = True
        else:
            record.hidden += packet.is_discard
        try:
            decoded = context.decode(packet)
        except av.error.EOFError:
            return
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError as error:
            record.note(error)
            if record.errors > max(PATIENCE, frames):
                return
            continue
        frames += len(decoded)
        for frame in decoded:
            frame.time_base = frame.time_base or stream.time_base
            yield frame


def _frames_into(file: _File, kind: Kind, record: _Record, *, time: Fraction, seek: bool) -> Iterator[Any]:
    """Decoded frames of one stream, from before `time` (seconds) on: sought if wanted, and if that gets there."""
    if seek:
        with file.opened() as container, contextlib.suppress(av.error.FFmpegError):
            stream = _stream(container, kind)
            container.seek(int((time - RUN_UP_SECONDS) / stream.time_base), stream=stream)
            frames = _decoded(container, kind, record)
            first = next(frames, None)
            if first is not None and first.pts is not None and first.pts * first.time_base <= time:
                yield first
                yield from frames
                return
    with file.opened() as container:
        yield from _decoded(container, kind, record)


def _is_far(settings: PackSettings) -> bool:
    return settings.start_seconds >= SEEK_FROM_SECONDS


# --- pictures ----------------------------------------------------------------------------------------------------


class _Hidden(Exception):
    """An edit list takes out nearly all of the pictures: it cannot be meant."""


@dataclass(frozen=True)
class _Shown:
    """The clip's pictures, and what decoding them found."""

    start: Fraction  # tick 0 in the file's own time, seconds
    ticks: int
    pictures: list[bytes]
    width: int
    height: int
    difference: float  # the furthest that a picture is from the first, grey levels
    facts: dict[str, Any]


def _read_pictures(file: _File, container: InputContainer, *, settings: PackSettings, declared: _Declared) -> _Shown:
    record = _Record()
    timed = _timed(_decoded(container, "video", record))
    opening = next(timed, None)
    if opening is None and not declared.video["width"] and declared.container["container"] in SIZED:
        raise Rejected(Reason.TOO_LARGE, "its pictures are declared in a size that libav refuses")
    if opening is None:
        raise Rejected(Reason.UNDECODABLE, f"no picture decodes ({record})")
    asked = Fraction(str(settings.start_seconds))
    start = opening.stamp * opening.unit + asked
    clock = timeline.Ticks(start=start, unit=opening.unit)
    limit = int(Fraction(str(settings.seconds)) * TICKS_PER_SECOND)
    camera = _Camera(settings, opening.frame, declared.pixel_aspect)
    if _is_far(settings):
        timed = _timed(_frames_into(file, "video", record, time=start, seek=True))
    else:
        timed = itertools.chain([opening], timed)

    held = opening
    end = opening.stamp
    decoded = corrupt = 0
    shown_from = ticks = 0  # the held picture is shown from this tick until the next one's
    for newest in timed:
        tick = clock.first_showing(newest.stamp)
        if decoded:
            camera.shoot(held.frame, range(shown_from, min(tick, limit)))
        if tick >= limit:
            ticks = limit
            break
        decoded += 1
        corrupt += newest.frame.is_corrupt
        held, shown_from = newest, max(0, tick)
        end = held.stamp + held.lasts
    else:
        ticks = max(0, min(limit, clock.first_showing(end)))
        camera.shoot(held.frame, range(shown_from, ticks))
    if file.edit_lists and record.hidden > decoded and decoded < ticks / TICKS_PER_SECOND:
        raise _Hidden
    if record.errors + corrupt > decoded:
        raise Rejected(Reason.UNDECODABLE, f"{decoded} pictures decode, {corrupt} of them corrupt ({record})")
    return _Shown(
        start=start,
        ticks=ticks,
        pictures=camera.pictures,
        width=camera.width,
        height=camera.height,
        difference=camera.difference,
        facts=camera.facts
        | {
            "decoded": decoded,
            "corrupt": corrupt,
            "errors": record.errors,
            "edit_list_ignored": not file.edit_lists,
        },
    )


@dataclass(frozen=True)
class _Timed:
    """A decoded picture and when it is shown."""

    frame: VideoFrame
    unit: Fraction  # of stamp and lasts, seconds
    stamp: int
    lasts: int


def _timed(frames: Iterable[Any]) -> Iterator[_Timed]:
    """Gives pictures their stamps, never running backwards; a picture that comes too late to be shown is left out.

    A picture waits until the next one's stamps are known: they may be what shows that its own are wrong.
    """
    trust = timeline.Trust()
    latest: _Timed | None = None
    waiting: Any = None
    for frame in itertools.chain(frames, [None]):
        if frame is not None:
            trust.witness(pts=frame.pts, dts=frame.dts)
        if waiting is not None:
            stamp = trust.choose(pts=waiting.pts, dts=waiting.dts)
            if stamp is None:
                stamp = latest.stamp + latest.lasts if latest else 0
            if latest is None or stamp >= latest.stamp:
                step = stamp - latest.stamp if latest else 0
                latest = _Timed(waiting, waiting.time_base, stamp, waiting.duration or step)
                yield latest
        waiting = frame


class _Camera:
    """Scales, turns and encodes the pictures that ticks show, each once."""

    def __init__(self, settings: PackSettings, opening: VideoFrame, pixel_aspect: Fraction) -> None:
        self.pictures: list[bytes] = []
        self.difference = 0.0
        self._settings = settings
        self._scaler = VideoReformatter()
        self._recolourings: dict[picture.Matrix, picture.Recolouring] = {}
        self._first: np.ndarray | None = None
        _bound_picture(opening.width, opening.height, pixel_aspect)
        turn: Any = opening.side_data.get("DISPLAYMATRIX")
        self._orientation = picture.orientation_of(np.frombuffer(turn, np.int32).tolist() if turn else UNTURNED)
        self._scaled = picture.stored_size(opening.width, opening.height, pixel_aspect=pixel_aspect, side=settings.side)
        self.width, self.height = self._scaled[::-1] if self._orientation.transposed else self._scaled
        reduces = min(opening.width, opening.height) >= settings.side
        self._filter = Interpolation.AREA if reduces else Interpolation.BICUBIC
        self.facts = {
            "pixel_format": opening.format.name,
            "matrix": picture.MATRICES[opening.colorspace].name if opening.colorspace in picture.MATRICES else "bt601",
            "rotation": opening.rotation,
        }

    def shoot(self, frame: VideoFrame, ticks: range) -> None:
        """Stores `frame` as the picture of the kept ones among `ticks`."""
        every = self._settings.every
        copies = len(range(-(-ticks.start // every) * every, ticks.stop, every))
        if not copies:
            return
        planes = self._planes(frame)
        if self.difference < STILL_GREY_LEVELS:
            grey = picture.coarse(planes[0])
            self._first = grey if self._first is None else self._first
            self.difference = max(self.difference, float(np.abs(grey - self._first).max()))
        upright = picture.upright(planes, self._orientation)
        self.pictures += [picture.jpeg(upright, quality=self._settings.jpeg_quality)] * copies

    def _planes(self, frame: VideoFrame) -> picture.Planes:
        width, height = self._scaled
        scaled = self._scaler.reformat(
            frame,
            width=width,
            height=height,
            format="yuv420p",
            interpolation=self._filter,
            # Naming one matrix for both keeps swscale from a detour over RGB: Recolouring makes the change
            # afterwards, on planes that are small by then.
            src_colorspace=None if frame.format.is_rgb else Colorspace.ITU601,
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        buffers: Any = scaled.planes
        luma, blue, red = (
            np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width] for plane in buffers
        )
        matrix = picture.MATRICES.get(frame.colorspace)
        if matrix is None:
            return luma, blue, red
        if matrix not in self._recolourings:
            self._recolourings[matrix] = picture.Recolouring(matrix, width=width, height=height)
        return self._recolourings[matrix]((luma, blue, red))


# --- sound -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Heard:
    """The clip's sound, and what decoding it found."""

    samples: np.ndarray  # int16 (ticks * 1920,)
    begins: int
    ends: int
    facts: dict[str, Any]


def _read_sound(file: _File, *, start: Fraction, ticks: int, seek: bool) -> _Heard:
    record = _Record()
    seconds = ticks / TICKS_PER_SECOND
    zero = float(start)
    stamps: list[float] = []  # of the pieces, seconds after `start`; NaN where the file has none
    pieces: list[np.ndarray] = []  # as the decoder gave them
    lengths: list[int] = []
    forms: list[timeline.Form] = []
    position = collected = 0.0
    decoded = beyond = 0
    for frame in _frames_into(file, "audio", record, time=start - MARGIN_SECONDS, seek=seek):
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
            _bound_sound(frame.sample_rate, frame.layout.nb_channels)
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
    return _Heard(samples=samples, begins=begins, ends=ends, facts=facts)


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
