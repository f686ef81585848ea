"""A clip's pictures: which one each tick shows, scaled, turned and encoded."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame

from shards.format import TICKS_PER_SECOND, PackSettings, Reason
from shards.media import jpeg, timeline
from shards.media.clip import STILL_GREY_LEVELS, Rejected
from shards.media.container import SIZED, Declared, File, bound_picture, stream_of
from shards.media.decoding import SEEK_FROM_SECONDS, Record, decoded_frames, frames_into
from shards.media.edits import Edit, edited, edits_of, stored_at
from shards.media.flow import Flow
from shards.media.scaling import Scaler, ScalerOfVersion1

HDR = {16: "smpte2084", 18: "arib-std-b67"}  # PQ and HLG by H.273's numbers: stored as they are, which looks pale
UNTURNED = (1, 0, 0, 0, 1)  # the first five of a display matrix that changes nothing


class Hidden(Exception):
    """An edit list takes out nearly all of the pictures: it cannot be meant."""


@dataclass(frozen=True)
class Shown:
    """The clip's pictures but for the last one, and what decoding them found."""

    start: Fraction  # tick 0 in the file's own time, seconds
    ticks: int  # by the last picture's own end
    limit: int  # ticks: those that there may be if the last picture is held
    camera: Camera
    last: VideoFrame
    last_from: int  # tick from which on it is shown
    facts: dict[str, Any]

    def finish(self, ticks: int) -> dict[str, Any]:
        """Shows the last picture up to `ticks`; returns facts about the pictures."""
        self.camera.shoot(self.last, range(self.last_from, ticks))
        held = (ticks - self.last_from) / TICKS_PER_SECOND
        still = {"held_seconds": held} if held > timeline.HELD_SECONDS else {}
        return self.camera.facts | self.facts | still


def read_pictures(
    file: File, container: InputContainer, *, settings: PackSettings, seek: bool, declared: Declared
) -> Shown:
    record = Record()
    timed = shown_pictures(file, container, record)
    opening = first_of(timed, record, declared)
    asked = Fraction(str(settings.start_seconds))
    start = opening.stamp * opening.unit + asked
    clock = timeline.Ticks(start=start, unit=opening.unit)
    limit = int(Fraction(str(settings.seconds)) * TICKS_PER_SECOND)
    camera = Camera(settings, opening.frame, declared.pixel_aspect)
    timed = shown_pictures(file, container, record, since=start) if seek else itertools.chain([opening], timed)

    held = opening
    end = opening.stamp
    decoded = corrupt = 0
    shown_from = 0  # the held picture is shown from this tick until the next one's
    for newest in timed:
        tick = clock.first_showing(newest.stamp)
        if tick >= limit:
            ticks = limit
            break
        if decoded:
            camera.shoot(held.frame, range(shown_from, tick))
        decoded += 1
        corrupt += newest.frame.is_corrupt
        held, shown_from = newest, max(0, tick)
        end = held.stamp + held.lasts
    else:
        ticks = max(0, min(limit, clock.first_showing(end)))
    refuse_broken(file, record, decoded=decoded, corrupt=corrupt, ticks=ticks)
    return Shown(
        start=start,
        ticks=ticks,
        limit=limit,
        camera=camera,
        last=held.frame,
        last_from=shown_from,
        facts={
            "decoded": decoded,
            "corrupt": corrupt,
            "errors": record.errors,
            "edit_list_ignored": not file.edit_lists,
        },
    )


def first_of(timed: Iterator[TimedPicture], record: Record, declared: Declared) -> TimedPicture:
    """The first picture; raises Rejected where there is none, and Hidden where edit lists take out all."""
    opening = next(timed, None)
    if opening is None and record.hidden:
        raise Hidden
    if opening is None and not declared.video["width"] and declared.container["container"] in SIZED:
        raise Rejected(Reason.TOO_LARGE, "its pictures are declared in a size that libav refuses")
    if opening is None:
        raise Rejected(Reason.UNDECODABLE, f"no picture decodes ({record})")
    return opening


def refuse_broken(file: File, record: Record, *, decoded: int, corrupt: int, ticks: int) -> None:
    """Raises Hidden or Rejected where edit lists or errors leave too little of the pictures of `ticks` ticks."""
    if file.edit_lists and record.hidden > decoded and decoded < ticks / TICKS_PER_SECOND:
        raise Hidden
    if record.errors + corrupt > decoded:
        raise Rejected(Reason.UNDECODABLE, f"{decoded} pictures decode, {corrupt} of them corrupt ({record})")


