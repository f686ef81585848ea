"""Decodes a clip's pictures, assigns them to ticks, scales, rotates and encodes them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame

from shards.format import TICKS_PER_SECOND, PackSettings, Reason
from shards.media import jpeg, timeline
from shards.media.clip import STILL_GRAY_LEVELS, Rejected
from shards.media.container import SIZED_CONTAINERS, Declaration, File, check_picture_size, choose_stream
from shards.media.decoding import SEEK_FROM_SECONDS, DecodeLog, decode_frames, decode_frames_from
from shards.media.edits import Edit, apply_edit, parse_edits
from shards.media.flow import Flow
from shards.media.scaling import Scaler, ScalerV1

HDR = {16: "smpte2084", 18: "arib-std-b67"}  # PQ and HLG by H.273's codes: stored without tone mapping, so pale
IDENTITY_MATRIX = (1, 0, 0, 0, 1)  # first five numbers of the identity display matrix


class BadEditList(Exception):
    """An edit list removes nearly all pictures, so it must be wrong."""


@dataclass(frozen=True)
class DecodedPictures:
    """The clip's encoded pictures, the last one still to be encoded, and facts of decoding."""

    start: Fraction  # tick 0 on the file's time line, seconds
    ticks: int  # up to the end of the last picture
    limit: int  # maximum of ticks if the last picture is held
    encoder: PictureEncoder
    last: VideoFrame
    last_tick: int  # first tick of the last picture
    facts: dict[str, Any]

    def finish(self, ticks: int) -> dict[str, Any]:
        """Encode the last picture up to `ticks`; return facts about the pictures."""
        self.encoder.encode(self.last, range(self.last_tick, ticks))
        held_seconds = (ticks - self.last_tick) / TICKS_PER_SECOND
        held_facts = {"held_seconds": held_seconds} if held_seconds > timeline.MIN_HELD_SECONDS else {}
        return self.encoder.facts | self.facts | held_facts


def read_pictures(
    file: File, container: InputContainer, *, settings: PackSettings, seek: bool, declared: Declaration
) -> DecodedPictures:
    log = DecodeLog()
    timed = decode_pictures(file, container, log)
    first = first_picture(timed, log, declared)
    offset = Fraction(str(settings.start_seconds))
    start = first.stamp * first.unit + offset
    clock = timeline.TickClock(start=start, unit=first.unit)
    limit = int(Fraction(str(settings.seconds)) * TICKS_PER_SECOND)
    encoder = PictureEncoder(settings, first.frame, declared.pixel_aspect)
    timed = decode_pictures(file, container, log, since=start) if seek else itertools.chain([first], timed)

    current = first
    end = first.stamp
    decoded = corrupt = 0
    current_tick = 0  # first tick of the current picture
    for following in timed:
        tick = clock.first_tick(following.stamp)
        if tick >= limit:
            ticks = limit
            break
        if decoded:
            encoder.encode(current.frame, range(current_tick, tick))
        decoded += 1
        corrupt += following.frame.is_corrupt
        current, current_tick = following, max(0, tick)
        end = current.stamp + current.duration
    else:
        ticks = max(0, min(limit, clock.first_tick(end)))
    reject_broken(file, log, decoded=decoded, corrupt=corrupt, ticks=ticks)
    return DecodedPictures(
        start=start,
        ticks=ticks,
        limit=limit,
        encoder=encoder,
        last=current.frame,
        last_tick=current_tick,
        facts={
            "decoded": decoded,
            "corrupt": corrupt,
            "errors": log.errors,
            "edit_list_ignored": not file.edit_lists,
        },
    )


def first_picture(timed: Iterator[TimedPicture], log: DecodeLog, declared: Declaration) -> TimedPicture:
    """The first picture; raises Rejected where there is none, BadEditList where an edit list removes all."""
    first = next(timed, None)
    if first is None and log.hidden:
        raise BadEditList
    if first is None and not declared.video["width"] and declared.container["container"] in SIZED_CONTAINERS:
        raise Rejected(Reason.TOO_LARGE, "its pictures are declared in a size that libav refuses")
    if first is None:
        raise Rejected(Reason.UNDECODABLE, f"no picture decodes ({log})")
    return first


def reject_broken(file: File, log: DecodeLog, *, decoded: int, corrupt: int, ticks: int) -> None:
    """Raises BadEditList or Rejected where edit lists or errors leave too few of the pictures of `ticks` ticks."""
    if file.edit_lists and log.hidden > decoded and decoded < ticks / TICKS_PER_SECOND:
        raise BadEditList
    if log.errors + corrupt > decoded:
        raise Rejected(Reason.UNDECODABLE, f"{decoded} pictures decode, {corrupt} of them corrupt ({log})")


@dataclass(frozen=True)
class TimedPicture:
    """A decoded picture with its presentation timestamp."""

    frame: VideoFrame
    unit: Fraction  # of stamp and duration, seconds
    stamp: int
    duration: int


