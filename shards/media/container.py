"""Opens untrusted media files: allowed containers, no access to other files, bounds on declared sizes."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, BinaryIO, Literal

import av
from av.container import InputContainer
from av.stream import Disposition

from shards.format import Reason
from shards.media.clip import Rejected
from shards.media.headers import ARCHIVES, find_headers, has_signature, header_for, is_picture

# Self-contained formats. Playlists, manifests, scripts and session descriptions (hls, dash, concat, sdp, imf ...),
# single images and devices are excluded.
CONTAINERS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,ogg,asf,flv,mxf,nut,rm,dv,nsv,wtv,ivf,"
    "wav,w64,aiff,caf,au,nistsphere,mp3,aac,flac"
)

# Formats that declare a picture size: where it is missing, libav dropped an impossible one.
SIZED_CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "asf")

# Formats with decoding timestamps only. PyAV makes libav generate presentation timestamps.
UNSTAMPED_FORMATS = ("avi",)
GENERATES_STAMPS = 1  # libav's AVFMT_FLAG_GENPTS

MAX_SIDE = 16_384  # pixels
MAX_PIXELS = 8_192 * 4_352  # full 8K; a decoder with 16 reference pictures of it needs about 1 GB
MAX_ASPECT = 16  # long side / short side, as displayed
MIN_RATE_HZ, MAX_RATE_HZ = 2_000, 384_000
MAX_CHANNELS = 64
MAX_SAMPLES_PER_SECOND = 16 * 192_000  # of all channels together

Kind = Literal["video", "audio"]


class _SectionReader:
    """The one file that libav may read, or a section of it.

    It has no name, and closing a container does not close it. Each reader has its own position, so that two
    containers can be open.
    """

    def __init__(self, content: BinaryIO, *, begin: int, end: int | None, header: bytes) -> None:
        """`header` is prepended to the section; it is from earlier in the file, so no position is negative."""
        self._content, self._header = content, header
        self._begin, self._end = begin - len(header), end
        self._position = self._begin
        self._failed = False

    def tell(self) -> int:
        return self._position - self._begin

    def read(self, size: int) -> bytes:
        """Read from the file. An error is raised once: PyAV keeps one for its caller and prints any further ones."""
        if self._failed:
            return b""
        if data := self._header[self._position - self._begin :][:size]:
            self._position += len(data)
            return data
        if self._end is not None:
            size = max(0, min(size, self._end - self._position))
        try:
            self._content.seek(self._position)
            data = self._content.read(size)
        except OSError:
            self._failed = True
            raise
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int) -> int:
        """The new position, or libav's error number for an impossible one, which broken tables contain."""
        if whence == os.SEEK_SET:
            offset += self._begin
        elif whence == os.SEEK_END and self._end is not None:
            offset, whence = self._end + offset, os.SEEK_SET
        try:
            self._content.seek(self._position)
            self._position = self._content.seek(offset, whence)
        except (OSError, ValueError):
            return -errno.EINVAL
        return self._position - self._begin


def _refuse_url(url: str, flags: int, options: dict[str, str]) -> Any:
    raise Rejected(Reason.NOT_MEDIA, f"it wants another file opened: {url}")


def open_container(file: Any, **options: Any) -> InputContainer:
    """`av.open` for reading. Accepts tags in any encoding, as PyAV does from version 19.

    Turns off libav's generation of presentation timestamps, which PyAV turns on: it treats pictures of H.264 and
    HEVC as reordered that are not. Removes the names of channels in an order of the file's own.
    """
    if int(av.__version__.split(".")[0]) < 19:
        options["metadata_errors"] = "replace"
    container: InputContainer = av.open(file, mode="r", **options)
    if container.format.name in UNSTAMPED_FORMATS:
        container.flags &= ~GENERATES_STAMPS
    for stream in container.streams.audio:
        if stream.codec_context is not None:
            unname_channels(stream.codec_context)
    return container


