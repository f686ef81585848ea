"""Parses and applies edit lists of mp4 and QuickTime files: the parts of a track that are shown, and when.

libav applies them less precisely: it drops the picture on display where an edit begins, moves the next pictures there,
plays pictures that are to be held and does not know how long the last one is. Here an edit may begin in the middle of a
picture.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from typing import TYPE_CHECKING, BinaryIO

from shards.format import Reason
from shards.media.clip import Rejected

if TYPE_CHECKING:
    from shards.media.decoding import DecodeLog
    from shards.media.pictures import TimedPicture

MAX_BOXES = 10_000  # read in one file
MAX_EDITS = 1_000
# A list that holds the last picture for longer than this is broken.
LONGEST_HOLD_SECONDS = 3600

Span = tuple[int, int]  # byte offsets in a file: start and end


@dataclass(frozen=True)
class Edit:
    """A part of a track: start and end (None: the track's), time of presentation, and the rounding of the list.

    hold: for how long the picture at `start` is held and nothing is heard; 0 where the part is played. All in units of
    the track's timestamps.
    """

    start: int
    end: int | None
    shown_at: int
    rounding: int
    hold: int = 0

    @property
    def shift(self) -> int:
        """Presentation time minus the track's timestamp."""
        return self.shown_at - self.start


def parse_edits(content: BinaryIO, *, track: int, unit: Fraction) -> list[Edit]:
    """The edits of a track by its number; `unit` of its timestamps in seconds.

    Empty where there are none. Raises Rejected where a part has another speed.
    """
    try:
        scale, entries = _read_edit_list(content, track)
    except (struct.error, OSError, ValueError):
        return []
    edits: list[Edit] = []
    shown_at = Fraction(0)
    for number, (duration, start, speed) in enumerate(entries):
        seconds = Fraction(duration, scale) / unit
        if start != -1:
            if start < 0:
                return []
            if speed not in (0, 1 << 16):
                raise Rejected(Reason.UNDECODABLE, f"its edit list plays a part at {speed / (1 << 16):g} of its speed")
            open_ended = not duration and number == len(entries) - 1
            hold = 0 if speed else round(seconds)
            end = None if open_ended else start + (1 if hold else round(seconds))
            edits.append(Edit(start, end, round(shown_at), -(-Fraction(1, scale) // unit), hold))
        shown_at += seconds
    return edits


def apply_edit(pictures: Iterable[TimedPicture], edit: Edit, log: DecodeLog) -> Iterator[TimedPicture]:
    """The pictures as shown by an edit; its boundary inside a picture shortens it.

    Adds the pictures that it does not show, up to its end, to `log.hidden`; none where it holds one.
    """
    for picture, following in pairwise(chain(pictures, [None])):
        assert picture is not None
        picture_end = following.stamp if following else _last_picture_end(picture, edit)
        start = max(picture.stamp, edit.start)
        end = picture_end if edit.end is None or picture_end <= edit.end + edit.rounding else edit.end
        if start < end:
            yield type(picture)(picture.frame, picture.unit, start + edit.shift, edit.hold or end - start)
        else:
            log.hidden += not edit.hold
        if edit.end is not None and picture.stamp >= edit.end:
            return


def _last_picture_end(picture: TimedPicture, edit: Edit) -> int:
    """End of a track's last picture: that of the edit where it is later by more than rounding.

    Where pictures are reordered, the table of durations lacks that of the last one.
    """
    end = picture.stamp + picture.duration
    if edit.end is None or not edit.rounding < edit.end - end <= LONGEST_HOLD_SECONDS / picture.unit:
        return end
    return edit.end


def _read_edit_list(content: BinaryIO, track: int) -> tuple[int, list[tuple[int, int, int]]]:
    """Time scale of the movie (units per second), and the list's entries: duration, start, speed (16.16)."""
    remaining = [MAX_BOXES]
    scale, entries = 1, []
    file = (0, content.seek(0, os.SEEK_END))
    movie = next((span for name, span in _boxes(content, file, remaining) if name == b"moov"), (0, 0))
    for name, span in _boxes(content, movie, remaining):
        if name == b"mvhd":
            scale = _read_uint32(content, span, 12, 20)
        elif name == b"trak":
            inner = dict(_boxes(content, span, remaining))
            if b"tkhd" in inner and b"edts" in inner and _read_uint32(content, inner[b"tkhd"], 12, 20) == track:
                lists = dict(_boxes(content, inner[b"edts"], remaining))
                entries = _read_entries(content, lists[b"elst"]) if b"elst" in lists else []
    return scale or 1, entries


def _boxes(content: BinaryIO, span: Span, remaining: list[int]) -> Iterator[tuple[bytes, Span]]:
    """Names and content spans of the boxes in a span; raises ValueError when `remaining` boxes have been read."""
    position, end = span
    while position + 8 <= end:
        remaining[0] -= 1
        if remaining[0] < 0:
            raise ValueError("too many boxes")
        content.seek(position)
        header = content.read(16)
        size, name = struct.unpack_from(">I4s", header)
        content_start = position + 8
        if size == 1:
            [size], content_start = struct.unpack_from(">Q", header, 8), position + 16
        box_end = position + size if size else end
        if not content_start <= box_end <= end:
            raise ValueError("a box larger than what it is in")
        yield name, (content_start, box_end)
        position = box_end


def _read_uint32(content: BinaryIO, span: Span, short: int, long: int) -> int:
    """A 32-bit number in a box, at offset `short` in version 0 and at `long` in version 1."""
    content.seek(span[0])
    box = content.read(min(span[1] - span[0], long + 4))
    number: int = struct.unpack_from(">I", box, long if box[:1] == b"\1" else short)[0]
    return number


def _read_entries(content: BinaryIO, span: Span) -> list[tuple[int, int, int]]:
    content.seek(span[0])
    box = content.read(min(span[1] - span[0], 8 + 20 * MAX_EDITS))
    form = struct.Struct(">Qqi" if box[:1] == b"\1" else ">Iii")
    [count] = struct.unpack_from(">I", box, 4)
    if count > MAX_EDITS:
        raise ValueError("too many edits")
    return [form.unpack_from(box, 8 + number * form.size) for number in range(count)]