def assign_stamps(frames: Iterable[Any]) -> Iterator[TimedPicture]:
    """Assigns monotonic timestamps to decoded pictures; drops a picture that is earlier than the one before it.

    A picture is delayed by one: the timestamps of the next one may show that its own are wrong.
    """
    selector = timeline.StampSelector()
    latest: TimedPicture | None = None
    pending: Any = None
    for frame in itertools.chain(frames, [None]):
        if frame is not None:
            selector.observe(pts=frame.pts, dts=frame.dts)
        if pending is not None:
            stamp = selector.select(pts=pending.pts, dts=pending.dts)
            if stamp is None:
                stamp = latest.stamp + latest.duration if latest else 0
            if latest is None or stamp >= latest.stamp:
                step = stamp - latest.stamp if latest else 0
                latest = TimedPicture(pending, pending.time_base, stamp, pending.duration or step)
                yield latest
        pending = frame


def video_edits(file: File, container: InputContainer) -> list[Edit]:
    """The edits of the pictures; empty where there are none or libav is to apply them."""
    if not file.edit_lists or "mp4" not in container.format.name or len(file.headers) > 1:  # each section has its own
        return []
    stream = choose_stream(container, "video")
    return parse_edits(file.content, track=stream.id, unit=Fraction(stream.time_base))


def decode_pictures(
    file: File, container: InputContainer, log: DecodeLog, *, since: Fraction | None = None
) -> Iterator[TimedPicture]:
    """The pictures of an open file with its edit lists applied, from before `since` (seconds)."""
    stream = choose_stream(container, "video")
    unit, edits = Fraction(stream.time_base), video_edits(file, container)
    if not edits:
        sought_frames = None if since is None else decode_frames_from(file, "video", log, time=since, seek=True)
        yield from assign_stamps(sought_frames or decode_frames(file, container, "video", log))
        return
    unedited = replace(file, edit_lists=False)
    for edit, following in pairwise([*edits, None]):
        assert edit is not None
        if since is not None and following and following.shown_at * unit <= since:
            continue
        first_stamp = edit.start if since is None or edit.hold else max(edit.start, int(since / unit) - edit.shift)
        seek = since is not None or first_stamp * unit >= SEEK_FROM_SECONDS
        if seek and since is None:
            with unedited.open() as unedited_container:
                entries = choose_stream(unedited_container, "video").index_entries
                log.hidden += max(0, entries.search_timestamp(first_stamp))
        frames = decode_frames_from(unedited, "video", log, time=first_stamp * unit, seek=seek)
        yield from apply_edit(assign_stamps(frames), edit, log)


class PictureEncoder:
    """Scales, rotates and encodes the pictures that ticks show, each once, and the optical flow between them."""

    def __init__(self, settings: PackSettings, first: VideoFrame, pixel_aspect: Fraction) -> None:
        self.pictures: list[bytes] = []
        self.flow: list[bytes] = []
        self._flow = Flow(quality=settings.jpeg_quality) if settings.flow else None
        self.difference = 0.0
        self._settings = settings
        self._first_means: np.ndarray | None = None
        check_picture_size(first.width, first.height, pixel_aspect)
        self._decoded_size = first.width, first.height
        data: Any = first.side_data.get("DISPLAYMATRIX")
        matrix = np.frombuffer(data, np.int32).tolist() if data else IDENTITY_MATRIX
        self._orientation = jpeg.nearest_orientation(matrix)
        self._scaled = jpeg.stored_size(first.width, first.height, pixel_aspect=pixel_aspect, side=settings.side)
        self.width, self.height = self._scaled[::-1] if self._orientation.transposed else self._scaled
        downscales = min(first.width, first.height) >= settings.side
        self._scaler = (
            ScalerV1(*self._scaled, downscales=downscales) if settings.version == 1 else Scaler(*self._scaled)
        )
        self.facts = {
            "pixel_format": first.format.name,
            "matrix": jpeg.MATRICES.get(first.colorspace, jpeg.BT601).name,
            "rotation": first.rotation,
        }
        if settings.version > 1 and first.color_trc in HDR:
            self.facts["transfer"] = HDR[first.color_trc]

    def encode(self, frame: VideoFrame, ticks: range) -> None:
        """Store `frame` as the picture of those of `ticks` that are kept."""
        every = self._settings.every
        copies = len(range(-(-ticks.start // every) * every, ticks.stop, every))
        if not copies:
            return
        if frame.interlaced_frame and self._settings.version > 1:
            self.facts["interlaced"] = True
        if (frame.width, frame.height) != self._decoded_size:
            self.facts["size_changes"] = True
        planes = self._scaler(frame)
        if self.difference < STILL_GRAY_LEVELS:
            means = jpeg.block_means(planes[0])
            self._first_means = means if self._first_means is None else self._first_means
            self.difference = max(self.difference, float(np.abs(means - self._first_means).max()))
        planes = jpeg.turn_upright(planes, self._orientation)
        self.pictures += [jpeg.encode(planes, quality=self._settings.jpeg_quality)] * copies
        if self._flow is not None:
            self.flow += self._flow.add_picture(planes[0], ticks=copies)
