"""Opening a file of unknown content: what it may be, what it may not reach for, how large it may claim to be."""

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
from shards.media.heads import MP4_BOXES, head_of, heads_in

# Containers that hold their streams themselves. Playlists, manifests, scripts and session descriptions (hls, dash,
# concat, sdp, imf ...) are left out, and so are single images and devices.
CONTAINERS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,ogg,asf,flv,mxf,nut,rm,dv,nsv,wtv,ivf,"
    "wav,w64,aiff,caf,au,nistsphere,mp3,aac,flac"
)

# Those that declare the size of their pictures: where it is missing, libav found it impossible and dropped it.
SIZED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "asf")

# How files of the kinds above begin: what tells a broken one from one of another kind.
SIGNATURES = (
    *(b"\x1aE\xdf\xa3", b"OggS", b"FLV\x01", b"0&\xb2u\x8ef\xcf\x11", b"\0\0\x01\xba", b"\0\0\x01\xb3"),
    *(b"riff.\x91\xcf\x11", b"caff", b".snd"),
)

# Containers whose packets are numbered in the order of decoding and have no other stamps. PyAV has libav make some up.
WITHOUT_STAMPS = ("avi",)
GENERATES_STAMPS = 1  # libav's AVFMT_FLAG_GENPTS

MAX_SIDE = 16_384  # pixels
MAX_PIXELS = 8_192 * 4_352  # 8K in full; a decoder that keeps 16 reference pictures of it needs about 1 GB
MAX_ASPECT = 16  # long side to short side of the shown picture
MIN_RATE_HZ, MAX_RATE_HZ = 2_000, 384_000
MAX_CHANNELS = 64
MAX_SAMPLES_PER_SECOND = 16 * 192_000  # of all channels together

Kind = Literal["video", "audio"]


class _Bytes:
    """The one file that libav may read, or a section of it.

    It has no name, and closing a container does not close it. Each has its own place in the file, so that two
    containers can be open.
    """

    def __init__(self, content: BinaryIO, *, begin: int, end: int | None, head: bytes) -> None:
        """`head` stands before the section; it has stood somewhere before in the file, so that no place is negative."""
        self._content, self._head = content, head
        self._begin, self._end = begin - len(head), end
        self._at = self._begin
        self._failed = False

    def tell(self) -> int:
        return self._at - self._begin

    def read(self, size: int) -> bytes:
        """As the file does. An error is raised once: PyAV keeps one for its caller and prints it when another comes."""
        if self._failed:
            return b""
        if found := self._head[self._at - self._begin :][:size]:
            self._at += len(found)
            return found
        if self._end is not None:
            size = max(0, min(size, self._end - self._at))
        try:
            self._content.seek(self._at)
            found = self._content.read(size)
        except OSError:
            self._failed = True
            raise
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int) -> int:
        """The new position, or libav's error number for one that no file has: broken tables name such places."""
        if whence == os.SEEK_SET:
            offset += self._begin
        elif whence == os.SEEK_END and self._end is not None:
            offset, whence = self._end + offset, os.SEEK_SET
        try:
            self._content.seek(self._at)
            self._at = self._content.seek(offset, whence)
        except (OSError, ValueError):
            return -errno.EINVAL
        return self._at - self._begin


def _refuse(url: str, flags: int, options: dict[str, str]) -> Any:
    raise Rejected(Reason.NOT_MEDIA, f"it wants another file opened: {url}")


def _begins_like_a_container(content: BinaryIO) -> bool:
    content.seek(0)
    head = content.read(16)
    return head[4:8] in MP4_BOXES or head.startswith(SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def open_container(file: Any, **arguments: Any) -> InputContainer:
    """`av.open` for reading, whatever bytes the file's tags are: from 19 on PyAV takes any.

    Without libav's invention of presentation stamps where a file has none, which PyAV asks for: it takes pictures of
    H.264 and HEVC for reordered that are not.
    """
    if int(av.__version__.split(".")[0]) < 19:
        arguments["metadata_errors"] = "replace"
    container: InputContainer = av.open(file, mode="r", **arguments)
    if container.format.name in WITHOUT_STAMPS:
        container.flags &= ~GENERATES_STAMPS
    return container


@dataclass(frozen=True)
class Part:
    """What begins with packet number `first` of each stream, of the section of the file that has one of its heads.

    Its stamps plus `moved` seconds are on the file's one time line, on which it ends at `ends`. In all the section
    has `packets` of each.
    """

    section: int
    first: dict[Kind, int]
    packets: dict[Kind, int]
    moved: float
    ends: float


@dataclass(frozen=True)
class File:
    """A file of unknown content, to be opened as often as needed."""

    content: BinaryIO
    edit_lists: bool = True  # obey mp4's edit lists
    parts: list[Part] = field(default_factory=list, init=False)  # where they had to be looked for (parts.py)

    @cached_property
    def heads(self) -> list[int]:
        """Where in it files begin, bytes: several where such were joined."""
        return heads_in(self.content)

    @contextlib.contextmanager
    def opened(self, section: int = 0) -> Iterator[InputContainer]:
        """The file from one of its heads to the next, as a container; raises Rejected if it is none that is known."""
        begin, end = self.heads[section], next(iter(self.heads[section + 1 :]), None)
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS)}
        if not self.edit_lists:
            options["ignore_editlist"] = "1"
        try:
            content = _Bytes(self.content, begin=begin, end=end, head=head_of(self.content, self.heads[: section + 1]))
            container = open_container(content, options=options, io_open=_refuse)
        except av.error.MemoryError as error:
            raise Rejected(Reason.TOO_LARGE, "its tables do not fit into memory") from error
        except av.error.FFmpegError as error:
            if _begins_like_a_container(self.content):
                raise Rejected(Reason.UNDECODABLE, f"its container is broken or cut short: {error.strerror}") from error
            raise Rejected(Reason.NOT_MEDIA, f"no known container: {error.strerror}") from error
        with container:
            yield container