@dataclass(frozen=True)
class TimedPicture:
    """A decoded picture and when it is shown."""

    frame: VideoFrame
    unit: Fraction  # of stamp and lasts, seconds
    stamp: int
    lasts: int


def timed_pictures(frames: Iterable[Any]) -> Iterator[TimedPicture]:
    """Gives pictures their stamps, never running backwards; a picture that comes too late to be shown is left out.

    A picture waits until the next one's stamps are known: they may be what shows that its own are wrong.
    """
    trust = timeline.Trust()
    latest: TimedPicture | None = None
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
                latest = TimedPicture(waiting, waiting.time_base, stamp, waiting.duration or step)
                yield latest
        waiting = frame


def edits_in(file: File, container: InputContainer) -> list[Edit]:
    """The edits of the pictures, where there are some that are to be obeyed otherwise than libav does."""
    if not file.edit_lists or "mp4" not in container.format.name or len(file.heads) > 1:  # joined: each has its own
        return []
    stream = stream_of(container, "video")
    return edits_of(file.content, track=stream.id, unit=Fraction(stream.time_base))


def shown_pictures(
    file: File, container: InputContainer, record: Record, *, since: Fraction | None = None
) -> Iterator[TimedPicture]:
    """The pictures of a file that has been opened, when its edit lists show them; from before `since` (seconds) on."""
    stream = stream_of(container, "video")
    unit, edits = Fraction(stream.time_base), edits_in(file, container)
    if not edits:
        sought = None if since is None else frames_into(file, "video", record, time=since, seek=True)
        yield from timed_pictures(sought or decoded_frames(file, container, "video", record))
        return
    as_stored = replace(file, edit_lists=False)
    begins = edits[0].begins if since is None else stored_at(edits, int(since / unit))
    far = since is not None or begins * unit >= SEEK_FROM_SECONDS
    if far and since is None:
        with as_stored.opened() as whole:
            entries = stream_of(whole, "video").index_entries
            record.hidden += max(0, entries.search_timestamp(begins))
    frames = frames_into(as_stored, "video", record, time=begins * unit, seek=far)
    yield from edited(timed_pictures(frames), edits, record)


class Camera:
    """Scales, turns and encodes the pictures that ticks show, each once, and the motion from each to the next."""

    def __init__(self, settings: PackSettings, opening: VideoFrame, pixel_aspect: Fraction) -> None:
        self.pictures: list[bytes] = []
        self.flow: list[bytes] = []
        self._motion = Flow(quality=settings.jpeg_quality) if settings.flow else None
        self.difference = 0.0
        self._settings = settings
        self._first: np.ndarray | None = None
        bound_picture(opening.width, opening.height, pixel_aspect)
        turn: Any = opening.side_data.get("DISPLAYMATRIX")
        self._orientation = jpeg.orientation_of(np.frombuffer(turn, np.int32).tolist() if turn else UNTURNED)
        self._scaled = jpeg.stored_size(opening.width, opening.height, pixel_aspect=pixel_aspect, side=settings.side)
        self.width, self.height = self._scaled[::-1] if self._orientation.transposed else self._scaled
        reduces = min(opening.width, opening.height) >= settings.side
        self._scaler = (
            ScalerOfVersion1(*self._scaled, reduces=reduces) if settings.version == 1 else Scaler(*self._scaled)
        )
        self.facts = {
            "pixel_format": opening.format.name,
            "matrix": jpeg.MATRICES[opening.colorspace].name if opening.colorspace in jpeg.MATRICES else "bt601",
            "rotation": opening.rotation,
        }
        if settings.version > 1 and opening.color_trc in HDR:
            self.facts["transfer"] = HDR[opening.color_trc]

    def shoot(self, frame: VideoFrame, ticks: range) -> None:
        """Stores `frame` as the picture of the kept ones among `ticks`."""
        every = self._settings.every
        copies = len(range(-(-ticks.start // every) * every, ticks.stop, every))
        if not copies:
            return
        if frame.interlaced_frame and self._settings.version > 1:
            self.facts["interlaced"] = True
        planes = self._scaler(frame)
        if self.difference < STILL_GREY_LEVELS:
            gray = jpeg.coarse(planes[0])
            self._first = gray if self._first is None else self._first
            self.difference = max(self.difference, float(np.abs(gray - self._first).max()))
        upright = jpeg.upright(planes, self._orientation)
        self.pictures += [jpeg.encode(upright, quality=self._settings.jpeg_quality)] * copies
        if self._motion is not None:
            self.flow += self._motion.show(upright[0], ticks=copies)