def unname_channels(context: Any) -> None:
    """Remove the names of channels that are not in libav's order: PyAV frees such a layout once for each use of it."""
    layout = context.layout  # the last use of it
    if " channels (" in layout.name:  # as in "3 channels (FC+FL+FR)"
        context.layout = f"{layout.nb_channels} channels"


@dataclass(frozen=True)
class Part:
    """A part of a file with continuous timestamps.

    section: index of its header in the file. first: number of its first packet in that section, by stream. packets:
    number of packets of the entire section, by stream. offset_seconds: added to its timestamps, gives the file's time
    line, on which it ends at end_seconds.
    """

    section: int
    first: dict[Kind, int]
    packets: dict[Kind, int]
    offset_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class File:
    """A file of unknown content, to be opened as often as needed."""

    content: BinaryIO
    edit_lists: bool = True  # apply mp4's edit lists
    parts: list[Part] = field(default_factory=list, init=False)  # empty until parts.py had to search for them

    @cached_property
    def headers(self) -> list[int]:
        """Byte offsets of its file headers: several in a concatenation of files."""
        return find_headers(self.content)

    @contextlib.contextmanager
    def open(self, section: int = 0) -> Iterator[InputContainer]:
        """Open the section from one header to the next as a container; raises Rejected for unknown formats."""
        begin, end = self.headers[section], next(iter(self.headers[section + 1 :]), None)
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS)}
        if not self.edit_lists:
            options["ignore_editlist"] = "1"
        try:
            header = header_for(self.content, self.headers[: section + 1])
            reader = _SectionReader(self.content, begin=begin, end=end, header=header)
            container = open_container(reader, options=options, io_open=_refuse_url)
        except av.error.MemoryError as error:
            raise Rejected(Reason.TOO_LARGE, "its tables do not fit into memory") from error
        except av.error.FFmpegError as error:
            raise self._refusal(error) from error
        with container:
            yield container

    def _refusal(self, error: av.error.FFmpegError) -> Rejected:
        """Why libav does not open this file: it is broken, or of another format."""
        self.content.seek(0)
        head = self.content.read(16)
        if is_picture(head[:12]):
            return Rejected(Reason.NOT_MEDIA, "it is a picture, as `avc embed --content image` takes")
        if has_signature(head):
            return Rejected(Reason.UNDECODABLE, f"its container is broken or cut short: {error.strerror}")
        if head.startswith(ARCHIVES):
            return Rejected(Reason.NOT_MEDIA, "it is a compressed archive: unpack it first")
        return Rejected(Reason.NOT_MEDIA, f"no known container: {error.strerror}")


# Tracks that accompany another one or are meant for some viewers: descriptions, comments, a layer.
AUXILIARY = (
    Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.descriptions
    | Disposition.dependent
)


def choose_stream(container: InputContainer, kind: Kind) -> Any:
    """The stream that a player would choose, or None; a sound stream is from the pictures' program.

    Decodable streams come first, then those flagged as default, then the first one. Not the stream of highest bit
    rate, libav's choice: where a file has several channels or sizes, pictures and sounds are in the same order, and
    only the first of each are certain to belong together.
    """
    streams = _tracks(container, kind)
    if kind == "audio" and (video := choose_stream(container, "video")) is not None:
        best = container.streams.best  # within the program of a stream, which PyAV does not name
        program_video, program_audio = best("video", related=video), best("audio", related=video)
        # A stream may belong to several programs.
        streams = [s for s in streams if s is program_audio or best("video", related=s) is program_video]
    return max(streams, key=_preference, default=None)  # the first of equals


def _tracks(container: InputContainer, kind: Kind) -> list[Any]:
    """The streams of one kind; cover art does not count as video."""
    return [s for s in container.streams if s.type == kind and not s.disposition & Disposition.attached_pic]