# A track that goes with another one, or is meant for some of those who watch: descriptions, comments, a layer.
BESIDE = (
    Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.descriptions
    | Disposition.dependent
)


def stream_of(container: InputContainer, kind: Kind) -> Any:
    """The stream that a player would choose, or None; of sound one of the pictures' own program.

    One that can be decoded; of these the one that is flagged as the default, of several the first. Not the one of the
    highest bit rate, as libav does by itself: a recording of several channels, or of a film in two sizes, has pictures
    and sounds in the same order, so that only the first of each are sure to belong together.
    """
    streams = _tracks(container, kind)
    if kind == "audio" and (picture := stream_of(container, "video")) is not None:
        best = container.streams.best  # within the program of a stream, which PyAV does not name
        seen, heard = best("video", related=picture), best("audio", related=picture)  # one may be of several programs
        streams = [s for s in streams if s is heard or best("video", related=s) is seen]
    return max(streams, key=_rank, default=None)  # of equals the first


def _tracks(container: InputContainer, kind: Kind) -> list[Any]:
    """The streams of a kind; cover art is no video."""
    return [s for s in container.streams if s.type == kind and not s.disposition & Disposition.attached_pic]


def required_stream(container: InputContainer, kind: Kind) -> Any:
    """The stream that a player would choose; raises Rejected where there is none."""
    stream = stream_of(container, kind)
    if stream is None:
        streams = f"{container.format.name} with {', '.join(s.type for s in container.streams) or 'no streams'}"
        elsewhere = ", none of them of the pictures' program" if _tracks(container, kind) else ""
        raise Rejected(Reason.NO_AUDIO_STREAM if kind == "audio" else Reason.NO_VIDEO_STREAM, streams + elsewhere)
    return stream


def _rank(stream: Any) -> tuple[bool, bool, int, bool, bool]:
    """How likely a player is to choose this stream: by what is known of its form, its frames and its flags."""
    context, flags = stream.codec_context, stream.disposition
    decodable = context is not None
    known = decodable and bool(context.width if stream.type == "video" else context.sample_rate)
    frames = min(stream.frames, 2)  # a lone picture is no film; 0 where they are not counted
    return decodable, known, frames, bool(flags & Disposition.default), not flags & BESIDE


@dataclass(frozen=True)
class Declared:
    """What a container says about itself."""

    pixel_aspect: Fraction
    container: dict[str, Any]
    video: dict[str, Any]
    audio: dict[str, Any]


def examine(container: InputContainer) -> Declared:
    """Reads the declarations; raises Rejected for a missing stream and for sizes beyond the bounds."""
    video, audio = required_stream(container, "video"), required_stream(container, "audio")
    for stream in (video, audio):
        if stream.codec_context is None:
            raise Rejected(Reason.UNDECODABLE, f"no decoder for its {stream.type} stream")
    eye, ear = video.codec_context, audio.codec_context
    aspect = video.sample_aspect_ratio or Fraction(1)
    bound_picture(eye.width, eye.height, aspect)
    bound_sound(ear.sample_rate, ear.channels)
    return Declared(
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
            **_place(container, video),
        },
        audio={
            "codec": ear.name,
            "sample_rate_hz": ear.sample_rate,
            "channels": ear.channels,
            **_place(container, audio),
        },
    )


def _place(container: InputContainer, stream: Any) -> dict[str, int]:
    """Which track of its kind a stream is, from 1, and of how many."""
    tracks = _tracks(container, stream.type)
    return {"track": tracks.index(stream) + 1, "tracks": len(tracks)}


def bound_picture(width: int, height: int, pixel_aspect: Fraction) -> None:
    too_many = max(width, height) > MAX_SIDE or width * height > MAX_PIXELS
    aspect = Fraction(width or 1, height or 1) * pixel_aspect  # zero where only the decoder will know
    if too_many or not Fraction(1, MAX_ASPECT) <= aspect <= MAX_ASPECT:
        raise Rejected(Reason.TOO_LARGE, f"pictures of {width}x{height} pixels, each {pixel_aspect} as wide as high")


def bound_sound(rate: int, channels: int) -> None:
    known = rate > 0  # some containers leave it to the decoder
    too_much = channels > MAX_CHANNELS or rate * channels > MAX_SAMPLES_PER_SECOND
    if (known and not MIN_RATE_HZ <= rate <= MAX_RATE_HZ) or too_much:
        raise Rejected(Reason.TOO_LARGE, f"sound of {channels} channels at {rate} Hz")