def required_stream(container: InputContainer, kind: Kind) -> Any:
    """The stream that a player would choose; raises Rejected where there is none."""
    stream = choose_stream(container, kind)
    if stream is None:
        streams = f"{container.format.name} with {', '.join(s.type for s in container.streams) or 'no streams'}"
        note = ", none of them of the pictures' program" if _tracks(container, kind) else ""
        raise Rejected(Reason.NO_AUDIO_STREAM if kind == "audio" else Reason.NO_VIDEO_STREAM, streams + note)
    if container.format.name == "avi" and stream.codec_context is not None and stream.codec_context.name == "vorbis":
        raise Rejected(Reason.UNDECODABLE, "AVI does not say when packets of Vorbis, of two lengths, are heard")
    return stream


def _preference(stream: Any) -> tuple[bool, bool, int, bool, bool]:
    """Sort key of a player's choice: decoder, known format, number of frames, flags."""
    context, flags = stream.codec_context, stream.disposition
    decodable = context is not None
    has_format = decodable and bool(context.width if stream.type == "video" else context.sample_rate)
    frames = min(stream.frames, 2)  # a single picture is no video; 0 where unknown
    return decodable, has_format, frames, bool(flags & Disposition.default), not flags & AUXILIARY


@dataclass(frozen=True)
class Declaration:
    """A container's declarations."""

    pixel_aspect: Fraction
    container: dict[str, Any]
    video: dict[str, Any]
    audio: dict[str, Any]


def read_declaration(container: InputContainer) -> Declaration:
    """Reads the declarations; raises Rejected for a missing stream and for sizes beyond the bounds."""
    video, audio = required_stream(container, "video"), required_stream(container, "audio")
    for stream in (video, audio):
        if stream.codec_context is None:
            raise Rejected(Reason.UNDECODABLE, f"no decoder for its {stream.type} stream")
    video_codec, audio_codec = video.codec_context, audio.codec_context
    aspect = video.sample_aspect_ratio or Fraction(1)
    check_picture_size(video_codec.width, video_codec.height, aspect)
    check_sound_format(audio_codec.sample_rate, audio_codec.channels)
    return Declaration(
        pixel_aspect=aspect,
        container={
            "container": container.format.name,
            "declared_seconds": container.duration / av.time_base if container.duration else None,
        },
        video={
            "codec": video_codec.name,
            "width": video_codec.width,
            "height": video_codec.height,
            "pixel_aspect": str(aspect),
            "declared_fps": float(video.average_rate) if video.average_rate else None,
            **_track_number(container, video),
        },
        audio={
            "codec": audio_codec.name,
            "sample_rate_hz": audio_codec.sample_rate,
            "channels": audio_codec.channels,
            **_track_number(container, audio),
        },
    )


def _track_number(container: InputContainer, stream: Any) -> dict[str, int]:
    """Number of a stream among the tracks of its kind, from 1, and their count."""
    tracks = _tracks(container, stream.type)
    return {"track": tracks.index(stream) + 1, "tracks": len(tracks)}


def check_picture_size(width: int, height: int, pixel_aspect: Fraction) -> None:
    too_many = max(width, height) > MAX_SIDE or width * height > MAX_PIXELS
    aspect = Fraction(width or 1, height or 1) * pixel_aspect  # sizes are 0 until the decoder knows them
    if too_many or not Fraction(1, MAX_ASPECT) <= aspect <= MAX_ASPECT:
        raise Rejected(Reason.TOO_LARGE, f"pictures of {width}x{height} pixels, each {pixel_aspect} as wide as high")


def check_sound_format(rate_hz: int, channels: int) -> None:
    declared = rate_hz > 0  # not in all containers
    too_much = channels > MAX_CHANNELS or rate_hz * channels > MAX_SAMPLES_PER_SECOND
    if (declared and not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ) or too_much:
        raise Rejected(Reason.TOO_LARGE, f"sound of {channels} channels at {rate_hz} Hz")
